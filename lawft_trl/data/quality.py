"""What can be wrong with rows that are each well-formed: here, training rows that are also in the test."""

import unicodedata
from collections import defaultdict
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
        reason: `"same id"`, `"same group"` or `"near-duplicate text"`.
        train: the training row.
        test: the test row.
    """

    reason: str
    train: Row
    test: Row


def find_overlaps(train: Sequence[Row], test: Sequence[Row]) -> list[Overlap]:
    """For every training row that is in the test set, the first reason found; at most one per training row."""
    by_id = {(row.meta.get("dataset"), row.id): row for row in test if "id" in row.meta}
    by_group = {(row.meta.get("dataset"), row.meta["group"]): row for row in test if row.meta.get("group")}
    grams = [_ngrams(row) for row in test]
    index = defaultdict(set)
    for position, found in enumerate(grams):
        for gram in found:
            index[gram].add(position)
    overlaps, nearest = [], {}
    for row in train:
        dataset = row.meta.get("dataset")
        if "id" in row.meta and (dataset, row.id) in by_id:
            overlaps.append(Overlap("same id", row, by_id[dataset, row.id]))
            continue
        if row.meta.get("group") and (dataset, row.meta["group"]) in by_group:
            overlaps.append(Overlap("same group", row, by_group[dataset, row.meta["group"]]))
            continue
        own = frozenset(_ngrams(row))
        if own not in nearest:
            nearest[own] = _near_duplicate(own, grams, index)
        if nearest[own] is not None:
            overlaps.append(Overlap("near-duplicate text", row, test[nearest[own]]))
    return overlaps


def _near_duplicate(own: frozenset[str], grams: Sequence[set[str]], index: dict[str, set[int]]) -> int | None:
    """The first test row whose n-grams have a Jaccard index with `own` of at least `_NEAR_DUPLICATE`."""
    shared = defaultdict(int)
    for gram in own:
        for position in index.get(gram, ()):
            shared[position] += 1
    for position, count in sorted(shared.items()):
        if count >= _NEAR_DUPLICATE * (len(own) + len(grams[position]) - count):
            return position
    return None


def _ngrams(row: Row) -> set[str]:
    """Character n-grams of what is asked: question and choices where known, so that neither the prompt's own
    sentences nor the order of the choices count; else the whole last message."""
    meta = row.meta
    if isinstance(meta.get("question"), str) and isinstance(meta.get("choices"), dict):
        texts = [meta["question"], *sorted(map(str, meta["choices"].values()))]
    else:
        texts = [row.prompt[-1]["content"]]
    grams = set()
    for text in texts:
        plain = "".join(character for character in unicodedata.normalize("NFKC", text).lower() if character.isalnum())
        grams |= {plain[start : start + _NGRAM] for start in range(max(1, len(plain) - _NGRAM + 1))}
    return grams - {""}
