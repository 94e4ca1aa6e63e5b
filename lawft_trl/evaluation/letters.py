"""Letter scoring: the log-probability of each of the four letters right after the prompt."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.evaluation.asking import Asked, require_room
from lawft_trl.evaluation.metrics import Prediction

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_QUIET_SECONDS = 3  # a progress bar comes only for what takes longer
_WORTH_SHARING = 32  # tokens that the orders of a question must have in common to be read together


def score_letters(
    model: "PreTrainedModel", asked: Sequence[Asked], *, pad_token_id: int, batch_size: int, progress: str | None
) -> list[Prediction]:
    """Asks a model and reads the four letters' log-probabilities; the letter is the most probable of the four.

    Args:
        model: a causal language model; its `eval` mode and device are used as they are.
        asked: prompts, in any order; sorted by length here, so that batches hold little padding.
        pad_token_id: fills the left of shorter prompts; it is masked.
        batch_size: prompts per forward pass; the four orders of a question count as four and stay together.
        progress: what the progress bar says; `None`: there is none.

    Returns:
        Predictions in the order of `asked`.

    Raises:
        InputError: when a prompt does not fit the model's context window.
        FloatingPointError: when the model's output is not finite.
    """
    import torch

    require_room(model, asked, 1)
    predictions: dict[int, Prediction] = {}
    with tqdm(total=len(asked), desc=progress, unit="prompt", delay=_QUIET_SECONDS, leave=False, disable=progress is None) as bar, torch.inference_mode():
        for shared, indices in _batches(asked, batch_size, share=_can_share(model)):
            score = _shared_label_logprobs if shared else _label_logprobs
            rows = score(model, [asked[index] for index in indices], pad_token_id)
            for index, values in zip(indices, rows, strict=True):
                predictions[index] = _prediction(asked[index], dict(zip(LETTERS, values, strict=True)))
            bar.update(len(indices))
    return [predictions[index] for index in range(len(asked))]


def _can_share(model: "PreTrainedModel") -> bool:
    """Whether keys and values that were read once can stand for several prompts.

    A recurrent state cannot be continued after padding, and a sliding window would count the padding between the shared
    beginning and the rest.
    """
    layers = getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"]
    return not getattr(model, "_is_stateful", False) and set(layers) == {"full_attention"}


def _batches(asked: Sequence[Asked], batch_size: int, *, share: bool) -> Iterator[tuple[bool, list[int]]]:
    """`(whether prompts share their beginnings, their indices)`, the longest first so that batches hold little padding.

    The four orders of a question stand together and are scored from one reading of what they have in common; where
    there is nothing in common, or only one order, prompts are read one by one.
    """
    orders: dict[tuple[str, str], list[int]] = {}
    for index, item in enumerate(asked):
        orders.setdefault((item.row.source, item.row.id), []).append(index)
    whole = [
        indices
        for indices in orders.values()
        if share and len(indices) == len(ORDERS) and _shared_length([asked[index] for index in indices]) >= _WORTH_SHARING
    ]
    whole.sort(key=lambda indices: -len(asked[indices[0]].input_ids))
    questions = max(1, batch_size // len(ORDERS))
    for start in range(0, len(whole), questions):
        yield True, [index for indices in whole[start : start + questions] for index in indices]
    together = {index for indices in whole for index in indices}
    alone = sorted((index for index in range(len(asked)) if index not in together), key=lambda index: -len(asked[index].input_ids))
    for start in range(0, len(alone), batch_size):
        yield False, alone[start : start + batch_size]


def _shared_length(orders: Sequence[Asked]) -> int:
    """How many tokens the prompts begin with in common; each keeps at least one of its own."""
    shortest = min(len(item.input_ids) for item in orders)
    first = orders[0].input_ids
    differing = (place for place in range(shortest - 1) if any(item.input_ids[place] != first[place] for item in orders))
    return next(differing, shortest - 1)


def _label_logprobs(model: "PreTrainedModel", batch: Sequence[Asked], pad_token_id: int) -> list[list[float]]:
    """Log-probabilities of the four letters after each prompt, in float32."""
    ids, mask = _padded([item.input_ids for item in batch], pad_token_id, model.device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return _read_letters(model, batch, input_ids=ids, attention_mask=mask, position_ids=positions)


def _shared_label_logprobs(model: "PreTrainedModel", batch: Sequence[Asked], pad_token_id: int) -> list[list[float]]:
    """The same for whole questions, all their orders in a row: what the orders have in common is read once.

    The statutes and the question are most of a prompt. Their keys and values are kept, repeated for the orders, and
    the rest of each prompt is read after them; positions are those of the prompt read whole.
    """
    import torch

    size = len(ORDERS)
    lengths = [_shared_length(batch[start : start + size]) for start in range(0, len(batch), size)]
    shared, shared_mask = _padded(
        [batch[start * size].input_ids[:length] for start, length in enumerate(lengths)], pad_token_id, model.device
    )
    positions = (shared_mask.cumsum(dim=1) - 1).clamp(min=0)
    past = model(
        input_ids=shared, attention_mask=shared_mask, position_ids=positions, use_cache=True, logits_to_keep=1
    ).past_key_values
    past.batch_repeat_interleave(size)
    repeated = [length for length in lengths for _ in range(size)]
    rest, rest_mask = _padded(
        [item.input_ids[length:] for item, length in zip(batch, repeated, strict=True)], pad_token_id, model.device
    )
    starts = torch.tensor(repeated, device=model.device)
    positions = starts[:, None] + (rest_mask.cumsum(dim=1) - 1).clamp(min=0)
    mask = torch.cat([shared_mask.repeat_interleave(size, dim=0), rest_mask], dim=1)
    return _read_letters(model, batch, input_ids=rest, attention_mask=mask, position_ids=positions, past_key_values=past)


def _padded(sequences: Sequence[list[int]], pad_token_id: int, device: "torch.device") -> "tuple[torch.Tensor, torch.Tensor]":
    """Token ids filled up on the left, and the mask of what is no filling; both (sequences, longest)."""
    import torch

    width = max(map(len, sequences))
    ids = torch.tensor([[pad_token_id] * (width - len(sequence)) + sequence for sequence in sequences], device=device)
    padding = torch.tensor([width - len(sequence) for sequence in sequences], device=device)
    return ids, (torch.arange(width, device=device) >= padding[:, None]).long()


def _read_letters(model: "PreTrainedModel", batch: Sequence[Asked], **inputs: Any) -> list[list[float]]:
    """Runs the model and reads the four letters' log-probabilities at the last position of every row, in float32."""
    import torch

    labels = torch.tensor([item.label_ids for item in batch], device=model.device)  # (batch, 4)
    head, seen = model.get_output_embeddings(), []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, -1]))
    try:
        logits = model(**inputs, logits_to_keep=1).logits[:, -1].float()
    finally:
        hook.remove()
    letters = logits.gather(1, labels.to(logits.device))
    if type(head) is torch.nn.Linear and head.bias is None and not head.weight.is_meta:  # meta: the weights are offloaded
        # A bfloat16 logit near 20 comes in steps of an eighth, which ties letters; the four rows are worth float32. A
        # model that does more to its logits than this product (soft caps, scales) keeps its own. Where the model is
        # spread over devices, the head is on another than the one that prompts go to.
        place = head.weight.device
        exact = (seen[0].to(place).float()[:, None] * head.weight[labels.to(place)].float()).sum(dim=-1).to(letters.device)
        if torch.allclose(exact, letters, rtol=0.02, atol=0.05):
            letters = exact
    logprobs = letters - logits.logsumexp(dim=-1, keepdim=True)  # (batch, 4)
    if not torch.isfinite(logprobs).all():
        raise FloatingPointError("the model's logits are not finite; load it in bfloat16 or float32, not in float16")
    return logprobs.tolist()


def _prediction(item: Asked, letter_logprobs: dict[str, float]) -> Prediction:
    letter = max(letter_logprobs, key=letter_logprobs.__getitem__)
    return item.prediction(letter=letter, letter_logprobs=letter_logprobs)
