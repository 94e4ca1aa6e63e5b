"""All folds' answers as one evaluation, and what the seeds have to do with it."""

import hashlib
import json
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from lawft_trl.errors import InputError
from lawft_trl.evaluation.diagnosis import TrainEvidence, diagnose, retrieval_figures
from lawft_trl.evaluation.folder import Evaluation
from lawft_trl.evaluation.metrics import (
    Prediction,
    compare,
    content_answers,
    content_gold,
    describe_model,
    judge,
    question_groups,
)
from lawft_trl.evaluation.paired import cluster_interval, sign_flip
from lawft_trl.evaluation.prior import label_prior
from lawft_trl.run_dir import now

_NOTE = (
    "Each question was answered by an adapter that never saw its statute group. The adapters' training sets overlap, so the "
    "folds are not independent of one another: the unit is the question, and the intervals draw statute groups."
)
_SAME_LOGPROB = 1e-3  # of one model in two evaluations, where kernels do not add up in the same order

Pooled = tuple[dict[str, Any], dict[str, list[Prediction]], list[dict[str, Any]]]


def pool_folds(evaluations: Mapping[int, Sequence[Evaluation]], *, name: str, source: Path, seed: int) -> Pooled:
    """Metrics, predictions and questions of all folds together, for `write_evaluation`.

    `models` and `comparison` are of the first seed, which was fixed before anything was trained and is never the best of
    several: a paired test needs one answer per question. With several seeds the figure to quote is `mean` in
    `cross_validation`: whether the recipe helps, and not one draw of it.

    Args:
        evaluations: seed -> the evaluations of its folds, of the same questions for every seed.
        name: what the report calls the cross-validation.
        source: the folder of the data in folds.
        seed: of the bootstrap.

    Returns:
        What `evaluate_run` returns, and `cross_validation`: `folds` (their number), `seeds`, `per_fold` (`seed`, `fold`,
        `questions`, and `base` and `tuned` accuracy), `per_seed` (`seed`, `accuracy`, `difference` to the base,
        `interval`, `p_value`, `verdict`), `spread` (standard deviation of the seeds' accuracies, n - 1) and `mean`, both
        `None` for one seed, and `note`. See `average_seeds` for `mean`.

    Raises:
        ValueError: when a question was not asked exactly once in each order, or not by all seeds alike.
    """
    _require_one_way([fold for of_seed in evaluations.values() for fold in of_seed])
    tuned = {number: _pooled(folds, "tuned") for number, folds in evaluations.items()}
    bases = {number: _pooled(folds, "base") for number, folds in evaluations.items()}
    first, folds = next(iter(evaluations)), next(iter(evaluations.values()))
    base = bases[first]
    description = describe_model(base, seed=seed)
    compared = {number: compare(base, answers, seed=seed) for number, answers in tuned.items()}
    described = {number: describe_model(answers, seed=seed) for number, answers in tuned.items()}
    everything = [fold.metrics for of_seed in evaluations.values() for fold in of_seed]
    warnings = [*dict.fromkeys(text for metrics in everything for text in metrics["warnings"])]
    warnings += _disagreements(bases, compared)
    metrics = {
        **{key: folds[0].metrics[key] for key in ("model", "scorer", "answer", "parser_version", "statutes", "prompt_fingerprint", "rehearsal")},
        "run": name,
        "command": sys.argv,
        "started": now(),
        "models": {"base": description, "tuned": described[first]},
        "comparison": compared[first],
        **_describe_source(folds, source, base),
        "overlap": "; ".join(dict.fromkeys(metrics["overlap"] for metrics in everything)),
        "contaminated": _contaminated(everything),
        "warnings": warnings,
        "seconds": round(sum(metrics["seconds"] for metrics in everything), 1),
        "cross_validation": {
            "folds": len(folds),
            "seeds": list(evaluations),
            "per_fold": [
                {"seed": number, "fold": index, "questions": len(fold.questions)}
                | {model: fold.metrics["models"][model]["accuracy"] for model in ("base", "tuned")}
                for number, of_seed in evaluations.items()
                for index, fold in enumerate(of_seed, start=1)
            ],
            "per_seed": [
                {"seed": number, "accuracy": described[number]["accuracy"]}
                | {key: result[key] for key in ("difference", "interval", "p_value", "verdict")}
                for number, result in compared.items()
            ],
            "spread": statistics.stdev(model["accuracy"] for model in described.values()) if len(described) > 1 else None,
            "mean": average_seeds(base, description, tuned, described, seed=seed) if len(tuned) > 1 else None,
            "note": _NOTE,
        },
    }
    predictions, questions = {"base": base, "tuned": tuned[first]}, {key: record for fold in folds for key, record in fold.questions.items()}
    evidence = TrainEvidence(contaminated=metrics["contaminated"])
    metrics |= {
        "retrieval": retrieval_figures(predictions, questions),
        "label_prior": label_prior(predictions["tuned"]),
        "diagnosis": diagnose(
            metrics["models"], predictions, questions, train=evidence, answer=metrics["answer"], statutes=metrics["statutes"]
        ),
    }
    return metrics, predictions, list(questions.values())


def average_seeds(
    base: Sequence[Prediction],
    base_description: Mapping[str, Any],
    tuned: Mapping[int, Sequence[Prediction]],
    described: Mapping[int, Mapping[str, Any]],
    *,
    seed: int,
) -> dict[str, Any]:
    """What the recipe does on average over its seeds.

    A question counts with the share of the seeds that answer it right, less 1 where the base does. The interval and the
    test are over questions, whole groups at a time; the seeds are few, and are averaged, not drawn.

    Args:
        base: the base model's predictions.
        base_description: `describe_model` of them.
        tuned: seed -> its predictions.
        described: seed -> `describe_model` of them.
        seed: of the bootstrap and the sign flips.

    Returns:
        `accuracy`, `difference`, `interval` (95 %, bootstrap over groups), `p_value` (signs of whole groups flipped),
        `verdict` and `reason` by the rules for one model, with the seeds' mean RStd and label mass; besides, the t interval
        of the seeds' differences (n - 1 degrees of freedom) must exclude 0: another seed would have come out likewise.
    """
    gold, groups = content_gold(base), list(question_groups(base).values())
    before, after = content_answers(base), [content_answers(predictions) for predictions in tuned.values()]
    right = {question: float(np.mean([answers[question] == gold[question] for answers in after])) for question in gold}
    steps = [right[question] - (before[question] == gold[question]) for question in gold]
    low, high = cluster_interval(steps, groups, seed)
    p_value = sign_flip(steps, groups, seed)
    masses = [model["label_mass"] for model in described.values()]
    average = {
        "rstd": float(np.mean([model["rstd"] for model in described.values()])),
        "label_mass": None if None in masses else float(np.mean(masses)),
    }
    verdict, reason = judge(low, high, p_value, dict(base_description), average)
    differences = [model["accuracy"] - base_description["accuracy"] for model in described.values()]
    spread = float(t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / len(differences) ** 0.5
    if verdict != "no evidence" and abs(statistics.mean(differences)) <= spread:
        reason = f"the seeds differ too much for so few of them (95 % t interval over the seeds: ±{100 * spread:.1f} points)"
        verdict = "no evidence"
    return {
        "accuracy": float(np.mean(list(right.values()))),
        "difference": float(np.mean(steps)),
        "interval": [low, high],
        "p_value": p_value,
        "verdict": verdict,
        "reason": reason,
    }


def _require_one_way(folds: Sequence[Evaluation]) -> None:
    """Raises `InputError` unless all folds were asked and read in one way."""
    ways = {}
    for fold in folds:
        orders = sorted({prediction.order for prediction in fold.predictions["tuned"]})
        way = {key: fold.metrics.get(key) for key in ("scorer", "answer", "parser_version", "generation", "statutes", "model", "prompt_fingerprint")}
        ways.setdefault(json.dumps({**way, "orders": orders}, sort_keys=True), fold.path)
    if len(ways) > 1:
        raise InputError(
            f"the folds were not scored in one way: {len(ways)} ways",
            [f"{path}: {way}" for way, path in ways.items()] + [f"score again as the others were: lawft eval FOLD --name {folds[0].path.name} --force"],
        )


def _pooled(folds: Sequence[Evaluation], model: str) -> list[Prediction]:
    """A model's predictions on all folds, each question once in every order."""
    predictions = [prediction for fold in folds for prediction in fold.predictions[model]]
    asked = Counter((prediction.id, prediction.order) for prediction in predictions)
    held_out = Counter(question for fold in folds for question in fold.questions)
    wrong = {question for (question, _), times in asked.items() if times > 1} | {question for question, times in held_out.items() if times > 1}
    wrong |= set(held_out) ^ {question for question, _ in asked}
    if wrong:
        raise ValueError(f"{model}: {len(wrong)} questions were not asked exactly once, e.g. {sorted(wrong)[:3]}")
    return predictions


def _disagreements(bases: Mapping[int, Sequence[Prediction]], compared: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Warnings where the base was not the same in all seeds' evaluations, or the verdict is not."""
    warnings = []
    first = {(p.id, p.order): p for p in next(iter(bases.values()))}
    others = [(first[p.id, p.order], p) for predictions in bases.values() for p in predictions]
    apart = [pair for pair in others if not _same(*pair)]
    if apart:
        warnings.append(
            f"The base model did not answer {len(apart)} prompts as it did beside the first seed's adapters, although it is the "
            "same model; its answers there are the ones reported."
        )
    verdicts = {number: result["verdict"] for number, result in compared.items()}
    if len(set(verdicts.values())) > 1:
        listed = ", ".join(f"{number}: {verdict}" for number, verdict in verdicts.items())
        warnings.append(f"The seeds do not agree ({listed}): read the mean over the seeds, not one of them.")
    return warnings


def _same(one: Prediction, other: Prediction) -> bool:
    if one.letter_logprobs is None or other.letter_logprobs is None:
        return one.outputs == other.outputs
    return all(abs(value - other.letter_logprobs[letter]) < _SAME_LOGPROB for letter, value in one.letter_logprobs.items())


def _describe_source(folds: Sequence[Evaluation], source: Path, base: Sequence[Prediction]) -> dict[str, Any]:
    """Which questions were asked; the hash is of the test files' hashes, fold by fold."""
    questions = {prediction.id for prediction in base}
    hashes = "\n".join(fold.metrics["test_sha256"] for fold in folds)
    return {
        "law_as_of": sorted({day for fold in folds for day in fold.metrics["law_as_of"]}),
        "test_file": str(source),
        "test_sha256": hashlib.sha256(hashes.encode()).hexdigest(),
        "asked": f"{len(questions)} questions in {len(base) / len(questions):g} orders each, out of fold in {len(folds)} folds",
        "groups": len({prediction.group for prediction in base}),
    }


def _contaminated(everything: Sequence[Mapping[str, Any]]) -> str | None:
    touched = sum(bool(metrics["contaminated"]) for metrics in everything)
    if not touched:
        return None
    return (
        f"CONTAMINATED: in {touched} of {len(everything)} evaluations held-out questions are in the training rows "
        "(data.allow_overlap): this is not an out-of-fold result."
    )
