"""The report of a ladder: what statutes, prompting and tuning each do, as people read it."""

from collections.abc import Mapping, Sequence
from typing import Any

from lawft_trl.evaluation.report import interval, points, share

# What is compared under each heading, and what the reader wants to know.
_QUESTIONS = {
    "tuning": "Does the tuned model do better than its base, asked the same way?",
    "statutes": "Do the statutes in the prompt help?",
    "reading": "Does it read them? Deciding statutes against those of another question.",
    "reasons": "Do reasons before the letter help?",
    "prompting": "Does the prompting help?",
    "tuning or prompting": "Would prompting the base have done as well? The tuned model as trained against the base asked otherwise.",
}


def render_ladder(ladder: Mapping[str, Any]) -> str:
    """`ladder.json` as Markdown. The first line of a contaminated one says that it is.

    Args:
        ladder: what `lawft_trl.evaluation.ladder.climb` writes.
    """
    lines = [f"**{ladder['contaminated']}**", ""] if ladder["contaminated"] else []
    lines += [f"# Ladder of {ladder['run']}", ""]
    lines += [f"> **{text}**" for text in ladder["warnings"]] + ([""] if ladder["warnings"] else [])
    lines += _in_words(ladder)
    lines += ["![Accuracy of base and tuned on every rung](ladder.svg)", "", *_rungs(ladder), *_retrieval(ladder["rungs"])]
    for question, heading in _QUESTIONS.items():
        lines += _tests(heading, [test for test in ladder["tests"] if test["question"] == question])
    lines += [
        "p: exact McNemar, two-sided. Holm: adjusted for all comparisons of this page; a verdict also needs the sign flip of whole groups. Interval: bootstrap over statute groups.",
        "",
        "## How it was asked",
        "",
        f"- Held-out questions: those of `{ladder['test_file']}`, {ladder['asked']}; the same on every rung.",
        f"- Model: `{ladder['model']}`; trained on: {ladder['trained']}.",
        f"- Overlap of training and held-out rows: {ladder['overlap']}.",
        *([f"- System message of the rungs `system`: {ladder['system']}"] if ladder["system"] else []),
        "",
    ]
    return "\n".join(lines)


def _in_words(ladder: Mapping[str, Any]) -> list[str]:
    """What the comparisons show, one line each; silence where nothing is shown is said too."""
    if ladder["contaminated"] or ladder["rehearsal"]:
        return ["No verdicts: these figures mean nothing.", ""]
    tests = ladder["tests"]
    found = [test for test in tests if test["verdict"] != "no evidence"]
    lines = [
        f"- {test['second']} **{test['verdict']}** than {test['first']} ({points(test['difference'])}, Holm p = {test['holm_p']:.2g})" for test in found
    ]
    unread = [test for test in tests if test["question"] == "reading" and test not in found]
    lines += [
        f"- no evidence that {test['second'].split(':')[0]} reads the statutes: from {test['first']} to {test['second']} "
        f"{points(test['difference'])}, {points(test['interval'][0])} to {points(test['interval'][1])} ({test['reason']})"
        for test in unread
    ]
    rest = len(tests) - len(found) - len(unread)
    if rest:
        lines.append(f"- {rest} other comparison(s): no evidence either way")
    return [*lines, ""] if lines else []


def _rungs(ladder: Mapping[str, Any]) -> list[str]:
    lines = ["| statutes, answer, prompting | base | 95 % interval | tuned | 95 % interval |", "|---|---|---|---|---|"]
    for rung in ladder["rungs"]:
        base, tuned = rung["base"], rung["tuned"]
        mark = " (as trained)" if rung["trained"] else ""
        lines.append(f"| {rung['name']}{mark} | {share(base['accuracy'])} | {interval(base)} | {share(tuned['accuracy'])} | {interval(tuned)} |")
    return [*lines, ""]


def _retrieval(rungs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Accuracy where the search found a deciding article and where it did not."""
    lines = []
    for rung in rungs:
        for name, part in (rung["retrieval"] or {}).items():
            base, tuned = part["base"], part["tuned"]
            lines.append(
                f"| {rung['name']}: {name} | {part['questions']} | {share(base['accuracy'])} ({interval(base)}) | {share(tuned['accuracy'])} ({interval(tuned)}) |"
            )
    if not lines:
        return []
    return ["A deciding article among the retrieved ones (hit) or not (miss):", "", "| | questions | base | tuned |", "|---|---|---|---|", *lines, ""]


def _tests(heading: str, tests: Sequence[Mapping[str, Any]]) -> list[str]:
    if not tests:
        return []
    rows = [
        f"| {test['first']} | {test['second']} | {points(test['difference'])} | {points(test['interval'][0])} to {points(test['interval'][1])} "
        f"| +{len(test['gained'])} −{len(test['lost'])} | {test['p_value']:.2g} | {test['holm_p']:.2g} |"
        for test in tests
    ]
    return [f"## {heading}", "", "| from | to | difference | 95 % interval | gained, lost | p | Holm |", "|---|---|---|---|---|---|---|", *rows, ""]
