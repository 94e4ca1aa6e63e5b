"""What a training prints, as events: its steps with their figures, and a few of its sentences."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_STEP = re.compile(r"step (\d+)/(\d+) \| (.*)")
_TRAINED = re.compile(r"\bloss (\S+)")
_RATE = re.compile(r"\blr (\S+)")
_DEV = re.compile(r"^dev loss (\S+)(?: \| dev tokens right ([\d.]+)%)?")
_TOLD = ("Placement: ", "Trained: ", "Resuming from ")  # sentences that quote no row
_LINES = 30  # of a failed training that are told
_END = 64 * 1024  # bytes of its log that are looked at


class LogReader:
    """Reads a log that is being written, from its present end.

    Args:
        path: the log; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.began = self.at = path.stat().st_size if path.exists() else 0

    def news(self) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """`(message, figures)` of every whole line since the last call that tells something."""
        with self.path.open("rb") as log:
            log.seek(self.at)
            whole, newline, _ = log.read().rpartition(b"\n")
        self.at += len(whole) + len(newline)
        for line in whole.decode("utf-8", errors="replace").splitlines():
            if (event := as_event(line)) is not None:
                yield event

    def text(self) -> str:
        """The end of what was written since the beginning."""
        with self.path.open("rb") as log:
            log.seek(max(self.began, self.path.stat().st_size - _END))
            return log.read().decode("utf-8", errors="replace")


def as_event(line: str) -> tuple[str, dict[str, Any] | None] | None:
    """A line of the training as message and figures; `None` for one that says nothing to clients."""
    if line.startswith(_TOLD):
        return line, None
    step = _STEP.match(line)
    if not step:
        return None
    figures: dict[str, Any] = {"step": int(step[1]), "total_steps": int(step[2])}
    if dev := _DEV.match(step[3]):
        figures["valid_loss"] = float(dev[1])
        if dev[2]:
            figures["valid_mean_token_accuracy"] = round(float(dev[2]) / 100, 6)
        return f"Step {step[1]}/{step[2]}: validation loss={dev[1]}", figures
    if not (loss := _TRAINED.search(step[3])):
        return None
    figures["train_loss"] = float(loss[1])
    if rate := _RATE.search(step[3]):
        figures["learning_rate"] = float(rate[1])
    return f"Step {step[1]}/{step[2]}: training loss={loss[1]}", figures


def failure(text: str) -> str:
    """Why a training or a validation ended, out of what it printed: its error, or its last lines."""
    lines = [line for line in text.replace("\r", "\n").split("\n") if line.strip() and not _STEP.match(line)]
    if "Traceback (most recent call last):" in lines:
        return next((line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit)\b", line)), lines[-1])
    return "\n".join(lines[-_LINES:]) or "the process ended without a word"
