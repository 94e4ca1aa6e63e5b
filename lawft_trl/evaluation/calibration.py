"""Does a model know when it is right? Confidence beside accuracy, from scored letters. No torch."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from lawft_trl.data.questions import LETTERS
from lawft_trl.evaluation.metrics import Prediction, content_answers, content_gold, share_right

_BINS = 5


def calibrate(predictions: Sequence[Prediction], *, bins: int = _BINS) -> dict[str, Any] | None:
    """Confidence and accuracy in bins of equally many questions, and their expected calibration error.

    The confidence of a question is the greatest softmax of the log-probabilities that its four choices have on average
    over the orders: what of the four letters' probability is on the choice the model answers with. Probability on other
    tokens does not count. Bins hold equally many questions, because bins of equal width are nearly empty for a small set
    (Nixon et al. 2019, "Measuring calibration in deep learning", adaptive calibration error).

    Args:
        predictions: of one model.
        bins: how many; fewer where there are fewer questions.

    Returns:
        `bins`, from low to high confidence, each with `questions`, mean `confidence`, `accuracy` and its 95 % Wilson
        `interval`; and `ece`, the mean over questions of |accuracy - confidence| of their bin (Guo et al. 2017, "On
        calibration of modern neural networks"). `None` where letters were not scored.
    """
    scores: dict[str, list[list[float]]] = defaultdict(list)
    for prediction in predictions:
        if prediction.letter_logprobs is None:
            return None
        by_choice = {shown: prediction.letter_logprobs[at] for at, shown in zip(LETTERS, prediction.order, strict=True)}
        scores[prediction.id].append([by_choice[choice] for choice in LETTERS])
    if not scores:
        return None
    answers, gold = content_answers(predictions), content_gold(predictions)
    confidence = np.array([_softmax(np.mean(orders, axis=0)).max() for orders in scores.values()])
    right = np.array([answers[question] == gold[question] for question in scores])
    ranked = np.argsort(confidence, kind="stable")
    parts = np.array_split(ranked, min(bins, len(ranked)))
    described = [_describe(confidence[part], right[part]) for part in parts]
    gaps = [one["questions"] * abs(one["accuracy"] - one["confidence"]) for one in described]
    return {"bins": described, "ece": sum(gaps) / len(ranked)}


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def _describe(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    return {"confidence": float(confidence.mean()), **share_right(right.tolist())}
