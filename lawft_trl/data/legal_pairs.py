"""The legal assistant's question-answer pairs and sample contracts: what a model is trained and the assistant is evaluated on."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawft_trl.data.dialogue_problems import Fault
from lawft_trl.data.legal_problems import read_records, repeated_faults
from lawft_trl.errors import InputError

_ASSETS = Path(__file__).parents[1] / "assets" / "legal"
LEGAL_PAIRS = _ASSETS / "pairs.jsonl"
CONTRACTS = _ASSETS / "contracts"


@dataclass(frozen=True)
class CitedArticle:
    """An article that an answer cites: `CitedArticle("民法", "548_2")` is 民法第548条の2."""

    law: str
    article: str


@dataclass(frozen=True)
class Point:
    """Something an answer must say.

    Attributes:
        point: what, in a sentence.
        any_of: regular expressions; an answer in which one of them is found (`rubric.shows`) makes the point.
    """

    point: str
    any_of: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LegalPair:
    """A question to the legal assistant, and an answer that was written for it.

    Attributes:
        id: unique in the file.
        kind: one of `legal_problems.KINDS`.
        group: equal for pairs that no split may divide.
        system: the system message.
        question: the user's.
        answer: the assistant's.
        citations: the articles that `answer` cites, no more and no fewer.
        required_points: what any good answer to `question` says; `answer` does.
        forbidden: phrases that no answer may contain; `answer` does not.
        source: where it was read, `"pairs.jsonl:12"`.
    """

    id: str
    kind: str
    group: str
    system: str
    question: str
    answer: str
    citations: tuple[CitedArticle, ...]
    required_points: tuple[Point, ...]
    forbidden: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class KnownWeakness:
    """A weak point that a sample contract was written with.

    Attributes:
        clause: number of the clause, 5 for 第5条.
        issue: what is wrong with it, in a sentence.
        any_of: regular expressions; a finding on this clause in which one of them is found (`rubric.shows`) is this one.
    """

    clause: int
    issue: str
    any_of: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Injection:
    """Text that orders a reviewing model to say nothing, as it might stand in a contract.

    Attributes:
        id: unique.
        language: `"ja"` or `"en"`.
        form: how it is hidden: `"plain"` (it is not), `"zero-width"`, `"unicode-tags"`, `"html-comment"` or `"html-hidden"`.
        text: the text.
    """

    id: str
    language: str
    form: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ContractCase:
    """A sample contract, what is known to be weak in it, and the injections that must not change what is found.

    Attributes:
        id: `"services"`, `"nda"`, `"sale"` or `"lease"`.
        kind: 業務委託, 秘密保持, 売買 or 賃貸借.
        side: for whom it is reviewed, `"買主"`.
        file: its file.
        text: the contract.
        findings: the weak points, in the order of the clauses. A review may find more, which is not wrong for that.
        injections: the same for every case.
    """

    id: str
    kind: str
    side: str
    file: Path
    text: str
    findings: tuple[KnownWeakness, ...]
    injections: tuple[Injection, ...]


def read_pairs(path: Path = LEGAL_PAIRS) -> list[LegalPair]:
    """Reads pairs, one JSON object a line (docs/legal_data.md).

    Raises:
        InputError: with every fault of the file. Whether the cited articles exist is not looked up here.
    """
    pairs, faults = load_pairs(path)
    refuse(faults, path)
    return pairs


def load_pairs(path: Path) -> tuple[list[LegalPair], list[Fault]]:
    """The pairs that have no fault of their own, and every fault of the file."""
    records, faults = read_records(path)
    faults += repeated_faults(records)
    return [_pair(place, record) for place, record in records], faults


def refuse(faults: Sequence[Fault], path: Path) -> None:
    """Raises an `InputError` that lists the faults, if there are any."""
    if faults:
        raise InputError(f"{path}: {len(faults)} fault(s) in the pairs; nothing was read or written", map(str, faults))


def contract_cases() -> list[ContractCase]:
    """The four sample contracts with their known weak points and the injections."""
    injections = tuple(Injection(**record) for record in _json("injections.json"))
    return [
        ContractCase(
            id=record["id"],
            kind=record["kind"],
            side=record["side"],
            file=CONTRACTS / record["file"],
            text=(CONTRACTS / record["file"]).read_text(encoding="utf-8"),
            findings=tuple(KnownWeakness(found["clause"], found["issue"], tuple(found["any_of"])) for found in record["findings"]),
            injections=injections,
        )
        for record in _json("findings.json")
    ]


def with_injection(case: ContractCase, injection: Injection) -> str:
    """The contract with the injection as one more clause at its end, so that the numbers of the others stay."""
    last = max(int(number) for number in re.findall(r"^第(\d+)条", case.text, re.MULTILINE))
    return f"{case.text.rstrip()}\n\n第{last + 1}条（補則）\n{injection.text}\n"


def _json(name: str) -> Any:
    return json.loads((CONTRACTS / name).read_text(encoding="utf-8"))


def _pair(place: str, record: dict[str, Any]) -> LegalPair:
    meta = record["meta"]
    system, question, answer = (message["content"] for message in record["messages"])
    return LegalPair(
        id=meta["id"],
        kind=meta["kind"],
        group=meta["group"],
        system=system,
        question=question,
        answer=answer,
        citations=tuple(CitedArticle(cited["law"], cited["article"]) for cited in meta["citations"]),
        required_points=tuple(Point(each["point"], tuple(each["any_of"])) for each in meta["required_points"]),
        forbidden=tuple(meta["forbidden"]),
        source=place,
    )
