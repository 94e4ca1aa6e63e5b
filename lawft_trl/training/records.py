"""What a training leaves to read, current while it runs: `training_metrics.csv`, `training_progress.png`, `training_summary.json`.

docs/monitoring.md says what is in them. All three are made from the trainer's own log, which is kept in its checkpoints: of a
resumed training they tell what led to its weights, and nothing of steps that were lost and trained again.
"""

import csv
import io
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_callback import DefaultFlowCallback, ExportableState

from lawft_trl.folders import write_bytes, write_json
from lawft_trl.training.memory import memory_gib, peak_memory_gib, release_memory
from lawft_trl.training.progress_figure import STYLE, draw_progress

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from trl import SFTTrainer

History = Sequence[Mapping[str, Any]]

_SECONDS = 30  # between two pictures, and between two files where nothing is saved or evaluated
_FIRST_COLUMNS = ("step", "epoch", "loss", "learning_rate", "eval_loss", STYLE, "eval_letter_accuracy")
_ALWAYS = 4  # of them


def keep_records(trainer: "SFTTrainer", *, rows: int) -> "Records":
    """Adds to a trainer the callback that keeps its records, before those that report to trackers or stop at a save.

    Args:
        trainer: with all its other callbacks.
        rows: how many rows the training set has.
    """
    records = Records(trainer, rows=rows)
    callbacks = trainer.callback_handler.callbacks
    callbacks.insert(1 + next(at for at, each in enumerate(callbacks) if isinstance(each, DefaultFlowCallback)), records)
    return records


class Records(TrainerCallback, ExportableState):
    """Logs and releases memory, and writes the files of a run: at each save, and behind each evaluation.

    Behind an evaluation means before the next step: only then have all callbacks logged what they found. Rank 0 alone writes.

    Args:
        trainer: its trainer.
        rows: how many rows the training set has.
    """

    def __init__(self, trainer: "SFTTrainer", *, rows: int) -> None:
        self.trainer = trainer
        self.rows = rows
        self.seconds_before, self.peak_before = 0.0, {}  # of the processes whose checkpoint was resumed
        self.began = self.written = self.drawn = time.monotonic()
        self.ended: float | None = None
        self.resumed_from: int | None = None
        self.due = False

    def state(self) -> dict[str, Any]:
        """What is carried over a resume; `Trainer` writes it into `trainer_state.json`."""
        return {"args": {}, "attributes": {"seconds": self._seconds(), "peak_memory_gib": self._peak()}}

    def on_train_begin(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Starts the clock, where it had stopped in a resumed training."""
        kept = state.stateful_callbacks.setdefault(type(self).__name__, {}).get("attributes")
        if state.global_step > 0:
            self.resumed_from, self.due = state.global_step, True  # the files may tell of steps behind the checkpoint
            if kept:
                self.seconds_before, self.peak_before = kept["seconds"], kept["peak_memory_gib"]
        self.began = self.written = time.monotonic()
        self.drawn = -math.inf

    def on_step_begin(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Writes what is due, and releases memory at the steps at which the trainer empties the GPU's cache."""
        if self.due:
            self._write(state)
        if args.torch_empty_cache_steps is not None and state.global_step % args.torch_empty_cache_steps == 0:
            release_memory()

    def on_log(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", logs: dict[str, float], **kwargs: Any
    ) -> None:
        """Adds the memory to what is logged, for the callbacks behind this one and for the log."""
        if "loss" in logs or "eval_loss" in logs:
            held = memory_gib()
            logs.update(held)
            state.log_history[-1].update(held)
        self.due = self.due or any(key.startswith("eval_") for key in logs) or time.monotonic() - self.written > _SECONDS

    def on_save(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Writes the files beside the checkpoint."""
        self._write(state)

    def on_train_end(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Stops the clock."""
        self.ended = time.monotonic()

    def finish(self) -> dict[str, Any]:
        """Writes all three files a last time, by rank 0; returns the summary's figures."""
        self.drawn = -math.inf
        return self._write(self.trainer.state)

    def _write(self, state: "TrainerState") -> dict[str, Any]:
        self.due, self.written = False, time.monotonic()
        if not state.is_world_process_zero:
            return {}
        args, work = self.trainer.args, Path(self.trainer.args.output_dir)
        best = best_metric(state.log_history, args.metric_for_best_model, greater_is_better=args.greater_is_better)
        summary = {
            "steps": state.global_step,
            "kept_step": _kept_step(state, args),
            "epochs": state.epoch,
            "resumed_from_step": self.resumed_from,
            "rows": self.rows,
            "minutes": self._seconds() / 60,
            "rows_per_second": self.rows * (state.epoch or 0) / self._seconds(),
            "peak_memory_gib": self._peak(),
            **_losses(state.log_history),
            **best,
        }
        write_bytes(work / "training_metrics.csv", metrics_csv(state.log_history).encode())
        write_json(work / "training_summary.json", summary)
        if time.monotonic() - self.drawn > _SECONDS:
            picture = draw_progress(state.log_history, metric=best["best_metric_name"], best_step=best["best_metric_step"])
            write_bytes(work / "training_progress.png", picture)
            self.drawn = time.monotonic()
        return summary

    def _seconds(self) -> float:
        """Of training, with its evaluations and saves, but not what was lost when it was interrupted."""
        return self.seconds_before + (self.ended or time.monotonic()) - self.began

    def _peak(self) -> dict[str, float]:
        return {kind: max(size, self.peak_before.get(kind, 0.0)) for kind, size in peak_memory_gib().items()}


def metrics_csv(log_history: History) -> str:
    """The log as CSV: one line for each step, whatever was logged at it; columns in the order of their first appearance.

    Args:
        log_history: the trainer's (`TrainerState.log_history`), in which an evaluation, and each callback that reports one,
            has an entry of its own.
    """
    lines: dict[int, dict[str, Any]] = {}
    for entry in log_history:
        lines.setdefault(entry["step"], {}).update(entry)
    logged = dict.fromkeys(key for entry in log_history for key in entry)
    first = [key for place, key in enumerate(_FIRST_COLUMNS) if place < _ALWAYS or key in logged]
    memory = [key for key in logged if key.startswith("memory_")]
    columns = [*first, *(key for key in logged if key not in first and key not in memory), *memory]
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, fieldnames=columns)
    writer.writeheader()
    writer.writerows(lines.values())
    return stream.getvalue()


def best_metric(log_history: History, named: str | None, *, greater_is_better: bool | None) -> dict[str, Any]:
    """The metric that is followed, its best value and the first step that had it; step 0 is before the training.

    Args:
        log_history: the trainer's.
        named: `metric_for_best_model`. Where there is none, or it was never logged: the letters' accuracy, else the style,
            else the loss on the dev rows.
        greater_is_better: of the named metric.

    Returns:
        `best_metric_name` as in the log, `best_metric`, `best_metric_step`; each `None` where nothing was evaluated.
    """
    candidates = [f"eval_{named.removeprefix('eval_')}"] if named else []
    for name in [*candidates, "eval_letter_accuracy", STYLE, "eval_loss"]:
        values = [(entry[name], entry["step"]) for entry in log_history if name in entry and entry["step"] > 0 and math.isfinite(entry[name])]
        if values:
            greater = greater_is_better if name in candidates and greater_is_better is not None else not name.endswith("loss")
            value, step = (max if greater else min)(values, key=lambda found: found[0])
            return {"best_metric_name": name, "best_metric": value, "best_metric_step": step}
    return dict.fromkeys(("best_metric_name", "best_metric", "best_metric_step"))


def _kept_step(state: "TrainerState", args: "TrainingArguments") -> int:
    """Whose weights are the run's: the best checkpoint's; where no checkpoint was saved at the best step, the last one's."""
    best = state.best_model_checkpoint if args.load_best_model_at_end else None
    return int(best.rpartition("-")[2]) if best else state.global_step


def _losses(log_history: History) -> dict[str, float | None]:
    """Of the training, as logged; `None` where no step was."""
    losses = [entry["loss"] for entry in log_history if "loss" in entry]
    return {
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "best_loss": min(losses, default=None),
    }


def kept_line(summary: Mapping[str, Any]) -> str:
    """Which step's weights a training that keeps its best ones ended with: the terminal's last figures are of its last step."""
    step, name, value = summary["kept_step"], summary["best_metric_name"], summary["best_metric"]
    best = summary["best_metric_step"]
    why = f"{name.removeprefix('eval_')} {value:.3f}" if step == best else f"no checkpoint of step {best}, the best, was left"
    return f"Kept:    step {step} ({why})"


def summary_line(summary: Mapping[str, Any]) -> str:
    """The figures people ask for first."""
    memory = ", ".join(f"{value:.2f} GiB {kind}" for kind, value in summary["peak_memory_gib"].items())
    return (
        f"{summary['steps']} steps in {summary['minutes']:.1f} min, {summary['rows_per_second']:.1f} rows/s, peak memory {memory}"
    )
