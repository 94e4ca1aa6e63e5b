"""Several trainings of one command, each by the launcher and each scored by `lawft eval`, in processes of their own.

No model stays in memory between them, and what each leaves is a run like any other. Finished runs are kept, interrupted ones
go on from their last checkpoint.
"""

import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm

from lawft_trl import run_dir
from lawft_trl.errors import InputError
from lawft_trl.recipe import Recipe
from lawft_trl.training.checkpoints import last_checkpoint

_LOCK = ".lock"  # in the folder that the runs are in
_LAUNCHER = Path(__file__).parents[1] / "sft.py"
_LOG_LINES = 20  # of a failed child's output that are shown
_SECONDS_TO_END = 10  # for the children of a killed command, before another one may begin
_SECONDS_TO_SAVE = 270  # for a child that was told to end: it finishes its step, or its evaluation, and saves a checkpoint


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One training of several.

    Attributes:
        name: what it is called among them, and its log.
        recipe: the recipe with the settings of this one, its folder among them.
        overrides: the settings that make it of the file.
        identity: what it would be trained with now, see `run_dir.identity`.
    """

    name: str
    recipe: Recipe
    overrides: tuple[str, ...]
    identity: dict[str, Any]

    @property
    def run(self) -> Path:
        """The folder of its finished run."""
        return Path(self.recipe.values["training"]["output_dir"])

    @property
    def log(self) -> Path:
        """What its training and scoring printed."""
        return self.run.with_name(f"{self.name}.log")

    @property
    def title(self) -> str:
        """What an error calls it."""
        return self.name


def refuse_push(recipe: Recipe, kind: str) -> None:
    """Refuses to push each of several runs, of which only the last would stay in the repository; `kind` is what they are called."""
    if recipe.training("push_to_hub"):
        raise InputError(f"training.push_to_hub: {kind} are not pushed; set training.push_to_hub=false, and push the one you choose by hand: hf upload USER/NAME RUN")


@contextlib.contextmanager
def alone(out: Path, *, verb: str, kind: str) -> Iterator[IO[bytes]]:
    """Holds the folder of several runs for one command.

    The lock is given to every child as its standard input, so that it is held until the last of them has ended, also
    when this process is killed and cannot end them.

    Args:
        out: the folder.
        verb: the command, `"lawft cv"`.
        kind: what it makes there, in words.

    Raises:
        InputError: when something else is there, or another such command is at work.
    """
    if out.exists() and not (out / _LOCK).exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: something else than a {kind} is there; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    with (out / _LOCK).open("w+b") as lock:
        for _ in range(_SECONDS_TO_END):  # the children of a killed one may take a moment
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.5)
        else:
            raise InputError(
                f"{out}: another `{verb}` is at work there, or a training that one began",
                [f"wait for it, or end it; this shows its processes: fuser -v {shlex.quote(str(out / _LOCK))}"],
            )
        heard = signal.signal(signal.SIGTERM, _interrupt)
        try:
            yield lock
        finally:
            signal.signal(signal.SIGTERM, heard)


def refuse_changed(plan: Sequence[PlannedRun], out: Path, *, force: bool, kind: str) -> None:
    """Refuses to go on where runs were trained with another recipe or data; `kind` is what they are called, `"folds"`."""
    changed = [f"{path}: {change}" for planned in plan for path in (planned.run, run_dir.unfinished(planned.run)) for change in changes(path, planned)]
    if changed and not force:
        mends = [f"--force trains those {kind} again; another --out keeps them"]
        raise InputError(f"{out}: {kind} there were trained with another recipe or other data", [*changed, *mends])


def changes(path: Path, planned: PlannedRun) -> list[str]:
    """What the run in `path` was begun with and is otherwise now; nothing where there is none."""
    if not (path / "run.json").is_file():
        return []
    begun = json.loads((path / "run.json").read_text(encoding="utf-8"))["identity"]
    before, now = _flat(begun), _flat(json.loads(json.dumps(planned.identity)))  # what JSON makes of it, e.g. keys that are numbers
    return [f"{key}: trained with {before.get(key)!r}, now {now.get(key)!r}" for key in sorted({*before, *now}) if before.get(key) != now.get(key)]


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity's values by name. The number of processes is the launcher's to compare: it alone knows its own."""
    values = {f"{section}.{key}": value for section, keys in identity["recipe"].items() for key, value in keys.items()}
    hashes = {f"sha256 of {entry['file']}": entry["sha256"][:12] for entries in identity["data"].values() for entry in entries}
    return {**values, **hashes, "prompt fingerprint": identity["prompt_fingerprint"][:12]}


def require_one_launch(plan: Sequence[PlannedRun], out: Path, *, kind: str) -> None:
    """Refuses runs that were trained by different numbers of processes, and so in batches of different sizes."""
    processes = {str(planned.run): run_dir.read_run(planned.run).record["identity"]["processes"] for planned in plan}
    if len(set(processes.values())) > 1:
        raise InputError(
            f"{out}: its {kind} were trained by different numbers of processes (--config_file)",
            [*(f"{run}: {count} process(es)" for run, count in processes.items()), "remove the folders of some of them, and they are trained again"],
        )


def launch_command(path: Path, config_file: Path | None) -> list[str]:
    """The launcher with its recipe; `config_file` is that of accelerate launch."""
    config = ["--config_file", str(config_file)] if config_file else []
    return [sys.executable, "-m", "accelerate.commands.launch", "--quiet", *config, str(_LAUNCHER), str(path)]


def is_finished(planned: PlannedRun, evaluation: str) -> bool:
    """Whether it is trained as it would be now, and scored."""
    return _is_trained(planned) and _is_scored(planned, evaluation)


def _is_trained(planned: PlannedRun) -> bool:
    return (planned.run / "run.json").is_file() and not changes(planned.run, planned)


def _is_scored(planned: PlannedRun, evaluation: str) -> bool:
    return (planned.run / "eval" / evaluation / "metrics.json").is_file()


def finish_run(planned: PlannedRun, launch: Sequence[str], options: Sequence[str], lock: IO[bytes], *, evaluation: str, test: Path | None = None) -> None:
    """Trains and scores a run, as far as that has not been done.

    Args:
        planned: the run.
        launch: what `launch_command` returned.
        options: of the launcher.
        lock: what `alone` gave.
        evaluation: the evaluation's name.
        test: the rows it scores; the recipe's `data.test` where none are named.

    Raises:
        InputError: with the end of its output when a child fails.
    """
    if not _is_trained(planned):
        work = run_dir.unfinished(planned.run)
        if (work / "run.json").is_file() and not changes(work, planned) and last_checkpoint(work):
            how = ["--resume"]
        else:  # what is left of one that was begun with the same and has no checkpoint, or may be replaced, see refuse_changed
            how = ["--force"]
        _run([*launch, *planned.overrides, *options, *how], planned, "training", lock)
    if not _is_scored(planned, evaluation):
        rows = ["--test", str(test)] if test else []
        _run([sys.executable, "-m", "lawft_trl.cli", "eval", str(planned.run), *rows, "--name", evaluation], planned, "evaluation", lock)


def _run(command: Sequence[str], planned: PlannedRun, what: str, lock: IO[bytes]) -> None:
    """Runs a child whose output goes to the run's log; it has ended when this function has."""
    planned.log.parent.mkdir(parents=True, exist_ok=True)
    # In W&B the runs of one command are one group
    out = Path(lock.name).parent
    environment = {"WANDB_RUN_GROUP": out.name} | os.environ | {"WANDB_NAME": planned.run.relative_to(out).as_posix()}
    with planned.log.open("ab") as log:
        log.write(f"\n$ {shlex.join(command)}\n".encode())  # a killed one left its line unfinished
        log.flush()
        start = log.tell()
        child = subprocess.Popen(command, stdin=lock, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            code = child.wait()
        except BaseException:
            _end(child)
            raise
    if code:
        said = planned.log.read_bytes()[start:].decode("utf-8", errors="replace").replace("\r", "\n").split("\n")
        lines = [line for line in said if line.strip()][-_LOG_LINES:]
        raise InputError(f"{what} of {planned.title} failed (exit code {code}); the end of {planned.log}:", lines)


def _end(child: subprocess.Popen) -> None:
    """Ends a child with all that it started, which `accelerate launch` would leave alone; a second Ctrl-C does not wait."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(child.pid)
        tree = [*parent.children(recursive=True), parent]
        tqdm.write("Waiting for the run at work to save a checkpoint; Ctrl-C again ends it at once", file=sys.stderr)
        for end, seconds in ((psutil.Process.terminate, _SECONDS_TO_SAVE), (psutil.Process.kill, _SECONDS_TO_END)):
            for process in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    end(process)
            with contextlib.suppress(KeyboardInterrupt):
                psutil.wait_procs(tree, timeout=seconds)
            tree = [process for process in tree if process.is_running()]
    child.wait()


def _interrupt(number: int, frame: Any) -> None:
    """SIGTERM, as cluster schedulers send it, ends a command as Ctrl-C does."""
    raise KeyboardInterrupt
