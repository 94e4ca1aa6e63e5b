"""Statements changed by rule: exactly one element says something else, and no other provision says so too."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lawft_trl.derive.elements import Element, find_elements
from lawft_trl.derive.parties import find_parties, read_parties
from lawft_trl.derive.predicates import find_predicates
from lawft_trl.derive.statements import Statement, cuttable
from lawft_trl.statutes.passages import Passage

MEASURES = ("period", "age", "amount", "ratio", "count")
_BEFORE, _AFTER = 14, 8  # characters around a changed element that are looked up in the law


@dataclass(frozen=True)
class Change:
    """A statement with one element replaced.

    Attributes:
        statement: as it stands.
        element: what is replaced.
        new: the words instead, one for each of the element's spans.
    """

    statement: Statement
    element: Element
    new: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The element's kind."""
        return self.element.kind

    @property
    def edits(self) -> list[tuple[int, int, str]]:
        """`(start, end, new words)`, in order."""
        return [(start, end, words) for (start, end), words in zip(self.element.spans, self.new, strict=True)]

    @property
    def text(self) -> str:
        """The changed statement, whole."""
        return rewrite(self.statement.text, self.edits)


def rewrite(text: str, edits: Sequence[tuple[int, int, str]]) -> str:
    """A text with spans replaced; the spans do not overlap."""
    for start, end, words in sorted(edits, reverse=True):
        text = text[:start] + words + text[end:]
    return text


@dataclass(frozen=True)
class Corpus:
    """What a change is looked up in: the text of every law, and its parties."""

    text: Mapping[str, str]
    parties: Mapping[str, tuple[str, ...]]
    sentences: frozenset[str] = field(repr=False)


def read_corpus(passages: Sequence[Passage]) -> Corpus:
    """Prepares passages for looking up."""
    lines: dict[str, list[str]] = {}
    for passage in passages:
        lines.setdefault(passage.law_id, []).append(plain(passage.text))
    sentences = {sentence for texts in lines.values() for text in texts for sentence in text.split("。")}
    return Corpus({law: "\n".join(texts) for law, texts in lines.items()}, read_parties(passages), frozenset(sentences))


def plain(text: str) -> str:
    """Text as it is compared: one width, no spaces, no cuttable brackets."""
    text = rewrite(text, [(start, end, "") for start, end in cuttable(text)])
    return "".join(unicodedata.normalize("NFKC", text).replace("っ", "つ").split())


def changes_of(statement: Statement, corpus: Corpus) -> list[Change]:
    """Every change of a statement that its paragraph contradicts and that no provision of the law states."""
    text, shown = statement.text, statement.passage.text
    parties = corpus.parties.get(statement.passage.law_id, ())
    elements = [*find_elements(text), *find_predicates(text), *find_parties(text, shown, parties)]
    changes = [Change(statement, element, new) for element in elements for new in element.options]
    return [change for change in changes if _contradicted(change) and not _stated(change, corpus)]


def _contradicted(change: Change) -> bool:
    """Whether the new words are not also in the paragraph, where they might hold in another case (二十年 beside 十年)."""
    shown, text = change.statement.passage.text, change.statement.text
    if change.kind in MEASURES:
        return not re.search(rf"(?<![〇一二三四五六七八九十百千万億]){re.escape(change.new[0])}", shown)
    if change.kind == "term":
        return change.new[0] not in shown
    if change.kind == "citation":
        return change.new[0] not in shown
    if change.kind == "procedure":
        return change.new[0] not in text
    return True


def _stated(change: Change, corpus: Corpus) -> bool:
    """Whether the law has the changed statement, or the changed words within the same frame."""
    law = corpus.text[change.statement.passage.law_id]
    if any(part and part in corpus.sentences and part not in plain(change.statement.text) for part in plain(change.text).split("。")):
        return True
    if change.kind in ("duty", "effect", "proviso", "scope", "condition", "limit"):
        return False  # the frame of these is a phrase like とする, which stands everywhere
    start, _, words = change.edits[0]
    changed = change.text
    window = plain(changed[max(0, start - _BEFORE) : start + len(words) + _AFTER])
    return window in law


def show(statement: Statement, change: Change | None = None) -> str:
    """A statement as a choice shows it: without its final 。 and the cuttable brackets, 次に掲げる pointing to its place.

    Args:
        statement: what is shown.
        change: one of its changes, to show the changed form.
    """
    text = statement.text
    edits = list(change.edits) if change else []
    edits += [(start, end, "") for start, end in cuttable(text)]
    if statement.has_items and not statement.item:
        place = statement.place
        edits += [(match.start(), match.end(), f"{place}各号に掲げる") for match in re.finditer(r"次の各号に掲げる|次に掲げる", text)]
        edits += [(match.start(), match.end(), f"{place}各号") for match in re.finditer(r"次の各号(?!に掲げる)|次(?=のいずれ)", text)]
    edits = [edit for edit in edits if not any(start <= edit[0] and edit[1] <= end and (start, end) != edit[:2] for start, end, _ in edits)]
    return rewrite(text, edits).removesuffix("。")
