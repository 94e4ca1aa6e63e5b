"""`lawft eval --endpoint`: the held-out questions asked of served models."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lawft_trl.data.chat import end_of_turn
from lawft_trl.data.prompts import Answer
from lawft_trl.data.questions import ORDERS
from lawft_trl.data.rows import Row, read_rows
from lawft_trl.evaluation.answers import PARSER_VERSION
from lawft_trl.evaluation.asking import Asked, ask, unique_questions
from lawft_trl.evaluation.diagnosis import TrainEvidence, diagnose, retrieval_figures
from lawft_trl.evaluation.evaluate import describe_pair
from lawft_trl.evaluation.folder import describe_questions, write_evaluation
from lawft_trl.evaluation.generation import Generation, opened_thought
from lawft_trl.evaluation.held_out import describe_held_out, prepare
from lawft_trl.evaluation.metrics import Prediction, describe_model
from lawft_trl.evaluation.served import Service, ask_served
from lawft_trl.evaluation.training_evidence import training_evidence
from lawft_trl.experiment_log import write_experiment
from lawft_trl.folders import refuse_existing
from lawft_trl.model_card import write_model_card
from lawft_trl.recipe_sections import EvaluationSection


def evaluate_served_run(
    path: Path,
    *,
    service: Service,
    names: Mapping[str, str],
    test: Path | None = None,
    name: str | None = None,
    force: bool = False,
    answer: Answer | None = None,
    **evaluation: Any,
) -> dict[str, Any]:
    """Asks for the answers of a run's models, served somewhere, and writes `RUN/eval/NAME/`.

    The questions are those of `evaluate_run`, as the same messages.

    Args:
        path: a finished run; its data, prompt and tokenizer are read, not its weights.
        service: where it is served.
        names: `"tuned"`, and `"base"` where that is served too -> the name the endpoint knows the model by.
        test: rows to score instead of the recipe's `data.test`.
        name: the evaluation's folder; by default named after the test file.
        force: replace an existing evaluation of that name.
        answer: the form of answer that is asked for instead of the recipe's.
        evaluation: keys of the recipe's section `evaluation` with other values; `None` keeps the recipe's.

    Returns:
        The metrics, also written as `metrics.json`, and under `report` where the report is. `served` says where and how
        the models were asked.

    Raises:
        InputError: as `evaluate_run`, and when a request failed for good: then nothing is written, and the answers that
            came are kept beside the folder for the next try.
    """
    held_out = prepare(
        path, test=test, name=name, force=force, limit=None, scorer="generate", answer=answer, settings=evaluation, served=True
    )
    recipe, kwargs = held_out.recipe, held_out.recipe.pattern.chat_template_kwargs
    generation = Generation.of(recipe.evaluation, held_out.answer)
    parameters = service.parameters(generation, kwargs, end_of_turn(held_out.tokenizer, kwargs))
    names = {side: names[side] for side in ("base", "tuned") if side in names}
    predictions, facts = ask_served(
        service.endpoint,
        names,
        held_out.asked,
        samples=generation.samples,
        parameters=parameters,
        cache=cache_folder(held_out.out),
        opened=opened_thought(held_out.tokenizer, held_out.asked[0].input_ids),
    )
    seed = recipe.evaluation.seed
    described = describe_pair(**predictions, seed=seed) if "base" in predictions else _describe(predictions, seed)
    metrics = {**held_out.facts, **described, **_how_asked(service, facts, held_out.facts["warnings"])}
    evidence = training_evidence(held_out.run, held_out.facts["contaminated"], [])
    written = _write(held_out.out, metrics, predictions, held_out.asked, evidence, force=force, rename="--name")
    write_experiment(held_out.run.path)
    write_model_card(held_out.run.path)
    return written


def evaluate_served(
    file: Path,
    out: Path,
    *,
    service: Service,
    model: str,
    answer: Answer | None = None,
    force: bool = False,
    **evaluation: Any,
) -> dict[str, Any]:
    """Asks a model that no run here has made, and writes an evaluation of it alone, for `lawft compare`.

    Nothing is known of its chat template: arguments of that go into `service.body`, for Qwen3
    `{"chat_template_kwargs": {"enable_thinking": false}}`.

    Args:
        file: rows to score.
        out: the evaluation folder to make.
        service: where the model is served.
        model: the name the endpoint knows it by.
        answer: the form of answer; by default `"direct"`, or what all rows ask for.
        force: replace an existing evaluation.
        evaluation: values of `lawft_trl.recipe_sections.EvaluationSection`; `None` keeps its default.

    Returns:
        As `evaluate_served_run`.

    Raises:
        InputError: as `evaluate_served_run`.
    """
    refuse_existing(out, force=force, mark="metrics.json", rename="--out")
    rows = read_rows(file)
    modes = {row.meta.get("mode") for row in rows}
    answer = answer or ("cot" if modes == {"cot"} else "direct")
    if answer in modes:  # a file may hold both forms of a question
        rows = [row for row in rows if row.meta.get("mode") in (None, answer)]
    rows = unique_questions(rows)
    settings = EvaluationSection(**{key: value for key, value in evaluation.items() if value is not None})
    asked = ask(rows, None, {}, answer=answer, letters=False, orders=ORDERS[: settings.orders])
    generation = Generation.of(settings, answer)
    parameters = service.parameters(generation, {}, None)
    predictions, facts = ask_served(
        service.endpoint, {model: model}, asked, samples=generation.samples, parameters=parameters, cache=cache_folder(out)
    )
    metrics = {
        "run": model,
        "model": model,
        "statutes": ", ".join(sorted({_statutes(row) for row in rows})),
        "prompt_fingerprint": None,
        "overlap": f"not checked: what {model} was trained on is not known here",
        "contaminated": None,
        "rehearsal": False,
        "scorer": "generate",
        "answer": answer,
        "generation": asdict(generation),
        **describe_held_out(file, rows, asked),
        **_describe(predictions, generation.seed),
        **_how_asked(service, facts, []),
    }
    return _write(out, metrics, predictions, asked, None, force=force, rename="--out")


def cache_folder(out: Path) -> Path:
    """Where answers are kept until the evaluation `out` is written."""
    return out.with_name(f"{out.name}.cache")


def _statutes(row: Row) -> str:
    """Which statutes a row shows, in the words of the recipes' `pattern.statutes`."""
    if not row.meta.get("use_context"):
        return "none"
    return "gold" if row.meta.get("retriever_type") == "gold" else "retrieved"


def _describe(predictions: Mapping[str, Sequence[Prediction]], seed: int) -> dict[str, Any]:
    return {"models": {side: describe_model(answers, seed=seed) for side, answers in predictions.items()}}


def _how_asked(service: Service, facts: Mapping[str, Any], warnings: Sequence[str]) -> dict[str, Any]:
    """The part of the metrics that says how the service was asked."""
    return {
        "command": [part.replace(service.endpoint.url, service.endpoint.address) for part in sys.argv],
        "parser_version": PARSER_VERSION,
        **facts,
        "warnings": [*warnings, *facts["warnings"]],
    }


def _write(
    out: Path,
    metrics: dict[str, Any],
    predictions: Mapping[str, list[Prediction]],
    asked: Sequence[Asked],
    evidence: TrainEvidence | None,
    *,
    force: bool,
    rename: str,
) -> dict[str, Any]:
    """Adds what the predictions say of the model's troubles, and writes the folder."""
    questions = describe_questions(asked)
    by_id = {question["id"]: question for question in questions}
    metrics["retrieval"] = retrieval_figures(predictions, by_id)
    metrics["diagnosis"] = diagnose(
        metrics["models"], predictions, by_id, train=evidence, answer=metrics["answer"], statutes=metrics["statutes"]
    )
    write_evaluation(out, metrics, predictions, questions, force=force, rename=rename)
    shutil.rmtree(cache_folder(out))  # everything is in predictions.jsonl now, and --force shall ask anew
    return {**metrics, "report": str(out / "report.md")}
