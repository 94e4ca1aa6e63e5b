"""Contracts for tests, made here: a PDF writer of a few lines, DOCX by python-docx."""

import io
from collections.abc import Sequence

_FONT = (
    b"<</Type/Font/Subtype/Type0/BaseFont/HeiseiMin-W3/Encoding/UniJIS-UTF16-H/DescendantFonts[<</Type/Font/Subtype/CIDFontType0"
    b"/BaseFont/HeiseiMin-W3/CIDSystemInfo<</Registry(Adobe)/Ordering(Japan1)/Supplement 4>>"
    b"/FontDescriptor<</Type/FontDescriptor/FontName/HeiseiMin-W3/Flags 6/FontBBox[0 -200 1000 900]/ItalicAngle 0/Ascent 800/Descent -200/CapHeight 700/StemV 80>>>>]>>"
)


def shown(text: str, *, y: int, before: str = "", size: float = 10.5) -> str:
    """Operators that show a line; `before` sets colour or mode."""
    return f"q {before} BT /F1 {size} Tf 1 0 0 1 50 {y} Tm <{text.encode('utf-16-be').hex()}> Tj ET Q\n"


def pdf(pages: Sequence[Sequence[str | tuple[str, dict]]], *, image: bool = False) -> bytes:
    """A PDF; each page is lines, a line with options of `shown` as a pair; with `image`, every page names one."""
    contents = []
    for lines in pages:
        pairs = [(line, {}) if isinstance(line, str) else line for line in lines]
        contents.append("".join(shown(text, y=800 - 16 * number, **options) for number, (text, options) in enumerate(pairs)).encode())
    picture = b"/XObject<</Im1 5 0 R>>" if image else b""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(pages), b" ".join(b"%d 0 R" % (6 + 2 * number) for number in range(len(pages)))),
        _FONT,
        b"<</Font<</F1 3 0 R>>/ExtGState<</Clear<</ca 0>>>>%s>>" % picture,
        b"<</Type/XObject/Subtype/Image/Width 1/Height 1/BitsPerComponent 8/ColorSpace/DeviceGray/Length 1>>stream\n\x00\nendstream",
    ]
    for number, content in enumerate(contents):
        objects.append(b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources 4 0 R/Contents %d 0 R>>" % (7 + 2 * number))
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(content), content))
    out, places = bytearray(b"%PDF-1.5\n"), []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(places) + 1, table, len(places) + 1, len(out))
    return bytes(out)


def long_contract(articles: int = 80) -> list[str]:
    """Lines of a contract of 40 pages, two articles a page; the words differ from article to article."""
    subjects = ["委託業務", "報酬", "検収", "再委託", "資料の貸与", "知的財産権", "秘密保持", "損害賠償", "解除", "存続条項"]
    lines = ["業務委託基本契約書", "株式会社青葉システムズ（以下「甲」という。）と佐藤健一（以下「乙」という。）は、次のとおり契約する。"]
    for number in range(1, articles + 1):
        subject = subjects[(number - 1) % len(subjects)]
        lines.append(f"第{number}条（{subject}その{(number - 1) // len(subjects) + 1}）")
        lines += [f"{item}　乙は、{subject}について、第{max(1, number - item)}条に定めるほか、甲の書面による承諾を得なければならない。" for item in range(1, 9)]
    return lines


def docx_of(lines: Sequence[str]) -> bytes:
    """A DOCX with one paragraph a line."""
    import docx

    document = docx.Document()
    for line in lines:
        document.add_paragraph(line)
    return saved(document)


def saved(document) -> bytes:
    """The bytes of a python-docx document."""
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()
