"""The report of an evaluation as one HTML file, for a browser or for paper: no script, nothing loaded from elsewhere."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lawft_trl import __version__
from lawft_trl.data.questions import LETTERS
from lawft_trl.evaluation.figure_look import to_svg
from lawft_trl.evaluation.figures import draw_evaluation, majority_share
from lawft_trl.evaluation.metrics import Prediction, content_answers, content_gold
from lawft_trl.evaluation.report import (
    FIGURE_LINES,
    detectable_sentence,
    headline,
    interval,
    known_issues_lines,
    points,
    scored_sentence,
    share,
    train_check_lines,
)

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_SHOWN_QUESTIONS = 100  # gained or lost ones shown with their texts; all ids are in metrics.json
_SHOWN_OUTPUTS = 5  # of each model, answers in which no letter was found
_SHOWN_CHARACTERS = 600  # of such an answer

_CAPTIONS = {
    "accuracy": "Share of questions answered right, with its 95 % Wilson interval. Most frequent letter: always answering with the letter that is right most often.",
    "letters": "Number of prompts answered with each letter; a question counts once for each order of its choices. A model without a preference for letters follows the line.",
    "confusion": "Number of prompts by right letter (row) and chosen letter (column). Right answers are on the diagonal.",
    "changes": "Dark, and in numbers beside each row: questions that only one of the two models answered right.",
    "reliability": "Questions in bins of equal number by how sure the model was, each with the 95 % interval of the share that was right. "
    "On the dashed line a model is right as often as it is sure. ECE, expected calibration error: the mean distance from that line.",
}
_SYMBOLS = {"better": "▲", "worse": "▼", "no evidence": "●"}


def render_html(
    metrics: Mapping[str, Any],
    predictions: Mapping[str, Sequence[Prediction]],
    questions: Mapping[str, Mapping[str, Any]],
) -> str:
    """An evaluation as a page. The first line of a contaminated one says that it is.

    Args:
        metrics: the content of `metrics.json`; with one model alone nothing is compared.
        predictions: model -> its predictions.
        questions: id -> what `lawft_trl.evaluation.folder.describe_question` keeps of it.
    """
    models, paired = metrics["models"], metrics.get("comparison")
    first = next(iter(predictions.values()))
    validation = metrics.get("cross_validation") or {}
    figures = draw_evaluation(metrics, predictions, questions)
    return _environment().get_template("report.html.jinja").render(
        metrics=metrics,
        models=models,
        paired=paired,
        banner=_banner(metrics) if paired else None,
        detectable=detectable_sentence(paired, len(content_gold(first))) if paired else "",
        majority=majority_share(first),
        remarks=[text for text in [*known_issues_lines(models), *train_check_lines(metrics), validation.get("note")] if text],
        table=[(name, [text(model) for model in models.values()]) for name, text in FIGURE_LINES],
        figures=[(_svg(to_svg(figure)), _CAPTIONS[name]) for name, figure in figures.items()],
        changed=_changed(paired, predictions, questions) if paired else [],
        unread={model: found for model, answers in predictions.items() if (found := _unread(answers))},
        scored=scored_sentence(metrics),
        version=__version__,
    )


def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=PackageLoader("lawft_trl", "assets")
    )
    environment.filters |= {"share": share, "points": points, "interval": interval, "ja": _in_its_language}
    return environment


def _in_its_language(text: object) -> "Markup":
    """Escaped text; marked as Japanese where it holds kana or kanji, so that a browser takes the right font and voice."""
    from markupsafe import Markup, escape

    if re.search("[\u3040-\u30ff\u3400-\u9fff\uff66-\uff9f]", str(text)):
        return Markup('<span lang="ja">{}</span>').format(text)
    return escape(text)


def _svg(drawn: str) -> "Markup":
    from markupsafe import Markup

    return Markup(drawn)  # to_svg escapes what is in it


def _banner(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The verdict's class, symbol and words; no success where the figures mean nothing."""
    _, bold, rest = headline(metrics).split("**", 2)
    verdict = metrics["comparison"]["verdict"]
    if metrics["contaminated"] or metrics["rehearsal"]:
        return {"kind": "void", "symbol": "■", "bold": bold, "rest": rest.replace("*", "")}
    return {"kind": verdict.replace(" ", "-"), "symbol": _SYMBOLS[verdict], "bold": bold, "rest": rest.replace("*", "")}


def _changed(
    paired: Mapping[str, Any],
    predictions: Mapping[str, Sequence[Prediction]],
    questions: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The gained and the lost questions with their texts and what each model answered."""
    answers = {model: content_answers(answered) for model, answered in list(predictions.items())[:2]}
    gold = content_gold(next(iter(predictions.values())))
    lists = []
    for name in ("gained", "lost"):
        shown = [
            {
                **questions[question],
                "choices": questions[question]["choices"] or dict.fromkeys(LETTERS, ""),
                "gold": gold[question],
                "chosen": {model: found[question] for model, found in answers.items()},
            }
            for question in paired[name][:_SHOWN_QUESTIONS]
        ]
        lists.append({"name": name, "total": len(paired[name]), "questions": shown})
    return lists


def _unread(answers: Sequence[Prediction]) -> dict[str, Any] | None:
    """A few raw answers in which no letter was found; `None` where there are none."""
    found = [answer for answer in answers if answer.is_silent and answer.outputs]
    if not found:
        return None
    shown = [
        {
            "id": answer.id,
            "order": answer.order,
            "cut": answer.cut,
            "text": answer.outputs[0][:_SHOWN_CHARACTERS],
            "more": max(0, len(answer.outputs[0]) - _SHOWN_CHARACTERS),
        }
        for answer in found[:_SHOWN_OUTPUTS]
    ]
    return {"total": len(found), "shown": shown}
