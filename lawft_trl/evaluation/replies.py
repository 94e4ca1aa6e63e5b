"""Replies in dialogues: what a model writes, what it would write at the tutor's places, and how likely a reply is to it."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from lawft_trl.data.chat import encode, end_of_turn, prompt_text
from lawft_trl.data.rows import Row
from lawft_trl.evaluation.generation import Generation, write

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_POSITIONS = 128  # whose logits, each as long as the vocabulary, are held at once
_QUIET_SECONDS = 3


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A turn of the tutor that a model is to take.

    Attributes:
        row: its row: the history, and what the tutor says.
        input_ids: the history's tokens up to the opening of the turn.
        output_ids: the tutor's tokens with the end of the turn.
    """

    row: Row
    input_ids: list[int]
    output_ids: list[int]

    @property
    def conversation(self) -> str:
        """Which conversation it is of; the row itself where the file does not say."""
        return str(self.row.meta.get("conversation") or self.row.meta.get("group") or self.row.id)

    @property
    def group(self) -> str:
        """Equal for conversations that no split divides."""
        return str(self.row.meta.get("group") or self.conversation)

    @property
    def prompt_sha256(self) -> str:
        """Hash of the messages: the same for two models that are asked the same, whatever their tokens."""
        return hashlib.sha256(json.dumps(list(self.row.prompt), ensure_ascii=False, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a model said.

    Attributes:
        text: without special tokens.
        tokens: as they were written, without the end token.
        cut: whether it reached the greatest length.
    """

    text: str
    tokens: list[int]
    cut: bool


def dialogue_turns(rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase", template_kwargs: Mapping[str, Any]) -> list[Turn]:
    """The rows as turns, in the tokens they are trained in."""
    end, turns = end_of_turn(tokenizer, template_kwargs), []
    for row in rows:
        prompt = prompt_text(tokenizer, row.prompt, template_kwargs)
        input_ids = encode(tokenizer, prompt)
        output_ids = encode(tokenizer, prompt + row.output + end)[len(input_ids) :]
        turns.append(Turn(row=row, input_ids=input_ids, output_ids=output_ids))
    return turns


def write_replies(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    turns: Sequence[Turn],
    *,
    max_new_tokens: int,
    template_kwargs: Mapping[str, Any],
    batch_size: int,
    progress: str | None,
) -> list[Reply]:
    """Lets a model take the turns, greedily; see `lawft_trl.evaluation.generation.write`.

    Args:
        model: its `eval` mode and device are used as they are.
        tokenizer: the one that `turns` were made with; as it pads is neither asked nor changed.
        turns: what is to be said, in any order.
        max_new_tokens: the longest reply.
        template_kwargs: arguments of the chat template.
        batch_size: replies that are written together.
        progress: what the progress bar says; `None`: there is none.
    """
    settings = {"template_kwargs": template_kwargs, "batch_size": batch_size, "progress": progress}
    written = write(model, tokenizer, turns, Generation(max_new_tokens=max_new_tokens), **settings)
    return [Reply(text=_decode(tokenizer, one.tokens), tokens=one.tokens, cut=one.cut) for (one,) in written]


def forced_replies(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", turns: Sequence[Turn]) -> list[str]:
    """The most likely token at each of the tutor's, given the true history and the tutor's true tokens before it.

    This is no reply that the model would give: after every wrong token it is put right again.
    """
    import torch

    with torch.inference_mode():
        found = [[token for logits in _logits(model, turn.input_ids, turn.output_ids) for token in logits.argmax(dim=-1).tolist()] for turn in turns]
    return [_decode(tokenizer, tokens) for tokens in found]


def perplexity(model: "PreTrainedModel", turns: Sequence[Turn], replies: Sequence[Reply], *, progress: str | None) -> float | None:
    """How much the replies surprise a model, per token: exp of the mean negative log-likelihood over all their tokens.

    The end of the turn does not count, since a reply that was cut has none. `None` where no reply has a token.
    """
    import torch

    losses = []
    with torch.inference_mode():
        for turn, reply in zip(tqdm(turns, desc=progress, unit="reply", delay=_QUIET_SECONDS, disable=progress is None), replies, strict=True):
            start = 0
            for logits in _logits(model, turn.input_ids, reply.tokens):
                said = torch.tensor(reply.tokens[start : start + len(logits)], device=logits.device)
                losses += torch.nn.functional.cross_entropy(logits.float(), said, reduction="none").tolist()
                start += len(logits)
    return math.exp(min(math.fsum(losses) / len(losses), 700)) if losses else None


def _logits(model: "PreTrainedModel", prompt: Sequence[int], output: Sequence[int]) -> "Iterator[torch.Tensor]":
    """The logits before every token of an output, `(at most 128, vocabulary)` at a time.

    Each piece is read by the model's own forward, with what it does to its logits (soft caps, scales), and under whatever the
    trainer has put around that. Few outputs need more than one.
    """
    import torch

    ids = torch.tensor([[*prompt, *output[:-1]]], device=model.device)
    for start in range(0, len(output), _POSITIONS):
        places = torch.arange(start, min(start + _POSITIONS, len(output)), device=model.device) + len(prompt) - 1
        yield model(input_ids=ids, attention_mask=torch.ones_like(ids), logits_to_keep=places, use_cache=False).logits[0]


def _decode(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int]) -> str:
    """The text of tokens without the special ones; marks are none, even where they were added to the tokenizer."""
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
