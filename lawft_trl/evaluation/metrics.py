"""What predictions prove: accuracy with its interval, and a paired comparison of two models. No torch.

The unit is the question, never question times order: the four orders of a question are not independent. Formulas and
sources: docs/evaluation.md.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import binomtest

from lawft_trl.data.questions import LETTERS

Verdict = Literal["better", "worse", "no evidence"]

_BOOTSTRAP_DRAWS = 10_000
_SIGNIFICANT = 0.05
_MAX_RSTD_RISE = 5.0  # points by which the preference for a letter may grow in a model that is called better
_MIN_LABEL_MASS = 0.95  # below it the model does not know the prompt's form, and its letters mean little


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One question in one order, as one model answered it.

    Attributes:
        id: the question.
        group: its statute group; the bootstrap draws whole groups.
        order: which choice stood at which letter, e.g. `"bcda"`.
        prompt_sha256: hash of the prompt's token ids.
        output: the raw output; `None` when letters were scored.
        letter: the answer, `None` when there was none to be read. `None` is never right.
        letter_logprobs: log-probability of each letter among all tokens; `None` without scores.
        gold: the gold letter in this order.
    """

    id: str
    group: str
    order: str
    prompt_sha256: str
    output: str | None
    letter: str | None
    letter_logprobs: dict[str, float] | None
    gold: str

    @property
    def letter_probs(self) -> dict[str, float] | None:
        """Probability of each letter; they sum to the label mass."""
        if self.letter_logprobs is None:
            return None
        return {letter: math.exp(value) for letter, value in self.letter_logprobs.items()}

    def to_record(self) -> dict[str, Any]:
        """The prediction as a JSON object."""
        return {**asdict(self), "letter_probs": self.letter_probs}


def content_answers(predictions: Sequence[Prediction]) -> dict[str, str | None]:
    """Question id -> the chosen choice, named by its letter in the original order.

    The log-probability of each letter is taken back to the choice that stood there and averaged over the orders. What a
    model adds to a letter's logit everywhere is thereby added to every choice alike, and cancels. Without scores the
    choice named in most orders wins. A draw is no answer.
    """
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for prediction in predictions:
        tally = votes[prediction.id]
        if prediction.letter_logprobs is not None:
            for letter, shown in zip(LETTERS, prediction.order, strict=True):
                tally[shown] += prediction.letter_logprobs[letter]
        elif prediction.letter is not None:
            tally[prediction.order[LETTERS.index(prediction.letter)]] += 1
    answers = {}
    for question, tally in votes.items():
        ranked = tally.most_common(2)
        drawn = len(ranked) == 2 and math.isclose(ranked[0][1], ranked[1][1], rel_tol=1e-9, abs_tol=1e-9)
        answers[question] = ranked[0][0] if ranked and not drawn else None
    return answers


def content_gold(predictions: Sequence[Prediction]) -> dict[str, str]:
    """Question id -> the gold choice, named by its letter in the original order."""
    return {prediction.id: prediction.order[LETTERS.index(prediction.gold)] for prediction in predictions}


def describe_model(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Accuracy with its 95 % Wilson interval, and the signs of a preference for letters.

    Returns:
        `accuracy` and `interval` over questions; `single_order_accuracy` over question and order; `letters` chosen;
        `rstd` (population standard deviation of the recalls per gold letter, in points); `consistency` (share of
        questions with the same choice in every order); `label_mass` (mean probability of any letter; `None` without
        scores); `unparsed` (predictions without an answer).
    """
    answers, gold = content_answers(predictions), content_gold(predictions)
    right = sum(answers[question] == gold[question] for question in gold)
    wilson = binomtest(right, len(gold)).proportion_ci(method="wilson")
    hits, chosen = defaultdict(list), defaultdict(set)
    for prediction in predictions:
        hits[prediction.gold].append(prediction.letter == prediction.gold)
        shown = None if prediction.letter is None else prediction.order[LETTERS.index(prediction.letter)]
        chosen[prediction.id].add(shown)
    masses = [sum(p.letter_probs.values()) for p in predictions if p.letter_probs is not None]
    counts = Counter(prediction.letter for prediction in predictions)
    return {
        "questions": len(gold),
        "correct": right,
        "accuracy": right / len(gold),
        "interval": [float(wilson.low), float(wilson.high)],
        "single_order_accuracy": float(np.mean([hit for found in hits.values() for hit in found])),
        "letters": {letter: counts[letter] for letter in LETTERS},
        "rstd": 100 * float(np.std([np.mean(found) for found in hits.values()])),
        "consistency": float(np.mean([len(shown) == 1 and None not in shown for shown in chosen.values()])),
        "label_mass": float(np.mean(masses)) if masses else None,
        "unparsed": counts[None],
    }


def compare(base: Sequence[Prediction], tuned: Sequence[Prediction], *, seed: int) -> dict[str, Any]:
    """Paired comparison of two models on the same questions.

    Args:
        base: predictions of the first model.
        tuned: predictions of the second, on the same questions, orders and prompts.
        seed: seed of the bootstrap.

    Returns:
        `gained`, `lost` (question ids), `difference` in accuracy, `interval` (95 % percentile bootstrap over groups),
        `p_value` (exact McNemar), `majority_baseline`, `verdict` and `reason`.

    Raises:
        ValueError: when the two were not asked the same.
    """
    asked = [{(p.id, p.order, p.prompt_sha256, p.gold) for p in side} for side in (base, tuned)]
    if asked[0] != asked[1]:
        raise ValueError(f"the two models were not asked the same: {len(asked[0] ^ asked[1])} prompts differ")
    gold, before, after = content_gold(base), content_answers(base), content_answers(tuned)
    change = {question: (after[question] == gold[question]) - (before[question] == gold[question]) for question in gold}
    gained = sorted(question for question, step in change.items() if step > 0)
    lost = sorted(question for question, step in change.items() if step < 0)
    groups = {prediction.id: prediction.group for prediction in base}
    low, high = cluster_interval([change[question] for question in gold], [groups[question] for question in gold], seed)
    result = {
        "gained": gained,
        "lost": lost,
        "difference": sum(change.values()) / len(change),
        "interval": [low, high],
        "p_value": mcnemar(len(gained), len(lost)),
        "majority_baseline": max(Counter(p.gold for p in base if p.order == base[0].order).values()) / len(gold),
    }
    verdict, reason = judge(low, high, result["p_value"], describe_model(base), describe_model(tuned))
    return {**result, "verdict": verdict, "reason": reason}


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact McNemar p-value from the numbers of questions that only one of two models got right."""
    return 1.0 if gained + lost == 0 else float(binomtest(gained, gained + lost, 0.5).pvalue)


def cluster_interval(differences: Sequence[float], clusters: Sequence[str], seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean difference when whole clusters are drawn with replacement.

    Args:
        differences: one number per question.
        clusters: the cluster of each; questions of one cluster are drawn together.
        seed: seed of the draws.
    """
    names = sorted(set(clusters))
    sums = np.array([sum(d for d, c in zip(differences, clusters, strict=True) if c == name) for name in names], float)
    sizes = np.array([clusters.count(name) for name in names], float)
    drawn = np.random.default_rng(seed).integers(len(names), size=(_BOOTSTRAP_DRAWS, len(names)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def judge(low: float, high: float, p_value: float, base: dict[str, Any], tuned: dict[str, Any]) -> tuple[Verdict, str]:
    """The verdict on a difference with the interval `[low, high]`, and why."""
    if low <= 0 <= high:
        return "no evidence", "the interval of the difference contains 0"
    # With few questions or groups the bootstrap has little to draw from and its interval is too narrow.
    if p_value >= _SIGNIFICANT:
        return "no evidence", f"the paired test does not agree with the interval (p = {p_value:.2g})"
    if high < 0:
        return "worse", "the whole interval of the difference is below 0"
    rise = tuned["rstd"] - base["rstd"]
    if rise > _MAX_RSTD_RISE:
        return "no evidence", f"more right answers, but RStd rose by {rise:.1f} points: it prefers letters, not choices"
    mass = tuned["label_mass"]
    if mass is not None and mass < _MIN_LABEL_MASS:
        return "no evidence", f"more right answers, but only {mass:.2f} of the probability is on any letter"
    return "better", "the whole interval of the difference is above 0, without a stronger preference for letters"
