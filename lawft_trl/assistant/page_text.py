"""What the page says and how it looks."""

from collections.abc import Mapping
from dataclasses import replace
from html import escape

from lawft_trl.assistant import notices
from lawft_trl.assistant.desk import SIDES, Desk, Side
from lawft_trl.assistant.documents import Document
from lawft_trl.assistant.exports import to_markdown
from lawft_trl.assistant.report import Citation, Report
from lawft_trl.data.legal_citations import VERIFIED

TITLE = "法務アシスタント"
FONTS = ["Hiragino Sans", "Yu Gothic UI", "Meiryo", "Noto Sans CJK JP", "Noto Sans JP", "IPAGothic", "sans-serif"]  # of the system; none is fetched
MONOSPACE = ["Menlo", "Consolas", "Noto Sans Mono CJK JP", "IPAGothic", "monospace"]
STYLE = """
.gradio-container { max-width: 1480px !important; }
.prose h1 { font-size: 1.25rem; } .prose h2 { font-size: 1.05rem; } .prose h3 { font-size: 1rem; }
.message .prose h1 { margin-top: 0; } .message .prose, .message .prose p, .message .prose li { font-size: .92rem; }
#notice { border-left: 4px solid #b45309; padding: .5rem .8rem; background: #fffbeb; border-radius: 4px; }
#notice p { color: #1f2937; font-size: .85rem; margin: 0; }
.small p { font-size: .85rem; }
.gate { max-width: 860px; margin: 1rem auto; }
.citations h3 { font-size: .95rem; margin: .6rem 0 .3rem; }
.citations details, .citations .alone { border: 1px solid #d1d5db; border-radius: 6px; padding: .45rem .7rem; margin: .35rem 0; line-height: 1.6; }
.citations summary { cursor: pointer; }
.citations .badge { border-radius: 999px; padding: .05rem .6rem; font-size: .78rem; margin-left: .4rem; white-space: nowrap; }
.citations .verified { background: #dcfce7; color: #14532d; } .citations .unverified { background: #fef3c7; color: #78350f; }
.citations .text { white-space: pre-wrap; font-size: .88rem; margin: .5rem 0 0; padding-top: .5rem; border-top: 1px dashed #d1d5db; }
.citations .note, .citations .legend { font-size: .8rem; opacity: .8; }
"""


def about(desk: Desk) -> str:
    """Which models answer, where they run, and what they can be checked against; Markdown."""
    names = "、".join(f"{SIDES[side]} `{entry.alias}`" for side, entry in desk.models.items())
    if desk.remote_hosts:
        where = f"**外部のサーバー（{'、'.join(desk.remote_hosts)}）へ送信します。** 見つかった氏名や番号は記号に置き換えて送り、回答で元に戻します（見落としがあり得ます）。"
    else:
        where = "入力は、このコンピューターのアドレスへ送ります。このアドレスの先は確かめていません。"
    corpus = f"法令集 `{desk.corpus.name}` で引用を確かめます。" if desk.corpus else "法令集がないため、引用はすべて未検証になります。"
    return "\n\n".join([f"モデル：{names}。{where}{corpus}", *(f"⚠ {warning}" for warning in desk.warnings)])


def read_note(document: Document) -> str:
    """That a document was read."""
    pages = f"{document.pages}頁、" if document.pages else ""
    found = f"確認すべき記載が{len(document.findings)}件あります（結果に示します）。" if document.findings else ""
    return f"✓ {document.name} を読み込みました（{pages}{len(document.text):,}文字）。サーバー上のファイルは削除しました。{found}"


def answer_text(report: Report) -> str:
    """A report as the dialogue shows it, Markdown; the citations and what their marks mean stand beside it."""
    shown = tuple(notice for notice in report.notices if notice != notices.CITATIONS)
    return to_markdown(replace(report, citations=(), notices=shown), leaves=False)


def citations_panel(reports: Mapping[Side, Report]) -> str:
    """The provisions that the answers name, with their status and text; HTML of nothing but escaped text."""
    parts = []
    for side, report in reports.items():
        if len(reports) > 1:
            parts.append(f"<h3>{SIDES[side]}のモデルの引用</h3>")
        parts += [_citation(citation) for citation in report.citations] or ['<p class="note">引用された法令はありません。</p>']
    if not reports:
        parts = ['<p class="note">回答が引用した法令と条が、ここに並びます。</p>']
    return f'<div class="citations">{"".join(parts)}<p class="legend">{escape(notices.CITATIONS)}</p></div>'


def _citation(citation: Citation) -> str:
    verified = citation.status == VERIFIED
    name = f"{escape(citation.law)} {escape(citation.article)}"
    badge = f'<span class="badge {"verified" if verified else "unverified"}">{escape(citation.status)}</span>'
    if verified:
        return f'<details><summary>{name}{badge}</summary><div class="text">{escape(citation.text)}</div></details>'
    return f'<div class="alone">{name}{badge}<div class="note">{escape(citation.note)}</div></div>'
