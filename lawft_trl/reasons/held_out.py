"""Which questions belong to an evaluation split, so that no teacher ever sees them."""

import json
from collections.abc import Sequence
from pathlib import Path

from lawft_trl.data.prompts import build_messages
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.questions import Question, read_questions
from lawft_trl.data.rows import Row, read_rows
from lawft_trl.errors import InputError
from lawft_trl.text_files import read_jsonl, read_text


def known_splits(file: Path) -> list[Path]:
    """The data folders whose held-out questions are known without being named: the file's own, and those in `data/`."""
    candidates = [file.parent, *(sorted(Path("data").iterdir()) if Path("data").is_dir() else [])]
    folders = {folder.resolve(): folder for folder in reversed(candidates) if _manifest(folder) is not None}
    return sorted(folders.values())


def held_out_questions(questions: Sequence[Question], file: Path, sources: Sequence[Path]) -> dict[str, str]:
    """The questions that are, or nearly are, in an evaluation split.

    Args:
        questions: those of `file`.
        file: its folder's manifest, if there is one, says which data set the questions are of. Where nothing says it,
            an equal id counts as the same question.
        sources: data folders (everything in them but the train split; under cross-validation, every fold), files of
            rows, or files of questions.

    Returns:
        Question id -> why it is held out.

    Raises:
        InputError: when a source is none of these.
    """
    rows = [row for source in sources for row in _held_out_rows(source)]
    dataset = (_manifest(file.parent) or {}).get("dataset")
    mine = [_row(question, dataset, f"{file}: {question.id}") for question in questions]
    return {overlap.train.id: f"{overlap.reason} as {overlap.test.source}" for overlap in find_overlaps(mine, rows)}


def _held_out_rows(source: Path) -> list[Row]:
    if source.is_dir():
        manifest = _manifest(source)
        if manifest is None:
            raise InputError(f"{source}: not a data folder (no manifest.json with splits)", ["name one that lawft data wrote, or a file of rows"])
        parts = list(manifest["folds"].values()) if manifest.get("folds") else [manifest]
        split_of = {id: name for part in parts for name, split in part["splits"].items() if name != "train" for id in split["ids"]}
        return [
            _row(question, manifest.get("dataset"), f"{source} ({split_of[question.id]}): {question.id}")
            for question in read_questions(source / "questions.jsonl")
            if question.id in split_of
        ]
    first = read_jsonl(source)[0][1]
    if isinstance(first, dict) and "choices" in first:
        return [_row(question, None, f"{source}: {question.id}") for question in read_questions(source)]
    return read_rows(source)


def _row(question: Question, dataset: str | None, source: str) -> Row:
    """A question as the overlap search reads it: without its group, whose name means nothing in another data set."""
    meta = {"id": question.id, "dataset": dataset, "question": question.question, "choices": question.choices}
    return Row(prompt=tuple(build_messages(question, answer="direct")), output=question.answer, meta=meta, source=source)


def _manifest(folder: Path) -> dict | None:
    """The manifest of a data folder; `None` for any other folder."""
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    try:
        manifest = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON, so what it holds out is not known", ["make the folder again, or move it away"]) from None
    if not isinstance(manifest, dict) or not ("splits" in manifest or "folds" in manifest):
        return None
    parts = [*manifest.get("folds", {}).values()] if isinstance(manifest.get("folds", {}), dict) else [None]
    parts += [manifest] if "splits" in manifest else []
    for part in parts:
        splits = part.get("splits") if isinstance(part, dict) else None
        if not isinstance(splits, dict) or not all(isinstance(split, dict) and isinstance(split.get("ids"), list) for split in splits.values()):
            raise InputError(f"{path}: not a manifest that `lawft data` wrote, so what it holds out is not known", ["move it away"])
    return manifest
