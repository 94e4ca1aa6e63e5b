"""`training_progress.png`: how a training went, on one page."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lawft_trl.data.questions import LETTERS
from lawft_trl.evaluation.figure_look import COLOURS, FAINT, INK, WIDTH, house_style, new_figure, percent_axis, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL = 2.3  # inches high
_BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.02)}  # a legend where it covers no line
STYLE = "eval_socratic_style"
_LETTER_LINES = {
    "eval_letter_accuracy": ("accuracy", {"color": COLOURS[1], "linewidth": 2, "marker": "o"}),
    "eval_letter_mass": ("label mass", {"color": INK, "linewidth": 1.4, "marker": "s"}),
    **{
        f"eval_letter_share_{letter}": (f"answers {letter}", {"color": COLOURS[2 + index], "linewidth": 1.2, "marker": "v^<>"[index]})
        for index, letter in enumerate(LETTERS)
    },
}


@house_style
def draw_progress(log_history: Sequence[Mapping[str, Any]], *, metric: str | None = None, best_step: int | None = None) -> bytes:
    """Loss, learning rate and gradient norm, what the training is judged by, and the letters of the dev questions, by step, as PNG.

    Args:
        log_history: the trainer's (`TrainerState.log_history`); a panel is left out where nothing of it was logged,
            the panel of the loss stays.
        metric: what the training is judged by, as it is logged. It has a panel of its own unless it is in another one; the
            style of the replies then has one where it was logged.
        best_step: where the metric was best; marked.

    Returns:
        The file's content.
    """
    logged = {key for entry in log_history for key in entry}
    elsewhere = {"eval_loss", *_LETTER_LINES}
    shown = next((key for key in (metric, STYLE) if key in logged and key not in elsewhere), None)
    panels = [_draw_loss]
    if logged & {"learning_rate", "grad_norm"}:
        panels.append(_draw_steps)
    if shown:
        panels.append(functools.partial(_draw_metric, key=shown))
    if logged & set(_LETTER_LINES):
        panels.append(_draw_letters)
    height = 0.5 + (_PANEL + 0.35) * len(panels)
    figure = new_figure("Training progress", height, 1.25 * WIDTH)
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(left=0.12, right=0.78, bottom=0.5 / height, top=1 - 0.5 / height, hspace=0.12)
    for draw, axes in zip(panels, grid, strict=True):
        draw(axes, log_history)
        _mark_best(axes, log_history, metric, best_step)
        axes.grid()
    grid[-1].set_xlabel("step")
    grid[-1].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    return to_png(figure)


def _series(log_history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """Steps and values of what was logged under a key."""
    found = [(entry["step"], entry[key]) for entry in log_history if key in entry and "step" in entry]
    return [step for step, _ in found], [value for _, value in found]


def _draw_loss(axes: "Axes", log_history: Sequence[Mapping[str, Any]]) -> None:
    for key, name, look in (
        ("loss", "training", {"color": COLOURS[0], "marker": "."}),
        ("eval_loss", "dev", {"color": COLOURS[1], "marker": "o", "linewidth": 2}),
    ):
        steps, values = _series(log_history, key)
        if steps:
            axes.plot(steps, values, label=name, gid=key, **look)
    axes.set_ylabel("loss")
    if axes.lines:
        axes.legend(**_BESIDE)
    else:
        axes.text(0.5, 0.5, "no loss was logged", ha="center", va="center", transform=axes.transAxes)


def _draw_steps(axes: "Axes", log_history: Sequence[Mapping[str, Any]]) -> None:
    """The learning rate on the left scale, the gradient norm on the right one."""
    right = axes.twinx()
    right.spines["right"].set_visible(True)
    for side, key, name, colour in (
        (axes, "learning_rate", "learning rate", COLOURS[1]),
        (right, "grad_norm", "gradient norm", COLOURS[6]),
    ):
        side.plot(*_series(log_history, key), color=colour, marker=".")
        side.set_ylabel(name, color=colour)
        side.tick_params(axis="y", labelcolor=colour)
        side.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))


def _draw_metric(axes: "Axes", log_history: Sequence[Mapping[str, Any]], *, key: str) -> None:
    axes.plot(*_series(log_history, key), label="dev", gid=key, color=COLOURS[1], marker="o", linewidth=2)
    axes.set_ylabel(key.removeprefix("eval_").replace("_", " "))
    axes.legend(**_BESIDE)


def _mark_best(axes: "Axes", log_history: Sequence[Mapping[str, Any]], metric: str | None, best_step: int | None) -> None:
    """A ring around the best value, in the panel that shows the metric, and its figure in the legend."""
    if metric is None or metric not in [line.get_gid() for line in axes.lines]:
        return
    value = next(entry[metric] for entry in log_history if metric in entry and entry["step"] == best_step)
    look = {"linestyle": "none", "marker": "o", "markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.6}
    axes.plot([best_step], [value], label=f"best: {value:.3g}\nat step {best_step}", color=COLOURS[6], **look)
    axes.legend(**_BESIDE)


def _draw_letters(axes: "Axes", log_history: Sequence[Mapping[str, Any]]) -> None:
    """What a collapse to one letter looks like: its share goes up, accuracy to a quarter."""
    axes.axhline(0.25, color=FAINT, linewidth=1, dashes=(1, 2), label="guessing")
    for key, (name, look) in _LETTER_LINES.items():
        steps, shares = _series(log_history, key)
        if steps:
            axes.plot(steps, shares, label=name, gid=key, markersize=5, **look)
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("dev questions")
    percent_axis(axes.yaxis)
    axes.legend(**_BESIDE)
