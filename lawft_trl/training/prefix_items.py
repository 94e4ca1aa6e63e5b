"""Items: rows with one beginning as one sequence of tokens, the mask that keeps them apart, and the way back.

An item is the prefix that all its rows begin with, then the rest of each row, its branch. A branch sees the prefix and
itself, and its positions go on where the prefix ends, so every token sees exactly what it saw in its own row.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from lawft_trl.training.supervision import IGNORED

if TYPE_CHECKING:
    from torch import nn

_PADDING = -1  # the branch of what is no token

# A row as tokens: `(input_ids, labels)`, -100 in `labels` where nothing is supervised.
TokenRow = tuple[list[int], list[int]]


def pack(rows: Sequence[TokenRow]) -> dict[str, list[int]]:
    """Rows as one item: what all begin with, then the rest of each.

    Every rest begins with a token that is not supervised, so that the token before a supervised one is of its own branch.

    Args:
        rows: `(input_ids, labels)` of each, -100 in `labels` where nothing is supervised; the first token never is.

    Returns:
        `input_ids` and `labels`, prefix and branches in a row, and `seq_lengths`, how long prefix and branches are: the
        columns that TRL lets through to a collator.
    """
    if any(labels[0] != IGNORED for _, labels in rows):
        raise ValueError("the first token of a row is supervised; nothing predicts it")
    first = rows[0][0]
    limit = min(_prompt_length(labels) for _, labels in rows) - 1
    differing = (place for place in range(limit) if any(ids[place] != first[place] for ids, _ in rows))
    shared = next(differing, limit)
    return {
        "input_ids": [*first[:shared], *(token for ids, _ in rows for token in ids[shared:])],
        "labels": [*([IGNORED] * shared), *(label for _, labels in rows for label in labels[shared:])],
        "seq_lengths": [shared, *(len(ids) - shared for ids, _ in rows)],
    }


def _prompt_length(labels: Sequence[int]) -> int:
    """How many tokens come before the first supervised one."""
    return next((place for place, label in enumerate(labels) if label != IGNORED), len(labels))


def branch_mask(branch_ids: torch.Tensor) -> torch.Tensor:
    """Which token sees which: those before it and itself, of the prefix and of its own branch.

    Args:
        branch_ids: (batch, length): 0 for the prefix, 1, 2, ... for the branches, -1 for padding.

    Returns:
        bool, (batch, 1, length, length), queries before keys. Padding sees itself, and no token sees padding.
    """
    length = branch_ids.shape[1]
    keys, queries = branch_ids[:, None, :], branch_ids[:, :, None]
    earlier = torch.ones(length, length, dtype=torch.bool, device=branch_ids.device).tril()
    return (((keys == 0) | (keys == queries)) & earlier)[:, None]


def collate_items(collate_rows: Callable, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """TRL's batch, and for items `position_ids` and `branch_ids`, both (batch, length); dev rows are left as they are."""
    batch = collate_rows(examples)
    if "seq_lengths" not in examples[0]:
        return batch
    positions = torch.zeros_like(batch["input_ids"])
    branches = torch.full_like(batch["input_ids"], _PADDING)
    for index, example in enumerate(examples):
        prefix, start = example["seq_lengths"][0], 0
        for branch, length in enumerate(example["seq_lengths"]):
            first = prefix if branch else 0
            positions[index, start : start + length] = torch.arange(first, first + length)
            branches[index, start : start + length] = branch
            start += length
    return {**batch, "position_ids": positions, "branch_ids": branches}


def see_branches(model: "nn.Module", args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Forward pre-hook: `branch_ids` become the attention mask, made on the model's device; other calls pass unchanged."""
    branch_ids = kwargs.pop("branch_ids", None)
    if branch_ids is None:
        return args, kwargs
    mask = branch_mask(branch_ids)
    if model.config.get_text_config()._attn_implementation == "eager":  # it adds the mask to the scores
        dtype = model.dtype
        mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
    return args, {**kwargs, "attention_mask": mask}


def unpack(batch: Mapping[str, torch.Tensor]) -> list[TokenRow]:
    """The rows that a model learns from a batch, read off what its tokens see.

    Args:
        batch: `input_ids`, `labels`, `position_ids`, `branch_ids`, all (batch, length).

    Returns:
        `(input_ids, labels)` of every branch: what its last token sees, by position.

    Raises:
        RuntimeError: when a token sees anything but those before it in its row, a supervised one does not stand behind
            the one that predicts it, or padding is supervised.
    """
    rows = []
    masks = branch_mask(batch["branch_ids"])[:, 0]
    for ids, labels, positions, branches, mask in zip(
        batch["input_ids"], batch["labels"], batch["position_ids"], batch["branch_ids"], masks, strict=True
    ):
        if (labels[branches <= 0] != IGNORED).any():
            raise RuntimeError("a token of the shared prefix or padding is supervised")
        real = branches != _PADDING
        as_many = torch.equal(mask.sum(dim=1)[real], positions[real] + 1) and not mask.triu(1).any()
        for branch in range(1, int(branches.max()) + 1):
            last = int((branches == branch).nonzero().max())
            seen = mask[last].nonzero()[:, 0]
            # All see as many tokens as stand before them in the row, earlier ones, and none that the last does not see
            in_order = torch.equal(positions[seen], torch.arange(len(seen)))
            if not (as_many and in_order and torch.equal(mask[seen].any(dim=0), mask[last])):
                raise RuntimeError("a token sees something else than the tokens before it in its row")
            supervised = (labels[seen] != IGNORED).nonzero()[:, 0]
            if (supervised == 0).any() or not torch.equal(seen[supervised] - 1, seen[supervised - 1]):
                raise RuntimeError("a supervised token does not stand behind the token that predicts it")
            rows.append((ids[seen].tolist(), labels[seen].tolist()))
    return rows
