"""`lawft cv`: grouped cross-validation, in which every question is answered by an adapter that never saw its statute group."""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from lawft_trl.errors import InputError
from lawft_trl.evaluation.folder import Evaluation, read_evaluation, write_evaluation
from lawft_trl.evaluation.held_out import how_to_ask
from lawft_trl.evaluation.metrics import Prediction
from lawft_trl.recipe import load_recipe
from lawft_trl.training.child_runs import alone, finish_run, launch_command, refuse_changed, require_one_launch
from lawft_trl.training.folds import Fold, find_folds, plan_folds
from lawft_trl.training.out_of_fold import pool_folds
from lawft_trl.training.preflight import rehearsal_changes

EVALUATION = "out_of_fold"  # folder in RUN/eval of every fold


def cross_validate(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    folds: int | None = None,
    seeds: int = 1,
    data: Path | None = None,
    out: Path | None = None,
    config_file: Path | None = None,
    rehearse: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Trains one adapter per fold and seed, scores each on the fold it held out, and writes one report on all questions.

    What was finished before is kept, and an interrupted training goes on from its last checkpoint.

    Args:
        path: the recipe.
        overrides: `section.key=value`, as for the launcher.
        folds: how many folds the data must have; `None` takes them as they are.
        seeds: how many seeds each fold is trained with, counted up from the recipe's `training.seed`.
        data: the folder that `lawft data … --folds K` wrote; the recipe's data set's name with `_K_folds` behind it
            where none is given.
        out: the folder of the report, an evaluation folder, and in it of the runs, `seed_42/fold_1_of_5`; `runs/cv/RECIPE`
            where none is given.
        config_file: of `accelerate launch`.
        rehearse: train the tiny model, as the launcher's `--rehearse` does.
        force: train again what was trained with another recipe or other data.

    Returns:
        The metrics of all questions, also written as `metrics.json`, and under `report` where the report is.

    Raises:
        InputError: when data, recipe and what stands in `out` do not fit, or when a training or an evaluation fails.
    """
    if seeds < 1:
        raise InputError(f"--seeds {seeds}: expected at least 1")
    if any(override.startswith("training.output_dir=") for override in overrides):
        raise InputError("training.output_dir: every fold has a folder of its own; name the folder of all of them with --out")
    final = rehearsal_changes(path, overrides) if rehearse else {}
    recipe = load_recipe(path, overrides, final)
    how_to_ask(recipe)  # refuses dialogues
    out = out or Path("runs", *(["rehearsal"] if rehearse else []), "cv", path.stem)
    dataset, folder, names = find_folds(recipe, folds, data)
    plan = plan_folds(recipe, overrides, final, dataset=dataset, folder=folder, names=names, seeds=seeds, out=out)
    with alone(out, verb="lawft cv", kind="cross-validation") as lock:
        refuse_changed(plan, out, force=force, kind="folds")
        launch = launch_command(path, config_file)
        for fold in (bar := tqdm(plan, unit="adapter", delay=3)):
            bar.set_description(f"seed {fold.seed}, {fold.name}")
            finish_run(fold, launch, ["--rehearse"] if rehearse else [], lock, evaluation=EVALUATION)
        evaluations = {seed: [] for seed in sorted({fold.seed for fold in plan})}
        for fold in plan:
            evaluations[fold.seed].append(_scored(fold))
        require_one_launch(plan, out, kind="folds")
        metrics, predictions, questions = pool_folds(evaluations, name=out.name, source=folder, seed=recipe.evaluation.seed)
        _write_report(out, metrics, predictions, questions)
    return {**metrics, "report": str(out / "report.md")}


def _scored(fold: Fold) -> Evaluation:
    """The fold's evaluation.

    Raises:
        InputError: when it is not one of the questions that the fold holds out.
    """
    evaluation = read_evaluation(fold.run / "eval" / EVALUATION)
    if set(evaluation.questions) != fold.questions:
        again = shlex.join(["lawft", "eval", str(fold.run), "--name", EVALUATION, "--force"])
        raise InputError(f"{evaluation.path}: these are not the questions that {fold.name} holds out; score it again: {again}")
    return evaluation


def _write_report(out: Path, metrics: dict[str, Any], predictions: dict[str, list[Prediction]], questions: list[dict[str, Any]]) -> None:
    """Writes the evaluation into `out`, beside the runs.

    It is made of the folds' evaluations alone, which are never replaced, so that the one that stands there may be. The
    file by which an evaluation is known goes first and comes last.
    """
    whole = out / ".report"
    shutil.rmtree(whole, ignore_errors=True)  # of one that was killed here
    write_evaluation(whole, metrics, predictions, questions, rename="--out")
    (out / "metrics.json").unlink(missing_ok=True)
    for file in sorted(whole.iterdir(), key=lambda file: file.name == "metrics.json"):
        file.replace(out / file.name)
    whole.rmdir()
