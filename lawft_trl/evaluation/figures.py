"""The figures of an evaluation.

Every `draw_…` returns a `matplotlib.figure.Figure` whose heading is its title and whose label says in words and numbers
what is to be seen: the alternative text. `to_svg` and `to_png` make files of it.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lawft_trl.data.questions import LETTERS
from lawft_trl.evaluation.calibration import calibrate
from lawft_trl.evaluation.figure_look import (
    COLOURS,
    FAINT,
    INK,
    canvas,
    house_style,
    legend_below,
    new_figure,
    percent,
    percent_axis,
    short,
    to_svg,
)
from lawft_trl.evaluation.metrics import Prediction, content_answers, content_gold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LAWS = 12  # rows of the figure by law; the other laws are one row together
_MARKERS = "os^Dv"

# What became of a question between two models: (first right, second right) -> name, colour, side of the middle.
_CHANGES = {
    (True, False): ("lost", "#d55e00", -1),
    (False, False): ("both wrong", "#e0e0e0", -1),
    (False, True): ("gained", "#0072b2", 1),
    (True, True): ("both right", "#c6dcec", 1),
}


def draw_evaluation(
    metrics: Mapping[str, Any],
    predictions: Mapping[str, Sequence[Prediction]],
    questions: Mapping[str, Mapping[str, Any]],
) -> dict[str, "Figure"]:
    """All figures that an evaluation has.

    Args:
        metrics: the content of `metrics.json`.
        predictions: model -> its predictions.
        questions: id -> what `lawft_trl.evaluation.folder.describe_question` keeps of it.

    Returns:
        `accuracy`, `letters` and `confusion`; `changes` where two models were compared; `reliability` where letters
        were scored.
    """
    rungs = [(name, model["accuracy"], *model["interval"]) for name, model in metrics["models"].items()]
    figures = {
        "accuracy": draw_accuracies(rungs, majority=majority_share(next(iter(predictions.values())))),
        "letters": draw_letters(predictions),
        "confusion": draw_confusion(predictions),
    }
    if metrics.get("comparison"):
        (first, before), (second, after), *_ = predictions.items()
        laws = {question: record["law"] for question, record in questions.items()}
        figures["changes"] = draw_changes(before, after, laws, names=(first, second))
    calibrations = {model: calibrate(answers) for model, answers in predictions.items()}
    if scored := {model: found for model, found in calibrations.items() if found}:
        figures["reliability"] = draw_reliability(scored)
    return figures


def majority_share(predictions: Sequence[Prediction]) -> float:
    """Accuracy of always answering the most frequent gold letter, the choices in the questions' own order."""
    gold = Counter(content_gold(predictions).values())
    return max(gold.values()) / gold.total()


def runs_svg(entries: Sequence[tuple[str, float, float, float]], *, title: str) -> str:
    """Accuracy over several runs as SVG; `entries` as the rungs of `draw_accuracies`."""
    return to_svg(draw_accuracies(entries, title=title))


@house_style
def draw_accuracies(
    rungs: Sequence[tuple[str, float, float, float]],
    *,
    title: str = "Accuracy with 95 % intervals",
    chance: float | None = 0.25,
    majority: float | None = None,
) -> "Figure":
    """A dot with its interval for each model, each rung of a ladder, or each run.

    Args:
        rungs: label, accuracy, and the interval's lower and upper end, all in 0…1; the first is drawn on top.
        title: the heading.
        chance: accuracy of guessing; `None` draws no line.
        majority: accuracy of always answering the most frequent gold letter; `None` draws no line.
    """
    names = [short(label, 44) for label, *_ in rungs]
    figure, axes = canvas(title, 0.34 * len(rungs) + 0.25, names, right=1.7, below=0.62)
    for row, (_, accuracy, low, high) in enumerate(rungs):
        colour = COLOURS[row] if len(rungs) <= 2 else COLOURS[1]
        axes.errorbar(accuracy, row, xerr=[[accuracy - low], [high - accuracy]], fmt="o", color=colour, markersize=7, linewidth=2.2, capsize=4, capthick=1.6)
        numbers = f"{percent(accuracy)} ({100 * low:.1f} to {100 * high:.1f})"
        axes.text(1.04, row, numbers, va="center", transform=axes.get_yaxis_transform())
    for value, name, dashes in ((chance, "guessing", (1, 2)), (majority, "most frequent letter", (5, 2))):
        if value is not None:
            axes.axvline(value, color=INK, linewidth=1, dashes=dashes, label=f"{name} {percent(value)}", zorder=0)
    axes.set_xlim(0, 1)
    percent_axis(axes.xaxis)
    axes.set_yticks(range(len(rungs)), labels=names)
    axes.set_ylim(len(rungs) - 0.4, -0.6)
    axes.grid(axis="x")
    legend_below(figure, axes)
    told = (f"{name} {percent(share)}, 95 % interval {percent(low)} to {percent(high)}" for name, share, low, high in rungs)
    figure.set_label("; ".join(told))
    return figure


@house_style
def draw_letters(predictions: Mapping[str, Sequence[Prediction]]) -> "Figure":
    """How often each model answered with each letter, beside how often it was the gold one.

    Args:
        predictions: model -> its predictions, all on the same prompts.
    """
    given = {model: Counter(answer.letter for answer in answers) for model, answers in predictions.items()}
    gold = Counter(answer.gold for answer in next(iter(predictions.values())))
    places = [*LETTERS, None] if any(counts[None] for counts in given.values()) else [*LETTERS]
    figure, axes = canvas("Letters chosen", 2.1, below=0.58)
    width = 0.8 / len(given)
    for index, (model, counts) in enumerate(given.items()):
        middles = [place - 0.4 + width * (index + 0.5) for place in range(len(places))]
        shares = [counts[letter] / counts.total() for letter in places]
        bars = axes.bar(middles, shares, 0.94 * width, color=COLOURS[index % len(COLOURS)], label=short(model))
        numbers = [str(counts[letter]) for letter in places]
        axes.bar_label(bars, numbers, fontsize=8, padding=3, bbox={"color": "white", "pad": 0.4})
    heights = [gold[letter] / gold.total() for letter in LETTERS]
    ends = [place - 0.46 for place in range(4)], [place + 0.46 for place in range(4)]
    axes.hlines(heights, *ends, color=INK, linewidth=1.5, label="gold")
    axes.set_xticks(range(len(places)), labels=[letter or "no answer" for letter in places])
    axes.set_ylabel("share of prompts")
    axes.margins(y=0.12)
    percent_axis(axes.yaxis)
    legend_below(figure, axes)
    told = {**given, "gold": gold}
    figure.set_label("; ".join(f"{name}: {_counted(counts, places)}" for name, counts in told.items()))
    return figure


def _counted(counts: Mapping[str | None, int], letters: Sequence[str | None]) -> str:
    return ", ".join(f"{letter or 'no answer'} {counts[letter]}" for letter in letters)


@house_style
def draw_confusion(predictions: Mapping[str, Sequence[Prediction]]) -> "Figure":
    """Gold letter against chosen letter, a panel for each model; the numbers are prompts.

    Args:
        predictions: model -> its predictions.
    """
    pairs = {model: Counter((answer.gold, answer.letter) for answer in answers) for model, answers in predictions.items()}
    chosen = [*LETTERS, None] if any(count[gold, None] for count in pairs.values() for gold in LETTERS) else [*LETTERS]
    columns = 2
    rows = -(-len(pairs) // columns)
    height = 0.55 + 2.75 * rows
    figure = new_figure("Gold letter and chosen letter", height)
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.45 / height, top=1 - 0.62 / height, wspace=0.22, hspace=0.4)
    for axes, (model, count) in zip(grid.flat, pairs.items(), strict=False):
        _draw_table(axes, [[count[gold, letter] for letter in chosen] for gold in LETTERS])
        axes.set_xticks(range(len(chosen)), labels=[letter or "none" for letter in chosen])
        axes.set_yticks(range(len(LETTERS)), labels=LETTERS)
        axes.set(xlabel="chosen", ylabel="gold", title=short(model))
    for axes in grid.flat[len(pairs) :]:
        axes.remove()
    told = (
        f"{model}: " + "; ".join(f"gold {gold}: {_counted({letter: count[gold, letter] for letter in chosen}, chosen)}" for gold in LETTERS)
        for model, count in pairs.items()
    )
    figure.set_label(". ".join(told))
    return figure


def _draw_table(axes: "Axes", table: Sequence[Sequence[int]]) -> None:
    """Numbers in cells that are the darker the greater they are."""
    most = max(map(max, table)) or 1
    edges = [[place - 0.5 for place in range(size + 1)] for size in (len(table[0]), len(table))]
    axes.pcolormesh(*edges, table, cmap="Blues", vmin=0, vmax=1.2 * most, edgecolors="white", linewidth=1.5)
    for row, numbers in enumerate(table):
        for column, number in enumerate(numbers):
            colour = "white" if number > 0.65 * most else INK
            axes.text(column, row, str(number), ha="center", va="center", color=colour)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()


@house_style
def draw_changes(
    first: Sequence[Prediction],
    second: Sequence[Prediction],
    laws: Mapping[str, str],
    *,
    names: tuple[str, str] = ("base", "tuned"),
) -> "Figure":
    """By law, the questions that only one of two models got right, both, or neither.

    Right of the middle stands what the second model got right, left of it what it got wrong; what changed is dark and
    nearest to the middle, and its numbers stand beside the row.

    Args:
        first: predictions of the first model.
        second: of the second, on the same questions.
        laws: question id -> law.
        names: of the two models.
    """
    tallies = _changes_by_law(first, second, laws)
    labels, rows = [short(law) for law in tallies], range(len(tallies))
    figure, axes = canvas("Gained and lost, by law", 0.3 * len(tallies) + 0.1, labels, right=0.75, below=1.0)
    before, after = map(short, names)
    legend = {"lost": f"lost: only {before} right", "gained": f"gained: only {after} right"}
    ends = {-1: [0] * len(tallies), 1: [0] * len(tallies)}
    narrow = max(1, 0.08 * max(tally.total() for tally in tallies.values()))  # a bar that has no room for its number
    for kind, colour, side in _CHANGES.values():
        lengths = [tally[kind] for tally in tallies.values()]
        places = {"left": [side * end for end in ends[side]], "height": 0.76, "color": colour}
        bars = axes.barh(rows, [side * length for length in lengths], label=legend.get(kind, kind), **places)
        numbers = [str(length) if length >= narrow else "" for length in lengths]
        axes.bar_label(bars, numbers, label_type="center", fontsize=8, color="white" if kind in legend else INK)
        ends[side] = [end + length for end, length in zip(ends[side], lengths, strict=True)]
    for row, tally in enumerate(tallies.values()):
        axes.text(1.03, row, f"+{tally['gained']} −{tally['lost']}", va="center", transform=axes.get_yaxis_transform())
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(rows, labels=labels)
    axes.set_ylim(len(tallies) - 0.4, -0.6)
    axes.set_xlim(-1.04 * max(ends[-1]) - 0.5, 1.04 * max(ends[1]) + 0.5)
    axes.set_xlabel(f"← questions {after} got wrong   |   got right →")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    legend_below(figure, axes)
    kinds = [kind for kind, *_ in _CHANGES.values()]
    told = (f"{law}: " + ", ".join(f"{kind} {tally[kind]}" for kind in kinds) for law, tally in tallies.items())
    figure.set_label("; ".join(told))
    return figure


def _changes_by_law(
    first: Sequence[Prediction], second: Sequence[Prediction], laws: Mapping[str, str]
) -> dict[str, Counter[str]]:
    """Law -> questions by what became of them; the law with most questions first, the last ones together."""
    gold, before, after = content_gold(first), content_answers(first), content_answers(second)
    tallies: dict[str, Counter[str]] = defaultdict(Counter)
    for question, right in gold.items():
        kind, *_ = _CHANGES[before[question] == right, after[question] == right]
        tallies[laws.get(question) or "law not stated"][kind] += 1
    ranked = sorted(tallies.items(), key=lambda entry: (-entry[1].total(), entry[0]))
    if len(ranked) <= _MOST_LAWS:
        return dict(ranked)
    shown, rest = ranked[: _MOST_LAWS - 1], ranked[_MOST_LAWS - 1 :]
    return {**dict(shown), f"{len(rest)} other laws": sum((tally for _, tally in rest), Counter())}


@house_style
def draw_reliability(calibrations: Mapping[str, Mapping[str, Any]]) -> "Figure":
    """Accuracy against confidence, in bins of equally many questions, with the 95 % interval of each bin.

    Args:
        calibrations: model -> what `lawft_trl.evaluation.calibration.calibrate` returns.
    """
    sizes = sorted({one["questions"] for found in calibrations.values() for one in found["bins"]})
    title = f"Confidence and accuracy, in bins of {' or '.join(map(str, sizes))} questions"
    figure, axes = canvas(title, 2.6, below=0.8)
    axes.plot([0.25, 1], [0.25, 1], color=FAINT, linewidth=1, dashes=(4, 3), label="as sure as right")
    for index, (model, found) in enumerate(calibrations.items()):
        look = {"color": COLOURS[index % len(COLOURS)], "marker": _MARKERS[index % len(_MARKERS)]}
        sure, right = ([one[key] for one in found["bins"]] for key in ("confidence", "accuracy"))
        axes.plot(sure, right, markersize=6, label=f"{short(model)}: ECE {found['ece']:.2f}", **look)
        for one in found["bins"]:
            axes.vlines(one["confidence"], *one["interval"], color=look["color"], linewidth=1, alpha=0.6)
    axes.set(xlabel="confidence: the answer's share of the four letters' probability", ylabel="answered right")
    axes.set(xlim=(0.2, 1.03), ylim=(-0.03, 1.03))
    percent_axis(axes.xaxis)
    percent_axis(axes.yaxis)
    axes.grid()
    legend_below(figure, axes)
    told = (
        f"{model}, expected calibration error {found['ece']:.3f}: "
        + ", ".join(f"{one['questions']} questions {percent(one['confidence'])} sure and {percent(one['accuracy'])} right" for one in found["bins"])
        for model, found in calibrations.items()
    )
    figure.set_label("; ".join(told))
    return figure
