"""Documents that users bring: read within limits, cleaned, divided into clauses; whatever was hidden in them is reported."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

from lawft_trl.assistant.clauses import Clause, place_of, split_clauses
from lawft_trl.assistant.injection import find_injections
from lawft_trl.assistant.raw_text import MAX_BYTES, MAX_CHARACTERS, DocumentProblem, RawText, Unseen, too_long
from lawft_trl.doctor.characters import MARKUP, visible

SUFFIXES = (".pdf", ".docx", ".txt", ".md")
_EXCERPT = 200  # characters of a finding that are shown
_TAGS = re.compile(r"[\U000e0020-\U000e007e]+")  # ASCII in characters that nothing shows
_INVISIBLE = {
    "タグ文字": re.compile(r"[\U000e0000-\U000e007f]+"),
    "双方向制御文字": re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+"),
    "幅のない文字": re.compile(r"[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0]+"),
    # One after a character chooses the form of it, as in names; more carry a message.
    "異体字選択子の連続": re.compile(r"(?:[\ufe00-\ufe0f\U000e0100-\U000e01ef]){2,}"),
    "制御文字": re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufff9-\ufffb\ud800-\udfff]+"),
}
_HTML = re.compile(r"<!--.*?(?:-->|\Z)|</?[A-Za-z][^<>\n]{0,500}>|<![A-Za-z][^<>]{0,200}>|<\?[^<>]{0,200}>", re.DOTALL)
_WIDE = str.maketrans("<>|[]:/#", "＜＞｜［］：／＃")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something in a document that a reader may not see or that is meant for the model.

    Attributes:
        kind: `"文書内の指示"`, `"不可視文字"`, `"隠し文字"`, `"HTML"`, `"対話の区切り記号"`, `"変更履歴"` or `"読み取り対象外"`.
        place: the clause's label, the page or the paragraph; `""` for the whole document.
        excerpt: what was found, safe to show, shortened.
        note: what it means, one Japanese sentence.
    """

    kind: str
    place: str
    excerpt: str = field(default="", repr=False)
    note: str


@dataclass(frozen=True, kw_only=True)
class Document:
    """A cleaned document.

    Attributes:
        name: the file's name.
        text: cleaned, NFC, with `\\n` at line ends; hidden text is not in it.
        clauses: joined they are the text.
        findings: what was hidden in it, and orders to the model.
        pages: `None` where the format has none.
    """

    name: str
    text: str = field(repr=False)
    clauses: tuple[Clause, ...] = field(repr=False)
    findings: tuple[Finding, ...]
    pages: int | None = None


def read_document(name: str, content: bytes) -> Document:
    """Reads a file that a user brought.

    Args:
        name: the file's name; its suffix says what it is.
        content: the whole file.

    Raises:
        DocumentProblem: when it is of another kind, empty, encrypted, damaged, over a limit, or has no text.
    """
    suffix = "." + name.lower().rpartition(".")[2]
    if suffix not in SUFFIXES:
        raise DocumentProblem(f"この形式のファイルは読めません。読める形式は{'、'.join(SUFFIXES)}です。")
    if len(content) > MAX_BYTES:
        raise DocumentProblem(f"ファイルが大きすぎます（{len(content) / 1e6:.1f} MB。上限は{MAX_BYTES // 1024**2} MBです）。")
    if not content.strip():
        raise DocumentProblem("ファイルが空です。")
    return _clean_document(name, _read_raw(suffix, content))


def document_from_text(name: str, text: str) -> Document:
    """The same for text that was typed or pasted.

    Raises:
        DocumentProblem: when it is empty or too long.
    """
    if not text.strip():
        raise DocumentProblem("文章が空です。")
    return _clean_document(name, RawText(text=text))


def _read_raw(suffix: str, content: bytes) -> RawText:
    if suffix == ".pdf":
        from lawft_trl.assistant.pdf_text import read_pdf

        return read_pdf(content)
    if suffix == ".docx":
        from lawft_trl.assistant.docx_text import read_docx

        return read_docx(content)
    for encoding in ("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "cp932"):
        try:
            return RawText(text=content.decode(encoding))
        except UnicodeDecodeError:
            continue
    raise DocumentProblem("文字コードが分かりません。UTF-8で保存し直してお試しください。")


def _clean_document(name: str, raw: RawText) -> Document:
    if len(raw.text) > MAX_CHARACTERS:
        raise too_long(len(raw.text))
    text, invisible = remove_invisible(raw.text)
    if not text.strip() and not raw.unseen:
        raise DocumentProblem("文書に読める文字がありません。")
    orders = list(find_injections(text))  # before anything is neutralised: the places stay the same
    text, neutralised = _neutralise(text)
    clauses = split_clauses(text)
    findings = [_order(what, place_of(clauses, start), text[start:end]) for what, start, end in _sentences(text, orders)]
    findings += [Finding(kind=kind, place=place_of(clauses, start), excerpt=excerpt_of(piece), note=note) for kind, start, piece, note in neutralised]
    for kind, place, count, message in invisible:
        where = place_of(clauses, min(place, max(0, len(text) - 1)))
        note = f"目に見えない{kind}が{count}個ありました。取り除いて読みました。"
        findings.append(Finding(kind="不可視文字", place=where, excerpt=excerpt_of(message), note=note))
        findings += _orders_hidden(message, where)
    for unseen in raw.unseen:
        findings.append(_unseen(unseen))
        findings += _orders_hidden(remove_invisible(unseen.text)[0], unseen.place)
    return Document(name=name, text=text, clauses=clauses, findings=tuple(findings), pages=raw.pages)


def remove_invisible(text: str) -> tuple[str, list[tuple[str, int, int, str]]]:
    """NFC text with `\\n` at line ends and without characters that nothing shows.

    Returns:
        The text, and for each kind `(kind, place of the first in the new text, how many, the message that tag characters spell)`.
    """
    text = re.sub(r"\r\n?|[\u0085\u2028\u2029\x0b\x0c]", "\n", text)
    found = []
    for kind, pattern in _INVISIBLE.items():
        first = pattern.search(text)
        if first:
            pieces = pattern.findall(text)
            message = "".join(chr(ord(each) - 0xE0000) for piece in pieces for each in "".join(_TAGS.findall(piece)))
            place = len(_without_invisible(text[: first.start()]))
            found.append((kind, place, sum(map(len, pieces)), message))
    return _without_invisible(text), found


def _without_invisible(text: str) -> str:
    for pattern in _INVISIBLE.values():
        text = pattern.sub("", text)
    return unicodedata.normalize("NFC", text)


def _neutralise(text: str) -> tuple[str, list[tuple[str, int, str, str]]]:
    """HTML and the marks of chat templates in full-width characters, so that they are text and nothing else.

    Returns:
        The text, of the same length, and `(kind, place, piece, note)` of each.
    """
    found = []
    for kind, pattern, note in (
        ("HTML", _HTML, "HTMLのタグかコメントです。全角の記号に置き換え、ただの文字として読みました。"),
        ("対話の区切り記号", MARKUP, "AIとの対話で区切りに使われる記号です。全角の記号に置き換え、ただの文字として読みました。"),
    ):
        found += [(kind, match.start(), match[0], note) for match in pattern.finditer(text)]
        text = pattern.sub(lambda match: match[0].translate(_WIDE), text)
    return text, sorted(found, key=lambda each: each[1])


def _sentences(text: str, orders: Iterable[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """The sentences that orders stand in, each once with all that its orders are after."""
    found: list[tuple[str, int, int]] = []
    for what, start, end in orders:
        start = max(0, start - _EXCERPT // 2, *(text.rfind(mark, 0, start) + 1 for mark in "。\n"))
        end = min([place + 1 for mark in "。\n" if (place := text.find(mark, end - 1)) >= 0] + [end + _EXCERPT // 2, len(text)])
        if found and start < found[-1][2]:
            before, start, last = found.pop()
            what, end = (before if what in before else f"{before}、{what}"), max(end, last)
        found.append((what, start, end))
    return found


def _order(what: str, place: str, text: str) -> Finding:
    note = f"AIへの指示とみられる記載です（{what}）。従わずに検討しました。この記載がある理由を相手方に確認してください。"
    return Finding(kind="文書内の指示", place=place, excerpt=excerpt_of(text), note=note)


def _orders_hidden(text: str, place: str) -> list[Finding]:
    return [_order(f"隠されていたもの、{what}", place, text[start:end]) for what, start, end in _sentences(text, find_injections(text))]


def _unseen(unseen: Unseen) -> Finding:
    hidden = unseen.kind == "隠し文字"
    note = f"紙面では見えない文字です（{unseen.why}）。検討の対象から除きました。" if hidden else unseen.why
    return Finding(kind=unseen.kind, place=unseen.place, excerpt=excerpt_of(remove_invisible(unseen.text)[0]), note=note)


def excerpt_of(text: str) -> str:
    """At most `_EXCERPT` characters on one line, HTML neutralised, what is invisible spelled out."""
    text = visible(text.strip()).translate(_WIDE)
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"
