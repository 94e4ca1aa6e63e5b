"""The report of an evaluation, as people read it."""

from collections.abc import Mapping
from typing import Any

_SENTENCES = {
    "better": "**Better.** The tuned model answers more of the held-out questions than its base.",
    "worse": "**Worse.** The tuned model answers fewer of the held-out questions than its base.",
    "no evidence": "**No evidence either way.** These questions do not show that the tuned model differs from its base.",
}


def render_report(metrics: Mapping[str, Any]) -> str:
    """`metrics.json` as Markdown.

    Args:
        metrics: what `lawft_trl.evaluation.evaluate.evaluate_run` writes.
    """
    base, tuned, paired = metrics["base"], metrics["tuned"], metrics["comparison"]
    low, high = paired["interval"]
    orders = paired["single_order"]
    lines = [f"# Evaluation of {metrics['run']}", ""]
    lines += [f"> **{text}**" for text in metrics["warnings"]] + ([""] if metrics["warnings"] else [])
    lines += [
        f"{_SENTENCES[paired['verdict']]} ({paired['reason']}.)",
        "",
        f"Tuned - base: **{_points(paired['difference'])}**, 95 % interval {_points(low)} to {_points(high)} "
        f"(bootstrap over {metrics['groups']} statute groups); gained {len(paired['gained'])}, lost "
        f"{len(paired['lost'])} of {tuned['questions']} questions, exact McNemar p = {paired['p_value']:.2g}.",
        "",
        f"In a single order, tuned - base: {_points(orders['difference'])}, 95 % interval {_points(orders['interval'][0])} to "
        f"{_points(orders['interval'][1])} (the same bootstrap); p = {orders['p_value']:.2g} (signs of whole groups flipped).",
        "",
        _detectable(paired, tuned["questions"]),
        "",
        "| | base | tuned |",
        "|---|---|---|",
        f"| accuracy over questions | {_share(base['accuracy'])} ({base['correct']}/{base['questions']}) "
        f"| {_share(tuned['accuracy'])} ({tuned['correct']}/{tuned['questions']}) |",
        f"| 95 % Wilson interval | {_interval(base)} | {_interval(tuned)} |",
        f"| accuracy in a single order | {_share(base['single_order_accuracy'])} | {_share(tuned['single_order_accuracy'])} |",
        f"| its 95 % interval, bootstrap over groups | {_interval(base, 'single_order_interval')} | {_interval(tuned, 'single_order_interval')} |",
        f"| balanced over the gold letters | {_share(base['balanced_accuracy'])} | {_share(tuned['balanced_accuracy'])} |",
        f"| macro-F1 of the letters | {_share(base['macro_f1'])} | {_share(tuned['macro_f1'])} |",
        f"| right in every order | {_share(base['all_orders_correct'])} | {_share(tuned['all_orders_correct'])} |",
        f"| letters chosen, a / b / c / d | {_counts(base['letters'])} | {_counts(tuned['letters'])} |",
        f"| RStd, 0 = no preference for a letter | {base['rstd']:.1f} | {tuned['rstd']:.1f} |",
        f"| same choice in every order | {_share(base['consistency'])} | {_share(tuned['consistency'])} |",
        f"| probability on any letter | {base['label_mass']:.3f} | {tuned['label_mass']:.3f} |",
        "",
        f"Baselines: guessing 25.0 %, always the most frequent gold letter {_share(paired['majority_baseline'])} "
        "(in the questions' own order).",
        "",
        *_known_issues(base, tuned),
        "Letters chosen, a / b / c / d, by gold letter (prompts; a question counts once for each order):",
        "",
        "| gold | base | tuned |",
        "|---|---|---|",
        *(f"| {gold} | {_counts(base['confusion'][gold])} | {_counts(tuned['confusion'][gold])} |" for gold in base["confusion"]),
        "",
        "## How it was asked",
        "",
        f"- Held-out questions: `{metrics['test_file']}` (sha256 `{metrics['test_sha256'][:12]}`), {metrics['asked']}.",
        f"- Law as of: {', '.join(date or 'not stated by the data' for date in metrics['law_as_of'])}.",
        f"- Statutes in the prompt: {metrics['statutes']}. Scorer: {metrics['scorer']}, averaged by content over the orders.",
        f"- Model: `{metrics['model']}`, base and tuned from one loaded model with the adapter off and on.",
        f"- Prompt fingerprint `{metrics['prompt_fingerprint'][:12]}`, the one the adapter was trained with.",
        f"- Overlap of training and held-out rows: {metrics['overlap']}.",
        "",
    ]
    for name, title in (("gained", "Gained"), ("lost", "Lost")):
        shown = paired[name][:20]
        more = len(paired[name]) - len(shown)
        lines += [f"{title}: " + (", ".join(f"`{question}`" for question in shown) or "none") + (f" and {more} more" if more else "")]
        lines.append("")
    return "\n".join(lines)


def _points(value: float) -> str:
    return f"{100 * value:+.1f} points"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(model: Mapping[str, Any], key: str = "interval") -> str:
    return " to ".join(_share(value) for value in model[key])


def _counts(letters: Mapping[str, int]) -> str:
    return " / ".join(str(count) for count in letters.values())


def _detectable(paired: Mapping[str, Any], questions: int) -> str:
    """What a set of this size could have shown at all."""
    changed = f"{questions} questions of which {_share(paired['discordance'])} changed"
    if paired["smallest_detectable"] is None:
        return f"With {changed}, no difference could be found in 4 of 5 tries (exact McNemar): do not read \"no evidence\" as \"equal\"."
    found = f"{100 * paired['smallest_detectable']:.1f} points"
    return f"With {changed}, the smallest difference that is found in 4 of 5 tries is {found} (exact McNemar)."


def _known_issues(base: Mapping[str, Any], tuned: Mapping[str, Any]) -> list[str]:
    """A line on the questions whose gold answer stands; nothing where none is in doubt."""
    sound = [model["without_known_issues"] for model in (base, tuned)]
    if None in sound:
        return []
    shown = [f"{_share(model['accuracy'])} ({model['correct']}/{model['questions']})" for model in sound]
    doubtful = base["questions"] - sound[0]["questions"]
    return [f"Without the {doubtful} whose gold answer its authors doubt: base {shown[0]}, tuned {shown[1]}.", ""]
