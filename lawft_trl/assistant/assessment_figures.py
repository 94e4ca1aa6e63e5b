"""Figures and paired comparisons of scored answers. The unit is the pair; what is resampled and flipped are whole groups."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lawft_trl.assistant.answer_scores import INVENTED, METRICS
from lawft_trl.data.legal_citations import UNVERIFIED, VERIFIED

Scored = Mapping[str, Any]  # a line of predictions.jsonl
HEADLINE = next(iter(METRICS))


def describe_answers(answers: Sequence[Scored], *, seed: int) -> dict[str, Any]:
    """Means of one model's answers under one strategy; failed ones are counted and left out of the rest.

    Returns:
        `pairs`, `failed`, `empty`, `cut`, `unmarked` (thinking that did not mark its answer), `scores` (metric -> `mean` and
        `interval`), `kinds` (kind -> `pairs`, `mean`, `interval` of the first metric), `precision`, `recall`, counts of the
        cited articles by status, `forbidden`, `predictions`, `same` (share of answers that repeat another's), `length` (against the
        gold's, 1 is equal), `characters`, `seconds`, `completion_tokens`.
    """
    asked = [answer for answer in answers if not answer["failed"]]
    statuses = Counter(cited["status"] for answer in asked for cited in answer["citations"])
    tokens = [answer["completion_tokens"] for answer in asked if answer["completion_tokens"] is not None]
    by_kind: dict[str, list[Scored]] = {}
    for answer in asked:
        by_kind.setdefault(answer["kind"], []).append(answer)
    return {
        "pairs": len(asked),
        "failed": len(answers) - len(asked),
        "empty": sum(not answer["answer"].strip() for answer in asked),
        "cut": sum(answer["cut"] for answer in asked),
        "unmarked": sum(not answer["marked"] for answer in asked),
        "scores": {metric: _mean(asked, metric, seed) for metric in METRICS},
        "kinds": {kind: {"pairs": len(found), **_mean(found, HEADLINE, seed)} for kind, found in by_kind.items()},
        "precision": _share([answer["precision"] for answer in asked]),
        "recall": _share([answer["recall"] for answer in asked]),
        "cited": {"verified": statuses[VERIFIED], "unverified": statuses[UNVERIFIED], "invented": statuses[INVENTED]},
        "unclear_citations": sum(answer["unclear_citations"] for answer in asked),
        "forbidden": sum(bool(answer["forbidden"]) for answer in asked),
        "predictions": sum(bool(answer["predictions"]) for answer in asked),
        "same": 1 - len({" ".join(answer["answer"].split()) for answer in asked}) / len(asked) if asked else None,
        "length": _share([answer["style_parts"]["length"] for answer in asked]),
        "characters": _share([len(answer["answer"]) for answer in asked]),
        "seconds": _share([answer["seconds"] for answer in asked]),
        "completion_tokens": _share(tokens) if len(tokens) == len(asked) else None,
    }


def _mean(answers: Sequence[Scored], metric: str, seed: int) -> dict[str, Any]:
    from lawft_trl.evaluation.paired import cluster_interval

    values = [answer["scores"][metric] for answer in answers]
    if not values:
        return {"mean": None, "interval": None}
    return {"mean": _share(values), "interval": list(cluster_interval(values, [answer["group"] for answer in answers], seed))}


def _share(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def compare_answers(first: Sequence[Scored], second: Sequence[Scored], *, seed: int) -> list[dict[str, Any]]:
    """The change of every metric from one set of answers to another to the same pairs.

    Returns:
        For each metric `difference` (second minus first), `interval` (95 %, bootstrap over groups), `p_value` (signs of whole groups
        flipped), `rose`, `fell` and `same` (numbers of pairs), `pairs`, `groups`, `left_out` (pairs that failed in either).
    """
    from lawft_trl.evaluation.paired import cluster_interval, sign_flip

    before, after = ({answer["id"]: answer for answer in side} for side in (first, second))
    shared = [name for name in before if name in after]
    usable = [name for name in shared if not before[name]["failed"] and not after[name]["failed"]]
    groups = [before[name]["group"] for name in usable]
    found = []
    for metric in METRICS:
        changes = [after[name]["scores"][metric] - before[name]["scores"][metric] for name in usable]
        found.append(
            {
                "metric": metric,
                "difference": _share(changes),
                "interval": list(cluster_interval(changes, groups, seed)) if changes else None,
                "p_value": sign_flip(changes, groups, seed) if changes else 1.0,
                "rose": sum(change > 0 for change in changes),
                "fell": sum(change < 0 for change in changes),
                "same": sum(change == 0 for change in changes),
                "pairs": len(usable),
                "groups": len(set(groups)),
                "left_out": len(shared) - len(usable),
            }
        )
    return found


def add_verdicts(comparisons: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The comparisons of one table with `holm_p_value`, `verdict` and `reason`; the more are made, the more each has to show."""
    from lawft_trl.evaluation.paired import holm
    from lawft_trl.evaluation.style_comparison import judge_style

    judged = []
    for comparison, adjusted in zip(comparisons, holm([each["p_value"] for each in comparisons]), strict=True):
        verdict, reason = "no evidence", "no pair could be compared"
        if comparison["interval"]:
            verdict, reason = judge_style(*comparison["interval"], adjusted)
        if comparison["interval"] == [0.0, 0.0]:
            reason = "no pair differs"
        judged.append({**comparison, "holm_p_value": adjusted, "verdict": verdict, "reason": reason})
    return judged


def find_signs(sides: Mapping[str, Mapping[str, Any]], comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Signs that one strategy's figures are worth less than they seem; they change no verdict.

    Args:
        sides: `"base"` and `"tuned"` -> `describe_answers`.
        comparisons: of this strategy, with verdicts.

    Returns:
        `name` and `says` of each.
    """
    base, tuned = sides["base"], sides["tuned"]
    if not base["pairs"] or not tuned["pairs"]:
        return []
    verdicts = {each["metric"]: each["verdict"] for each in comparisons}
    manner = [metric for metric in ("style", "relevance") if verdicts[metric] == "better"]
    invented = [side["cited"]["invented"] for side in (base, tuned)]
    signs = (
        (manner and verdicts[HEADLINE] != "better", "manner without substance", f"{' and '.join(manner)} rose, and no rise of {HEADLINE} is shown: the answers sound more like the pairs' and say no more"),
        (tuned["same"] > base["same"] + 0.2 or tuned["same"] > 0.5, "one answer for all", f"answers that repeat another's: {tuned['same']:.0%} (base {base['same']:.0%})"),
        (tuned["length"] < 0.5, "another length", f"the shorter of answer and gold has {tuned['length']:.0%} of the longer's characters on average (base {base['length']:.0%})"),
        (invented[1] > invented[0], "invented articles", f"cited articles that do not exist: {invented[1]} (base {invented[0]}): a model that learned to cite cites what is not there as well"),
    )
    return [{"name": name, "says": says} for found, name, says in signs if found]


def what_it_can_show(groups: Sequence[str], comparisons: int) -> dict[str, Any]:
    """What so many pairs in so many groups can show at all.

    Args:
        groups: of each pair.
        comparisons: that a table holds, for which Holm adjusts.

    Returns:
        `pairs`, `groups`, `smallest_p` (of the sign-flip test, when every group changes the same way), `smallest_holm_p` (the same
        adjusted), `detectable` (the smallest difference in a yes-or-no metric found in 8 of 10 repetitions when half of the pairs
        differ, before any adjustment; `None` where not even one of 50 points is), and `too_few` (no verdict can come of it).
    """
    from lawft_trl.evaluation.power import smallest_detectable

    distinct = len(set(groups))
    detectable = smallest_detectable(distinct, 0.5) if distinct else None
    smallest = min(1.0, 2.0 ** (1 - distinct))
    adjusted = min(1.0, smallest * comparisons)
    return {"pairs": len(groups), "groups": distinct, "smallest_p": smallest, "smallest_holm_p": adjusted, "detectable": detectable, "too_few": adjusted >= 0.05}
