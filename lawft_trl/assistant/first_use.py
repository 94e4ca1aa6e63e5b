"""The user's agreement before the first use, remembered for the terminal: that there was one, of whom and to which text."""

import hashlib
import json
import os
from pathlib import Path

from lawft_trl.assistant.notices import FIRST_USE, FIRST_USE_ACCEPT
from lawft_trl.errors import InputError
from lawft_trl.folders import write_json
from lawft_trl.run_dir import now

# As what the assistant may be used; nobody else is asked to go on.
PURPOSES = {"attorney": "弁護士", "in-house": "弁護士の監督の下にある企業法務", "study": "学習・研究"}


def accepted() -> str | None:
    """As what the user agreed to the text that is shown now; `None` where that has not happened."""
    try:
        record = json.loads(_file().read_bytes())
        return record["purpose"] if record["notice_sha256"] == _shown() and record["purpose"] in PURPOSES else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def accept(purpose: str) -> None:
    """Remembers an agreement, one of `PURPOSES`, in the user's folder for the state of programs.

    Raises:
        InputError: when nothing can be written there.
    """
    file = _file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"purpose": purpose, "notice_sha256": _shown(), "at": now()})
    except OSError as error:
        raise InputError(f"{file}: 同意を記録できません（{error.strerror}）", ["name a folder that can be written to with the environment variable XDG_STATE_HOME"]) from None


def _shown() -> str:
    return hashlib.sha256(f"{FIRST_USE}\n{FIRST_USE_ACCEPT}".encode()).hexdigest()


def _file() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "lawft" / "assistant.json"
