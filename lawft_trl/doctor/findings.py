"""The `Finding` record: one thing that is wrong with rows, where, how often, and what to do about it."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lawft_trl.data.rows import Row
from lawft_trl.doctor.characters import visible
from lawft_trl.doctor.personal import mask_personal

if TYPE_CHECKING:
    from rich.table import Table

# error: the rows must not be trained on: they cannot be read, teach what is false, or give the evaluation away.
# warning: they can be, and the result will be worse or say less than it seems. note: worth knowing.
Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_COLORS = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}
_EXAMPLES = 3
_EXCERPT = 60  # characters


@dataclass(frozen=True)
class Example:
    """One place where something was found.

    Attributes:
        place: `"train.jsonl:12"`.
        id: the row's id, `""` where it has none.
        excerpt: a piece of the text on one line, personal data masked, invisible characters spelled out.
    """

    place: str
    id: str
    excerpt: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One kind of fault in one set of rows.

    Attributes:
        code: its name in kebab-case; stable, and a heading in `docs/doctor.md`.
        severity: `"error"`, `"warning"` or `"note"`.
        message: what was found, with its figures.
        count: how many have it.
        total: of how many.
        unit: what is counted.
        examples: up to three, of different questions.
        mend: what to do or to type.
    """

    code: str
    severity: Severity
    message: str
    count: int
    total: int
    unit: str = "rows"
    examples: tuple[Example, ...] = ()
    mend: str


def examples_of(hits: Iterable[tuple[Row, str]]) -> tuple[Example, ...]:
    """Examples from `(row, text)`: the first three of different questions."""
    first: dict[str, tuple[Row, str]] = {}
    for row, text in hits:
        first.setdefault(row.id, (row, text))
        if len(first) == _EXAMPLES:
            break
    return tuple(example(row.source, row.meta.get("id"), text) for row, text in first.values())


def example(place: str, id: object, text: str) -> Example:
    """An example that is safe to print and gives no personal data away."""
    return Example(visible(mask_personal(place)), "" if id is None else excerpt(str(id)), excerpt(text))


def excerpt(text: str) -> str:
    """One short line of a text; if personal data was masked in it, the part around the first mask."""
    masked = visible(mask_personal(text)).strip()
    start = max(0, masked.find("［") - 20) if masked != visible(text).strip() else 0
    piece = masked[start : start + _EXCERPT]
    return f"{'…' if start else ''}{piece}{'…' if start + _EXCERPT < len(masked) else ''}"


def around(text: str, position: int) -> str:
    """The text from a little before a position."""
    return mask_personal(text[:position])[-20:] + text[position:]


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, warnings, notes; within each the widest spread first."""
    return sorted(findings, key=lambda found: (SEVERITIES.index(found.severity), -found.count / max(1, found.total), found.code))


def with_strictness(findings: Iterable[Finding], *, strict: bool) -> list[Finding]:
    """The same findings, and with `strict` every warning an error."""
    return [dataclasses.replace(found, severity="error") if strict and found.severity == "warning" else found for found in findings]


def count_severities(findings: Sequence[Finding]) -> str:
    """`"2 errors, 1 warning"`; `"nothing"` where there is none."""
    counts = {severity: sum(found.severity == severity for found in findings) for severity in SEVERITIES}
    return ", ".join(f"{count} {severity}{'s' if count > 1 else ''}" for severity, count in counts.items() if count) or "nothing"


def finding_record(finding: Finding) -> dict[str, Any]:
    """A finding as JSON; the keys are the attributes of `Finding` and `Example`."""
    return dataclasses.asdict(finding)


def findings_table(findings: Sequence[Finding], file: str) -> "Table":
    """Findings as a table, each with its examples and its mend beneath; places within `file` are named by their line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, show_lines=True, expand=True, padding=(0, 1))
    table.add_column("severity", no_wrap=True, width=7)
    table.add_column("finding", overflow="fold", ratio=1)
    for found in worst_first(findings):
        share = f"  {found.count} of {found.total} {found.unit}" if found.total else ""  # an empty file has nothing to count
        text = Text.assemble((found.code, "bold"), f"{share}\n", found.message)
        for item in found.examples:
            place = f"line {item.place.removeprefix(f'{file}:')}" if item.place.startswith(f"{file}:") else item.place
            name = f"{place} ({item.id})" if item.id and item.id != place else place
            text.append(f"\n· {name}", style="cyan")
            text.append(f"\n  {item.excerpt}" if item.excerpt else "", style="dim")
        text.append(f"\n→ {found.mend}", style="green")
        table.add_row(Text(found.severity, style=_COLORS[found.severity]), text)
    return table
