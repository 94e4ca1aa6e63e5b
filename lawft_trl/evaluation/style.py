"""How far a reply is in the manner of Socrates: questions, addressed to the other, that lead the inquiry. No torch.

A sentence scores 0.6 if it ends as a question does in that manner, 0.25 if it addresses the other, and 0.15 if it leads an
inquiry; a reply scores the mean of its sentences. The definition with its edge cases, and its limits, for a model can learn
to please it: docs/style.md.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from lawft_trl.data.near_duplicates import plain
from lawft_trl.recipe_style import SOCRATIC, StylePatterns

# A sentence ends at its marks, also at several of them; ． only where it is no decimal point. It goes on where a closing
# quotation mark and then a word follow: 「…かね？」と彼は言った is one sentence, and no question.
_END = re.compile(r"(?:[。｡！？!?‼⁇⁈⁉]|．(?!\d))++(?![」』”]+\w)")
_QUESTION_MARK = re.compile(r"[？?⁇⁈⁉]\W*$")
# What is left out at both sides of a sentence: marks, brackets, white space, emoji; at the end the drawl of かねー, too, and
# laughter: （笑）, 笑 by itself, and w, unless it ends a word in Latin letters.
_BEFORE, _AFTER = re.compile(r"^[\W_]+"), re.compile(r"(?:[\W_ーｰ]|(?<!\w)苦?笑|(?<![a-zA-Zａ-ｚＡ-Ｚ])[wｗ]+)+$")
_LIST_LETTER = re.compile(r"[a-zA-Zａ-ｚＡ-Ｚア-ンｱ-ﾝ]")  # what ． splits off of "ア．君は…"
# A word opens a sentence or a clause, and does not begin a negation or an assertion: ではない, ではなく, ではあるまい.
_CLAUSE, _NO_COPULA = r"(?:^|(?<=[\s、，,､：:；;「『（(…―—]))", r"(?!な[いくかけ]|あ[りるっろ])"
_PHRASE = 10  # letters that two texts do not share by chance


def split_sentences(text: str) -> list[str]:
    """The sentences of a text with their marks, without those that say nothing: marks, laughter, or the number of a list's item."""
    sentences = []
    for line in unicodedata.normalize("NFC", text).splitlines():
        start = 0
        for end in _END.finditer(line):
            sentences.append(line[start : end.end()])
            start = end.end()
        sentences.append(line[start:])
    return [sentence for sentence in sentences if _says_something(_core(sentence))]


def score_sentence(sentence: str, patterns: StylePatterns = SOCRATIC) -> float:
    """The score of one sentence, from 0 to 1."""
    ending, address, lead = _parts(sentence, patterns)
    return math.fsum((ending * patterns.ending_weight, address * patterns.address_weight, lead * patterns.lead_weight))


def score_reply(text: str, patterns: StylePatterns = SOCRATIC) -> float:
    """The mean score of a reply's sentences; 0 for a reply without any."""
    return _mean([score_sentence(sentence, patterns) for sentence in split_sentences(text)])


def describe_style(replies: Sequence[str], patterns: StylePatterns = SOCRATIC) -> dict[str, float]:
    """The style of replies, and the figures that show when it was had too cheaply.

    Args:
        replies: at least one.
        patterns: what is looked for.

    Returns:
        `style`, the mean of the replies' scores; `replies`, how many there are; `question_endings`, `addresses` and `leads`,
        shares of all sentences; `sentences` and `characters`, means per reply; `empty`, the share of replies without a
        sentence; `only_questions`, the share whose every sentence asks; `same_reply`, the share that is the same as an earlier
        one; `repeated_within` and `repeated_across`, the share of runs of 10 letters that stand in a reply before, or in
        another reply; `distinct_1` and `distinct_2`, different letters, or pairs of letters, among all.
        Letters are those of `near_duplicates.plain`: marks and white space do not count.

    Raises:
        ValueError: when there is no reply.
    """
    if not replies:
        raise ValueError("no replies: a style cannot be described without any")
    split = [split_sentences(reply) for reply in replies]
    parts = [_parts(sentence, patterns) for sentences in split for sentence in sentences]
    texts = [plain(reply) for reply in replies]
    return {
        "style": _mean([score_reply(reply, patterns) for reply in replies]),
        "replies": len(replies),
        **{name: _mean([part[place] for part in parts]) for place, name in enumerate(("question_endings", "addresses", "leads"))},
        "sentences": _mean([len(sentences) for sentences in split]),
        "characters": _mean([len(reply.strip()) for reply in replies]),
        "empty": _mean([not sentences for sentences in split]),
        "only_questions": _mean([bool(sentences) and all(_asks(sentence, patterns) for sentence in sentences) for sentences in split]),
        "same_reply": 1 - len(set(texts)) / len(texts),
        **_repetition(texts),
        **{f"distinct_{n}": _distinct(texts, n) for n in (1, 2)},
    }


def _core(sentence: str) -> str:
    """A sentence from its first to its last word."""
    return _BEFORE.sub("", _AFTER.sub("", sentence))


def _says_something(core: str) -> bool:
    """Whether there is more than numerals (1, ①, 一), and more than the one letter that numbers an item."""
    return any(letter.isalnum() and not letter.isnumeric() for letter in core) and not _LIST_LETTER.fullmatch(core)


def _parts(sentence: str, patterns: StylePatterns) -> tuple[bool, bool, bool]:
    """Whether a sentence ends as a question, addresses the other, and leads an inquiry."""
    core = _core(unicodedata.normalize("NFC", sentence))
    ending = core.endswith(patterns.endings)
    address = any(pattern in core for pattern in patterns.addresses)
    opening = any(re.search(_CLAUSE + re.escape(pattern) + _NO_COPULA, core) for pattern in patterns.openings)
    return ending, address, opening or any(pattern in core for pattern in patterns.topics)


def _asks(sentence: str, patterns: StylePatterns) -> bool:
    return _parts(sentence, patterns)[0] or _QUESTION_MARK.search(sentence) is not None


def _repetition(texts: Sequence[str]) -> dict[str, float]:
    phrases = [_runs(text, _PHRASE) for text in texts]
    total = sum(map(len, phrases))
    within = sum(len(found) - len(set(found)) for found in phrases)
    holders = Counter(phrase for found in phrases for phrase in set(found))
    across = sum(holders[phrase] > 1 for found in phrases for phrase in found)
    return {"repeated_within": within / total if total else 0.0, "repeated_across": across / total if total else 0.0}


def _distinct(texts: Sequence[str], n: int) -> float:
    runs = [run for text in texts for run in _runs(text, n)]
    return len(set(runs)) / len(runs) if runs else 0.0


def _runs(text: str, n: int) -> list[str]:
    return [text[start : start + n] for start in range(len(text) - n + 1)]


def _mean(values: Sequence[float]) -> float:
    """The mean, the same in whatever order; 0 of nothing."""
    return math.fsum(values) / len(values) if values else 0.0
