"""BM25 by bm25s: scores are computed when the index is built, and the index is mapped, not loaded, when it is searched."""

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace


def write_bm25(documents: Iterable[list[str]], folder: Path, *, k1: float, b: float) -> str:
    """Indexes documents, given as their tokens, into a new folder; returns the library's name and version.

    bm25s takes any sequence of sequences of ids that it may pass over three times. Lists of Python integers take
    62 bytes a token; here the ids wait in a file and come back one document at a time, so that only what bm25s itself
    allocates (about 20 bytes for each distinct token of each document, scripts/bench_retrieval.py) is in memory.
    """
    import bm25s

    folder.mkdir()
    spool = folder / "token_ids.tmp"
    vocabulary: dict[str, int] = {}
    lengths = array("l")
    with spool.open("wb") as file:
        for tokens in documents:
            ids = array("i", [vocabulary.setdefault(token, len(vocabulary)) for token in tokens])
            ids.tofile(file)
            lengths.append(len(ids))
    index = bm25s.BM25(method="lucene", k1=k1, b=b, backend="numpy", csc_backend="scipy")
    corpus = SimpleNamespace(ids=_Spooled(spool, lengths), vocab=vocabulary)
    index.index(corpus, show_progress=len(lengths) > 50_000 and sys.stderr.isatty())
    spool.unlink()
    index.save(folder, show_progress=False)
    return f"bm25s {bm25s.__version__}"


def open_bm25(folder: Path) -> Callable[[Sequence[str], int], list[tuple[int, float]]]:
    """A function from query tokens and a limit to `(document, score)`, best first, ties in the order of the documents.

    Documents without any of the tokens are not among them.
    """
    import bm25s
    import numpy as np

    index = bm25s.BM25.load(folder, mmap=True)

    def best(tokens: Sequence[str], limit: int) -> list[tuple[int, float]]:
        ids = sorted({index.vocab_dict[token] for token in tokens if token in index.vocab_dict})
        if not ids:
            return []
        scores = index.get_scores_from_ids(ids)
        limit = min(limit, len(scores))
        least = np.partition(scores, -limit)[-limit]
        found = np.flatnonzero((scores >= least) & (scores > 0))  # more than `limit` where scores are equal
        order = np.lexsort((found, -scores[found]))[:limit]
        return [(int(document), float(scores[document])) for document in found[order]]

    return best


class _Spooled:
    """Token ids of the documents, read from a file in order each time they are iterated."""

    def __init__(self, path: Path, lengths: Sequence[int]) -> None:
        self.path, self.lengths = path, lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[array]:
        with self.path.open("rb", buffering=1 << 20) as file:
            for length in self.lengths:
                ids = array("i")
                ids.fromfile(file, length)
                yield ids
