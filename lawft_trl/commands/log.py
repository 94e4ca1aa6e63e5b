"""`lawft log`: all runs in one table, as Markdown, CSV and a figure."""

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.folders import write_text

_MARKDOWN = ("experiment", "date", "model", "pattern", "rows", "steps", "minutes", "evaluation", "asked", "n", "base %", "tuned % [95 %]",
             "difference, points [95 %]", "p", "Holm p", "verdict", "marks")  # fmt: skip


def add(verbs: Any) -> None:
    """Declares the verb."""
    log = verbs.add_parser(
        "log",
        help="all runs and their evaluations in one table",
        description="Lists the finished runs and cross-validations below the folders, one line per evaluation. The p-values of all listed "
        "comparisons are adjusted together (Holm).",
    )
    log.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="where the runs are (default: runs)")
    log.add_argument("--no-rehearsals", action="store_true", help="leave rehearsals out, and out of Holm's correction")
    log.add_argument("--markdown", action="store_true", help="print GitHub Markdown with all columns instead of the table")
    log.add_argument("--csv", type=Path, metavar="FILE", help="write all columns with full precision, UTF-8 with a byte order mark, which Excel needs")
    log.add_argument("--figure", type=Path, metavar="FILE.svg", help="draw the tuned models' accuracies with their 95 %% intervals")
    log.add_argument("--force", action="store_true", help="replace the files of --csv and --figure")
    log.set_defaults(run=_log)


def _log(options: argparse.Namespace) -> None:
    _refuse_files(options)
    from lawft_trl.evaluation.run_list import list_runs

    found = list_runs(options.folders or [Path("runs")], rehearsals=not options.no_rehearsals)
    svg = _draw(found.entries) if options.figure else None
    if options.markdown:
        print(_markdown(found.entries))
    else:
        _print_table(found.entries)
    if options.csv:
        write_text(options.csv, _csv(found.entries))
    if svg is not None:
        write_text(options.figure, svg)
    for line in _notes(options, found):
        print(line)


def _refuse_files(options: argparse.Namespace) -> None:
    """Raises `InputError` for files that may not or cannot be written, before anything is read."""
    problems = []
    for name, file in (("--csv", options.csv), ("--figure", options.figure)):
        if file is None:
            continue
        if name == "--figure" and file.suffix.lower() != ".svg":
            problems.append(f"--figure {file}: figures are written as SVG; name it {file.with_suffix('.svg')}")
        if not file.parent.is_dir():
            problems.append(f"{name} {file}: no folder {file.parent}; make it first")
        elif file.is_dir():
            problems.append(f"{name} {file}: this is a folder; name a file in it")
        elif file.exists() and not options.force:
            problems.append(f"{name} {file}: already there; give another name, or --force to replace it")
    if problems:
        raise InputError("nothing was written", problems)


def _notes(options: argparse.Namespace, found: Any) -> list[str]:
    """What stands below the table; a blank line first, so that Markdown ends its table there."""
    compared = sum(entry["p_value"] is not None for entry in found.entries)
    lines = [f"Holm p: adjusted over the {compared} comparisons listed; below 0.05 is significant among them all."] if compared else []
    if any(entry["scorer"] == "style" for entry in found.entries):
        lines.append("STYLE: dialogues; base, tuned and the difference are style scores times 100 (docs/style.md), no accuracies, and n counts replies.")
    lines += [f"CONTAMINATED {_name(entry)}: {entry['contaminated']}" for entry in found.entries if entry["contaminated"]]
    lines += [f"Not readable: {reason}" for reason in found.damaged]
    if found.unfinished:
        lines.append(f"Not finished (repeat the command with --resume): {', '.join(map(str, found.unfinished))}")
    lines += [f"Written: {file}" for file in (options.csv, options.figure) if file]
    return ["", *lines] if lines else []


def _print_table(entries: Sequence[Mapping[str, Any]]) -> None:
    """The columns that fit a terminal of 80 characters; two lines for each entry."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False, show_edge=False)
    table.add_column("experiment\n  evaluation", overflow="fold")
    for column in ("n", "base\n%", "tuned\n%", "difference\npoints", "Holm p", "verdict"):
        table.add_column(column, justify="left" if column == "verdict" else "right", no_wrap=True)
    for entry in entries:
        name = f"{entry['experiment']}\n  {entry['evaluation'] or '-'}"
        difference = _points(entry, "difference", "+.1f").replace(" ", "\n", 1)
        verdict = "\n".join([_verdict(entry), *_marks(entry)])
        cells = [_text(entry["questions"]), _percent(entry["base"]), _percent(entry["tuned"]), difference, _p_value(entry["p_holm"]), verdict]
        table.add_row(*map(Text, [name, *cells]))
    Console().print(table)


def _markdown(entries: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            entry["experiment"],
            (entry["date"] or "-")[:10],
            entry["model"],
            entry["pattern"],
            entry["rows"],
            entry["steps"],
            None if entry["minutes"] is None else f"{entry['minutes']:.1f}",
            entry["evaluation"],
            entry["asked"],
            entry["questions"],
            _percent(entry["base"]),
            _points(entry, "tuned", ".1f"),
            _points(entry, "difference", "+.1f"),
            _p_value(entry["p_value"]),
            _p_value(entry["p_holm"]),
            _verdict(entry),
            ", ".join(_marks(entry)),
        )
        for entry in entries
    ]
    lines = ["| " + " | ".join(_escaped(_text(cell)) for cell in row) + " |" for row in (_MARKDOWN, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(_MARKDOWN), *lines[1:]])


def _csv(entries: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(entries[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    return f"\ufeff{stream.getvalue()}"


def _draw(entries: Sequence[Mapping[str, Any]]) -> str:
    shown = [entry for entry in entries if entry["tuned"] is not None and entry["scorer"] != "style"]
    if not shown:
        raise InputError("--figure: none of the runs was evaluated on questions; there is nothing to draw", ["evaluate one: lawft eval RUN"])
    from lawft_trl.evaluation.figures import runs_svg

    points = [(" ".join([_name(entry), *_marks(entry)]), entry["tuned"], entry["tuned_low"], entry["tuned_high"]) for entry in shown]
    return runs_svg(points, title="Accuracy of the tuned models, with 95 % intervals")


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['experiment']} · {entry['evaluation']}"


def _marks(entry: Mapping[str, Any]) -> list[str]:
    marks = (("STYLE", entry["scorer"] == "style"), ("REHEARSAL", entry["rehearsal"]), ("CONTAMINATED", entry["contaminated"]))
    return [mark for mark, holds in marks if holds]


def _verdict(entry: Mapping[str, Any]) -> str:
    if entry["evaluation"] is None:
        return "not evaluated"
    return entry["verdict"] or ("-" if entry["questions"] is not None else "not readable")


def _points(entry: Mapping[str, Any], name: str, form: str) -> str:
    """`"+34.8 [+25.7, +43.8]"`, in points of per cent."""
    if entry[name] is None:
        return "-"
    value, low, high = (format(100 * entry[key], form) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value} [{low}, {high}]"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _p_value(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def _escaped(cell: str) -> str:
    """A text that stays in its cell of a Markdown table."""
    return " ".join(cell.replace("\\", "\\\\").replace("|", "\\|").split())
