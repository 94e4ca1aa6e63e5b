"""What is wrong with a training file in OpenAI's chat form, line by line, before anything is uploaded."""

import codecs
import dataclasses
import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.row_problems import record_problems
from lawft_trl.doctor.answer_checks import diversity_figures
from lawft_trl.doctor.examine import examine
from lawft_trl.doctor.findings import Finding, Severity, example, worst_first
from lawft_trl.errors import InputError
from lawft_trl.openai_jobs.token_counts import TokenCounts, count_examples, example_limit, training_rows
from lawft_trl.text_files import refuse_array

MIN_EXAMPLES = 10
MAX_BYTES = 512 * 10**6  # OpenAI's description of files
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_MESSAGE_KEYS = ("role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal")
_EXAMPLE_KEYS = ("messages", "tools", "parallel_tool_calls", "functions")

# code -> (severity, what it means, what to do). The first seven have the names of the checks in OpenAI's cookbook.
_FAULTS: dict[str, tuple[Severity, str, str]] = {
    "data_type": ("error", "the line is JSON but no object", 'write one object a line: {"messages": [...]}'),
    "missing_messages_list": ("error", "the example has no list `messages`, or an empty one", 'write {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'),
    "message_missing_key": ("error", "a message without `role` or `content`", "give every message both"),
    "message_unrecognized_key": ("error", "a message has a key that the form does not know", f"a message has {', '.join(_MESSAGE_KEYS)}; delete or rename the others"),
    "unrecognized_role": ("error", "a role that the form does not know", "roles are system, user and assistant (and developer, tool, function where a server takes them)"),
    "missing_content": ("error", "a message whose content is empty or no text", "write the text as one string; an empty message teaches nothing"),
    "example_missing_assistant_message": ("error", "no message has the role assistant, so there is nothing to learn", "end the example with the answer, role assistant"),
    "not_utf8": ("error", "the line is not UTF-8", "convert the file: iconv -f CP932 -t UTF-8 FILE > NEW.jsonl (UTF-16: -f UTF-16)"),
    "not_json": ("error", "the line is not JSON", "one whole object on each line; jq -c . writes them so"),
    "last_message_not_assistant": ("error", "the example does not end with the assistant's answer", "end it there; what follows the last answer is not learned"),
    "bad_weight": ("error", "`weight` is 0 (not trained) or 1 (trained), and stands on an assistant's message alone", "write 0 or 1 there, and delete it elsewhere"),
    "nothing_trained": ("error", "every answer of the example has weight 0, so there is nothing to learn", "give one of them weight 1, or delete the example"),
    "blank_line": ("warning", "blank lines between or after the examples; not every server takes them", "delete them: sed -i '/^[[:space:]]*$/d' FILE"),
    "byte_order_mark": ("warning", "the file begins with a byte order mark, which a JSON reader may refuse", "delete it: sed -i '1s/^\\xef\\xbb\\xbf//' FILE"),
    "example_unrecognized_key": ("error", f"keys beside {', '.join(_EXAMPLE_KEYS)}: what they say would not be trained; `lawft serve-jobs` refuses them", "drop them: jq -c '{messages}' FILE > NEW.jsonl"),
    "not_for_local_training": ("warning", "`lawft serve-jobs` would refuse the example, and many chat templates cannot write it", "system first, then user and assistant in turn, text alone; or train it elsewhere"),
    "duplicate_example": ("warning", "the same example stands there more than once: it counts several times", "keep one, unless it is meant to count more"),
    "missing_user_message": ("warning", "no message has the role user", "write the question as the user's message"),
    "missing_system_message": ("note", "no system message: the model is tuned for being asked without one", "give all examples the one it will be asked with, or none"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainingFile:
    """A file as it was read.

    Attributes:
        path: the file.
        lines: how many lines are not blank.
        examples: line -> example, of those without an error.
        findings: what is wrong with lines and with the file.
    """

    path: Path
    lines: int
    examples: dict[int, dict[str, Any]]
    findings: list[Finding]

    @property
    def sources(self) -> list[str]:
        """`"train.jsonl:12"` of every example."""
        return [f"{self.path}:{line}" for line in self.examples]


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What is known about a training file.

    Attributes:
        file: as it was read.
        figures: how many examples and messages, how long and how different they are.
        findings: everything that was found, worst first.
    """

    file: TrainingFile
    figures: dict[str, Any]
    findings: list[Finding]


def check_training_file(
    path: Path, *, validation: Path | None = None, model: str | None = None, tokenizer: str | None = None, max_tokens: int | None = None
) -> list[FileReport]:
    """Checks a training file and, if there is one, its validation file.

    Args:
        path: JSONL, `{"messages": [...]}` on each line.
        validation: a file of the same form that must have no example in common with it.
        model: the model to be tuned; its vocabulary counts the tokens, its limit bounds an example.
        tokenizer: counts them instead, for models that are not OpenAI's.
        max_tokens: the limit of an example, where this project does not know the model's.

    Raises:
        InputError: when a file is not there, or the tokenizer cannot be used.
    """
    reports = []
    for file in filter(None, (path, validation)):
        read = read_training_file(file, least=MIN_EXAMPLES if file is path else 1)
        records = list(read.examples.values())
        counts = count_examples(records, model=model, tokenizer=tokenizer)
        rows = training_rows(records, read.sources)
        findings = [*read.findings, *_long_examples(read, counts, max_tokens or example_limit(model)), *examine(rows)]
        reports.append(FileReport(file=read, figures=_figures(read, counts, rows), findings=findings))
    if validation is not None:
        reports[0].findings.extend(_overlap(*(report.file for report in reports)))
    return [dataclasses.replace(report, findings=worst_first(report.findings)) for report in reports]


def read_training_file(path: Path, *, least: int = MIN_EXAMPLES) -> TrainingFile:
    """Reads a training file; what is wrong with it is in the findings.

    Args:
        path: the file.
        least: how many examples are needed.

    Raises:
        InputError: when the file cannot be read, or is one JSON array.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror} (looked in {path.parent.resolve()})") from None
    hits: dict[str, list[tuple[int, str]]] = defaultdict(list)
    if content.startswith(codecs.BOM_UTF8):
        hits["byte_order_mark"].append((1, ""))
        content = content.removeprefix(codecs.BOM_UTF8)
    _refuse_whole_array(path, content)
    examples, lines, first = {}, 0, {}
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n") if content else [], start=1):
        if not line.strip():
            hits["blank_line"].append((number, ""))
            continue
        lines += 1
        record, faults = _read_line(line)
        for code, text in faults:
            hits[code].append((number, text))
        if any(_FAULTS[code][0] == "error" for code, _ in faults):
            continue
        examples[number] = record
        key = json.dumps(record["messages"], sort_keys=True)
        if key in first:
            hits["duplicate_example"].append((number, f"the same as line {first[key]}"))
        first.setdefault(key, number)
    findings = [_finding(path, code, hits[code], lines) for code in _FAULTS if hits[code]]
    return TrainingFile(path=path, lines=lines, examples=examples, findings=[*findings, *_file_findings(path, len(content), len(examples), lines, least)])


def _refuse_whole_array(path: Path, content: bytes) -> None:
    if content.lstrip().startswith(b"["):
        try:
            whole = json.loads(content)
        except (ValueError, RecursionError):  # a line that is a list, among others: `data_type`
            return
        if whole and all(isinstance(item, dict) for item in whole):
            refuse_array(path, "[")


def _read_line(line: bytes) -> tuple[Any, list[tuple[str, str]]]:
    """A line that is not blank, and `(code, what was found)` of its faults."""
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return None, [("not_utf8", f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}")]
    except RecursionError:
        return None, [("not_json", "nested too deeply")]
    except ValueError as error:  # JSONDecodeError, or a number with thousands of digits
        return None, [("not_json", f"{getattr(error, 'msg', 'a number too long to read')}: {line.decode()[:60]}")]
    if not isinstance(record, dict):
        return None, [("data_type", f"found {type(record).__name__}: {_short(record)}")]
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages:
        return None, [("missing_messages_list", f"`messages` is {_short(messages)}" if "messages" in record else f"keys: {', '.join(record) or '(none)'}")]
    faults = [fault for index, message in enumerate(messages) for fault in _message_faults(f"messages[{index}]", message)]
    return record, [*faults, *_example_faults(record, sound=not faults)]


def _message_faults(place: str, message: object) -> Iterator[tuple[str, str]]:
    if not isinstance(message, dict):
        yield "message_missing_key", f"{place}: expected an object, found {_short(message)}"
        return
    called = bool(message.get("tool_calls") or message.get("function_call"))  # such a message may have no text
    missing = [key for key in ("role", "content") if key not in message and not (key == "content" and called)]
    if missing:
        yield "message_missing_key", f"{place}: no {' and no '.join(missing)}"
    unknown = [key for key in message if key not in _MESSAGE_KEYS]
    if unknown:
        yield "message_unrecognized_key", f"{place}: {', '.join(unknown)}"
    if "role" in message and message["role"] not in _ROLES:
        yield "unrecognized_role", f"{place}: {_short(message['role'])}"
    content = message.get("content")
    if "content" in message and not (called and content is None) and not (isinstance(content, str) and content.strip()):
        yield "missing_content", f"{place}: content is {_short(content)}"
    if "weight" in message:
        weight = message["weight"]
        if message.get("role") != "assistant" or isinstance(weight, bool) or not isinstance(weight, int) or weight not in (0, 1):
            yield "bad_weight", f"{place}: weight {_short(weight)}, role {_short(message.get('role'))}"


def _example_faults(record: Mapping[str, Any], *, sound: bool) -> Iterator[tuple[str, str]]:
    """Faults of the example as a whole; `sound` says whether its messages have none."""
    unknown = [key for key in record if key not in _EXAMPLE_KEYS]
    if unknown:
        yield "example_unrecognized_key", ", ".join(unknown)
    messages = [message for message in record["messages"] if isinstance(message, dict)]
    roles = [message.get("role") for message in messages]
    if "assistant" not in roles:
        yield "example_missing_assistant_message", f"roles: {', '.join(map(_short, roles)) or '(none)'}"
    elif roles[-1] != "assistant":
        yield "last_message_not_assistant", f"it ends with the role {_short(roles[-1])}"
    if "user" not in roles:
        yield "missing_user_message", ""
    if not {"system", "developer"} & {role for role in roles if isinstance(role, str)}:
        yield "missing_system_message", ""
    if not sound:
        return
    answers = [message for message in messages if message["role"] == "assistant"]
    if answers and all(message.get("weight") == 0 for message in answers):
        yield "nothing_trained", f"{len(answers)} answers"
    plain = [{"role": "system" if message["role"] == "developer" else message["role"], "content": message.get("content")} for message in messages]
    local = [
        *(f"`{key}`: not trained there" for key in record if key != "messages"),
        *(f"messages[{index}]: `{key}`: not trained there" for index, message in enumerate(messages) for key in message if key not in ("role", "content", "weight") and message[key] is not None),
        *record_problems({"messages": plain}),
    ]
    if local and not unknown and roles[-1] == "assistant":  # what it lacks otherwise has been said above
        yield "not_for_local_training", local[0]


def _short(value: object) -> str:
    return f"{value!r:.60}"


def _finding(path: Path, code: str, hits: Iterable[tuple[int, str]], total: int) -> Finding:
    severity, message, mend = _FAULTS[code]
    hits = list(hits)
    return Finding(
        code=code,
        severity=severity,
        message=message,
        count=len({line for line, _ in hits}),
        total=total,
        unit="lines",
        examples=tuple(example(f"{path}:{line}", None, text) for line, text in hits),
        mend=mend.replace("FILE", str(path)),
    )


def _file_findings(path: Path, size: int, examples: int, lines: int, least: int) -> list[Finding]:
    """Faults of the file as a whole."""
    findings = []

    def fault(code: str, severity: Severity, message: str, mend: str) -> None:
        findings.append(Finding(code=code, severity=severity, message=message, count=examples, total=lines, unit="lines without an error", examples=(example(str(path), None, ""),), mend=mend))

    if not lines:
        fault("empty_file", "error", "the file holds no example", "lawft data legal writes such files; docs/openai.md shows the form")
    elif examples < least:
        fault("too_few_examples", "error", f"{examples} usable examples; a fine-tuning needs at least {least}, and 50 to 100 before it shows", "write more, or mend the lines with errors")
    if size > MAX_BYTES:
        fault("file_too_large", "error", f"{size / 1e6:.0f} MB; a file has at most {MAX_BYTES // 10**6} MB", "train on fewer examples, or shorter ones")
    if path.suffix != ".jsonl":
        fault("file_name", "warning", f"the name ends in {path.suffix or 'nothing'}; servers want .jsonl", f"rename it: mv {path} {path.with_suffix('.jsonl')}")
    return findings


def _long_examples(file: TrainingFile, counts: TokenCounts, limit: int | None) -> list[Finding]:
    hits = [(place, length) for place, length in zip(file.sources, counts.lengths, strict=True) if limit and length > limit]
    if not hits:
        return []
    return [
        Finding(
            code="example_too_long",
            severity="error" if counts.exact else "warning",
            message=f"examples of more than {limit} tokens ({counts.counted_by}): what is longer is cut off, and the end is the answer",
            count=len(hits),
            total=len(file.examples),
            unit="examples",
            examples=tuple(example(place, None, f"{length} tokens") for place, length in hits),
            mend="shorten the statutes or the history, or divide the example",
        )
    ]


def _overlap(train: TrainingFile, validation: TrainingFile) -> list[Finding]:
    """Examples of the training file that are, or are nearly, in the validation file."""
    rows = [training_rows(list(file.examples.values()), file.sources) for file in (train, validation)]
    hits = {overlap.train.source: overlap for overlap in find_overlaps(*rows)}
    if not hits:
        return []
    return [
        Finding(
            code="in_validation_file",
            severity="error",
            message=f"examples that stand in the validation file {validation.path} too, or nearly: its loss would say nothing",
            count=len(hits),
            total=len(train.examples),
            unit="examples",
            examples=tuple(example(place, None, f"{overlap.reason} as {overlap.test.source}") for place, overlap in hits.items()),
            mend="keep each in one of the two; all questions on one text on one side (lawft data does)",
        )
    ]


def _figures(file: TrainingFile, counts: TokenCounts, rows: list[Any]) -> dict[str, Any]:
    """How many, how long, how different."""
    messages = [message for record in file.examples.values() for message in record["messages"]]
    diversity = diversity_figures(rows)
    return {
        "examples": len(file.examples),
        "lines": file.lines,
        "messages": len(messages),
        "trained_answers": len(rows),
        "system_messages": len({message["content"] for message in messages if message["role"] == "system"}),
        "tokens": _spread(counts.lengths, sum) | {"counted_by": counts.counted_by, "exact": counts.exact},
        "answer_characters": _spread([len(row.output) for row in rows], sum),
        "different_answers": len({row.output for row in rows}),
        "distinct_1": diversity["distinct_1"],
        "distinct_2": diversity["distinct_2"],
    }


def _spread(values: list[int], total: Callable[[list[int]], int]) -> dict[str, float]:
    if not values:
        return {"min": 0, "median": 0, "max": 0, "sum": 0}
    return {"min": min(values), "median": statistics.median(values), "max": max(values), "sum": total(values)}
