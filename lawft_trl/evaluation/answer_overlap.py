"""How far two Japanese texts share their content words, roughly: runs of two characters within kanji, katakana, letters and digits."""

import re
import unicodedata

_CONTENT = re.compile(r"[一-鿿々ァ-ヶーA-Za-z0-9]{2,}")


def content_bigrams(text: str) -> frozenset[str]:
    """The different runs of two characters; hiragana, which carries grammar, is left out."""
    pieces = _CONTENT.findall(unicodedata.normalize("NFKC", text))
    return frozenset(piece[place : place + 2] for piece in pieces for place in range(len(piece) - 1))


def bigram_recall(text: str, of: str) -> float:
    """The share of the content of `of` that stands in `text`, 0 to 1; 0 where `of` has none."""
    wanted = content_bigrams(of)
    return len(wanted & content_bigrams(text)) / len(wanted) if wanted else 0.0


def bigram_f1(text: str, other: str) -> float:
    """Harmonic mean of the shares that two texts have of each other's content, 0 to 1."""
    ours, theirs = content_bigrams(text), content_bigrams(other)
    return 2 * len(ours & theirs) / (len(ours) + len(theirs)) if ours and theirs else 0.0
