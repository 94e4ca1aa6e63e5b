"""How four statements are put together so that the choices alone do not tell which of them is the true one.

Three statements made from a true one by one change each would all be nearest to it: who reads no statute would find it.
"""

import random
import re
from collections.abc import Iterator, Sequence
from itertools import combinations

from lawft_trl.derive.changes import MEASURES, Change, differing_numbers, is_stated, show
from lawft_trl.derive.drafts import Neighbourhood, by_element, fits, pick_change, wrong_changes
from lawft_trl.derive.statements import Statement

Choice = tuple[Statement, tuple[Change, ...]]  # as it stands, or with changes of different elements

# Changes that turn a condition round. Two of them, or one beside a rule turned into its opposite, may make it true again:
# 無効 and 不利 become 有利な特約は有効とする.
_TURNED = ("limit", "time", "scope", "condition", "term", "proviso")
_AS_BINDING = ("なければならない", "ものとする", "ことができる", "とみなす", "と推定する")


def apart(true: Statement, others: Sequence[Statement], here: Neighbourhood, rng: random.Random) -> list[Choice]:
    """A statement as it stands and three others, one change in each; `[]` where there are not so many."""
    choices: list[Choice] = [(true, ())]
    kinds: set[str] = set()
    for other in others:
        if other != true and len(choices) < 4 and (usable := wrong_changes(other, here)):
            change = pick_change([change for change in usable if change.kind not in kinds] or usable, here, rng)
            choices.append((other, (change,)))
            kinds.add(change.kind)
    return choices if len(choices) == 4 else []


def square(true: Statement, here: Neighbourhood, rng: random.Random) -> list[list[Choice]]:
    """One statement four times: as it stands, with either of two changes, and with both. Every choice differs alike."""
    return [[(true, ()), (true, (first,)), (true, (second,)), (true, (first, second))] for first, second in _pairs(true, here, rng)]


def twins(true: Statement, others: Sequence[Statement], here: Neighbourhood, rng: random.Random) -> list[Choice]:
    """A statement as it stands and changed, and another one changed and changed further: two pairs that look the same."""
    usable = wrong_changes(true, here)
    for other in others:
        pairs = _pairs(other, here, rng) if usable and other != true else []
        if pairs:
            first, second = rng.sample(pairs[0], 2)
            return [(true, ()), (true, (pick_change(usable, here, rng),)), (other, (first,)), (other, (first, second))]
    return []


def with_numbers(true: Statement, here: Neighbourhood, rng: random.Random) -> Iterator[list[Choice]]:
    """One statement four times with another number in each, where there are enough that the statute does not imply."""
    for changes in by_element(wrong_changes(true, here)):
        if changes[0].kind in MEASURES and (chosen := three_values(changes, rng)):
            yield [(true, ()), *((true, (change,)) for change in chosen)]


def three_values(changes: Sequence[Change], rng: random.Random) -> list[Change]:
    """Three changes of one element. Among numbers it is drawn how many are below the statute's: it is not always the second."""
    start, end = changes[0].element.spans[0]
    values = differing_numbers([changes[0].statement.text[start:end], *(change.new[0] for change in changes)])
    if values is None:
        return rng.sample(list(changes), min(3, len(changes)))
    true, *rest = values
    below = [change for change, value in zip(changes, rest, strict=True) if value < true]
    above = [change for change, value in zip(changes, rest, strict=True) if value > true]
    possible = [lower for lower in range(4) if lower <= len(below) and 3 - lower <= len(above)]
    if not possible:
        return []
    lower = rng.choices(possible, [1 + lower for lower in possible])[0]  # 一年 has none below it: the others make up for that
    return rng.sample(below, lower) + rng.sample(above, 3 - lower)


def _pairs(statement: Statement, here: Neighbourhood, rng: random.Random) -> list[tuple[Change, Change]]:
    """One pair of changes for every two elements of a statement that can be changed together, in random order."""
    combinable = [_not_opposite(changes) for changes in by_element(wrong_changes(statement, here))]
    pairs = [
        (one, other)
        for one, other in combinations([pick_change(changes, here, rng) for changes in combinable if changes], 2)
        if not (one.kind in _TURNED and other.kind in _TURNED)
        and not _touch(one, other)
        and not is_stated((one, other), here.corpus)
        and fits(show(statement, (one, other)))
    ]
    return rng.sample(pairs, len(pairs))


def _not_opposite(changes: Sequence[Change]) -> list[Change]:
    """The changes of an element that do not turn the rule into its opposite: 総務大臣に届け出ることを要しない would be true."""
    start, end = changes[0].element.spans[-1]
    if changes[0].kind not in ("duty", "effect"):
        return list(changes)
    negative = re.search(r"(?<!なければなら)ない。?$", changes[0].statement.text[start:end])
    ends = tuple(end for end in _AS_BINDING if not (negative and end == "ことができる"))
    return [change for change in changes if change.new[-1].removesuffix("。").endswith(ends)]


def _touch(one: Change, other: Change) -> bool:
    """Whether the two changes overlap or meet, or one names what the other does."""
    spans = [(start, end) for change in (one, other) for start, end, _ in change.edits]
    overlap = any(a[0] <= b[1] and b[0] <= a[1] for a in spans[: len(one.edits)] for b in spans[len(one.edits) :])
    return overlap or bool(set(one.new) & set(other.new))
