"""Questions about law: articles are searched, the answer cites, every citation is looked up."""

import time
from collections.abc import Callable
from typing import Any

from lawft_trl.assistant import notices
from lawft_trl.assistant.answer_text import clean_answer
from lawft_trl.assistant.citations import Search
from lawft_trl.assistant.documents import document_from_text
from lawft_trl.assistant.notices import without_predictions
from lawft_trl.assistant.privacy import guard
from lawft_trl.assistant.report import Report
from lawft_trl.assistant.tasks.asking import cleaned, finish
from lawft_trl.assistant.tasks.prompts import QUESTION, messages_for, statutes_part

_SHOWN = 5  # articles in the prompt


def answer_question(
    client: Any,
    question: str,
    *,
    search: Search | None = None,
    model: str | None = None,
    remote_consent: bool = False,
    on_text: Callable[[str], None] | None = None,
) -> Report:
    """Answers a question; the answer is the report's body, the provisions it names are its citations.

    Args:
        client: a `LegalClient`.
        question: the user's.
        search: a statutes corpus, for the prompt and to verify citations.
        model: another id at the same URL, such as `client.entry.base_model`.
        remote_consent: the user agreed that the question is sent to this remote model, with placeholders.
        on_text: given the answer so far, cleaned, each time more of it has come.

    Raises:
        DocumentProblem: for an empty question.
        ConsentNeeded: for a remote model without consent.
        ModelError: when the server cannot be asked.
    """
    started, warnings = time.monotonic(), {}
    asked = document_from_text("質問", question).text
    client = guard(client, remote_consent=remote_consent, about=[asked])
    messages = messages_for(client, QUESTION, statutes_part(search, asked, _SHOWN), f"【質問】\n{asked}")
    answer = ""
    for piece in client.stream(messages, model=model):
        answer += piece
        if on_text:
            on_text(without_predictions(clean_answer(answer))[0])
    body = cleaned(answer, warnings)
    if client.last.cut:
        warnings.setdefault("答えが長さの上限で途切れています。")
    if not body:
        warnings.setdefault("モデルの答えは空でした。")
    return finish(
        "question_answer",
        "法的質問への回答",
        started,
        model=client.last.model,
        notices=[notices.ANSWER, notices.CITATIONS],
        warnings=warnings,
        search=search,
        body=body,
        cited_in=[clean_answer(answer)],  # what a removed sentence cites was still named
    )
