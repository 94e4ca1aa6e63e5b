"""Which articles of a corpus an evaluation set touches."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from lawft_trl.data.near_duplicates import plain
from lawft_trl.data.rows import Row
from lawft_trl.statutes.headed_text import article_keys
from lawft_trl.statutes.passages import Passage

_GRAM = 5
_SAME = 0.8  # share of a line's runs of characters that a text has where it shows that line
_SHORTEST = 20  # letters of a line that says enough to be known again


def excluded_articles(rows: Iterable[Row], passages: Sequence[Passage]) -> set[str]:
    """The article keys that rows name or show; where a row names none of the corpus, those whose text its prompt shows.

    Args:
        rows: of evaluation sets.
        passages: the corpus; its lines are looked for in prompts whose row names none of its articles
            (no provision at all, or one under another title).

    Returns:
        `Passage.article_key`s. Those a row names are among them even if the corpus does not have them.
    """
    present = {passage.article_key for passage in passages}
    named: set[str] = set()
    texts: list[str] = []
    for row in rows:
        statutes = _strings(row.meta.get("statutes"))
        keys = {*_strings(row.meta.get("provisions")), *(key for text in statutes for key in article_keys(text))}
        named |= keys
        if not keys & present or any(not text.lstrip().startswith("#") for text in statutes):
            texts.append(plain("\n".join([*statutes, *(message["content"] for message in row.prompt)])))
    return named | _shown(texts, passages)


def _strings(value: Any) -> list[str]:
    """The strings of a list; a row of another origin may have anything there."""
    return [part for part in value if isinstance(part, str)] if isinstance(value, list | tuple) else []


def _shown(texts: Sequence[str], passages: Sequence[Passage]) -> set[str]:
    """The articles of which some text shows a line, nearly letter for letter."""
    where: dict[str, list[int]] = {}
    for number, text in enumerate(dict.fromkeys(texts)):
        for gram in _grams(text):
            where.setdefault(gram, []).append(number)
    found: set[str] = set()
    for passage in passages if where else ():
        for line in map(plain, passage.text.split("\n")):
            if len(line) < _SHORTEST or passage.article_key in found:
                continue
            grams = _grams(line)
            shared = Counter(number for gram in grams for number in where.get(gram, ()))
            if shared and max(shared.values()) >= _SAME * len(grams):
                found.add(passage.article_key)
    return found


def _grams(text: str) -> set[str]:
    return {text[start : start + _GRAM] for start in range(len(text) - _GRAM + 1)}
