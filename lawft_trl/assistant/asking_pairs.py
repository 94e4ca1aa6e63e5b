"""Asks a model question after question and gets over what can be got over: a pause the server wants, one question that fails."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lawft_trl.assistant.client import LegalClient, Messages
from lawft_trl.assistant.failures import (
    CircuitOpen,
    ModelError,
    RateLimited,
    Refused,
    ServerFailed,
    TimedOut,
    UnreadableAnswer,
)
from lawft_trl.errors import InputError

Got = TypeVar("Got")

_ONE_QUESTION = (TimedOut, ServerFailed, Refused, UnreadableAnswer)  # the next one may go well
_PAUSES = 5
_IN_A_ROW = 3
_LONGEST_PAUSE = 120.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A model's answer to one prompt.

    Attributes:
        text: `""` where the model wrote nothing, or none came.
        cut: whether it ended at its greatest length.
        failed: the name of the failure because of which none came; such a question is not scored.
        seconds: how long it took.
        completion_tokens: as the server counts them.
    """

    text: str = field(repr=False)
    cut: bool = False
    failed: str | None = None
    seconds: float = 0.0
    completion_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class AskedModel:
    """A model and how it is asked."""

    client: LegalClient
    model: str
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0

    def ask(self, messages: Messages) -> Answer:
        """One answer; a failure that the next question may not have is in it.

        Raises:
            InputError: when the model cannot be asked at all.
        """
        try:
            reply = patiently(lambda: self.client.ask(messages, model=self.model, temperature=self.temperature, max_tokens=self.max_tokens, seed=self.seed))
        except ModelError as error:
            if not isinstance(error, _ONE_QUESTION):
                raise cannot_ask(self.model, error) from None
            return Answer(text="", failed=type(error).__name__)
        return Answer(text=reply.text, cut=reply.cut, seconds=reply.seconds, completion_tokens=reply.completion_tokens)


def patiently(request: Callable[[], Got], *, busy: bool = False) -> Got:
    """What a request returns, waiting out the pauses that a busy server asks for.

    Args:
        request: sends it.
        busy: whether a pause that is on already may come from a busy server; else it comes from failures, and nothing is gained by
            waiting.

    Raises:
        ModelError: any other failure, and too many or too long pauses.
    """
    for left in reversed(range(_PAUSES + 1)):
        try:
            return request()
        except (RateLimited, CircuitOpen) as error:
            busy = busy or isinstance(error, RateLimited)
            pause = error.retry_after or 1.0
            if not busy or not left or pause > _LONGEST_PAUSE:
                raise
        time.sleep(pause)
    raise AssertionError("the last round returns or raises")


def cannot_ask(model: str, error: ModelError) -> InputError:
    """The end of a command whose model does not answer."""
    return InputError(f"{model} cannot be asked, and nothing was written: {error}")


def is_of_one_question(error: ModelError) -> bool:
    """Whether a failure says nothing of the next question."""
    return isinstance(error, _ONE_QUESTION)


def refuse_failures(answers: Sequence[Answer], what: str, *, whole: bool = False) -> None:
    """Raises an `InputError` when the last three answers failed: the server is down, or nothing fits the model's context.

    Args:
        answers: so far.
        what: who was asked, and how.
        whole: these are all; then no more than a fifth may have failed, because what is left says too little.
    """
    failed = [answer.failed for answer in answers if answer.failed]
    if (whole and len(failed) > len(answers) / 5) or (len(answers) >= _IN_A_ROW and all(answer.failed for answer in answers[-_IN_A_ROW:])):
        kinds = ", ".join(f"{kind} {failed.count(kind)}" for kind in sorted(set(failed)))
        raise InputError(f"{what}: {len(failed)} of {len(answers)} questions got no answer ({kinds}); nothing was written", ["look at the server's log; TooLong: fewer --shots, or a larger context"])
