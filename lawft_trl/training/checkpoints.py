"""Which checkpoint of an unfinished run can be gone on from.

A process may be killed, or a disk be full, at any moment of a save, and also while an older checkpoint is removed. The
trainer writes `trainer_state.json` last, so that without it nothing else has to be looked at; but with several processes
others may still be writing then, and of a half removed folder any file may be left. So every file is looked at.
"""

import json
import shutil
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl import run_dir
from lawft_trl.errors import InputError

if TYPE_CHECKING:
    from transformers import TrainerState

LATEST = "latest"  # what `--resume` without a name means

_ONE_OF = {
    "the model's weights": ("adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json", "pytorch_model_fsdp.bin", "global_step*"),
    "the optimizer's state": ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*"),  # one device, FSDP, DeepSpeed
}


def last_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint of an unfinished run that is whole; see `fault`."""
    processes = json.loads((work / "run.json").read_text(encoding="utf-8"))["identity"]["processes"]
    return next((path for path in _newest_first(work) if fault(path, processes) is None), None)


def chosen_checkpoint(work: Path, name: str) -> Path | None:
    """The checkpoint a run goes on from; `None` to begin anew.

    Args:
        work: the folder of an unfinished run.
        name: `LATEST`, or one that `refuse_unusable` has found fit.
    """
    return last_checkpoint(work) if name == LATEST else work / Path(name).name


def refuse_unusable(target: Path, wanted: Mapping[str, Any], name: str | None, *, force: bool) -> None:
    """Refuses, before a model is loaded, to resume another run, or from a checkpoint that is not there, not whole, or not the last one.

    Args:
        target: the folder the finished run will have.
        wanted: the run's `run_dir.identity` now.
        name: of a checkpoint in it, or its path; `None` and `LATEST` ask for none.
        force: later checkpoints may be removed; see `drop_later`.

    Raises:
        InputError: naming what differs, or the checkpoints there are.
    """
    if name is None:
        return
    run_dir.require_same(target, wanted)
    if name == LATEST:
        return
    work = run_dir.unfinished(target)
    processes = json.loads((work / "run.json").read_text(encoding="utf-8"))["identity"]["processes"]
    path, there = Path(name), _newest_first(work)
    faults = {each.name: fault(each, processes) for each in there}
    listed = [f"there is {each}" + (f", which is not whole ({found})" if found else "") for each, found in reversed(faults.items())]
    listed = listed or ["there is none yet; --resume without a name, or with --force, begins anew"]
    outside = len(path.parts) > 1 and path.resolve().parent != work.resolve()
    if outside or path.name not in faults:
        said = "is not in this run's folder" if outside else "there is no such checkpoint"
        raise InputError(f"{work}: cannot resume from {name}: {said}", [*listed, "--resume without a name takes the latest"])
    if faults[path.name]:
        raise InputError(f"{work}: cannot resume from {path.name}: it was not written whole ({faults[path.name]})", listed)
    later = [each.name for each in there if _step(each) > _step(path) and not faults[each.name]]
    if later and not force:
        raise InputError(
            f"{work}: later checkpoints than {path.name} are there: {', '.join(reversed(later))}",
            [f"--force removes them, and the run goes on from {path.name}", *_lost_best(work, work / path.name), "--resume without a name takes the latest"],
        )


def _lost_best(work: Path, checkpoint: Path) -> list[str]:
    """A sentence where the run is to end with its best checkpoint, and the best one until this is gone; else none.

    The trainer has removed it once a later one was better, and the run may now go on from before that. transformers forgets the
    folder with a warning, but not the figure, which is still to be beaten.
    """
    training = json.loads((work / "run.json").read_text(encoding="utf-8"))["identity"]["recipe"]["training"]
    best = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["best_model_checkpoint"]
    if not training.get("load_best_model_at_end") or best is None or Path(best).is_dir():
        return []
    return [f"{Path(best).name}, the best until {checkpoint.name}, is gone: where no checkpoint from here on is better, the run ends with its last step"]


def drop_later(work: Path, checkpoint: Path, say: Callable[[str], None]) -> None:
    """Removes the checkpoints behind the one a run goes on from: it will write them again, and `--resume` would take them.

    Says too where the best checkpoint until then is lost.

    Args:
        work: the folder of an unfinished run.
        checkpoint: the one it goes on from.
        say: is given a sentence for each.
    """
    for path in _newest_first(work):
        if _step(path) > _step(checkpoint):
            say(f"{path}: removed, the run goes on from {checkpoint.name}")
            shutil.rmtree(path)
    for sentence in _lost_best(work, checkpoint):
        say(f"{work}: {sentence}")


def forget_lost_best(state: "TrainerState", say: Callable[[str], None], *, is_kept: bool) -> None:
    """Has a trainer go on without a best checkpoint that somebody has deleted.

    transformers 5.23 does so at a resume only. At the end it would keep the last step's weights under the best one's name, or
    with `save_total_limit: 1` fail.

    Args:
        state: the trainer's.
        say: is given a sentence.
        is_kept: the run is to end with its best checkpoint.
    """
    best = state.best_model_checkpoint
    if best is None or Path(best).is_dir():
        return
    state.best_model_checkpoint = None
    if is_kept:
        say(f"{best}, the best checkpoint so far, is gone; where no later one is better, the run ends with its last step")


def drop_broken(work: Path, say: Callable[[str], None]) -> None:
    """Removes checkpoints that were not written whole: they take room, and the trainer would count them as kept.

    Args:
        work: the folder of an unfinished run.
        say: is given a sentence for each.
    """
    processes = json.loads((work / "run.json").read_text(encoding="utf-8"))["identity"]["processes"]
    for path in _newest_first(work):
        if (found := fault(path, processes)) is not None:
            say(f"{path}: passed over and removed, it was not written whole ({found})")
            shutil.rmtree(path)


def fault(checkpoint: Path, processes: int) -> str | None:
    """What a checkpoint lacks; `None` where it is whole.

    Archives of torch are zip files with a checksum for each part; the header of a safetensors file says how long it is.

    Args:
        checkpoint: its folder.
        processes: how many trained, each of which keeps the state of its random generators.
    """
    if (found := _json_fault(checkpoint / "trainer_state.json")) is not None:
        return found
    for what, names in _ONE_OF.items():
        if not any(any(checkpoint.glob(name)) for name in names):
            return f"{what} are missing" if what.endswith("weights") else f"{what} is missing"
    states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{process}.pth" for process in range(processes)]
    if missing := [name for name in states if not (checkpoint / name).is_file()]:
        return f"{missing[0]} is missing"
    if (checkpoint / "optimizer.pt").is_file() and not (checkpoint / "scheduler.pt").is_file():
        return "scheduler.pt is missing"
    if (checkpoint / "adapter_model.safetensors").is_file() and not (checkpoint / "adapter_config.json").is_file():
        return "adapter_config.json is missing"
    for index in checkpoint.glob("*.safetensors.index.json"):
        shards = {*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()} if _json_fault(index) is None else ()
        if missing := sorted(name for name in shards if not (checkpoint / name).is_file()):
            return f"{missing[0]} is missing"
    tests = {".pt": _archive_fault, ".pth": _archive_fault, ".bin": _archive_fault, ".safetensors": _tensors_fault, ".json": _json_fault}
    files = (path for path in sorted(checkpoint.rglob("*")) if path.is_file())
    return next((found for path in files if path.suffix in tests and (found := tests[path.suffix](path)) is not None), None)


def _newest_first(work: Path) -> list[Path]:
    named = (path for path in work.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit())
    return sorted(named, key=_step, reverse=True)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _json_fault(file: Path) -> str | None:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{file.name} is missing"
    except ValueError:
        return f"{file.name} is no whole JSON"
    return None


def _archive_fault(file: Path) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError):
        return f"{file.name} is cut off"
    return f"{file.name} is damaged" if broken else None


def _tensors_fault(file: Path) -> str | None:
    """A safetensors file: eight bytes say how long its JSON is, which says where each tensor ends."""
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        header = stream.read(min(length, file.stat().st_size))
    try:
        tensors = json.loads(header)
    except ValueError:
        return f"{file.name} is cut off"
    ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
    return None if file.stat().st_size == 8 + length + max(ends, default=0) else f"{file.name} is cut off"
