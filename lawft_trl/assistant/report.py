"""What a task hands back, the same for all four."""

from dataclasses import dataclass, field
from typing import Literal

Task = Literal["contract_review", "question_answer", "risk_analysis", "drafting"]
PRIORITIES = ("高", "中", "低")
MODEL, RULE, DOCUMENT = "モデル", "規則", "文書"


@dataclass(frozen=True, kw_only=True)
class Citation:
    """A provision that an answer names.

    Attributes:
        law: title of the law; where it is not known, as the answer writes it.
        article: `"第709条"`, `"第27条の2第1項"`.
        status: `VERIFIED` when the corpus has this article of this law, else `UNVERIFIED`.
        text: the article in the corpus; `""` when unverified.
        note: why it is unverified, in Japanese.
    """

    law: str
    article: str
    status: str
    text: str = field(default="", repr=False)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One point of a review or an analysis.

    Attributes:
        clause: the clause's label, or another place in the document; `""` for the whole of it.
        issue: what there is to consider.
        priority: one of `PRIORITIES`, shown as `notices.PRIORITY`; `""` where none is given.
        suggestion: what could be done.
        citations: what the point names.
        source: who says so: `MODEL`, `RULE` (no model involved), or `DOCUMENT` (hidden text, orders to the model).
    """

    clause: str
    issue: str = field(repr=False)
    priority: str = ""
    suggestion: str = field(default="", repr=False)
    citations: tuple[Citation, ...] = ()
    source: str = MODEL


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of a task; its `repr` shows none of its text.

    Attributes:
        task: which task.
        title: of the report.
        items: points, in the order of the document.
        body: Markdown without HTML, images and links: the answer, the draft with its differences, or what could not be read.
        citations: every provision named anywhere in it, each once.
        notices: what must be shown with it (`notices.py`).
        warnings: what went wrong or was removed, in Japanese.
        model: id of the model that answered.
        made_at: ISO time, with the offset.
        seconds: how long it took.
    """

    task: Task
    title: str
    items: tuple[Item, ...] = field(default=(), repr=False)
    body: str = field(default="", repr=False)
    citations: tuple[Citation, ...] = field(default=(), repr=False)
    notices: tuple[str, ...] = field(repr=False)
    warnings: tuple[str, ...] = field(default=(), repr=False)
    model: str
    made_at: str
    seconds: float
