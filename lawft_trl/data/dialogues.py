"""Conversations of a user and a tutor: read from JSON, JSONL or CSV, with every fault at once, and cleaned by counted rules."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lawft_trl.data.dialogue_problems import (
    ROLES,
    Fault,
    clean_text,
    cleaned_problems,
    conversation_problems,
    load,
    shown,
)
from lawft_trl.data.questions import shared_passage_groups
from lawft_trl.errors import InputError
from lawft_trl.text_files import csv_lines, read_text

_COLUMNS = ("conversation_id", "role", "content")  # a CSV file has these
_MORE_COLUMNS = ("turn", "topic", "group")  # and may have these
_DUPLICATE = "duplicate conversation"


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A conversation that begins with the user, alternates, and ends with the tutor.

    Attributes:
        id: unique among the conversations that are read together.
        group: equal for conversations that no split may divide; the id where the file names none.
        topic: what a split is stratified by; `""` where the file names none.
        messages: `{"role", "content"}` with the roles `user` and `assistant`, as chat templates name them.
        source: where it was read, `"dialogues.jsonl:12"`.
    """

    id: str
    group: str
    topic: str = ""
    messages: tuple[dict[str, str], ...]
    source: str


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """What the cleaning made.

    Attributes:
        conversations: the conversations with cleaned texts, each text once.
        counts: rule -> the turns it changed; for duplicates the conversations left out. Rules that changed nothing are not in it.
        dropped: one line per conversation left out, naming the one it repeats.
    """

    conversations: list[Conversation]
    counts: dict[str, int]
    dropped: list[str]


def load_conversations(paths: Path | Sequence[Path]) -> list[Conversation]:
    """Reads conversations; their texts are as they stand in the files (`clean` comes next).

    Args:
        paths: a file or several: `.json` (a list), `.jsonl` (one conversation a line) or `.csv` (one turn a line).

    Raises:
        InputError: with every fault that the cleaning does not mend.
    """
    conversations, faults = _read([paths] if isinstance(paths, Path) else paths)
    faults = [fault for fault in faults if not fault.cleaned]
    if faults:
        kinds = ", ".join(f"{kind} {count}×" for kind, count in Counter(fault.kind for fault in faults).most_common())
        raise InputError(f"{len(faults)} fault(s) in the conversations ({kinds}); nothing was read", map(str, faults), cut=False)
    return conversations


def validate_dataset(paths: Path | Sequence[Path]) -> list[Fault]:
    """Every fault of the files together, those that the cleaning mends among them; an empty list when there is none."""
    return _read([paths] if isinstance(paths, Path) else paths)[1]


def clean(conversations: Sequence[Conversation]) -> Cleaned:
    """Applies the rules to every text, then leaves out conversations that are the same, turn by turn, as an earlier one.

    The group of one that is left out is joined with the earlier one's: both are then named as the first conversation's of them.
    """
    counts: Counter[str] = Counter()
    first: dict[tuple[str, ...], Conversation] = {}
    dropped, keys = [], []
    for conversation in conversations:
        messages = []
        for message in conversation.messages:
            text, applied = clean_text(message["content"])
            counts.update(applied)
            messages.append({**message, "content": text})
        cleaned = replace(conversation, messages=tuple(messages))
        keys.append([("group", cleaned.group), ("texts", _texts(cleaned))])
        earlier = first.setdefault(_texts(cleaned), cleaned)
        if earlier is not cleaned:
            counts[_DUPLICATE] += 1
            dropped.append(f"{cleaned.id} ({cleaned.source}) = {earlier.id} ({earlier.source})")
    joined: dict[str, str] = {}  # what a union of groups is called: as the group of its first conversation
    groups = {
        conversation.group: joined.setdefault(name, conversation.group)
        for name, conversation in zip(shared_passage_groups(keys, "joined"), conversations, strict=True)
    }
    kept = [replace(conversation, group=groups[conversation.group]) for conversation in first.values()]
    return Cleaned(conversations=kept, counts=dict(counts), dropped=dropped)


def _texts(conversation: Conversation) -> tuple[str, ...]:
    return tuple(message["content"] for message in conversation.messages)


def _read(paths: Sequence[Path]) -> tuple[list[Conversation], list[Fault]]:
    """The conversations without faults of their own, and all faults."""
    conversations, faults = [], []
    for path, file_name in zip(paths, _names(paths), strict=True):
        records, found = _records(path)
        faults += found
        for number, (place, record) in enumerate(records, start=1):
            fields = record if isinstance(record, dict) else {"messages": record}
            name = str(fields["id"]).strip() if isinstance(fields.get("id"), str | int) and str(fields["id"]).strip() else f"{file_name}:{number}"
            problems = [
                Fault(kind=kind, place=place, conversation=name, turn=turn, found=said, mend=mend)
                for kind, turn, said, mend in conversation_problems(record)
            ]
            faults += problems
            if problems:
                continue
            messages = tuple({"role": ROLES[message["role"]], "content": message["content"]} for message in fields["messages"])
            faults += [
                Fault(kind=kind, place=place, conversation=name, turn=turn, found=said, mend=mend, cleaned=True)
                for kind, turn, said, mend in cleaned_problems(list(messages))
            ]
            topic, group = (fields.get(key, "").strip() for key in ("topic", "group"))
            conversations.append(Conversation(id=name, group=group or name, topic=topic, messages=messages, source=place))
    return conversations, [*faults, *_repeated(conversations)]


def _names(paths: Sequence[Path]) -> list[str]:
    """What conversations without an id are named after: the stem of their file, or as many parts of its path as tell all files apart."""
    names = [path.stem for path in paths]
    for parts in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        if len(set(names)) == len(set(paths)):
            break
        names = ["/".join(path.parts[-parts:]) for path in paths]
    return names


def _repeated(conversations: Sequence[Conversation]) -> Iterator[Fault]:
    """Ids of different conversations, and conversations that are the same once they are cleaned."""
    named: dict[str, tuple[tuple[str, ...], str]] = {}
    said: dict[tuple[str, ...], Conversation] = {}
    for conversation in conversations:
        texts = tuple(clean_text(text)[0] for text in _texts(conversation))
        about = {"place": conversation.source, "conversation": conversation.id}
        earlier = said.setdefault(texts, conversation)
        if earlier is not conversation:
            found = f"every turn is that of conversation {earlier.id} ({earlier.source})"
            yield Fault(kind=_DUPLICATE, **about, found=found, mend="the cleaning leaves it out and counts it", cleaned=True)
        known, place = named.setdefault(conversation.id, (texts, conversation.source))
        if known != texts:
            yield Fault(kind="id used twice", **about, found=f"the id is that of another conversation ({place})", mend="give each an id of its own")


def _records(path: Path) -> tuple[list[tuple[str, object]], list[Fault]]:
    """`(place, value)` of every conversation of a file, and what is wrong with the file itself."""
    readers = {".json": _json, ".jsonl": _jsonl, ".csv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        return [], [Fault(kind="file type", place=str(path), found=f"{path.suffix or 'no suffix'} is no known form", mend=f"name it {', '.join(readers)}")]
    try:
        text = read_text(path)
    except InputError as error:
        return [], [Fault(kind="unreadable", place=str(path), found=str(error).removeprefix(f"{path}: "), mend="")]
    if not text.strip():
        return [], [Fault(kind="empty file", place=str(path), found="the file is empty", mend="write at least one conversation")]
    records, faults = reader(path, text)
    return records, [*faults, *_mixed(path, records)]


def _mixed(path: Path, records: Sequence[tuple[str, object]]) -> Iterator[Fault]:
    """A fault where some conversations are objects and others bare lists."""
    forms = [type(record) for _, record in records if isinstance(record, dict | list)]
    if dict in forms and list in forms:
        place = next(place for place, record in records if isinstance(record, dict | list) and type(record) is not forms[0])
        found = f"{forms.count(dict)} conversations are objects and {forms.count(list)} are lists; the first of the other form: {place}"
        yield Fault(kind="mixed forms", place=str(path), found=found, mend='write all as {"id": …, "messages": [...]}')


def _json(path: Path, text: str) -> tuple[list[tuple[str, object]], list[Fault]]:
    try:
        value = load(text)
    except ValueError as error:
        mend = "mend the JSON there; a file of one object a line is named .jsonl"
        return [], [Fault(kind="not JSON", place=_at(path, error), found=_why(error), mend=mend)]
    if not isinstance(value, list):
        mend = "put it into [ ]" if isinstance(value, dict) and "messages" in value else "write [ {…}, {…} ]"
        return [], [Fault(kind="not a list", place=str(path), found=f"expected a list of conversations, found {shown(value)}", mend=mend)]
    if value and all(isinstance(item, dict) and "role" in item and "messages" not in item for item in value):
        return [], [Fault(kind="one bare conversation", place=str(path), found="a list of messages stands for the list of conversations", mend="put it into [ ] once more")]
    if not value:
        return [], [Fault(kind="empty file", place=str(path), found="the list is empty", mend="write at least one conversation")]
    return [(str(path), record) for record in value], []


def _jsonl(path: Path, text: str) -> tuple[list[tuple[str, object]], list[Fault]]:
    records, faults = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append((f"{path}:{number}", load(line)))
        except ValueError as error:
            mend = "each line is one whole conversation; a list over several lines is named .json"
            faults.append(Fault(kind="line not JSON", place=f"{path}:{number}", found=f"{_why(error)} in {shown(line.strip())}", mend=mend))
    return records, faults


def _at(path: Path, error: ValueError) -> str:
    return f"{path}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else str(path)


def _why(error: ValueError) -> str:
    return f"not JSON: {error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else f"not JSON: {error}"


def _csv(path: Path, text: str) -> tuple[list[tuple[str, object]], list[Fault]]:
    """Conversations of the lines, which name in turn whose they are; `turn`, where there is such a column, counts from 1."""
    lines, fault = csv_lines(text)
    if fault:
        return [], [Fault(kind="not CSV", place=f"{path}:{fault[0]}", found=fault[1], mend="")]
    if not lines:
        return [], [Fault(kind="empty file", place=str(path), found="no cell holds anything", mend="write a header and at least one conversation")]
    header = [name.strip() for name in lines[0][1]]
    faults = _header_faults(path, lines[0][0], header)
    if faults:
        return [], faults
    conversations: dict[str, tuple[str, dict[str, Any]]] = {}
    last = ""
    for number, cells in lines[1:]:
        place = f"{path}:{number}"
        if len(cells) != len(header):
            mend = 'put the text into "…" if it has commas; write an empty cell for nothing'
            faults.append(Fault(kind="cells", place=place, found=f"{len(cells)} cells under {len(header)} columns", mend=mend))
            continue
        line = dict(zip(header, cells, strict=True))
        name = line["conversation_id"].strip()
        if not name:
            faults.append(Fault(kind="no conversation_id", place=place, found="the cell conversation_id is empty", mend="write it on every line"))
            continue
        _, record = conversations.setdefault(name, (place, {"id": name, "messages": []}))
        faults += [Fault(place=place, conversation=name, **fault) for fault in _line_faults(line, record, name, last)]
        record["messages"].append({"role": line["role"].strip(), "content": line["content"]})
        last = name
    if not conversations and not faults:
        faults.append(Fault(kind="empty file", place=str(path), found="there is a header and no turn", mend="write at least one conversation"))
    return list(conversations.values()), faults


def _line_faults(line: dict[str, str], record: dict[str, Any], name: str, last: str) -> Iterator[dict[str, Any]]:
    """Faults of a line as a part of its conversation, whose `topic` and `group` it sets."""
    turn = len(record["messages"]) + 1
    if turn > 1 and last != name:
        yield {"kind": "lines apart", "turn": turn, "found": f"lines of {last} stand between", "mend": "sort the lines by conversation and turn"}
    if "turn" in line and line["turn"].strip() != str(turn):
        yield {"kind": "turn number", "turn": turn, "found": f"the column turn says {shown(line['turn'])}", "mend": f"write {turn}, or leave the column out"}
    for key in ("topic", "group"):
        if line.get(key, "").strip() and record.setdefault(key, line[key].strip()) != line[key].strip():
            yield {"kind": f"two of {key}", "turn": turn, "found": f"`{key}` was {shown(record[key])} and is {shown(line[key])}", "mend": "write the same on every line"}


def _header_faults(path: Path, number: int, header: list[str]) -> list[Fault]:
    missing = [name for name in _COLUMNS if name not in header]
    unknown = [name for name in header if name not in (*_COLUMNS, *_MORE_COLUMNS)]
    repeated = sorted({name for name in header if header.count(name) > 1})
    parts = [f"{what}: {', '.join(map(shown, names))}" for what, names in (("missing", missing), ("unknown", unknown), ("twice", repeated)) if names]
    mend = f"the first line names {', '.join(_COLUMNS)} and may name {', '.join(_MORE_COLUMNS)}, separated by commas"
    return [Fault(kind="columns", place=f"{path}:{number}", found=f"columns {'; '.join(parts)}", mend=mend)] if parts else []
