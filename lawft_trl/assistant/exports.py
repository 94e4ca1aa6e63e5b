"""A report as Markdown and as DOCX, always with its notices."""

import io
import re
from typing import Any

from lawft_trl.assistant import notices
from lawft_trl.assistant.markdown_text import escape_backslashes, unescape_markdown
from lawft_trl.assistant.report import DOCUMENT, MODEL, RULE, Citation, Item, Report

_SECTIONS = ((DOCUMENT, "文書について確認すべきこと"), (MODEL, "論点・確認すべき点（モデルの回答）"), (RULE, f"確認すべき点〔{notices.RULE_BASED}〕"))


def to_markdown(report: Report, *, leaves: bool = True) -> str:
    """A report as Markdown with its notices, warnings, model and time.

    Args:
        report: the report.
        leaves: it is written to a file, which others may read, and not only shown to the user.
    """
    told = [notices.EXPORT, *report.notices] if leaves else report.notices
    lines = [f"# {_inline(report.title)}", "", "\n>\n".join(f"> {notice}" for notice in told), ""]
    lines += [f"- モデル：{_inline(report.model)}", f"- 作成：{report.made_at}（{report.seconds:.1f}秒）", *(f"- 注意：{_inline(each)}" for each in report.warnings), ""]
    body_first = report.task in ("question_answer", "drafting")
    if report.body and body_first:
        lines += [report.body, ""]
    for source, heading in _SECTIONS:
        items = [item for item in report.items if item.source == source]
        if items:
            lines += [f"## {heading}", "", *(line for item in items for line in _item_lines(item)), ""]
    if report.body and not body_first:
        lines += [report.body, ""]
    if report.citations:
        lines += ["## 引用された法令", "", *(line for citation in report.citations for line in _citation_lines(citation)), ""]
    return "\n".join(lines).rstrip() + "\n"


def _item_lines(item: Item) -> list[str]:
    priority = f"〔{notices.PRIORITY}：{item.priority}〕" if item.priority else ""
    lines = [f"- **{_inline(item.clause or '全体')}** {priority}".rstrip(), f"  - {_inline(item.issue)}"]
    if item.suggestion:
        lines.append(f"  - 案：{_inline(item.suggestion)}" if item.source == MODEL else f"  - {_inline(item.suggestion)}")
    if item.citations:
        lines.append("  - 根拠：" + "、".join(f"{citation.law}{citation.article}（{citation.status}）" for citation in item.citations))
    return lines


def _citation_lines(citation: Citation) -> list[str]:
    why = f"：{citation.note}" if citation.note else ""
    lines = [f"- {_inline(citation.law)}{citation.article} **{citation.status}**{why}"]
    return [*lines, *(f"  > {_inline(line)}" for line in citation.text.splitlines() if line.strip())]


def _inline(text: str) -> str:
    """Text on one line that Markdown does not take for headings, HTML or links."""
    return re.sub(r"\s*\n\s*", " ／ ", escape_backslashes(text.strip())).replace("<", "＜").replace("](", "］(")


def to_docx(report: Report) -> bytes:
    """The same as a DOCX file, the notice in its footer on every page."""
    import docx
    from docx.oxml.ns import qn
    from docx.shared import Pt

    document = docx.Document()
    for name in ("Normal", "Heading 1", "Heading 2", "Heading 3"):
        fonts = document.styles[name].element.get_or_add_rPr().get_or_add_rFonts()
        fonts.set(qn("w:eastAsia"), "游明朝" if name == "Normal" else "游ゴシック")
    document.core_properties.title, document.core_properties.author = _allowed(report.title)[:255], ""
    document.sections[0].footer.paragraphs[0].text = notices.EXPORT
    in_code = False
    for line in to_markdown(report).splitlines():
        if line.startswith("```"):
            in_code = not in_code
        elif in_code:
            document.add_paragraph(_allowed(line), style="No Spacing")
        elif heading := re.match(r"(#{1,3}) (.*)", line):
            document.add_heading(_allowed(unescape_markdown(heading[2])), level=len(heading[1]))
        elif bullet := re.match(r"( *)- (.*)", line):
            _add_bold(document.add_paragraph(style="List Bullet 2" if bullet[1] else "List Bullet"), bullet[2])
        elif quoted := re.match(r" *> ?(.*)", line):
            paragraph = document.add_paragraph()
            paragraph.paragraph_format.left_indent = Pt(14)
            _add_bold(paragraph, quoted[1])
        elif line.strip():
            _add_bold(document.add_paragraph(), line)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def _add_bold(paragraph: Any, text: str) -> None:
    """Text with `**` as bold runs."""
    for place, piece in enumerate(re.split(r"(?<!\\)\*\*", _allowed(text))):
        if piece:
            paragraph.add_run(unescape_markdown(piece)).bold = place % 2 == 1


def _allowed(text: str) -> str:
    """What XML can hold."""
    return re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)
