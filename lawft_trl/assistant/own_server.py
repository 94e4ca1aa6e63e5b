"""A run's model, and its base where wanted, served on this machine for as long as the assistant runs."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

from lawft_trl.assistant.models import ModelEntry, entry_from_url
from lawft_trl.errors import InputError
from lawft_trl.evaluation.held_out import run_tokenizer
from lawft_trl.export.bound_child import bound
from lawft_trl.export.serving import (
    end_server,
    require_serving,
    serving_command,
    serving_environment,
    tuned_folder,
    untuned_folder,
)
from lawft_trl.run_dir import FinishedRun, read_run

_LAST_LINES = 8  # of a server that did not start


@contextlib.contextmanager
def served_run(path: Path, *, with_base: bool) -> Iterator[tuple[ModelEntry, ModelEntry | None]]:
    """Serves a finished run by `transformers serve` on loopback addresses; the servers have ended when the block has.

    SIGTERM and SIGHUP, which would end this process alone, end the block instead; after SIGKILL the kernel ends the servers (Linux).

    Args:
        path: the run.
        with_base: serve its untuned model too.

    Raises:
        InputError: for what cannot be served, or a server that does not start.
    """
    require_serving()
    run = read_run(path)
    name = re.sub(r"[^\w.-]", "_", path.resolve().name)
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with tempfile.TemporaryDirectory(prefix="lawft-assistant-") as temporary, contextlib.ExitStack() as servers:
            folder = Path(temporary)
            tuned_folder(path, folder / name)
            waiting = [_start(run, folder, name, servers)]
            if with_base:
                untuned_folder(run.recipe, run_tokenizer(run), folder / f"{name}-base")
                waiting.append(_start(run, folder, f"{name}-base", servers))
            sys.stderr.write("モデルを読み込んでいます…\n")
            sys.stderr.flush()
            urls = [_ready(*each) for each in waiting]
            entry = entry_from_url(urls[0], name, backend="transformers", run=path)
            base = replace(entry, alias=f"{name}-base", model=f"{name}-base", base_url=urls[1], adapter_sha256=None) if with_base else None
            yield entry, base
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _start(run: FinishedRun, folder: Path, name: str, servers: contextlib.ExitStack) -> tuple[subprocess.Popen, str, Path]:
    """Starts a server that knows its model by the folder's name."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / f"{name}.log"  # goes with the folder
    command = bound(serving_command(run.recipe, name, port), signal.SIGKILL)
    with log.open("wb") as output:
        child = subprocess.Popen(command, cwd=folder, env=serving_environment(), start_new_session=True, stdout=output, stderr=output)
    servers.callback(end_server, child)
    return child, f"http://127.0.0.1:{port}", log


def _ready(child: subprocess.Popen, url: str, log: Path) -> str:
    """Waits until a server answers; returns its base URL."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while child.poll() is None:
        with contextlib.suppress(URLError, OSError), direct.open(f"{url}/health", timeout=5):
            return f"{url}/v1"
        time.sleep(0.5)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    raise InputError(f"`transformers serve` ended with {child.returncode} before it answered", lines[-_LAST_LINES:])
