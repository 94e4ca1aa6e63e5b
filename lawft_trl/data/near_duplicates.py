"""Near-duplicate texts. Japanese is written without spaces, so likeness is measured on runs of characters."""

import functools
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from lawft_trl.data.rows import Row

if TYPE_CHECKING:
    import numpy as np
    from datasketch import MinHash

_NGRAM = 5
NEAR_DUPLICATE = 0.9  # Jaccard index of the 5-grams; for a question within a prompt, the share that the prompt contains
LARGE = 20_000  # from so many different texts on, MinHash proposes the candidates
# 16 bands of 8: two texts with a Jaccard index of 0.9 become candidates with probability 1 - (1 - 0.9^8)^16 = 0.9999,
# two with 0.5 with probability 0.06.
_BANDS, _BAND_ROWS = 16, 8
_FACTORS = [pow(0x9E3779B97F4A7C15, power, 2**64) for power in range(_NGRAM)]


def plain(text: str) -> str:
    """Letters and digits alone, in one width and case."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).lower())


_plain_piece = functools.lru_cache(maxsize=50_000)(plain)  # questions and choices come back in every order of the choices


def states_question(row: Row) -> bool:
    """Whether the row says which part of its prompt is the question and which are the choices."""
    return isinstance(row.meta.get("question"), str) and isinstance(row.meta.get("choices"), dict)


def question_texts(row: Row) -> tuple[str, ...] | None:
    """The plain question and choices, the choices sorted so that their order does not count; `None` for other rows."""
    if not states_question(row):
        return None
    return (_plain_piece(row.meta["question"]), *sorted(_plain_piece(str(choice)) for choice in row.meta["choices"].values()))


def ngrams(texts: Sequence[str]) -> "np.ndarray":
    """The different 5-grams of plain texts, as sorted 64-bit hashes; a shorter text is one gram, an empty one none."""
    import numpy as np

    padded = [text.ljust(_NGRAM, "\1") for text in texts if text]
    if not padded:
        return np.zeros(0, np.uint64)
    codes = np.frombuffer("\0".join(padded).encode("utf-32-le"), np.uint32).astype(np.uint64)
    size = len(codes) - _NGRAM + 1
    hashes, inside = np.zeros(size, np.uint64), np.ones(size, bool)
    for offset, factor in enumerate(_FACTORS):
        window = codes[offset : offset + size]
        hashes += window * np.uint64(factor)
        inside &= window != 0  # no gram reaches over the end of a text
    return np.unique(hashes[inside])


def is_near(grams: "np.ndarray", is_question: bool, others: "np.ndarray", other_is_question: bool) -> bool:
    """Whether two texts are near-duplicates, or whether the one that is a question stands in the other, a whole prompt."""
    import numpy as np

    if not len(grams) or not len(others):
        return False
    shared = len(np.intersect1d(grams, others, assume_unique=True))
    if is_question == other_is_question:
        return shared >= NEAR_DUPLICATE * (len(grams) + len(others) - shared)
    return shared >= NEAR_DUPLICATE * len(grams if is_question else others)


class ExactIndex:
    """Texts that are searched for the near-duplicates of another; every one is found.

    If two sets share nine tenths of the one's n grams, then one of any n/10 + 1 grams of it is in the other. So only the
    rarest are looked up (prefix filtering: Chaudhuri, Ganti and Kaushik, "A Primitive Operator for Similarity Joins in
    Data Cleaning", 2006).

    Args:
        sets: the grams of each text.
        questions: for each text, whether it is a question and its choices alone; otherwise it is a whole prompt.
    """

    def __init__(self, sets: Sequence["np.ndarray"], questions: Sequence[bool]):
        self._sets, self._questions = sets, questions
        self._all = _postings(sets)
        self._rare = _postings([self._rarest(grams) for grams in sets])

    def similar(self, grams: "np.ndarray", is_question: bool) -> Iterator[int]:
        """Positions of the near-duplicates of a text, in ascending order."""
        # A question's rarest grams are looked for in all texts; a whole prompt is searched for the rarest grams of each.
        found = _owners(self._all, self._rarest(grams)) if is_question else _owners(self._rare, grams)
        for position in found.tolist():
            if is_near(grams, is_question, self._sets[position], self._questions[position]):
                yield position

    def _rarest(self, grams: "np.ndarray") -> "np.ndarray":
        import numpy as np

        starts, ends = (np.searchsorted(self._all[0], grams, side) for side in ("left", "right"))
        needed = len(grams) - math.ceil(NEAR_DUPLICATE * len(grams)) + 1
        return grams[np.argsort(ends - starts, kind="stable")[:needed]]


class MinHashIndex:
    """The same for very many texts of one kind: MinHash proposes and the Jaccard index decides, so nothing wrong is found.

    Args:
        sets: the grams of each text.
    """

    def __init__(self, sets: Sequence["np.ndarray"]):
        from datasketch import MinHash, MinHashLSH
        from tqdm.auto import tqdm

        self._sets = sets
        self._empty = MinHash(num_perm=_BANDS * _BAND_ROWS, hashfunc=int)  # the grams are hashes already
        self._lsh = MinHashLSH(num_perm=_BANDS * _BAND_ROWS, params=(_BANDS, _BAND_ROWS))
        for position, grams in enumerate(tqdm(sets, desc="hashing", unit="text", delay=3, leave=False)):
            self._lsh.insert(position, self._minhash(grams), check_duplication=False)

    def similar(self, grams: "np.ndarray", is_question: bool) -> Iterator[int]:
        """Positions of the near-duplicates of a text, in ascending order."""
        for position in sorted(self._lsh.query(self._minhash(grams))):
            if is_near(grams, is_question, self._sets[position], is_question):
                yield position

    def _minhash(self, grams: "np.ndarray") -> "MinHash":
        minhash = self._empty.copy()
        minhash.update_batch((grams >> 32).tolist())
        return minhash


def text_index(sets: Sequence["np.ndarray"], questions: Sequence[bool], asked: Iterable[bool]) -> ExactIndex | MinHashIndex:
    """The index for so many texts, to be asked for texts of the kinds `asked`.

    MinHash estimates the Jaccard index of whole sets; it cannot see a question in a prompt, so two kinds need the exact one.
    """
    one_kind = len({*questions, *asked}) == 1
    return MinHashIndex(sets) if len(sets) > LARGE and one_kind else ExactIndex(sets, questions)


def _postings(sets: Sequence["np.ndarray"]) -> tuple["np.ndarray", "np.ndarray"]:
    """`(gram, position of a text that has it)` of all texts, sorted by gram."""
    import numpy as np

    grams = np.concatenate([np.zeros(0, np.uint64), *sets])
    owners = np.repeat(np.arange(len(sets), dtype=np.int32), [len(grams) for grams in sets])
    order = np.argsort(grams, kind="stable")
    return grams[order], owners[order]


def _owners(postings: tuple["np.ndarray", "np.ndarray"], grams: "np.ndarray") -> "np.ndarray":
    """The texts that have any of the grams."""
    import numpy as np

    starts, ends = (np.searchsorted(postings[0], grams, side) for side in ("left", "right"))
    found = [postings[1][start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True) if start < end]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int32)
