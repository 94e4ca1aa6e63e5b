"""Near-duplicate texts. Japanese is written without spaces, so likeness is measured on runs of characters."""

import functools
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
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

    least = NEAR_DUPLICATE * (max(len(grams), len(others)) if is_question == other_is_question else len(grams if is_question else others))
    if not 0 < least <= min(len(grams), len(others)):
        return False
    shared = len(np.intersect1d(grams, others, assume_unique=True))
    if is_question == other_is_question:
        return shared >= NEAR_DUPLICATE * (len(grams) + len(others) - shared)
    return shared >= NEAR_DUPLICATE * len(grams if is_question else others)


class ExactIndex:
    """Texts that are searched for the near-duplicates of another; every one is found.

    If two sets share nine tenths of the one's n grams, then the n/10 + k rarest of each share k, whatever k is. So few
    grams are looked up, those in few texts, and few texts are compared (prefix filtering: Chaudhuri, Ganti and Kaushik,
    "A Primitive Operator for Similarity Joins in Data Cleaning", 2006; with k above 1: Wang, Li and Feng, "Can We Beat the
    Prefix Filtering?", 2012). Here k is n/20 + 1.

    Args:
        sets: the grams of each text.
        questions: for each text, whether it is a question and its choices alone; otherwise it is a whole prompt.
    """

    def __init__(self, sets: Sequence["np.ndarray"], questions: Sequence[bool]):
        self._sets, self._questions = sets, questions
        self._grams = _postings(sets, range(len(sets)))[0]
        of_kind = {kind: [position for position, is_question in enumerate(questions) if is_question == kind] for kind in (True, False)}
        rare = {kind: [self._rarest(sets[position]) for position in positions] for kind, positions in of_kind.items()}
        self._rare = {kind: _postings(rare[kind], positions) for kind, positions in of_kind.items()}
        self._prompts = _postings([sets[position] for position in of_kind[False]], of_kind[False])

    def similar(self, grams: "np.ndarray", is_question: bool) -> Iterator[int]:
        """Positions of the near-duplicates of a text, in ascending order."""
        rarest = self._rarest(grams)
        # Of a near-duplicate's own grams there are at least nine tenths as many.
        candidates = set(self._sharing(self._rare[is_question], rarest, lambda _: _shared_rare(NEAR_DUPLICATE * len(grams))))
        if is_question:  # it may stand in any prompt
            candidates.update(self._sharing(self._prompts, rarest, lambda _: _shared_rare(len(grams))))
        else:  # it may hold any question
            candidates.update(self._sharing(self._rare[True], grams, lambda position: _shared_rare(len(self._sets[position]))))
        for position in sorted(candidates):
            if is_near(grams, is_question, self._sets[position], self._questions[position]):
                yield position

    def _sharing(
        self, postings: tuple["np.ndarray", "np.ndarray"], grams: "np.ndarray", least: Callable[[int], int]
    ) -> Iterator[int]:
        """The texts that have so many of the grams as `least` says for each."""
        import numpy as np

        starts, ends = (np.searchsorted(postings[0], grams, side) for side in ("left", "right"))
        found = [postings[1][start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True) if start < end]
        if found:
            positions, counts = np.unique(np.concatenate(found), return_counts=True)
            yield from (position for position, count in zip(positions.tolist(), counts.tolist(), strict=True) if count >= least(position))

    def _rarest(self, grams: "np.ndarray") -> "np.ndarray":
        """The rarest grams, in one order for all sets: by the number of texts, then by the hash."""
        import numpy as np

        starts, ends = (np.searchsorted(self._grams, grams, side) for side in ("left", "right"))
        needed = len(grams) - math.ceil(NEAR_DUPLICATE * len(grams)) + _shared_rare(len(grams))
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


def _shared_rare(size: float) -> int:
    """How many of its rarest grams a set of this size shares with a near-duplicate, at least."""
    return int(size) // 20 + 1


def _postings(sets: Sequence["np.ndarray"], owners: Sequence[int]) -> tuple["np.ndarray", "np.ndarray"]:
    """`(gram, owner of a set that has it)` of all sets, sorted by gram."""
    import numpy as np

    grams = np.concatenate([np.zeros(0, np.uint64), *sets])
    repeated = np.repeat(np.array(owners, np.int32), [len(grams) for grams in sets])
    order = np.argsort(grams, kind="stable")
    return grams[order], repeated[order]
