"""Letter scoring: the log-probability of each of the four letters right after the prompt."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from lawft_trl.data.chat import encode, prompt_text
from lawft_trl.data.prompts import build_messages
from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.data.rows import Row, row_question, with_fewer_statutes
from lawft_trl.errors import InputError
from lawft_trl.evaluation.metrics import Prediction

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


_QUIET_SECONDS = 3  # a progress bar comes only for what takes longer
_ANSWER_TOKENS = 2  # the letter and the end of the turn


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
    rows: Sequence[Row],
    tokenizer: "PreTrainedTokenizerBase",
    template_kwargs: dict[str, Any],
    *,
    trim_to: int | None = None,
) -> list[Asked]:
    """Prompts of every row in the four orders of its choices.

    A row that this project did not render cannot be rendered otherwise: it is asked as it is, in one order.

    Args:
        rows: one row per question.
        tokenizer: the run's tokenizer.
        template_kwargs: arguments of its chat template.
        trim_to: leave out statute passages, as the training rows did, until prompt and answer have at most so many
            tokens; `None` leaves the prompts whole.

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
    for row in tqdm(rows, desc="rendering", unit="question", delay=_QUIET_SECONDS):
        whole = items = _ask(row, tokenizer, template_kwargs)
        shorter = with_fewer_statutes(row)
        while trim_to is not None and max(len(item.input_ids) for item in items) + _ANSWER_TOKENS > trim_to:
            fewer = next(shorter, None)
            if fewer is None:
                items = whole
                break
            items = _ask(fewer, tokenizer, template_kwargs)
        asked += items
    return asked


def _ask(row: Row, tokenizer: "PreTrainedTokenizerBase", template_kwargs: dict[str, Any]) -> list[Asked]:
    question = row_question(row)
    asked = []
    for order in ORDERS if question else ORDERS[:1]:
        messages, gold = row.prompt, row.gold
        if question:
            shown = question.in_order(order)
            messages = build_messages(shown, answer="direct", statutes=question.statutes, system=row.system)
            gold = shown.answer
        text = prompt_text(tokenizer, messages, template_kwargs)
        input_ids = encode(tokenizer, text)
        label_ids = _label_ids(tokenizer, text, input_ids)
        asked.append(Asked(row=row, order=order, gold=gold, input_ids=input_ids, label_ids=label_ids))
    return asked


def score_letters(
    model: "PreTrainedModel", asked: Sequence[Asked], *, pad_token_id: int, batch_size: int, progress: str
) -> list[Prediction]:
    """Asks a model and reads the four letters' log-probabilities; the letter is the most probable of the four.

    Args:
        model: a causal language model; its `eval` mode and device are used as they are.
        asked: prompts, in any order; sorted by length here, so that batches hold little padding.
        pad_token_id: fills the left of shorter prompts; it is masked.
        batch_size: prompts per forward pass.
        progress: what the progress bar says.

    Returns:
        Predictions in the order of `asked`.

    Raises:
        RuntimeError: when the model's output is not finite.
    """
    import torch

    predictions: dict[int, Prediction] = {}
    by_length = sorted(range(len(asked)), key=lambda index: -len(asked[index].input_ids))
    with tqdm(total=len(asked), desc=progress, unit="prompt") as bar, torch.inference_mode():
        for start in range(0, len(asked), batch_size):
            indices = by_length[start : start + batch_size]
            rows = _label_logprobs(model, [asked[index] for index in indices], pad_token_id)
            for index, values in zip(indices, rows, strict=True):
                predictions[index] = _prediction(asked[index], dict(zip(LETTERS, values, strict=True)))
            bar.update(len(indices))
    return [predictions[index] for index in range(len(asked))]


def _label_logprobs(model: "PreTrainedModel", batch: Sequence[Asked], pad_token_id: int) -> list[list[float]]:
    """Log-probabilities of the four letters after each prompt, in float32."""
    import torch

    device = model.device
    width = max(len(item.input_ids) for item in batch)
    padding = torch.tensor([width - len(item.input_ids) for item in batch], device=device)
    ids = torch.tensor([[pad_token_id] * (width - len(item.input_ids)) + item.input_ids for item in batch], device=device)
    mask = (torch.arange(width, device=device) >= padding[:, None]).long()  # (batch, width)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    labels = torch.tensor([item.label_ids for item in batch], device=device)  # (batch, 4)

    head, seen = model.get_output_embeddings(), []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, -1]))
    try:
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1).logits[:, -1].float()
    finally:
        hook.remove()
    letters = logits.gather(1, labels)
    if type(head) is torch.nn.Linear and head.bias is None:
        # A bfloat16 logit near 20 comes in steps of an eighth, which ties letters; the four rows are worth float32. A
        # model that does more to its logits than this product (soft caps, scales) keeps its own.
        exact = (seen[0].float()[:, None] * head.weight[labels].float()).sum(dim=-1)
        if torch.allclose(exact, letters, rtol=0.02, atol=0.05):
            letters = exact
    logprobs = letters - logits.logsumexp(dim=-1, keepdim=True)  # (batch, 4)
    if not torch.isfinite(logprobs).all():
        raise RuntimeError("the model's logits are not finite; load it in bfloat16 or float32, not in float16")
    return logprobs.tolist()


def _prediction(item: Asked, letter_logprobs: dict[str, float]) -> Prediction:
    return Prediction(
        id=item.row.id,
        group=str(item.row.meta.get("group") or item.row.id),
        order=item.order,
        prompt_sha256=hashlib.sha256(json.dumps(item.input_ids).encode()).hexdigest(),
        output=None,
        letter=max(letter_logprobs, key=letter_logprobs.__getitem__),
        letter_logprobs=letter_logprobs,
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


def unique_questions(rows: Sequence[Row]) -> list[Row]:
    """The rows with the first of every question's orders only; the other orders are made again when it is asked.

    Raises:
        InputError: when two data sets use one id, under which their answers could not be told apart.
    """
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.id, row)
    mixed = [row for row in rows if row.meta.get("dataset") != first[row.id].meta.get("dataset")]
    if mixed:
        raise InputError(
            f"{len(mixed)} rows have the id of a question of another data set; give every question its own id",
            [f"{row.source} and {first[row.id].source}: id {row.id}" for row in mixed],
        )
    other = [row for row in rows if row.meta.get("question") != first[row.id].meta.get("question")]
    if other:
        raise InputError(
            f"{len(other)} rows have the id of another question, which would be asked in their place; give every question its own id",
            [f"{row.source} and {first[row.id].source}: id {row.id}" for row in other],
        )
    return list(first.values())
