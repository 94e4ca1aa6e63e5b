"""`lawft eval RUN`: base and tuned on the held-out questions, asked exactly as in training."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.data.prompts import Answer
from lawft_trl.evaluation.answers import PARSER_VERSION
from lawft_trl.evaluation.asking import Asked
from lawft_trl.evaluation.diagnosis import diagnose, retrieval_figures
from lawft_trl.evaluation.evaluate_style import evaluate_style
from lawft_trl.evaluation.folder import describe_questions, read_evaluation, write_evaluation
from lawft_trl.evaluation.generation import Generation, generate_answers
from lawft_trl.evaluation.held_out import HeldOut, prepare
from lawft_trl.evaluation.letters import score_letters
from lawft_trl.evaluation.loading import ask_base_and_tuned
from lawft_trl.evaluation.metrics import Prediction, compare, describe_model
from lawft_trl.evaluation.prior import label_prior
from lawft_trl.evaluation.training_evidence import MOST_CHECKED, training_evidence, training_questions
from lawft_trl.evaluation.wandb_log import log_evaluation, require_login
from lawft_trl.experiment_log import write_experiment
from lawft_trl.model_card import write_model_card
from lawft_trl.recipe import Recipe
from lawft_trl.run_dir import now, read_run

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Scorer = Callable[["PreTrainedModel", Sequence[Asked], str], list[Prediction]]


def evaluate_run(
    path: Path,
    *,
    test: Path | None = None,
    name: str | None = None,
    force: bool = False,
    limit: int | None = None,
    scorer: str | None = None,
    answer: Answer | None = None,
    **evaluation: Any,
) -> dict[str, Any]:
    """Scores the base model and the tuned one and writes `RUN/eval/NAME/`; a run on dialogues is scored by `evaluate_style`.

    Args:
        path: a finished run.
        test: rows to score instead of the recipe's `data.test`.
        name: the evaluation's folder; the test file's name without its ending where none is given, and behind it what
            of form, scorer and settings is not the recipe's.
        force: replace an existing evaluation of that name.
        limit: score the first so many questions only; the warnings then say so.
        scorer: `"letters"` or `"generate"` instead of the recipe's.
        answer: the form of answer that is asked for instead of the recipe's.
        evaluation: keys of the recipe's section `evaluation` with other values; `None` keeps the recipe's.

    Returns:
        The metrics, also written as `metrics.json`, under `report` where the report is, and under `wandb` where W&B logged
        it, if it did.

    Raises:
        InputError: when the run, the rows or the prompt do not fit together.
    """
    run = read_run(path)
    if run.recipe.pattern.answer == "dialogue":
        asking = {"scorer": scorer, "answer": answer, **evaluation}
        return evaluate_style(run, test=test, name=name, force=force, limit=limit, settings=asking)
    held_out = prepare(path, test=test, name=name, force=force, limit=limit, scorer=scorer, answer=answer, settings=evaluation)
    if "wandb" in run.recipe.report_to:
        require_login(run.recipe.monitor)
    started, started_at = time.monotonic(), now()
    score = make_scorer(held_out.recipe, held_out.tokenizer, held_out.scorer, held_out.answer)

    def answer_all(model: "PreTrainedModel", side: str) -> tuple[list[Prediction], list[Prediction]]:
        return score(model, held_out.asked, side), _train_check(held_out, model, score) if side == "tuned" else []

    (base, _), (tuned, checked) = ask_base_and_tuned(run, answer_all)

    predictions, questions = {"base": base, "tuned": tuned}, describe_questions(held_out.asked)
    by_id = {question["id"]: question for question in questions}
    pair, evidence = describe_pair(base, tuned, seed=held_out.recipe.evaluation.seed), training_evidence(run, held_out.facts["contaminated"], checked)
    metrics = {
        **held_out.facts,
        "command": sys.argv,
        "started": started_at,
        "seconds": round(time.monotonic() - started, 1),
        "parser_version": PARSER_VERSION if held_out.scorer == "generate" else None,
        **pair,
        "train_check": evidence.check,
        "retrieval": retrieval_figures(predictions, by_id),
        "label_prior": label_prior(tuned),
        "diagnosis": diagnose(
            pair["models"], predictions, by_id, train=evidence, answer=held_out.answer, statutes=run.recipe.pattern.statutes
        ),
    }
    write_evaluation(held_out.out, metrics, predictions, questions, force=force)
    write_experiment(run.path)
    write_model_card(run.path)
    logged = {}
    if "wandb" in run.recipe.report_to:
        logged["wandb"] = log_evaluation(read_evaluation(held_out.out), run.recipe.monitor, folder=held_out.out)
    return {**metrics, **logged, "report": str(held_out.out / "report.md")}


def _train_check(held_out: HeldOut, model: "PreTrainedModel", score: Scorer) -> list[Prediction]:
    """The tuned model's answers to some of the questions it was trained on, asked like the held-out ones; letters only."""
    if held_out.scorer != "letters":
        return []
    seen = training_questions(held_out.run, held_out.answer, min(MOST_CHECKED, len(held_out.rows)))
    return score(model, held_out.ask(seen), "tuned on training questions") if seen else []


def make_scorer(recipe: Recipe, tokenizer: "PreTrainedTokenizerBase", scorer: str, answer: Answer) -> Scorer:
    """`score(model, asked, progress)` with the settings of the recipe's section `evaluation`."""
    evaluation = recipe.evaluation
    if scorer == "letters":
        return lambda model, asked, progress: score_letters(
            model, asked, pad_token_id=tokenizer.pad_token_id, batch_size=evaluation.batch_size, progress=progress
        )
    generation = Generation.of(evaluation, answer)
    return lambda model, asked, progress: generate_answers(
        model, tokenizer, asked, generation, template_kwargs=recipe.pattern.chat_template_kwargs, batch_size=evaluation.batch_size, progress=progress
    )


def describe_pair(base: Sequence[Prediction], tuned: Sequence[Prediction], *, seed: int) -> dict[str, Any]:
    """`models`, each described, and their `comparison`."""
    return {
        "models": {"base": describe_model(base, seed=seed), "tuned": describe_model(tuned, seed=seed)},
        "comparison": compare(base, tuned, seed=seed),
    }
