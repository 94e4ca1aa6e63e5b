"""The report of a style evaluation: Markdown, the terminal's lines, and the picture. No torch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lawft_trl.evaluation.figure_look import COLOURS, canvas, house_style, legend_below, short
from lawft_trl.evaluation.style_comparison import ScoredReply

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE = "style.png"
_SENTENCES = {
    "better": "**Better.** {second} replies more in the style than {first}.",
    "worse": "**Worse.** {second} replies less in the style than {first}.",
    "no evidence": "**No evidence either way.** These dialogues do not show that the style of {second} differs from that of {first}.",
}
_NAMES = {"base": "the base model", "tuned": "the tuned model"}
_SHARES = ("question_endings", "addresses", "leads", "only_questions", "same_reply", "repeated_within", "repeated_across", "empty", "cut")
# What stands beside the style, in the order of the report, with what it says.
FIGURES = {
    "question_endings": "sentences that end as a question of the style",
    "addresses": "sentences that address the other",
    "leads": "sentences that lead the inquiry",
    "only_questions": "replies that only ask",
    "same_reply": "replies that are the same as an earlier one",
    "repeated_within": "text that stands in the reply before",
    "repeated_across": "text that stands in another reply",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "sentences": "sentences per reply",
    "characters": "characters per reply",
    "empty": "replies without a sentence",
    "cut": "replies that did not end",
    "perplexity": "perplexity of the base on them",
}
_EXAMPLES = 5
_BINS = 10


def render_style_report(metrics: Mapping[str, Any], turns: Sequence[Mapping[str, Any]], replies: Mapping[str, Sequence[ScoredReply]]) -> str:
    """`metrics.json` as Markdown. The first line of a contaminated evaluation says that it is.

    Args:
        metrics: what `lawft_trl.evaluation.evaluate_style.evaluate_style` writes.
        turns: what was asked, `id`, `prompt` and `tutor` of each.
        replies: model -> its replies, in the same order.
    """
    paired, first = metrics["comparison"], metrics["models"]["base"]
    low, high = paired["interval"]
    lines = [f"**{metrics['contaminated']}**", ""] if metrics["contaminated"] else []
    lines += [f"# Style of {metrics['run']}", ""]
    lines += [f"> **{text}**" for text in metrics["warnings"]] + ([""] if metrics["warnings"] else [])
    lines += [
        f"{style_headline(metrics)} ({paired['reason']}.)",
        "",
        f"tuned - base: **{paired['difference']:+.3f}**, 95 % interval {low:+.3f} to {high:+.3f} (bootstrap over {paired['groups']} groups of conversations), "
        f"p = {paired['p_value']:.2g} (signs of whole groups flipped). The style rose in {paired['rose']} of {paired['conversations']} conversations, fell in "
        f"{paired['fell']} and stayed in {paired['same']}.",
        "",
    ]
    if metrics["diagnosis"]:
        lines += ["## It may be worth less than it seems", ""]
        lines += [*(f"- **{found['name']}**: {found['says']}\n  Next: {found['try_next']}" for found in metrics["diagnosis"]), ""]
    lines += [f"![Style of the replies]({PICTURE})", "", *_table(metrics), ""]
    lines += ["## How it was asked", ""]
    lines += [
        f"- Held-out turns: `{metrics['test_file']}` (sha256 `{metrics['test_sha256'][:12]}`), {metrics['asked']}; each with its true history.",
        f"- Replies: greedy, at most {metrics['generation']['max_new_tokens']} tokens. Scored by {metrics['patterns_from']}.",
        f"- The style of a model: mean over {first['conversations']} conversations of the mean over their turns.",
        f"- Model: `{metrics['model']}`, prompt fingerprint `{metrics['prompt_fingerprint'][:12]}`, the one it was trained with.",
        f"- Overlap of training and held-out rows: {metrics['overlap']}.",
        "",
        "## The first replies",
        "",
    ]
    for place, turn in enumerate(turns[:_EXAMPLES]):
        lines += [f"`{turn['id']}`", "", f"- user: {_line(turn['prompt'][-1]['content'])}", f"- tutor: {_line(turn['tutor'])}"]
        lines += [*(f"- {model} ({said[place].style:.2f}): {_line(said[place].reply)}" for model, said in replies.items()), ""]
    return "\n".join(lines)


def style_headline(metrics: Mapping[str, Any]) -> str:
    """The verdict in a sentence; not one of success where the figures mean nothing."""
    verdict = metrics["comparison"]["verdict"]
    why = "rows of the training are among these" if metrics["contaminated"] else "a rehearsal" if metrics["rehearsal"] else None
    if why:
        return f"**No verdict:** {why}. The figures alone would say *{verdict}*"
    first, second = (_NAMES.get(name, name) for name in list(metrics["models"])[:2])
    return _SENTENCES[verdict].format(first=first, second=second[0].upper() + second[1:] if verdict != "no evidence" else second)


def style_lines(metrics: Mapping[str, Any]) -> list[str]:
    """What `lawft eval` prints."""
    lines = [metrics["contaminated"]] if metrics["contaminated"] else []
    lines += [f"WARNING: {text}" for text in metrics["warnings"]]
    for name, model in {**metrics["models"], "tutor": metrics["tutor"]}.items():
        interval = f" [{model['interval'][0]:.3f}, {model['interval'][1]:.3f}]"
        perplexity = "" if model["perplexity"] is None else f", perplexity of the base {model['perplexity']:.1f}"
        lines.append(
            f"{name:5}  style {model['style']:.3f}{interval}, only questions {model['only_questions']:.0%}, same reply {model['same_reply']:.0%}, "
            f"distinct-2 {model['distinct_2']:.2f}, {model['characters']:.0f} characters{perplexity}"
        )
    paired = metrics["comparison"]
    low, high = paired["interval"]
    prefix = "no verdict, the figures alone would say " if metrics["contaminated"] or metrics["rehearsal"] else ""
    lines.append(
        f"{prefix}{paired['verdict']}: {paired['difference']:+.3f} [{low:+.3f}, {high:+.3f}], rose in {paired['rose']} of {paired['conversations']} "
        f"conversations, fell in {paired['fell']}, p = {paired['p_value']:.2g} ({paired['reason']})"
    )
    return lines + [f"{found['name']}: {found['says']}" for found in metrics["diagnosis"]]


@house_style
def draw_styles(metrics: Mapping[str, Any], replies: Mapping[str, Sequence[ScoredReply]]) -> "Figure":
    """How many replies have which style, bars of the models side by side; the means are those of the report.

    Args:
        metrics: see `render_style_report`.
        replies: model -> its replies; `tutor` -> the tutor's own.
    """
    figure, axes = canvas(f"Style of the replies, {short(metrics['run'], 40)}", 2.2, below=1.1)
    figures = {**metrics["models"], "tutor": metrics["tutor"]}
    width, told = 0.8 / len(replies) / _BINS, []
    for place, (name, said) in enumerate(replies.items()):
        counts = [0] * _BINS
        for reply in said:
            counts[min(int(reply.style * _BINS + 1e-9), _BINS - 1)] += 1
        shares = [count / len(said) for count in counts]
        starts = [(bin + 0.1) / _BINS + place * width for bin in range(_BINS)]
        mean = figures[name]["style"]
        axes.bar(starts, shares, width, align="edge", color=COLOURS[place], label=f"{name}, mean {mean:.3f}")
        axes.axvline(mean, color=COLOURS[place], linewidth=1.2, dashes=(4, 2))
        told.append(f"{name}: mean {mean:.3f} of {figures[name]['conversations']} conversations")
    axes.set_xlim(0, 1)
    axes.set_xticks([place / 5 for place in range(6)])
    axes.set_xlabel("style of a reply (0: none, 1: every sentence wholly)\ndashed: mean over conversations of the mean over their turns")
    axes.set_ylabel("share of the replies")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.grid(axis="y")
    legend_below(figure, axes)
    figure.set_label("; ".join(told))
    return figure


def _table(metrics: Mapping[str, Any]) -> list[str]:
    columns = {**metrics["models"], "tutor": metrics["tutor"]}
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    styles = (f"{side['style']:.3f} ({side['interval'][0]:.3f} to {side['interval'][1]:.3f})" for side in columns.values())
    lines.append(f"| **style** (95 %) | {' | '.join(styles)} |")
    for key, name in FIGURES.items():
        lines.append(f"| {name} | {' | '.join(figure_text(key, side[key]) for side in columns.values())} |")
    return lines


def figure_text(key: str, value: float | None) -> str:
    """A figure of `describe_replies` as it is printed."""
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if key in _SHARES else f"{value:.2f}" if key.startswith("distinct") else f"{value:.1f}"


def _line(text: str) -> str:
    return " ".join(text.split()) or "(nothing)"
