"""Tests and intervals for the difference of two models on the same questions. No torch.

Formulas and sources: docs/evaluation.md.
"""

from collections.abc import Sequence

import numpy as np

_DRAWS = 10_000  # of the bootstrap, and of the sign flips where not all of them are counted
_NUMBERS_AT_ONCE = 2_000_000  # held in memory


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact McNemar p-value from the numbers of questions that only one of two models got right."""
    from scipy.stats import binomtest  # a second to import, which each start of a training would pay

    return 1.0 if gained + lost == 0 else float(binomtest(gained, gained + lost, 0.5).pvalue)


def sign_flip(differences: Sequence[float], clusters: Sequence[str], seed: int) -> float:
    """Two-sided p-value of the mean difference when each cluster's differences may as well have had the other sign.

    All flips are counted where there are no more than 10,000, which is the case up to 13 clusters that differ; else
    10,000 are drawn.

    Args:
        differences: one number per question.
        clusters: the cluster of each; the signs of one cluster are flipped together. Name every question for clusters
            of one.
        seed: seed of the draws.
    """
    sums, _ = _by_cluster(differences, clusters)
    sums = sums[sums != 0]
    if len(sums) < 2:
        return 1.0
    from scipy.stats import permutation_test

    result = permutation_test(
        (sums,),
        lambda flipped, axis: flipped.sum(axis=axis),
        permutation_type="samples",
        n_resamples=_DRAWS,
        vectorized=True,
        batch=max(1, _NUMBERS_AT_ONCE // len(sums)),
        random_state=seed,
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several comparisons in one report, adjusted (Holm 1979): below .05 is significant among them all."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def cluster_interval(values: Sequence[float], clusters: Sequence[str], seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean when whole clusters are drawn with replacement.

    Args:
        values: one number per question, a score or a difference of scores.
        clusters: the cluster of each; questions of one cluster are drawn together.
        seed: seed of the draws.
    """
    sums, sizes = _by_cluster(values, clusters)
    rng, means = np.random.default_rng(seed), []
    at_once = max(1, _NUMBERS_AT_ONCE // len(sums))
    for start in range(0, _DRAWS, at_once):
        drawn = rng.integers(len(sums), size=(min(at_once, _DRAWS - start), len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


def _by_cluster(values: Sequence[float], clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each cluster, clusters in the order of their names."""
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values but {len(clusters)} clusters; every value needs one")
    _, place = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(place, weights=np.asarray(values, float)), np.bincount(place).astype(float)
