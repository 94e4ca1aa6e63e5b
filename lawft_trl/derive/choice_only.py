"""What can be guessed from four choices without the question and the statutes: rules that look at the choices alone.

Choices made by changing one true statement give it away: it is the one that all others resemble. A set from which a
letter can be learned without the statute teaches just that, so such rules must not hit much more than one in four.
"""

from collections.abc import Sequence
from fractions import Fraction

from lawft_trl.derive.changes import differing_numbers


def guesses(choices: Sequence[str]) -> dict[str, frozenset[int]]:
    """The choices that each rule would guess between.

    Args:
        choices: four texts.

    Returns:
        Rule -> positions. `centroid` and `outlier`: the choice with the highest and the lowest mean Jaccard index of
        character trigrams with the others; `closest pair`: the two that share most; `longest` and `shortest`; and,
        where the choices differ in one number alone, `lowest number` to `highest number`. A rule that cannot tell two
        choices apart guesses between both.
    """
    grams = [{text[start : start + 3] for start in range(max(1, len(text) - 2))} for text in choices]
    others = [[place for place in range(len(choices)) if place != one] for one in range(len(choices))]
    near = [[len(one & other) / len(one | other) for other in grams] for one in grams]
    mean = [round(sum(near[one][other] for other in others[one]), 9) for one in range(len(choices))]
    closest = max(near[one][other] for one in range(len(choices)) for other in others[one])
    length = [len(text) for text in choices]
    found = {
        "centroid": _at(mean, max(mean)),
        "outlier": _at(mean, min(mean)),
        "closest pair": frozenset(one for one in range(len(choices)) if any(near[one][other] == closest for other in others[one])),
        "longest": _at(length, max(length)),
        "shortest": _at(length, min(length)),
    }
    if numbers := differing_numbers(choices):
        ranks = ("lowest number", "second number", "third number", "highest number")
        found |= {rank: _at(numbers, number) for rank, number in zip(ranks, sorted(numbers), strict=True)}
    return found


def hits(choices: Sequence[str], gold: int) -> dict[str, float]:
    """How likely each rule's guess is the right choice; by chance it is a quarter."""
    return {rule: (gold in places) / len(places) for rule, places in guesses(choices).items()}


def _at(values: Sequence[Fraction | float], value: Fraction | float) -> frozenset[int]:
    return frozenset(place for place, other in enumerate(values) if other == value)
