"""Power of the exact McNemar test: what so many questions can show. No torch.

Formulas: docs/evaluation.md.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np


def mcnemar_power(n: int, difference: float, discordance: float, *, alpha: float = 0.05) -> float:
    """Probability that the two-sided exact McNemar test finds p < `alpha`.

    Args:
        n: questions, independent of each other.
        difference: of the two models' accuracies, as a share; with 0 the result is the test's false-positive rate.
        discordance: share of questions that only one of the two gets right, at least `difference`.
        alpha: level of the test.

    Raises:
        ValueError: for shares that cannot be.
    """
    if n < 1 or not abs(difference) <= discordance <= 1:
        raise ValueError(f"n = {n}, difference {difference} and discordance {discordance}: need n >= 1 and |difference| <= discordance <= 1")
    if discordance == 0:
        return 0.0
    from scipy.stats import binom  # a second to import, which each start of a training would pay

    discordant = np.arange(n + 1)
    # The test rejects when the smaller of gained and lost is at most this: the largest k with 2 P(X <= k) < alpha.
    critical = binom.ppf(alpha / 2, discordant, 0.5) - 1
    gain = (discordance + difference) / (2 * discordance)  # P(gained | discordant)
    rejected = binom.cdf(critical, discordant, gain) + binom.cdf(critical, discordant, 1 - gain)
    return float(np.sum(binom.pmf(discordant, n, discordance) * rejected))


def smallest_detectable(n: int, discordance: float, *, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """The smallest difference in accuracy that the exact McNemar test finds with probability `power`.

    Args:
        n: questions, independent of each other.
        discordance: share of questions that only one of the two models gets right.
        power: the probability asked for, between `alpha` and 1.
        alpha: level of the test.

    Returns:
        A share; `None` where not even the largest possible difference, `discordance`, is found so often.
    """
    from scipy.optimize import brentq

    if mcnemar_power(n, discordance, discordance, alpha=alpha) < power:
        return None
    return float(brentq(lambda difference: mcnemar_power(n, difference, discordance, alpha=alpha) - power, 0, discordance))


def effective_questions(clusters: Sequence[str], correlation: float) -> float:
    """How many independent questions clustered ones are worth: n / (1 + (m - 1) · correlation).

    Here m = Σ size² / Σ size, the mean size of the cluster that a question stands in (Kish's design effect).

    Args:
        clusters: the cluster of each question.
        correlation: of the results within a cluster; 1 means that a cluster's questions stand or fall together.
    """
    sizes = Counter(clusters).values()
    mean_size = sum(size * size for size in sizes) / len(clusters)
    return len(clusters) / (1 + (mean_size - 1) * correlation)
