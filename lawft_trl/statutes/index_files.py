"""The files of an index, `CORPUS/index/`: what it was made with and from, where articles lie, and whether it still fits.

The folder holds `index.json` (`expected_record`), the tables of `Tables.write` and a folder of the engine's files.
"""

import hashlib
import itertools
import json
import re
import unicodedata
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.folders import write_json
from lawft_trl.statutes.citations import find_citations, title_key
from lawft_trl.statutes.passages import Passage, article_key, passage_from_line, read_manifest
from lawft_trl.text_files import file_sha256, read_text

FORMAT = 1  # raised when the files of the folder change
TOKENIZER = "character bigrams, NFKC, lower case, split at punctuation; version 1"
K1, B = 0.9, 0.4  # measured on statutes: 1.5 and 0.75 lose 6 points of hit@3, because long articles are not worse ones


def bigrams(text: str) -> list[str]:
    """The tokens of a text: pairs of neighbouring characters within runs of letters and digits, a lone one by itself.

    Japanese has no spaces; on statutes pairs of characters find as much as a dictionary's words do, without a
    dictionary.
    """
    tokens = []
    for run in re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).lower()):
        tokens += [one + other for one, other in itertools.pairwise(run)] or [run]
    return tokens


def indexed_text(passage: Passage) -> str:
    """What of a passage is searched. Without the heading hit@3 falls by 15 points: queries name the law."""
    return f"{passage.heading}\n{passage.text}"


def expected_record(engine: str) -> dict[str, Any]:
    """What an index must have been made with to be searched by this version."""
    parameters = {"method": "lucene", "k1": K1, "b": B} if engine == "bm25s" else {"method": "tantivy", "k1": 1.2, "b": 0.75}
    return {"format": FORMAT, "engine": engine, "tokenizer": TOKENIZER, **parameters}


def check_index(corpus: Path) -> dict[str, Any]:
    """`index.json` of an index that fits this version and its corpus.

    A corpus whose size and time of change are those of the indexed one is taken for it; only where they differ is the
    whole file hashed. So an edit that keeps both (`touch -r`) goes unnoticed.

    Raises:
        InputError: naming everything that does not fit.
    """
    read_manifest(corpus)
    path, source = corpus / "index" / "index.json", corpus / "passages.jsonl"
    if not path.is_file():
        raise InputError(f"{corpus}: not indexed yet", [f"lawft statutes index {corpus}"])
    try:
        record = json.loads(read_text(path))
        if not isinstance(record, dict):
            raise TypeError(f"an object is expected, not {type(record).__name__}")
    except (json.JSONDecodeError, TypeError) as error:
        raise damaged(corpus, error) from None
    expected = expected_record(record.get("engine", "bm25s"))
    problems = [
        f"{key}: the index was made with {record.get(key)!r}, this version searches with {value!r}"
        for key, value in expected.items()
        if record.get(key) != value
    ]
    state = source.stat()
    same_file = (state.st_size, state.st_mtime_ns) == (record.get("corpus_bytes"), record.get("corpus_mtime_ns"))
    if not same_file and file_sha256(source) != record.get("corpus_sha256"):
        problems.append(f"{source.name}: the corpus was changed after it was indexed")
    if problems:
        raise InputError(f"{path}: this index cannot be used", [*problems, f"build it again: lawft statutes index {corpus} --force"])
    return record


def damaged(corpus: Path, error: object) -> InputError:
    """The refusal of an index whose files are not what they were when it was built."""
    return InputError(f"{corpus / 'index'}: damaged: {error}", [f"build it again: lawft statutes index {corpus} --force"])


def key_hash(key: str) -> int:
    """64 bits that stand for an article key in the tables."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


class Tables:
    """Where passages and articles lie, gathered while the corpus is read once; numbers only, so that 2.8 million fit.

    An article is a run of passages with one law id and article key; articles are numbered in the order of the corpus.
    """

    def __init__(self) -> None:
        self.offsets = array("q", [0])  # byte where passage i begins, and the end
        self.starts = array("q")  # first passage of article j
        self.hashes = array("Q")  # key_hash of article j
        self.cited = array("Q")  # key_hash of an article of an Act that ...
        self.citing = array("q")  # ... this article of its orders cites as 法第N条
        self.laws: dict[str, dict[str, Any]] = {}  # by title, as citations name them
        self.law_ids: set[str] = set()

    def read(self, source: Path, total: int) -> Iterator[Passage]:
        """The passages of a corpus file, noted in the tables as they go by."""
        from tqdm.auto import tqdm

        last = None
        with source.open("rb") as file:
            for number, line in enumerate(tqdm(file, total=total, desc="reading passages", unit="", delay=3)):
                passage = passage_from_line(line, f"{source}:{number + 1}")
                if (passage.law_id, passage.article_key) != last:
                    last = (passage.law_id, passage.article_key)
                    self.starts.append(number)
                    self.hashes.append(key_hash(passage.article_key))
                self.offsets.append(self.offsets[-1] + len(line))
                self._note_law(passage)
                yield passage

    def _note_law(self, passage: Passage) -> None:
        self.law_ids.add(passage.law_id)
        law = self.laws.setdefault(title_key(passage.law), {"aliases": [], "parent": _act_of(passage.law)})
        law["aliases"] += [alias for alias in passage.aliases if alias not in law["aliases"]]
        if not law["parent"] and "「法」という" in passage.text:
            defined = re.search(r"([^\s、。「」()（）]+法(?:律)?)[（(][^（）()]*以下(?:単に)?「法」という", passage.text)
            law["parent"] = title_key(defined[1]) if defined else ""
        if law["parent"]:
            for act, article, _ in find_citations(passage.text, {}, parent=law["parent"]):
                self.cited.append(key_hash(article_key(act, article)))
                self.citing.append(len(self.starts) - 1)

    def write(self, folder: Path) -> None:
        """Saves the tables as arrays that can be mapped: `by_key` sorts the hashes, `citations` the pairs."""
        import numpy as np

        hashes = np.asarray(self.hashes, dtype=np.uint64)
        order = np.argsort(hashes, kind="stable")
        pairs = np.unique(np.stack([np.asarray(self.cited, np.uint64), np.asarray(self.citing, np.uint64)], axis=1), axis=0)
        np.save(folder / "offsets.npy", np.asarray(self.offsets, dtype=np.int64))
        np.save(folder / "article_starts.npy", np.asarray(self.starts, dtype=np.int64))
        np.save(folder / "article_hashes.npy", hashes[order])
        np.save(folder / "articles_by_hash.npy", order)
        np.save(folder / "citations.npy", pairs)
        write_json(folder / "laws.json", self.laws)


def _act_of(title: str) -> str:
    """The Act whose order a title says it is: 金融商品取引法 for 金融商品取引法施行令, 金融商品取引法第二条に…関する内閣府令."""
    title = title_key(title)
    named = re.fullmatch(r"(.+?(?:法律|法))(?:施行(?:令|規則|細則)|第.+(?:令|規則))", title)
    return named[1] if named else ""
