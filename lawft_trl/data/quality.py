"""What can be wrong with rows that are each well-formed: here, training rows that are also in the test."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm

from lawft_trl.data.near_duplicates import ngrams, plain, question_texts, states_question, text_index
from lawft_trl.data.rows import Row


@dataclass(frozen=True)
class Overlap:
    """A training row that gives away a test row.

    Attributes:
        reason: `"same id"`, `"same group"`, `"same article"`, `"same prompt"` or `"near-duplicate text"`.
        train: the training row.
        test: the test row.
    """

    reason: str
    train: Row
    test: Row


def find_overlaps(train: Sequence[Row], test: Sequence[Row]) -> list[Overlap]:
    """For every training row that is in the test set, the first reason found; at most one per training row.

    Ids and groups are compared within a data set, and where one of the two rows does not say which it is from; the
    articles that decide the questions (`meta.provisions`) across all of them.
    Texts are compared on the question and its choices, so that neither the prompt's own sentences nor the order of the
    choices count. A row that does not say which part of its prompt is the question is searched for the other's.
    """
    ids, groups, articles, prompts = defaultdict(list), defaultdict(list), {}, {}
    for row in test:
        if row.meta.get("id") is not None:
            ids[row.id].append(row)
        if row.meta.get("group"):
            groups[row.meta["group"]].append(row)
        for article in row.meta.get("provisions") or ():
            articles.setdefault(str(article), row)
        prompts.setdefault(plain(_asked(row)), row)
    texts = _Texts(test, train)
    overlaps = []
    for row in tqdm(train, desc="comparing", unit="row", delay=3, leave=False):
        same_id = _same_dataset(row, ids[row.id] if row.meta.get("id") is not None else [])
        same_group = _same_dataset(row, groups.get(row.meta.get("group"), []))
        same_article = next((articles[str(key)] for key in row.meta.get("provisions") or () if str(key) in articles), None)
        same_prompt = prompts.get(plain(_asked(row)))
        reasons = (("same id", same_id), ("same group", same_group), ("same article", same_article), ("same prompt", same_prompt))
        for reason, found in reasons:
            if found is not None:
                overlaps.append(Overlap(reason, row, found))
                break
        else:
            near = texts.nearest(row)
            if near is not None:
                overlaps.append(Overlap("near-duplicate text", row, near))
    return overlaps


class _Texts:
    """The test rows' texts, to be searched for each training row's."""

    def __init__(self, test: Sequence[Row], train: Sequence[Row]):
        self._first: dict[tuple[bool, tuple[str, ...]], Row] = {}
        for row in test:
            self._first.setdefault(_text(row), row)
        self._sets = [ngrams(texts) for _, texts in self._first]
        kinds = [is_question for is_question, _ in self._first]
        self._index = text_index(self._sets, kinds, map(states_question, train))
        self._rows = list(self._first.values())
        self._known: dict[tuple[bool, tuple[str, ...]], Row | None] = {}

    def nearest(self, row: Row) -> Row | None:
        """The first test row whose text is nearly this row's; the same text is looked up once."""
        text = _text(row)
        if text not in self._known:
            position = next(self._index.similar(ngrams(text[1]), text[0]), None)
            self._known[text] = None if position is None else self._rows[position]
        return self._known[text]


def _same_dataset(row: Row, candidates: Sequence[Row]) -> Row | None:
    dataset = row.meta.get("dataset")
    return next((other for other in candidates if None in (dataset, other.meta.get("dataset")) or dataset == other.meta["dataset"]), None)


def _text(row: Row) -> tuple[bool, tuple[str, ...]]:
    """Whether the text is the question and its choices alone, and the text; else it is all that `_asked` says."""
    texts = question_texts(row)
    return (True, texts) if texts is not None else (False, (plain(_asked(row)),))


def _asked(row: Row) -> str:
    """What tells a prompt from others: its last message; with turns before it the whole history, for many turns are "yes".

    The turns say so, and not `meta.mode`: the same conversation may stand in another file without it.
    """
    if any(message["role"] == "assistant" for message in row.prompt):
        return "\n".join(message["content"] for message in row.prompt if message["role"] != "system")
    return row.prompt[-1]["content"]
