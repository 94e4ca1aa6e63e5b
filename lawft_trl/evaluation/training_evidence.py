"""What a run's training says about an evaluation of it: its rows, a sample of its questions, its steps and losses."""

import random
from pathlib import Path

from lawft_trl.data.rows import Row, read_rows
from lawft_trl.evaluation.diagnosis import TrainEvidence
from lawft_trl.evaluation.metrics import Prediction, content_answers, content_gold, share_right
from lawft_trl.run_dir import FinishedRun
from lawft_trl.text_files import file_sha256

_SEED = 0  # of the sample
MOST_CHECKED = 100  # training questions that are asked again


def training_rows(run: FinishedRun, role: str = "train") -> tuple[list[Row], Path | None]:
    """The rows a run was trained on, or watched by (`"dev"`); or the first of their files that is gone or has changed since."""
    rows = []
    for entry in run.record["identity"]["data"].get(role, []):
        file = Path(entry["file"])
        if not file.is_file() or file_sha256(file) != entry["sha256"]:
            return [], file
        rows += read_rows(file, system=run.recipe.pattern.system)
    return rows, None


def training_questions(run: FinishedRun, answer: str, most: int) -> list[Row]:
    """A seeded sample of the questions a run was trained on, to be asked as the held-out ones are.

    Args:
        run: a finished run.
        answer: the form of answer that is asked for; rows of another form are left out.
        most: how many questions at most.

    Returns:
        One row per question, fewer where there are fewer; `[]` where the rows are not there unchanged.
    """
    first: dict[str, Row] = {}
    for row in training_rows(run)[0]:
        if row.gold is not None and row.meta.get("mode") in (None, answer):
            first.setdefault(row.id, row)
    return random.Random(_SEED).sample(list(first.values()), min(most, len(first)))


def training_evidence(run: FinishedRun, contaminated: str | None, checked: list[Prediction]) -> TrainEvidence:
    """What `diagnose` is told of a run's training.

    Args:
        run: a finished run.
        contaminated: the sentence of a report whose questions touch the training.
        checked: the tuned model's predictions on `training_questions`; `[]` where none were asked.
    """
    answers, gold = content_answers(checked), content_gold(checked)
    check = share_right([answers[question] == gold[question] for question in gold]) if gold else None
    record = run.record
    return TrainEvidence(
        contaminated=contaminated,
        steps=record.get("kept_step") or record.get("steps"),
        first_loss=record.get("first_loss"),
        last_loss=record.get("last_loss"),
        check=check,
    )
