"""`lawft compare`: the models of several evaluations, paired with the first of them. No torch.

Two models are compared where they were asked the same: the same questions, in the same orders, by the same messages. How their
answers were read may differ (letters scored, or generated and parsed) and is then said. Prompts that differ on purpose, as on the
ladder from no statutes to the gold ones, are compared by question with `across_prompts`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.evaluation.folder import Evaluation, read_evaluation
from lawft_trl.evaluation.metrics import (
    Prediction,
    compare,
    content_answers,
    content_gold,
    describe_model,
    judge,
    question_groups,
)
from lawft_trl.evaluation.paired import holm

SEED = 0  # of the bootstrap; the recipes' default of evaluation.seed
_REHEARSAL = "REHEARSAL"  # what its sentences begin with
_NAMED = 5  # ids that a message names of many
# What may explain that two evaluations asked differently, as their metrics name it.
_EXPLAINS = ("statutes", "answer", "scorer", "parser_version", "model", "prompt_fingerprint", "law_as_of", "test_file", "test_sha256")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One model of one evaluation.

    Attributes:
        name: the evaluation as the user named it, and the model: `runs/direct_norag:tuned`.
        model: which of the evaluation's models.
        evaluation: where it stands.
        predictions: the model's, those that are compared.
    """

    name: str
    model: str
    evaluation: Evaluation
    predictions: list[Prediction]


def read_side(name: str, model: str | None = None) -> Side:
    """The model that `PATH` or `PATH:MODEL` names.

    Args:
        name: a run with one evaluation, an evaluation folder or one of a cross-validation; behind a colon the model.
        model: the model where `name` says none; without it `tuned`, or the only one there is.

    Raises:
        InputError: when there is no such evaluation or it has no such model.
    """
    path, colon, picked = name.rpartition(":")
    if not colon or Path(name).exists():
        path, picked = name, ""
    evaluation = read_evaluation(Path(path))
    there = list(evaluation.predictions)
    wanted = picked or model or (there[0] if len(there) == 1 else "tuned")
    if wanted not in there:
        known = ", ".join(f"{path}:{other}" for other in there)
        raise InputError(f"{evaluation.path}: no model {wanted!r} there; there is {known}")
    if unknown := {prediction.id for prediction in evaluation.predictions[wanted]} - evaluation.questions.keys():
        raise InputError(f"{evaluation.path}: {len(unknown)} questions of predictions.jsonl are not in questions.jsonl: {_some(unknown)}")
    return Side(name=f"{path}:{wanted}", model=wanted, evaluation=evaluation, predictions=evaluation.predictions[wanted])


def compare_evaluations(
    names: Sequence[str], *, model: str | None = None, across_prompts: bool = False, seed: int = SEED
) -> dict[str, Any]:
    """Compares every model with the first.

    Args:
        names: two or more of what `read_side` takes; the first is the reference.
        model: see `read_side`.
        across_prompts: pair by question where the prompts differ, on the orders that all were asked in.
        seed: of the bootstrap.

    Returns:
        `contaminated` and `rehearsal` (sentences, one per evaluation that is), `warnings`, `notes` (what differs though
        it is compared), `questions`, `groups`, `orders`, `sides` (one per name: `name`, `path`, `model` and `figures` of
        `describe_model`; all but the first with `comparison`: what `metrics.compare` returns, with `holm_p_value`, the
        larger of McNemar's and the groups' p adjusted for all comparisons made here, by which the verdict is made, and `changed`, the gained and lost
        questions with their texts).

    Raises:
        InputError: when they cannot be compared; every difference is named.
    """
    if len(names) < 2:
        raise InputError("name at least two evaluations to compare; two models of one are PATH:base and PATH:tuned")
    sides = _read_sides(names, model)
    _refuse_different(sides, across_prompts)
    notes = _notes(sides)
    if across_prompts:
        sides = _align(sides)
    first, *others = sides
    figures = [describe_model(side.predictions, seed=seed) for side in sides]
    found = [compare(first.predictions, side.predictions, seed=seed) for side in others]
    # The larger of the two: McNemar's takes questions for independent, the sign flip of whole groups does not
    adjusted = holm([max(result["p_value"], result["group_p_value"]) for result in found])
    comparisons = []
    for side, result, p_value, described in zip(others, found, adjusted, figures[1:], strict=True):
        verdict, reason = judge(*result["interval"], p_value, figures[0], described)
        changed = {kind: _texts(result[kind], first, side) for kind in ("gained", "lost")}
        comparisons.append({**result, "holm_p_value": p_value, "verdict": verdict, "reason": reason, "changed": changed})
    evaluations = {side.evaluation.path: side.evaluation.metrics for side in sides}
    return {
        "contaminated": [f"{metrics['contaminated']} ({path})" for path, metrics in evaluations.items() if metrics.get("contaminated")],
        "rehearsal": [f"{_REHEARSAL}: the figures and the verdict mean nothing ({path})" for path, metrics in evaluations.items() if metrics.get("rehearsal")],
        "warnings": [f"{text} ({path})" for path, metrics in evaluations.items() for text in _warnings(metrics)],
        "notes": notes,
        "questions": figures[0]["questions"],
        "groups": len(set(question_groups(first.predictions).values())),
        "orders": sorted({prediction.order for prediction in first.predictions}),
        "sides": [
            {"name": side.name, "path": str(side.evaluation.path), "model": side.model, "asked": _asked(side), "figures": described}
            | ({"comparison": result} if result else {})
            for side, described, result in zip(sides, figures, [None, *comparisons], strict=True)
        ],
    }


def gate_failures(result: Mapping[str, Any]) -> list[str]:
    """Why the models do not pass: contaminated, rehearsed, or not better than the first; empty when all pass.

    Args:
        result: what `compare_evaluations` returned.
    """
    verdicts = [(side["name"], side["comparison"]) for side in result["sides"][1:]]
    return [
        *result["contaminated"],
        *result["rehearsal"],
        *(f"{name}: {found['verdict']} ({found['reason']})" for name, found in verdicts if found["verdict"] != "better"),
    ]


def _warnings(metrics: Mapping[str, Any]) -> list[str]:
    """An evaluation's warnings, that of a rehearsal apart, and that nobody knows what the model was trained on."""
    warnings = [text for text in metrics.get("warnings", ()) if not text.startswith(_REHEARSAL)]
    if str(metrics.get("overlap")).startswith("not checked"):
        warnings.append(f"Overlap of training and held-out rows {metrics['overlap']}.")
    return list(dict.fromkeys(warnings))


def _read_sides(names: Iterable[str], model: str | None) -> list[Side]:
    sides, problems = [], []
    for name in names:
        try:
            sides.append(read_side(name, model))
        except InputError as error:
            problems += [error.heading, *error.problems]
    if problems:
        raise InputError("not everything named can be compared", problems)
    return sides


def _refuse_different(sides: Sequence[Side], across_prompts: bool) -> None:
    """Raises `InputError` with every difference that keeps a model from being compared with the first."""
    first, *others = sides
    problems, prompts_only = [], True
    for other in others:
        questions, prompts = _question_differences(first, other), _prompt_differences(first, other)
        if across_prompts:
            prompts = _without_common_order(first, other)
        if questions or prompts:
            prompts_only &= not questions
            problems += [f"{other.name}: {text}" for text in [*questions, *prompts, *_explanations(first, other)]]
    if not problems:
        return
    if not prompts_only:
        problems.append("ask both the same questions: lawft eval RUN --test FILE, with one FILE")
    elif not across_prompts:
        problems.append("if the prompts differ on purpose, --across-prompts pairs by question")
    raise InputError(f"{first.name} was not asked the same as what is compared with it", problems)


def _question_differences(first: Side, other: Side) -> list[str]:
    """What differs in the questions themselves, in words."""
    texts = []
    here, there = ({prediction.id for prediction in side.predictions} for side in (first, other))
    for side, only in ((first, here - there), (other, there - here)):
        if only:
            texts.append(f"{len(only)} of {len(here | there)} questions are only in {side.name}: {_some(only)}")
    common = here & there
    one, two = _essentials(first), _essentials(other)
    for what in one:
        if different := {id for id in common if one[what][id] != two[what][id]}:
            texts.append(f"{len(different)} of {len(common)} questions have the same id but another {what}: {_some(different)}")
    return texts


def _essentials(side: Side) -> dict[str, dict[str, Any]]:
    """What a question must have in common with its counterpart, whatever the prompt: name -> id -> value."""
    return {
        "text": {id: (question["question"], question["choices"]) for id, question in side.evaluation.questions.items()},
        "right answer": content_gold(side.predictions),
        "statute group": question_groups(side.predictions),
    }


def _prompt_differences(first: Side, other: Side) -> list[str]:
    """What differs in how the questions that both were asked were put, in words."""
    prompts = [{(p.id, p.order): p.prompt_sha256 for p in side.predictions} for side in (first, other)]
    texts = []
    orders = [_orders(side) for side in (first, other)]
    if different := {id for id in orders[0].keys() & orders[1].keys() if orders[0][id] != orders[1][id]}:
        shown = " / ".join(" ".join(sorted(side[min(different)])) for side in orders)
        texts.append(f"{len(different)} questions were asked in other orders of their choices: {shown} ({_some(different)})")
    common = prompts[0].keys() & prompts[1].keys()
    if different := {key for key in common if prompts[0][key] != prompts[1][key]}:
        texts.append(f"{len(different)} of {len(common)} prompts have another text: {_some({id for id, _ in different})}")
    return texts


def _without_common_order(first: Side, other: Side) -> list[str]:
    orders = [_orders(side) for side in (first, other)]
    apart = {id for id in orders[0].keys() & orders[1].keys() if not orders[0][id] & orders[1][id]}
    return [f"{len(apart)} questions were asked in no order that both share: {_some(apart)}"] if apart else []


def _orders(side: Side) -> dict[str, set[str]]:
    orders: dict[str, set[str]] = {}
    for prediction in side.predictions:
        orders.setdefault(prediction.id, set()).add(prediction.order)
    return orders


def _explanations(first: Side, other: Side) -> list[str]:
    """How the evaluations' settings differ, `key: the first's / the other's`."""
    here, there = first.evaluation.metrics, other.evaluation.metrics
    return [f"{key}: {_short(here.get(key))} / {_short(there.get(key))}" for key in _EXPLAINS if here.get(key) != there.get(key)]


def _notes(sides: Sequence[Side]) -> list[str]:
    """What differs between models that are compared nevertheless."""
    first, *others = sides
    notes = []
    for side in sides:
        seeds = side.evaluation.metrics.get("cross_validation", {}).get("seeds", [])
        if side.model == "tuned" and len(seeds) > 1:
            notes.append(f"{side.name}: the answers of seed {seeds[0]}, the first of {len(seeds)}; their mean is in {side.evaluation.path / 'report.md'}.")
    for other in others:
        here, there = first.evaluation.metrics, other.evaluation.metrics
        if different := _prompt_differences(first, other):
            differences = "; ".join([*different, *_explanations(first, other)])
            notes.append(f"{other.name}: compared across prompts, by question, on the orders all were asked in. {differences}.")
        if here.get("scorer") != there.get("scorer"):
            notes.append(
                f"{other.name}: answers were read differently ({here.get('scorer')} / {there.get('scorer')}): a model that knows the answer but "
                "not the form loses only where it must write it."
            )
        elif here.get("parser_version") != there.get("parser_version"):
            notes.append(f"{other.name}: read by other versions of the parser; lawft rescore --write reads both with one.")
        prints = {metrics["prompt_fingerprint"] for metrics in (here, there) if metrics.get("prompt_fingerprint")}
        if here.get("model") == there.get("model") and len(prints) > 1 and not different:
            notes.append(f"{other.name}: the same messages, but another chat template, arguments of it, or tokenizer (prompt_fingerprint).")
    return notes


def _align(sides: Sequence[Side]) -> list[Side]:
    """The sides on the prompts all were asked by question and order, as if their texts were the first's."""
    common = set.intersection(*({(p.id, p.order) for p in side.predictions} for side in sides))
    if lonely := {p.id for p in sides[0].predictions} - {id for id, _ in common}:
        raise InputError(f"{len(lonely)} questions were asked in no order that all share: {_some(lonely)}")
    hashes = {(p.id, p.order): p.prompt_sha256 for p in sides[0].predictions}
    return [
        replace(side, predictions=[replace(p, prompt_sha256=hashes[p.id, p.order]) for p in side.predictions if (p.id, p.order) in common])
        for side in sides
    ]


def _asked(side: Side) -> dict[str, Any]:
    """How a model was asked, as its evaluation's metrics say."""
    return {key: side.evaluation.metrics[key] for key in ("run", *_EXPLAINS) if side.evaluation.metrics.get(key) is not None}


def _texts(ids: Sequence[str], first: Side, other: Side) -> list[dict[str, Any]]:
    """The questions with what both models answered, all letters those of the questions' own order."""
    gold, before, after = content_gold(first.predictions), content_answers(first.predictions), content_answers(other.predictions)
    kept = ("id", "law", "question", "choices")
    return [
        {**{key: first.evaluation.questions[id].get(key) for key in kept}, "gold": gold[id], "before": before[id], "after": after[id]} for id in ids
    ]


def _some(ids: Iterable[str]) -> str:
    named = sorted(ids)
    return ", ".join(named[:_NAMED]) + (" …" if len(named) > _NAMED else "")


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
