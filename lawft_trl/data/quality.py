"""What can be wrong with rows that are each well-formed: here, training rows that are also in the test."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from lawft_trl.data.rows import Row

# Japanese is written without spaces, so likeness is measured on runs of characters.
_NGRAM = 5
_NEAR_DUPLICATE = 0.9


@dataclass(frozen=True)
class Overlap:
    """A training row that gives away a test row.

    Attributes:
        reason: `"same id"`, `"same group"`, `"same prompt"` or `"near-duplicate text"`.
        train: the training row.
        test: the test row.
    """

    reason: str
    train: Row
    test: Row


def find_overlaps(train: Sequence[Row], test: Sequence[Row]) -> list[Overlap]:
    """For every training row that is in the test set, the first reason found; at most one per training row.

    Ids and groups are compared within a data set, and where one of the two rows does not say which it is from.
    Texts are compared on the question and its choices, so that neither the prompt's own sentences nor the order of the
    choices count. A row that does not say which part of its prompt is the question is searched for the other's.
    """
    ids, groups, prompts = defaultdict(list), defaultdict(list), {}
    for row in test:
        if row.meta.get("id") is not None:
            ids[row.id].append(row)
        if row.meta.get("group"):
            groups[row.meta["group"]].append(row)
        prompts.setdefault(_plain(row.prompt[-1]["content"]), row)
    texts = _Texts(test)
    overlaps = []
    for row in train:
        same_id = _same_dataset(row, ids[row.id] if row.meta.get("id") is not None else [])
        same_group = _same_dataset(row, groups.get(row.meta.get("group"), []))
        same_prompt = prompts.get(_plain(row.prompt[-1]["content"]))
        for reason, found in (("same id", same_id), ("same group", same_group), ("same prompt", same_prompt)):
            if found is not None:
                overlaps.append(Overlap(reason, row, found))
                break
        else:
            near = texts.nearest(row)
            if near is not None:
                overlaps.append(Overlap("near-duplicate text", row, near))
    return overlaps


class _Texts:
    """The test rows' character n-grams, to be searched for each training row's."""

    def __init__(self, test: Sequence[Row]):
        self._test = [(row, *_ngrams(row)) for row in test]
        self._index = defaultdict(set)
        for position, (_, _, grams) in enumerate(self._test):
            for gram in grams:
                self._index[gram].add(position)
        self._known: dict[tuple[bool, frozenset[str]], Row | None] = {}

    def nearest(self, row: Row) -> Row | None:
        """The first test row whose text is nearly this row's; the same text is looked up once."""
        is_question, grams = _ngrams(row)
        key = (is_question, grams)
        if key not in self._known:
            self._known[key] = self._search(is_question, grams)
        return self._known[key]

    def _search(self, is_question: bool, grams: frozenset[str]) -> Row | None:
        shared = Counter(position for gram in grams for position in self._index.get(gram, ()))
        for position, count in sorted(shared.items()):
            row, other_is_question, others = self._test[position]
            if is_question == other_is_question:
                whole = len(grams) + len(others) - count  # Jaccard index
            else:
                whole = len(grams) if is_question else len(others)  # the question's share that is in the prompt
            if count >= _NEAR_DUPLICATE * whole:
                return row
        return None


def _same_dataset(row: Row, candidates: Sequence[Row]) -> Row | None:
    dataset = row.meta.get("dataset")
    return next((other for other in candidates if None in (dataset, other.meta.get("dataset")) or dataset == other.meta["dataset"]), None)


def _ngrams(row: Row) -> tuple[bool, frozenset[str]]:
    """Whether the n-grams are of question and choices alone, and the n-grams; else they are of the whole last message."""
    meta = row.meta
    is_question = isinstance(meta.get("question"), str) and isinstance(meta.get("choices"), dict)
    texts = [meta["question"], *map(str, meta["choices"].values())] if is_question else [row.prompt[-1]["content"]]
    grams = set()
    for text in map(_plain, texts):
        grams |= {text[start : start + _NGRAM] for start in range(max(1, len(text) - _NGRAM + 1))}
    return is_question, frozenset(grams - {""})


def _plain(text: str) -> str:
    """Letters and digits alone, in one width and case."""
    return "".join(character for character in unicodedata.normalize("NFKC", text).lower() if character.isalnum())
