"""A conversation that stays within a budget of tokens."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lawft_trl.assistant.client import LegalClient, Reply
from lawft_trl.assistant.failures import TooLong
from lawft_trl.data.chat import encode, prompt_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]
CountTokens = Callable[[Sequence[Message]], int]

_PER_MESSAGE = 8  # role and markers around a message


class Conversation:
    """A model, and what was said. Only what was answered becomes part of the history.

    Args:
        client: the model.
        system: the system message; `None` for the one its run was trained with, `""` for none.
        token_budget: the greatest length of a prompt: system message, history and newest turn. The model's context less the
            greatest length of an answer.
        count_tokens: counts the tokens of a prompt; see `count_with`. `None` for `estimate_tokens`.

    Attributes:
        history: the turns in pairs, user and assistant, without the system message.
        left_out: how many turns the last prompt had to leave out; they are forgotten.
        estimated: whether tokens are estimated and not counted.
        warning: that the server made another prompt of the last messages than the tokenizer here does, in Japanese.
    """

    def __init__(self, client: LegalClient, *, system: str | None = None, token_budget: int, count_tokens: CountTokens | None = None):
        self.client, self.token_budget = client, token_budget
        self.system = (client.entry.system if system is None else system) or None
        self.estimated = count_tokens is None
        self.history: list[Message] = []
        self.left_out = 0
        self.warning: str | None = None
        self._count = count_tokens or estimate_tokens

    def say(self, text: str, **options: Any) -> Reply:
        """Answers a turn of the user; options are those of `LegalClient.ask`.

        Raises:
            TooLong: when system message and turn alone are over the budget.
            ModelError: when the request failed; the turn can be said again.
        """
        messages = self._prompt(text)
        reply = self.client.ask(messages, **options)
        self._keep(text, reply.text)
        self._compare(messages, reply)
        return reply

    def stream(self, text: str, **options: Any) -> Iterator[str]:
        """`say` piece by piece; `client.last` is the reply. What came of an answer that is left early counts as the answer."""
        messages, pieces = self._prompt(text), []
        try:
            for piece in self.client.stream(messages, **options):
                pieces.append(piece)
                yield piece
        except (GeneratorExit, KeyboardInterrupt):
            if pieces:
                self._keep(text, "".join(pieces))
            raise
        self._keep(text, "".join(pieces))
        self._compare(messages, self.client.last)

    def clear(self) -> None:
        """Forgets what was said."""
        self.history, self.left_out, self.warning = [], 0, None

    def _prompt(self, text: str) -> list[Message]:
        messages, self.left_out = fit(self.system, [*self.history, {"role": "user", "content": text}], self.token_budget, self._count)
        if messages is None:
            self.left_out = 0
            about = "概算で" if self.estimated else ""
            raise TooLong(self.client.entry.alias, f"この発言だけで{about}上限の {self.token_budget} トークンを超えます。")
        return messages

    def _keep(self, text: str, answer: str) -> None:
        kept = self.history[self.left_out :]
        self.history = [*kept, {"role": "user", "content": text}, {"role": "assistant", "content": answer}]

    def _compare(self, messages: Sequence[Message], reply: Reply) -> None:
        """A prompt of another length is another prompt: the model is not asked as it was trained."""
        here = None if self.estimated else self._count(messages)
        differs = here is not None and reply.prompt_tokens not in (None, here)
        counts = f"サーバーは入力を {reply.prompt_tokens} トークンと数えました（手元では {here}）。"
        self.warning = f"{counts}チャットテンプレートかトークナイザーが、学習したときのものと違うおそれがあります。" if differs else None


def fit(system: str | None, turns: Sequence[Message], budget: int, count_tokens: CountTokens) -> tuple[list[Message] | None, int]:
    """The prompt with as many of the latest turns as fit.

    Args:
        system: the system message, never left out.
        turns: user and assistant in turn, ending with the user's newest, which is never left out. They go in pairs, so that
            the prompt begins with the user.
        budget: tokens.
        count_tokens: of a prompt.

    Returns:
        The messages, `None` where not even the newest turn fits; and how many turns were left out.
    """
    opening = [{"role": "system", "content": system}] if system else []
    for left_out in range(0, len(turns), 2):
        messages = [*opening, *turns[left_out:]]
        if count_tokens(messages) <= budget:
            return messages, left_out
    return None, len(turns)


def estimate_tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """About how many tokens a prompt has: one per three letters and blanks of ASCII, one per other character, and some per message.

    An estimate; vocabularies differ. docs/client.md says how it compares with counts.
    """
    total = 0
    for message in messages:
        latin = sum(character.isascii() and (character.isalpha() or character == " ") for character in message["content"])
        total += _PER_MESSAGE + len(message["content"]) - latin + math.ceil(latin / 3)
    return total


def count_with(tokenizer: "PreTrainedTokenizerBase", template_kwargs: Mapping[str, Any]) -> CountTokens:
    """Counts with a model's own tokenizer and chat template, given the template's arguments."""
    return lambda messages: len(encode(tokenizer, prompt_text(tokenizer, messages, template_kwargs)))
