"""Passages from one law in e-Gov's XML (XMLSchemaForJapaneseLaw, version 3; schema: https://laws.e-gov.go.jp/docs).

How the text is laid out: sentences run on, ただし書 included; items and what is below them stand one a line, `一　…`;
columns are joined by a full-width space; a table is one line a row, cells joined by `｜`; an appended table is a provision
of its own, 別表第一. Readings (ルビ) and figures are dropped. Not taken: table of contents, enacting words, forms (様式),
articles quoted in amending provisions, and whatever is marked as deleted or hidden or reads 削除.
"""

import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from typing import IO
from xml.etree.ElementTree import Element  # the type; parsing is defusedxml's

from lawft_trl.errors import InputError
from lawft_trl.statutes.egov_answers import not_in_force
from lawft_trl.statutes.passages import MAIN, Passage, sort_key

ATTRIBUTION = (
    "出典：e-Gov法令検索（デジタル庁、https://laws.e-gov.go.jp/）。公共データ利用規約（第1.0版）に基づいて利用し、"
    "条文を項ごとに分けるなど加工して作成した。加工後のものは国が作成したものではない。"
)
MAX_CHARS = 1200  # a longer paragraph is divided
_DIVISIONS = {"Part", "Chapter", "Section", "Subsection", "Division"}
_DROPPED = {"Rt", "TOC", "NewProvision", "Fig"}
_ROW = {"TableRow", "TableHeaderRow"}
# Elements that start a line of their own wherever they stand ...
_BLOCK = re.compile(
    r"Item|Subitem\d+|List|Sublist\d+|Class|AmendProvision|Remarks|Part|Chapter|Section|Subsection|Division|Article|Paragraph"
    r"|(Table|Fig|Style|Note|Format)(Struct)?|Table(Header)?Row"
)
# ... and those whose content runs on, so that an element not known to us adds to the sentence it stands in.
_RUN = re.compile(r"\w*(Sentence|Title|Label|Caption|Num)|Column|Line|Ruby|Sup|Sub|QuoteStruct|ArithFormula|Table(Header)?Column")


def read_law(
    file: IO[bytes],
    *,
    source: str,
    law_id: str = "",
    revision: str = "",
    as_of: str = "",
    amending_supplements: bool = False,
    max_chars: int = MAX_CHARS,
) -> list[Passage]:
    """The paragraphs of one law, in the order of `sort_key`.

    A paragraph that its article does not number (the only one) has `paragraph=""`. Text that stands under a number already
    used, as it happens in real laws, is kept as a further part of that number. The preamble is the provision `"前文"`.

    Args:
        file: the XML of a `<Law>`, or anything that holds one, such as an answer of e-Gov's API (`law_data`).
        source: what the passages name as their source, and errors as the file.
        law_id: e-Gov's law id; by default the one in the API's answer, otherwise the law number stands in for it.
        revision: e-Gov's revision id; by default the one in the API's answer.
        as_of: ISO date on which this text is in force, `""` where it is not known.
        amending_supplements: take the supplementary provisions of amending laws too (often most of a law's text).
        max_chars: a longer paragraph is divided at its items, with the lead sentence in each piece, or, where it has none,
            between sentences. A sentence is never divided, so a piece may be longer.

    Returns:
        The passages; none for a law whose text is empty or deleted.

    Raises:
        InputError: for broken XML, a DTD or entities, no `<Law>` in it, a law without title and number, or an answer of
            the API that says the law is not in force on the day of `as_of`.
    """
    root = _parse(file, source)
    law = root if root.tag == "Law" else root.find(".//Law")
    if law is None:
        raise InputError(f"{source}: no <Law> in it: the root is <{root.tag}>", ["expected: XML of e-Gov, of one law"])
    if law is not root:
        told = {element.tag: element.text for element in root.iterfind(".//revision_info/*")}
        if as_of and (reason := not_in_force(told, date.fromisoformat(as_of))):
            raise InputError(f"{source}: {reason}")
        law_id = law_id or root.findtext(".//law_id", "").strip()
        revision = revision or root.findtext(".//law_revision_id", "").strip()
    body = law.find("LawBody")
    body = law if body is None else body
    title, number = body.find("LawTitle"), law.find("LawNum")
    try:
        name, number_text = ("" if element is None else _text(element) for element in (title, number))
        if not name and not number_text:
            raise InputError(f"{source}: the law has neither a title (LawTitle) nor a number (LawNum)")
        pieces = defaultdict(list)
        for provision, element in _provisions(body, amending_supplements):
            related = _child_text(element, "RelatedArticleNum")  # of an appended table: （第二条関係）
            for article, paragraph, caption, text in _paragraphs(element, max_chars, caption=related):
                pieces[provision, article, paragraph].append((caption, text))
    except RecursionError:
        raise InputError(f"{source}: elements are nested more deeply than in any law") from None
    abbreviations = "" if title is None else title.get("Abbrev", "")
    aliases = tuple(alias for part in re.split(r"[,，、]", abbreviations) if (alias := part.strip()))
    passages = [
        Passage(
            law_id=law_id or number_text or name,
            law=name or number_text,
            provision=provision,
            article=article,
            paragraph=paragraph,
            part=part if len(found) > 1 else 0,
            caption=caption,
            text=text,
            revision=revision,
            as_of=as_of,
            aliases=aliases,
            source=source,
        )
        for (provision, article, paragraph), found in pieces.items()
        for part, (caption, text) in enumerate(found, start=1)
    ]
    return sorted(passages, key=sort_key)


def _parse(file: IO[bytes], source: str) -> Element:
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, parse

    try:
        return parse(file, forbid_dtd=True).getroot()
    except DefusedXmlException:
        raise InputError(f"{source}: refused: it declares a DTD or entities, as no file of e-Gov does") from None
    except (ParseError, ValueError, LookupError) as error:  # the latter two: an encoding expat does not know
        raise InputError(f"{source}: not XML that can be read: {error}") from None


def _provisions(body: Element, amending_supplements: bool) -> Iterator[tuple[str, Element]]:
    """`(Passage.provision, element)` of what is taken from a law."""
    for element in body:
        if element.tag == "MainProvision":
            yield MAIN, element
        elif element.tag == "Preamble":
            yield "前文", element
        elif element.tag == "AppdxTable":
            yield _child_text(element, "AppdxTableTitle") or "別表", element
        elif element.tag == "SupplProvision":
            number = element.get("AmendLawNum")
            if number is None and element.get("Type") != "Amend":
                yield "suppl", element
            elif amending_supplements:
                yield f"suppl:{(number or '').strip() or '番号不明'}", element


def _paragraphs(element: Element, max_chars: int, article: str = "", caption: str = "") -> Iterator[tuple[str, str, str, str]]:
    """`(article, paragraph, caption, text)` of every piece below a provision, a division or an article."""
    found = [child for child in element if child.tag == "Paragraph"]
    alone = len(found) == 1 and not _child_text(found[0], "ParagraphNum") and found[0].get("Num", "1") == "1"
    for child in element:
        if _is_dropped(child) or re.fullmatch(r"\w*(Title|Label|Caption)|SupplProvisionAppdx\w*|RelatedArticleNum", child.tag):
            continue
        if child.tag == "Article" and element.tag != "Article":
            number = child.get("Num") or _child_text(child, "ArticleTitle")
            yield from _paragraphs(child, max_chars, number, _child_text(child, "ArticleCaption"))
        elif element.tag != "Article" and (child.tag in _DIVISIONS or _is_wrapper(child)):
            yield from _paragraphs(child, max_chars)
        else:
            number = _paragraph_number(child, found) if child.tag == "Paragraph" and not alone else ""
            shown = _without_brackets(caption or _child_text(child, "ParagraphCaption"))
            for heading in (*child.findall("ParagraphNum"), *child.findall("ParagraphCaption")):
                child.remove(heading)
            for piece in _pieces(child, max_chars):
                if piece and "".join(piece.split()) != "削除":
                    yield article, number, shown, piece


def _is_wrapper(element: Element) -> bool:
    """Whether an element that is not known to us holds provisions, so that it is to be entered like a division."""
    return not _fits(_BLOCK, element.tag) and any(element.find(f".//{tag}") is not None for tag in ("Article", "Paragraph"))


def _paragraph_number(paragraph: Element, siblings: list[Element]) -> str:
    return paragraph.get("Num") or _child_text(paragraph, "ParagraphNum") or str(siblings.index(paragraph) + 1)


def _child_text(element: Element, tag: str) -> str:
    child = element.find(tag)
    return "" if child is None else _text(child)


def _without_brackets(caption: str) -> str:
    match = re.fullmatch(r"[（(〔［](.*)[）)〕］]", caption)
    return match[1] if match else caption


def _is_dropped(element: Element) -> bool:
    return element.tag in _DROPPED or any(element.get(mark) in ("true", "1") for mark in ("Delete", "Hide"))


@functools.lru_cache(1000)  # a law has a few dozen tags, a hundred thousand times
def _fits(kind: re.Pattern[str], tag: str) -> bool:
    return kind.fullmatch(tag) is not None


def _parts(element: Element, running: bool = False) -> list[str | Element]:
    """The content in its order: runs of text, and between them the elements that start a line of their own.

    `running` when the element stands in a sentence or the like, so that one not known to us runs on too.
    """
    running = running or _fits(_RUN, element.tag)
    parts: list[str | Element] = [_unindented(element.text)]

    def run_on(text: str) -> None:
        if isinstance(parts[-1], str):
            parts[-1] += text
        else:
            parts.append(text)

    headed = False  # the last thing written is a title, or the number of an item
    for child in element:
        if _is_dropped(child):
            pass
        elif _fits(_BLOCK, child.tag) or not (running or _fits(_RUN, child.tag)):
            parts.append(child)
        else:
            first, *rest = _parts(child, running=True)
            apart = (headed or child.tag == "Column") and isinstance(parts[-1], str) and parts[-1]
            run_on("　" + first if apart else first)
            parts += rest
            headed = bool(first) and child.tag.endswith(("Title", "Label", "Num"))
        run_on(_unindented(child.tail))
    return parts


def _unindented(text: str | None) -> str:
    """Text without the line breaks and the indentation that only lay out the XML."""
    if not text or not text.strip(" \t\r\n"):
        return ""
    return re.sub(r"\s*\n\s*", "", text) if "\n" in text else text


def _text(element: Element) -> str:
    """The whole content of an element, as passages show it."""
    if element.tag in _ROW:
        return "｜".join(_text(cell).replace("\n", "　") for cell in element if not _is_dropped(cell))
    lines = (part.strip() if isinstance(part, str) else _text(part) for part in _parts(element))
    return "\n".join(line for line in lines if line)


def _pieces(element: Element, max_chars: int) -> list[str]:
    """The text of a paragraph or an item in pieces; what comes before the items is repeated in each."""
    whole = _text(element)
    if len(whole) <= max_chars or element.tag in _ROW:
        return [whole]
    lead, *rest = (part.strip() if isinstance(part, str) else part for part in _parts(element))
    if not rest:
        return _packed(re.split(r"(?<=。)(?![」』）)])", lead), max_chars, "")
    room = max(max_chars - len(lead), max_chars // 2)  # at least half, or a long lead would be repeated for every item
    units = [unit for part in rest for unit in ([part] if isinstance(part, str) else _pieces(part, room)) if unit]
    return [f"{lead}\n{pack}".strip() for pack in _packed(units, room, "\n")]


def _packed(units: list[str], room: int, glue: str) -> list[str]:
    """Joins neighbours as long as they have room together."""
    packs: list[str] = []
    for unit in units:
        if packs and len(packs[-1]) + len(glue) + len(unit) <= room:
            packs[-1] += glue + unit
        else:
            packs.append(unit)
    return packs
