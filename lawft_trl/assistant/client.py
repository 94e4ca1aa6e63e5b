"""One client for every OpenAI-compatible endpoint, over `chat.completions` only: all servers have that. docs/client.md."""

import dataclasses
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lawft_trl.assistant.answer_forms import read_form, repair_request, with_schema
from lawft_trl.assistant.circuit import Circuit
from lawft_trl.assistant.failures import ModelError, ServerFailed, UnreadableAnswer, failure_of
from lawft_trl.assistant.models import BACKENDS, ModelEntry
from lawft_trl.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

Messages = Sequence[Mapping[str, str]]

_CONNECT = 10.0  # seconds; a host that is not there is known sooner than a slow model
_NO_KEY = "none"  # the SDK insists on a key; a server without keys does not read it


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A model's answer.

    Attributes:
        text: the answer; `""` where the model wrote nothing. Not shown in `repr`: it may quote the document.
        model: the name under which the server answered.
        finish_reason: `"stop"`, `"length"` (cut), `"content_filter"`…; `None` for a stream that was left or broke.
        prompt_tokens: as the server counts them, `None` where it does not say.
        completion_tokens: likewise.
        seconds: from the request to the end of the answer, retries included.
        unsent: parameters that were asked for and that this backend or model does not take.
    """

    text: str = field(repr=False)
    model: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    unsent: tuple[str, ...] = ()

    @property
    def cut(self) -> bool:
        """Whether the answer ended at its greatest length."""
        return self.finish_reason == "length"


class LegalClient:
    """Asks one model. `ask`, `ask_json` and `stream` take, beside the messages:

    `model` (another id at the same URL, such as `entry.base_model`), `temperature`, `max_tokens`, `seed`, `stop`; what is
    left out is not sent. All raise `ModelError`s, whose text is Japanese and for the user.

    Args:
        entry: the model.
        timeout: seconds without a sign of the server, for each attempt.
        retries: further attempts after a lost connection, a timeout, 408, 409, 429 or 5xx, with growing pauses or as the
            server's Retry-After says (up to two minutes; a longer one is not waited for).
        circuit: shared by clients of one server; `None` for one of its own.

    Attributes:
        entry: the model.
        last: the reply of the last stream, also of one that was left or broke. One client serves one user at a time.

    Raises:
        InputError: when the environment variable with the key is not set.
    """

    def __init__(self, entry: ModelEntry, *, timeout: float = 120.0, retries: int = 2, circuit: Circuit | None = None):
        import openai

        # A proxy would see what is meant to stay on this machine, and a redirect would carry the document elsewhere.
        transport = openai.DefaultHttpxClient(trust_env=not entry.is_local, follow_redirects=False)
        self.entry, self.circuit, self.last = entry, circuit or Circuit(), None
        self._openai = openai.OpenAI(base_url=entry.base_url, api_key=_key(entry), timeout=openai.Timeout(timeout, connect=min(timeout, _CONNECT)), max_retries=retries, http_client=transport)
        if entry.backend != "openai":  # read from the environment; nobody else's business
            self._openai.organization = self._openai.project = None

    def ask(self, messages: Messages, **options: Any) -> Reply:
        """The whole answer at once."""
        return self._send(*self._request(messages, **options))

    def stream(self, messages: Messages, **options: Any) -> Iterator[str]:
        """The answer piece by piece; `last` is the reply once it has ended. A failure on the way holds in `text` what came."""
        import openai

        request, unsent = self._request(messages, **options)
        if self.entry.sends("stream_options"):
            request["stream_options"] = {"include_usage": True}
        self.last = None
        self.circuit.check(self.entry.alias)
        received, started, failure = _Received(request["model"]), time.monotonic(), None
        try:
            with self._openai.chat.completions.create(stream=True, **request) as chunks:
                for chunk in chunks:
                    piece = received.add(chunk)
                    if piece:
                        yield piece
            if received.finish_reason is None:
                detail = "回答が途中で切れました。" if received.pieces else "ストリーム形式の回答が返りませんでした。"
                failure = ServerFailed(self.entry.alias, detail, text=received.text)
        except (openai.OpenAIError, ValueError) as error:
            failure = failure_of(error, self.entry, text=received.text)
        finally:
            self.last = received.reply(time.monotonic() - started, unsent, broken=failure is not None)
        self._count(failure)

    def ask_json(self, messages: Messages, form: "type[BaseModel]", **options: Any) -> tuple["BaseModel", Reply]:
        """An answer in a form. One that does not fit is told what is wrong, once.

        Returns:
            The answer, and the last reply; where a repair was needed its tokens and seconds are those of both.

        Raises:
            UnreadableAnswer: when the repaired answer does not fit either.
        """
        request, unsent = self._request(with_schema(messages, form), **options)
        if self.entry.sends("response_format"):
            request["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": form.model_json_schema()}}
        reply = self._send(request, unsent)
        value, faults = read_form(reply.text, form)
        if value is not None:
            return value, reply
        repair = [{"role": "assistant", "content": reply.text or "（出力なし）"}, {"role": "user", "content": repair_request(faults, cut=reply.cut)}]
        second = self._send({**request, "messages": [*request["messages"], *repair]}, unsent)
        reply = dataclasses.replace(
            second,
            prompt_tokens=_sum(reply.prompt_tokens, second.prompt_tokens),
            completion_tokens=_sum(reply.completion_tokens, second.completion_tokens),
            seconds=reply.seconds + second.seconds,
        )
        value, _ = read_form(reply.text, form)
        if value is None:
            detail = "（長さの上限で途切れています）" if reply.cut else ""
            raise UnreadableAnswer(self.entry.alias, detail, text=reply.text)
        return value, reply

    def close(self) -> None:
        """Closes the connections."""
        self._openai.close()

    def _request(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The parameters of a request, and what was asked for and is not among them."""
        wanted = {"temperature": temperature, "seed": seed, "stop": stop, "max_tokens": max_tokens}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        sent = {name: value for name, value in wanted.items() if self.entry.sends(name)}
        if "max_tokens" in sent:
            sent[BACKENDS[self.entry.backend]["length"]] = sent.pop("max_tokens")
        if self.entry.chat_template_kwargs and self.entry.sends("chat_template_kwargs"):
            sent["extra_body"] = {"chat_template_kwargs": dict(self.entry.chat_template_kwargs)}
        request = {"model": model or self.entry.model, "messages": [dict(message) for message in messages], **sent}
        return request, tuple(name for name in wanted if not self.entry.sends(name))

    def _send(self, request: Mapping[str, Any], unsent: tuple[str, ...]) -> Reply:
        """One request and its retries."""
        import openai

        self.circuit.check(self.entry.alias)
        started, failure, reply = time.monotonic(), None, None
        try:
            completion = self._openai.chat.completions.create(**request)
            reply = _reply(completion, request["model"], time.monotonic() - started, unsent)
        except (openai.OpenAIError, ValueError) as error:
            failure = failure_of(error, self.entry)
        self._count(failure)
        return reply

    def _count(self, failure: ModelError | None) -> None:
        """Tells the circuit, and raises the failure: not from within an `except`, so that no foreign text hangs on it."""
        if failure is None:
            self.circuit.succeeded()
            return
        self.circuit.failed(failure)
        raise failure


class _Received:
    """What has come of a stream."""

    def __init__(self, model: str):
        self.model, self.pieces, self.finish_reason, self.usage = model, [], None, None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def add(self, chunk: Any) -> str:
        """Takes a chunk and returns its text. The last one may hold the usage and no choice."""
        self.usage = getattr(chunk, "usage", None) or self.usage
        self.model = getattr(chunk, "model", None) or self.model
        choices = getattr(chunk, "choices", None)
        if not isinstance(choices, list) or not choices:
            return ""
        self.finish_reason = getattr(choices[0], "finish_reason", None) or self.finish_reason
        piece = getattr(getattr(choices[0], "delta", None), "content", None)
        if not isinstance(piece, str):
            return ""
        self.pieces.append(piece)
        return piece

    def reply(self, seconds: float, unsent: tuple[str, ...], *, broken: bool) -> Reply:
        prompt, completion = _usage(self.usage)
        ended = None if broken else self.finish_reason
        return Reply(text=self.text, model=self.model, finish_reason=ended, prompt_tokens=prompt, completion_tokens=completion, seconds=seconds, unsent=unsent)


def _reply(completion: Any, model: str, seconds: float, unsent: tuple[str, ...]) -> Reply:
    """Reads a completion; the SDK does not hold servers to its form.

    Raises:
        ValueError: when it is none.
    """
    try:
        choice = completion.choices[0]
        text = choice.message.content or getattr(choice.message, "refusal", None) or ""
        prompt, generated = _usage(completion.usage)
        finish = str(choice.finish_reason) if choice.finish_reason else None
    except (AttributeError, IndexError, TypeError):
        text = None
    if not isinstance(text, str):
        raise ValueError("not a chat completion")
    return Reply(text=text, model=str(completion.model or model), finish_reason=finish, prompt_tokens=prompt, completion_tokens=generated, seconds=seconds, unsent=unsent)


def _usage(usage: Any) -> tuple[int | None, int | None]:
    counts = (getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))
    return tuple(count if isinstance(count, int) else None for count in counts)


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _key(entry: ModelEntry) -> str:
    """The key from the environment."""
    if entry.api_key_env is None:
        return _NO_KEY
    key = os.environ.get(entry.api_key_env, "").strip()
    if not key:
        raise InputError(f"{entry.alias}: the environment variable {entry.api_key_env} is not set; it should hold the key: export {entry.api_key_env}=…")
    if not key.isascii() or not key.isprintable():
        raise InputError(f"{entry.alias}: the environment variable {entry.api_key_env} holds characters that no key has; set it anew")
    return key
