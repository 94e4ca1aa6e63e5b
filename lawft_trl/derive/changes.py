"""Statements changed by rule: exactly one element says something else, and no other provision says so too."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, takewhile

from lawft_trl.derive.elements import Element, find_elements
from lawft_trl.derive.parties import find_parties, read_parties
from lawft_trl.derive.predicates import find_predicates
from lawft_trl.derive.statements import Statement, cuttable, read_statements, split_sentences
from lawft_trl.statutes.numerals import NUMBER, read_number
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


def is_implied(change: Change) -> bool:
    """Whether the statute implies the changed statement, as far as its wording tells.

    Who must file within thirty days must also file within sixty; if no one under 22 may, then no one under 20 may. Such
    a statement is not what the statute lays down, but it is not false either, so it is no wrong choice. (Where the
    number itself is asked for, it is.)
    """
    text, (start, end) = change.statement.text, change.element.spans[0]
    if change.kind == "limit":
        return (text[start:end], change.new[0]) in (("以上の", "を超える"), ("以下の", "未満の"))
    values = (number_value(text[start:end]), number_value(change.new[0])) if change.kind in MEASURES else (None, None)
    if None in values:
        return False
    rest = text[end:].split("。")[0]
    larger = values[1] > values[0]
    if undone := re.match(r"(間|以内に|前から|前まで).*?(?:行わない|なかつた|なかった|しない)(?:とき|場合)", rest):
        return larger != (undone[1] == "前まで")  # nothing done in a longer time: then nothing in the shorter either
    if re.match(r"間.*(?:なければ|ては)ならない|を経過しない", rest):
        return not larger  # kept for five years is kept for four
    if limit := re.match(r"以内|以下|未満|に満たない|を超えない|を超え|以上|を下", rest):
        upper = limit[0] in ("以内", "以下", "未満", "に満たない", "を超えない")
        conditional = re.search(r"(?:とき|場合)(?:は|に|も|、)|(?:者|もの|物|所|区域)(?:は|には|については)、|(?:者|もの|とき|場合)$", rest)
        if conditional:  # a narrower case of the rule
            return larger != upper
        if limit[0] in ("を超え", "を下") and "はならない" in rest:
            return larger == (limit[0] == "を超え")
        if "なければならない" in rest:  # a laxer duty
            return larger == upper
        if "ことができる" in rest:  # a narrower permission
            return larger != upper
    return False


def number_value(words: str) -> Fraction | None:
    """The number that words begin with, 三十日 -> 30, 百分の五 -> 1/20; `None` where there is none."""
    if share := re.fullmatch(rf"({NUMBER})分の({NUMBER})", words):
        whole, part = map(read_number, share.groups())
        return part / whole if part and whole else None
    number = re.match(NUMBER, words)
    return read_number(number[0]) if number else None


_NUMERAL = re.compile(r"[〇一二三四五六七八九十百千万億・分の0-9０-９]*$")


def differing_numbers(texts: Sequence[str]) -> list[Fraction] | None:
    """The number that each text has where they differ, if they differ in nothing else and no two have the same."""
    alike = takewhile(lambda characters: len(set(characters)) == 1, zip(*texts, strict=False))
    shared = "".join(characters[0] for characters in alike)
    start = len(shared) - len(_NUMERAL.search(shared)[0])  # 三十日 and 三十五日 begin alike
    found = [re.match(rf"{NUMBER}分の{NUMBER}|{NUMBER}", text[start:]) for text in texts]
    if not all(found) or len({text[start + match.end() :] for text, match in zip(texts, found, strict=True)}) > 1:
        return None
    values = [number_value(match[0]) for match in found]
    return values if None not in values and len(set(values)) == len(values) else None


def rewrite(text: str, edits: Sequence[tuple[int, int, str]]) -> str:
    """A text with spans replaced; the spans do not overlap."""
    for start, end, words in sorted(edits, reverse=True):
        text = text[:start] + words + text[end:]
    return text


@dataclass(frozen=True)
class Corpus:
    """What a change is looked up in: the text of every law, its parties and the terms it defines."""

    text: Mapping[str, str]
    parties: Mapping[str, tuple[str, ...]]
    terms: Mapping[str, tuple[str, ...]]
    sentences: frozenset[str] = field(repr=False)


def read_corpus(passages: Sequence[Passage], asked: Sequence[Passage]) -> Corpus:
    """Prepares passages for looking up.

    Args:
        passages: all there are: what any of them states is true, whether it may be asked about or not.
        asked: those that questions are made of; only their parties and terms are ever named.
    """
    lines: dict[str, list[str]] = {}
    for passage in passages:
        lines.setdefault(passage.law_id, []).append(comparable(passage.text))
    sentences = {sentence for texts in lines.values() for text in texts for sentence in text.split("。")}
    text = {law: "\n".join(texts) for law, texts in lines.items()}
    return Corpus(text, read_parties(asked), _read_terms(asked), frozenset(sentences))


def _read_terms(passages: Sequence[Passage]) -> dict[str, tuple[str, ...]]:
    """Law id -> the terms its sentences define (「借地権」とは、…をいう), in a stable order."""
    found: dict[str, set[str]] = {}
    for passage in passages:
        for statement in chain.from_iterable(read_statements(passage)):
            if defined := definition(statement):
                found.setdefault(passage.law_id, set()).add(defined[0])
    return {law: tuple(sorted(terms)) for law, terms in found.items()}


def definition(statement: Statement) -> tuple[str, str] | None:
    """The term a statement defines and the words that define it: `("借地権者", "借地権を有する者をいう")`."""
    text = statement.text.removesuffix("。")
    if statement.item and "用語の意義" in statement.passage.text and text.endswith("をいう") and "。" not in text:
        term, _, meaning = text.partition("\u3000")
        return (term, meaning) if meaning and "次に" not in meaning else None
    found = re.fullmatch(r"[^「」]{0,20}「([^「」]{2,24})」とは、([^「」]+をいう)", text)
    return (found[1], found[2]) if found and "次に" not in found[2] and len(split_sentences(text)) == 1 else None


def comparable(text: str) -> str:
    """Text as the law is searched for it: one width, no spaces, no cuttable brackets."""
    text = rewrite(text, [(start, end, "") for start, end in cuttable(text)])
    return "".join(unicodedata.normalize("NFKC", text).replace("っ", "つ").split())


def changes_of(statement: Statement, corpus: Corpus) -> list[Change]:
    """Every change of a statement that its paragraph contradicts and that no provision of the law states."""
    text, shown = statement.text, statement.passage.text
    parties = corpus.parties.get(statement.passage.law_id, ())
    elements = [*find_elements(text), *find_predicates(text), *find_parties(text, shown, parties)]
    changes = [Change(statement, element, new) for element in elements for new in element.options]
    return [change for change in changes if _contradicted(change) and not is_stated((change,), corpus)]


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


def is_stated(changes: Sequence[Change], corpus: Corpus) -> bool:
    """Whether the law has the statement with these changes, or the words of one of them within the same frame."""
    statement = changes[0].statement
    law, before = corpus.text[statement.passage.law_id], comparable(statement.text)
    edits = sorted(edit for change in changes for edit in change.edits)
    changed = rewrite(statement.text, edits)
    if any(part and part in corpus.sentences and part not in before for part in comparable(changed).split("。")):
        return True
    for change in changes:
        if change.kind in ("duty", "effect", "proviso", "scope", "condition", "limit"):
            continue  # the frame of these is a phrase like とする, which stands everywhere
        start, _, words = change.edits[0]
        start += sum(len(new) - (end - first) for first, end, new in edits if first < start)  # what stands before is changed too
        if comparable(changed[max(0, start - _BEFORE) : start + len(words) + _AFTER]) in law:
            return True
    return False


def show(statement: Statement, changes: Sequence[Change] = ()) -> str:
    """A statement as a choice shows it: without its final 。 and the cuttable brackets, 次に掲げる pointing to its place.

    Args:
        statement: what is shown.
        changes: changes of different elements, to show the changed form.
    """
    text = statement.text
    edits = [edit for change in changes for edit in change.edits]
    edits += [(start, end, "") for start, end in cuttable(text)]
    edits = [edit for edit in edits if not any(start <= edit[0] and edit[1] <= end and (start, end) != edit[:2] for start, end, _ in edits)]
    return point_to_items(statement, rewrite(text, edits)).removesuffix("。")


def point_to_items(statement: Statement, words: str) -> str:
    """Words of a lead sentence whose 次に掲げる says where: a choice does not show the items."""
    if not statement.has_items or statement.item:
        return words
    words = re.sub(r"次(?:の各号)?に掲げる", f"{statement.place}各号に掲げる", words)
    return re.sub(r"次の各号|次(?=のいずれ)", f"{statement.place}各号", words)
