"""Processes of the server's: none outlives it for long, and all are found again by a mark in their environment.

`torchrun` gives each of its workers a session of its own, and a launcher that is killed leaves its training running: neither
a process group nor a recorded id would find them all, and an id may be another's by then. The environment is inherited.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import psutil

from lawft_trl.export.bound_child import bound
from lawft_trl.job_server.api_key import VARIABLE

_FOLDER, _WHAT, _SERVER = "LAWFT_JOBS_FOLDER", "LAWFT_JOBS_CHILD", "LAWFT_JOBS_SERVER"
_THIS = secrets.token_hex(8)  # this server, and no earlier one of the folder
_SECONDS_TO_END = 10  # after SIGKILL


def start_child(command: Sequence[str], *, folder: Path, mark: str, output: IO[bytes], death: signal.Signals) -> subprocess.Popen:
    """Starts a command in a session of its own.

    To be called by a thread that lives as long as the server: the child hears `death` when the thread ends. It inherits the
    server's environment but for the API key.

    Args:
        command: what to run.
        folder: the server's.
        mark: what it is, `"job ftjob-…"`.
        output: where stdout and stderr go.
        death: what it is sent when the server dies.
    """
    variables = {**os.environ, _FOLDER: str(folder.resolve()), _WHAT: mark, _SERVER: _THIS}
    variables.pop(VARIABLE, None)
    return subprocess.Popen(bound(command, death), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=variables, start_new_session=True)


def marked(folder: Path, mark: str | None = None, *, leftover: bool = False) -> list[psutil.Process]:
    """The processes that a server of this folder started, and theirs; of one mark, or all; or those an earlier server has left."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            variables = process.environ()
            if leftover and variables.get(_SERVER) == _THIS:
                continue
            if variables.get(_FOLDER) == str(folder.resolve()) and mark in (None, variables.get(_WHAT)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_leftovers(folder: Path, *, seconds: float, stopping: threading.Event) -> None:
    """Ends what a server that was killed has left. On Linux it has been told, and a training may be saving a checkpoint.

    Args:
        folder: the server's.
        seconds: how long they may take to end by themselves.
        stopping: ends the wait; what is left then is the next server's to wait for.
    """
    deadline = time.monotonic() + (seconds if sys.platform == "linux" else 0)
    while marked(folder, leftover=True) and time.monotonic() < deadline:
        if stopping.wait(1):
            return
    _end(lambda: marked(folder, leftover=True), seconds=_SECONDS_TO_END)


def end_children(folder: Path, mark: str | None = None, *, seconds: float) -> int:
    """Ends marked processes: SIGTERM, at which a training saves a checkpoint, and after some seconds SIGKILL.

    Args:
        folder: the server's.
        mark: of those to end; all of them by default.
        seconds: how long they may take to end by themselves.

    Returns:
        How many there were.
    """
    return _end(lambda: marked(folder, mark), seconds=seconds)


def _end(look: Callable[[], list[psutil.Process]], *, seconds: float) -> int:
    found = rest = look()
    for end, patience in ((psutil.Process.terminate, seconds), (psutil.Process.kill, _SECONDS_TO_END)):
        for process in rest:
            with contextlib.suppress(psutil.Error):
                end(process)
        psutil.wait_procs(rest, timeout=patience)
        rest = look()  # some may have started others meanwhile
        if not rest:
            break
    return len(found)
