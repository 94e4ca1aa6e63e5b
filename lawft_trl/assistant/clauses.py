"""Dividing a contract into its clauses without losing a character."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from lawft_trl.statutes.citations import ARTICLE
from lawft_trl.statutes.numerals import read_number

_REFERS = r"(?![ \t　]*(?:[にのでをはがと、,]|及び|並びに|又は|若しくは|から|ない[しし]|規定|各項|第))"  # 第3条（秘密保持）に定める…: no heading
_ARTICLE_LINE = re.compile(rf"[ \t　]*(?P<number>{ARTICLE})(?:[ \t　]*[（(【「\[](?P<title>[^）)】」\]\n]{{1,60}})[）)】」\]]{_REFERS}|(?=[ \t　]+\S)|(?=[ \t　]*$))", re.MULTILINE)
_ENGLISH_LINE = re.compile(r"[ \t]*(?P<number>(?:Article|ARTICLE|Section|SECTION)[ \t]+\d{1,3})\b[.:]?[ \t]*(?:\(?(?P<title>[A-Z][^\n.)]{0,60})\)?)?", re.MULTILINE)
_PART_LINE = re.compile(r"[ \t　]*(?P<number>附[ \t　]*則|別[ \t　]*[紙表](?:[ \t　]*[0-9０-９一二三四五六七八九十]{1,3})?|第[0-9０-９一二三四五六七八九十]{1,3}[章節](?=[ \t　]))(?P<title>[ \t　（(][^。\n]{0,60})?$", re.MULTILINE)
_NUMBER_LINE = re.compile(r"[ \t　]*(?P<number>[0-9０-９]{1,2})(?:[.．、](?![0-9０-９])|[ \t　])[ \t　]*(?P<title>[^。\n]{1,60})?", re.MULTILINE)
_CAPTION = re.compile(r"[ \t　]*[（(](?P<title>[^（()）\n]{1,60})[）)][ \t　]*\n\Z")

PREAMBLE = "前文"


@dataclass(frozen=True, kw_only=True)
class Clause:
    """A clause as it stands in the document.

    Attributes:
        number: as written, `"第3条"`, `"2"`, `"附則"`; `""` for what stands before the first clause.
        title: its caption, `"秘密保持"`; `""` where it has none.
        text: with its heading; the clauses of a document, joined, are its text.
    """

    number: str
    title: str
    text: str = field(repr=False)

    @property
    def label(self) -> str:
        """What a report calls it, `"第3条（秘密保持）"`."""
        if not self.number:
            return self.title
        return f"{self.number}（{self.title}）" if self.title else self.number


def split_clauses(text: str) -> tuple[Clause, ...]:
    """Divides a text at lines that begin with 第N条, or with `Article N`, or, where there is neither, with 1. 2. 3. in order.

    Chapters, 附則, 別紙 and 別表 divide too, and what stands before the first heading is a clause without a number, 前文.
    A text without headings is divided at empty lines into clauses without a number.
    """
    starts = _headings(text)
    if not starts:
        return _paragraphs(text)
    places = [0, *(start for start, _, _ in starts), len(text)]
    names = [("", PREAMBLE), *((number, title) for _, number, title in starts)]
    pieces = zip(names, pairwise(places), strict=True)
    return tuple(Clause(number=number, title=title, text=text[a:b]) for (number, title), (a, b) in pieces if a < b)


def place_of(clauses: Sequence[Clause], offset: int) -> str:
    """The label of the clause that a place of the text lies in."""
    for clause in clauses:
        if offset < len(clause.text):
            return clause.label
        offset -= len(clause.text)
    return clauses[-1].label if clauses else ""


def _headings(text: str) -> list[tuple[int, str, str]]:
    """`(start, number, title)` of every heading, in order."""
    for pattern in (_ARTICLE_LINE, _ENGLISH_LINE):
        found = [match for match in pattern.finditer(text) if _begins_line(text, match.start())]
        if found:
            found += [match for match in _PART_LINE.finditer(text) if _begins_line(text, match.start())]
            return sorted(_heading(text, match) for match in found)
    return _numbered(text)


def _numbered(text: str) -> list[tuple[int, str, str]]:
    """Lines numbered 1, 2, 3 …; a number out of turn is a number in the text."""
    found: list[re.Match[str]] = []
    for match in _NUMBER_LINE.finditer(text):
        if _begins_line(text, match.start()) and read_number(match["number"]) == len(found) + 1:
            found.append(match)
    return [_heading(text, match) for match in found] if len(found) > 1 else []


def _begins_line(text: str, place: int) -> bool:
    return place == 0 or text[place - 1] == "\n"


def _heading(text: str, match: re.Match[str]) -> tuple[int, str, str]:
    """Where a clause begins, its number and its title; a caption in brackets on the line before belongs to it."""
    start, title = match.start(), (match["title"] or "").strip(" \t　()（）")
    number = "".join(unicodedata.normalize("NFKC", match["number"]).split()) if match["number"][0] in "第附別" else match["number"].strip()
    line = text.rfind("\n", 0, max(0, start - 1)) + 1
    if not title and start and (caption := _CAPTION.match(text[line:start])):
        start, title = line, caption["title"]
    return start, number, title


def _paragraphs(text: str) -> tuple[Clause, ...]:
    """A text without headings: its stretches between empty lines, each with the empty lines after it."""
    pieces = re.findall(r"(?s).+?(?:\n[ \t　]*\n\s*|\Z)", text)
    return tuple(Clause(number="", title=f"{number}段落目", text=piece) for number, piece in enumerate(pieces, start=1))
