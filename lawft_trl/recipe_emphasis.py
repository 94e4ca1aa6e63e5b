"""What a recipe may say of emphasis, the weight of style-bearing spans in the loss."""

import re
from collections.abc import Mapping
from typing import Any


def emphasis_faults(values: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Pairs (key, fault) of `data.emphasis`, and of what computes the loss in a way that knows no weights.

    Args:
        values: section -> key -> value of a recipe.
    """
    emphasis, training = values["data"].get("emphasis"), values["training"]
    if not isinstance(emphasis, Mapping):
        return []
    key, faults = "data.emphasis", []
    unknown = [name for name in emphasis if name not in ("patterns", "weight")]
    if unknown:
        faults.append((key, f"unknown {', '.join(map(str, unknown))}; it has patterns and weight, e.g. {{patterns: [かね, 君は], weight: 2.0}}"))
    patterns, weight = emphasis.get("patterns"), emphasis.get("weight")
    if not isinstance(patterns, list) or not patterns or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        faults.append((key, f"patterns: expected a list of regular expressions, found {patterns!r:.60}"))
    else:
        faults += [(key, f"patterns: {text}") for text in map(_pattern_fault, patterns) if text]
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 100:
        faults.append((key, f"weight: expected a number above 0 and at most 100, found {weight!r:.60}; 1 changes nothing"))
    if values["data"].get("shared_prefix") is not False:
        faults.append((key, "weights are for rows that are read one by one: set data.shared_prefix: false"))
    if training.get("label_smoothing_factor"):
        faults.append((key, "TRL smooths labels in a loss of its own, which takes no weights: leave out training.label_smoothing_factor"))
    if training.get("loss_type") not in (None, "nll"):
        faults.append((key, f"weights the loss nll, and training.loss_type is {training['loss_type']}: leave it out"))
    return faults


def _pattern_fault(pattern: str) -> str | None:
    try:
        matches_nothing = re.compile(pattern).search("") is not None
    except re.error as error:
        return f"{pattern!r} is no regular expression: {error}"
    return f"{pattern!r} also matches the empty text; it would mark nothing" if matches_nothing else None
