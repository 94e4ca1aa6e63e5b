"""The visible text of a PDF, and the text in it that a reader does not see."""

import io
import logging
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lawft_trl.assistant.raw_text import MAX_CHARACTERS, MAX_PAGES, DocumentProblem, RawText, Unseen, too_long

if TYPE_CHECKING:
    from pypdf import PageObject, PdfReader

_SHOWING = {b"Tj", b"TJ", b"'", b'"'}
_SMALLEST = 2.0  # points; nobody reads what is smaller
_WHITE = 0.95
_OCR_SHARE = 0.9  # of a page's strings: so many invisible ones are the text layer of a scan
# Fonts shared by a radical and the character of the same look make PDFs say ⻑ for 長 and ⾏ for 行.
_RADICALS = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0x2F00, 0x2FD6)} | str.maketrans("⻁⻄⻆⻑⻘⻝⻤⻨⻩⻫⻭⻲", "虎西角長青食鬼麦黄斉歯亀")


def read_pdf(content: bytes) -> RawText:
    """Reads a PDF. White text is taken for hidden whatever lies behind it; text within form objects is not examined.

    Raises:
        DocumentProblem: when it is encrypted, damaged, too long, or has no text.
    """
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its warnings quote the file
    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise _encrypted()
        pages = len(reader.pages)
        if pages > MAX_PAGES:
            raise DocumentProblem(f"PDFの頁数が多すぎます（{pages}頁。上限は{MAX_PAGES}頁です）。分けてお試しください。")
        texts: list[str] = []
        unseen: list[Unseen] = []
        for number, page in enumerate(reader.pages, start=1):
            text, hidden = _read_page(reader, page, number)
            texts.append(text)
            unseen += hidden
            if sum(map(len, texts)) > MAX_CHARACTERS:
                raise too_long(MAX_CHARACTERS)
    except DocumentProblem:
        raise
    except (FileNotDecryptedError, DependencyError):  # the latter for AES, where `cryptography` is not installed
        raise _encrypted() from None
    except Exception as error:  # a damaged PDF raises nearly anything in pypdf, KeyError and RecursionError among them
        raise DocumentProblem(f"PDFが壊れているか、PDFではありません（{type(error).__name__}）。作り直したものでお試しください。") from None
    if not any(text.strip() for text in texts) and not unseen:
        raise DocumentProblem("PDFに文字がありません。紙を写した画像だけのPDFとみられます。文字認識（OCR）をしたPDFか、元のファイルでお試しください。")
    return RawText(text="\n".join(texts).translate(_RADICALS), pages=pages, unseen=tuple(unseen))


def _encrypted() -> DocumentProblem:
    return DocumentProblem("PDFにパスワードか編集制限がかかっています。それを外したPDFでお試しください。")


def _read_page(reader: "PdfReader", page: "PageObject", number: int) -> tuple[str, list[Unseen]]:
    """A page's visible text, and what of it is hidden."""
    from pypdf.generic import ContentStream, NameObject

    contents = page.get_contents()
    if contents is None:
        return "", []
    stream = ContentStream(contents, reader, "bytes")  # strings as bytes: written and read again they are the same
    reasons = list(_reasons(stream.operations, page))
    hidden = sorted(set(filter(None, reasons)))
    if not hidden:
        return page.extract_text(), []
    shown = [reason for (_, operator), reason in zip(stream.operations, reasons, strict=True) if operator in _SHOWING]
    if shown.count("透明な文字") >= _OCR_SHARE * len(shown) and "/XObject" in page.get("/Resources", {}):
        note = "画像の上の透明な文字（文字認識の結果とみられます）を本文として読みました。誤認識があり得ます。"
        return page.extract_text(), [Unseen(kind="読み取り対象外", place=f"{number}頁", why=note)]

    def text_of(wanted: str) -> str:
        kept = [
            operation
            for operation, reason in zip(stream.operations, reasons, strict=True)
            if operation[1] not in _SHOWING or reason == wanted
        ]
        part = ContentStream(None, reader)
        part.operations = kept
        page[NameObject("/Contents")] = part
        return page.extract_text()

    unseen = [Unseen(kind="隠し文字", place=f"{number}頁", text=text, why=why) for why in hidden if (text := text_of(why).strip())]
    return text_of(""), unseen


def _reasons(operations: list[tuple[Any, bytes]], page: "PageObject") -> Iterator[str]:
    """For every operation why text that it shows is not seen, `""` where it is seen."""
    state = {"mode": 0, "size": 1.0, "white": False, "clear": False}
    stack: list[dict[str, Any]] = []
    outer = inner = 1.0  # how much the page's matrix and the text's matrix enlarge
    outers: list[float] = []
    for operands, operator in operations:
        if operator == b"q":
            stack.append(dict(state))
            outers.append(outer)
        elif operator == b"Q" and stack:
            state, outer = stack.pop(), outers.pop()
        elif operator == b"cm":
            outer *= _enlarges(operands)
        elif operator == b"BT":
            inner = 1.0
        elif operator == b"Tm":
            inner = _enlarges(operands)
        elif operator == b"Tf":
            state["size"] = abs(float(operands[1]))
        elif operator == b"Tr":
            state["mode"] = int(operands[0])
        elif operator in (b"g", b"rg", b"k", b"sc", b"scn"):
            state["white"] = _is_white(operands)
        elif operator == b"cs":
            state["white"] = False
        elif operator == b"gs":
            state["clear"] = _opacity(page, operands[0], 0.0 if state["clear"] else 1.0) < 0.05
        if operator not in _SHOWING:
            yield ""
        elif state["mode"] in (3, 7) or state["clear"]:
            yield "透明な文字"
        elif state["size"] * inner * outer < _SMALLEST:
            yield "極小の文字"
        elif state["white"] and state["mode"] in (0, 4):
            yield "白い文字"
        else:
            yield ""


def _enlarges(matrix: Any) -> float:
    """By how much a matrix enlarges areas, as a length."""
    a, b, c, d = (float(number) for number in matrix[:4])
    return abs(a * d - b * c) ** 0.5


def _is_white(operands: Any) -> bool:
    """Whether a colour is white or nearly so; a pattern is not."""
    numbers = [float(number) for number in operands if isinstance(number, (int, float))]
    if len(numbers) == 4:
        return max(numbers) <= 1 - _WHITE
    return len(numbers) in (1, 3) and min(numbers) >= _WHITE


def _opacity(page: "PageObject", name: Any, before: float) -> float:
    """The opacity for filling that a named graphics state sets."""
    settings = page.get("/Resources", {}).get("/ExtGState", {}).get(name, {})
    return float(settings.get_object().get("/ca", before)) if settings else before
