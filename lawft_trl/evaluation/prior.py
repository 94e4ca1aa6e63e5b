"""A model's preference for letters, estimated once and taken off: PriDe. No torch.

Zheng et al., "Large language models are not robust multiple choice selectors" (ICLR 2024). Over the four orders of a
question every choice stands once at every letter, so what is left in the mean log-probability of a letter is the
preference for it. With that known, one order of a question is enough at work, where four would cost four times as much.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from lawft_trl.data.questions import LETTERS, ORDERS


class Scored(Protocol):
    """What is read of a `lawft_trl.evaluation.metrics.Prediction`."""

    id: str
    group: str
    order: str
    gold: str
    letter_logprobs: Mapping[str, float] | None


def label_prior(predictions: Sequence[Scored]) -> dict[str, float] | None:
    """The logarithm of a model's prior for each letter.

    For each question the softmax of the letters' mean log-probabilities over its four orders; the prior is the mean of
    these over the questions.

    Args:
        predictions: of one model. Questions that were not asked in all four orders say nothing.

    Returns:
        letter -> log prior; `None` where no question says anything.
    """
    priors = _question_priors(predictions)
    if not priors:
        return None
    return _log_prior(np.mean(list(priors.values()), axis=0))


def debiased_letter(letter_logprobs: Mapping[str, float], prior: Mapping[str, float]) -> str:
    """The letter whose log-probability stands highest above the prior; of equal ones the first."""
    return max(LETTERS, key=lambda letter: letter_logprobs[letter] - prior[letter])


def one_order_hits(predictions: Sequence[Scored]) -> tuple[list[bool], list[bool]] | None:
    """Which questions are right in one order, their own: as it is, and with the prior taken off.

    The prior for a question comes from the questions of the other groups alone, as at work, where the question is new.

    Args:
        predictions: of one model.

    Returns:
        Two lists over the questions; `None` without letter scores in four orders of questions from two groups at least.
    """
    priors, groups = _question_priors(predictions), {item.id: item.group for item in predictions}
    by_group: dict[str, list[np.ndarray]] = defaultdict(list)
    for question, prior in priors.items():
        by_group[groups[question]].append(prior)
    if len(by_group) < 2:
        return None
    own = [item for item in predictions if item.order == ORDERS[0] and item.id in priors]
    total = sum(priors.values())
    others = {group: (total - sum(items)) / (len(priors) - len(items)) for group, items in by_group.items()}
    plain = [max(LETTERS, key=item.letter_logprobs.__getitem__) == item.gold for item in own]
    debiased = [debiased_letter(item.letter_logprobs, _log_prior(others[item.group])) == item.gold for item in own]
    return plain, debiased


def _question_priors(predictions: Sequence[Scored]) -> dict[str, np.ndarray]:
    """Question id -> its prior for a, b, c, d, of the questions whose letters were scored in all four orders."""
    rows: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for item in predictions:
        if item.letter_logprobs is not None:
            rows[item.id][item.order] = [item.letter_logprobs[letter] for letter in LETTERS]
    means = {question: np.mean(list(orders.values()), axis=0) for question, orders in rows.items() if set(orders) == set(ORDERS)}
    powers = {question: np.exp(mean - mean.max()) for question, mean in means.items()}
    return {question: power / power.sum() for question, power in powers.items()}


def _log_prior(prior: np.ndarray) -> dict[str, float]:
    return {letter: math.log(max(share, 1e-12)) for letter, share in zip(LETTERS, prior.tolist(), strict=True)}
