"""Files of rows or questions as the doctor reads them: every fault a finding, and what can be read is examined."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawft_trl.data.contexts import gold_context
from lawft_trl.data.lawqa import find_lawqa, read_lawqa
from lawft_trl.data.near_duplicates import question_texts
from lawft_trl.data.questions import Question, read_questions
from lawft_trl.data.row_problems import record_problems, unknown_keys
from lawft_trl.data.rows import Row, question_to_record, row_key, row_turns
from lawft_trl.doctor.answer_checks import diversity_figures
from lawft_trl.doctor.examine import BENCHMARK, MAX_OUTPUT, Role, examine
from lawft_trl.doctor.findings import Example, Finding, example, worst_first
from lawft_trl.errors import InputError
from lawft_trl.text_files import read_text, refuse_array

_SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found in one file.

    Attributes:
        file: its path.
        role: what its rows are for, by its name and form.
        rows: those that could be read.
        figures: how many rows, questions and gold letters; how different texts and reasoned outputs are.
        findings: worst first.
    """

    file: Path
    role: Role
    rows: list[Row]
    figures: dict[str, Any]
    findings: list[Finding]


def examine_files(
    targets: Sequence[Path], *, against: Mapping[str, Sequence[Row]], max_output: int = MAX_OUTPUT
) -> list[Report]:
    """Examines files, and those of folders that `lawft data` wrote.

    Each file is compared with the evaluation splits beside it (a training file with `test*.jsonl` and `dev*.jsonl`, a
    dev file with `test*.jsonl`), with `against`, and where nothing of lawqa_jp is among these with the lawqa_jp that
    `$LAWFT_LAWQA_DIR` names.

    Raises:
        InputError: when something that is named is not there or is no data.
    """
    files = [file for target in targets for file in (_files_in(target) if target.is_dir() and not _is_lawqa(target) else [target])]
    missing = [f"{file}: no such file (looked in {file.parent.resolve()})" for file in files if not file.exists()]
    if missing:
        raise InputError(f"{len(missing)} of the files to check cannot be found", missing)
    return [_examine_file(file, against=against, max_output=max_output) for file in files]


def evaluation_rows(source: Path, *, splits: tuple[str, ...] = ("test",)) -> list[Row]:
    """The rows of an evaluation set: a file of rows or questions, lawqa_jp, or the test splits of a data folder.

    Args:
        source: the file or folder.
        splits: what the names of those files of a folder begin with that are read; `("",)` for all of them.

    Raises:
        InputError: when it is none of these, or faulty.
    """
    if source.is_dir() and not _is_lawqa(source):
        files = [file for file in _files_in(source) if file.stem.startswith(splits)]
        if not files:
            raise InputError(f"{source}: no test split (test*.jsonl) is in this folder", ["it holds out nothing; name one of its files instead"])
        rows = [row for file in files for row in evaluation_rows(file)]
        return list({(row.meta.get("dataset"), row.id, question_texts(row)): row for row in reversed(rows)}.values())[::-1]
    rows, findings, _ = read_data(source)
    if findings:
        problems = [line for found in findings for line in ([f"{item.place}: {item.excerpt}" for item in found.examples] or [found.message])]
        raise InputError(f"{source}: it cannot be compared with, for it has errors of its own; lawft check {source}", problems)
    return rows


def conversations(rows: Sequence[Row]) -> int:
    """How many conversations rows of dialogues are of; a row that names none is one of its own."""
    return len({row.meta.get("conversation") or row.id for row in rows})


def benchmark_rows(evaluation: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The questions of lawqa_jp in `$LAWFT_LAWQA_DIR`; none where that is not set or part of it is an evaluation split."""
    folder = os.environ.get("LAWFT_LAWQA_DIR")
    known = any(row.meta.get("dataset") == BENCHMARK for rows in evaluation.values() for row in rows)
    return evaluation_rows(Path(folder)) if folder and not known else []


def read_data(path: Path) -> tuple[list[Row], list[Finding], Role]:
    """The rows that can be read, a finding for every kind of line that cannot, and what the rows are for.

    Args:
        path: JSONL of rows or questions, or lawqa_jp (its folder or one of its JSON files).
    """
    if path.is_dir() or path.suffix == ".json":
        try:
            if path.is_file():
                refuse_array(path, read_text(path))
            return [_question_row(question, BENCHMARK, f"{path}: {question.id}") for question in read_lawqa(find_lawqa(path))], [], "questions"
        except InputError as error:
            return [], _problem_findings(path, error, code="format"), "questions"
    role: Role = "evaluation" if path.stem.startswith(("test", "dev")) else "train"
    try:
        text = read_text(path)
    except InputError as error:
        if not path.is_file() or not os.access(path, os.R_OK):
            raise
        return [], _problem_findings(path, error, code="encoding"), role
    try:
        refuse_array(path, text)
    except InputError as error:
        return [], _problem_findings(path, error, code="format"), role
    records, faults = _records(path, text)
    first = next((record for _, record in records if isinstance(record, dict)), {})
    if "choices" in first and not {"input", "prompt", "messages"} & set(first):
        try:
            dataset = _dataset(path)
            return [_question_row(question, dataset, f"{path}: {question.id}") for question in read_questions(path)], [], "questions"
        except InputError as error:
            return [], _problem_findings(path, error, code="format"), "questions"
    rows = _rows(path, records, faults)
    return rows, _line_findings(faults, total=len(records) + len(faults["not-json"]), path=path), role


def _examine_file(file: Path, *, against: Mapping[str, Sequence[Row]], max_output: int) -> Report:
    rows, findings, role = read_data(file)
    evaluation = dict(against)
    for sibling in _evaluation_beside(file):
        try:
            evaluation[str(sibling)] = evaluation_rows(sibling)
        except InputError as error:
            findings.append(
                Finding(
                    code="evaluation-unreadable",
                    severity="warning",
                    message=f"an evaluation split beside it could not be compared with: {error.heading}",
                    count=len(rows),
                    total=len(rows),
                    mend=f"lawft check {sibling}",
                )
            )
    benchmark = benchmark_rows(evaluation) if role == "train" else []
    findings += examine(rows, role=role, evaluation=evaluation, benchmark=benchmark, max_output=max_output)
    figures = {"rows": len(rows), "questions": len({(row.meta.get("dataset"), row.id) for row in rows}), **diversity_figures(rows)}
    return Report(file=file, role=role, rows=rows, figures=figures, findings=worst_first(findings))


def _evaluation_beside(file: Path) -> list[Path]:
    """The evaluation splits in the same folder that a file must have nothing in common with."""
    wanted = () if file.stem.startswith("test") or file.suffix != ".jsonl" else ("test",) if file.stem.startswith("dev") else ("test", "dev")
    return [path for name in wanted for path in sorted(file.parent.glob(f"{name}*.jsonl")) if path != file]


def _files_in(folder: Path) -> list[Path]:
    """The files of splits in a folder and the folders below it; where there are none, its own JSONL files."""
    files = sorted(path for path in folder.glob("**/*.jsonl") if path.stem.startswith(_SPLITS)) or sorted(folder.glob("*.jsonl"))
    if not files:
        raise InputError(f"{folder}: no rows are in this folder (train*.jsonl, dev*.jsonl, test*.jsonl or other JSONL)")
    return files


def _is_lawqa(folder: Path) -> bool:
    return any((folder / place / "selection.json").is_file() for place in ("", "data"))


def _dataset(path: Path) -> str | None:
    """The data set that the manifest beside a file names."""
    manifest = path.parent / "manifest.json"
    try:
        found = json.loads(manifest.read_bytes()) if manifest.is_file() else None
    except ValueError:
        return None
    return found.get("dataset") if isinstance(found, dict) else None


def _question_row(question: Question, dataset: str | None, source: str) -> Row:
    """A question as a row. Where its data set is not known its group is left out: group names repeat between data sets."""
    record = question_to_record(
        question, answer="cot" if question.reasons else "direct", context=gold_context(question), dataset=dataset, source_file=source
    )
    meta = {**record["meta"], "group": question.group if dataset else None}
    return Row(prompt=({"role": "user", "content": record["input"]},), output=record["output"], meta=meta, source=source)


def _records(path: Path, text: str) -> tuple[list[tuple[int, object]], dict[str, list[Example]]]:
    records, faults = [], {"not-json": [], "empty": [], "format": [], "exact-duplicate": []}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            faults["not-json"].append(example(f"{path}:{number}", None, f"{error}: {line.strip()}"))
    return records, faults


def _rows(path: Path, records: Sequence[tuple[int, object]], faults: dict[str, list[Example]]) -> list[Row]:
    """The rows of the records without faults; the others become examples."""
    rows, first = [], {}
    for number, record in records:
        source = f"{path}:{number}"
        problems = record_problems(record)
        if problems:
            kind = "empty" if _is_empty(record) and not unknown_keys(record) else "format"
            faults[kind].append(example(source, None, "; ".join(problems)))
            continue
        meta, key = record.get("meta") or {}, row_key(record)
        if key in first:
            faults["exact-duplicate"].append(example(source, meta.get("id"), f"the same row as line {first[key]}"))
            continue
        first[key] = number
        rows += [Row(prompt=tuple(prompt), output=output, meta=meta, source=source) for prompt, output in row_turns(record)]
    return rows


def _is_empty(record: object) -> bool:
    """Whether a record has the form of a row and no text where one belongs."""
    if not isinstance(record, dict):
        return False
    values = [record[key] for key in ("input", "output", "prompt", "completion") if key in record]
    messages = [message for value in (*values, record.get("messages")) if isinstance(value, list) for message in value]
    values += [message.get("content") for message in messages if isinstance(message, dict)]
    return any(value is None or value == [] or (isinstance(value, str) and not value.strip()) for value in values)


def _line_findings(faults: Mapping[str, Sequence[Example]], *, total: int, path: Path) -> list[Finding]:
    meanings = {
        "not-json": ("lines that are not JSON", "write one whole JSON object on each line (json.dumps, jq -c)"),
        "empty": ("rows with an empty prompt or output", "fill it in, or delete the row"),
        "format": ("rows in none of the accepted forms", "docs/data.md names the forms: input/output/meta, prompt/completion, messages"),
        "exact-duplicate": ("rows that stand in the file twice", f"keep one: awk '!seen[$0]++' {path} drops lines that are equal to the letter"),
    }
    found = [
        Finding(
            code=code, severity="error", message=message, count=len(faults[code]), total=total, unit="lines", examples=tuple(faults[code][:3]), mend=mend
        )
        for code, (message, mend) in meanings.items()
        if faults[code]
    ]
    if not total:
        mend = "one JSON object a line is expected"
        found.append(Finding(code="empty", severity="error", message="the file is empty", count=0, total=0, unit="lines", mend=mend))
    return found


def _problem_findings(path: Path, error: InputError, *, code: str) -> list[Finding]:
    """An `InputError` of one of the readers as a finding."""
    places = [re.match(r"(.+?:\S+): (.*)", problem, re.DOTALL) for problem in error.problems]
    examples = [example(found[1], None, found[2]) if found else example(str(path), None, problem) for found, problem in zip(places, error.problems, strict=True)]
    return [
        Finding(
            code=code,
            severity="error",
            message=error.heading.removeprefix(f"{path}: "),
            count=max(1, len(examples)),
            total=max(1, len(examples)),
            unit="faults",
            examples=tuple(examples[:3]),
            mend="mend what is named, and check again",
        )
    ]
