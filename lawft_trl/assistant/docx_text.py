"""The visible text of a DOCX with its automatic numbers, and the text in it that a reader does not see."""

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lawft_trl.assistant.raw_text import MAX_CHARACTERS, DocumentProblem, RawText, Unseen, too_long
from lawft_trl.statutes.numerals import write_number

if TYPE_CHECKING:
    from docx.document import Document

_MAX_UNPACKED = 100 * 1024 * 1024
_SMALLEST = 2.0  # points
_KANJI = {"japaneseCounting", "ideographDigital", "chineseCounting", "japaneseLegal", "taiwaneseCountingThousand"}
_OTHER_PARTS = {"footnotes": "脚注", "endnotes": "文末脚注", "comments": "コメント"}


def read_docx(content: bytes) -> RawText:
    """Reads the body: paragraphs, tables, text boxes and content controls, in order; insertions count, deletions do not.

    Raises:
        DocumentProblem: when it is encrypted, damaged, too large or has no text.
    """
    import docx

    if content[:4] == b"\xd0\xcf\x11\xe0":  # the old container: an encrypted DOCX, or a .doc
        raise DocumentProblem("パスワードのかかったDOCXか、古い形式（.doc）です。パスワードを外すか、DOCX形式で保存し直してお試しください。")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.namelist()
            if sum(part.file_size for part in archive.infolist()) > _MAX_UNPACKED:
                raise DocumentProblem("DOCXを開いた大きさが上限を超えています。画像を除くなどしてお試しください。")
        document = docx.Document(io.BytesIO(content))
        texts, unseen = _read_body(document)
    except DocumentProblem:
        raise
    except Exception as error:  # zipfile, lxml and python-docx raise many kinds at a damaged file
        raise DocumentProblem(f"DOCXが壊れているか、DOCXではありません（{type(error).__name__}）。保存し直したものでお試しください。") from None
    for part, name in _OTHER_PARTS.items():
        if f"word/{part}.xml" in parts and _has_words(content, f"word/{part}.xml"):
            unseen.append(Unseen(kind="読み取り対象外", place="", why=f"{name}があります。{name}は読み取っていません。"))
    text = "\n".join(texts)
    if not text.strip() and not unseen:
        raise DocumentProblem("DOCXに文字がありません。画像だけの文書とみられます。文字のあるファイルでお試しください。")
    return RawText(text=text, unseen=tuple(unseen))


def _has_words(content: bytes, part: str) -> bool:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return bool(re.search(rb"<w:t[ >][^<]*[^<\s]", archive.read(part)))


def _read_body(document: "Document") -> tuple[list[str], list[Unseen]]:
    """The lines of the body, and the hidden pieces."""
    from docx.oxml.ns import qn
    from docx.text.paragraph import Paragraph
    from docx.text.run import Run

    numbers, lines, unseen, length = _Numbers(document), [], [], 0
    body = document.element.body
    for place, element in enumerate(_outside_fallbacks(body, qn("w:p")), start=1):
        paragraph = Paragraph(element, document)
        shown, hidden = [numbers.of(element)], defaultdict(list)
        for run_element in element.iter(qn("w:r")):
            if next(run_element.iterancestors(qn("w:p"))) is not element:
                continue  # of a text box within the paragraph, which comes as a paragraph of its own
            if next(run_element.iterancestors(qn("w:moveFrom"), qn("w:rt")), None) is not None:
                continue  # moved away, and read where it now stands; or the reading above a word
            run = Run(run_element, paragraph)
            why = _why_unseen(run, paragraph)
            (hidden[why] if why else shown).append(run.text)
        lines.append("".join(shown))
        unseen += [
            Unseen(kind="隠し文字", place=f"{place}段落目", text="".join(pieces), why=why) for why, pieces in hidden.items() if "".join(pieces).strip()
        ]
        length += len(lines[-1])
        if length > MAX_CHARACTERS:
            raise too_long(MAX_CHARACTERS)
    if next(body.iter(*map(qn, ("w:ins", "w:del", "w:moveFrom", "w:moveTo"))), None) is not None:
        unseen.append(Unseen(kind="変更履歴", place="", why="変更履歴が残っています。挿入と移動を反映し、削除を除いた文面を読みました。"))
    return lines, unseen


def _outside_fallbacks(body: Any, tag: str) -> Iterator[Any]:
    """The elements of a tag without the copies that old programs are shown."""
    fallback = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
    return (element for element in body.iter(tag) if next(element.iterancestors(fallback), None) is None)


def _why_unseen(run: Any, paragraph: Any) -> str:
    """Why a reader does not see a run, `""` where he does."""
    fonts = list(_fonts(run, paragraph))
    if next((font.hidden for font in fonts if font.hidden is not None), False):
        return "隠し文字の書式"
    size = next((font.size for font in fonts if font.size is not None), None)
    if size is not None and size.pt < _SMALLEST:
        return "極小の文字"
    colour = next((font.color.rgb for font in fonts if font.color is not None and font.color.rgb is not None), None)
    if colour is not None and min(colour) >= 0xF2 and not _is_shaded(run, paragraph):
        return "白い文字"
    return ""


def _fonts(run: Any, paragraph: Any) -> Iterator[Any]:
    """The fonts that a run's look comes from, the nearest first."""
    yield run.font
    for style in (run.style, paragraph.style):
        while style is not None:
            yield style.font
            style = style.base_style


def _is_shaded(run: Any, paragraph: Any) -> bool:
    """Whether a colour lies behind a run, so that white can be read on it."""
    from docx.oxml.ns import qn

    cell = next(paragraph._p.iterancestors(qn("w:tc")), None)
    properties = [run._r.rPr, paragraph._p.pPr, None if cell is None else cell.tcPr]
    shades = [shade for each in properties if each is not None for shade in each.findall(qn("w:shd"))]
    if any(shade.get(qn("w:fill"), "auto") not in ("auto", "FFFFFF", "ffffff") for shade in shades):
        return True
    return run._r.rPr is not None and run._r.rPr.find(qn("w:highlight")) is not None


class _Numbers:
    """The numbers that Word writes before paragraphs by itself, 第1条 among them; they are not in the text of the file."""

    def __init__(self, document: "Document") -> None:
        from docx.oxml.ns import qn

        self._qn = qn
        self._levels: dict[str, dict[int, tuple[str, str, int]]] = {}  # numId -> level -> format, pattern, start
        self._counts: dict[str, dict[int, int]] = defaultdict(dict)
        self._of_style: dict[str, Any] = {style.style_id: style.element for style in document.styles}
        part = next((relation.target_part for relation in document.part.rels.values() if relation.reltype.endswith("/numbering")), None)
        if part is None:
            return
        abstract = {each.get(qn("w:abstractNumId")): each for each in part.element.iter(qn("w:abstractNum"))}
        for number in part.element.iter(qn("w:num")):
            source = abstract.get(number.find(qn("w:abstractNumId")).get(qn("w:val")))
            if source is not None:
                self._levels[number.get(qn("w:numId"))] = dict(map(self._level, source.iter(qn("w:lvl"))))

    def _level(self, level: Any) -> tuple[int, tuple[str, str, int]]:
        def value(name: str, default: str) -> str:
            found = level.find(self._qn(f"w:{name}"))
            return default if found is None else found.get(self._qn("w:val"), default)

        return int(level.get(self._qn("w:ilvl"))), (value("numFmt", "decimal"), value("lvlText", ""), int(value("start", "1")))

    def of(self, paragraph: Any) -> str:
        """The number of the next paragraph, with a space; `""` where it has none."""
        found = self._property(paragraph.pPr)
        if found is None and paragraph.pPr is not None and paragraph.pPr.pStyle is not None:
            style = self._of_style.get(paragraph.pPr.pStyle.val)
            found = self._property(style.find(self._qn("w:pPr"))) if style is not None else None
        if found is None or found[0] not in self._levels or found[1] not in self._levels[found[0]]:
            return ""
        number, level = found
        levels, counts = self._levels[number], self._counts[number]
        counts[level] = counts.get(level, levels[level][2] - 1) + 1
        for deeper in [each for each in counts if each > level]:
            del counts[deeper]
        if levels[level][0] in ("bullet", "none"):
            return ""

        def shown(match: re.Match[str]) -> str:
            place = int(match[1]) - 1
            kind, _, start = levels.get(place, ("decimal", "", 1))
            return _written(counts.get(place, start), kind)

        return re.sub(r"%(\d)", shown, levels[level][1]) + " "

    def _property(self, properties: Any) -> tuple[str, int] | None:
        """`numId` and level."""
        numbering = None if properties is None else properties.find(self._qn("w:numPr"))
        if numbering is None:
            return None
        number, level = numbering.find(self._qn("w:numId")), numbering.find(self._qn("w:ilvl"))
        return None if number is None else (number.get(self._qn("w:val")), 0 if level is None else int(level.get(self._qn("w:val"))))


def _written(number: int, kind: str) -> str:
    """A number in a format of Word: full-width, kanji, circled, letters; anything else as digits."""
    if kind in _KANJI:
        return write_number(number)
    if kind in ("decimalFullWidth", "decimalFullWidth2"):
        return str(number).translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
    if kind == "decimalEnclosedCircle" and 1 <= number <= 20:
        return chr(0x245F + number)
    if kind in ("aiueo", "aiueoFullWidth", "iroha", "irohaFullWidth") and number <= 46:
        row = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲン"
        iroha = "イロハニホヘトチリヌルヲワカヨタレソツネナラムウヰノオクヤマケフコエテアサキユメミシヱヒモセスン"
        return (iroha if kind.startswith("iroha") else row)[number - 1]
    if kind in ("lowerLetter", "upperLetter") and number <= 26:
        return chr((96 if kind == "lowerLetter" else 64) + number)
    return str(number)
