"""The letter a model's output gives as its answer, and why: `parse_answer`, `explain_answer`."""

import difflib
import itertools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lawft_trl.data.questions import LETTERS
from lawft_trl.evaluation.answer_rules import (
    NONE_AT_ALL,
    Letter,
    Statement,
    conclusions,
    corrects,
    explicit_statements,
    lone_letters,
    odd_verdict,
)
from lawft_trl.evaluation.answer_text import plain_text, spoken_part

PARSER_VERSION = "1"  # raised with every change that moves an answer

_NEAR = 0.8  # how alike a restated choice must be, `difflib` ratio,
_CLEAR = 0.1  # and how much more alike than the next one: legal choices may differ by one word
_MOST_REVISIONS = 3  # changes of mind in reasoning; more are a loop
_LONGEST_COMPARED = 400  # characters; `difflib` is quadratic
_ANSWER_LEAD = re.compile(r"^.{0,20}?(?:answer|正解|回答|解答|答え|結論|正しい(?:もの|選択肢)?)(?: ?\([^()]{0,40}\))? ?(?:は|:| is) ?")


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why an output counts as the answer it counts as.

    Attributes:
        letter: the answer, None where there is none.
        rule: the rule that decided, see `docs/answers.md`.
        span: (start, end) of the deciding words in the original text, (0, 0) where no words decided.
        words: `text[start:end]`.
    """

    letter: Letter | None
    rule: str
    span: tuple[int, int]
    words: str


def parse_answer(text: str, choices: Mapping[str, str] | None = None) -> Letter | None:
    """The letter a careful reader takes for the answer; None where there is none.

    Args:
        text: the model's output without the prompt.
        choices: the text of each choice as this prompt showed it, to recognise one that is restated without its letter.
    """
    return explain_answer(text, choices).letter


def explain_answer(text: str, choices: Mapping[str, str] | None = None) -> Explanation:
    """As `parse_answer`, with the rule and the words that decided."""
    start, end = spoken_part(text)
    plain = plain_text(text, start, end)
    statement = _decide(plain.text, choices or {})
    if statement.end <= statement.start:
        return Explanation(letter=statement.letter, rule=statement.rule, span=(0, 0), words="")
    span = plain.span(statement.start, statement.end)
    return Explanation(letter=statement.letter, rule=statement.rule, span=span, words=text[slice(*span)])


def _decide(text: str, choices: Mapping[str, str]) -> Statement:
    """The statement that decides: the strongest kind that names a letter, see `docs/answers.md`."""
    explicit = explicit_statements(text)
    contradiction = None
    for rules in (("boxed", "label"), ("sentence",), ("letter",)):
        found = lone_letters(text) if rules == ("letter",) else explicit
        named = [one for one in found if one.letter and one.rule in rules]
        if not named or (contradiction and rules == ("letter",)):
            continue
        denied = [one for one in explicit if one.rule == "none" and one.end > named[-1].end]
        if denied:
            return denied[-1]
        settled = _settled(named, text)
        if settled.letter:
            return settled
        contradiction = contradiction or settled
    if contradiction:
        return contradiction
    if refused := [one for one in explicit if not one.letter]:
        return refused[-1]
    if nothing := NONE_AT_ALL.search(text):
        return Statement(None, "none", nothing.start(), nothing.end())
    if concluded := [one for one in conclusions(text) if one.letter]:
        return _settled(concluded, text)
    return odd_verdict(text) or _restated(text, choices) or Statement(None, "nothing", 0, 0)


def _settled(named: Sequence[Statement], text: str) -> Statement:
    """One answer of several statements: they agree, or reasoning revises them, or they contradict one another."""
    last = named[-1]
    turns = [(one, other) for one, other in itertools.pairwise(named) if one.letter != other.letter]
    if not turns or last.final:
        return last
    revised = len(turns) <= _MOST_REVISIONS and last.rule in ("sentence", "conclusion")
    if revised or (len(turns) == 1 and corrects(text, turns[0][0].end, turns[0][1].start)):
        return last
    return Statement(None, "contradiction", last.start, last.end)


def _restated(text: str, choices: Mapping[str, str]) -> Statement | None:
    """The one choice whose text is, exactly or nearly, the output's first or last line (`正解は` before it set aside)."""
    wanted = {letter: _bare(plain_text(choice).text) for letter, choice in choices.items()}
    wanted = {letter: choice for letter, choice in wanted.items() if letter in LETTERS and choice}
    lines = text.split("\n")
    whole = _bare(text)
    present = [choice for choice in wanted.values() if choice in whole]
    if sum(not any(choice != other and choice in other for other in present) for choice in present) > 1:
        return None
    for index in dict.fromkeys((0, len(lines) - 1)):
        line = _bare(_ANSWER_LEAD.sub("", lines[index]))
        ranked = sorted(((_likeness(line, choice), letter) for letter, choice in wanted.items()), reverse=True)
        if ranked and ranked[0][0] >= _NEAR and (len(ranked) == 1 or ranked[0][0] - ranked[1][0] >= _CLEAR or ranked[0][0] == 1.0 > ranked[1][0]):
            start = sum(len(other) + 1 for other in lines[:index])
            return Statement(ranked[0][1], "choice_text", start, start + len(lines[index]))
    return None


def _bare(text: str) -> str:
    """Without blanks, punctuation and the copula at the end."""
    kept = "".join(character for character in text if unicodedata.category(character)[0] in "LNM")
    return re.sub(r"(?:です|である|だ|が正解|が正しい)$", "", kept)


def _likeness(line: str, choice: str) -> float:
    if max(len(line), len(choice)) > _LONGEST_COMPARED:
        return float(line == choice)
    return difflib.SequenceMatcher(None, line, choice, autojunk=False).ratio()
