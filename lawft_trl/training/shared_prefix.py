"""Shared-prefix training: what the permuted copies of a question begin with is read once, not once a copy.

The copies of a question differ only behind its statutes and its text. Some copies become one item (`prefix_items.py`), whose
loss and gradients are those of separate rows, from `Σ tokens of the rows / Σ tokens of the items` times fewer tokens.
Optimizer steps hold as many rows as before.

The trainer is TRL's own. `share_prefixes` gives the built one another data set and collator, converts its batch size, hangs
one hook before the model that turns branches into an attention mask, and proves the outcome, tokens and numbers.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from tqdm.auto import tqdm

from lawft_trl.errors import InputError
from lawft_trl.training.prefix_items import TokenRow, collate_items, pack, see_branches, unpack
from lawft_trl.training.supervision import EncodedRow

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel
    from trl import SFTTrainer

_IGNORED = -100  # the label torch's cross entropy leaves out
_QUIET_SECONDS = 3  # a progress bar comes only for what takes longer
_MIN_GAIN = 1.2  # below it a dense attention mask may cost what the shared tokens save
_MORE_TOKENS = 1.25  # how many more tokens than now a micro-batch may hold without the recipe asking for it
# Mean difference of the log-probability of a supervised token: float32 alone is exact to 1e-5; 16 bits are noise at 1e-2.
_SAME = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.1}


@dataclass(frozen=True, kw_only=True)
class SharedPrefix:
    """What came of `data.shared_prefix`.

    Attributes:
        on: whether the trainer reads shared beginnings once.
        why: the reason in words where it is off.
        rows_per_item: copies of a question that are read together; 1 where it is off.
        items: how many items the training set has.
        row_tokens: tokens of the rows, one by one.
        item_tokens: tokens of the items, without padding.
    """

    on: bool
    why: str = ""
    rows_per_item: int = 1
    items: int = 0
    row_tokens: int = 0
    item_tokens: int = 0

    @property
    def gain(self) -> float:
        """How many times fewer tokens are read; 1 where it is off."""
        return self.row_tokens / self.item_tokens if self.on else 1.0

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` says."""
        return {**dataclasses.asdict(self), "gain": self.gain}

    def __str__(self) -> str:
        if not self.on:
            return f"Shared prefixes: off; {self.why}"
        return (
            f"Shared prefixes: on; {self.items} items of {self.rows_per_item} rows, {self.item_tokens:,} tokens an epoch "
            f"instead of {self.row_tokens:,}: {self.gain:.2f} times fewer"
        )


def share_prefixes(trainer: "SFTTrainer", encoded: Sequence[EncodedRow], wanted: bool | None) -> SharedPrefix:
    """Makes a built trainer read the shared beginnings of permuted copies once, where that can be done and is worth it.

    Args:
        trainer: built on the rows, proven by `prove_trainer`, not yet training.
        encoded: its training rows; those with equal `meta.id` are copies of one question.
        wanted: the recipe's `data.shared_prefix`: `True` must, `False` never, `None` where at least 1.2 times fewer tokens
            are read and no micro-batch grows by more than a quarter.

    Returns:
        What was done, and why not more.

    Raises:
        InputError: when `wanted` is `True` and it cannot be done, or this model gives other answers that way.
        RuntimeError: when the trainer would train on anything else than the rows.
    """
    if wanted is False:
        return SharedPrefix(on=False, why="data.shared_prefix is false")
    obstacle = _obstacle(trainer, max(len(item.input_ids) for item in encoded))
    per_step = trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps
    groups = _copies(encoded)
    common = math.gcd(per_step, *map(len, groups))
    if obstacle is None and common == 1:
        sizes = sorted(set(map(len, groups)))
        obstacle = (
            f"a question has {' or '.join(map(str, sizes))} row(s) and an optimizer step {per_step} per process "
            "(per_device_train_batch_size × gradient_accumulation_steps); both must be divisible by one number of at least 2"
        )
    if obstacle is not None and wanted:
        raise InputError("data.shared_prefix is true, and it cannot be done", [obstacle, "leave data.shared_prefix out, or set it to false"])
    if obstacle is not None:
        return SharedPrefix(on=False, why=obstacle)

    for rows_per_item in sorted((size for size in range(2, common + 1) if common % size == 0), reverse=True):
        items = [pack(group[start : start + rows_per_item]) for group in groups for start in range(0, len(group), rows_per_item)]
        shared = SharedPrefix(
            on=True,
            rows_per_item=rows_per_item,
            items=len(items),
            row_tokens=sum(len(item.input_ids) for item in encoded),
            item_tokens=sum(len(item["input_ids"]) for item in items),
        )
        objection = None if wanted else _objection(trainer, encoded, items, shared)
        if objection is None:
            _give(trainer, items, rows_per_item)
            _prove_batches(trainer, encoded)
            _prove_numbers(trainer)
            return shared
    return SharedPrefix(on=False, why=objection)


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


def _copies(encoded: Sequence[EncodedRow]) -> list[list[TokenRow]]:
    """`(input_ids, labels)` of the rows of each question, questions in their order; rows that begin alike stand together."""
    groups: dict[str, list[TokenRow]] = {}
    for item in encoded:
        columns = item.columns
        labels = [token if supervised else _IGNORED for token, supervised in zip(item.input_ids, columns["completion_mask"], strict=True)]
        groups.setdefault(item.row.id, []).append((item.input_ids, labels))
    return [sorted(group) for group in groups.values()]


def _objection(
    trainer: "SFTTrainer", encoded: Sequence[EncodedRow], items: Sequence[Mapping[str, list[int]]], shared: SharedPrefix
) -> str | None:
    """Why items are not worth it unasked: too few tokens saved, or more of them at once than the recipe's micro-batch."""
    if shared.gain < _MIN_GAIN:
        return f"it would read only {shared.gain:.2f} times fewer tokens (data.shared_prefix: true does it all the same)"
    before = trainer.args.per_device_train_batch_size * max(len(item.input_ids) for item in encoded)
    after = _micro_batch(trainer, shared.rows_per_item)[0] * max(len(item["input_ids"]) for item in items)
    if after > _MORE_TOKENS * before:
        return (
            f"a micro-batch would hold up to {after:,} tokens instead of {before:,} (data.shared_prefix: true does it all the "
            f"same, {shared.gain:.2f} times fewer tokens altogether)"
        )
    return None


def _micro_batch(trainer: "SFTTrainer", rows_per_item: int) -> tuple[int, int]:
    """`(items per micro-batch, micro-batches per step)` for as many rows per step as now, and at most as many at once."""
    args = trainer.args
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps // rows_per_item
    most = max(1, args.per_device_train_batch_size // rows_per_item)
    items = max(size for size in range(1, most + 1) if per_step % size == 0)
    return items, per_step // items


def _give(trainer: "SFTTrainer", items: Sequence[Mapping[str, list[int]]], rows_per_item: int) -> None:
    """Puts the items in the place of the trainer's rows, and the hook before its model."""
    rows_per_step = trainer.get_total_train_batch_size(trainer.args)
    dataset = Dataset.from_list(list(items))
    trainer.train_dataset = dataset.shuffle(seed=trainer.args.seed) if trainer.args.shuffle_dataset else dataset
    trainer.data_collator = functools.partial(collate_items, trainer.data_collator)
    size, trainer.args.gradient_accumulation_steps = _micro_batch(trainer, rows_per_item)
    trainer.args.per_device_train_batch_size = trainer._train_batch_size = size  # the trainer keeps a copy, for auto_find_batch_size
    if trainer.get_total_train_batch_size(trainer.args) * rows_per_item != rows_per_step:
        raise RuntimeError(f"an optimizer step would not hold {rows_per_step} rows as the recipe says")
    trainer.model.register_forward_pre_hook(see_branches, with_kwargs=True)


def _prove_batches(trainer: "SFTTrainer", encoded: Sequence[EncodedRow]) -> None:
    """Asserts on the trainer's own batches that its tokens see and predict exactly what they do in the rows.

    Raises:
        RuntimeError: when they do not.
    """
    expected = sorted(row for group in _copies(encoded) for row in group)
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
