"""Which tokens are in the loss: every row is encoded, proven and, once the trainer is built, proven again.

The contract, for every row: the supervised tokens decode to exactly the output and the end-of-turn token; that token
is supervised; the prompt's tokens are those that evaluation will send; nothing is cut and no row is lost.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from lawft_trl.data.chat import encode, end_of_turn, prompt_text
from lawft_trl.data.rows import Row, with_fewer_statutes
from lawft_trl.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from trl import SFTTrainer

IGNORED = -100  # the label torch's cross entropy leaves out
_QUIET_SECONDS = 3  # a progress bar comes only for what takes longer


@dataclass(frozen=True, kw_only=True)
class EncodedRow:
    """A row as tokens.

    Attributes:
        row: the row, with fewer statutes than it was read with if some were left out.
        input_ids: prompt, output and end-of-turn token.
        prompt_ids: the prompt alone, as evaluation will send it; all tokens after it are supervised.
        dropped_statutes: how many passages were left out to make it fit.
    """

    row: Row
    input_ids: list[int]
    prompt_ids: list[int]
    dropped_statutes: int = 0

    @property
    def prompt_length(self) -> int:
        """How many of `input_ids` are the prompt."""
        return len(self.prompt_ids)

    @property
    def columns(self) -> dict[str, list[int]]:
        """The columns `SFTTrainer` takes: `input_ids`, and `completion_mask` with 1 for every supervised token."""
        supervised = len(self.input_ids) - self.prompt_length
        return {"input_ids": self.input_ids, "completion_mask": [0] * self.prompt_length + [1] * supervised}


def encode_rows(
    rows: Sequence[Row],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    template_kwargs: dict[str, Any],
    max_length: int | None,
    overlong: str = "error",
) -> list[EncodedRow]:
    """Encodes rows and proves the contract for each.

    Args:
        rows: what is to be trained.
        tokenizer: the recipe's tokenizer.
        template_kwargs: arguments of its chat template.
        max_length: the longest row allowed, in tokens; `None` for no limit.
        overlong: `"error"`, or `"trim_statutes"` to leave out passages from the last one, at least one staying.

    Raises:
        InputError: naming every row that breaks the contract, with the length it needs.
    """
    turn_end = end_of_turn(tokenizer, template_kwargs)
    encoded, problems, too_long = [], [], []
    for row in tqdm(rows, desc="encoding", unit="row", delay=_QUIET_SECONDS):
        item = _encode(row, tokenizer, template_kwargs, turn_end)
        if max_length is not None and len(item.input_ids) > max_length and overlong == "trim_statutes":
            item = _trim(item, tokenizer, template_kwargs, turn_end, max_length)
        fault = _fault(item, tokenizer, turn_end)
        if fault:
            problems.append(f"{row.source} (id {row.id}): {fault}")
        elif max_length is not None and len(item.input_ids) > max_length:
            too_long.append((len(item.input_ids), f"{row.source} (id {row.id}): {len(item.input_ids)} tokens"))
        encoded.append(item)
    if too_long:
        longest = max(length for length, _ in too_long)
        problems.append(
            f"{len(too_long)} of {len(rows)} rows are longer than training.max_length={max_length}; nothing is cut "
            f"silently: set training.max_length={longest}, data.overlong=trim_statutes, or shorten them"
        )
        problems += [text for _, text in sorted(too_long, key=lambda pair: -pair[0])]
    if problems:
        raise InputError(f"supervision: {len(problems)} fault(s) in the rows; nothing was trained", problems)
    return encoded


def _encode(row: Row, tokenizer: "PreTrainedTokenizerBase", template_kwargs: dict[str, Any], turn_end: str) -> EncodedRow:
    prompt = prompt_text(tokenizer, row.prompt, template_kwargs)
    return EncodedRow(
        row=row,
        input_ids=encode(tokenizer, prompt + row.output + turn_end),
        prompt_ids=encode(tokenizer, prompt),
    )


def _fault(item: EncodedRow, tokenizer: "PreTrainedTokenizerBase", turn_end: str) -> str | None:
    """What of the contract an encoded row breaks; `None` when it keeps it."""
    if item.input_ids[: item.prompt_length] != item.prompt_ids:
        return (
            f"the beginning of the output {item.row.output[:20]!r} merges with the end of the prompt, so the model "
            "would be trained on a prompt it is never asked; begin the output with a letter, not with white space"
        )
    if turn_end in item.row.output:
        return f"the output contains the end-of-turn token {turn_end}; remove it, it is added here"
    supervised = item.input_ids[item.prompt_length :]
    text = tokenizer.decode(supervised, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if text != item.row.output + turn_end:
        return f"the supervised tokens decode to {text[:80]!r}, not to the output and {turn_end}"
    if supervised[-1:] != encode(tokenizer, turn_end):
        return f"the last supervised token is {tokenizer.decode(supervised[-1:])!r}, not the end-of-turn token {turn_end}"
    return None


def _trim(
    item: EncodedRow, tokenizer: "PreTrainedTokenizerBase", template_kwargs: dict[str, Any], turn_end: str, max_length: int
) -> EncodedRow:
    """Leaves out statute passages from the last one while the row is too long; returns it unchanged if it cannot be."""
    for dropped, row in enumerate(with_fewer_statutes(item.row), start=1):
        shorter = _encode(row, tokenizer, template_kwargs, turn_end)
        if len(shorter.input_ids) <= max_length:
            return dataclasses.replace(shorter, dropped_statutes=dropped)
    return item


def prove_trainer(trainer: "SFTTrainer", encoded: Sequence[EncodedRow]) -> None:
    """Asserts on the built trainer's own data set and batches that TRL kept every row and every mask.

    Raises:
        RuntimeError: when the trainer would train on anything else than was proven before.
    """
    dataset = trainer.train_dataset
    if len(dataset) != len(encoded):
        raise RuntimeError(f"the trainer kept {len(dataset)} of {len(encoded)} rows")
    expected = sorted((tuple(item.input_ids), tuple(_labels(item))) for item in encoded)
    found = []
    for start in range(0, len(dataset), trainer.args.per_device_train_batch_size):
        batch = trainer.data_collator([dataset[index] for index in _indices(start, trainer)])
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        for ids, labels, length in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), lengths, strict=True):
            if any(label != IGNORED for label in labels[length:]):
                raise RuntimeError("the trainer's collator supervises padding")
            found.append((tuple(ids[:length]), tuple(labels[:length])))
    if sorted(found) != expected:
        raise RuntimeError(
            "the trainer's batches do not supervise exactly the outputs and end-of-turn tokens; "
            "this version of TRL treats `completion_mask` otherwise than the tested one (see constraints.txt)"
        )


def _indices(start: int, trainer: "SFTTrainer") -> Iterable[int]:
    return range(start, min(start + trainer.args.per_device_train_batch_size, len(trainer.train_dataset)))


def _labels(item: EncodedRow) -> list[int]:
    return [IGNORED] * item.prompt_length + item.input_ids[item.prompt_length :]
