"""What a training leaves to read: its figures step by step and in one line."""

import csv
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.folders import write_json
from lawft_trl.training.progress_figure import draw_progress

if TYPE_CHECKING:
    from trl import SFTTrainer


def write_training_records(
    work: Path, trainer: "SFTTrainer", *, rows: int, seconds: float, resumed_from: Path | None
) -> dict[str, Any]:
    """Writes `metrics.csv` (one line per log entry), `training_progress.png` and `training_summary.json`; returns the summary's figures.

    Args:
        work: the run's folder.
        trainer: after training.
        rows: how many rows the training set had.
        seconds: how long this process trained, without loading and with the evaluations in between.
        resumed_from: the checkpoint it went on from; times and rates are of what came after it.
    """
    state, args = trainer.state, trainer.args
    before = int(resumed_from.name.rpartition("-")[2]) if resumed_from else 0
    share = (state.global_step - before) / max(1, state.global_step)
    columns = list(dict.fromkeys(["step", "epoch", *(key for entry in state.log_history for key in entry)]))
    with (work / "metrics.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=columns)
        writer.writeheader()
        writer.writerows(state.log_history)
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    summary = {
        "steps": state.global_step,
        "kept_step": state.best_global_step if args.load_best_model_at_end else state.global_step,
        "epochs": state.epoch,
        "resumed_from_step": before or None,
        "rows": rows,
        "minutes": seconds / 60,
        "rows_per_second": rows * (state.epoch or 0) * share / seconds,
        "peak_memory_gib": peak_memory_gib(),
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
    }
    write_json(work / "training_summary.json", summary)
    (work / "training_progress.png").write_bytes(draw_progress(state.log_history))
    return summary


def summary_line(summary: dict[str, Any]) -> str:
    """The figures people ask for first."""
    memory = ", ".join(f"{value:.2f} GiB {kind}" for kind, value in summary["peak_memory_gib"].items())
    return (
        f"{summary['steps']} steps in {summary['minutes']:.1f} min, {summary['rows_per_second']:.1f} rows/s, peak memory {memory}"
    )


def peak_memory_gib() -> dict[str, float]:
    """Peak memory of this process: `gpu` as the allocator counts it, and `host` (resident set), in GiB."""
    import torch

    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB on Linux, in bytes on macOS
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}
    if torch.cuda.is_available():
        peak["gpu"] = torch.cuda.max_memory_allocated() / 2**30
    return peak
