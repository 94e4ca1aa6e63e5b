"""What a run leaves on disk: a PEFT adapter folder that any tool can load, and the record of how it came to be.

While a run trains, its folder is called `NAME.unfinished`; only a finished run has its own name.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lawft_trl import __version__
from lawft_trl.errors import InputError
from lawft_trl.folders import put_in_place, refuse_existing, write_json, write_text
from lawft_trl.recipe import Recipe, load_recipe
from lawft_trl.recipe_views import resolved_yaml
from lawft_trl.text_files import file_sha256

_LIBRARIES = ("trl", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "torch", "wandb")


@dataclass(frozen=True)
class FinishedRun:
    """A finished run as read from its folder.

    Attributes:
        path: the folder.
        recipe: its resolved recipe.
        record: `run.json`.
    """

    path: Path
    recipe: Recipe
    record: dict[str, Any]


def identity(
    recipe: Recipe, data_files: Mapping[str, Sequence[Path]], prompt_fingerprint: str, processes: int
) -> dict[str, Any]:
    """What must be equal for a run to be resumed: the recipe's values, the data, the prompt, the number of processes.

    Args:
        recipe: the resolved recipe.
        data_files: role (`train`, `dev`, `test`) -> its files.
        prompt_fingerprint: see `lawft_trl.data.chat.prompt_fingerprint`.
        processes: how many train.
    """
    data = {
        role: [{"file": str(file), "sha256": file_sha256(file)} for file in files] for role, files in data_files.items()
    }
    return {"recipe": recipe.values, "data": data, "prompt_fingerprint": prompt_fingerprint, "processes": processes}


def refuse_taken(target: Path, *, resume: bool, force: bool) -> None:
    """Refuses, before anything is read, a run whose folder is taken, or that was never begun. Writes nothing.

    Args:
        target: the folder the finished run will have.
        resume: the run is to go on with `target.unfinished`.
        force: a finished or an unfinished run may be replaced.

    Raises:
        InputError: naming what is there and which option is meant for it.
    """
    work = unfinished(target)
    if resume:
        if not (work / "run.json").is_file():
            if (target / "run.json").is_file():
                raise InputError(
                    f"{target}: this run is finished, there is nothing to resume",
                    [f"to evaluate it: lawft eval {target}", "to train it again: the same command with --force instead of --resume"],
                )
            raise InputError(f"{work}: nothing to resume; run the command without --resume")
        return
    refuse_existing(target, force=force, mark="run.json", rename="training.output_dir=…")
    # Without run.json it is not a begun run: the trainer makes its folder as soon as it is built.
    if (work / "run.json").exists() and not force:
        raise InputError(f"{work}: an interrupted run is there; --resume goes on with it, --force drops it")


def begin(target: Path, recipe: Recipe, record: Mapping[str, Any]) -> None:
    """Makes the folder a run trains in, with its recipe and the beginning of `run.json`, which holds `identity`."""
    work = unfinished(target)
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    write_text(work / "recipe.yaml", resolved_yaml(recipe))
    write_json(work / "run.json", {"started": now(), **record, "status": "unfinished"})


def finish(work: Path, target: Path, results: Mapping[str, Any]) -> None:
    """Completes `run.json` and gives the run its name."""
    record = json.loads((work / "run.json").read_text(encoding="utf-8"))
    write_json(work / "run.json", {**record, **results, "status": "finished", "finished": now()})
    if (target / "experiment.md").is_file():  # it holds what the person wrote about the run that is replaced
        shutil.copyfile(target / "experiment.md", work / "experiment.md")
    put_in_place(work, target)


def read_run(path: Path) -> FinishedRun:
    """Reads a finished run.

    Raises:
        InputError: when the folder is none, or was not finished.
    """
    if not (path / "run.json").is_file():
        if unfinished(path).exists():
            raise InputError(f"{path}: this run was interrupted ({unfinished(path)}); repeat its command with --resume")
        known = sorted(str(file.parent) for file in Path("runs").glob("**/run.json")) if Path("runs").is_dir() else []
        raise InputError(f"{path}: no finished run here (no run.json)" + (f"; there are {', '.join(known)}" if known else ""))
    record = json.loads((path / "run.json").read_text(encoding="utf-8"))
    if record.get("status") != "finished":
        raise InputError(f"{path}: this run was interrupted; repeat its command with --resume")
    return FinishedRun(path=path, recipe=load_recipe(path / "recipe.yaml"), record=record)


def unfinished(target: Path) -> Path:
    """The folder a run trains in."""
    return target.with_name(target.name + ".unfinished")


def now() -> str:
    """Date and time with their zone, as ISO 8601."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Commit, library versions and hardware."""
    import torch

    return {
        "commit": _commit(),
        "versions": {"lawft-trl": __version__, "python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "hardware": {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        },
    }


def _commit() -> dict[str, Any] | None:
    """The commit this package runs from; `None` where it was installed without its repository."""
    git = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "check": True}
    try:
        subprocess.run(["git", "ls-files", "--error-unmatch", Path(__file__).name], **git)  # not that of a project it is installed in
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **git).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain"], **git).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"id": commit, "uncommitted_changes": bool(changed.strip())}


def require_same(target: Path, wanted: Mapping[str, Any]) -> None:
    """Refuses to go on with a run that was begun with another recipe, other data or another prompt.

    Args:
        target: the folder the finished run will have.
        wanted: the run's `identity` now.

    Raises:
        InputError: naming what differs.
    """
    work = unfinished(target)
    begun = json.loads((work / "run.json").read_text(encoding="utf-8"))["identity"]
    wanted = json.loads(json.dumps(wanted))  # what JSON makes of it, e.g. keys that are numbers
    if begun == wanted:
        return
    changes = []
    for section in sorted({*begun["recipe"], *wanted["recipe"]}):
        before, now = begun["recipe"].get(section, {}), wanted["recipe"].get(section, {})
        changes += [
            f"{section}.{key}: begun with {before.get(key)!r}, now {now.get(key)!r}"
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        ]
    if begun["processes"] != wanted["processes"]:
        changes.append(f"begun with {begun['processes']} process(es), now {wanted['processes']}")
    for key in ("data", "prompt_fingerprint"):
        if begun[key] != wanted[key]:
            changes.append(f"{key}: the files or the prompt have changed since")
    mend = "resume with what it was begun with, or begin anew: --force"
    raise InputError(f"{work}: cannot resume, the recipe or its data is not what the run was begun with", [*changes, mend])
