"""`lawft serve-jobs`: one server, one folder, one key."""

import contextlib
import fcntl
import ipaddress
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import uvicorn

from lawft_trl.errors import InputError
from lawft_trl.export.serving import require_port
from lawft_trl.folders import write_text
from lawft_trl.job_server.api_errors import without_tracebacks
from lawft_trl.job_server.api_key import VARIABLE, api_key
from lawft_trl.job_server.app import build_app
from lawft_trl.job_server.job_recipes import read_bases
from lawft_trl.job_server.places import Places
from lawft_trl.job_server.store import Store
from lawft_trl.job_server.worker import Worker

_LOCK = ".lawft-jobs"  # also the mark by which such a folder is known
_SECONDS_TO_ANSWER = 5  # for requests that are being answered when the server is told to end
# What `accelerate launch` is told where no file is named: without one it would take every GPU, or the user's own default.
_ONE_PROCESS = "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nnum_processes: 1\nnum_machines: 1\ngpu_ids: '0'\nmixed_precision: 'no'\n"


def serve_jobs(
    folder: Path,
    bases: Mapping[str, Path],
    *,
    host: str,
    port: int,
    max_upload: int,
    most_served: int,
    config_file: Path | None,
    say: Callable[[str], None],
) -> None:
    """Serves until it is told to end; all its children have ended then.

    Args:
        folder: where it keeps everything; made where there is none.
        bases: name -> recipe of the models that can be tuned.
        host: address to listen on.
        port: to listen on.
        max_upload: bytes of a file.
        most_served: how many models answer at once, each in a process of its own.
        config_file: of accelerate launch; one process without it.
        say: is given what is to be known, in sentences; never the key.

    Raises:
        InputError: for settings that cannot be used, or when another server has the folder.
    """
    read = read_bases(bases)
    _require_address(host, port)
    with _owner_alone_reads(), _alone(folder):
        key, where = api_key(folder)
        for name in ("files", "jobs", "runs", "served"):
            (folder / name).mkdir(exist_ok=True)
        if config_file is None:
            config_file = folder / "accelerate.yaml"
            write_text(config_file, _ONE_PROCESS)
        places, store = Places(folder=folder.resolve()), Store(folder / "jobs.sqlite3")
        _drop_unfinished(store, places)
        worker = Worker(store, places, read, config_file)
        app = build_app(store, places, read, worker, key=key, max_upload=max_upload, most_served=most_served)
        say(f"OpenAI's fine-tuning API for {', '.join(read)}: base_url http://{f'[{host}]' if ':' in host else host}:{port}/v1")
        say(f"API key: {where}")
        logging.basicConfig(format="%(levelname)s:     %(message)s", level=logging.WARNING)
        config = uvicorn.Config(without_tracebacks(app), host=host, port=port, log_level="info", server_header=False, timeout_graceful_shutdown=_SECONDS_TO_ANSWER)
        try:
            uvicorn.Server(config).run()
        finally:
            store.close()


def _require_address(host: str, port: int) -> None:
    """Refuses an address that cannot be listened on, and one that others reach unless the key was given on purpose."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            host = "localhost"
    if host != "localhost" and not os.environ.get(VARIABLE):
        raise InputError(
            f"--host {host}: others can reach this address",
            [f"give the API key on purpose: {VARIABLE}=…, and put a reverse proxy with TLS in front of it", "or stay on this machine: --host 127.0.0.1"],
        )
    require_port(host, port)


@contextlib.contextmanager
def _owner_alone_reads() -> Iterator[None]:
    """What is written meanwhile, by children too, is readable for its owner alone: uploads, rows, runs."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[IO[bytes]]:
    """Holds the server's folder, which nobody else may read; the lock ends with the process, however it ends."""
    if folder.exists() and not (folder / _LOCK).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: something else than the folder of `lawft serve-jobs` is there; give another --folder")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)  # one that was there is anybody's to read, as a rule
        lock = (folder / _LOCK).open("a+b")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to, or not be kept from others: {error.strerror}; give another --folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another `lawft serve-jobs` is at work there", ["give another --folder, or end that one"]) from None
        yield lock


def _drop_unfinished(store: Store, places: Places) -> None:
    """Removes what a killed server had not finished: uploads without a record, folders that were being made."""
    for path in places.upload("x").parent.iterdir():
        if store.file(path.name) is None:
            path.unlink()
    for path in (places.folder / "served").glob(".*.unfinished"):
        shutil.rmtree(path)
