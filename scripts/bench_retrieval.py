"""Measures indexing and searching of a large synthetic corpus: time, size and peak resident memory of each phase.

    python scripts/bench_retrieval.py --passages 500000

The passages are made by seed: words of two to four kanji drawn by Zipf's law from tens of thousands, put together as
statutes put them together. They mean nothing, but there are as many distinct pairs of characters per passage as in
statutes, which is what the index's size and time depend on. Each phase runs in a process of its own on two cores.
"""

import argparse
import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lawft_trl.statutes.index_files import bigrams, indexed_text
from lawft_trl.statutes.passages import Passage, read_passages, write_corpus
from lawft_trl.statutes.search import build_index, open_index

ALL_LAWS = 2_800_000  # passages that all of e-Gov's laws make; what the projection is for
RANK_BM25 = "rank-bm25"
_CLAUSES = (
    "{}は、{}の{}に関し、{}を{}しなければならない。",
    "{}は、{}に{}を{}することができる。",
    "前項の規定にかかわらず、{}が{}を受けた{}については、この限りでない。",
    "{}又は{}は、{}で定めるところにより、その旨を{}に届け出なければならない。",
    "ただし、{}の{}を{}する場合において、{}があるときは、この限りでない。",
    "{}の規定による{}をした者は、{}以内に{}を{}に提出するものとする。",
    "次に掲げる{}（{}を除く。）は、{}とみなす。",
    "{}が{}に該当することとなつたときは、{}及び{}の{}は、その効力を失う。",
)
_ITEMS = ("{}の{}を行う者", "{}に規定する{}", "{}及び{}に係る{}", "前号に掲げるもののほか、{}の{}として{}で定めるもの")


def make_corpus(folder: Path, count: int, seed: int) -> None:
    """Writes a corpus of `count` passages."""
    write_corpus(_passages(count, seed), folder, as_of="", attribution="synthetic", sources={"seed": seed})


def _passages(count: int, seed: int) -> Iterator[Passage]:
    draw = random.Random(seed)
    words = _words(draw)
    made = 0
    for law in itertools.count(1):
        title = f"{next(words)}{next(words)}に関する法律"
        for article in range(1, draw.randint(20, 200)):
            caption = f"{next(words)}の{next(words)}"
            for paragraph in range(1, draw.choice((1, 1, 2, 3, 4, 6)) + 1):
                lines = ["".join(_filled(draw.choice(_CLAUSES), words) for _ in range(draw.choice((1, 2, 2, 3))))]
                lines += [f"{number}　{_filled(draw.choice(_ITEMS), words)}" for number in range(1, draw.choice((0, 0, 2, 4, 8)) + 1)]
                yield Passage(
                    law_id=f"{law:06}", law=title, article=str(article), paragraph=str(paragraph), caption=caption, text="\n".join(lines)
                )
                made += 1
                if made == count:
                    return


def _words(draw: random.Random) -> Iterator[str]:
    """Kanji compounds without end. The 2,965 kanji of JIS level 1, by Zipf's law, make 40,000 words, by Zipf's law too."""
    kanji = [bytes((row, cell)).decode("euc_jp", "ignore") for row in range(0xB0, 0xD0) for cell in range(0xA1, 0xFF)]
    kanji = [character for character in kanji if character]
    draw.shuffle(kanji)
    common = list(itertools.accumulate(1 / (rank + 20) for rank in range(len(kanji))))
    compounds = ["".join(draw.choices(kanji, cum_weights=common, k=draw.choice((2, 2, 2, 3, 4)))) for _ in range(40_000)]
    weights = list(itertools.accumulate(1 / (rank + 5) for rank in range(len(compounds))))
    while True:
        yield from draw.choices(compounds, cum_weights=weights, k=10_000)


def _filled(pattern: str, words: Iterator[str]) -> str:
    return pattern.format(*itertools.islice(words, pattern.count("{}")))


def make_queries(corpus: Path, count: int, seed: int) -> list[tuple[str, str]]:
    """Questions with four choices, about 200 tokens, and the article each was made from."""
    draw = random.Random(seed)
    total = json.loads((corpus / "manifest.json").read_text(encoding="utf-8"))["passages"]
    wanted = set(draw.sample(range(total), count * 2))
    chosen = [passage for number, passage in enumerate(read_passages(corpus)) if number in wanted]
    draw.shuffle(chosen)
    queries = []
    for passage, other in zip(chosen[:count], chosen[count:], strict=True):
        parts = [passage.text[:60], passage.text[60:100], other.text[:40], other.text[40:80]]
        queries.append(("次のうち、正しいものを教えてください。" + passage.caption + "\n" + "\n".join(parts), passage.article_key))
    return queries


def build(corpus: Path, engine: str) -> dict:
    start = time.perf_counter()
    build_index(corpus, engine=engine, force=True)
    seconds = time.perf_counter() - start
    return {"build_s": seconds, "index_mb": sum(path.stat().st_size for path in (corpus / "index").rglob("*") if path.is_file()) / 1e6}


def search(corpus: Path, queries: list[tuple[str, str]]) -> dict:
    start = time.perf_counter()
    index = open_index(corpus)
    opened = time.perf_counter() - start
    times, found = [], 0
    for query, article in queries:
        start = time.perf_counter()
        hits = index.search(query, 5)
        times.append(time.perf_counter() - start)
        found += article in {hit.article_key for hit in hits}
    return {"open_s": opened, "found_at_5": found, **_milliseconds(times)}


def rank_bm25(corpus: Path, queries: list[tuple[str, str]]) -> dict:
    """The library that the retrieval of the earlier project used, with the same tokens and parameters."""
    from rank_bm25 import BM25Okapi

    start = time.perf_counter()
    passages = list(read_passages(corpus))
    index = BM25Okapi([bigrams(indexed_text(passage)) for passage in passages], k1=0.9, b=0.4)
    seconds = time.perf_counter() - start
    times, found = [], 0
    for query, article in queries:
        start = time.perf_counter()
        hits = index.get_top_n(sorted(set(bigrams(query))), passages, n=5)
        times.append(time.perf_counter() - start)
        found += article in {passage.article_key for passage in hits}
    return {"build_s": seconds, "found_at_5": found, **_milliseconds(times)}


def _milliseconds(times: list[float]) -> dict:
    ordered = sorted(1000 * seconds for seconds in times)
    return {"median_ms": statistics.median(ordered), "p95_ms": ordered[int(0.95 * (len(ordered) - 1))]}


def run_phase(*arguments: object) -> dict:
    """Runs this script for one phase, in a process of its own, and returns what it measured."""
    command = [sys.executable, __file__, "--phase", *map(str, arguments)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"TQDM_DISABLE": "1"})
    return json.loads(result.stdout.strip().splitlines()[-1])


def phase(name: str, corpus: Path, detail: str, count: int, seed: int) -> None:
    """One phase; prints its figures and the peak resident memory of this process as JSON."""
    if name == "make":
        make_corpus(corpus, count, seed)
        measured = {}
    elif name == "queries":
        Path(detail).write_text(json.dumps(make_queries(corpus, count, seed), ensure_ascii=False), encoding="utf-8")
        texts = itertools.islice(read_passages(corpus), 0, None, 50)
        tokens = [bigrams(indexed_text(passage)) for passage in texts]
        measured = {"tokens": statistics.mean(map(len, tokens)), "distinct": statistics.mean(len(set(each)) for each in tokens)}
    elif name == "build":
        measured = build(corpus, detail)
    else:
        queries = json.loads(Path(detail).read_text(encoding="utf-8"))
        measured = search(corpus, queries) if name == "search" else rank_bm25(corpus, queries)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
    print(json.dumps({**measured, "peak_mib": peak}))


def measure(corpus: Path, engine: str, queries: Path) -> dict:
    if engine == RANK_BM25:
        return {**run_phase("rank", corpus, queries), "index_mb": float("nan")}
    built = run_phase("build", corpus, engine)
    searched = run_phase("search", corpus, queries)
    return {**built, **searched, "peak_mib": built["peak_mib"], "search_peak_mib": searched["peak_mib"]}


def show(title: str, rows: dict[str, dict], queries: int) -> None:
    print(f"\n{title}\n\n| engine | build s | index MB | peak MiB build | peak MiB search | ms/query median | p95 | article in the first 5 |")
    print("|---|---|---|---|---|---|---|---|")
    for engine, row in rows.items():
        print(f"| {engine} | {row['build_s']:.0f} | {row['index_mb']:.0f} | {row['peak_mib']:.0f} | {row.get('search_peak_mib', row['peak_mib']):.0f} "
              f"| {row['median_ms']:.1f} | {row['p95_ms']:.1f} | {row['found_at_5']} of {queries} |", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--passages", type=int, default=500_000)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--slice", type=int, default=5_000, help="passages of the corpus for the comparison with rank-bm25")
    parser.add_argument("--engines", nargs="+", default=["bm25s", "tantivy"], choices=("bm25s", "tantivy"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--phase", nargs=3, metavar=("NAME", "CORPUS", "DETAIL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    if options.phase:
        name, corpus, detail = options.phase
        phase(name, Path(corpus), detail, options.queries if name == "queries" else options.passages, options.seed)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = {}
        for name, size, engines in (
            ("slice", options.slice, [*options.engines, RANK_BM25]),
            ("whole", options.passages, options.engines),
        ):
            corpus, queries = Path(folder, name), Path(folder, f"{name}.json")
            run_phase("make", corpus, "", "--passages", size, "--seed", options.seed)
            about = run_phase("queries", corpus, queries, "--queries", options.queries, "--seed", options.seed)
            rows[name] = {engine: measure(corpus, engine, queries) for engine in engines}
            show(f"{size:,} passages, {about['tokens']:.0f} tokens ({about['distinct']:.0f} distinct) each", rows[name], options.queries)
    rank = rows["slice"][RANK_BM25]
    for engine in options.engines:
        print(f"\n{engine}: a query takes 1/{rank['median_ms'] / rows['slice'][engine]['median_ms']:.0f} of rank-bm25's time on {options.slice:,} passages")
        small, large = rows["slice"][engine], rows["whole"][engine]
        steps = (ALL_LAWS - options.passages) / (options.passages - options.slice)
        row = {key: large[key] + steps * (large[key] - small[key]) for key in large}
        print(f"PROJECTION, not measured, the line through both sizes at {ALL_LAWS:,} passages: build {row['build_s'] / 60:.0f} min, "
              f"index {row['index_mb'] / 1000:.1f} GB, peak memory {row['peak_mib'] / 1024:.1f} GiB while building and "
              f"{row['search_peak_mib'] / 1024:.1f} GiB while searching, {row['median_ms']:.0f} ms a query")  # fmt: skip


if __name__ == "__main__":
    main()
