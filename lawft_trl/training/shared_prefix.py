"""Shared-prefix training: what the permuted copies of a question begin with is read once, not once a copy.

The copies of a question differ only behind its statutes and its text. Some copies become one item (`prefix_items.py`), whose
loss and gradients are those of separate rows, from `Σ tokens of the rows / Σ tokens of the items` times fewer tokens.
Optimizer steps hold as many rows as before.

The trainer is TRL's own. `share_prefixes` gives the built one another data set and collator, converts its batch size, hangs
one hook before the model that turns branches into an attention mask, and proves the outcome, tokens and numbers.
"""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from tqdm.auto import tqdm

from lawft_trl.errors import InputError
from lawft_trl.training.prefix_choice import SharedPrefix, choose_items, copies_of, micro_batch
from lawft_trl.training.prefix_items import collate_items, see_branches, unpack
from lawft_trl.training.supervision import EncodedRow

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel
    from trl import SFTTrainer

_QUIET_SECONDS = 3  # a progress bar comes only for what takes longer
# Mean difference of the log-probability of a supervised token: float32 alone is exact to 1e-5; 16 bits are noise at 1e-2.
_SAME = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.1}


def share_prefixes(trainer: "SFTTrainer", encoded: Sequence[EncodedRow], wanted: bool | int | None) -> SharedPrefix:
    """Makes a built trainer read the shared beginnings of permuted copies once, where that can be done and is worth it.

    Args:
        trainer: built on the rows, proven by `prove_trainer`, not yet training.
        encoded: its training rows; those with equal `meta.id` are copies of one question.
        wanted: the recipe's `data.shared_prefix`, see `choose_items`.

    Returns:
        What was done, and why not more.

    Raises:
        InputError: when it must be done and cannot, or this model gives other answers that way.
        RuntimeError: when the trainer would train on anything else than the rows.
    """
    obstacle = None if wanted is False else _obstacle(trainer, max(len(item.input_ids) for item in encoded))
    batch, accumulation = trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps
    shared, items = choose_items(encoded, batch=batch, accumulation=accumulation, wanted=wanted, obstacle=obstacle)
    if shared.on:
        _give(trainer, items, shared.rows_per_item)
        _prove_batches(trainer, encoded)
        _prove_numbers(trainer)
    return shared


def _obstacle(trainer: "SFTTrainer", longest: int) -> str | None:
    """Why this trainer and its model cannot read branches; `None` where they can."""
    model, args = _base_model(trainer), trainer.args
    config = model.config.get_text_config()
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled or trainer.accelerator.parallelism_config is not None:
        return "the model is split over processes, where this was not proven; accelerate_configs/multi_gpu.yaml does not split it"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"{config._attn_implementation} takes no mask of its own for every token; set model.attn_implementation: sdpa"
    if getattr(model, "_is_stateful", False) or "position_ids" not in inspect.signature(type(model).forward).parameters:
        return f"{type(model).__name__} reads a text in one run and takes no positions"
    if trainer.aux_loss_enabled:
        return "the load-balancing loss of a mixture of experts counts tokens, and there are fewer; set training.router_aux_loss_coef: 0.0"
    if args.neftune_noise_alpha is not None:
        return "training.neftune_noise_alpha scales its noise by the length of a row"
    if args.auto_find_batch_size:
        return "training.auto_find_batch_size changes how many rows a batch holds"
    return _window_obstacle(config, longest)


def _base_model(trainer: "SFTTrainer") -> "PreTrainedModel":
    """The trainer's model without its adapter."""
    return trainer.model.get_base_model() if is_peft_model(trainer.model) else trainer.model


def _window_obstacle(config: "PretrainedConfig", longest: int) -> str | None:
    """Layers that do not see the whole row, by a model's config; a window that no row is longer than does no harm."""
    other = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if other:
        return f"the model has layers of another kind than attention to everything: {', '.join(sorted(other))}"
    sliding = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    window = getattr(config, "sliding_window", None) if sliding else None
    if window is not None and longest > window:
        return f"the model's attention slides over {window} tokens, and the longest row has {longest}"
    return None


def _give(trainer: "SFTTrainer", items: Sequence[Mapping[str, list[int]]], rows_per_item: int) -> None:
    """Puts the items in the place of the trainer's rows, and the hook before its model."""
    rows_per_step = trainer.get_total_train_batch_size(trainer.args)
    dataset = Dataset.from_list(list(items))
    trainer.train_dataset = dataset.shuffle(seed=trainer.args.seed) if trainer.args.shuffle_dataset else dataset
    trainer.data_collator = functools.partial(collate_items, trainer.data_collator)
    args = trainer.args
    size, accumulation = micro_batch(args.per_device_train_batch_size, args.gradient_accumulation_steps, rows_per_item)
    args.gradient_accumulation_steps = accumulation
    args.per_device_train_batch_size = trainer._train_batch_size = size  # the trainer keeps a copy, for auto_find_batch_size
    if trainer.get_total_train_batch_size(trainer.args) * rows_per_item != rows_per_step:
        raise RuntimeError(f"an optimizer step would not hold {rows_per_step} rows as the recipe says")
    trainer.model.register_forward_pre_hook(see_branches, with_kwargs=True)


def _prove_batches(trainer: "SFTTrainer", encoded: Sequence[EncodedRow]) -> None:
    """Asserts on the trainer's own batches that its tokens see and predict exactly what they do in the rows.

    Raises:
        RuntimeError: when they do not.
    """
    expected = sorted(row for group in copies_of(encoded) for row in group)
    found, size = [], trainer.args.per_device_train_batch_size
    for start in tqdm(range(0, len(trainer.train_dataset), size), desc="proving items", unit="batch", delay=_QUIET_SECONDS):
        indices = range(start, min(start + size, len(trainer.train_dataset)))
        found += unpack(trainer.data_collator([trainer.train_dataset[index] for index in indices]))
    if sorted(found) != expected:
        raise RuntimeError("the items of shared-prefix training do not hold exactly the rows; set data.shared_prefix: false")


@torch.no_grad()
def _prove_numbers(trainer: "SFTTrainer") -> None:
    """Asks this very model for the first item's supervised tokens, as an item and row by row.

    Raises:
        InputError: when their log-probabilities differ by more than the model's precision explains.
    """
    model = trainer.model
    batch = trainer.data_collator([trainer.train_dataset[0]])
    rows = [{"input_ids": ids, "labels": labels} for ids, labels in unpack(batch)]
    was_training = model.training
    model.eval()
    together = label_logprobs(trainer, model, batch)
    alone = torch.cat([label_logprobs(trainer, model, trainer.data_collator([row])) for row in rows])
    model.train(was_training)
    difference = (together - alone).abs().mean().item()
    precision = torch.bfloat16 if trainer.args.bf16 else torch.float16 if trainer.args.fp16 else model.dtype
    if not difference <= _SAME.get(precision, 0.1):
        raise InputError(
            f"data.shared_prefix: {type(_base_model(trainer)).__name__} gives other answers where prefixes are shared "
            f"(log-probabilities differ by {difference:.2g} on average)",
            ["set data.shared_prefix: false"],
        )


def label_logprobs(trainer: "SFTTrainer", model: "PreTrainedModel", batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Log-probabilities of a batch's supervised tokens as TRL's loss has them, in float32, (supervised tokens,)."""
    inputs = {name: tensor.to(trainer.args.device) for name, tensor in batch.items()}
    with trainer.accelerator.autocast():
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
    return outputs.log_probs[outputs.label_mask].float()
