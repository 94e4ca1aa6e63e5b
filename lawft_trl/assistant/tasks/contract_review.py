"""Contract review: clause by clause by the model, the whole by rule, and what is hidden in the document."""

import time
from typing import Any

from lawft_trl.assistant import notices
from lawft_trl.assistant.citations import Search
from lawft_trl.assistant.documents import Document
from lawft_trl.assistant.privacy import guard
from lawft_trl.assistant.report import Item, Report
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
from lawft_trl.assistant.tasks.prompts import REVIEW, fenced, messages_for, statutes_part
from lawft_trl.assistant.tasks.rule_checks import differences, missing_clauses


def review_contract(
    client: Any,
    document: Document,
    *,
    search: Search | None = None,
    template: Document | None = None,
    model: str | None = None,
    remote_consent: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Reviews a contract.

    Args:
        client: a `LegalClient`.
        document: the contract.
        search: a statutes corpus, for the prompt and to verify citations.
        template: the user's own template; the differences to it are listed, without a model.
        model: another id at the same URL, such as `client.entry.base_model`.
        remote_consent: the user agreed that the document is sent to this remote model, with placeholders.
        progress: told before each clause.

    Raises:
        ConsentNeeded: for a remote model without consent.
        ModelError: when the server cannot be asked at all.
    """
    from lawft_trl.assistant.tasks.forms import ReviewedClause

    started, warnings = time.monotonic(), {}
    client = guard(client, remote_consent=remote_consent, about=[document.text])

    def messages_of(label: str, text: str) -> list[dict[str, str]]:
        return messages_for(client, REVIEW, statutes_part(search, text, 3), fenced(text, "契約書の条項", label))

    asked, answered_by = ask_parts(client, parts_of(document.clauses), messages_of, ReviewedClause, model=model, progress=progress)
    without_answers(asked, warnings)
    items: list[Item] = items_of_document(document)
    for each in asked:
        if each.answer:
            items += items_of(each.label, each.answer.points, search, warnings)
    items += missing_clauses(document)
    items += differences(document, template) if template else []
    return finish(
        "contract_review",
        f"契約書レビュー：{document.name}",
        started,
        model=answered_by,
        notices=[notices.ANSWER, notices.CITATIONS],
        warnings=warnings,
        search=search,
        items=items,
        body=failures_body(asked),
    )
