"""What a training leaves to read: its figures step by step and in one line."""

import csv
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.folders import write_json

if TYPE_CHECKING:
    from transformers import TrainerState


def write_training_records(work: Path, state: "TrainerState", *, rows: int, seconds: float) -> dict[str, Any]:
    """Writes `metrics.csv` (one line per log entry) and `training_summary.json`; returns the summary's figures.

    Args:
        work: the run's folder.
        state: the trainer's state after training.
        rows: how many rows the training set had.
        seconds: how long the training took, without loading.
    """
    columns = list(dict.fromkeys(["step", "epoch", *(key for entry in state.log_history for key in entry)]))
    with (work / "metrics.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=columns)
        writer.writeheader()
        writer.writerows(state.log_history)
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    summary = {
        "steps": state.global_step,
        "epochs": state.epoch,
        "rows": rows,
        "rows_per_second": rows * (state.epoch or 0) / seconds,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
    }
    write_json(work / "training_summary.json", summary)
    return summary


def peak_memory_gib() -> dict[str, float]:
    """Peak memory of this process: `gpu` as the allocator counts it, and `host` (resident set), in GiB."""
    import torch

    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB on Linux, in bytes on macOS
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}
    if torch.cuda.is_available():
        peak["gpu"] = torch.cuda.max_memory_allocated() / 2**30
    return peak
