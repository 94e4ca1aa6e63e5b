"""Asking a model about the parts of a document one by one: a part that fails says so, and the rest goes on."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from lawft_trl.assistant.answer_text import clean_answer
from lawft_trl.assistant.citations import Search, verify_citations
from lawft_trl.assistant.clauses import PREAMBLE, Clause
from lawft_trl.assistant.documents import Document
from lawft_trl.assistant.failures import ModelError, Refused, ServerFailed, TimedOut, UnreadableAnswer
from lawft_trl.assistant.markdown_text import escape_markdown
from lawft_trl.assistant.notices import without_predictions
from lawft_trl.assistant.report import DOCUMENT, Item, Report, Task

if TYPE_CHECKING:
    from pydantic import BaseModel

# Told how many parts are done, of how many, and which comes now.
Progress = Callable[[int, int, str], None]

_LONGEST = 3000  # characters of a part
_RAW_SHOWN = 1500  # characters of an unreadable answer
_ONE_PART = (UnreadableAnswer, TimedOut, ServerFailed, Refused)  # the next part may go well; after others it will not


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What came of one part.

    Attributes:
        label: the part's name.
        answer: `None` where there is none.
        problem: why there is none, in Japanese.
        raw: the unreadable answer, cleaned.
    """

    label: str
    answer: "BaseModel | None" = field(default=None, repr=False)
    problem: str = ""
    raw: str = field(default="", repr=False)


def ask_parts(
    client: Any,
    parts: Sequence[tuple[str, str]],
    messages_of: Callable[[str, str], list[dict[str, str]]],
    form: "type[BaseModel]",
    *,
    model: str | None,
    progress: Progress | None,
) -> tuple[list[Asked], str]:
    """Asks about each part in turn.

    Args:
        client: a `LegalClient`.
        parts: `(label, text)`.
        messages_of: what is asked of a part.
        form: the form of the answers.
        model: another id at the same URL.
        progress: told before each part, and at the end.

    Returns:
        What came of each part, and the name under which the server answered.

    Raises:
        ModelError: when the server cannot be asked at all and no part was answered yet.
    """
    asked: list[Asked] = []
    name = model or client.entry.model
    for done, (label, text) in enumerate(parts):
        if progress:
            progress(done, len(parts), label)
        try:
            answer, reply = client.ask_json(messages_of(label, text), form, model=model)
            asked.append(Asked(label=label, answer=answer))
            name = reply.model
        except ModelError as error:
            asked.append(Asked(label=label, problem=str(error), raw=clean_answer(error.text)[:_RAW_SHOWN]))
            if isinstance(error, _ONE_PART):
                continue
            if not any(each.answer for each in asked):
                raise
            asked += [Asked(label=other, problem=f"尋ねていません。{error}") for other, _ in parts[done + 1 :]]
            break
    if progress:
        progress(len(parts), len(parts), "")
    return asked, name


def parts_of(clauses: Sequence[Clause]) -> list[tuple[str, str]]:
    """`(label, text)` of what is asked one by one: all but mere headings, long ones in pieces at line ends."""
    parts = []
    for clause in clauses:
        pieces = _pieces(clause.text)
        for number, piece in enumerate(pieces, start=1):
            is_title = not clause.number and clause.title == PREAMBLE and "。" not in piece
            if not is_title and len("".join(piece.split())) > len(clause.label) + 2:
                parts.append((clause.label + (f"（{number}/{len(pieces)}）" if len(pieces) > 1 else ""), piece))
    return parts


def _pieces(text: str) -> list[str]:
    """A text in pieces of at most `_LONGEST` characters, cut after a line or a sentence where there is one."""
    pieces = []
    while len(text) > _LONGEST:
        cut = max(text.rfind(mark, _LONGEST // 2, _LONGEST) for mark in "\n。") + 1 or _LONGEST
        pieces.append(text[:cut])
        text = text[cut:]
    return [*pieces, text]


def cleaned(text: str, warnings: dict[str, None]) -> str:
    """A model's text as it may be shown; what was removed is noted."""
    shown, predictions = without_predictions(clean_answer(text))
    if predictions:
        warnings.setdefault("結果の予測にあたる文がモデルの答えにあったため、除きました。")
    return shown


def items_of(label: str, points: Sequence[Any], search: Search | None, warnings: dict[str, None]) -> list[Item]:
    """A model's points as items, with their citations looked up."""
    items = []
    for point in points:
        issue, suggestion = cleaned(point.issue, warnings), cleaned(point.suggestion, warnings)
        # What a removed sentence cites was still named.
        citations = verify_citations(map(clean_answer, [*point.citations, point.issue, point.suggestion]), search)
        items.append(Item(clause=label, issue=issue, priority=point.priority, suggestion=suggestion, citations=citations))
    return items


def items_of_document(document: Document) -> list[Item]:
    """What was hidden in a document, as items of the report."""
    items = []
    for finding in document.findings:
        quoted = f"「{finding.excerpt}」" if finding.excerpt else ""
        priority = "高" if finding.kind in ("文書内の指示", "隠し文字") else ""
        items.append(Item(clause=finding.place, issue=f"【{finding.kind}】{finding.note}{quoted}", priority=priority, source=DOCUMENT))
    return items


def failures_body(asked: Sequence[Asked]) -> str:
    """The parts without an answer, as Markdown: why, and what the model wrote."""
    lines = []
    for each in asked:
        if each.problem:
            lines.append(f"### {escape_markdown(each.label)}\n\nこの部分は検討できていません。{each.problem}")
            if each.raw:
                quoted = "\n".join(f"> {line}" for line in each.raw.splitlines())
                lines.append(f"読み取れなかった答えの原文（整形済み）:\n\n{quoted}")
    return "\n\n".join(["## 検討できなかった部分", *lines]) if lines else ""


def finish(
    task: Task,
    title: str,
    started: float,
    *,
    model: str,
    notices: Sequence[str],
    warnings: dict[str, None],
    search: Search | None,
    items: Sequence[Item] = (),
    body: str = "",
    cited_in: Sequence[str] = (),
) -> Report:
    """Puts a report together.

    Args:
        task: which.
        title: of the report.
        started: `time.monotonic()` at the beginning.
        model: the name under which the server answered.
        notices: what is shown with it.
        warnings: as keys, in order.
        search: where citations are looked up.
        items: the points.
        body: Markdown.
        cited_in: texts whose citations count besides those of the items.
    """
    found = dict.fromkeys(citation for item in items for citation in item.citations) | dict.fromkeys(verify_citations(cited_in, search))
    if found and search is None:
        warnings.setdefault("法令集が指定されていないため、引用はすべて未検証です。")
    return Report(
        task=task,
        title=title,
        items=tuple(items),
        body=body,
        citations=tuple(found),
        notices=tuple(notices),
        warnings=tuple(warnings),
        model=model,
        made_at=datetime.now(timezone(timedelta(hours=9))).isoformat(timespec="seconds"),
        seconds=time.monotonic() - started,
    )


def without_answers(asked: Sequence[Asked], warnings: dict[str, None]) -> None:
    """Notes how many parts have no answer."""
    failed = [each.label for each in asked if each.problem]
    if failed:
        warnings.setdefault(f"{len(asked)}件のうち{len(failed)}件はモデルの答えを得られず、検討できていません（{'、'.join(failed[:5])}{'など' if len(failed) > 5 else ''}）。")
