"""A model's output made plain for the answer rules: one form per letter, no markup, and the way back to the original."""

import functools
import re
import unicodedata
from dataclasses import dataclass

# Decompositions that only change how a character is drawn; `<super>` and the like change what it says.
_DRAWN = ("<wide>", "<narrow>", "<circle>", "<font>", "<square>")
_DROPPED = frozenset("*`#$\u200b\u200c\u200d\u2060\ufeff\ufe0e\ufe0f")
_BY_HAND = {"🅰": "a", "🅱": "b", "🅐": "a", "🅑": "b", "🅒": "c", "🅓": "d", "❶": "1", "❷": "2", "❸": "3", "❹": "4"}
_THOUGHT = re.compile(r"</?(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_TURN_END = re.compile(r"<\|(?:im_end|endoftext|eot_id|end_of_text|im_start|end)\|>|</s>")


@dataclass(frozen=True)
class Plain:
    """Plain text and where it came from.

    Attributes:
        text: lower case, NFKC where that only changes the drawing, without Markdown marks, every run of blanks one
            blank, every run of line breaks one line break.
        origin: for each character of `text` the index of its character in the original.
    """

    text: str
    origin: list[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The original's (start, end) of `text[start:end]`, which must not be empty."""
        return self.origin[start], self.origin[end - 1] + 1


def spoken_part(text: str) -> tuple[int, int]:
    """The (start, end) of what the model said to the reader.

    The first turn only (what follows an end token was written for somebody else), and of it what follows the last
    closed thought. An unclosed `<think>` never came to an answer: only what stands before it counts.
    """
    start, end = 0, len(text)
    for turn in _TURN_END.finditer(text):
        if text[start : turn.start()].strip():
            end = turn.start()
            break
        start = turn.end()
    for tag in _THOUGHT.finditer(text, start, end):
        if tag[0].startswith("</"):
            start = tag.end()
    opened = next((tag for tag in _THOUGHT.finditer(text, start, end) if not tag[0].startswith("</")), None)
    return start, opened.start() if opened else end


@functools.lru_cache(maxsize=4096)
def _plain_character(character: str) -> str:
    if character in _DROPPED:
        return ""
    if character in _BY_HAND:
        return _BY_HAND[character]
    if character in "\n\r\v\f\x85\u2028\u2029":
        return "\n"
    if character.isspace():
        return " "
    drawn = unicodedata.decomposition(character).partition(" ")[0]
    code = ord(character)
    if drawn in _DRAWN or 0x2474 <= code <= 0x249B or 0x249C <= code <= 0x24B5:  # ⑴ ⒈ ⒜ decompose as <compat>
        plain = unicodedata.normalize("NFKC", character)
        if len(plain) == 1 or 0x2474 <= code <= 0x24B5:
            character = plain
    return character.lower() if len(character.lower()) == len(character) else character


def plain_text(text: str, start: int = 0, end: int | None = None) -> Plain:
    """`text[start:end]` made plain; linear in its length."""
    characters: list[str] = []
    origin: list[int] = []
    for index in range(start, len(text) if end is None else end):
        for character in _plain_character(text[index]):
            last = characters[-1] if characters else "\n"
            if character == " " and last in " \n":
                continue
            if character == "\n":
                if last == " ":
                    characters.pop()
                    origin.pop()
                    last = characters[-1] if characters else "\n"
                if last == "\n":
                    continue
            characters.append(character)
            origin.append(index)
    while characters and characters[-1] in " \n":
        characters.pop()
        origin.pop()
    return Plain("".join(characters), origin)
