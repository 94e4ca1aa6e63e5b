"""What a training leaves, as the API shows it: the model's name, checkpoints with their figures, the results file."""

import csv
import io
import math
from pathlib import Path
from typing import Any

from lawft_trl.training.checkpoints import fault

ORGANIZATION = "lawft"
_COLUMNS = {
    "loss": "train_loss",
    "mean_token_accuracy": "train_mean_token_accuracy",
    "eval_loss": "valid_loss",
    "eval_mean_token_accuracy": "valid_mean_token_accuracy",
}


def tuned_name(base: str, suffix: str | None, job: str) -> str:
    """The tuned model's name, `ft:BASE:lawft:SUFFIX:ID`."""
    return f"ft:{base}:{ORGANIZATION}:{suffix or ''}:{job.removeprefix('ftjob-')[:8]}"


def step_figures(metrics: Path) -> dict[int, dict[str, float]]:
    """Step -> figures under OpenAI's names, of a `training_metrics.csv`; those that are no numbers are left out."""
    if not metrics.is_file():
        return {}
    with metrics.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    return {
        int(line["step"]): {name: float(line[column]) for column, name in _COLUMNS.items() if line.get(column) and math.isfinite(float(line[column]))}
        for line in lines
    }


def results_csv(metrics: Path) -> tuple[bytes, int]:
    """The results file of a finished job, and how many tokens were trained on."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, fieldnames=["step", *_COLUMNS.values()])
    writer.writeheader()
    writer.writerows({"step": step, **figures} for step, figures in step_figures(metrics).items())
    with metrics.open(encoding="utf-8", newline="") as lines:
        tokens = [float(line["num_tokens"]) for line in csv.DictReader(lines) if line.get("num_tokens")]
    return stream.getvalue().encode(), int(max(tokens, default=0))


def saved_steps(run: Path, processes: int) -> dict[int, Path]:
    """Step -> folder of the checkpoints of a finished run that are whole."""
    named = [path for path in run.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return {int(path.name.removeprefix("checkpoint-")): path for path in named if fault(path, processes) is None}


def checkpoints(job: dict[str, Any], suffix: str | None, run: Path, processes: int) -> list[dict[str, Any]]:
    """A job's checkpoints, newest first, each with the figures of its step; none before it has succeeded, as none can be asked."""
    if job["status"] != "succeeded":
        return []
    saved = saved_steps(run, processes)
    figures = step_figures(run / "training_metrics.csv")
    return [
        {
            "id": f"ftckpt-{job['id'].removeprefix('ftjob-')}-{step}",
            "object": "fine_tuning.job.checkpoint",
            "created_at": int((path / "trainer_state.json").stat().st_mtime),
            "fine_tuned_model_checkpoint": f"{tuned_name(job['model'], suffix, job['id'])}:ckpt-step-{step}",
            "fine_tuning_job_id": job["id"],
            "metrics": {"step": step, **figures.get(step, {})},
            "step_number": step,
        }
        for step, path in sorted(saved.items(), reverse=True)
    ]
