"""The `Passage` record, one paragraph of a statute, and the corpus: a folder of them.

A corpus folder holds `passages.jsonl` (one passage a line, sorted by law, provision, article and paragraph),
`manifest.json` (kind, as-of date, counts, sources, what was skipped, SHA-256) and `ATTRIBUTION.txt`.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawft_trl import __version__
from lawft_trl.errors import InputError
from lawft_trl.folders import whole_folder, write_json
from lawft_trl.text_files import file_sha256, read_text

MAIN = "main"  # the provisions proper (本則); a supplementary provision is "suppl" or "suppl:<number of the amending law>"


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One paragraph (項) with its items; the unit that is searched and cited.

    Attributes:
        law_id: e-Gov's law id (`"403AC0000000090"`), or the title of a text that has none.
        law: title, `"借地借家法"`.
        provision: `MAIN`, `"suppl"`, `"suppl:平成一一年法律第一五一号"`, or what else the text divides itself into.
        article: e-Gov's number, `"27_2"` for 第27条の2; `""` where the text stands under no article.
        paragraph: `"1"`; `""` where the article is not divided.
        part: 0, or the number (from 1) of a piece of a paragraph too long for one passage.
        caption: the article's caption (見出し) without its brackets.
        text: the paragraph with its items, the lead sentence first; no heading.
        revision: e-Gov's revision id, `""` where there is none.
        as_of: the ISO date on which the text is the law in force, `""` where the source does not say.
        aliases: short titles, `("薬機法",)`.
        source: where it was read.
    """

    law_id: str
    law: str
    provision: str = MAIN
    article: str = ""
    paragraph: str = ""
    part: int = 0
    caption: str = ""
    text: str
    revision: str = ""
    as_of: str = ""
    aliases: tuple[str, ...] = ()
    source: str = ""

    @property
    def key(self) -> str:
        """The primary key within a corpus, e.g. `"403AC0000000090/main/27_2/1"`."""
        key = f"{self.law_id}/{self.provision}/{self.article}/{self.paragraph}"
        return f"{key}#{self.part}" if self.part else key

    @property
    def article_key(self) -> str:
        """What identifies the article across corpora: title, provision and number, e.g. `"借地借家法/main/27_2"`."""
        return article_key(self.law, self.article, self.provision)

    @property
    def heading(self) -> str:
        """`"借地借家法 第27条の2第1項（見出し）"`, `"借地借家法 附則第1条"`; the words a lawyer would cite it by."""
        place = "" if self.provision == MAIN else "附則" if self.provision.startswith("suppl") else self.provision
        place += article_name(self.article) + (f"第{self.paragraph}項" if self.paragraph else "")
        return f"{self.law} {place}".strip() + (f"（{self.caption}）" if self.caption else "")


def article_key(law: str, article: str, provision: str = MAIN) -> str:
    """The key of an article, the same however the law's title is spaced or its width: `"借地借家法/main/27_2"`."""
    return f"{''.join(unicodedata.normalize('NFKC', law).split())}/{provision}/{article}"


def article_name(article: str) -> str:
    """`"27_2"` -> `"第27条の2"`, `"6:8"` -> `"第6条から第8条まで"`; what is no number stays as it is, `""` stays empty."""
    if not re.fullmatch(r"\d+(_\d+)*(:\d+(_\d+)*)?", article):
        return article
    from_to = []
    for number in article.split(":"):
        first, *rest = number.split("_")
        from_to.append(f"第{first}条" + "".join(f"の{branch}" for branch in rest))
    return from_to[0] if len(from_to) == 1 else f"{from_to[0]}から{from_to[1]}まで"


def show_article(passages: Sequence[Passage]) -> str:
    """Passages of one article as a prompt shows them: law, article and paragraphs under Markdown headings.

    The lead sentence that the parts of a long paragraph share is shown once.

    Args:
        passages: of one law, provision and article, in the order they are to be shown.
    """
    first = passages[0]
    lines = [f"## {first.law}"]
    place = "" if first.provision == MAIN else "附則" if first.provision.startswith("suppl") else first.provision
    name = " ".join(part for part in (place, article_name(first.article)) if part)
    if name:
        lines.append(f"### {name}" + (f"（{first.caption}）" if first.caption else ""))
    shown = None
    for passage in passages:
        if passage.paragraph and (shown is None or passage.paragraph != shown.paragraph):
            lines.append(f"#### 第{passage.paragraph}項" if passage.paragraph.isdecimal() else f"#### {passage.paragraph}")
        text = passage.text.split("\n")
        if shown and passage.part and shown.paragraph == passage.paragraph:
            before = shown.text.split("\n")
            while len(text) > 1 and len(before) > 1 and text[0] == before[0]:
                del text[0], before[0]
        lines += text
        shown = passage
    return "\n".join(lines)


def sort_key(passage: Passage) -> tuple[Any, ...]:
    """Law by law, the provisions proper first, articles and paragraphs in the order of their numbers."""
    numbers = tuple(
        tuple(int(run) if run.isdecimal() else 0 for run in name.partition(":")[0].split("_")) for name in (passage.article, passage.paragraph)
    )
    return (passage.law_id, passage.provision != MAIN, passage.provision, *numbers, passage.article, passage.paragraph, passage.part)


def write_corpus(
    passages: Iterable[Passage], out: Path, *, as_of: str, attribution: str, sources: dict[str, Any], force: bool = False
) -> dict[str, Any]:
    """Writes a corpus folder, whole or not at all, and returns its manifest.

    A second passage with the key of an earlier one is left out: counted in the manifest's `duplicates` when it says the
    same, listed in its `skipped` when it does not.

    Args:
        passages: already in the order of `sort_key` within each law; they are written as they come, so that a corpus
            of all laws never has to fit in memory.
        out: the folder to make.
        as_of: ISO date of the law, `""` where the source does not say.
        attribution: source and licence of the text.
        sources: what it was made from and, as lines in `"skipped"`, what was not used, for the manifest; `"whole_laws": True`
            where every law is there with all its articles, so that one that is not there does not exist. It is read
            after the last passage, so the generator of the passages may still be counting in it.
        force: replace an existing corpus.

    Raises:
        InputError: when there is no passage, or no space on the disk.
    """
    texts: dict[int, int] = {}  # hashes, by hash of the key: millions of keys as strings would take gigabytes
    laws: set[str] = set()
    conflicts: list[str] = []
    duplicates = 0
    with whole_folder(out, force=force, mark="manifest.json", rename="--out") as folder:
        path = folder / "passages.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for passage in passages:
                key, text = hash(passage.key), hash(passage.text)
                if key in texts:
                    if texts[key] == text:
                        duplicates += 1
                    else:
                        conflicts.append(f"{passage.source}: {passage.key}: a second passage with this key and another text")
                    continue
                texts[key] = text
                laws.add(passage.law_id)
                file.write(json.dumps(vars(passage), ensure_ascii=False) + "\n")
        skipped = [*sources.get("skipped", []), *conflicts]
        if not texts:
            raise InputError(f"{out}: no passage was found in what was read; nothing was written", skipped)
        manifest = {
            "kind": "statutes",
            "made_with": f"lawft-trl {__version__}",
            "as_of": as_of,
            "attribution": attribution,
            "laws": len(laws),
            "passages": len(texts),
            "duplicates": duplicates,
            "whole_laws": False,
            "sha256": file_sha256(path),
            **sources,
            "skipped": skipped,
        }
        write_json(folder / "manifest.json", manifest)
        (folder / "ATTRIBUTION.txt").write_text(attribution + "\n", encoding="utf-8")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a corpus folder.

    Raises:
        InputError: when the folder is not a corpus, or not a whole one.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise InputError(f"{folder}: not a statutes corpus (no manifest.json)", ["make one: lawft statutes --help"])
    try:
        manifest = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: damaged: {error}", ["build the corpus again: lawft statutes --help"]) from None
    if not isinstance(manifest, dict) or manifest.get("kind") != "statutes":
        raise InputError(f"{path}: not the manifest of a statutes corpus", ["make one: lawft statutes --help"])
    missing = [key for key in ("as_of", "passages", "sha256") if key not in manifest]
    missing += [] if (folder / "passages.jsonl").is_file() else ["passages.jsonl"]
    if missing:
        raise InputError(f"{folder}: not a whole corpus: no {', '.join(missing)}", ["build it again: lawft statutes --help"])
    return manifest


def read_passages(folder: Path) -> Iterator[Passage]:
    """The passages of a corpus, one by one, so that a corpus of all laws need not fit in memory.

    Raises:
        InputError: when the folder is not a corpus, or at a line that is not a passage.
    """
    read_manifest(folder)
    path = folder / "passages.jsonl"
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            yield passage_from_line(line, f"{path}:{number}")


def passage_from_line(line: str | bytes, where: str) -> Passage:
    """One line of `passages.jsonl`."""
    try:
        record = json.loads(line)
        return Passage(**{**record, "aliases": tuple(record.get("aliases", ()))})
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: not a passage: {error}", ["build the corpus again: lawft statutes --help"]) from None
