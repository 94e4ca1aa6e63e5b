"""Folders and files that appear whole or not at all."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError


def refuse_existing(target: Path, *, force: bool, mark: str, rename: str) -> None:
    """Raises `InputError` when `target` exists and may not be replaced.

    Args:
        target: the folder that is to be made.
        force: a folder of the same kind may be replaced; one that holds something else never is.
        mark: the file every folder of this kind holds, e.g. `"run.json"`.
        rename: what the user sets to give another name, e.g. `"--out"`.
    """
    if not target.name:
        raise InputError(f"{target}: name a new folder, not the current one")
    if not target.exists():
        return
    if not target.is_dir() or (not (target / mark).exists() and any(target.iterdir())):
        raise InputError(f"{target}: something else is there (no {mark}), and it is never replaced; give another {rename}")
    if not force and any(target.iterdir()):
        raise InputError(f"{target}: already there; give another {rename}, or --force to replace it")


@contextlib.contextmanager
def whole_folder(target: Path, *, force: bool, mark: str, rename: str) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its name when the block ends well and is removed when it does not.

    Args:
        target: the folder to make.
        force: replace an existing `target`, which stays untouched until the new one is whole.
        mark: the file every folder of this kind holds; see `refuse_existing`.
        rename: what the user sets to give another name.

    Raises:
        InputError: when `target` may not be replaced, or the disk is full.
    """
    refuse_existing(target, force=force, mark=mark, rename=rename)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    try:
        temporary.mkdir(parents=True)
    except (NotADirectoryError, FileExistsError, PermissionError, FileNotFoundError) as error:
        raise InputError(f"{target}: no folder can be made there: {error.strerror}; give another {rename}") from None
    try:
        yield temporary
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{target}: no space left on the disk of {temporary.parent.resolve()}; nothing was written there",
                [f"make room, or give a {rename} on another disk"],
            ) from error
        raise
    put_in_place(temporary, target)


def put_in_place(finished: Path, target: Path) -> None:
    """Renames a finished folder to `target`; what stood there is removed only after the new one stands there."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.rename(old)
    finished.rename(target)
    if old.exists():
        shutil.rmtree(old)


def write_json(path: Path, value: Any) -> None:
    """Writes indented UTF-8 JSON under a temporary name and renames it."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text under a temporary name and renames it."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it."""
    temporary = path.with_name(f".{path.name}.unfinished")
    temporary.write_bytes(content)
    temporary.replace(path)
