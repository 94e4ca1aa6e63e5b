"""Uploads: streamed to disk, checked line by line, and made into the rows a recipe trains on.

A row is one turn of the assistant with all that comes before it. A turn of weight 0 becomes no row of its own: it is read as
context and not trained, which is what OpenAI's `weight` means.
"""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from lawft_trl.data.row_problems import record_problems
from lawft_trl.errors import InputError

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_SHOWN = 20  # faulty lines that are told
_WHAT = {
    "tools": "tools are not trained here; leave them out",
    "parallel_tool_calls": "tools are not trained here; leave it out",
    "functions": "functions are not trained here; leave them out",
}


class TooLarge(Exception):
    """An upload is larger than allowed."""


async def limited(stream: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The chunks of a body; raises `TooLarge` at the one that exceeds `most` bytes."""
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > most:
            raise TooLarge
        yield chunk


def check_examples(path: Path) -> int:
    """How many examples a JSONL file of `{"messages": [...]}` holds; it is read line by line.

    Raises:
        InputError: with the faulty lines, without what they say.
    """
    count, problems = 0, []
    for number, found, faults in _examples(path):
        count += found is not None
        problems += [f"line {number}: {fault}" for fault in faults]
        if len(problems) >= _SHOWN:
            problems[_SHOWN:] = ["perhaps more; only these are told"]
            break
    if problems:
        raise InputError("the file is not in the form of training data", problems)
    if not count:
        raise InputError('the file has no examples; one {"messages": [...]} a line is expected')
    return count


def write_rows(upload: Path, out: Path, *, dataset: str) -> tuple[int, int, int]:
    """Writes an upload's examples as rows of dialogues.

    Args:
        upload: a file that `check_examples` took.
        out: the JSONL file to write.
        dataset: what `meta.dataset` says: rows of two uploads have ids of their own.

    Returns:
        Examples, rows, and the turns of weight 0 that became none.
    """
    examples = rows = unweighted = 0
    with out.open("w", encoding="utf-8") as stream:
        for number, messages, faults in _examples(upload):
            if faults:
                raise InputError(f"line {number}: {faults[0]}")
            examples += 1
            for place, message in enumerate(messages):
                if message["role"] != "assistant":
                    continue
                if message["weight"] == 0:
                    unweighted += 1
                    continue
                rows += 1
                turns = [{"role": turn["role"], "content": turn["content"]} for turn in messages[: place + 1]]
                meta = {"id": f"line {number}, message {place + 1}", "dataset": dataset, "mode": "dialogue", "group": f"line {number}"}
                stream.write(json.dumps({"prompt": turns[:-1], "completion": turns[-1:], "meta": meta}, ensure_ascii=False) + "\n")
    return examples, rows, unweighted


def _examples(path: Path) -> Iterator[tuple[int, list[dict[str, Any]] | None, list[str]]]:
    """`(line, messages, faults)` of every line that is not blank; no messages where there are faults."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8"))
                json.dumps(record, ensure_ascii=False).encode("utf-8")  # half characters (\ud800) are no text
            except UnicodeDecodeError:
                yield number, None, ["not UTF-8"]
            except UnicodeEncodeError:
                yield number, None, ["half a character (a lone surrogate), which is no text"]
            except (ValueError, RecursionError):
                yield number, None, ["not one JSON object"]
            else:
                messages, faults = _read_example(record)
                yield number, None if faults else messages, faults


def _read_example(record: object) -> tuple[list[dict[str, Any]], list[str]]:
    """The messages of an example, each with its `weight`, and what is wrong with it."""
    if not isinstance(record, dict) or not isinstance(record.get("messages"), list):
        return [], ['expected an object {"messages": [...]}']
    faults = [f"`{key!s:.40}`: {_WHAT.get(key, 'unknown key, which would not be trained; leave it out')}" for key in record if key != "messages"]
    messages = []
    for place, message in enumerate(record["messages"]):
        where = f"`messages[{place}]`"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or message["role"] not in _ROLES:
            faults.append(f"{where}: expected a role among {', '.join(_ROLES)}")
            continue
        unknown = sorted(str(key)[:40] for key, value in message.items() if key not in ("role", "content", "weight") and value is not None)
        faults += [f"{where}: `{key}`: unknown key, which would not be trained; leave it out" for key in unknown]
        weight = message.get("weight")
        if weight is not None and (message["role"] != "assistant" or isinstance(weight, bool) or weight not in (0, 1)):
            faults.append(f"{where}: `weight`: 0 or 1, and only with the role assistant")
        messages.append({"role": _ROLES[message["role"]], "content": message.get("content"), "weight": 1 if weight is None else weight})
    if faults:
        return [], faults
    faults = record_problems({"messages": [{"role": message["role"], "content": message["content"]} for message in messages]})
    if not faults and messages[-1]["role"] != "assistant":
        faults = ["`messages`: the last one must be the assistant's; what follows its last turn would not be trained"]
    if not faults and not any(message["role"] == "assistant" and message["weight"] for message in messages):
        faults = ["`messages`: every turn of the assistant has weight 0, so there is nothing to learn"]
    return messages, faults
