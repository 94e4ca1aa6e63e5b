"""Every finished run below some folders with what its evaluations found: what `lawft log` shows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.evaluation.paired import holm
from lawft_trl.experiment_log import evaluation_folders, read_metrics, read_record


@dataclass(frozen=True, kw_only=True)
class RunList:
    """What is below some folders.

    Attributes:
        entries: one per evaluation, and one per run that has none, the oldest run first; see `list_runs`.
        unfinished: folders of runs that were not finished.
        damaged: what could not be read, and why.
    """

    entries: list[dict[str, Any]]
    unfinished: list[Path]
    damaged: list[str]


def list_runs(folders: Sequence[Path], *, rehearsals: bool = True) -> RunList:
    """Finds the runs and cross-validations below some folders.

    Args:
        folders: where to look.
        rehearsals: list rehearsals, too.

    Returns:
        The entries hold, `None` where there is nothing to say: `experiment` (path from the folder looked in), `path`,
        `date` (ISO 8601), `model`, `pattern` (`"direct/none"`: answer and statutes trained), `rows`, `steps`, `minutes`,
        `rehearsal`; of the evaluation its name `evaluation`, `asked` (answer and statutes asked), `scorer`, `questions`,
        `base` and `tuned` (accuracies; of dialogues, whose `scorer` is `"style"`, style scores; with `…_low` and `…_high`, 95 %), `difference` (with `…_low` and `…_high`),
        `p_value`, `p_holm` (adjusted over all entries), `verdict` and `contaminated` (the sentence that says so).

    Raises:
        InputError: when a folder is missing, or no finished run is below any.
    """
    missing = [f"{folder}: no such folder (looked from {Path.cwd()})" for folder in folders if not folder.is_dir()]
    if missing:
        raise InputError("no runs to list", [*missing, "train one (docs/recipes.md), or name the folders: lawft log FOLDER ..."])
    found = RunList(entries=[], unfinished=[], damaged=[])
    seen: set[Path] = set()
    for folder in folders:
        validations = _cross_validations(folder, found.damaged)
        for path, metrics in validations.items():
            if path.resolve() not in seen:
                seen.add(path.resolve())
                found.entries.append(_run_part(path, folder, None, metrics) | _evaluation_part("cross-validation", metrics))
        for path in _run_folders(folder):
            # The folds of a cross-validation are no experiments of their own.
            if path.resolve() not in seen and not any(parent in validations for parent in path.parents):
                seen.add(path.resolve())
                _add_run(path, folder, found)
    listed = sorted((entry for entry in found.entries if rehearsals or not entry["rehearsal"]), key=_age)
    if not listed:
        raise InputError(f"no finished run below {', '.join(map(str, folders))}", _why_none(found))
    compared = [entry for entry in listed if entry["p_value"] is not None and not entry["contaminated"] and not entry["rehearsal"]]
    for entry, adjusted in zip(compared, holm([entry["p_value"] for entry in compared]), strict=True):
        entry["p_holm"] = adjusted
    return RunList(entries=listed, unfinished=found.unfinished, damaged=found.damaged)


def _why_none(found: RunList) -> list[str]:
    problems = [f"{path}: not finished; repeat its command with --resume" for path in found.unfinished]
    problems += [f"not readable: {reason}" for reason in found.damaged]
    if found.entries:
        problems.append(f"--no-rehearsals left out {len({entry['path'] for entry in found.entries})} rehearsal(s)")
    return problems or ["train one (docs/recipes.md), or name other folders: lawft log FOLDER ..."]


def _run_folders(folder: Path) -> list[Path]:
    return sorted(file.parent for file in folder.rglob("run.json") if not _is_hidden(file, folder))


def _cross_validations(folder: Path, damaged: list[str]) -> dict[Path, dict[str, Any]]:
    """Folder -> metrics of every cross-validation: its `metrics.json` stands in no run, and has that key."""
    found = {}
    for file in sorted(folder.rglob("metrics.json")):
        if file.parent.parent.name == "eval" or _is_hidden(file, folder):
            continue
        try:
            held = json.loads(file.read_bytes())
        except (OSError, ValueError):
            damaged.append(f"{file}: not JSON")
            continue
        if isinstance(held, dict) and "cross_validation" in held:
            try:
                found[file.parent] = read_metrics(file.parent)
            except InputError as error:
                damaged.append(_one_line(error))
    return found


def _is_hidden(file: Path, folder: Path) -> bool:
    """Whether a file is in a folder that is only being written or replaced."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _add_run(path: Path, folder: Path, found: RunList) -> None:
    """Adds the entries of one run."""
    try:
        unfinished = json.loads((path / "run.json").read_bytes())["status"] != "finished"
    except (OSError, ValueError, KeyError, TypeError):
        unfinished = False  # damaged, which `read_record` says in words
    if unfinished:
        found.unfinished.append(path)
        return
    try:
        record = read_record(path)
    except InputError as error:
        found.damaged.append(_one_line(error))
        return
    evaluations = evaluation_folders(path)
    if not evaluations:
        found.entries.append(_run_part(path, folder, record, {}) | _evaluation_part(None, {}))
    for evaluation in evaluations:
        try:
            metrics = read_metrics(evaluation)
        except InputError as error:
            found.damaged.append(_one_line(error))
            metrics = {}
        found.entries.append(_run_part(path, folder, record, metrics) | _evaluation_part(evaluation.name, metrics))


def _run_part(path: Path, folder: Path, record: Mapping[str, Any] | None, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a run; a cross-validation has no record of its own and says what it can in its metrics."""
    record = record or {"identity": {"recipe": {"model": {"name_or_path": metrics.get("model")}, "pattern": metrics}}}
    recipe, within = record["identity"]["recipe"], path.relative_to(folder)
    return {
        "experiment": within.as_posix() if within.parts else path.resolve().name,
        "path": str(path),
        "date": record.get("started") or metrics.get("started"),
        "model": recipe["model"].get("name_or_path"),
        "pattern": _form(recipe["pattern"]),
        "rows": record.get("rows"),
        "steps": record.get("steps"),
        "minutes": record.get("minutes"),
        "rehearsal": bool(record.get("rehearsal") or metrics.get("rehearsal")),
    }


def _evaluation_part(name: str | None, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of an evaluation; all but the name empty where its metrics are."""
    models = metrics.get("models") or {}
    paired = (metrics.get("cross_validation") or {}).get("mean") or metrics.get("comparison")  # of several seeds no single one
    style = metrics.get("answer") == "dialogue"
    key, count = ("style", "replies") if style else ("accuracy", "questions")
    tuned = models.get("tuned") or next((figures for model, figures in models.items() if model != "base"), None)
    return {
        "evaluation": name,
        "asked": _form(metrics) if metrics else None,
        "scorer": metrics.get("scorer"),
        "questions": next((figures[count] for figures in models.values()), None),
        **_estimate("base", key, models.get("base")),
        **_estimate("tuned", key, tuned),
        **_estimate("difference", "difference", paired),
        "p_value": paired["p_value"] if paired else None,
        "p_holm": None,
        "verdict": None if not paired else "no verdict" if metrics.get("contaminated") or metrics.get("rehearsal") else paired["verdict"],
        "contaminated": metrics.get("contaminated") or None,
    }


def _estimate(name: str, key: str, figures: Mapping[str, Any] | None) -> dict[str, Any]:
    low, high = figures["interval"] if figures else (None, None)
    return {name: figures[key] if figures else None, f"{name}_low": low, f"{name}_high": high}


def _form(asked: Mapping[str, Any]) -> str:
    return f"{asked.get('answer') or '-'}/{asked.get('statutes') or '-'}"


def _age(entry: Mapping[str, Any]) -> tuple[datetime, str, str]:
    """Runs without a recorded time come first."""
    try:
        date = datetime.fromisoformat(entry["date"])
    except (TypeError, ValueError):
        date = datetime.min
    return date if date.tzinfo else date.replace(tzinfo=UTC), entry["path"], entry["evaluation"] or ""


def _one_line(error: InputError) -> str:
    return "; ".join([error.heading, *error.problems])
