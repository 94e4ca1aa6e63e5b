"""Risk analysis: a structured list of what to consider, without predicting an outcome."""

import time
from typing import Any

from lawft_trl.assistant import notices
from lawft_trl.assistant.citations import Search
from lawft_trl.assistant.documents import Document, document_from_text
from lawft_trl.assistant.privacy import guard
from lawft_trl.assistant.report import Report
from lawft_trl.assistant.tasks.asking import (
    Progress,
    ask_parts,
    failures_body,
    finish,
    items_of,
    items_of_document,
    parts_of,
    without_answers,
)
from lawft_trl.assistant.tasks.prompts import RISKS, fenced, messages_for, statutes_part

_TOGETHER = 1500  # characters of neighbouring clauses that are asked about at once


def analyse_risks(
    client: Any,
    text: str | Document,
    *,
    search: Search | None = None,
    model: str | None = None,
    remote_consent: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Lists the risks in a text or document; the arguments are those of `review_contract`.

    Raises:
        DocumentProblem: for an empty text.
        ConsentNeeded: for a remote model without consent.
        ModelError: when the server cannot be asked at all.
    """
    from lawft_trl.assistant.tasks.forms import FoundRisks

    started, warnings = time.monotonic(), {}
    document = document_from_text("入力された文章", text) if isinstance(text, str) else text
    client = guard(client, remote_consent=remote_consent, about=[document.text])

    def messages_of(label: str, part: str) -> list[dict[str, str]]:
        return messages_for(client, RISKS, statutes_part(search, part, 3), fenced(part, "文書", label))

    parts = _joined(parts_of(document.clauses) or [("全体", document.text)])
    asked, answered_by = ask_parts(client, parts, messages_of, FoundRisks, model=model, progress=progress)
    without_answers(asked, warnings)
    items = items_of_document(document)
    for each in asked:
        if each.answer:
            items += items_of(each.label, each.answer.risks, search, warnings)
    return finish(
        "risk_analysis",
        f"リスク分析：{document.name}",
        started,
        model=answered_by,
        notices=[notices.ANSWER, notices.CITATIONS],
        warnings=warnings,
        search=search,
        items=items,
        body=failures_body(asked),
    )


def _joined(parts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Short neighbours as one part, 第1条（目的）～第3条（期間）."""
    joined: list[tuple[str, str, str]] = []  # first label, last label, text
    for label, text in parts:
        if joined and len(joined[-1][2]) + len(text) <= _TOGETHER:
            first, _, before = joined.pop()
            joined.append((first, label, before + text))
        else:
            joined.append((label, label, text))
    return [(first if first == last else f"{first}～{last}", text) for first, last, text in joined]
