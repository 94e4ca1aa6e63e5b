"""An evaluation on disk: the figures, every prediction, what was asked, and the reports made from them."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawft_trl.data.questions import LETTERS
from lawft_trl.data.rows import Row
from lawft_trl.errors import InputError
from lawft_trl.evaluation.asking import Asked
from lawft_trl.evaluation.html_report import render_html
from lawft_trl.evaluation.metrics import Prediction
from lawft_trl.evaluation.report import render_report
from lawft_trl.folders import whole_folder, write_json
from lawft_trl.text_files import read_jsonl


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """An evaluation folder.

    Attributes:
        path: the folder.
        metrics: `metrics.json`.
        predictions: model -> its predictions, in the order they were asked.
        questions: id -> what `describe_question` keeps of it.
    """

    path: Path
    metrics: dict[str, Any]
    predictions: dict[str, list[Prediction]]
    questions: dict[str, dict[str, Any]]


def describe_questions(asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """What the reports say of every question that was asked, as it was asked."""
    return [describe_question(row) for row in {item.row.id: item.row for item in asked}.values()]


def describe_question(row: Row) -> dict[str, Any]:
    """What the reports say of a question, apart from its statutes' text."""
    meta = row.meta
    return {
        "id": row.id,
        "group": str(meta.get("group") or row.id),
        "law": str(meta.get("law") or ""),
        "question": str(meta.get("question") or row.prompt[-1]["content"]),
        "choices": meta.get("choices"),
        "answer": row.gold,
        "known_issue": meta.get("known_issue") is True,
        "statutes": len(meta.get("statutes") or []),
        "gold_shown": meta.get("gold_shown"),
        "source": row.source,
    }


def write_evaluation(
    out: Path,
    metrics: Mapping[str, Any],
    predictions: Mapping[str, Sequence[Prediction]],
    questions: Sequence[Mapping[str, Any]],
    *,
    force: bool = False,
    rename: str = "--name",
) -> None:
    """Writes `metrics.json`, `predictions.jsonl`, `questions.jsonl`, `report.md` and `report.html`; all of them or none.

    Args:
        out: the folder to make.
        metrics: the figures, as `evaluate_run` returns them.
        predictions: model -> its predictions.
        questions: what `describe_question` made of the rows.
        force: replace an existing evaluation.
        rename: what the user sets to give another name.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(out, force=force, mark="metrics.json", rename=rename) as folder:
        lines = [{"model": model, **answer.to_record()} for model, answers in predictions.items() for answer in answers]
        _write_jsonl(folder / "predictions.jsonl", lines)
        _write_jsonl(folder / "questions.jsonl", questions)
        write_json(folder / "metrics.json", metrics)
        by_id = {question["id"]: question for question in questions}
        (folder / "report.md").write_text(render_report(metrics), encoding="utf-8")
        (folder / "report.html").write_text(render_html(metrics, predictions, by_id), encoding="utf-8")


def _write_jsonl(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def find_evaluation(path: Path) -> Path:
    """The evaluation folder that `path` names: itself, or the only one of a run.

    Raises:
        InputError: when there is none, or several.
    """
    if (path / "metrics.json").is_file():
        return path
    found = sorted(file.parent for file in path.glob("eval/*/metrics.json") if not file.parent.name.startswith("."))  # half-written ones do
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{path}: {len(found)} evaluations are there; name one", map(str, found))
    if (path / "run.json").is_file():
        raise InputError(f"{path}: this run has not been evaluated; run `lawft eval {path}`")
    raise InputError(f"{path}: no evaluation here (no metrics.json) and no run (no run.json)")


def _require_whole(metrics: Any, predictions: Mapping[str, Sequence[Prediction]]) -> None:
    if not isinstance(metrics, dict) or set(predictions) != set(metrics["models"]):
        raise ValueError("metrics.json and predictions.jsonl are not about the same models")
    if len({frozenset((p.id, p.order, p.gold) for p in answers) for answers in predictions.values()}) > 1:
        raise ValueError("the models were not asked the same: predictions.jsonl is not whole")
    for prediction in itertools.chain.from_iterable(predictions.values()):
        if sorted(prediction.order) != list(LETTERS) or prediction.gold not in LETTERS:
            raise ValueError(f"{prediction.id}: order {prediction.order!r}, gold {prediction.gold!r}")


def read_evaluation(path: Path) -> Evaluation:
    """Reads the evaluation that `path` names, see `find_evaluation`.

    Raises:
        InputError: when there is none or its files are damaged.
    """
    folder = find_evaluation(path)
    predictions: dict[str, list[Prediction]] = {}
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        if metrics.get("answer") == "dialogue":
            raise InputError(f"{folder}: an evaluation of dialogues, whose replies have a style and no letters; lawft compare pairs two of these")
        for _, line in read_jsonl(folder / "predictions.jsonl"):
            predictions.setdefault(line.pop("model"), []).append(Prediction.from_record(line))
        questions = {line["id"]: line for _, line in read_jsonl(folder / "questions.jsonl")}
        _require_whole(metrics, predictions)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: not an evaluation of this version: {error!r:.100}; evaluate again with --force") from error
    return Evaluation(path=folder, metrics=metrics, predictions=predictions, questions=questions)
