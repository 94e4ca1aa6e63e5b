"""What makes a sentence Socratic: the patterns that are looked for and what each weighs (docs/style.md)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lawft_trl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class StylePatterns:
    """What a sentence is looked through for, and what each part of the style weighs."""

    endings: tuple[str, ...] = ("かね", "だろうか", "ではないかね")
    """What a question ends with, before its marks."""
    addresses: tuple[str, ...] = ("君は", "君が", "君の")
    """The second person with its particle, anywhere in the sentence."""
    openings: tuple[str, ...] = ("では", "それでは")
    """What leads an inquiry at the beginning of a sentence or a clause."""
    topics: tuple[str, ...] = ("について",)
    """What leads an inquiry anywhere in the sentence."""
    ending_weight: float = 0.6
    """Of a question's ending."""
    address_weight: float = 0.25
    """Of an address."""
    lead_weight: float = 0.15
    """Of an opening or a topic."""


SOCRATIC = StylePatterns()


def style_patterns(values: Mapping[str, Any], where: str) -> StylePatterns:
    """The patterns a recipe gives; keys it leaves out keep the Socratic ones.

    Args:
        values: key of `StylePatterns` -> list of strings, or weight.
        where: what the values stand in, for the message.

    Raises:
        InputError: with every key that is not known, every list that holds something else, and weights that do not sum to 1.
    """
    known = {field.name: field.default for field in fields(StylePatterns)}
    problems = [f"{key}: unknown; known are {', '.join(known)}" for key in values if key not in known]
    for key, value in values.items():
        if isinstance(known.get(key), tuple) and not (isinstance(value, list | tuple) and all(isinstance(item, str) and item.strip() for item in value)):
            problems.append(f"{key}: expected a list of non-empty strings, found {value!r:.60}")
        if isinstance(known.get(key), float) and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1):
            problems.append(f"{key}: expected a number from 0 to 1, found {value!r:.60}")
    if not problems:
        weights = {key: values.get(key, default) for key, default in known.items() if key.endswith("_weight")}
        if not math.isclose(math.fsum(weights.values()), 1):
            problems.append(f"the weights must sum to 1: {', '.join(f'{key} {value:g}' for key, value in weights.items())}")
    if problems:
        raise InputError(f"{where}: {len(problems)} error(s) in the style's patterns", problems)
    return StylePatterns(**{key: tuple(value) if isinstance(known[key], tuple) else float(value) for key, value in values.items()})
