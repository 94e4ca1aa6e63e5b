"""Sends requests to an OpenAI-compatible endpoint: a hosted one, or vLLM, llama.cpp and others on one's own machine."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lawft_trl.errors import InputError
from lawft_trl.reasons.cache import Request, Response

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_GIVE_UP = 10  # failures in a row, each after its own retries, that are the endpoint's and not the questions'
_NO_KEY = "none"  # the client insists on a key; an endpoint without keys does not read it


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where to send, and how patiently.

    Attributes:
        url: the base URL, `"http://localhost:8000/v1"`.
        api_key: `None` for an endpoint that wants none. It stands in no message, whatever the server answers.
        concurrency: requests under way at a time.
        timeout: seconds for one attempt.
        retries: further attempts after a connection error, a timeout, 408, 409, 429 or 5xx, with growing pauses or as
            the server's Retry-After says.
    """

    url: str
    api_key: str | None = field(repr=False)
    concurrency: int = 8
    timeout: float = 300.0
    retries: int = 5

    @property
    def address(self) -> str:
        """The URL without what may be secret in it: user, password and query."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()

    def send(self, requests: Iterable[Request], keep: Callable[[Request, Response], bool]) -> dict[str, str]:
        """Sends requests, several at a time.

        Args:
            requests: what to ask.
            keep: called with every response as it arrives; nothing more is sent once it has said `False`.

        Returns:
            Key -> error of every request that failed for good.

        Raises:
            InputError: when the endpoint refuses everyone (key, model or path), or fails again and again.
        """
        return asyncio.run(self._send(requests, keep))

    async def _send(self, requests: Iterable[Request], keep: Callable[[Request, Response], bool]) -> dict[str, str]:
        import openai

        waiting, failed, go_on, in_a_row = iter(requests), {}, True, 0

        async def work(client: openai.AsyncOpenAI) -> None:
            nonlocal go_on, in_a_row
            for request in waiting:
                try:
                    response = await _ask(client, request)
                except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
                    raise self._error("refuses", [self._told(error)]) from None
                except (openai.OpenAIError, ValueError) as error:
                    failed[request.key] = self._told(error)
                    in_a_row += 1
                    if in_a_row >= _GIVE_UP:
                        raise self._error(f"failed {in_a_row} times in a row", dict.fromkeys(failed.values())) from None
                else:
                    in_a_row = 0
                    go_on = keep(request, response) and go_on
                if not go_on:
                    return

        settings = {"base_url": self.url, "api_key": self.api_key or _NO_KEY, "timeout": self.timeout, "max_retries": self.retries}
        async with openai.AsyncOpenAI(**settings) as client:
            await asyncio.gather(*(work(client) for _ in range(self.concurrency)))
        return failed

    def _error(self, what: str, told: Iterable[str]) -> InputError:
        hint = "check --endpoint, the model's name, the key (--api-key-env) and the parameters (--body)"
        return InputError(f"{self.address}: the endpoint {what}", [*told, hint])

    def _told(self, error: Exception) -> str:
        """An error in one line: its status and what the endpoint said, which may repeat the key."""
        cause = f" ({error.__cause__})" if error.__cause__ is not None and str(error.__cause__) else ""
        text = " ".join(f"{type(error).__name__}: {error}{cause}".split())
        return (text.replace(self.api_key, "(the key)") if self.api_key else text)[:300]


async def _ask(client: "AsyncOpenAI", request: Request) -> Response:
    """One attempt and its retries.

    Raises:
        openai.OpenAIError: when the endpoint does not answer or answers with an error.
        ValueError: when what it answers is no chat completion.
    """
    completion = await client.chat.completions.create(
        model=request.model, messages=list(request.messages), extra_body=dict(request.parameters)
    )
    try:  # the client does not hold a server to the form
        choice, usage = completion.choices[0], completion.usage
        return Response(
            text=choice.message.content or "",
            finish_reason=str(choice.finish_reason),
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            teacher=str(completion.model),
        )
    except (AttributeError, IndexError, TypeError):
        shown = completion if isinstance(completion, str) else repr(completion)
        raise ValueError(f"not a chat completion: {shown:.200}") from None
