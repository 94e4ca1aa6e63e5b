"""Characters that a reader does not see and a tokenizer does, and text that was broken by a wrong encoding."""

import re
from collections.abc import Iterator

# One class per kind. A line break, a tab and the ideographic space are normal; a zero-width joiner is between two emoji.
_KINDS = {
    "lone surrogate": r"[\ud800-\udfff]",
    "replacement character": r"\ufffd",
    "mojibake": r"(?:[縺繧繝][^\s縺繧繝]{0,2}){3,}|(?:[ãäåæçèé][\u0080-\u00bf‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]{1,2}){2,}|â€[\u0080-\u00bf“”™˜œ¦]",
    "bidirectional control": r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]",
    "zero-width character": r"[\u00ad\u180e\u200b\u200c\u2060-\u2064\ufeff\U000e0000-\U000e007f]|(?<![\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d",
    "control character": r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufff9-\ufffb]",
    "private-use character": r"[\ue000-\uf8ff\U000f0000-\U0010ffff]",
    "separate voicing mark": r"[\u3099\u309a]",
}
BROKEN = ("replacement character", "mojibake")
UNENCODABLE = "lone surrogate"
_ANY = re.compile("|".join(f"(?P<k{number}>{pattern})" for number, pattern in enumerate(_KINDS.values())))
_NAMES = tuple(_KINDS)
_SUSPECT = re.compile(r"[\ufffd\u200d縺繧繝ãäåæçèéâ]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\u3099\u309a\ud800-\udfff\ue000-\uf8ff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f\U000f0000-\U0010ffff]")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\u3099\u309a\ud800-\udfff\ue000-\uf8ff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f\U000f0000-\U0010ffff]")

# What chat templates and training scripts write around turns. In a text of its own it ends a turn in the middle.
MARKUP = re.compile(
    r"<\|[A-Za-z][A-Za-z0-9_]{1,40}\|>|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|</?(?:USER|ASSISTANT|SYSTEM)>"
    r"|^(?:USER|ASSISTANT|SYSTEM|Human|Assistant):|^### (?:Instruction|Response|指示|応答)\s*[:：]?[ \t]*$",
    re.MULTILINE,
)


def find_characters(text: str) -> Iterator[tuple[str, int]]:
    """`(kind, position)` of every forbidden or invisible character, in order."""
    if not _SUSPECT.search(text):
        return
    for found in _ANY.finditer(text):
        yield _NAMES[int(found.lastgroup[1:])], found.start()


def visible(text: str) -> str:
    """The text on one line with every invisible character spelled out, `"‹U+200B›"`, so that it is safe to print."""
    text = re.sub(r"[ \t]*(?:\r\n|\r|\n)+[ \t]*", " ⏎ ", text)
    return _UNSEEN.sub(lambda found: " " if found[0] == "\t" else f"‹U+{ord(found[0]):04X}›", text)
