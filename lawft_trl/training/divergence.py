"""What a training that has diverged is answered with: which rows it was, and what to try."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate.utils import gather_object

from lawft_trl.errors import InputError
from lawft_trl.training.checkpoints import last_checkpoint
from lawft_trl.training.prefix_items import TokenRow, unpack
from lawft_trl.training.shared_prefix import label_logprobs
from lawft_trl.training.supervision import EncodedRow

if TYPE_CHECKING:
    from trl import SFTTrainer

Batch = Mapping[str, torch.Tensor]  # what a model is given, without what is not needed to know its rows

_SHOWN = 20  # rows


def are_weights_finite(trainer: "SFTTrainer") -> bool:
    """Whether all trained weights are, in all processes, which must ask at the same time."""
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    pieces = [weight.to_local() if hasattr(weight, "to_local") else weight for weight in weights]  # FSDP has slices
    devices: dict[torch.device, list[torch.Tensor]] = {}  # a model may be split over several, whose weights are read at once
    for piece in pieces:
        if piece.device.type != "meta":  # offloaded, and brought back only to be used
            devices.setdefault(piece.device, []).append(piece.detach().isfinite().all())
    mine = all(torch.stack(found).all().item() for found in devices.values())
    return all(gather_object([mine])) if trainer.accelerator.num_processes > 1 else mine


def diverged_loss(trainer: "SFTTrainer", encoded: Sequence[EncodedRow], batches: Sequence[Batch], step: int) -> InputError:
    """What is said of a loss that is not finite. All processes must ask at the same time.

    Args:
        trainer: before its optimizer's step.
        encoded: the rows it trains.
        batches: what this process has read for the step: `input_ids`, `labels`, and `attention_mask` or, where prefixes are
            shared, `position_ids` and `branch_ids`; all (batch, length).
        step: its number.
    """
    if not are_weights_finite(trainer):
        return diverged(trainer, f"step {step}: the loss is not finite, because weights already were not")
    rows = _rows_of_step(trainer, encoded, batches)
    rows = gather_object(rows) if trainer.accelerator.num_processes > 1 else rows
    bad = [text for text, finite in rows if finite is False]
    if len(bad) == len(rows):
        return diverged(trainer, f"step {step}: the loss of each of its {len(rows)} rows is not finite, so it is hardly one row's fault")
    if bad:
        found = [f"{text}: its loss alone is not finite" for text in bad]
        return diverged(trainer, f"step {step}: the loss of {len(bad)} of its {len(rows)} rows is not finite", found)
    asked = "not asked one by one" if None in [finite for _, finite in rows] else "alone the loss of each is finite"
    return diverged(trainer, f"step {step}: the loss is not finite", [f"{text}, of this step ({asked})" for text, _ in rows])


def diverged(trainer: "SFTTrainer", heading: str, found: Sequence[str] = ()) -> InputError:
    """The error: what was found, what to try, and what is left.

    Args:
        trainer: its trainer.
        heading: when it was, and what.
        found: lines on rows.
    """
    args, last = trainer.args, last_checkpoint(Path(trainer.args.output_dir))
    return InputError(
        f"the training has diverged: {heading}",
        [
            *found[:_SHOWN],
            *([f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []),
            *(["look at the rows named above"] if found else []),
            f"try a lower training.learning_rate (it is {args.learning_rate:g}), or more training.warmup_steps",
            *(["try training.bf16=true training.fp16=false: float16 ends at 65,504"] if args.fp16 else []),
            f"the last good checkpoint is {last}" if last else "there is no checkpoint from before",
            "a changed recipe begins anew: --force replaces this run, training.output_dir=… keeps it",
        ],
    )


def _rows_of_step(trainer: "SFTTrainer", encoded: Sequence[EncodedRow], batches: Sequence[Batch]) -> list[tuple[str, bool | None]]:
    """The rows this process has read, and whether the loss of each alone is finite, without dropout; `None`: not asked."""
    known: dict[tuple[int, ...], str] = {}
    for item in encoded:
        known.setdefault(tuple(item.input_ids), f"{item.row.source} ({item.row.id})")
    rows = [row for batch in batches for row in _rows(batch)]
    texts = [known.get(tuple(ids), f"a row of {len(ids)} tokens") for ids, _ in rows]
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:  # all processes would have to ask for equally many
        return [(text, None) for text in texts]
    model = trainer.model
    model.eval()
    with torch.no_grad():
        each = [label_logprobs(trainer, model, trainer.data_collator([{"input_ids": ids, "labels": labels}])) for ids, labels in rows]
    return [(text, bool(logprobs.isfinite().all())) for text, logprobs in zip(texts, each, strict=True)]


def _rows(batch: Batch) -> list[TokenRow]:
    """The rows of a batch, padding taken off."""
    batch = {name: tensor.cpu() for name, tensor in batch.items()}
    if "branch_ids" in batch:
        return unpack(batch)
    masks = batch["attention_mask"].bool()
    return [(ids[mask].tolist(), labels[mask].tolist()) for ids, labels, mask in zip(batch["input_ids"], batch["labels"], masks, strict=True)]
