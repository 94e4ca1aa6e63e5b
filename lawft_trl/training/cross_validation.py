"""`lawft cv`: grouped cross-validation, in which every question is answered by an adapter that never saw its statute group.

Each fold is trained by the launcher and scored by `lawft eval`, each in a process of its own: no model stays in memory
between them, and what a fold leaves is a run like any other.
"""

import contextlib
import fcntl
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm

from lawft_trl import run_dir
from lawft_trl.errors import InputError
from lawft_trl.evaluation.folder import Evaluation, read_evaluation, write_evaluation
from lawft_trl.evaluation.metrics import Prediction
from lawft_trl.recipe import load_recipe
from lawft_trl.training.checkpoints import last_checkpoint
from lawft_trl.training.folds import Fold, find_folds, plan_folds
from lawft_trl.training.out_of_fold import pool_folds
from lawft_trl.training.preflight import REHEARSAL

EVALUATION = "out_of_fold"  # folder in RUN/eval of every fold
_LOCK = ".lock"  # in the folder of every cross-validation
_LAUNCHER = Path(__file__).parents[1] / "sft.py"
_LOG_LINES = 20  # of a failed child's output that are shown
_SECONDS_TO_END = 10  # before a child that was told to end is ended


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
    final = REHEARSAL if rehearse else {}
    recipe = load_recipe(path, overrides, final)
    out = out or Path("runs", *(["rehearsal"] if rehearse else []), "cv", path.stem)
    dataset, folder, names = find_folds(recipe, folds, data)
    plan = plan_folds(recipe, overrides, final, dataset=dataset, folder=folder, names=names, seeds=seeds, out=out)
    with _alone(out) as lock:
        _refuse_changed(plan, out, force=force)
        launch = [*_launch(config_file), str(path)]
        for fold in (bar := tqdm(plan, unit="adapter", delay=3)):
            bar.set_description(f"seed {fold.seed}, {fold.name}")
            _finish_fold(fold, launch, ["--rehearse"] if rehearse else [], lock)
        evaluations = {seed: [] for seed in sorted({fold.seed for fold in plan})}
        for fold in plan:
            evaluations[fold.seed].append(_scored(fold))
        _require_one_launch(plan, out)
        metrics, predictions, questions = pool_folds(evaluations, name=out.name, source=folder, seed=recipe.evaluation.seed)
        _write_report(out, metrics, predictions, questions)
    return {**metrics, "report": str(out / "report.md")}


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[IO[bytes]]:
    """Holds `out` for one cross-validation.

    The lock is given to every child as its standard input, so that it is held until the last of them has ended, also
    when this process is killed and cannot end them.
    """
    if out.exists() and not (out / _LOCK).exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: something else than a cross-validation is there; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    with (out / _LOCK).open("w+b") as lock:
        for _ in range(_SECONDS_TO_END):  # the children of a killed one may take a moment
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.5)
        else:
            raise InputError(
                f"{out}: another `lawft cv` is at work there, or a training that one began",
                [f"wait for it, or end it; this shows its processes: fuser -v {shlex.quote(str(out / _LOCK))}"],
            )
        yield lock


def _refuse_changed(plan: Sequence[Fold], out: Path, *, force: bool) -> None:
    """Refuses to go on where folds were trained with another recipe or data."""
    changed = [f"{path}: {change}" for fold in plan for path in (fold.run, run_dir.unfinished(fold.run)) for change in _changes(path, fold)]
    if changed and not force:
        mends = ["--force trains those folds again; another --out keeps them"]
        raise InputError(f"{out}: folds there were trained with another recipe or other data", [*changed, *mends])


def _changes(path: Path, fold: Fold) -> list[str]:
    """What the run in `path` was begun with and is otherwise now; nothing where there is none."""
    if not (path / "run.json").is_file():
        return []
    begun = json.loads((path / "run.json").read_text(encoding="utf-8"))["identity"]
    before, now = _flat(begun), _flat(json.loads(json.dumps(fold.identity)))  # what JSON makes of it, e.g. keys that are numbers
    return [f"{key}: trained with {before.get(key)!r}, now {now.get(key)!r}" for key in sorted({*before, *now}) if before.get(key) != now.get(key)]


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity's values by name. The number of processes is the launcher's to compare: it alone knows its own."""
    values = {f"{section}.{key}": value for section, keys in identity["recipe"].items() for key, value in keys.items()}
    hashes = {f"sha256 of {entry['file']}": entry["sha256"][:12] for entries in identity["data"].values() for entry in entries}
    return {**values, **hashes, "prompt fingerprint": identity["prompt_fingerprint"][:12]}


def _require_one_launch(plan: Sequence[Fold], out: Path) -> None:
    """Refuses to pool folds that were trained by different numbers of processes, and so in batches of different sizes."""
    processes = {str(fold.run): run_dir.read_run(fold.run).record["identity"]["processes"] for fold in plan}
    if len(set(processes.values())) > 1:
        raise InputError(
            f"{out}: its folds were trained by different numbers of processes (--config_file)",
            [*(f"{run}: {count} process(es)" for run, count in processes.items()), "remove the folders of some of them, and they are trained again"],
        )


def _launch(config_file: Path | None) -> list[str]:
    config = ["--config_file", str(config_file)] if config_file else []
    return [sys.executable, "-m", "accelerate.commands.launch", "--quiet", *config, str(_LAUNCHER)]


def _finish_fold(fold: Fold, launch: Sequence[str], options: Sequence[str], lock: IO[bytes]) -> None:
    """Trains and scores a fold, as far as that has not been done."""
    finished = (fold.run / "run.json").is_file() and not _changes(fold.run, fold)
    if not finished:
        work = run_dir.unfinished(fold.run)
        if (work / "run.json").is_file() and not _changes(work, fold) and last_checkpoint(work):
            how = ["--resume"]
        else:  # what is left of one that was begun with the same and has no checkpoint, or may be replaced, see _refuse_changed
            how = ["--force"]
        _run([*launch, *fold.overrides, *options, *how], fold, "training", lock)
    if not (fold.run / "eval" / EVALUATION / "metrics.json").is_file():
        _run([sys.executable, "-m", "lawft_trl.cli", "eval", str(fold.run), "--name", EVALUATION], fold, "evaluation", lock)


def _run(command: Sequence[str], fold: Fold, what: str, lock: IO[bytes]) -> None:
    """Runs a child whose output goes to the fold's log; it has ended when this function has.

    Raises:
        InputError: with the end of its output when it fails.
    """
    fold.log.parent.mkdir(parents=True, exist_ok=True)
    with fold.log.open("ab") as log:
        log.write(f"\n$ {shlex.join(command)}\n".encode())  # a killed one left its line unfinished
        log.flush()
        start = log.tell()
        child = subprocess.Popen(command, stdin=lock, stdout=log, stderr=subprocess.STDOUT)
        try:
            code = child.wait()
        except BaseException:
            _end(child)
            raise
    if code:
        said = fold.log.read_bytes()[start:].decode("utf-8", errors="replace").replace("\r", "\n").split("\n")
        lines = [line for line in said if line.strip()][-_LOG_LINES:]
        raise InputError(f"{what} of {fold.name} with seed {fold.seed} failed (exit code {code}); the end of {fold.log}:", lines)


def _end(child: subprocess.Popen) -> None:
    """Ends a child with all that it started; `accelerate launch` would leave its own."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(child.pid)
        tree = [*parent.children(recursive=True), parent]
        for end in (psutil.Process.terminate, psutil.Process.kill):
            for process in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    end(process)
            _, tree = psutil.wait_procs(tree, timeout=_SECONDS_TO_END)
    child.wait()


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
