"""Rubrics by rule: whether a text makes a point, and which forbidden phrases it contains."""

import re
import unicodedata
from collections.abc import Sequence


def shows(patterns: Sequence[str], text: str) -> bool:
    """Whether one of the regular expressions is found in a text, whatever its width of characters, spaces and line ends."""
    key = text_key(text)
    return any(re.search(pattern, key) for pattern in patterns)


def phrases_in(phrases: Sequence[str], text: str) -> list[str]:
    """Those of the phrases that a text contains, whatever its width of characters, spaces and line ends."""
    key = text_key(text)
    return [phrase for phrase in phrases if text_key(phrase) in key]


def text_key(text: str) -> str:
    """A text in one width (NFKC), without white space; patterns are searched in it."""
    return "".join(unicodedata.normalize("NFKC", text).split())
