"""Letter scoring: the log-probability of each of the four letters right after the prompt."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lawft_trl.data.chat import encode, prompt_text
from lawft_trl.data.prompts import build_messages
from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.data.rows import Row, row_question
from lawft_trl.errors import InputError
from lawft_trl.evaluation.metrics import Prediction

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One prompt that is put to the models, and what is needed to read the answer.

    Attributes:
        row: the row it was made from.
        order: which choice stands at which letter.
        gold: the gold letter in this order.
        input_ids: the prompt's tokens.
        label_ids: the token of each letter right after the prompt.
    """

    row: Row
    order: str
    gold: str
    input_ids: list[int]
    label_ids: list[int]


def ask_in_four_orders(
    rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase", template_kwargs: dict[str, Any]
) -> list[Asked]:
    """Prompts of every row in the four orders of its choices.

    A row that this project did not render cannot be rendered otherwise: it is asked as it is, in one order.

    Raises:
        InputError: for rows without a gold letter, or when the letters are not four single tokens after the prompt.
    """
    without = [row for row in rows if row.gold is None]
    if without:
        raise InputError(
            f"{len(without)} of {len(rows)} rows cannot be scored: they have no gold letter",
            [f"{row.source}: set meta.correct to a, b, c or d" for row in without],
        )
    asked = []
    for row in rows:
        question, system = row_question(row), row.prompt[0]["content"] if row.prompt[0]["role"] == "system" else None
        for order in ORDERS if question else ORDERS[:1]:
            messages, gold = row.prompt, row.gold
            if question:
                shown = question.in_order(order)
                messages = build_messages(shown, answer="direct", statutes=question.statutes, system=system)
                gold = shown.answer
            text = prompt_text(tokenizer, messages, template_kwargs)
            input_ids = encode(tokenizer, text)
            label_ids = _label_ids(tokenizer, text, input_ids)
            asked.append(Asked(row=row, order=order, gold=gold, input_ids=input_ids, label_ids=label_ids))
    return asked


def score_letters(
    model: "PreTrainedModel", asked: Sequence[Asked], *, pad_token_id: int, batch_size: int, progress: str
) -> list[Prediction]:
    """Asks a model and reads the four letters' probabilities; the letter is the most probable of the four.

    Args:
        model: a causal language model; its `eval` mode and device are used as they are.
        asked: prompts, in any order; sorted by length here, so that batches hold little padding.
        pad_token_id: fills the left of shorter prompts; it is masked.
        batch_size: prompts per forward pass.
        progress: what the progress bar says.

    Returns:
        Predictions in the order of `asked`.
    """
    import torch
    from tqdm.auto import tqdm

    predictions: dict[int, Prediction] = {}
    by_length = sorted(range(len(asked)), key=lambda index: -len(asked[index].input_ids))
    with tqdm(total=len(asked), desc=progress, unit="prompt") as bar, torch.inference_mode():
        for indices in _batches(by_length, batch_size):
            width = max(len(asked[index].input_ids) for index in indices)
            padding = [width - len(asked[index].input_ids) for index in indices]
            ids = torch.tensor(
                [[pad_token_id] * pad + asked[index].input_ids for pad, index in zip(padding, indices, strict=True)],
                device=model.device,
            )  # (batch, width)
            mask = (torch.arange(width, device=model.device) >= torch.tensor(padding, device=model.device)[:, None]).long()
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
            logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1).logits
            logprobs = torch.log_softmax(logits[:, -1].float(), dim=-1)  # (batch, vocabulary)
            labels = torch.tensor([asked[index].label_ids for index in indices], device=model.device)
            for index, values in zip(indices, logprobs.gather(1, labels).exp().tolist(), strict=True):
                predictions[index] = _prediction(asked[index], dict(zip(LETTERS, values, strict=True)))
            bar.update(len(indices))
    return [predictions[index] for index in range(len(asked))]


def _prediction(item: Asked, letter_probs: dict[str, float]) -> Prediction:
    return Prediction(
        id=item.row.id,
        group=str(item.row.meta.get("group") or item.row.id),
        order=item.order,
        prompt_sha256=hashlib.sha256(json.dumps(item.input_ids).encode()).hexdigest(),
        output=None,
        letter=max(letter_probs, key=letter_probs.__getitem__),
        letter_probs=letter_probs,
        gold=item.gold,
    )


def _label_ids(tokenizer: "PreTrainedTokenizerBase", text: str, input_ids: list[int]) -> list[int]:
    """The token of each letter after the prompt `text`, checked to be one token each, four different ones."""
    label_ids = []
    for letter in LETTERS:
        ids = encode(tokenizer, text + letter)
        if ids[:-1] != input_ids:
            raise InputError(
                f"{tokenizer.name_or_path}: the letter {letter!r} is not a single token right after the prompt "
                f"{text[-20:]!r}, so letters cannot be scored with this tokenizer and chat template"
            )
        label_ids.append(ids[-1])
    if len(set(label_ids)) < len(LETTERS):
        raise InputError(f"{tokenizer.name_or_path}: two of the letters a, b, c, d are the same token")
    return label_ids


def _batches(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def unique_questions(rows: Sequence[Row]) -> list[Row]:
    """The rows with the first of every question's orders only; the other orders are made again when it is asked."""
    first: dict[Any, Row] = {}
    for row in rows:
        first.setdefault((row.meta.get("dataset"), row.id), row)
    return list(first.values())
