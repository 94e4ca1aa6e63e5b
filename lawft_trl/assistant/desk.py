"""What the two faces of the assistant share: the models and the corpus it works with, and what the user orders."""

import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lawft_trl.assistant.circuit import Circuit
from lawft_trl.assistant.documents import Document
from lawft_trl.assistant.models import ModelEntry, entry_warnings
from lawft_trl.assistant.report import Report, Task
from lawft_trl.errors import InputError

Side = Literal["tuned", "base"]

TASKS: dict[Task, str] = {
    "contract_review": "契約書レビュー",
    "question_answer": "法的質問",
    "risk_analysis": "リスク分析",
    "drafting": "文書作成",
}
SIDES: dict[Side, str] = {"tuned": "学習後", "base": "学習前"}
EXPORTS = {".md": "text/markdown", ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document"}

_NAMED_FACT = re.compile(r"\s*([^：:\n]{1,40})[：:]\s*(\S.*)")


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What an assistant works with.

    Attributes:
        models: the tuned model, and the untuned one where it is known.
        corpus: folder of an indexed corpus of statutes; `None` leaves every citation unverified.
        remote_consent: the user agreed that text leaves the machine, with placeholders for what is private.
    """

    models: Mapping[Side, ModelEntry]
    corpus: Path | None = None
    remote_consent: bool = False
    circuits: Mapping[str, Circuit] = field(default_factory=dict, repr=False)

    @property
    def warnings(self) -> list[str]:
        """What the user should know of the models before asking them, in Japanese."""
        return [warning for entry in self.models.values() for warning in entry_warnings(entry, datetime.date.today())]

    @property
    def remote_hosts(self) -> list[str]:
        """The hosts that text would be sent to, other than this machine."""
        return sorted({urlsplit(entry.base_url).hostname or "" for entry in self.models.values() if not entry.is_local})


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the user wants done.

    Attributes:
        task: which of the four.
        document: the contract, the text to analyse or the template; `None` for a question.
        text: the question, or the facts of a draft.
        template: of a review, the user's own template to compare with.
    """

    task: Task
    document: Document | None = field(default=None, repr=False)
    text: str = field(default="", repr=False)
    template: Document | None = field(default=None, repr=False)


def open_desk(entry: ModelEntry, *, base: ModelEntry | None = None, corpus: Path | None = None, allow_remote: bool = False) -> Desk:
    """Checks what an assistant is to work with.

    Args:
        entry: the tuned model.
        base: the untuned one; `None` for `entry.base_model` at the same URL, where there is one.
        corpus: an indexed corpus of statutes.
        allow_remote: the user's consent for models on other machines.

    Raises:
        InputError: when a model is on another machine and there is no consent, a key is missing, or the corpus cannot be searched.
    """
    from lawft_trl.assistant.client import LegalClient
    from lawft_trl.statutes.search import open_index

    if base is None and entry.base_model:
        base = untuned_entry(entry, entry.base_model)
    if base:
        refuse_same_model(entry, base)
    models: dict[Side, ModelEntry] = {"tuned": entry} | ({"base": base} if base else {})
    circuits = {url: Circuit() for url in sorted({each.base_url for each in models.values()})}
    desk = Desk(models=models, corpus=corpus, remote_consent=allow_remote, circuits=circuits)
    if desk.remote_hosts and not allow_remote:
        raise InputError(
            f"{', '.join(desk.remote_hosts)}: not this machine, so documents and questions would be sent there",
            ["--allow-remote consents to it; names, addresses and numbers that are found are replaced by placeholders first (some may be missed)"],
        )
    for each in models.values():
        LegalClient(each).close()  # says now that a key is missing
    if corpus:
        open_index(corpus)
    return desk


def untuned_entry(tuned: ModelEntry, base: str) -> ModelEntry:
    """The model with the id `base` at the tuned model's address, asked as that one is: the same chat template arguments and system message."""
    return replace(tuned, alias=base, model=base, base_model=None, adapter_sha256=None, run=None)


def refuse_same_model(tuned: ModelEntry, base: ModelEntry) -> None:
    """Raises `InputError` where the two are one model at one address: its answers would be compared with themselves."""
    if (tuned.base_url, tuned.model) == (base.base_url, base.model):
        raise InputError(f"{base.alias}: that is the tuned model, {tuned.model} at {tuned.base_url}", ["name the one it was tuned from: --base, or `base_model:` in the models file"])


def carry_out(
    desk: Desk, order: Order, side: Side, *, on_text: Callable[[str], None] | None = None, progress: Callable[[int, int, str], None] | None = None
) -> Report:
    """Does what was ordered.

    Args:
        desk: what to work with.
        order: what to do.
        side: which model.
        on_text: given the answer to a question so far, cleaned, as it comes.
        progress: told how many parts of a document are done, of how many, and which comes now.

    Raises:
        ModelError: when the model cannot be asked.
        DocumentProblem: for an empty text.
    """
    from lawft_trl.assistant.client import LegalClient
    from lawft_trl.assistant.tasks.contract_review import review_contract
    from lawft_trl.assistant.tasks.drafting import draft
    from lawft_trl.assistant.tasks.question_answer import answer_question
    from lawft_trl.assistant.tasks.risk_analysis import analyse_risks
    from lawft_trl.statutes.search import open_index

    # Neither serves two users at a time: the client keeps its last answer, the index its place in a file.
    entry = desk.models[side]
    client = LegalClient(entry, circuit=desk.circuits[entry.base_url])
    common = {"search": open_index(desk.corpus) if desk.corpus else None, "remote_consent": desk.remote_consent}
    try:
        if order.task == "question_answer":
            return answer_question(client, order.text, on_text=on_text, **common)
        if order.task == "risk_analysis":
            return analyse_risks(client, order.document, progress=progress, **common)
        if order.task == "drafting":
            return draft(client, order.document, read_facts(order.text), progress=progress, **common)
        return review_contract(client, order.document, template=order.template, progress=progress, **common)
    finally:
        client.close()


def read_facts(text: str) -> str | dict[str, str]:
    """Facts as blank -> value where every line is `名前：値`; else the text as it is."""
    found = [_NAMED_FACT.fullmatch(line) for line in text.splitlines() if line.strip()]
    return {each[1].strip(): each[2].strip() for each in found} if found and all(found) else text


def exported(report: Report, suffix: str) -> bytes:
    """A report as a file of one of the kinds in `EXPORTS`."""
    from lawft_trl.assistant.exports import to_docx, to_markdown

    return to_docx(report) if suffix == ".docx" else to_markdown(report).encode()
