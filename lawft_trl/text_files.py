"""Reading text that others wrote: UTF-8, JSONL, CSV, and the messages when it is none of these."""

import codecs
import csv
import hashlib
import io
import json
from pathlib import Path

from lawft_trl.errors import InputError


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; a file that cannot be read or another encoding is an `InputError` that names the mend."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file (looked in {path.parent.resolve()})") from None
    except IsADirectoryError:
        raise InputError(f"{path}: this is a folder; a file is expected") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read it (see ls -l {path})") from None
    except UnicodeDecodeError as error:
        utf16 = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        kind, encoding = ("it begins as UTF-16 does", "UTF-16") if utf16 else ("if it is Shift-JIS", "CP932")
        raise InputError(
            f"{path}: not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x}); "
            f"{kind}, convert it: iconv -f {encoding} -t UTF-8 {path} > {path.stem}.utf8{path.suffix}"
        ) from None


def refuse_array(path: Path, text: str) -> None:
    """Raises an `InputError` that names the mend where the text is one JSON array instead of an object a line."""
    if text.lstrip().startswith("["):
        raise InputError(f"{path}: this is one JSON array; write one object a line (JSONL): jq -c '.[]' {path} > {path.stem}.jsonl")


def read_jsonl(path: Path) -> list[tuple[int, object]]:
    """`(line number, value)` of every non-blank line of a JSONL file.

    Raises:
        InputError: for a missing or empty file, another encoding, or lines that are not JSON.
    """
    records, problems = [], []
    text = read_text(path)
    refuse_array(path, text)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append((number, json.loads(line)))
        except json.JSONDecodeError as error:
            problems.append(f"{path}:{number}: not JSON: {error.msg} at column {error.colno}: {line.strip()[:60]!r}")
    if problems:
        raise InputError(f"{path}: {len(problems)} line(s) are not JSON; each line must be one whole object", problems)
    if not records:
        raise InputError(f"{path}: the file is empty; one JSON object a line is expected")
    return records


def csv_lines(text: str) -> tuple[list[tuple[int, list[str]]], tuple[int, str] | None]:
    """`(line number, cells)` of every line of a CSV text that holds anything, a cell's line breaks being within its line.

    Returns:
        The lines, and where and why the text is no CSV from there on: `None` where it is.
    """
    lines, start = [], 1
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(cells):
                lines.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        mend = 'a text with commas, line breaks or quotation marks stands in "…", and a " within it is written ""'
        return lines, (start, f"not CSV: {error}; {mend}")
    return lines, None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
