"""The longest batch before the first step: a GPU that has too little memory says so in the first minute.

Rows come in a random order, so the batch that needs most may come after an hour. Here it is computed once, forward and
backward, and its gradients are thrown away. Random generators, weights and figures stay as they were: the training that
follows is the same to the last bit.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from accelerate.data_loader import BatchSamplerShard
from transformers import TrainerCallback

from lawft_trl.training.estimate import optimizer_bytes
from lawft_trl.training.memory import peak_memory_gib
from lawft_trl.training.step_batches import StepBatches, row_lengths

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from trl import SFTTrainer


def try_longest_batch_first(trainer: "SFTTrainer") -> None:
    """Has a built trainer compute its longest batch before the first step, where memory can run out.

    Not on a CPU, which takes what the machine has and for which it is only slow; nor where FSDP or DeepSpeed splits the model,
    whose backward pass is theirs.
    """
    if trainer.args.device.type != "cpu" and not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        trainer.add_callback(LongestBatchFirst(trainer))


class LongestBatchFirst(TrainerCallback):
    """Computes the longest batch when the training begins, and prints its size and the peak memory.

    Of several processes each computes the same batch, and no gradient is sent.

    Args:
        trainer: it must not split the model over processes.
    """

    def __init__(self, trainer: "SFTTrainer") -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", train_dataloader: "DataLoader", **kwargs: Any
    ) -> None:
        """Computes and prints.

        Raises:
            torch.OutOfMemoryError: when the device cannot hold it.
        """
        rows, tokens = compute_longest_batch(self.trainer, train_dataloader)
        peak = ", ".join(f"{size:.2f} GiB {kind}" for kind, size in peak_memory_gib().items())
        self.trainer.accelerator.print(
            f"Longest batch: {rows} × {tokens:,} tokens, computed once before the first step; peak memory so far {peak}", flush=True
        )


def compute_longest_batch(trainer: "SFTTrainer", loader: "DataLoader") -> tuple[int, int]:
    """One forward and backward pass over the longest batch, as in a step that is not the first.

    What a later step has in memory beside the pass is there, too: gradients of the batches before it, where several are
    accumulated, and as many bytes as the optimizer's states will take.

    Args:
        trainer: prepared for training.
        loader: its training batches.

    Returns:
        Rows (or items of several rows) of the batch, and tokens of each, padding included.
    """
    args, device = trainer.args, trainer.args.device
    batch = trainer.data_collator([trainer.train_dataset[index] for index in _longest(trainer, loader)])
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    states = 0 if trainer.optimizer.state else _state_bytes(trainer, trained)
    with _without_trace(trainer), trainer.accelerator.no_sync(trainer.model_wrapped):
        held = torch.empty(states, dtype=torch.uint8, device=device)
        if args.gradient_accumulation_steps > 1:
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
        trainer.current_gradient_accumulation_steps = 1  # what the loss is divided by; the trainer sets it for every step
        trainer.training_step(trainer.model_wrapped, dict(batch))
        del held
    return tuple(batch["input_ids"].shape)


def _longest(trainer: "SFTTrainer", loader: "DataLoader") -> list[int]:
    """The rows of the largest batch: one that comes in the first epoch, or the longest rows together."""
    shard = loader.batch_sampler
    if isinstance(shard, BatchSamplerShard) and isinstance(shard.batch_sampler, StepBatches):
        return shard.batch_sampler.largest()
    lengths = row_lengths(trainer)
    return sorted(range(len(lengths)), key=lambda row: -lengths[row])[: trainer._train_batch_size]


def _state_bytes(trainer: "SFTTrainer", trained: "list[nn.Parameter]") -> int:
    """Bytes that the optimizer's first step will take for good; none where they may leave the device."""
    name = str(getattr(trainer.args.optim, "value", trainer.args.optim))
    if name.startswith("paged"):
        return 0
    return optimizer_bytes(name, [parameter.numel() for parameter in trained], max(parameter.element_size() for parameter in trained))


@contextmanager
def _without_trace(trainer: "SFTTrainer") -> Iterator[None]:
    """Leaves gradients, random generators, mode and TRL's running figures as they were before the block."""
    model, device = trainer.model_wrapped, trainer.args.device
    was_training = model.training
    figures = copy.deepcopy(trainer._metrics), trainer._total_train_tokens
    devices = [device] if device.type != "cpu" else []
    try:
        with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
            yield
    finally:
        model.zero_grad()
        model.train(was_training)
        trainer._metrics, trainer._total_train_tokens = figures
