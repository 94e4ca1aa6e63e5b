"""Emphasis: tokens of spans that bear the style weigh more in the loss than the other tokens of the same reply.

An attention mask says what a token may see, and nothing about how much it is to be learned; a weight in the loss does. The
weights of a row have the mean 1, so every batch, accumulated and over all processes, has it too: neither the loss's scale nor
a row's share in it changes, only what counts within the row. TRL's own loss is used: a hook multiplies the log-probabilities
it sums. Rows for evaluation have no weights, so `eval_loss` is the plain one with and without emphasis.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from lawft_trl.data.chat import prompt_text
from lawft_trl.errors import InputError
from lawft_trl.training.supervision import IGNORED, EncodedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from trl import SFTTrainer

_COLUMN = "loss_weights"


def emphasise(
    trainer: "SFTTrainer", encoded: Sequence[EncodedRow], emphasis: Mapping[str, Any] | None, template_kwargs: Mapping[str, Any]
) -> str | None:
    """Gives a built trainer's rows their weights, and its loss the hook that uses them.

    Args:
        trainer: built on the rows, proven by `prove_trainer`, not yet training. Its tokenizer must be a fast one.
        encoded: its training rows.
        emphasis: the recipe's `data.emphasis`, `{"patterns": [...], "weight": 2.0}`; nothing is done for `None`.
        template_kwargs: arguments of the chat template.

    Returns:
        What was done, in one line; `None` where nothing was.

    Raises:
        InputError: when no row holds a span, or the tokenizer cannot say where its tokens stand.
    """
    if emphasis is None:
        return None
    weight = float(emphasis["weight"])
    inside, said = find_spans(encoded, trainer.processing_class, emphasis, template_kwargs)
    table = {_key(item.input_ids, item.prompt_length): row_weights(marks, weight) for item, marks in zip(encoded, inside, strict=True)}
    dataset = trainer.train_dataset
    keys = (_key(row["input_ids"], sum(label == IGNORED for label in row["labels"])) for row in dataset)
    trainer.train_dataset = dataset.add_column(_COLUMN, [table[key] for key in keys])
    trainer._set_signature_columns_if_needed()
    trainer._signature_columns = [*trainer._signature_columns, _COLUMN]  # or the trainer drops the column
    trainer.data_collator = functools.partial(_collate, trainer.data_collator)
    _weigh_loss(trainer.model)
    return f"Emphasis: {said}"


def find_spans(
    encoded: Sequence[EncodedRow], tokenizer: "PreTrainedTokenizerBase", emphasis: Mapping[str, Any], template_kwargs: Mapping[str, Any]
) -> tuple[list[list[bool]], str]:
    """`span_tokens` of every row, and how many tokens weigh what, in words.

    Args:
        encoded: the training rows.
        tokenizer: a fast one.
        emphasis: the recipe's `data.emphasis`.
        template_kwargs: arguments of the chat template.

    Raises:
        InputError: when no row holds a span, or the tokenizer cannot say where its tokens stand.
    """
    if not tokenizer.is_fast:
        raise InputError(f"data.emphasis: the tokenizer of {tokenizer.name_or_path} does not say where its tokens stand; set data.emphasis: null")
    patterns = [re.compile(pattern) for pattern in emphasis["patterns"]]
    inside = [span_tokens(item, tokenizer, patterns, template_kwargs) for item in encoded]
    found, tokens = sum(map(any, inside)), sum(map(len, inside))
    if not found:
        raise InputError(f"data.emphasis: none of {len(encoded)} training rows holds a span", [f"{pattern!r}: found in no output" for pattern in emphasis["patterns"]])
    weight = float(emphasis["weight"])
    return inside, f"{sum(map(sum, inside)):,} of {tokens:,} supervised tokens, in {found} of {len(encoded)} rows, weigh {weight:g} times the others"


def span_tokens(
    item: EncodedRow, tokenizer: "PreTrainedTokenizerBase", patterns: Iterable[re.Pattern[str]], template_kwargs: Mapping[str, Any]
) -> list[bool]:
    """Which supervised tokens of a row hold a character, or a byte of one, that a pattern matches in its output.

    Args:
        item: the row.
        tokenizer: the fast tokenizer that encoded it.
        patterns: looked for in the output alone; what they would match in the prompt does not count.
        template_kwargs: arguments of the chat template.

    Raises:
        RuntimeError: when the text has other tokens than the row.
    """
    prompt = prompt_text(tokenizer, item.row.prompt, template_kwargs)
    found = tokenizer(prompt + item.row.output, add_special_tokens=False, return_offsets_mapping=True)
    if found["input_ids"] != item.input_ids[:-1]:
        raise RuntimeError(f"{item.row.source}: the row's text has other tokens than the row")
    inside = [False] * len(item.row.output)
    for pattern in patterns:
        for match in pattern.finditer(item.row.output):
            inside[match.start() : match.end()] = [True] * (match.end() - match.start())
    offsets = found["offset_mapping"][item.prompt_length :]
    return [any(inside[max(0, start - len(prompt)) : end - len(prompt)]) for start, end in offsets] + [False]  # the end of turn


def row_weights(marks: Sequence[bool], weight: float) -> list[float]:
    """The weights of a row's supervised tokens: `weight` to 1 between marked and other tokens, and 1 on average."""
    raw = [weight if mark else 1.0 for mark in marks]
    total = sum(raw)
    return [value * len(raw) / total for value in raw]


def _key(input_ids: Sequence[int], prompt_length: int) -> tuple[int, tuple[int, ...]]:
    return prompt_length, tuple(input_ids)


def _collate(collate_rows: Callable, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """TRL's batch, and for rows that have weights `loss_weights`, (batch, length), 0 where nothing is supervised."""
    batch = collate_rows(examples)
    if _COLUMN not in examples[0]:
        return batch
    weights = torch.zeros(batch["labels"].shape)
    weights[batch["labels"] != IGNORED] = torch.tensor([weight for example in examples for weight in example[_COLUMN]])
    return {**batch, _COLUMN: weights}


def _weigh_loss(model: "torch.nn.Module") -> None:
    """Takes a batch's weights out before the model sees it, and multiplies the log-probabilities of its labels by them."""
    waiting: list[torch.Tensor | None] = []

    def take(model: "torch.nn.Module", args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        waiting[:] = [kwargs.pop(_COLUMN, None)]
        return args, kwargs

    def weigh(model: "torch.nn.Module", args: tuple, outputs: Any) -> Any:
        (weights,) = waiting
        if weights is not None:  # TRL's log-probabilities are those of the labels from the second on
            outputs.log_probs = outputs.log_probs * weights[:, 1:].to(outputs.log_probs)
        return outputs

    model.register_forward_pre_hook(take, with_kwargs=True)
    model.register_forward_hook(weigh)
