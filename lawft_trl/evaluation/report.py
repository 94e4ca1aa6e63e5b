"""The report of an evaluation, as people read it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_SENTENCES = {
    "better": "**Better.** More of the held-out questions are answered right by {second} than by {first}.",
    "worse": "**Worse.** Fewer of the held-out questions are answered right by {second} than by {first}.",
    "no evidence": "**No evidence either way.** These questions do not show that {second} differs from {first}.",
}
_NAMES = {"base": "the base model", "tuned": "the tuned model"}
_SHOWN = 20  # gained and lost questions named in the text; all are in metrics.json


def render_report(metrics: Mapping[str, Any]) -> str:
    """`metrics.json` as Markdown. The first line of a contaminated evaluation says that it is.

    Args:
        metrics: what `lawft_trl.evaluation.evaluate.evaluate_run` writes; with one model alone nothing is compared.
    """
    models, paired = metrics["models"], metrics.get("comparison")
    lines = [f"**{metrics['contaminated']}**", ""] if metrics["contaminated"] else []
    lines += [f"# Evaluation of {metrics['run']}", ""]
    lines += [f"> **{text}**" for text in metrics["warnings"]] + ([""] if metrics["warnings"] else [])
    if metrics.get("cross_validation"):
        lines += cross_validation_lines(metrics)
    if paired:
        lines += _verdict(metrics, paired)
    lines += _diagnosis(metrics.get("diagnosis") or [])
    lines += _table(models)
    majority = f", always the most frequent gold letter {share(paired['majority_baseline'])} (in the questions' own order)" if paired else ""
    lines += [f"Baselines: guessing 25.0 %{majority}.", "", *known_issues_lines(models), *train_check_lines(metrics), *_retrieval(metrics)]
    lines += [*_confusion(models), *_how_asked(metrics)]
    if paired:
        lines += _changed(paired)
    return "\n".join(lines)


def judged(metrics: Mapping[str, Any], verdict: str) -> str:
    """A verdict in a few words; none where the figures mean nothing."""
    return f"no verdict, the figures alone would say {verdict}" if metrics["contaminated"] or metrics["rehearsal"] else verdict


def headline(metrics: Mapping[str, Any]) -> str:
    """The verdict in a sentence; not one of success where the figures mean nothing."""
    verdict = metrics["comparison"]["verdict"]
    if metrics["contaminated"]:
        return f"**No verdict:** questions of the training are among these. The figures alone would say *{verdict}*"
    if metrics["rehearsal"]:
        return f"**No verdict:** a rehearsal. The figures alone would say *{verdict}*"
    first, second = list(metrics["models"])[:2]
    return _SENTENCES[verdict].format(first=_NAMES.get(first, first), second=_NAMES.get(second, second))


def _verdict(metrics: Mapping[str, Any], paired: Mapping[str, Any]) -> list[str]:
    low, high = paired["interval"]
    orders, questions = paired["single_order"], next(iter(metrics["models"].values()))["questions"]
    first, second = list(metrics["models"])[:2]
    return [
        f"{headline(metrics)} ({paired['reason']}.)",
        "",
        f"{second} - {first}: **{points(paired['difference'])}**, 95 % interval {points(low)} to {points(high)} "
        f"(bootstrap over {metrics['groups']} statute groups); gained {len(paired['gained'])}, lost "
        f"{len(paired['lost'])} of {questions} questions, exact McNemar p = {paired['p_value']:.2g}, signs of whole groups flipped "
        f"p = {paired['group_p_value']:.2g}.",
        "",
        f"In a single order, {second} - {first}: {points(orders['difference'])}, 95 % interval {points(orders['interval'][0])} to "
        f"{points(orders['interval'][1])} (the same bootstrap); p = {orders['p_value']:.2g} (signs of whole groups flipped).",
        "",
        detectable_sentence(paired, questions),
        "",
    ]


def cross_validation_lines(metrics: Mapping[str, Any]) -> list[str]:
    """What the folds and seeds of a cross-validation came to."""
    validation = metrics["cross_validation"]
    lines = [validation["note"], ""]
    if mean := validation["mean"]:
        lines += [
            f"Mean of {len(validation['seeds'])} seeds, tuned - base: **{points(mean['difference'])}**, 95 % interval {points(mean['interval'][0])} to "
            f"{points(mean['interval'][1])}, p = {mean['p_value']:.2g}: **{judged(metrics, mean['verdict'])}** ({mean['reason']}); standard deviation of "
            f"the seeds' accuracies {100 * validation['spread']:.1f} points.",
            "",
            f"Below, seed {validation['seeds'][0]} alone:",
            "",
        ]
    lines += ["| seed | fold | questions | base | tuned |", "|---|---|---|---|---|"]
    lines += [
        f"| {fold['seed']} | {fold['fold']} | {fold['questions']} | {share(fold['base'])} | {share(fold['tuned'])} |" for fold in validation["per_fold"]
    ]
    return [*lines, ""]


# What the table says of a model, line by line.
FIGURE_LINES: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("accuracy over questions", lambda model: f"{share(model['accuracy'])} ({model['correct']}/{model['questions']})"),
    ("95 % interval, bootstrap over groups", lambda model: interval(model, "group_interval")),
    ("95 % Wilson interval, as if questions were independent", lambda model: interval(model)),
    ("accuracy in a single order", lambda model: share(model["single_order_accuracy"])),
    ("its 95 % interval, bootstrap over groups", lambda model: interval(model, "single_order_interval")),
    ("in the questions' own order: as asked / letter prior taken off (PriDe)", lambda model: _one_order(model.get("one_order"))),
    ("balanced over the gold letters", lambda model: share(model["balanced_accuracy"])),
    ("macro-F1 of the letters", lambda model: share(model["macro_f1"])),
    ("right in every order", lambda model: share(model["all_orders_correct"])),
    ("letters chosen, a / b / c / d", lambda model: _counts(model["letters"])),
    ("RStd, 0 = no preference for a letter", lambda model: f"{model['rstd']:.1f}"),
    ("same choice in every order", lambda model: share(model["consistency"])),
    ("probability on any letter", lambda model: "not scored" if model["label_mass"] is None else f"{model['label_mass']:.3f}"),
    ("answers without a letter / samples that tie", lambda model: f"{model['unparsed']} / {model['ties']}"),
)


def _diagnosis(findings: Sequence[Mapping[str, str]]) -> list[str]:
    """What was found wrong, the most important first; nothing where nothing was."""
    if not findings:
        return []
    items = [f"- **{found['name']}**: {found['says']}\n  Next: {found['try_next']}" for found in findings]
    return ["## Diagnosis", "", *items, ""]


def _table(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [f"| {' | '.join(['', *models])} |", "|" + "---|" * (len(models) + 1)]
    lines += [f"| {name} | {' | '.join(text(model) for model in models.values())} |" for name, text in FIGURE_LINES]
    return [*lines, ""]


def _one_order(model: Mapping[str, Any] | None) -> str:
    return " / ".join(share(part["accuracy"]) for part in (model["as_asked"], model["debiased"])) if model else "not scored"


def train_check_lines(metrics: Mapping[str, Any]) -> list[str]:
    """How the tuned model answers what it was trained on."""
    check = metrics.get("train_check")
    if not check:
        return []
    return [
        f"Of the training questions, a sample asked in the same way, tuned answers {share(check['accuracy'])} right "
        f"({check['correct']}/{check['questions']}, 95 % interval {interval(check)}).",
        "",
    ]


def _retrieval(metrics: Mapping[str, Any]) -> list[str]:
    """Accuracy where the search found a deciding article and where it did not."""
    parts = metrics.get("retrieval")
    if not parts:
        return []
    models, rows = list(metrics["models"]), []
    for name, part in parts.items():
        cells = [f"{share(part[model]['accuracy'])} ({interval(part[model])})" for model in models]
        rows.append(f"| {name} | {part['questions']} | {' | '.join(cells)} |")
    head = [f"| | questions | {' | '.join(models)} |", "|" + "---|" * (len(models) + 2)]
    return ["A deciding article among the retrieved ones (hit) or not (miss):", "", *head, *rows, ""]


def _confusion(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    first = next(iter(models.values()))["confusion"]
    rows = [f"| {gold} | {' | '.join(_counts(model['confusion'][gold]) for model in models.values())} |" for gold in first]
    return [
        "Letters chosen, a / b / c / d, by gold letter (prompts; a question counts once for each order):",
        "",
        f"| gold | {' | '.join(models)} |",
        "|" + "---|" * (len(models) + 1),
        *rows,
        "",
    ]


def _how_asked(metrics: Mapping[str, Any]) -> list[str]:
    scored = scored_sentence(metrics)
    lines = [
        "## How it was asked",
        "",
        f"- Held-out questions: `{metrics['test_file']}` (sha256 `{metrics['test_sha256'][:12]}`), {metrics['asked']}.",
        f"- Law as of: {', '.join(date or 'not stated by the data' for date in metrics['law_as_of'])}.",
        f"- Statutes in the prompt: {metrics['statutes']}. Answers: {metrics['answer']}. Scorer: {metrics['scorer']}, {scored}.",
        f"- Model: `{metrics['model']}`{_where(metrics)}.",
    ]
    if metrics["prompt_fingerprint"]:
        lines.append(f"- Prompt fingerprint `{metrics['prompt_fingerprint'][:12]}`, the one the adapter was trained with.")
    return [*lines, f"- Overlap of training and held-out rows: {metrics['overlap']}.", ""]


def scored_sentence(metrics: Mapping[str, Any]) -> str:
    """How answers became letters."""
    if metrics["scorer"] == "letters":
        return "the letters' log-probabilities, averaged by content over the orders asked"
    settings = metrics.get("generation")
    if not settings:
        return f"parser version {metrics['parser_version']}"
    how = "greedily" if settings["samples"] == 1 else f"the majority of {settings['samples']} at temperature {settings['temperature']:g}, seed {settings['seed']}"
    return f"written {how}, at most {settings['max_new_tokens']} tokens, parser version {metrics['parser_version']}"


def _where(metrics: Mapping[str, Any]) -> str:
    """Where the models ran."""
    if served := metrics.get("served"):
        return f", served by {served['endpoint']} as {', '.join(f'`{name}`' for name in served['models'].values())}"
    return ", base and tuned from one loaded model with the adapter off and on"


def _changed(paired: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, title in (("gained", "Gained"), ("lost", "Lost")):
        listed = paired[name][:_SHOWN]
        more = len(paired[name]) - len(listed)
        lines += [f"{title}: " + (", ".join(f"`{question}`" for question in listed) or "none") + (f" and {more} more" if more else ""), ""]
    return lines


def points(value: float) -> str:
    """A difference of shares, `+3.2 points`."""
    return f"{100 * value:+.1f} points"


def share(value: float) -> str:
    """A share, `52.9 %`."""
    return f"{100 * value:.1f} %"


def interval(model: Mapping[str, Any], key: str = "interval") -> str:
    """An interval of shares, `41.0 % to 57.2 %`."""
    return " to ".join(share(value) for value in model[key])


def _counts(letters: Mapping[str, int]) -> str:
    return " / ".join(str(count) for count in letters.values())


def detectable_sentence(paired: Mapping[str, Any], questions: int) -> str:
    """What a set of this size could have shown at all."""
    changed = f"{questions} questions of which {share(paired['discordance'])} changed"
    if paired["smallest_detectable"] is None:
        return f"With {changed}, no difference could be found in 4 of 5 tries (exact McNemar): do not read \"no evidence\" as \"equal\"."
    found = f"{100 * paired['smallest_detectable']:.1f} points"
    return f"With {changed}, the smallest difference that is found in 4 of 5 tries is {found} (exact McNemar)."


def known_issues_lines(models: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """A line on the questions whose gold answer stands; nothing where none is in doubt."""
    sound = {name: model["without_known_issues"] for name, model in models.items()}
    if None in sound.values():
        return []
    shown = ", ".join(f"{name} {share(model['accuracy'])} ({model['correct']}/{model['questions']})" for name, model in sound.items())
    name, model = next(iter(sound.items()))
    return [f"Without the {models[name]['questions'] - model['questions']} whose gold answer its authors doubt: {shown}.", ""]
