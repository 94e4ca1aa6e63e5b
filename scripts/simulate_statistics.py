"""How far the evaluation's statistics hold: simulated sets of questions, whose truth is known. About a minute.

    python scripts/simulate_statistics.py

The figures stand in docs/evaluation.md; tests/test_metrics.py repeats part of it.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the script also runs where the package is not installed

from lawft_trl.evaluation.paired import mcnemar

DRAWS = 10_000
SETS = 2_000
GROUPS = (1, 1, 2, 4)  # questions of a group, in turn
TRUTH = 0.1


def simulated(rng, groups, *, gain=0.0, changed=0.25, alike=0.0, sizes=(1,)):
    """Differences (questions, SETS) of paired answers, and the cluster of each question.

    A question changes with probability `changed`, to the better by `gain` more often than to the worse; with
    probability `alike` it does as the first of its cluster does.
    """
    clusters = np.repeat(np.arange(groups), np.resize(sizes, groups))
    shape = (len(clusters), SETS)
    own = rng.choice([1, -1, 0], size=shape, p=[(changed + gain) / 2, (changed - gain) / 2, 1 - changed])
    first = own[np.searchsorted(clusters, clusters)]
    return np.where(rng.random(shape) < alike, first, own).astype(float), clusters


def by_cluster(values, clusters):
    return np.add.reduceat(values, np.searchsorted(clusters, np.unique(clusters)), axis=0)


def bootstrap_bounds(values, clusters, seed):
    """`cluster_interval` of every column, from the same draws for all."""
    sums, sizes = by_cluster(values, clusters), np.bincount(clusters)
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(DRAWS, len(sizes)))
    times = np.zeros((DRAWS, len(sizes)))
    np.add.at(times, (np.arange(DRAWS)[:, None], drawn), 1)
    means = (times @ sums) / (times @ sizes)[:, None]
    return np.quantile(means, [0.025, 0.975], axis=0)


def flip_p_values(sums):
    """`sign_flip` of every column, from the same 10,000 flips for all."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(DRAWS, len(sums)))
    return (1 + (np.abs(signs @ sums) >= np.abs(sums.sum(axis=0)) - 1e-9).sum(axis=0)) / (DRAWS + 1)


def false_positives(values) -> float:
    """How often exact McNemar finds p < .05 in the columns."""
    gained, lost = (values > 0).sum(axis=0), (values < 0).sum(axis=0)
    return float(np.mean([mcnemar(int(g), int(missed)) < 0.05 for g, missed in zip(gained, lost, strict=True)]))


def main() -> None:
    print("95 % interval of the bootstrap contains the truth, 8,000 sets each")
    for groups, sizes in ((140, (1,)), (100, GROUPS), (40, (1,)), (27, (1,)), (20, GROUPS), (12, GROUPS)):
        found = []
        for seed in range(4):
            values, clusters = simulated(np.random.default_rng(seed), groups, gain=TRUTH, alike=0.6 * (sizes == GROUPS), sizes=sizes)
            low, high = bootstrap_bounds(values, clusters, seed=0)
            found.append(np.mean((low <= TRUTH) & (high >= TRUTH)))
        print(f"{groups:4} groups of {'1 to 4' if sizes == GROUPS else 'one'}: {100 * np.mean(found):.1f} %")
    print("no true difference, p < .05 or an interval without 0")
    for questions in (27, 40, 140):
        rates = [false_positives(simulated(np.random.default_rng(seed), questions)[0]) for seed in range(3)]
        print(f"{questions:4} independent questions, McNemar: {100 * np.mean(rates):.1f} %")
    rates = {"McNemar": [], "sign flip of groups": [], "bootstrap of groups": []}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        steps = [simulated(rng, 100, alike=0.6, sizes=GROUPS) for _ in range(4)]
        values, clusters = sum(step for step, _ in steps) / 4, steps[0][1]
        low, high = bootstrap_bounds(values, clusters, seed=0)
        rates["McNemar"].append(false_positives(steps[0][0]))
        rates["sign flip of groups"].append(np.mean(flip_p_values(by_cluster(values, clusters)) < 0.05))
        rates["bootstrap of groups"].append(np.mean((low > 0) | (high < 0)))
    for name, found in rates.items():
        print(f" 100 groups of 1 to 4, {name}: {100 * np.mean(found):.1f} %")


if __name__ == "__main__":
    main()
