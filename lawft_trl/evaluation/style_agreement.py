"""Whether the style metric ranks replies as people do. No torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import kendalltau, rankdata, spearmanr

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
    drawn = np.random.default_rng(seed).integers(len(scores), size=(_DRAWS, len(scores)))
    draws = {"spearman": spearman_of_draws(scores, rated, drawn), "kendall": kendall_of_draws(scores, rated, drawn)}
    values = {"spearman": spearmanr(scores, rated).statistic, "kendall": kendalltau(scores, rated).statistic}
    return {
        "replies": len(by_reply),
        "ratings": len(ratings),
        "raters": len({rating.rater for rating in ratings}),
        **{name: [float(values[name]), *map(float, np.nanquantile(draws[name], [0.025, 0.975]))] for name in draws},
        "undefined": float(np.isnan(draws["spearman"]).mean()),
    }


def spearman_of_draws(one: np.ndarray, other: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Spearman's rho of every draw, `(draws,)`; nan where all values of a draw are equal.

    Args:
        one: a value for every item, `(items,)`.
        other: the other value.
        drawn: the items of every draw, `(draws, items)`.
    """
    ranks = [rankdata(values[drawn], axis=1) for values in (one, other)]
    first, second = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    return _share((first * second).sum(axis=1), (first**2).sum(axis=1), (second**2).sum(axis=1))


def kendall_of_draws(one: np.ndarray, other: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of every draw; arguments and nan as above. Pairs are weighed by how often a draw holds their items."""
    weights = np.stack([np.bincount(items, minlength=len(one)) for items in drawn]).astype(float)
    signs = [np.sign(values[:, None] - values[None, :]) for values in (one, other)]
    products = (signs[0] * signs[1], np.abs(signs[0]), np.abs(signs[1]))
    return _share(*(((weights @ product) * weights).sum(axis=1) for product in products))


def _share(both: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((first > 0) & (second > 0), both / np.sqrt(first * second), np.nan)
