"""Signals that end a training: what is heard, and the command that goes on with it.

A launcher hands its signals on to its processes, and Ctrl-C reaches all processes of a terminal, so that one wish may come
twice. And `accelerate launch` with one process hands nothing on: it dies and leaves the training running. So a process of
a launcher asks the kernel for SIGUSR1 when its launcher dies.
"""

import contextlib
import ctypes
import os
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from lawft_trl.training.checkpoints import LATEST

_TOLD = "SIGUSR1"  # Slurm's `--signal=USR1`, and a launcher that died; there is none on Windows
_SIGNALS = ("SIGINT", "SIGTERM", _TOLD)
_SAME = 2.0  # seconds in which a second signal is the same wish, handed on
_NO_CHECKPOINT = re.compile(r"-|[a-z_]+(\.\w+)+=|.*\.ya?ml$")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass
class Heard:
    """What was heard.

    Attributes:
        number: of the first signal; 0 for none.
        at: when, by `time.monotonic()`.
    """

    number: int = 0
    at: float = 0.0

    @property
    def exit_code(self) -> int:
        """What a shell reports of a process that ended so: 130 for Ctrl-C, else 143."""
        return 130 if self.number == signal.SIGINT else 143


@contextlib.contextmanager
def hearing_signals(may_wait: Callable[[], bool] = lambda: False) -> Iterator[Heard]:
    """Listens to SIGINT, SIGTERM and SIGUSR1 in the block; signals that are ignored (`nohup`) stay so.

    Args:
        may_wait: asked at the first signal. `True`: it is only noted, and whoever runs the block ends it soon. `False`: there
            is nothing to save, and the process ends at once.

    Yields:
        What was heard so far.
    """
    heard = Heard()

    def hear(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if not heard.number:
            heard.number, heard.at = number, time.monotonic()
            if not may_wait():
                _say(f"\nStopped by {name}; no step was done that would have to be saved.")
                raise SystemExit(heard.exit_code)
            _say(f"\n{name}: ends as soon as what is running is finished and saved; once more, and it ends at once.")
        elif name != _TOLD and time.monotonic() - heard.at > _SAME:
            _say(f"\n{name} again: ended at once, nothing was saved.")
            os._exit(Heard(number).exit_code)

    numbers = [number for number in (getattr(signal, name, None) for name in _SIGNALS) if number is not None]
    if threading.current_thread() is not threading.main_thread():  # Python hears signals there alone
        numbers = []
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, hear)
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_launcher() -> None:
    """Has Linux send SIGUSR1 when the launcher that started this process dies, and so can no longer hand a signal on."""
    if sys.platform == "linux" and (launcher := _launcher()) is not None and launcher[0] == os.getppid():
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGUSR1), 0, 0, 0)


def resume_command() -> str:
    """What the user typed, `accelerate launch` included, and `--resume`: from the latest checkpoint."""
    launcher = _launcher()
    words = join_resume(launcher[1] if launcher else sys.orig_argv)
    words = [word for word in words if word != "--force" and not word.startswith("--resume=")]
    if Path(words[0]).name.startswith("python"):
        words = [Path(words[1]).name, *words[2:]] if Path(words[1]).name in ("accelerate", "torchrun") else ["python", *words[1:]]
    return shlex.join([*words, "--resume"])


def join_resume(words: Sequence[str]) -> list[str]:
    """A command line in which `--resume` and the checkpoint it may be followed by are one word.

    What follows is a checkpoint unless it is an option, an override (`section.key=value`) or a recipe, which argparse alone
    could not tell apart.
    """
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--resume":
            joined[-1] = f"--resume={LATEST if _NO_CHECKPOINT.match(word) else word}"
            if not _NO_CHECKPOINT.match(word):
                continue
        joined.append(word)
    return [*joined[:-1], f"--resume={LATEST}"] if joined[-1:] == ["--resume"] else joined


def _launcher() -> tuple[int, list[str]] | None:
    """Process id and command line of the `accelerate launch` or `torchrun` that started this process."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for process in psutil.Process().parents():
            words = process.cmdline()
            program = [Path(word).name for word in words[:3]]
            if program and program[0].startswith("python") and {"accelerate", "accelerate.commands.launch", "torchrun"} & {*program}:
                return process.pid, words
    return None


def _say(text: str) -> None:
    """Writes from inside a signal handler, where a print may find its stream busy; of several processes one speaks."""
    if os.environ.get("RANK", "0") == "0":
        with contextlib.suppress(OSError):
            os.write(sys.__stderr__.fileno(), f"{text}\n".encode())
