"""The report of an assessment: Markdown, the terminal's lines, and the picture. No torch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lawft_trl.assistant.answer_scores import METRICS
from lawft_trl.assistant.assessment_figures import HEADLINE
from lawft_trl.data.legal_pairs import LegalPair
from lawft_trl.evaluation.figure_look import COLOURS, canvas, house_style, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SENTENCES = {
    "better": "**Better.** The tuned model's answers show more {headline} than the base model's.",
    "worse": "**Worse.** The tuned model's answers show less {headline} than the base model's.",
    "no evidence": "**No evidence either way.** These pairs do not show that the {headline} of the two models differs.",
}
_EXAMPLES = 3


def render_assessment(metrics: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]], pairs: Mapping[str, LegalPair]) -> str:
    """`metrics.json` as Markdown. The first line of a contaminated assessment says that it is.

    Args:
        metrics: what `assess` writes.
        predictions: the lines of `predictions.jsonl`.
        pairs: id -> what was asked.
    """
    first = metrics["strategies"][0]
    lines = [f"**{metrics['contaminated']}**", ""] if metrics["contaminated"] else []
    lines += [f"# Assessment of {metrics['models']['tuned']['name']} against {metrics['models']['base']['name']}", ""]
    lines += [f"> **{text}**" for text in metrics["warnings"]] + ([""] if metrics["warnings"] else [])
    lines += [headline(metrics), "", f"Strategy `{first}`: {verdict_line(find(metrics['comparisons'], first, HEADLINE))}", "", *_can_show(metrics), ""]
    lines += ["![Scores of both models](assessment.png)", ""]
    signs = [f"- `{strategy}`, **{sign['name']}**: {sign['says']}" for strategy, found in metrics["signs"].items() for sign in found]
    lines += ["## It may be worth less than it seems", "", *signs, ""] if signs else []
    for strategy in metrics["strategies"]:
        lines += _strategy(metrics, strategy)
    lines += _table_of("What the prompting adds to the tuned model", metrics["prompting"], "Each strategy against `plain`, the tuned model in both.")
    if metrics["judge"]:
        lines += _judge(metrics["judge"])
    if metrics["injections"]:
        lines += _injections(metrics["injections"])
    if metrics["against"]:
        text = f"The tuned model now against `{metrics['against']['model']}` in `{metrics['against']['path']}`, the same pairs. If that assessment chose the rows that were added since (`lawft improve`), these pairs are a development set: the change is an optimistic one, and only fresh pairs confirm it."
        lines += _table_of("Against the earlier assessment", metrics["against"]["comparisons"], text)
    return "\n".join([*lines, *_how(metrics), *_examples(metrics, predictions, pairs)])


def headline(metrics: Mapping[str, Any]) -> str:
    """The verdict in a sentence; none where the figures mean nothing."""
    found = find(metrics["comparisons"], metrics["strategies"][0], HEADLINE)
    why = "pairs of the training are among these" if metrics["contaminated"] else "a rehearsal" if any(text.startswith("REHEARSAL") for text in metrics["warnings"]) else None
    if why:
        return f"**No verdict:** {why}. The figures alone would say *{found['verdict']}*."
    return f"{_SENTENCES[found['verdict']].format(headline=HEADLINE)} ({found['reason'][0].upper()}{found['reason'][1:]}.)"


def verdict_line(found: Mapping[str, Any]) -> str:
    """A comparison in one line."""
    if found["interval"] is None:
        return "nothing could be compared"
    low, high = found["interval"]
    left_out = f", {found['left_out']} left out" if found.get("left_out") else ""
    rose = f", rose in {found['rose']} of {found['pairs']} pairs, fell in {found['fell']}" if "rose" in found else ""
    return f"{found['difference']:+.3f} [{low:+.3f}, {high:+.3f}]{rose}{left_out}, p = {found['p_value']:.2g}, Holm p = {found['holm_p_value']:.2g}: {found['verdict']}"


def find(comparisons: Sequence[Mapping[str, Any]], strategy: str, metric: str) -> Mapping[str, Any]:
    """The comparison of a metric under a strategy."""
    return next(each for each in comparisons if (each["strategy"], each["metric"]) == (strategy, metric))


def assessment_lines(metrics: Mapping[str, Any]) -> list[str]:
    """What `lawft assess` prints."""
    lines = [metrics["contaminated"]] if metrics["contaminated"] else []
    lines += [f"WARNING: {text}" for text in metrics["warnings"]]
    for strategy, sides in metrics["sides"].items():
        for side, figures in sides.items():
            scores = ", ".join(f"{metric} {_number(score['mean'])}" for metric, score in figures["scores"].items())
            lines.append(f"{strategy:12} {side:5} {scores}; invented articles {figures['cited']['invented']}, empty {figures['empty']}, cut {figures['cut']}")
        lines.append(f"{strategy:12} {HEADLINE}: {verdict_line(find(metrics['comparisons'], strategy, HEADLINE))}")
        lines += [f"{strategy:12} {sign['name']}: {sign['says']}" for sign in metrics["signs"][strategy]]
    for strategy, found in (metrics["judge"] or {"strategies": {}})["strategies"].items():
        lines.append(f"{strategy:12} judge: tuned {found['tuned']}, base {found['base']}, ties {found['ties']}, unreadable {found['unreadable']}; {_bias(found)}; {found['verdict']}")
    for side, found in (metrics["injections"] or {}).items():
        lines.append(f"injections   {side:5} {found['hold']} of {found['usable']} pairs hold; lost findings in {found['lost']}, reported {found['reported']} of {len(found['pairs'])}")
    for found in (metrics["against"] or {"comparisons": []})["comparisons"]:
        if found["metric"] == HEADLINE:
            lines.append(f"{found['strategy']:12} {HEADLINE} since {metrics['against']['path']}: {verdict_line(found)}")
    return [*lines, headline(metrics).replace("**", ""), *_can_show(metrics)]


@house_style
def draw_assessment(metrics: Mapping[str, Any]) -> "Figure":
    """Every metric of both models under every strategy, with its interval."""
    names = [f"{strategy}: {metric}" for strategy in metrics["strategies"] for metric in METRICS]
    figure, axes = canvas("Scores of both models", 0.2 * len(names) + 0.2, names, below=0.8)
    told = []
    for place, side in enumerate(("base", "tuned")):
        scores = [metrics["sides"][strategy][side]["scores"][metric] for strategy in metrics["strategies"] for metric in METRICS]
        shown = [(row, score) for row, score in enumerate(scores) if score["mean"] is not None]
        rows, means = [row + (place - 0.5) * 0.3 for row, _ in shown], [score["mean"] for _, score in shown]
        bars = [[max(0.0, mean - score["interval"][0]) for mean, (_, score) in zip(means, shown, strict=True)], [max(0.0, score["interval"][1] - mean) for mean, (_, score) in zip(means, shown, strict=True)]]
        axes.errorbar(means, rows, xerr=bars, fmt="o", markersize=3.5, linewidth=1.2, color=COLOURS[place], label=f"{side}: {metrics['models'][side]['name']}")
        told += [f"{side} {names[row]} {score['mean']:.2f}" for row, score in shown]
    axes.set_yticks(range(len(names)), labels=names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("score, 0 to 1 (95 % interval, bootstrap over groups)")
    axes.grid(axis="x")
    legend_below(figure, axes)
    figure.set_label("; ".join(told))
    return figure


def _strategy(metrics: Mapping[str, Any], strategy: str) -> list[str]:
    base, tuned = (metrics["sides"][strategy][side] for side in ("base", "tuned"))
    lines = [f"## Strategy `{strategy}`", "", "| | base | tuned | tuned - base, 95 % | p | Holm p | verdict |", "|---|---|---|---|---|---|---|"]
    for metric, name in METRICS.items():
        found = find(metrics["comparisons"], strategy, metric)
        label = f"**{name}**" if metric == HEADLINE else name
        lines.append(f"| {label} | {_number(base['scores'][metric]['mean'])} | {_number(tuned['scores'][metric]['mean'])} | {_change(found)} | {found['p_value']:.2g} | {found['holm_p_value']:.2g} | {found['verdict']} |")
    plain = (
        ("citation precision", "precision"), ("citation recall", "recall"), ("answers with forbidden phrases", "forbidden"), ("answers that foretell an outcome", "predictions"),
        ("empty answers", "empty"), ("cut answers", "cut"), ("answers not marked as asked", "unmarked"), ("questions without an answer (not scored)", "failed"),
        ("citations whose law cannot be read", "unclear_citations"), ("share of answers that repeat another's", "same"), ("characters per answer", "characters"), ("seconds per answer", "seconds"), ("tokens per answer", "completion_tokens"),
    )  # fmt: skip
    lines += [f"| {name} | {_figure(key, base[key])} | {_figure(key, tuned[key])} | | | | |" for name, key in plain]
    for status, name in (("verified", "cited articles 検証済"), ("unverified", "cited articles 未検証"), ("invented", "cited articles that do not exist")):
        lines.append(f"| {name} | {base['cited'][status]} | {tuned['cited'][status]} | | | | |")
    lines += ["", f"| {HEADLINE} by kind | pairs | base | tuned |", "|---|---|---|---|"]
    for kind in dict.fromkeys([*base["kinds"], *tuned["kinds"]]):
        sides = [side["kinds"].get(kind, {"pairs": 0, "mean": None, "interval": None}) for side in (base, tuned)]
        lines.append(f"| {kind} | {sides[1]['pairs']} | {_with_interval(sides[0])} | {_with_interval(sides[1])} |")
    return [*lines, ""]


def _table_of(title: str, comparisons: Sequence[Mapping[str, Any]], text: str) -> list[str]:
    if not comparisons:
        return []
    lines = [f"## {title}", "", text, "", "| strategy | metric | change, 95 % | p | Holm p | verdict |", "|---|---|---|---|---|---|"]
    lines += [f"| {found['strategy']} | {found['metric']} | {_change(found)} | {found['p_value']:.2g} | {found['holm_p_value']:.2g} | {found['verdict']} |" for found in comparisons]
    return [*lines, ""]


def _judge(judge: Mapping[str, Any]) -> list[str]:
    lines = ["## The judge", "", f"`{judge['model']}` compared the answers pair by pair, each twice with the answers' places exchanged; where the two disagree it is a tie. A model's opinion, not a measurement.", ""]
    if judge["is_also"]:
        lines += [f"> **The judge is the {' and the '.join(judge['is_also'])} model itself: models favour their own answers.**", ""]
    for strategy, found in judge["strategies"].items():
        lines.append(f"- `{strategy}`: tuned {found['tuned']}, base {found['base']}, ties {found['ties']} ({found['disagreements']} because the orders disagree), unreadable {found['unreadable']}. {_bias(found)}. Mean of +1 / 0 / -1: {verdict_line(found)}.")
    return [*lines, ""]


def _bias(found: Mapping[str, Any]) -> str:
    if found["agreement"] is None:
        return "no verdict could be read"
    text = f"the orders agree in {found['agreement']:.0%}"
    if found["biased"]:
        place = "first" if found["first_place"] > found["second_place"] else "second"
        return f"{text}: POSITION BIAS for the {place} answer ({found['first_place']} first, {found['second_place']} second, p = {found['bias_p_value']:.2g}); do not rely on it"
    return text


def _injections(injections: Mapping[str, Any]) -> list[str]:
    lines = ["## Orders hidden in contracts", "", "Each contract with and without an order to the model; a pair holds when the findings are the same by clause and known weak point, and the order is itself a finding. Priorities and wording are not compared.", ""]
    lines += ["| | pairs hold | findings lost | order reported | same text twice, same findings | known weak points found |", "|---|---|---|---|---|---|"]
    for side, found in injections.items():
        repeated = found["repeated"]
        lines.append(f"| {side} | {found['hold']} of {found['usable']} | {found['lost']} | {found['reported']} of {len(found['pairs'])} | {sum(repeated.values())} of {len(repeated)} | {_number(found['known'])} |")
    lines.append("")
    for side, found in injections.items():
        for pair in found["pairs"]:
            if not pair["holds"]:
                what = "; ".join([*(f"lost {clause}: {kind}" for clause, kind in pair["lost"]), *(f"added {clause}: {kind}" for clause, kind in pair["added"]), *(() if pair["reported"] else ("the order was not reported",)), *((f"{pair['unanswered']} clauses without an answer, not counted",) if pair["unanswered"] else ())])
                lines.append(f"- {side}, {pair['case']}, `{pair['injection']}` {pair['place']}: {what}")
    return [*lines, ""]


def _can_show(metrics: Mapping[str, Any]) -> list[str]:
    can = metrics["can_show"]
    detectable = "not even a difference of 50 points" if can["detectable"] is None else f"only differences of {100 * can['detectable']:.0f} points or more"
    lines = [
        f"What {can['pairs']} pairs in {can['groups']} groups can show: where half of the pairs differ in a yes-or-no metric, {detectable} would be found in 8 of 10 repetitions, before "
        f"the adjustment for {len(metrics['comparisons'])} comparisons; the smallest p there can be is {can['smallest_p']:.2g}, adjusted {can['smallest_holm_p']:.2g}. No evidence is not evidence of no difference."
    ]
    return [*lines, "With so few groups for so many comparisons no verdict but `no evidence` is possible."] if can["too_few"] else lines


def _how(metrics: Mapping[str, Any]) -> list[str]:
    generation, models = metrics["generation"], metrics["models"]
    lines = ["## How it was asked", ""]
    lines += [f"- {side}: `{model['name']}` at {model['base_url']} ({model['backend']})" for side, model in models.items()]
    lines += [
        f"- Pairs: `{metrics['pairs_file']}` (sha256 `{metrics['pairs_sha256'][:12]}`), {metrics['pairs']} in {metrics['groups']} groups.",
        f"- Temperature {generation['temperature']:g}, at most {generation['max_tokens']} tokens, seed {generation['seed']}."
        + (f" Examples: {metrics['shots']} of `{metrics['examples_file']}`." if metrics["examples_file"] else ""),
        f"- Overlap of training and held-out pairs: {metrics['overlap']}.",
        f"- The headline is about {HEADLINE} under the first strategy. Intervals: bootstrap over groups; p: signs of whole groups flipped; Holm over all comparisons of a table.",
        "- The rules see words, not law (docs/assess.md). No lawyer has read these answers.",
        "",
    ]
    return lines


def _examples(metrics: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]], pairs: Mapping[str, LegalPair]) -> list[str]:
    """The pairs whose tuned answers scored worst under the first strategy."""
    first = metrics["strategies"][0]
    tuned = [line for line in predictions if (line["model"], line["strategy"]) == ("tuned", first) and not line["failed"]]
    base = {line["id"]: line for line in predictions if (line["model"], line["strategy"]) == ("base", first)}
    lines = ["## The weakest answers", ""]
    for line in sorted(tuned, key=lambda each: each["scores"][HEADLINE])[:_EXAMPLES]:
        lines += [f"`{line['id']}` ({line['kind']}): {_line(pairs[line['id']].question)}", "", f"- tuned ({line['scores'][HEADLINE]:.2f}): {_line(line['answer'])}"]
        lines += [f"- base ({base[line['id']]['scores'][HEADLINE]:.2f}): {_line(base[line['id']]['answer'])}", f"- points not made: {'; '.join(line['missed_points']) or 'none'}", ""]
    return lines


def _change(found: Mapping[str, Any]) -> str:
    if found["interval"] is None:
        return "-"
    return f"{found['difference']:+.3f} ({found['interval'][0]:+.3f} to {found['interval'][1]:+.3f})"


def _with_interval(score: Mapping[str, Any]) -> str:
    return "-" if score["mean"] is None else f"{score['mean']:.2f} ({score['interval'][0]:.2f} to {score['interval'][1]:.2f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _figure(key: str, value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if key in ("precision", "recall", "same") else f"{value:.1f}" if isinstance(value, float) else str(value)


def _line(text: str) -> str:
    return " ".join(text.split())[:300] or "(nothing)"
