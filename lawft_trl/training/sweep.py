"""`lawft sweep`: every combination of some settings trained, scored on the dev questions and compared, in one table and one picture."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm

from lawft_trl.errors import InputError
from lawft_trl.evaluation.compare_evaluations import compare_evaluations
from lawft_trl.evaluation.folder import read_evaluation
from lawft_trl.evaluation.power import smallest_detectable
from lawft_trl.run_dir import read_run
from lawft_trl.training.child_runs import (
    alone,
    finish_run,
    is_finished,
    launch_command,
    refuse_changed,
    require_one_launch,
)
from lawft_trl.training.preflight import REHEARSAL
from lawft_trl.training.sweep_grid import Combination, plan_sweep
from lawft_trl.training.sweep_report import write_sweep

EVALUATION = "dev"  # folder in RUN/eval of every run


def sweep(
    path: Path,
    settings: Sequence[str],
    *,
    out: Path | None = None,
    config_file: Path | None = None,
    rehearse: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Trains every combination, scores each on the dev questions, compares all with one of them and writes table and picture.

    The reference of the comparisons is fixed before anything is trained: the combination of the recipe's own values, or the
    first one where these are not among them. What was finished before is kept, and an interrupted training goes on. A
    combination that fails does not end the others.

    Args:
        path: the recipe, which must name dev rows; the held-out rows are never asked.
        settings: overrides; those with several values, `lora.r=8,16`, are swept.
        out: the folder of the runs and the report, `runs/sweep/RECIPE` where none is given.
        config_file: of `accelerate launch`.
        rehearse: train the tiny model, as the launcher's `--rehearse` does.
        force: train again what was trained with another recipe or other data.

    Returns:
        What is in `sweep.json`: `recipe`, `swept` (key -> values), `dev_file`, `questions`, `reference`, `best` (names of
        runs), `verdict` (sentences), `warnings`, `base` (accuracy, interval of the model before the training), `failed`
        (combination -> why) and `runs`: `name`, `values`, `folder`, `accuracy`, `interval`, `correct`, `last_loss`,
        `minutes` and, but for the reference, `difference`, `difference_interval`, `p_value`, `holm_p_value` and `verdict`;
        and under `report` where the report is.

    Raises:
        InputError: with all that is wrong with the combinations, before anything is trained; or when none was trained.
    """
    final = REHEARSAL if rehearse else {}  # `rehearsal_changes` gives dialogues another model; they cannot be swept
    out = out or Path("runs", *(["rehearsal"] if rehearse else []), "sweep", path.stem)
    plan, dev = plan_sweep(path, settings, final, out)
    with alone(out, verb="lawft sweep", kind="sweep") as lock:
        refuse_changed(plan, out, force=force, kind="runs")
        try:
            failed = _finish_all(plan, launch_command(path, config_file), ["--rehearse"] if rehearse else [], lock, dev)
        except KeyboardInterrupt:
            tqdm.write(f"{out}: the same command goes on where it was; finished runs are kept", file=sys.stderr)
            raise
        done = [combination for combination in plan if combination.name not in failed]
        if not done:
            first = next(iter(failed.values()))
            raise InputError(f"none of the {len(plan)} runs came to an end; {first.heading}", first.problems)
        require_one_launch(done, out, kind="runs")
        result = _compared(path, plan, done, failed, dev)
        write_sweep(out, result)
    return {**result, "report": str(out / "sweep.md")}


def _finish_all(plan: Sequence[Combination], launch: Sequence[str], options: Sequence[str], lock: IO[bytes], dev: Path) -> dict[str, InputError]:
    """Trains and scores what is not finished; returns name -> why for what failed."""
    waiting = [combination for combination in plan if not is_finished(combination, EVALUATION)]
    if len(waiting) < len(plan):
        tqdm.write(f"{len(plan) - len(waiting)} of {len(plan)} runs are finished and kept", file=sys.stderr)
    failed: dict[str, InputError] = {}
    for number, combination in enumerate(bar := tqdm(waiting, unit="run", disable=not waiting), start=1):
        bar.set_description(combination.title)
        try:
            finish_run(combination, launch, options, lock, evaluation=EVALUATION, test=dev)
        except InputError as error:
            failed[combination.name] = error
            tqdm.write(f"run {number} of {len(waiting)}: {combination.title}: {error.heading}", file=sys.stderr)
            continue
        accuracy = read_evaluation(combination.run / "eval" / EVALUATION).metrics["models"]["tuned"]["accuracy"]
        tqdm.write(f"run {number} of {len(waiting)}: {combination.title}: {100 * accuracy:.1f} % of the dev questions", file=sys.stderr)
    return failed


def _compared(path: Path, plan: Sequence[Combination], done: Sequence[Combination], failed: dict[str, InputError], dev: Path) -> dict[str, Any]:
    """Figures of all runs and the comparisons with the reference."""
    reference = next((each for each in done if each.usual), done[0])
    ordered = [reference, *(each for each in done if each is not reference)]
    evaluations = {each.name: read_evaluation(each.run / "eval" / EVALUATION) for each in ordered}
    names = [f"{each.run / 'eval' / EVALUATION}:tuned" for each in ordered]
    if len(ordered) == 1:  # the others failed
        compared = {"notes": [], "sides": [{"figures": evaluations[reference.name].metrics["models"]["tuned"]}]}
    else:
        compared = compare_evaluations(names, seed=reference.recipe.evaluation.seed)
    sides = dict(zip((each.name for each in ordered), compared["sides"], strict=True))
    rows = [_row(each, sides[each.name]) for each in done]
    best = max(rows, key=lambda row: (row["accuracy"], row["single_order_accuracy"]))["name"]
    metrics = evaluations[reference.name].metrics
    base = metrics["models"]["base"]
    result = {
        "recipe": str(path),
        "swept": {key: list(dict.fromkeys(each.values[key] for each in plan)) for key in plan[0].values},
        "dev_file": str(dev),
        "dev_sha256": metrics["test_sha256"],
        "questions": base["questions"],
        "rehearsal": bool(metrics["rehearsal"]),
        "reference": reference.name,
        "reference_is_usual": reference.usual,
        "best": best,
        "base": {key: base[key] for key in ("accuracy", "interval", "correct")},
        "failed": {each.title: failed[each.name].heading for each in plan if each.name in failed},
        "warnings": _warnings(done, compared["notes"]),
        "runs": rows,
    }
    winner = next(each for each in done if each.name == best)
    return {**result, "verdict": _verdict(result), "next": shlex.join(["lawft", "eval", str(winner.run)])}


def _row(combination: Combination, side: dict[str, Any]) -> dict[str, Any]:
    """What the table says of a run."""
    figures, found = side["figures"], side.get("comparison")
    record = read_run(combination.run).record
    row = {"name": combination.name, "title": combination.title, "values": combination.values, "folder": str(combination.run)}
    row |= {key: figures[key] for key in ("accuracy", "interval", "correct", "single_order_accuracy", "rstd", "label_mass")}
    row |= {key: record[key] for key in ("last_loss", "minutes", "steps")}
    if found:
        row |= {key: found[key] for key in ("difference", "discordance", "p_value", "holm_p_value", "verdict", "reason")}
        row["difference_interval"] = found["interval"]
    return row


def _warnings(done: Sequence[Combination], notes: Sequence[str]) -> list[str]:
    warnings = list(notes)
    if any(each.recipe.values["training"].get("load_best_model_at_end") or each.recipe.evaluation.early_stopping_patience for each in done):
        warnings.append("In every run the checkpoint was chosen by these dev questions too: all figures here are too high, those of runs with many evaluations most.")
    if not any(key == "training.seed" for key in done[0].values):
        warnings.append("One seed each: what another seed would change is in no interval here. training.seed=42,43,44 in the sweep shows it.")
    return warnings


def _verdict(result: dict[str, Any]) -> list[str]:
    """What the figures say, and what they do not."""
    titles = {row["name"]: row for row in result["runs"]}
    reference, best = titles[result["reference"]], titles[result["best"]]
    others = [row for row in result["runs"] if "holm_p_value" in row]
    if result["rehearsal"]:
        return ["A rehearsal on the tiny model: the way works; the figures mean nothing."]
    if not others:
        return ["Only one run came to an end: there is nothing to compare."]
    apart = [row for row in others if row["verdict"] != "no evidence"]
    sentences = [
        f"Highest on dev: {best['title']} with {best['correct']} of {result['questions']}; it was chosen from {len(result['runs'])} by this figure, "
        "which is therefore too high for it. The held-out questions decide."
    ]
    if not apart:
        each = [smallest_detectable(result["questions"], row["discordance"], alpha=0.05 / len(others)) for row in others]
        seen = f" {result['questions']} independent questions would show a difference of {100 * max(each):.0f} points in 4 of 5 tries, those of few groups only larger ones." if None not in each else ""
        return [*sentences, f"No run differs from {reference['title']} by more than chance (Holm-corrected for {len(others)} comparison(s)): by these questions any of them may be taken.{seen}"]
    for row in apart:
        sentences.append(f"{row['title']} is {row['verdict']} than {reference['title']} by more than chance ({100 * row['difference']:+.1f} points, p = {row['holm_p_value']:.2g} after Holm for {len(others)} comparison(s)).")
    if best not in apart and best is not reference:
        sentences.append(f"The highest, {best['title']}, is not among them: {best['reason']}.")
    return sentences
