"""Searching an indexed corpus: cited articles first, then BM25, then, when asked, the articles those refer to."""

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawft_trl import __version__
from lawft_trl.errors import InputError
from lawft_trl.folders import whole_folder, write_json
from lawft_trl.statutes.bm25_index import open_bm25, write_bm25
from lawft_trl.statutes.citations import find_citations, title_key, title_names
from lawft_trl.statutes.index_files import (
    K1,
    B,
    Tables,
    bigrams,
    check_index,
    damaged,
    expected_record,
    indexed_text,
    key_hash,
)
from lawft_trl.statutes.large_index import open_tantivy, write_tantivy
from lawft_trl.statutes.passages import Passage, article_key, passage_from_line, read_manifest, show_article
from lawft_trl.text_files import file_sha256

_DELEGATES = re.compile(r"(政令|[府省]令|規則)で(?:特に)?定め")
LEFT_OUT = "（略）"
ENGINES = ("auto", "bm25s", "tantivy")
LARGE = 500_000  # passages; here tantivy builds in a fifth of the memory, at about the same speed (scripts/bench_retrieval.py)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One article that was found.

    Attributes:
        article_key: `Passage.article_key`.
        rank: from 1.
        score: BM25 score of its best passage, 0.0 where that is not among the best few hundred of the corpus.
        passages: what is shown of it, in the order of the article.
        text: the passages as a prompt shows them, under their headings.
        via: `"citation"` (the query names the article), `"bm25"`, or `"hop"` (an article found first refers to it).
    """

    article_key: str
    rank: int
    score: float
    passages: tuple[Passage, ...]
    text: str
    via: str


class Index:
    """An opened index. The corpus and the tables stay on disk; what a search needs is read from there."""

    def __init__(self, corpus: Path) -> None:
        import numpy as np

        self.record = check_index(corpus)
        folder = corpus / "index"
        self._file = (corpus / "passages.jsonl").open("rb")
        try:
            load = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _TABLES}
            self._offsets, self._starts, self._hashes, self._by_hash, self._citations = (load[name] for name in _TABLES)
            if (len(self._offsets) - 1, len(self._starts)) != (self.record["passages"], self.record["articles"]):
                raise ValueError("the tables are not those of index.json")
            self._laws: dict[str, dict[str, Any]] = json.loads((folder / "laws.json").read_bytes())
            self._names = title_names({title: law["aliases"] for title, law in self._laws.items()})
            open_engine = open_tantivy if self.record["engine"] == "tantivy" else open_bm25
            self._best = open_engine(folder / self.record["engine"])
        except InputError:
            raise
        except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise damaged(corpus, error) from None

    def search(self, query: str, k: int = 5, *, hops: int = 0, max_chars: int = 1200) -> list[Hit]:
        """The articles that fit a query best, no article of a law and no passage's text twice.

        Args:
            query: any text. The order of its lines does not matter.
            k: how many articles.
            hops: 1 to add, after these, up to `k` articles that they refer to or that carry them out (政令で定める).
            max_chars: an article with more characters is shown by its best paragraphs, up to this length.

        Returns:
            Articles the query cites, the best by BM25 first; then by BM25; then the hops.
        """
        tokens = bigrams(query)
        k = min(k, len(self._starts))
        scores = dict(self._best(tokens, min(max(500, 50 * k), self.record["passages"])))
        articles: dict[int, float] = {}
        for number, score in scores.items():  # best first, so an article's first passage is its best
            articles.setdefault(self._article_of(number), score)
        cited: dict[int, set[str]] = {}
        for law, article, paragraph in find_citations(query, self._names):
            for found in self._articles(article_key(law, article)):
                cited.setdefault(found, set()).add(paragraph)

        def in_order(numbers: Iterable[int]) -> list[int]:
            return sorted(numbers, key=lambda number: (-articles.get(number, 0.0), number))

        show = _Shown(set(tokens), max_chars)
        hits: list[Hit] = []

        def add(via: str, numbers: Iterable[int], limit: int) -> None:
            for number in numbers:
                if len(hits) == limit:
                    return
                first, end = self._bounds(number)
                passages = [self._passage(position) for position in range(first, end)]
                named = [passage.paragraph in cited.get(number, ()) for passage in passages]
                ranking = [(is_named, scores.get(first + place, 0.0)) for place, is_named in enumerate(named)]
                if shown := show.choose(passages, ranking):
                    key, text, score = passages[0].article_key, show_article(shown), articles.get(number, 0.0)
                    hits.append(Hit(article_key=key, rank=len(hits) + 1, score=score, passages=tuple(shown), text=text, via=via))

        add("citation", in_order(cited), k)
        add("bm25", (number for number in articles if number not in cited), k)
        if hops:
            add("hop", in_order(self._neighbours(hits)), len(hits) + k)
        return hits

    def _neighbours(self, hits: Sequence[Hit]) -> set[int]:
        """Articles that the shown passages refer to, and those of orders and rules that carry them out."""
        found: set[int] = set()
        for passage in (passage for hit in hits for passage in hit.passages):
            law = title_key(passage.law)
            parent = self._laws[law]["parent"]
            for act, article, _ in find_citations(passage.text, self._names, own=law, parent=parent):
                found.update(self._articles(article_key(act, article)))
            orders = set(_DELEGATES.findall(passage.text))
            if orders and passage.article:
                for number in map(int, self._citations[_run(self._citations[:, 0], key_hash(passage.article_key)), 1]):
                    if ("政令" in orders) if self._first(number).law.endswith("施行令") else (orders != {"政令"}):
                        found.add(number)
        return found

    def _articles(self, key: str) -> list[int]:
        """Numbers of the articles with a key; more than one where two laws have the same title."""
        return sorted(map(int, self._by_hash[_run(self._hashes, key_hash(key))]))

    def _article_of(self, passage_number: int) -> int:
        import numpy as np

        return int(np.searchsorted(self._starts, passage_number, side="right")) - 1

    def _bounds(self, article_number: int) -> tuple[int, int]:
        last = article_number + 1 == len(self._starts)
        return int(self._starts[article_number]), len(self._offsets) - 1 if last else int(self._starts[article_number + 1])

    def _first(self, article_number: int) -> Passage:
        return self._passage(int(self._starts[article_number]))

    def _passage(self, number: int) -> Passage:
        self._file.seek(int(self._offsets[number]))
        line = self._file.read(int(self._offsets[number + 1] - self._offsets[number]))
        return passage_from_line(line, f"{self._file.name}:{number + 1}")


def build_index(corpus: Path, *, engine: str = "auto", force: bool = False) -> dict[str, Any]:
    """Indexes a corpus into `corpus/index/` and returns what `index.json` says.

    Args:
        corpus: a folder of `statutes.passages.write_corpus`.
        engine: `"bm25s"`, `"tantivy"` (for large corpora), or `"auto"`: tantivy above `LARGE` passages.
        force: replace an existing index.

    Raises:
        InputError: for a folder that is no corpus, passages that do not fit its manifest, or a missing library.
    """
    if engine not in ENGINES:
        raise InputError(f"engine {engine!r}: expected one of {', '.join(ENGINES)}")
    manifest = read_manifest(corpus)
    if engine == "auto":
        engine = "tantivy" if manifest["passages"] > LARGE else "bm25s"
    source = corpus / "passages.jsonl"
    sha256 = file_sha256(source)
    if sha256 != manifest["sha256"]:
        raise InputError(f"{source}: was changed after the corpus was made", ["make the corpus again: lawft statutes --help"])
    with whole_folder(corpus / "index", force=force, mark="index.json", rename="corpus") as folder:
        tables = Tables()
        tokens = (bigrams(indexed_text(passage)) for passage in tables.read(source, manifest["passages"]))
        if engine == "tantivy":
            library = write_tantivy(tokens, folder / engine)
        else:
            library = write_bm25(tokens, folder / engine, k1=K1, b=B)
        tables.write(folder)
        record = {
            **expected_record(engine),
            "library": library,
            "made_with": f"lawft-trl {__version__}",
            "corpus_sha256": sha256,
            "corpus_bytes": source.stat().st_size,
            "corpus_mtime_ns": source.stat().st_mtime_ns,
            "passages": len(tables.offsets) - 1,
            "articles": len(tables.starts),
            "laws": len(tables.law_ids),
        }
        write_json(folder / "index.json", record)
    return record


def open_index(corpus: Path) -> Index:
    """Opens the index of a corpus folder.

    Raises:
        InputError: when there is none, or it was made from another corpus or by another tokenizer or parameters.
    """
    return Index(corpus)


_TABLES = ("offsets", "article_starts", "article_hashes", "articles_by_hash", "citations")


def _run(ordered: Any, value: int) -> slice:
    """Where a value stands in an array of 64-bit hashes in ascending order."""
    import numpy as np

    return slice(*(int(np.searchsorted(ordered, np.uint64(value), side=side)) for side in ("left", "right")))


class _Shown:
    """Chooses what is shown of each article, so that it fits and no article and no passage's text is shown twice.

    Articles are told apart by law id: two laws may have one title.
    """

    def __init__(self, tokens: set[str], max_chars: int) -> None:
        self.tokens, self.max_chars = tokens, max_chars
        self.articles: set[tuple[str, str]] = set()
        self.texts: set[str] = set()

    def choose(self, passages: Sequence[Passage], ranking: Sequence[tuple[float, float]]) -> list[Passage]:
        """The whole article when it fits, else its best paragraphs; without what is shown already.

        Args:
            passages: of one article, in order.
            ranking: for each what the paragraphs are ranked by, the highest first.
        """
        fresh: dict[str, int] = {}
        for place, passage in enumerate(passages):
            text = title_key(passage.text)
            if text not in self.texts:
                fresh.setdefault(text, place)
        places = list(fresh.values())
        article = (passages[0].law_id, passages[0].article_key)
        if not places or article in self.articles:
            return []
        self.articles.add(article)
        chosen = {place: passages[place] for place in places}
        if len(show_article(list(chosen.values()))) > self.max_chars:
            first, *others = sorted(places, key=lambda place: (ranking[place], -place), reverse=True)
            chosen = {first: dataclasses.replace(passages[first], text=shorten(passages[first].text, self.tokens, self.max_chars))}
            for place in others:
                wider = [passage for _, passage in sorted([*chosen.items(), (place, passages[place])])]
                if len(show_article(wider)) <= self.max_chars:
                    chosen[place] = passages[place]
        self.texts |= {text for text, place in fresh.items() if place in chosen}
        return [chosen[place] for place in sorted(chosen)]


def shorten(text: str, tokens: set[str], max_chars: int) -> str:
    """The lead sentence of a long paragraph and the items that share most tokens with the query, in their order.

    An item is what stands under a `#####` heading, or a line where there are none. `LEFT_OUT` stands where items are
    missing.
    """
    if len(text) <= max_chars:
        return text
    headed = re.search(r"^##### ", text, flags=re.MULTILINE)
    lead, *items = re.split(r"\n(?=##### )" if headed else r"\n", text)
    room = max_chars - len(lead) - 2 * len(LEFT_OUT)
    if room < 0:
        return lead[: max_chars - len(LEFT_OUT)] + LEFT_OUT
    kept: set[int] = set()
    for place in sorted(range(len(items)), key=lambda place: (-len(tokens.intersection(bigrams(items[place]))), place)):
        size = len(items[place]) + len(LEFT_OUT) + 2  # each item may leave a gap behind it
        if size <= room:
            kept.add(place)
            room -= size
    lines = [item if place in kept else LEFT_OUT for place, item in enumerate(items)]
    gaps_joined = [line for place, line in enumerate(lines) if line != LEFT_OUT or lines[place - 1 : place] != [LEFT_OUT]]
    return "\n".join([lead, *gaps_joined])
