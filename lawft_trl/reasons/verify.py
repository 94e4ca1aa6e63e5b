"""Whether reasons can be trusted as training text: what they quote is there, every choice has its own, no letter is named.

What is checked here can be decided from the text alone. Whether a reason is good law is not among it.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lawft_trl.data.questions import LETTERS, Question, read_questions
from lawft_trl.errors import InputError
from lawft_trl.statutes.citations import ARTICLE, NUMERAL, article_number
from lawft_trl.statutes.passages import article_name
from lawft_trl.text_files import read_jsonl

# Shorter words in 「」 may also be a term of the question; from here on it is a quotation of a statute.
QUOTATION = 5
_LEAST = 12  # characters of a reason that says something, what it quotes of the choice not counted
_NGRAM = 5
_NEAR_IDENTICAL = 0.9

_OPEN, _CLOSE = "「『", "」』"
_OTHER_QUOTES = re.compile(r'["“”„‟‘’〝〞〟«»]')
# A choice called by its letter, number or place; choices are shown in several orders, so that this would be wrong in most.
_NAMED_CHOICE = re.compile(
    r"(?:選択肢|肢)(?:[(（]?[A-Za-d](?![A-Za-z])|[(（]?[1-4](?!\d)|[一二三四](?![つ個])|[アイウエ](?![ァ-ヶー]))"
    r"|(?:最初|最後|先頭|末尾|前|次|上|下|上記|下記|[1-4一二三四](?:つ|番)目|第[1-4一二三四])の(?:選択肢|肢)"
)
_LETTER = re.compile(r"(?<![A-Za-z0-9])[A-Da-d](?![A-Za-z0-9])")
_NUMBERS = re.compile(rf"{NUMERAL}|[0-9]+|[A-Za-z]+")

_THOUGHTS = re.compile(r"^.*</think(?:ing)?>", re.DOTALL)
_REASON_LINE = re.compile(r"[(（\[【]?(?:選択肢\s*)?([a-dａ-ｄ])(?:[)）\]】.．:：、,]+\s*|\s+|$)(.*)")
_ANSWER_LINE = re.compile(r"(?:最終)?(?:答え|解答|回答|正解|答)\s*(?:は|[:：])?\s*[(（「]?([a-dA-Dａ-ｄＡ-Ｄ])[)）」]?\s*(?:です)?[。.．]?")


def reasons_problems(question: Question, reasons: Mapping[str, str], statutes: Sequence[str]) -> list[str]:
    """What keeps reasons from being used; an empty list when nothing does.

    Compared is what NFKC makes of a text, without white space: full and half width are the same, nothing else is.

    Args:
        question: what the reasons are about; its own `reasons` and `statutes` are not read.
        reasons: letter -> reason.
        statutes: the passages that were shown. Without any, a reason can quote none.

    Returns:
        `"kind: letter: what was found"`; the kinds are `missing`, `empty`, `repeated`, `brackets`, `quotation`, `choice
        quotation`, `no quotation`, `letter` and `article`.
    """
    written = {letter: reasons[letter] for letter in LETTERS if reasons.get(letter, "").strip()}
    problems = [f"missing: {letter}: no reason for this choice" for letter in LETTERS if letter not in written]
    given = "\n".join([question.question, *question.choices.values(), *statutes])
    # A capital that the question or a statute uses is a person or a thing in it, such as the lessor Ａ.
    persons = set(_LETTER.findall(unicodedata.normalize("NFKC", given))) - set(LETTERS)
    articles, quoted = _articles(given), False
    for letter, reason in written.items():
        found, own_words, quotations = _read_quotations(reason, question, letter, statutes)
        found += [f"letter: {name!r} names a choice, and choices are shown in several orders" for name in _named(own_words, persons)]
        found += [f"article: {article_name(number)} is not in what is shown" for number in sorted(_articles(own_words) - articles)]
        if len(_plain(own_words)) + sum(map(len, quotations)) < _LEAST:
            found.append(f"empty: {reason!r:.80} gives no reason")
        problems += [problem.replace(": ", f": {letter}: ", 1) for problem in found]
        quoted = quoted or any(_is_provision(text, statutes) for text in quotations)
    counts = Counter(map(_plain, written.values()))
    problems += [f"repeated: {count} choices have the same reason {text!r:.80}" for text, count in counts.items() if count > 1]
    if statutes and not quoted:
        problems.append(f"no quotation: no reason quotes a provision in 「」, {QUOTATION} characters or more")
    return problems


def _read_quotations(reason: str, question: Question, letter: str, statutes: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Faults of the quotations of one reason, the reason without its quotations, and what stands in 「」, as compared."""
    reason = unicodedata.normalize("NFKC", reason)  # ｢half-width brackets｣ quote as well
    spans, balanced = _quotations(reason)
    problems = [] if balanced else ["brackets: 「」 and 『』 are not closed in the order they were opened"]
    if _OTHER_QUOTES.search(reason):
        problems.append("brackets: statutes are quoted in 「」, the choice in 『』, and nothing in other quotation marks")
    choice, asked = _quotable(question.choices[letter]), [_quotable(text) for text in (question.question, *question.choices.values())]
    shown = list(map(_quotable, statutes))
    own_words, end_before, quotations = "", 0, []
    for start, end in spans:
        text, quotation = _quotable(reason[start + 1 : end]), reason[start : end + 1]
        own_words += reason[end_before:start] + " "
        end_before = end + 1
        if reason[start] == "『":
            kind, places, whose = "choice quotation", [choice], "this choice"
        else:
            kind, places, whose = "quotation", shown if len(text) >= QUOTATION else [*shown, *asked], "the statutes shown"
            quotations.append(text)
        if not text or not any(text in place for place in places):
            problems.append(f"{kind}: {quotation:.80} is not in {whose}")
    return problems, own_words + reason[end_before:], quotations


def _is_provision(text: str, statutes: Sequence[str]) -> bool:
    """Whether a quotation, as compared, is long enough and stands under a heading, not in one: a law's title proves nothing."""
    return len(text) >= QUOTATION and any(
        text in _quotable("\n".join(line for line in passage.split("\n") if not line.startswith("#"))) for passage in statutes
    )


def _quotations(text: str) -> tuple[list[tuple[int, int]], bool]:
    """Positions of the opening and closing brackets of the outermost quotations, and whether all brackets pair up."""
    spans, stack = [], []
    for position, character in enumerate(text):
        if character in _OPEN:
            stack.append(position)
        elif character in _CLOSE:
            if not stack or _OPEN.index(text[stack[-1]]) != _CLOSE.index(character):
                return spans, False
            start = stack.pop()
            if not stack:
                spans.append((start, position))
    return spans, not stack


def _named(own_words: str, persons: set[str]) -> list[str]:
    """The words that name a choice."""
    text = unicodedata.normalize("NFKC", own_words)
    return [match[0] for match in _NAMED_CHOICE.finditer(text)] or [letter for letter in _LETTER.findall(text) if letter not in persons]


def _articles(text: str) -> set[str]:
    """Numbers of the articles a text names, `{"27_2"}`."""
    return {article_number(name) for name in re.findall(ARTICLE, unicodedata.normalize("NFKC", text))}


def _plain(text: str) -> str:
    """What NFKC makes of a text, without white space."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def _quotable(text: str) -> str:
    """The text as quotations are compared: a bracket within a quotation changes its shape, so shapes do not count."""
    return _plain(text).replace("『", "「").replace("』", "」")


class AcceptedReasons:
    """The reasons accepted so far, to be searched for some that say the same with other letters and numbers."""

    def __init__(self):
        self._ids: list[str] = []
        self._grams: list[frozenset[str]] = []
        self._index: defaultdict[str, list[int]] = defaultdict(list)

    def add(self, question: str, reasons: Mapping[str, str]) -> None:
        """Accepts the reasons of the question with this id."""
        grams = reasons_grams(reasons)
        for gram in _prefix(grams):
            self._index[gram].append(len(self._ids))
        self._ids.append(question)
        self._grams.append(grams)

    def near_identical(self, reasons: Mapping[str, str]) -> str | None:
        """The id of the first question accepted with nearly these reasons: Jaccard index of the runs at least 0.9."""
        mine = reasons_grams(reasons)
        for position in sorted({position for gram in _prefix(mine) for position in self._index.get(gram, ())}):
            other = self._grams[position]
            common = len(mine & other)
            if common >= _NEAR_IDENTICAL * (len(mine) + len(other) - common):
                return self._ids[position]
        return None


def _prefix(grams: frozenset[str]) -> list[str]:
    """So many runs, in one order for all texts, that two sets which are near-identical share at least one of them.

    The prefix filter of Chaudhuri, Ganti and Kaushik (2006). Runs of kanji come first, being rarer than runs of kana.
    """
    return sorted(grams, reverse=True)[: len(grams) - math.ceil(_NEAR_IDENTICAL * len(grams)) + 1]


def reasons_grams(reasons: Mapping[str, str]) -> frozenset[str]:
    """The runs of five characters in the reasons, with every number and Latin word masked; the order of the choices does not count."""
    grams = set()
    for reason in reasons.values():
        text = _NUMBERS.sub("#", _plain(reason))
        grams |= {text[start : start + _NGRAM] for start in range(max(1, len(text) - _NGRAM + 1))}
    return frozenset(grams)


def parse_reasons(text: str) -> tuple[dict[str, str], str | None]:
    """Reads four lines that start with their letter and a last line `答え: b`, as `data.prompts.answer_text` writes them.

    Thoughts in `<think>`, a preamble, code fences, bold type, list marks, blank lines and full-width letters are passed
    over; lines that start with no letter go on with the reason above them.

    Returns:
        The reasons that were found and the letter of the last line; `{}` and `None` where the form is not there.
    """
    text = _THOUGHTS.sub("", text)
    if "<think" in text:  # it was cut off while it thought
        return {}, None
    lines = [line.replace("**", "").strip() for line in text.split("\n") if not line.strip().startswith("```")]
    lines = [line for line in (re.sub(r"^(?:[-*#>]+\s+)+", "", line).strip() for line in lines) if line]
    answer = _ANSWER_LINE.fullmatch(lines[-1]) if lines else None
    reasons: dict[str, str] = {}
    last = ""
    for line in lines[:-1] if answer else lines:
        start = _REASON_LINE.fullmatch(line)
        letter = unicodedata.normalize("NFKC", start[1]) if start else ""
        if letter > last:
            reasons[letter], last = start[2].strip(), letter
        elif last:
            reasons[last] += line
    return reasons, unicodedata.normalize("NFKC", answer[1]).lower() if answer else None


def file_problems(path: Path) -> tuple[int, list[str]]:
    """Checks the reasons of a file of questions, e.g. written by hand, against each question's own statutes.

    Returns:
        The number of questions that have reasons, and `"file:line: id: problem"` for every problem.

    Raises:
        InputError: when the file cannot be read as questions, or none has reasons.
    """
    questions = read_questions(path)
    checked = sum(bool(question.reasons) for question in questions)
    if not checked:
        raise InputError(f"{path}: none of the {len(questions)} questions has `reasons`; there is nothing to verify")
    lines = {question.id: number for (number, _), question in zip(read_jsonl(path), questions, strict=True)}
    return checked, [f"{path}:{lines[id]}: {id}: {fault}" for id, fault in _faults(questions)]


def refuse_bad_reasons(questions: Iterable[Question], where: str) -> None:
    """What no row is written from: reasons with a fault, each checked against its question's own statutes.

    Raises:
        InputError: with every fault.
    """
    faults = [f"{id}: {fault}" for id, fault in _faults(questions)]
    if faults:
        raise InputError(f"{where}: {len(faults)} fault(s) in the reasons; nothing was written", faults)


def _faults(questions: Iterable[Question]) -> Iterator[tuple[str, str]]:
    """`(question id, fault)` of the questions that have reasons."""
    accepted = AcceptedReasons()
    for question in questions:
        if not question.reasons:
            continue
        for fault in reasons_problems(question, question.reasons, question.statutes):
            yield question.id, fault
        twin = accepted.near_identical(question.reasons)
        if twin is not None:
            yield question.id, f"near-identical: but for letters and numbers the reasons are those of {twin}"
        accepted.add(question.id, question.reasons)
