"""What keeps a parsed JSON value from being a conversation, and what of it the cleaning mends."""

import itertools
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# The role of a tutor's turn is `assistant` in chat templates; Gemma's own name for it is `model`.
ROLES = {"user": "user", "assistant": "assistant", "model": "assistant"}
REPEATED = "\0repeated"  # where `load` notes the keys that stand twice in one object
_FOREIGN_ROLES = {"human": "user", "gpt": "model", "bot": "model", "ai": "model", "tutor": "model", "socrates": "model", "student": "user"}
_CONVERSATION_KEYS = ("id", "topic", "group", "messages")
_MESSAGE_KEYS = ("role", "content")
# What chat templates write between turns: within a turn it would begin another one.
_MARKUP = re.compile(r"<(?:start_of_turn|end_of_turn|bos|eos|s|/s)>|<\|[a-z_]+\|>|\[/?INST\]")

_HALF_WIDTH_KANA = re.compile("[\uff61-\uff9f]+")
_NEWLINE = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_LONG_SPACE = re.compile(r"[^\S\n]{3,}")
_BLANK_LINES = re.compile(r"\n{3,}")
_LINE_END_SPACE = re.compile(r"[^\S\n]+\n")

# Rule -> what it does to a text, in the order in which they are applied. NFKC as a whole would make another style of
# ？！： and of every numeral, so only half-width kana and marks go through it, and letters in two parts through NFC.
RULES: dict[str, Callable[[str], str]] = {
    "newlines": lambda text: _NEWLINE.sub("\n", text),
    "invisible characters": lambda text: _INVISIBLE.sub("", text),
    "control characters": lambda text: _CONTROL.sub("", text),
    "half-width kana": lambda text: _HALF_WIDTH_KANA.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text),
    "composed letters": lambda text: unicodedata.normalize("NFC", text),
    "space at line ends": lambda text: _LINE_END_SPACE.sub("\n", text),
    "long white space": lambda text: _BLANK_LINES.sub("\n\n", _LONG_SPACE.sub(" ", text)),
    "outer white space": str.strip,
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something wrong with a conversation.

    Attributes:
        kind: a short name, the same for the same fault.
        place: the file, and the line where there is one, `"a.jsonl:12"`.
        conversation: its id, `""` where that is not known.
        turn: which message, counted from 1; `None` where it is of the whole conversation or file.
        found: what was found.
        mend: what to write instead; `""` where `found` says it.
        cleaned: whether the cleaning rules mend it; the others are for the author.
    """

    kind: str
    place: str
    conversation: str = ""
    turn: int | None = None
    found: str
    mend: str
    cleaned: bool = False

    def __str__(self) -> str:
        where = [self.place, *([f"conversation {self.conversation}"] if self.conversation else []), *([f"turn {self.turn}"] if self.turn else [])]
        text = f"{', '.join(where)}: {self.found}" + (f"; {self.mend}" if self.mend else "")
        return text.encode("utf-8", "backslashreplace").decode()  # half of a character could not be printed


Problem = tuple[str, int | None, str, str]  # kind, turn, found, mend


def load(text: str) -> Any:
    """`json.loads` that notes keys which stand twice in one object, of which it would keep the last.

    Raises:
        ValueError: for text that is not JSON, with `json.JSONDecodeError`'s place where there is one.
    """
    try:
        return json.loads(text, object_pairs_hook=_noting_repeats)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _noting_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    return dict(pairs) | ({REPEATED: repeated} if repeated else {})


def clean_text(text: str) -> tuple[str, list[str]]:
    """A turn's text after all rules, and which rules changed it."""
    applied = []
    for rule, change in RULES.items():
        changed = change(text)
        if changed != text:
            applied.append(rule)
        text = changed
    return text, applied


def conversation_problems(record: object) -> Iterator[Problem]:
    """What keeps a parsed JSON value from being a conversation: an object with `messages`, or a bare list of messages."""
    if isinstance(record, list):
        record = {"messages": record}
    if not isinstance(record, dict):
        yield "not a conversation", None, f"expected an object or a list of messages, found {shown(record)}", 'write {"id": "c001", "messages": [...]}'
        return
    yield from repeated_keys(record, None)
    for key in sorted(set(record) - {*_CONVERSATION_KEYS, REPEATED}):
        yield "unknown key", None, f"`{key}` is no key of a conversation", f"known are {', '.join(_CONVERSATION_KEYS)}; remove it or rename it"
    if "id" in record and not is_name(record["id"]):
        yield "bad id", None, f"`id`: found {shown(record['id'])}", "write a non-empty line of text or a whole number, or leave it out"
    for key in ("topic", "group"):
        if key in record and not (isinstance(record[key], str) and is_name(record[key])):
            yield f"bad {key}", None, f"`{key}`: found {shown(record[key])}", "write a non-empty line of text, or leave it out"
    messages = record.get("messages")
    if "messages" not in record:
        yield "no messages", None, "`messages` is missing", 'write "messages": [{"role": "user", "content": "…"}, {"role": "model", "content": "…"}]'
    elif not isinstance(messages, list):
        yield "messages not a list", None, f"`messages`: expected a list, found {shown(messages)}", "write one object for every turn, in order, in [ ]"
    elif not messages:
        yield "no messages", None, "`messages` is empty", "write at least one turn of the user and one of the tutor, or remove the conversation"
    else:
        for turn, message in enumerate(messages, start=1):
            yield from ((kind, turn, found, mend) for kind, found, mend in _message_problems(message))
        yield from _order_problems(messages)


def repeated_keys(record: dict[str, Any], turn: int | None) -> Iterator[Problem]:
    for key in record.get(REPEATED, ()):
        yield "key twice", turn, f"`{key}` stands twice in one object, and only the last would count", "keep one, or make two turns of them"


def _message_problems(message: object) -> Iterator[tuple[str, str, str]]:
    """Faults of one message by itself: (kind, found, mend)."""
    if not isinstance(message, dict):
        yield "not a message", f"expected an object, found {shown(message)}", 'write {"role": "user", "content": "…"}'
        return
    for kind, _, found, mend in repeated_keys(message, None):
        yield kind, found, mend
    for key in sorted(set(message) - {*_MESSAGE_KEYS, REPEATED}):
        yield "unknown message key", f"`{key}` is no key of a message", "a message has role and content; what it says would not be trained"
    if "role" not in message:
        yield "no role", "`role` is missing", "write user or model"
    elif message["role"] == "system":
        mend = "Gemma's chat template has none: put it into the first turn of the user, or, for other models, into the recipe's pattern.system"
        yield "system role", "the role system", mend
    elif not isinstance(message["role"], str) or message["role"] not in ROLES:
        known = _FOREIGN_ROLES.get(str(message["role"]).strip().lower(), str(message["role"]).strip().lower())
        mend = f"write {known}" if known in ROLES else "write user, or model (assistant means the same) for the tutor"
        yield "unknown role", f"the role {shown(message['role'])}", mend
    if "content" not in message:
        yield "no content", "`content` is missing", "write the turn's text, or remove the turn"
    elif not isinstance(message["content"], str):
        yield "content not text", f"`content`: expected a string, found {shown(message['content'])}", "write the text alone; parts are joined into one string"
    else:
        yield from text_problems(message["content"])


def text_problems(text: str) -> Iterator[tuple[str, str, str]]:
    if any("\ud800" <= character <= "\udfff" for character in text):
        yield "half a character", "half of a surrogate pair (\\ud800…), which no file can hold", "write the whole character"
        return
    if not clean_text(text)[0]:
        yield "empty content", f"nothing is said: {shown(text)}", "write the turn's text, or remove the turn"
    lost = text.count("\ufffd")
    if lost:
        yield "lost characters", f"{lost} × U+FFFD, left by a conversion from another encoding", "convert the original again: iconv -f CP932 -t UTF-8"
    if found := _MARKUP.search(text):
        yield "template markup", f"{found[0]} is what chat templates write between turns", "remove it; the template is added in training"


def _order_problems(messages: list) -> Iterator[Problem]:
    """Faults in whose turn it is; silent where a role is not known."""
    roles = [ROLES.get(str(message.get("role"))) if isinstance(message, dict) else None for message in messages]
    if roles[0] == "assistant":
        yield "tutor begins", 1, "the first turn is the tutor's", "begin with a turn of the user, to which it answers, or remove it"
    for turn, (before, role) in enumerate(itertools.pairwise(roles), start=2):
        if role and role == before:
            who = "the user" if role == "user" else "the tutor"
            yield "roles do not alternate", turn, f"two turns of {who} in a row", "join them into one, or write the turn between"
    if roles[-1] == "user":
        yield "user ends", len(roles), "the last turn is the user's, and nothing answers it", "write the tutor's turn, or remove this one"


def cleaned_problems(messages: list[dict[str, str]]) -> Iterator[Problem]:
    """What the cleaning rules will change in messages without other faults."""
    for turn, message in enumerate(messages, start=1):
        for rule in clean_text(message["content"])[1]:
            yield rule, turn, f"{rule} in {shown(message['content'])}", "the cleaning mends it and counts it"


def is_name(value: object) -> bool:
    """Whether a value can name something: a line of text that a file can hold, or a whole number."""
    if isinstance(value, str):
        return bool(value.strip()) and not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value)
    return isinstance(value, int) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A value in one short line of an error."""
    invisible = isinstance(value, str) and not value.isprintable()
    text = json.dumps(value, ensure_ascii=invisible, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
