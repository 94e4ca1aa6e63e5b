"""Which rows become items of shared-prefix training, and whether that is worth it: known from the rows alone."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.training.prefix_items import TokenRow, pack
from lawft_trl.training.supervision import IGNORED, EncodedRow

_MIN_GAIN = 1.2  # below it a dense attention mask may cost what the shared tokens save
_MORE_TOKENS = 1.25  # how many more tokens than now a micro-batch may hold without the recipe asking for it


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


def choose_items(
    encoded: Sequence[EncodedRow], *, batch: int, accumulation: int, wanted: bool | int | None, obstacle: str | None = None
) -> tuple[SharedPrefix, list[dict[str, list[int]]]]:
    """Packs the copies of each question into items, where that can be done and is worth it.

    Args:
        encoded: training rows; those with equal `meta.id` are copies of one question.
        batch: rows of a micro-batch.
        accumulation: micro-batches of a step and process.
        wanted: the recipe's `data.shared_prefix`: `True` must, a number must with at most so many copies in an item, `False`
            never, `None` where at least 1.2 times fewer tokens are read and no micro-batch grows by more than a quarter.
        obstacle: why model and trainer cannot do it; `None` where they can.

    Returns:
        What came of it, and the items; `[]` where it is off.

    Raises:
        InputError: when it must be done and cannot.
    """
    if wanted is False:
        return SharedPrefix(on=False, why="data.shared_prefix is false"), []
    groups = copies_of(encoded)
    common = math.gcd(batch * accumulation, *map(len, groups))
    most = common if wanted is None or wanted is True else min(wanted, common)
    sizes = [size for size in range(most, 1, -1) if common % size == 0]
    if obstacle is None and not sizes:
        copies = sorted(set(map(len, groups)))
        obstacle = (
            f"a question has {' or '.join(map(str, copies))} row(s) and an optimizer step {batch * accumulation} per process "
            "(per_device_train_batch_size × gradient_accumulation_steps); both must be divisible by one number of at least 2"
            + (f" and at most {wanted}" if most != common else "")
        )
    if obstacle is not None and wanted:
        raise InputError(f"data.shared_prefix is {str(wanted).lower()}, and it cannot be done", [obstacle, "leave data.shared_prefix out, or set it to false"])
    if obstacle is not None:
        return SharedPrefix(on=False, why=obstacle), []

    for rows_per_item in sizes:
        items = [pack(group[start : start + rows_per_item]) for group in groups for start in range(0, len(group), rows_per_item)]
        shared = SharedPrefix(
            on=True,
            rows_per_item=rows_per_item,
            items=len(items),
            row_tokens=sum(len(item.input_ids) for item in encoded),
            item_tokens=sum(len(item["input_ids"]) for item in items),
        )
        before = batch * max(len(item.input_ids) for item in encoded)
        objection = None if wanted else _objection(items, shared, before=before, at_once=micro_batch(batch, accumulation, rows_per_item)[0])
        if objection is None:
            return shared, items
    return SharedPrefix(on=False, why=objection), []


def copies_of(encoded: Sequence[EncodedRow]) -> list[list[TokenRow]]:
    """`(input_ids, labels)` of the rows of each question, questions in their order; rows that begin alike stand together."""
    groups: dict[str, list[TokenRow]] = {}
    for item in encoded:
        columns = item.columns
        labels = [token if supervised else IGNORED for token, supervised in zip(item.input_ids, columns["completion_mask"], strict=True)]
        groups.setdefault(item.row.id, []).append((item.input_ids, labels))
    return [sorted(group) for group in groups.values()]


def micro_batch(batch: int, accumulation: int, rows_per_item: int) -> tuple[int, int]:
    """`(items per micro-batch, micro-batches per step)` for as many rows per step as now, and at most as many at once.

    Args:
        batch: rows of a micro-batch now.
        accumulation: micro-batches of a step now.
        rows_per_item: divides the rows of a step.
    """
    per_step = batch * accumulation // rows_per_item
    most = max(1, batch // rows_per_item)
    items = max(size for size in range(1, most + 1) if per_step % size == 0)
    return items, per_step // items


def _objection(items: Sequence[Mapping[str, list[int]]], shared: SharedPrefix, *, before: int, at_once: int) -> str | None:
    """Why items are not worth it unasked: too few tokens saved, or more of them at once than the recipe's micro-batch."""
    if shared.gain < _MIN_GAIN:
        return f"it would read only {shared.gain:.2f} times fewer tokens (data.shared_prefix: true does it all the same)"
    after = at_once * max(len(item["input_ids"]) for item in items)
    if after > _MORE_TOKENS * before:
        return (
            f"a micro-batch would hold up to {after:,} tokens instead of {before:,} (data.shared_prefix: true does it all the "
            f"same, {shared.gain:.2f} times fewer tokens altogether)"
        )
    return None
