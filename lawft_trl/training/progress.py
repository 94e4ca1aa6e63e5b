"""How a training is doing, in the terminal: a live line there, and in a log file a plain line for each logged step."""

import atexit
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich import progress
from rich.console import Console
from tqdm.auto import tqdm
from transformers import TrainerCallback

from lawft_trl.training.memory import peak_memory_gib

if TYPE_CHECKING:
    from torch.utils.data import DataLoader
    from transformers import TrainerControl, TrainerState, TrainingArguments


class Progress(TrainerCallback):
    """Shows steps, time, loss, learning rate, tokens per second and peak memory; rank 0 alone.

    On a terminal the line is live and what others print stands above it. Elsewhere, and with `training.disable_tqdm`, every
    logging step is a line of its own, without control characters. An evaluation leaves a line in both.

    Tokens are those the model reads, without padding, of all processes (TRL's `num_tokens`), and per second of its steps:
    evaluations and saving do not count. Elapsed and left are of the clock, with them.
    """

    def __init__(self) -> None:
        self.bars: progress.Progress | None = None

    def on_train_begin(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Starts the clock, and the live line on a terminal."""
        self.started, self.first_step, self.first_began = time.monotonic(), state.global_step, None
        self.seconds, self.dev = 0.0, None
        self.tokens = None if state.global_step else 0.0  # of a resumed run it is not known how many came before
        console = Console()
        if not state.is_world_process_zero or not console.is_terminal or args.disable_tqdm:
            return
        columns = progress.TextColumn("{task.description}"), progress.BarColumn(bar_width=20), progress.MofNCompleteColumn()
        self.bars = progress.Progress(*columns, progress.TimeElapsedColumn(), progress.TextColumn("{task.fields[said]}"), console=console)
        self.training = self.bars.add_task("training", total=state.max_steps, completed=state.global_step, said="")
        self.bars.start()
        atexit.register(self.bars.stop)  # also where the training breaks off: it gives the cursor back

    def on_step_begin(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Starts the clock of the model's own time."""
        self.began = time.monotonic()
        self.first_began = self.first_began or self.began

    def on_step_end(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Stops it, and moves the bar."""
        self.seconds += time.monotonic() - self.began
        if self.bars:
            self.bars.update(self.training, completed=state.global_step)

    def on_prediction_step(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", eval_dataloader: "DataLoader", **kwargs: Any
    ) -> None:
        """Moves the bar of an evaluation."""
        if self.bars:
            if self.dev is None:
                self.dev = self.bars.add_task("dev rows", total=len(eval_dataloader), said="")
            self.bars.advance(self.dev)

    def on_evaluate(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Takes it away."""
        if self.bars and self.dev is not None:
            self.bars.remove_task(self.dev)
            self.dev = None

    def on_log(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", logs: Mapping[str, Any], **kwargs: Any
    ) -> None:
        """Says what was logged: of the training in the live line or as a line, of an evaluation always as a line."""
        if not state.is_world_process_zero:
            return
        if "eval_loss" in logs:
            say(f"step {state.global_step}/{state.max_steps} | {evaluation_text(logs)}")
        elif "loss" in logs:
            text = " | ".join([training_text(logs, self._tokens_per_second(logs)), self._memory()])
            if self.bars:
                self.bars.update(self.training, said=f"| {self._left(state)} left | {text}")
            else:
                elapsed = clock(time.monotonic() - self.started)
                say(f"step {state.global_step}/{state.max_steps} | {elapsed} elapsed, {self._left(state)} left | {text}")

    def on_train_end(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Leaves the live line as it stands."""
        if self.bars:
            self.bars.stop()
            self.bars = None

    def _tokens_per_second(self, logs: Mapping[str, Any]) -> float | None:
        """Since the step that was logged before; `None` where nothing can be said."""
        before, seconds = self.tokens, self.seconds
        self.tokens, self.seconds = logs.get("num_tokens"), 0.0
        return (self.tokens - before) / seconds if seconds and None not in (before, self.tokens) else None

    def _left(self, state: "TrainerState") -> str:
        """The time that is left if the other steps, and what is between them, take as long as those before."""
        done = state.global_step - self.first_step
        return clock((time.monotonic() - self.first_began) / done * (state.max_steps - state.global_step)) if done else "?"

    def _memory(self) -> str:
        peak = peak_memory_gib()
        kind = "gpu" if "gpu" in peak else "host"
        return f"peak {peak[kind]:.2f} GiB {kind}"


def say(line: str) -> None:
    """Prints a line, above the live one where there is one, and at once also where a log file is written."""
    tqdm.write(line)
    sys.stdout.flush()


def training_text(logs: Mapping[str, Any], tokens_per_second: float | None) -> str:
    """The trainer's figures of a logging step, as far as it logged them."""
    parts = [f"epoch {logs['epoch']:.2f}"] if "epoch" in logs else []
    parts.append(f"loss {logs['loss']:.4f}")
    if "learning_rate" in logs:
        parts.append(f"lr {logs['learning_rate']:.2e}")
    if tokens_per_second is not None:
        parts.append(f"{tokens_per_second:,.0f} tokens/s")
    return " | ".join(parts)


def evaluation_text(logs: Mapping[str, Any]) -> str:
    """The figures of an evaluation on the dev rows."""
    parts = [f"dev loss {logs['eval_loss']:.4f}"]
    if "eval_mean_token_accuracy" in logs:
        parts.append(f"dev tokens right {logs['eval_mean_token_accuracy']:.1%}")
    if "eval_runtime" in logs:
        parts.append(f"took {clock(logs['eval_runtime'])}")
    return " | ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as `m:ss`, or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
