"""What a training does when it is told to stop, diverges, or finds the disk full; and what it needs to go on exactly.

docs/survival.md says what the user sees. The trainer is TRL's own: `prepare_survival` gives the built one a callback, and `survive`
is the block in which it trains.

transformers has `enable_jit_checkpoint`, which is not used: it hears SIGTERM only, saves from within whichever process heard
it (several would save at different steps), also between a gradient and its step, ends the training as if it were
finished (with `save_total_limit: 1` and a better older checkpoint the new one is then deleted), and exits with 0.
"""

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list
from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import DefaultFlowCallback, ExportableState

from lawft_trl.errors import InputError
from lawft_trl.recipe import Recipe
from lawft_trl.training.checkpoints import chosen_checkpoint, drop_broken, drop_later, forget_lost_best, last_checkpoint
from lawft_trl.training.disk_space import is_out_of_space, refuse_small_disk
from lawft_trl.training.divergence import Batch, are_weights_finite, diverged, diverged_loss
from lawft_trl.training.plan import answering_out_of_memory
from lawft_trl.training.stop_signals import Heard, hearing_signals, resume_command
from lawft_trl.training.supervision import EncodedRow

if TYPE_CHECKING:
    from torch import nn
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from trl import SFTTrainer

_KEPT_OF_A_BATCH = ("input_ids", "labels", "attention_mask", "position_ids", "branch_ids")


def prepare_survival(trainer: "SFTTrainer", recipe: Recipe, encoded: Sequence[EncodedRow]) -> None:
    """Makes a built trainer ready for `survive`, after all else that changes its rows and callbacks.

    Raises:
        InputError: when what it will write does not fit the disk.
    """
    work = Path(trainer.args.output_dir)
    refusal: list[InputError | None] = [None]
    if trainer.accelerator.is_main_process:
        try:
            refuse_small_disk(trainer, recipe, work)
        except InputError as error:
            with contextlib.suppress(OSError):
                work.rmdir()  # the trainer has made it; it goes if nothing is in it
            refusal = [error]
    if refusal := broadcast_object_list(refusal)[0]:
        raise refusal
    # It would put the mean of earlier losses in the place of one that is not finite, and reads each micro-batch's loss for it
    trainer.args.logging_nan_inf_filter = False
    callback = Survival(trainer, encoded)
    trainer.model.register_forward_pre_hook(callback.keep_batch, with_kwargs=True, prepend=True)
    # Behind the callback that decides what is due at a step, and before those that report, which are to see its figures
    callbacks = trainer.callback_handler.callbacks
    callbacks.insert(1 + next(at for at, each in enumerate(callbacks) if isinstance(each, DefaultFlowCallback)), callback)


@contextlib.contextmanager
def survive(trainer: "SFTTrainer", recipe: Recipe, *, resume: str | None) -> Iterator[Path | None]:
    """The block in which a prepared trainer trains and its adapter is saved.

    Args:
        trainer: see `prepare_survival`.
        recipe: the resolved recipe.
        resume: go on from this checkpoint, `LATEST` for the last whole one; those behind it, and those not whole, are removed.

    Yields:
        The checkpoint to go on from; `None` to begin anew.

    Raises:
        SystemExit: 130 or 143, when a signal was heard; a checkpoint was saved, and the command that goes on was printed.
        InputError: when the GPU ran out of memory, the disk is full, or the training has diverged.
    """
    callback = next(each for each in trainer.callback_handler.callbacks if isinstance(each, Survival))
    work, state = Path(trainer.args.output_dir), trainer.accelerator
    checkpoint = chosen_checkpoint(work, resume) if resume else None
    state.wait_for_everyone()
    if resume and state.is_main_process:
        drop_broken(work, state.print)
        if checkpoint:
            drop_later(work, checkpoint, state.print)
        state.print(f"Resuming from {checkpoint}" if checkpoint else f"{work}: no checkpoint to go on from; the training begins anew")
    if checkpoint and _is_complete(checkpoint):
        _train_no_more(trainer)
    command = resume_command()  # while the launcher is alive
    with hearing_signals(may_wait=lambda: callback.stepped) as callback.heard:
        try:
            with answering_out_of_memory(recipe, processes=state.num_processes):
                yield checkpoint
        except _Saved:
            state.wait_for_everyone()  # each has a file of its own in the checkpoint
            state.print(f"\nSaved {last_checkpoint(work)}. To go on:\n\n  {command}\n", flush=True)
            state.wait_for_everyone()  # a launcher ends all processes as soon as one has ended
            raise SystemExit(callback.heard_by_all.exit_code) from None
        except Exception as error:
            state.print(file=sys.stderr)  # behind the progress bar
            found = _disk_full(error, work, command, state.is_main_process) if is_out_of_space(error) else error
            if isinstance(found, InputError) and not state.is_local_main_process and not callback.diverged:
                sys.stderr.write(f"rank {state.process_index}: {found}\n")  # what only one process meets no other one says
            if found is not error:
                raise found from error
            if callback.heard.number and state.num_processes > 1 and not isinstance(error, InputError):
                # A launcher ends the others when one has died; what they then miss is not the error to be shown
                sys.stderr.write(f"rank {state.process_index} ends too: {type(error).__name__}: {f'{error}'.partition(chr(10))[0]}\n")
                raise SystemExit(callback.heard.exit_code) from error
            raise


def _is_complete(checkpoint: Path) -> bool:
    """Whether the training had come to its end, by its last step or by early stopping, when the checkpoint was written."""
    callbacks = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["stateful_callbacks"]
    return callbacks["TrainerControl"]["args"]["should_training_stop"]


def _train_no_more(trainer: "SFTTrainer") -> None:
    """Lets the trainer load a checkpoint and finish; transformers 5.23 would do another step first, beyond the last one."""
    begin = trainer._init_training_state

    def behind_the_last_epoch(max_steps: int, updates_per_epoch: int, epochs: int, *others: Any) -> tuple[int, int]:
        begin(max_steps, updates_per_epoch, epochs, *others)
        return epochs, 0

    trainer._init_training_state = behind_the_last_epoch


class _Saved(Exception):
    """The checkpoint that was asked for stands."""


class Survival(TrainerCallback, ExportableState):
    """Stops when told to, or when the loss is no longer finite, and keeps what `trainer_state.json` lacks.

    All processes do the same at the same step: before each optimizer step they tell each other what they have heard and what
    their loss is. That is one exchange of two numbers, where TRL exchanges four after every micro-batch; and one reading of the
    loss, which waits for the device, where transformers' filter, which is switched off for it, reads each micro-batch's.

    Args:
        trainer: its trainer.
        encoded: the rows it trains.
    """

    def __init__(self, trainer: "SFTTrainer", encoded: Sequence[EncodedRow]) -> None:
        self.trainer = trainer
        self.encoded = encoded
        self.heard = Heard()
        self.heard_by_all = Heard()
        self.stepped = False  # whether this process has done a step that would be lost
        self.saving = False
        self.diverged = False  # which all processes find together
        self.batches: list[Batch] = []
        self.losses: list[float] = []  # the sum since the last log entry, of each process

    # What is carried over a resume

    def state(self) -> dict[str, Any]:
        """What the trainer has summed up since its last log entry; `Trainer` writes it into `trainer_state.json`."""
        trainer = self.trainer
        if not hasattr(trainer, "_total_loss_scalar"):  # not training yet
            return {"args": {}, "attributes": {}}
        logged = trainer._globalstep_last_logged == trainer.state.global_step
        sums = {
            "losses": [0.0] * len(self.losses) if logged else self.losses,
            "total_loss": trainer._total_loss_scalar,
            "last_logged": trainer._globalstep_last_logged,
            "metrics": dict(trainer._metrics["train"]),
            "tokens": trainer._total_train_tokens,
            "in_training_mode": trainer.model.training,  # of it TRL makes out whose means belong to a log entry
        }
        return {"args": {}, "attributes": sums}

    def on_train_begin(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Restores what `state` has kept, and the early stopping's count."""
        kept = state.stateful_callbacks
        sums = kept.setdefault(type(self).__name__, {}).get("attributes")
        if state.global_step > 0 and sums:
            trainer = self.trainer
            trainer._tr_loss += sums["losses"][trainer.accelerator.process_index]
            trainer._total_loss_scalar, trainer._globalstep_last_logged = sums["total_loss"], sums["last_logged"]
            trainer._metrics["train"].update(sums["metrics"])
            trainer._total_train_tokens = sums["tokens"]
            trainer.model.train(sums["in_training_mode"])
        if state.global_step > 0:
            for callback in self._early_stopping():
                callback.early_stopping_patience_counter = kept[type(callback).__name__]["attributes"]["early_stopping_patience_counter"]

    def _early_stopping(self) -> list[EarlyStoppingCallback]:
        return [callback for callback in self.trainer.callback_handler.callbacks if isinstance(callback, EarlyStoppingCallback)]

    def on_log(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", logs: dict[str, float], **kwargs: Any
    ) -> None:
        """`train_loss` is that of all steps, not of those since a resume."""
        if "train_loss" in logs:
            logs["train_loss"] = state.log_history[-1]["train_loss"] = self.trainer._total_loss_scalar / max(1, state.global_step)

    # What happens at a step

    def keep_batch(self, model: "nn.Module", args: tuple, kwargs: dict[str, Any]) -> None:
        """Forward pre-hook: keeps the tokens of a step's batches, to name their rows."""
        if model.training and torch.is_grad_enabled():
            self.batches.append({name: kwargs[name] for name in _KEPT_OF_A_BATCH if kwargs.get(name) is not None})

    def on_step_begin(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Forgets the batches of the step before."""
        self.batches.clear()

    def on_pre_optimizer_step(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Exchanges signals and losses; the weights are still those of the step before."""
        loss = self.trainer._tr_loss
        told = torch.stack([loss, torch.full_like(loss, self.heard.number)])[None]
        told = self.trainer.accelerator.gather(told) if self.trainer.accelerator.num_processes > 1 else told
        self.losses, numbers = map(list, zip(*told.tolist(), strict=True))
        if not all(map(math.isfinite, self.losses)):
            self.diverged = True
            raise diverged_loss(self.trainer, self.encoded, self.batches, state.global_step + 1)
        self.heard_by_all.number = self.heard_by_all.number or int(max(numbers))

    def on_step_end(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Has a checkpoint saved when a signal was heard; at the end of an epoch only behind what is due there."""
        self.stepped = True
        epoch_ends = state.epoch == int(state.epoch)
        by_metric = args.save_strategy == "best" and control.should_evaluate  # an evaluation will decide on saving
        self._save_if_told(control, possible=not epoch_ends and not by_metric)
        self._refuse_broken_weights(state, control.should_save)

    def on_epoch_end(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """As `on_step_end`; and the last time, before the best checkpoint is loaded, to find that it was deleted."""
        forget_lost_best(state, self.trainer.accelerator.print, is_kept=args.load_best_model_at_end)
        self._save_if_told(control, possible=not (args.save_strategy == "best" and control.should_evaluate))
        self._refuse_broken_weights(state, control.should_save)

    def _save_if_told(self, control: "TrainerControl", *, possible: bool) -> None:
        if self.heard_by_all.number and possible and not control.should_training_stop:
            self.saving = control.should_save = True

    def on_save(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """Leaves the training once the checkpoint stands, unless it has come to its end."""
        if self.saving and not control.should_training_stop:
            raise _Saved

    def on_train_end(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any) -> None:
        """The adapter that is about to be saved is sound."""
        self._refuse_broken_weights(state, True)

    def _refuse_broken_weights(self, state: "TrainerState", about_to_save: bool) -> None:
        """A gradient that is not finite under a finite loss shows in the weights, at the latest before they are saved."""
        if about_to_save and not are_weights_finite(self.trainer):
            self.diverged = True
            raise diverged(self.trainer, f"the weights were no longer finite after step {state.global_step}, and were not saved")


def _disk_full(error: BaseException, work: Path, command: str, is_main_process: bool) -> InputError:
    """Removes what of a checkpoint was written and says what is left."""
    said = f"what the write said: {str(error).splitlines()[0]:.200}"
    if not (work / "run.json").is_file():  # it has its own name already
        target = work.with_name(work.name.removesuffix(".unfinished"))
        return InputError(f"{work.resolve().parent}: the disk, or a quota on it, is full; the run itself is finished: {target}", [said])
    if is_main_process:
        drop_broken(work, lambda text: None)
    last = last_checkpoint(work)
    return InputError(
        f"{work.resolve().parent}: the disk, or a quota on it, is full; " + ("a checkpoint that was being saved was removed again" if is_main_process else "--resume removes a checkpoint that was being saved"),
        [
            f"the last good checkpoint is {last}" if last else "there is no checkpoint from before",
            f"make room, and go on: {command}" if last else "make room, and start again with --force",
            said,
        ],
    )
