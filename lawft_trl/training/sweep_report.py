"""What a sweep leaves to read: `sweep.md`, `sweep.csv`, `sweep.json`, and one picture, `sweep.png` and `sweep.svg`."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lawft_trl.evaluation.figure_look import to_png, to_svg
from lawft_trl.evaluation.figures import draw_accuracies
from lawft_trl.folders import write_bytes, write_json, write_text


def write_sweep(out: Path, result: Mapping[str, Any]) -> None:
    """Writes table and picture into the sweep's folder; they are made of the runs alone, so older ones are replaced.

    Args:
        out: the folder.
        result: what `lawft_trl.training.sweep.sweep` describes.
    """
    rungs = [("untrained", result["base"]["accuracy"], *result["base"]["interval"])]
    rungs += [(_label(result, row), row["accuracy"], *row["interval"]) for row in result["runs"]]
    rehearsal = " (rehearsal)" if result["rehearsal"] else ""
    figure = draw_accuracies(rungs, title=f"Right on {result['questions']} dev questions, 95 % intervals{rehearsal}")
    write_text(out / "sweep.svg", to_svg(figure) + "\n")
    write_bytes(out / "sweep.png", to_png(figure))
    write_text(out / "sweep.csv", _csv(result))
    write_text(out / "sweep.md", render_sweep(result))
    write_json(out / "sweep.json", result)


def render_sweep(result: Mapping[str, Any]) -> str:
    """The sweep as Markdown; its first line says so where it is a rehearsal."""
    header, *rows = sweep_table(result)
    lines = ["**REHEARSAL on the tiny model: the figures mean nothing.**\n"] if result["rehearsal"] else []
    lines += [f"# Sweep of {result['recipe']}", ""]
    lines += [f"- {key}: {', '.join(values)}" for key, values in result["swept"].items()]
    lines += [f"- scored on {result['questions']} dev questions, {result['dev_file']} (sha256 {result['dev_sha256'][:12]}); the held-out questions were not asked", ""]
    lines += [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {' | '.join(row)} |" for row in rows), ""]
    lines += ["![Accuracy on the dev questions with 95 % intervals, one line per run](sweep.png)", ""]
    lines += [*(f"{sentence}\n" for sentence in result["verdict"]), *(f"> {warning}\n" for warning in result["warnings"])]
    lines += [f"> Failed: {title}: {why}\n" for title, why in result["failed"].items()]
    how = "the recipe's own values" if result["reference_is_usual"] else "the first combination that came to an end"
    lines += [
        f"Wilson interval of the accuracy. Differences are from the reference, {how}, question by question, with a bootstrap interval over statute groups; "
        "p: exact McNemar; p (Holm): the larger of it and of the p of whole groups' flipped signs, corrected for all comparisons of the table; it decides.",
        "",
        "Once, for the run you choose, the held-out questions:",
        "",
        f"    {result['next']}",
        "",
    ]
    return "\n".join(lines)


def brief_table(result: Mapping[str, Any]) -> list[list[str]]:
    """The columns of `sweep_table` that a terminal has room for; keys without their section."""
    header, *rows = sweep_table(result)
    swept = len(result["swept"])
    kept = [*range(swept), *(swept + at for at in range(len(header) - swept) if header[swept + at] not in ("right", "p", "last loss", "min") and at != 4)]
    names = [name.rpartition(".")[2] if at < swept else name for at, name in enumerate(header)]
    return [[row[at] for at in kept] for row in (names, *rows)]


def sweep_table(result: Mapping[str, Any]) -> list[list[str]]:
    """The figures of every run, the names of the columns first."""
    swept = list(result["swept"])
    table = [[*swept, "right", "%", "95 %", "diff.", "95 %", "p", "p (Holm)", "", "last loss", "min"]]
    base = result["base"]
    table.append([*("untrained", *[""] * len(swept))[: len(swept)], *_accuracy(base, result["questions"]), *[""] * 7])
    for row in result["runs"]:
        paired = ["", "", "", "", "reference"]
        if "holm_p_value" in row:
            low, high = row["difference_interval"]
            paired = [f"{100 * row['difference']:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}", f"{row['p_value']:.2g}", f"{row['holm_p_value']:.2g}", row["verdict"]]
        loss = "-" if row["last_loss"] is None else f"{row['last_loss']:.4f}"
        best = "highest" if row["name"] == result["best"] else ""
        paired[-1] = ", ".join(filter(None, [paired[-1], best]))
        table.append([*row["values"].values(), *_accuracy(row, result["questions"]), *paired, loss, f"{row['minutes']:.1f}"])
    return table


def _accuracy(figures: Mapping[str, Any], questions: int) -> list[str]:
    low, high = figures["interval"]
    return [f"{figures['correct']}/{questions}", f"{100 * figures['accuracy']:.1f}", f"{100 * low:.1f} to {100 * high:.1f}"]


def _label(result: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """A run's name in the picture: keys without their section, as there is little room."""
    values = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in row["values"].items())
    return f"{values} (ref.)" if row["name"] == result["reference"] else values


def _csv(result: Mapping[str, Any]) -> str:
    """One line per run, shares in 0…1."""
    stream = io.StringIO()
    own = ["accuracy", "correct", "single_order_accuracy", "rstd", "label_mass", "difference", "p_value", "holm_p_value", "verdict", "last_loss", "minutes", "steps"]
    bounds = {"interval": ("low", "high"), "difference_interval": ("difference_low", "difference_high")}
    columns = [*result["swept"], "reference", *own, *(name for names in bounds.values() for name in names), "folder"]
    writer = csv.DictWriter(stream, fieldnames=columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in result["runs"]:
        ends = {name: bound for key, names in bounds.items() for name, bound in zip(names, row.get(key, ("", "")), strict=True)}
        writer.writerow({**row["values"], **row, **ends, "reference": row["name"] == result["reference"]})
    return stream.getvalue()
