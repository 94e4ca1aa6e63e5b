"""Drafts of questions, and the neighbouring articles they are drafted from."""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lawft_trl.derive.changes import MEASURES, Change, Corpus, changes_of, comparable, is_implied, show
from lawft_trl.derive.elements import KINDS, Element
from lawft_trl.derive.statements import Statement, outer_brackets, read_statements
from lawft_trl.statutes.passages import Passage

LONGEST_CHOICE = 220
LONGEST_QUESTION = 340


@dataclass(frozen=True)
class Draft:
    """A question before its letters are dealt.

    Attributes:
        form: which of the forms.
        kind: the kind of element it turns on.
        source: key of the statement or list it is mainly about, for counting.
        question: what is asked.
        choices: four `(text, reason)`, the right one first.
        shown: the paragraphs to show.
        decides: the paragraphs that decide.
        wordings: what changes put in and took out, see `wordings_of`.
    """

    form: str
    kind: str
    source: str
    question: str
    choices: tuple[tuple[str, str], ...]
    shown: tuple[Passage, ...]
    decides: tuple[Passage, ...]
    wordings: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Neighbourhood:
    """Some neighbouring articles of one law: what one question may show together.

    Attributes:
        key: the first article's key, the group of all questions made here.
        passages: the paragraphs, in order.
        rules: statements that can be a choice as they stand.
        items: items of lists, by their passage's key.
        changes: the changes of each rule and item, by statement.
        corpus: what changes are looked up in.
    """

    key: str
    passages: tuple[Passage, ...]
    rules: tuple[Statement, ...]
    items: dict[str, list[Statement]]
    changes: dict[Statement, list[Change]]
    corpus: Corpus


def read_neighbourhood(passages: Sequence[Passage], corpus: Corpus) -> Neighbourhood:
    """Reads what can be asked about neighbouring articles."""
    rules, items, changes = [], {}, {}
    for passage in passages:
        read, listed = read_statements(passage)
        rules += read
        items[passage.key] = listed
        changes |= {statement: changes_of(statement, corpus) for statement in [*read, *listed]}
    return Neighbourhood(passages[0].article_key, tuple(passages), tuple(rules), items, changes, corpus)


def telling_elements(statement: Statement, choices: Iterable[tuple[Statement, Sequence[Change]]], here: Neighbourhood) -> list[Element]:
    """What shows that a statement stands as it is: what other choices change in it, then its elements outside brackets."""
    order = list(KINDS)
    brackets = outer_brackets(statement.text)
    changed = [change.element for other, changes in choices if other == statement for change in changes]
    outside = [
        change.element
        for change in here.changes[statement]
        if not any(start <= change.element.spans[0][0] < end for start, end in brackets)
    ]
    return list(dict.fromkeys([*changed, *sorted(outside, key=lambda element: order.index(element.kind))]))


def by_element(changes: Sequence[Change]) -> list[list[Change]]:
    """Changes in groups that change one element."""
    groups: dict[Element, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.element, []).append(change)
    return list(groups.values())


def fits(text: str) -> bool:
    """Whether a text is long enough to say something and short enough to be a choice."""
    return 12 <= len(text) <= LONGEST_CHOICE


def pick_change(changes: Sequence[Change], here: Neighbourhood, rng: random.Random) -> Change:
    """One of some changes, mostly of those whose new words the law uses too: no word is to be seen in wrong choices alone."""
    law = here.corpus.text[changes[0].statement.passage.law_id]
    weights = [8 if change.kind in MEASURES or all(comparable(words) in law for words in wordings_of([change])) else 1 for change in changes]
    return rng.choices(list(changes), weights)[0]


def wrong_changes(statement: Statement, here: Neighbourhood) -> list[Change]:
    """The changes of a statement whose whole changed form can be a wrong choice."""
    return [change for change in here.changes[statement] if fits(show(statement, (change,))) and not is_implied(change)]


_ENDING = re.compile(r"努めなければならない|なければならない|はならない|こと(?:ができる|ができない|を要しない|を妨げない)|努めるものとする|ものとする|[^、。]{1,8}$")


def wordings_of(changes: Iterable[Change]) -> frozenset[str]:
    """The words that changes put in and took out, without measures; of a duty its ending alone (努めなければならない), of a
    citation its last part (第三項)."""
    tails = defaultdict(lambda: re.compile(".+"), duty=_ENDING, citation=re.compile("第[^第]*$"))
    found = set()
    for change in changes:
        if change.kind in MEASURES:
            continue
        for (start, end), new in zip(change.element.spans[-1:], change.new[-1:], strict=True):
            words = [text.removesuffix("。") for text in (change.statement.text[start:end], new)]
            found |= {tail[0] if (tail := tails[change.kind].search(text)) else text for text in words}
    return frozenset(found - {""})


def source_key(statement: Statement) -> str:
    """What a statement is counted under."""
    return f"{statement.passage.key}/{statement.item}/{statement.text}"


def in_order(passages: dict[str, Passage], here: Neighbourhood) -> tuple[Passage, ...]:
    """Paragraphs, given by key, in the order of the law."""
    return tuple(passage for passage in here.passages if passage.key in passages)
