"""What predictions prove: accuracy with its interval, and a paired comparison of two models. No torch.

The unit is the question, never question times order: the four orders of a question are not independent. Formulas and
sources: docs/evaluation.md.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lawft_trl.data.questions import LETTERS
from lawft_trl.evaluation.paired import cluster_interval, mcnemar, sign_flip
from lawft_trl.evaluation.power import smallest_detectable
from lawft_trl.evaluation.prior import one_order_hits

Verdict = Literal["better", "worse", "no evidence"]

_SIGNIFICANT = 0.05
_MAX_RSTD_RISE = 5.0  # points by which the preference for a letter may grow in a model that is called better
MIN_LABEL_MASS = 0.95  # below it the model does not know the prompt's form, and its letters mean little


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One question in one order, as one model answered it.

    Attributes:
        id: the question.
        group: its statute group; the bootstrap draws whole groups.
        order: which choice stood at which letter, e.g. `"bcda"`.
        prompt_sha256: hash of the prompt's messages.
        letter: the answer, `None` when there was none to be read. `None` is never right.
        gold: the gold letter in this order.
        letter_logprobs: log-probability of each letter among all tokens; `None` where answers were generated.
        outputs: the raw answers, `()` where letters were scored; of several the letter that most of them give counts.
        cut: how many of `outputs` reached the greatest length.
        unread: how many of `outputs` give no letter.
        known_issue: whether the data's authors doubt the gold answer.
    """

    id: str
    group: str
    order: str
    prompt_sha256: str
    letter: str | None
    gold: str
    letter_logprobs: dict[str, float] | None = None
    outputs: tuple[str, ...] = ()
    cut: int = 0
    unread: int = 0
    known_issue: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether no answer to the prompt has a letter."""
        return self.letter is None and self.unread == len(self.outputs)

    @property
    def letter_probs(self) -> dict[str, float] | None:
        """Probability of each letter; they sum to the label mass."""
        if self.letter_logprobs is None:
            return None
        return {letter: math.exp(value) for letter, value in self.letter_logprobs.items()}

    def to_record(self) -> dict[str, Any]:
        """The prediction as a JSON object."""
        return {**asdict(self), "letter_probs": self.letter_probs}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Prediction":
        """The prediction of such an object."""
        values = {key: value for key, value in record.items() if key != "letter_probs"}
        return cls(**{**values, "outputs": tuple(values["outputs"])})


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


def describe_model(predictions: Sequence[Prediction], *, seed: int = 0) -> dict[str, Any]:
    """Accuracy with its 95 % intervals, and the signs of a preference for letters.

    Args:
        predictions: of one model.
        seed: seed of the bootstrap.

    Returns:
        `accuracy` and `interval` (Wilson) over questions, `group_interval` (bootstrap over groups); `single_order_accuracy` over question and order, with
        `single_order_interval` (bootstrap over groups); `all_orders_correct` (share of questions that are right in
        every order asked: CircularEval); `letters` chosen; what `letter_scores` returns; `consistency` (share of
        questions with the same choice in every order); `label_mass` (mean probability of any letter; `None` without
        scores); `unparsed` (predictions none of whose answers has a letter) and `ties` (no letter leads); `without_known_issues` (`questions`, `correct`, `accuracy`
        and `interval` of the others where the gold answer of some is in doubt, else `None`); `one_order` (the same
        figures of each question in its own order alone: `as_asked`, and `debiased` of the prior for letters that the
        other groups' questions show; `None` unless letters were scored in four orders).
    """
    answers, gold = content_answers(predictions), content_gold(predictions)
    chosen = defaultdict(set)
    for prediction in predictions:
        shown = None if prediction.letter is None else prediction.order[LETTERS.index(prediction.letter)]
        chosen[prediction.id].add(shown)
    scores, groups = question_scores(predictions), question_groups(predictions)
    masses = [sum(p.letter_probs.values()) for p in predictions if p.letter_probs is not None]
    counts = Counter(prediction.letter for prediction in predictions)
    right = {question: answers[question] == gold[question] for question in gold}
    doubtful = {prediction.id for prediction in predictions if prediction.known_issue}
    sound = [hit for question, hit in right.items() if question not in doubtful]
    own = one_order_hits(predictions)
    return {
        **share_right(list(right.values())),
        "group_interval": list(cluster_interval([float(hit) for hit in right.values()], [groups[question] for question in right], seed)),
        "single_order_accuracy": float(np.mean([prediction.letter == prediction.gold for prediction in predictions])),
        "single_order_interval": list(cluster_interval(list(scores.values()), list(groups.values()), seed)),
        "all_orders_correct": float(np.mean([score == 1 for score in scores.values()])),
        "letters": {letter: counts[letter] for letter in LETTERS},
        **letter_scores(predictions),
        "consistency": float(np.mean([len(shown) == 1 and None not in shown for shown in chosen.values()])),
        "label_mass": float(np.mean(masses)) if masses else None,
        "unparsed": sum(prediction.is_silent for prediction in predictions),
        "ties": sum(prediction.letter is None and not prediction.is_silent for prediction in predictions),
        "without_known_issues": share_right(sound) if doubtful and sound else None,
        "one_order": dict(zip(("as_asked", "debiased"), map(share_right, own), strict=True)) if own else None,
    }


def share_right(hits: Sequence[bool]) -> dict[str, Any]:
    """`questions`, `correct`, `accuracy` and its 95 % Wilson `interval`."""
    from scipy.stats import binomtest  # a second to import, which each start of a training would pay

    wilson = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    return {
        "questions": len(hits),
        "correct": sum(hits),
        "accuracy": sum(hits) / len(hits),
        "interval": [float(wilson.low), float(wilson.high)],
    }


def letter_scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """How letters were taken for each other, per prompt: a question counts once for each order it was asked in.

    Returns:
        `confusion` (gold letter -> chosen letter -> prompts; a prompt without an answer stands in no column);
        `balanced_accuracy` (mean recall of the letters that occur as gold); `macro_f1` (mean F1 of the letters that
        occur as gold or as answer); `rstd` (population standard deviation of the recalls, in points). A prompt without
        an answer counts against the recall of its gold letter.
    """
    pairs = Counter((prediction.gold, prediction.letter) for prediction in predictions)
    asked, given = Counter(p.gold for p in predictions), Counter(p.letter for p in predictions)
    recalls = [pairs[letter, letter] / asked[letter] for letter in LETTERS if asked[letter]]
    # F1 = 2 · hits / (gold + chosen), from precision and recall
    f1 = [2 * pairs[letter, letter] / (asked[letter] + given[letter]) for letter in LETTERS if asked[letter] + given[letter]]
    return {
        "confusion": {gold: {letter: pairs[gold, letter] for letter in LETTERS} for gold in LETTERS},
        "balanced_accuracy": float(np.mean(recalls)),
        "macro_f1": float(np.mean(f1)),
        "rstd": 100 * float(np.std(recalls)),
    }


def question_scores(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Question id -> share of the orders it was asked in that were answered right."""
    hits = defaultdict(list)
    for prediction in predictions:
        hits[prediction.id].append(prediction.letter == prediction.gold)
    return {question: sum(found) / len(found) for question, found in hits.items()}


def question_groups(predictions: Sequence[Prediction]) -> dict[str, str]:
    """Question id -> its statute group."""
    return {prediction.id: prediction.group for prediction in predictions}


def compare(base: Sequence[Prediction], tuned: Sequence[Prediction], *, seed: int) -> dict[str, Any]:
    """Paired comparison of two models on the same questions.

    Args:
        base: predictions of the first model.
        tuned: predictions of the second, on the same questions, orders and prompts.
        seed: seed of the bootstrap.

    Returns:
        `gained`, `lost` (question ids), `difference` in accuracy, `interval` (95 % percentile bootstrap over groups),
        `p_value` (exact McNemar), `group_p_value` (signs of whole groups flipped), `discordance` (share of questions that only one got right) and `smallest_detectable`
        (the difference that so many questions show with 80 % power at that discordance; `None` where there is none),
        `single_order` (`difference` of the mean over orders, its bootstrap `interval` and the `p_value` of flipping the
        signs of whole groups), `majority_baseline`, `verdict` and `reason`.

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
    groups = list(question_groups(base).values())
    low, high = cluster_interval([change[question] for question in gold], groups, seed)
    discordance = (len(gained) + len(lost)) / len(gold)
    result = {
        "gained": gained,
        "lost": lost,
        "difference": sum(change.values()) / len(change),
        "interval": [low, high],
        "p_value": mcnemar(len(gained), len(lost)),
        "group_p_value": sign_flip([change[question] for question in gold], groups, seed),
        "discordance": discordance,
        "smallest_detectable": smallest_detectable(len(gold), discordance),
        "single_order": _compare_orders(base, tuned, groups, seed),
        "majority_baseline": max(Counter(p.gold for p in base if p.order == base[0].order).values()) / len(gold),
    }
    verdict, reason = judge(low, high, max(result["p_value"], result["group_p_value"]), describe_model(base), describe_model(tuned))
    return {**result, "verdict": verdict, "reason": reason}


def _compare_orders(base: Sequence[Prediction], tuned: Sequence[Prediction], groups: Sequence[str], seed: int) -> dict[str, Any]:
    before, after = question_scores(base), question_scores(tuned)
    steps = [after[question] - before[question] for question in before]
    return {
        "difference": float(np.mean(steps)),
        "interval": list(cluster_interval(steps, groups, seed)),
        "p_value": sign_flip(steps, groups, seed),
    }


def judge(low: float, high: float, p_value: float, base: dict[str, Any], tuned: dict[str, Any]) -> tuple[Verdict, str]:
    """The verdict on a difference with the interval `[low, high]`, and why; `p_value` is the highest of the tests'."""
    if low <= 0 <= high:
        return "no evidence", "the interval of the difference contains 0"
    # With few groups the bootstrap has little to draw from and its interval is too narrow; one group gives it no width.
    if p_value >= _SIGNIFICANT:
        return "no evidence", f"the paired tests do not both agree with the interval (p = {p_value:.2g})"
    if high < 0:
        return "worse", "the whole interval of the difference is below 0"
    rise = tuned["rstd"] - base["rstd"]
    if rise > _MAX_RSTD_RISE:
        return "no evidence", f"more right answers, but RStd rose by {rise:.1f} points: it prefers letters, not choices"
    mass = tuned["label_mass"]
    if mass is not None and mass < MIN_LABEL_MASS:
        return "no evidence", f"more right answers, but only {mass:.2f} of the probability is on any letter"
    return "better", "the whole interval of the difference is above 0, without a stronger preference for letters"
