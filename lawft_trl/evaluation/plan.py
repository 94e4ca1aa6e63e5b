"""What a set of questions can show, before anything is trained. No torch."""

from collections import Counter
from pathlib import Path
from typing import Any

from lawft_trl.data.questions import LETTERS, read_questions
from lawft_trl.data.rows import read_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation.asking import unique_questions
from lawft_trl.evaluation.power import effective_questions, mcnemar_power, smallest_detectable
from lawft_trl.text_files import read_jsonl

DIFFERENCES = (0.05, 0.10, 0.15, 0.20, 0.30)
DISCORDANCES = (0.15, 0.25, 0.35)
_ASSUMED = 0.25  # what the text below the table speaks of


def plan_set(path: Path) -> dict[str, Any]:
    """What the questions in a file can show.

    Args:
        path: JSONL of rows or of questions; permuted copies of a question count once.

    Returns:
        `questions`, `groups`, `largest_group`, `known_issues` (questions whose answer is in doubt; those of a file of
        questions are not marked), `worth_at_least` (independent questions if those of a group stand or fall together),
        and for each discordance in `table` the `power` by difference (`None` for impossible ones) and
        `smallest_detectable`; `table_if_groups_stand_together` is the same for so few.

    Raises:
        InputError: for a file that is neither, or rows without a gold letter.
    """
    groups, flagged = _groups(path)
    worth = effective_questions(groups, 1)
    return {
        "file": str(path),
        "questions": len(groups),
        "groups": len(set(groups)),
        "largest_group": max(Counter(groups).values()),
        "known_issues": flagged,
        "worth_at_least": worth,
        "table": {discordance: _line(len(groups), discordance) for discordance in DISCORDANCES},
        "table_if_groups_stand_together": {discordance: _line(max(1, int(worth)), discordance) for discordance in DISCORDANCES},
    }


def _line(n: int, discordance: float) -> dict[str, Any]:
    power = {change: mcnemar_power(n, change, discordance) if change <= discordance else None for change in DIFFERENCES}
    return {"power": power, "smallest_detectable": smallest_detectable(n, discordance)}


def _groups(path: Path) -> tuple[list[str], int]:
    """The group of each question in a file, and how many of them are flagged as known issues."""
    _, first = read_jsonl(path)[0]
    if isinstance(first, dict) and {"question", "choices", "answer"} <= set(first):
        return [question.group for question in read_questions(path)], 0
    rows = unique_questions(read_rows(path))
    problems = [f"{row.source}: set meta.correct to one of {', '.join(LETTERS)}" for row in rows if row.gold is None]
    if problems:
        raise InputError(f"{path}: {len(problems)} of {len(rows)} questions cannot be scored: they have no gold letter", problems)
    return [str(row.meta.get("group") or row.id) for row in rows], sum(bool(row.meta.get("known_issue")) for row in rows)


def render_plan(plan: dict[str, Any]) -> str:
    """What `plan_set` found, as text for a terminal."""
    n, known = plan["questions"], plan["known_issues"]
    doubt = f", {known} of them with an answer in doubt" if known else ""
    heads = [f"{100 * change:.0f}" for change in DIFFERENCES]
    lines = [
        f"{plan['file']}: {n} questions in {plan['groups']} groups{doubt}",
        "",
        "Probability that base and tuned are told apart (exact McNemar, p < .05) when they truly differ by so many points:",
        "",
        "answers that change" + "".join(f"{head:>7}" for head in heads) + "   smallest difference found in 4 of 5 tries",
    ]
    for discordance, line in plan["table"].items():
        cells = "".join(f"{'-' if value is None else f'{value:.2f}':>7}" for value in line["power"].values())
        lines.append(f"{100 * discordance:17.0f} %{cells}   {_smallest(line)}")
    return "\n".join([*lines, "", *_in_words(plan)])


def _smallest(line: dict[str, Any]) -> str:
    found = line["smallest_detectable"]
    return "none" if found is None else f"{100 * found:.1f} points"


def _in_words(plan: dict[str, Any]) -> list[str]:
    lines = ['"Answers that change" counts the questions that only one of the two gets right; "-": more than can differ.']
    typical = plan["table"][_ASSUMED]
    found, tenth = typical["smallest_detectable"], typical["power"][0.10]
    share = f"{100 * _ASSUMED:.0f} %"
    if found is None:
        lines.append(f"This set cannot show any difference reliably while {share} of the answers change. Hold out more questions.")
    else:
        lines.append(
            f"With {share} of the answers changed this set can show a difference of {100 * found:.1f} points or more, and cannot show a "
            f"smaller one reliably. A difference of 10 points is found in {100 * tenth:.0f} % of tries. \"No evidence\" does not mean \"equal\"."
        )
    if plan["largest_group"] > 1:
        together = plan["table_if_groups_stand_together"][_ASSUMED]
        reliable = "no difference" if together["smallest_detectable"] is None else f"only differences of {_smallest(together)} or more"
        lines.append(
            f"All this takes the questions as independent. They stand in {plan['groups']} groups on the same statutes (largest: "
            f"{plan['largest_group']} questions) and count for less: if those of a group stood or fell together, for "
            f"{plan['worth_at_least']:.0f} questions, and {reliable} could be shown with {share} of the answers changed."
        )
    return lines
