"""What `compare_evaluations` found, as people read it: `comparison.md`, and the lines of the terminal."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lawft_trl.evaluation.compare_styles import render_style_comparison
from lawft_trl.evaluation.report import points, share
from lawft_trl.folders import whole_folder, write_json

_LONGEST = 600  # characters of a question or choice; a row that this project did not render is shown with its statutes
_BRIEF = 100  # the same in the terminal
_NAMED = 20  # ids in a line of the terminal
_TEXTS = 2  # gained and lost questions whose text the terminal shows; all are in comparison.md
_MEANINGS = {
    "better": "more questions are answered right",
    "worse": "fewer questions are answered right",
    "no evidence": "these questions do not show that the two differ",
}


def write_comparison(result: Mapping[str, Any], out: Path, *, force: bool = False) -> None:
    """Writes `comparison.json` and `comparison.md`, both or none.

    Args:
        result: what `compare_evaluations` or `compare_styles` returned.
        out: the folder to make.
        force: replace an existing comparison.

    Raises:
        InputError: when something is there that may not be replaced.
    """
    with whole_folder(out, force=force, mark="comparison.json", rename="--out") as folder:
        write_json(folder / "comparison.json", result)
        render = render_style_comparison if result.get("answer") == "dialogue" else render_comparison
        (folder / "comparison.md").write_text(render(result), encoding="utf-8")


def render_comparison(result: Mapping[str, Any]) -> str:
    """The comparison as Markdown; its first line says so where an evaluation is contaminated or rehearsed.

    Args:
        result: what `compare_evaluations` returned.
    """
    first, *others = result["sides"]
    lines = [f"**{text}**\n" for text in _first_lines(result)]
    lines += [f"# Compared with {first['name']}", ""]
    lines += [f"> **{text}**\n" for text in [*result["warnings"], *result["notes"]]]
    lines += [f"{number}. `{side['name']}`: {_asked(side)}" for number, side in enumerate(result["sides"], start=1)]
    header, *rows = comparison_table(result)
    lines += ["", f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {' | '.join(row)} |" for row in rows), ""]
    lines += [f"{_how(result)}", ""]
    for number, side in enumerate(others, start=2):
        found = side["comparison"]
        lines += [f"## {number}. `{side['name']}`", "", f"{_verdict(result, found)}", "", _figures(found, result["questions"]), ""]
        for kind in ("gained", "lost"):
            lines += [f"### {kind.capitalize()}: {len(found[kind])}", ""]
            for question in found["changed"][kind]:
                lines += [*_question(question, _LONGEST), ""]
    return "\n".join(lines)


def terminal_lines(result: Mapping[str, Any]) -> list[str]:
    """The comparison in brief: figures, verdicts, the ids that changed and the first texts.

    Args:
        result: what `compare_evaluations` returned.
    """
    lines = [*_first_lines(result), *(f"WARNING: {text}" for text in result["warnings"]), *(f"NOTE: {text}" for text in result["notes"])]
    lines += [f"{number}  {side['name']}: {_asked(side)}" for number, side in enumerate(result["sides"], start=1)]
    table = comparison_table(result)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines += ["", *("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table), _how(result)]
    for number, side in enumerate(result["sides"][1:], start=2):
        found = side["comparison"]
        lines += ["", f"{number}  {_verdict(result, found)}".replace("*", ""), _figures(found, result["questions"])]
        for kind in ("gained", "lost"):
            ids = found[kind]
            more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
            lines.append(f"{kind} {len(ids)}" + (f": {', '.join(ids[:_NAMED])}{more}" if ids else ""))
            lines += [f"  {line}" for question in found["changed"][kind][:_TEXTS] for line in _question(question, _BRIEF)]
    return lines


def comparison_table(result: Mapping[str, Any]) -> list[list[str]]:
    """The figures of every model, the names of the columns first; a column that none has is left out.

    Args:
        result: what `compare_evaluations` returned.
    """
    sides = result["sides"]
    table = [["", "right", "%", "95 %", "diff.", "95 %", "p", "p (Holm)", "RStd", "mass", "no letter"]]
    for number, side in enumerate(sides, start=1):
        model, found = side["figures"], side.get("comparison")
        paired = ["", "", "", ""]
        if found:
            paired = [_signed(found["difference"]), _interval(map(_signed, found["interval"])), f"{found['p_value']:.2g}", f"{found['holm_p_value']:.2g}"]
        mass = "-" if model["label_mass"] is None else f"{model['label_mass']:.2f}"
        right = [f"{model['correct']}/{model['questions']}", f"{100 * model['accuracy']:.1f}", _interval(f"{100 * bound:.1f}" for bound in model["interval"])]
        table.append([str(number), *right, *paired, f"{model['rstd']:.1f}", mass, str(model["unparsed"])])
    scored = any(side["figures"]["label_mass"] is not None for side in sides)
    unread = any(side["figures"]["unparsed"] or side["figures"]["label_mass"] is None for side in sides)
    shown = {"p (Holm)": len(sides) > 2, "mass": scored, "no letter": unread}
    keep = [place for place, name in enumerate(table[0]) if shown.get(name, True)]
    return [[row[place] for place in keep] for row in table]


def _first_lines(result: Mapping[str, Any]) -> list[str]:
    return [*result["contaminated"], *result["rehearsal"]]


def _verdict(result: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The verdict in a sentence; none where the figures mean nothing."""
    if _first_lines(result):
        because = "contaminated" if result["contaminated"] else "a rehearsal"
        return f"**No verdict:** {because}. The figures alone would say *{found['verdict']}* ({found['reason']})."
    return f"**{found['verdict'].capitalize()}:** {_MEANINGS[found['verdict']]} ({found['reason']})."


def _figures(found: Mapping[str, Any], questions: int) -> str:
    smallest = found["smallest_detectable"]
    detectable = "no difference could be found" if smallest is None else f"the smallest difference found is {100 * smallest:.1f} points"
    orders = found["single_order"]
    return (
        f"Difference {points(found['difference'])}, gained {len(found['gained'])}, lost {len(found['lost'])}. In a single order "
        f"{points(orders['difference'])} [{_interval(map(_signed, orders['interval']))}], p = {orders['p_value']:.2g} (signs of groups flipped). "
        f"With {questions} questions of which {share(found['discordance'])} changed, {detectable} in 4 of 5 tries."
    )


def _how(result: Mapping[str, Any]) -> str:
    several = "; p (Holm): adjusted for all comparisons here, and decides" if len(result["sides"]) > 2 else ""
    return (
        f"{result['questions']} questions in {result['groups']} groups, orders {' '.join(result['orders'])}. Wilson interval of the accuracy; difference from 1 in points, "
        f"bootstrap over groups; p: exact McNemar{several}."
    )


def _asked(side: Mapping[str, Any]) -> str:
    asked = side["asked"]
    return ", ".join(f"{asked[key]}" if key == "model" else f"{key} {asked[key]}" for key in ("model", "statutes", "answer", "scorer") if key in asked)


def _question(question: Mapping[str, Any], longest: int) -> list[str]:
    """A question with its choices and who took which; the letters are those of its own order."""
    law = f" ({question['law']})" if question["law"] else ""
    lines = [f"- `{question['id']}`{law} {_one_line(question['question'], longest)}"]
    for letter, choice in (question["choices"] or {}).items():
        takers = [name for name, key in (("right", "gold"), ("before", "before"), ("after", "after")) if question[key] == letter]
        lines.append(f"  - {letter}: {_one_line(choice, longest)}" + (f" ← {', '.join(takers)}" if takers else ""))
    if not question["choices"]:
        lines.append(f"  - right {question['gold']}, before {question['before'] or 'no answer'}, after {question['after'] or 'no answer'}")
    silent = [name for name in ("before", "after") if question[name] is None]
    return lines + ([f"  - no answer: {', '.join(silent)}"] if silent and question["choices"] else [])


def _one_line(text: str, longest: int) -> str:
    line = " ".join(text.split("\n"))
    return line if len(line) <= longest else line[:longest] + " …"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"


def _interval(bounds: Iterable[str]) -> str:
    return " to ".join(bounds)
