"""Whether the style metric ranks replies as people do. No torch."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import bootstrap, kendalltau, spearmanr

from lawft_trl.errors import InputError
from lawft_trl.evaluation.style import SOCRATIC, StylePatterns, score_reply
from lawft_trl.evaluation.style_files import Rating

MIN_REPLIES = 10  # with fewer the interval covers nearly everything
_DRAWS = 2000


def agree(ratings: Sequence[Rating], patterns: StylePatterns = SOCRATIC, *, seed: int = 0) -> dict[str, Any]:
    """Rank correlation of the replies' scores with their mean ratings.

    Args:
        ratings: of one file; several of one reply are averaged, so that the reply is the unit.
        patterns: what the metric looks for.
        seed: seed of the bootstrap.

    Returns:
        `replies`, `ratings` and `raters`; `spearman` and `kendall` (tau-b), each `[value, low, high]` with the 95 % percentile
        interval of 2,000 draws of replies; `undefined`, the share of draws left out because all their scores, or ratings, were equal.

    Raises:
        InputError: for fewer than 10 replies, and where all are rated, or score, the same.
    """
    by_reply: dict[str, list[Rating]] = {}
    for rating in ratings:
        by_reply.setdefault(rating.id, []).append(rating)
    rated = np.array([np.mean([rating.rating for rating in given]) for given in by_reply.values()])
    scores = np.array([score_reply(given[0].reply, patterns) for given in by_reply.values()])
    problems = []
    if len(by_reply) < MIN_REPLIES:
        problems.append(f"{len(by_reply)} replies are rated; at least {MIN_REPLIES} are needed, and some 50 for an interval that says something")
    problems += [
        f"all replies {what} {values[0]:g}, so that there is no order to compare; {mend}"
        for what, values, mend in (("are rated", rated, "rate replies that differ"), ("score", scores, "take replies of the base model and of the tuned one"))
        if len(values) and np.ptp(values) == 0
    ]
    if problems:
        raise InputError("the ratings and the scores cannot be compared", problems)
    correlations = {name: _with_interval(statistic, scores, rated, seed) for name, statistic in (("spearman", spearmanr), ("kendall", kendalltau))}
    return {
        "replies": len(by_reply),
        "ratings": len(ratings),
        "raters": len({rating.rater for rating in ratings}),
        **{name: found[:3] for name, found in correlations.items()},
        "undefined": correlations["spearman"][3],
    }


def _with_interval(statistic: Callable, scores: np.ndarray, rated: np.ndarray, seed: int) -> list[float]:
    """The correlation, the ends of its interval, and the share of draws in which it is not defined."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # draws in which all scores are equal: they are counted below
        draws = bootstrap(
            (scores, rated),
            lambda one, other: statistic(one, other).statistic,
            paired=True,
            vectorized=False,
            n_resamples=_DRAWS,
            method="percentile",
            random_state=seed,
        ).bootstrap_distribution
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return [float(statistic(scores, rated).statistic), float(low), float(high), float(np.isnan(draws).mean())]
