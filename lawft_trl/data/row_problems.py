"""What keeps a parsed JSON value from being a row, in any of the accepted forms."""

from typing import Any

from lawft_trl.data.questions import LETTERS, choice_problems

_ROLES = ("system", "user", "assistant")
_META_KINDS = {
    "dataset": str,
    "mode": str,
    "group": str,
    "order": str,
    "law": str,
    "law_as_of": str,
    "use_context": bool,
    "provisions": list,
    "scoring_only": bool,
}
_FORMS = '{"input", "output", "meta"}, {"prompt", "completion"} or {"messages"}'
_HARMLESS = ("id", "index", "source", "url", "license", "language", "split", "category")
_CONVERSIONS = {
    "instruction": 'put it into `input`: jq -c \'{input: ([.instruction, .input] | map(select(. != null and . != "")) | join("\\n\\n")), output}\'',
    "conversations": 'write `messages`: jq -c \'{messages: [.conversations[] | {role: ({"human": "user", "gpt": "assistant"}[.from] // .from), content: .value}]}\'',
    "system": "write `messages`, the first of them with the role system",
    "history": "write `messages`, with the earlier turns before the last",
}


def unknown_keys(record: dict[str, Any]) -> list[str]:
    """The keys with a value that the record's form has no place for: what they say would not be trained, without a word."""
    form = ("messages",) if "messages" in record else ("input", "output") if {"input", "output"} & set(record) else ("prompt", "completion")
    return sorted(key for key, value in record.items() if key not in (*form, "meta", *_HARMLESS) and value not in (None, "", [], {}))


def record_problems(record: object) -> list[str]:
    """What keeps a parsed JSON value from being a row; an empty list when nothing does."""
    if not isinstance(record, dict):
        return [f"expected an object, found {type(record).__name__}"]
    meta = record.get("meta")
    meta = {} if meta is None else meta
    problems = [] if isinstance(meta, dict) else [f"`meta`: expected an object, found {type(meta).__name__}"]
    other = "what the model is to read belongs into the prompt, what is said of the row into `meta`"
    problems += [f"`{key}`: unknown key, which would not be trained; {_CONVERSIONS.get(key, other)}" for key in unknown_keys(record)]
    if "messages" in record:
        problems += _message_problems(record["messages"], "messages", needs_answer=True)
        return problems or _meta_problems(meta, record)
    if "input" in record or "output" in record:
        keys = ("input", "output")
    elif "prompt" in record or "completion" in record:
        keys = ("prompt", "completion")
    else:
        return [f"expected {_FORMS}, found the keys {', '.join(sorted(record)) or '(none)'}", *problems]
    for key in keys:
        value = record.get(key)
        if key == "prompt" and isinstance(value, list):
            problems += _message_problems(value, "prompt", needs_answer=False)
        elif key == "completion" and isinstance(value, list):
            if len(value) != 1 or not isinstance(value[0], dict) or value[0].get("role") != "assistant":
                problems.append("`completion`: expected one message with the role assistant")
            else:
                problems += _message_problems(value, "completion", needs_answer=True)
        elif not isinstance(value, str) or not value.strip():
            problems.append(f"`{key}`: expected a non-empty string, found {value!r:.60}")
    return problems if problems else _meta_problems(meta, record)


def _meta_problems(meta: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """Faults of the parts of `meta` that this project reads; a part that is absent or null is no fault."""
    problems = [
        f"`meta.{key}`: expected {kind.__name__}, found {meta[key]!r:.60}"
        for key, kind in _META_KINDS.items()
        if meta.get(key) is not None and not isinstance(meta[key], kind)
    ]
    if not isinstance(meta.get("id", ""), str | int):
        problems.append(f"`meta.id`: expected a string, found {meta['id']!r:.60}")
    if isinstance(meta.get("choices"), dict):
        problems += [f"meta.{fault}" for fault in choice_problems(meta["choices"], meta.get("correct") or "a")]
    elif meta.get("correct") is not None and meta["correct"] not in LETTERS:
        problems.append(f"`meta.correct`: expected one of a, b, c, d, found {meta['correct']!r:.60}")
    output = record.get("output")
    if meta.get("mode") == "direct" and meta.get("correct") in LETTERS and output in LETTERS and output != meta["correct"]:
        problems.append(f"`output` is {output!r} but `meta.correct` is {meta['correct']!r}")
    return problems


def _message_problems(messages: object, name: str, *, needs_answer: bool) -> list[str]:
    if not isinstance(messages, list) or not messages:
        return [f"`{name}`: expected a non-empty list of messages"]
    problems = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            problems.append(f"`{name}[{index}]`: expected a role among {', '.join(_ROLES)}")
        elif not isinstance(message.get("content"), str) or not message["content"].strip():
            problems.append(f"`{name}[{index}].content`: expected a non-empty string")
        elif message["role"] == "system" and index > 0:
            problems.append(f"`{name}[{index}]`: a system message stands only at the beginning")
    if problems:
        return problems
    if needs_answer and not any(message["role"] == "assistant" for message in messages):
        problems.append(f"`{name}`: no message has the role assistant, so there is nothing to learn")
    if not needs_answer and messages[-1]["role"] != "user":
        problems.append(f"`{name}`: must end with the role user; the answer stands in `completion`")
    if name == "messages":
        roles = [message["role"] for message in messages]
        problems += [
            f"`messages[{index}]`: an assistant's turn must follow a user's"
            for index, role in enumerate(roles)
            if role == "assistant" and (index == 0 or roles[index - 1] != "user")
        ]
    return problems
