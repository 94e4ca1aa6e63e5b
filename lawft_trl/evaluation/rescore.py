"""`lawft rescore`: stored answers read again by the parser of today, and what that moves. No torch, no model.

The same outputs have been scored 20, 15, 14 and 15 of 27 right by four versions of one parser: a figure from generated answers is one of
its parser, too. Evaluations keep every raw output, so that two of them can be read by one.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lawft_trl.data.questions import LETTERS
from lawft_trl.errors import InputError
from lawft_trl.evaluation.answers import PARSER_VERSION, explain_answer, parse_answer
from lawft_trl.evaluation.compare_evaluations import SEED
from lawft_trl.evaluation.diagnosis import TrainEvidence, diagnose, retrieval_figures
from lawft_trl.evaluation.folder import Evaluation, read_evaluation, write_evaluation
from lawft_trl.evaluation.generation import majority
from lawft_trl.evaluation.metrics import Prediction, compare, describe_model, share_right
from lawft_trl.experiment_log import write_experiment
from lawft_trl.text_files import read_jsonl

_OUTPUT = ("output", "response")  # what the raw output may be called in a file from elsewhere
_LABELS = {**{letter: letter for letter in LETTERS}, "none": None, None: None}


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """An evaluation whose outputs were read again.

    Attributes:
        evaluation: as it is stored.
        predictions: model -> its predictions, with the letters found now.
        moved: one record per prediction whose letter is another: `model`, `id`, `order`, `gold`, `old`, `new` and `outputs`, for each
            output its `letter`, `rule`, `words`, `span` (`answers.Explanation`) and `text`.
        before: `describe`d as stored: `models` and, of two models, `comparison`.
        after: the same with the letters found now.
    """

    evaluation: Evaluation
    predictions: dict[str, list[Prediction]]
    moved: list[dict[str, Any]]
    before: dict[str, Any]
    after: dict[str, Any]


def rescore(path: Path) -> Rescored:
    """Reads the stored outputs of an evaluation again.

    Args:
        path: an evaluation folder whose answers were generated, or a run with one evaluation.

    Raises:
        InputError: when there is none, or letters were scored and there is nothing to read.
    """
    evaluation = read_evaluation(path)
    if not any(prediction.outputs for answers in evaluation.predictions.values() for prediction in answers):
        scorer = evaluation.metrics.get("scorer")
        raise InputError(f"{evaluation.path}: nothing to parse: no written answers are stored there (scorer: {scorer})")
    predictions: dict[str, list[Prediction]] = {}
    moved = []
    for model, answers in evaluation.predictions.items():
        predictions[model] = []
        for stored in answers:
            choices = _choices(evaluation, stored)
            letters = [parse_answer(output, choices) for output in stored.outputs]
            letter = majority(letters)
            predictions[model].append(replace(stored, letter=letter, unread=letters.count(None)))
            if letter != stored.letter:
                moved.append(_moved(model, stored, letter, choices))
    before, after = _describe(evaluation, evaluation.predictions), _describe(evaluation, predictions)
    return Rescored(evaluation=evaluation, predictions=predictions, moved=moved, before=before, after=after)


def write_rescored(rescored: Rescored) -> Path | None:
    """Writes the evaluation as it is read now beside the stored one, which stays as it is.

    Returns:
        The new folder, the stored one's name with `-parser-VERSION`; `None` where the stored one is what this parser reads.

    Raises:
        InputError: when the new folder is there already, or the evaluation pools those of a cross-validation.
    """
    old = rescored.evaluation
    if old.metrics.get("parser_version") == PARSER_VERSION and not rescored.moved:
        return None
    if "cross_validation" in old.metrics:
        raise InputError(f"{old.path}: pooled of several evaluations; rescore those of its folds")
    out = old.path.with_name(re.sub(r"-parser-[^-]+$", "", old.path.name) + f"-parser-{PARSER_VERSION}")
    if out.exists():
        raise InputError(f"{out}: already there, and it is not replaced; move it away or remove it")
    metrics = {
        **old.metrics,
        **rescored.after,
        "parser_version": PARSER_VERSION,
        "rescored_from": old.path.name,
        "retrieval": retrieval_figures(rescored.predictions, old.questions),
        "diagnosis": _diagnose(rescored),
    }
    write_evaluation(out, metrics, rescored.predictions, list(old.questions.values()))
    if (run := _run_of(old)) is not None:
        write_experiment(run)
    return out


def score_outputs(path: Path) -> dict[str, Any]:
    """Reads a file of outputs from elsewhere, whose right letters are known.

    Args:
        path: JSONL with `output` (or `response`), `gold` (or `label`) and, where known, `choices`, letter -> text. A
            `label` of `"none"` or null says that a careful reader finds no letter; it is right to find none there.

    Returns:
        `questions`, `correct`, `accuracy`, `interval` (Wilson), `unparsed` (outputs without a letter) and `wrong` (for each that is not
        right its `line`, `gold`, `letter`, `rule` and `words`).

    Raises:
        InputError: for lines without these fields.
    """
    problems, hits, unparsed, wrong = [], [], 0, []
    for number, record in read_jsonl(path):
        if found := _output_problems(record):
            problems += [f"{path}:{number}: {text}" for text in found]
            continue
        gold = record["gold"] if "gold" in record else _LABELS[record["label"]]
        read = explain_answer(next(record[name] for name in _OUTPUT if isinstance(record.get(name), str)), record.get("choices"))
        hits.append(read.letter == gold)
        unparsed += read.letter is None
        if read.letter != gold:
            wrong.append({"line": number, "gold": gold, "letter": read.letter, "rule": read.rule, "words": read.words})
    if problems:
        raise InputError(f"{path}: not outputs with their right letters", problems)
    return {**share_right(hits), "unparsed": unparsed, "wrong": wrong}


def _output_problems(record: object) -> list[str]:
    if not isinstance(record, dict):
        return ["an object is expected"]
    problems = []
    if not any(isinstance(record.get(name), str) for name in _OUTPUT):
        problems.append(f"{' or '.join(_OUTPUT)}: the raw output is missing or no text")
    name, allowed = ("gold", LETTERS) if "gold" in record else ("label", tuple(_LABELS))
    if name not in record:
        problems.append("gold or label: the right letter is missing")
    elif record[name] not in allowed:
        problems.append(f"{name}: {record[name]!r:.40}, allowed are {', '.join(map(str, allowed))}")
    choices = record.get("choices")
    if choices is not None and not (isinstance(choices, dict) and all(isinstance(text, str) for text in choices.values())):
        problems.append('choices: give the text of each letter, {"a": "…", …}, or leave it out')
    return problems


def _choices(evaluation: Evaluation, prediction: Prediction) -> Mapping[str, str] | None:
    """The choices as the prompt showed them; `None` where the data name none."""
    choices = evaluation.questions.get(prediction.id, {}).get("choices")
    return {letter: choices[shown] for letter, shown in zip(LETTERS, prediction.order, strict=True)} if choices else None


def _moved(model: str, stored: Prediction, letter: str | None, choices: Mapping[str, str] | None) -> dict[str, Any]:
    read = [(explain_answer(output, choices), output) for output in stored.outputs]
    return {
        "model": model,
        "id": stored.id,
        "order": stored.order,
        "gold": stored.gold,
        "old": stored.letter,
        "new": letter,
        "outputs": [{"letter": one.letter, "rule": one.rule, "words": one.words, "span": one.span, "text": text} for one, text in read],
    }


def _run_of(evaluation: Evaluation) -> Path | None:
    """The run an evaluation lies in."""
    run = evaluation.path.resolve().parent.parent
    return run if (run / "run.json").is_file() else None


def _diagnose(rescored: Rescored) -> list[dict[str, str]]:
    metrics, run = rescored.evaluation.metrics, _run_of(rescored.evaluation)
    record = json.loads((run / "run.json").read_text(encoding="utf-8")) if run else {}
    training = TrainEvidence(contaminated=metrics.get("contaminated"), **{key: record.get(key) for key in ("steps", "first_loss", "last_loss")})
    asked = {"answer": metrics["answer"], "statutes": metrics["statutes"]}
    return diagnose(rescored.after["models"], rescored.predictions, rescored.evaluation.questions, train=training, **asked)


def _describe(evaluation: Evaluation, predictions: Mapping[str, list[Prediction]]) -> dict[str, Any]:
    described = {"models": {model: describe_model(answers, seed=SEED) for model, answers in predictions.items()}}
    if not evaluation.metrics.get("comparison"):
        return described
    base, tuned = list(predictions.values())[:2]
    return described | {"comparison": compare(base, tuned, seed=SEED)}
