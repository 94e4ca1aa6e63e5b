"""`/v1/chat/completions`: what `transformers serve` answers, in OpenAI's shape and under the name that was asked for."""

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lawft_trl.job_server.api_errors import ApiError
from lawft_trl.job_server.job_requests import ChatRequest
from lawft_trl.job_server.served_models import Model, ServedModels

_TIMEOUT = httpx.Timeout(600, connect=10)
_TIMED_OUT = "the model did not go on answering in time; it was ended, and the next request starts it anew"
_SERVER_ERROR = {"kind": "server_error", "code": "model_failed"}


async def relay(models: ServedModels, model: Model, request: ChatRequest) -> Response:
    """Answers a request by its model.

    Args:
        models: the served ones.
        model: the one that is asked.
        request: what is asked.

    Raises:
        ApiError: 400 for what the model's chat template refuses, 5xx for what goes wrong there.
    """
    stack = AsyncExitStack()  # held until the last chunk has gone out
    try:
        url = await stack.enter_async_context(models.url_of(model))
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False))
        asked = client.build_request("POST", f"{url}/v1/chat/completions", json=request.forwarded(str(model.folder)))
        try:
            answer = await client.send(asked, stream=bool(request.stream))
        except httpx.TimeoutException:
            models.give_up(model, url)
            raise ApiError(504, _TIMED_OUT, **_SERVER_ERROR) from None
        except httpx.HTTPError as error:
            raise ApiError(502, f"the model's server did not answer ({type(error).__name__})", **_SERVER_ERROR) from None
        stack.push_async_callback(answer.aclose)
        if answer.status_code != 200:
            await answer.aread()
            raise _refused(answer)
        if request.stream:
            usage = bool(request.stream_options and request.stream_options.include_usage)
            return _Stream(_chunks(answer, model.name, usage, lambda: models.give_up(model, url)), stack.pop_all())
        return JSONResponse(_completion(answer.json(), model.name))
    finally:
        await stack.aclose()


def _completion(answer: dict[str, Any], model: str) -> dict[str, Any]:
    """A whole answer, with the fields that `transformers serve` leaves out where they are empty."""
    choices = [
        {
            "index": choice["index"],
            "finish_reason": choice["finish_reason"],
            "logprobs": None,
            "message": {"role": "assistant", "content": choice["message"].get("content") or "", "refusal": None, "annotations": []},
        }
        for choice in answer["choices"]
    ]
    return {**_head("chat.completion", model), "choices": choices, "usage": answer["usage"]}


class _Stream(StreamingResponse):
    """Chunks, and what is to be closed behind them, also when the client has gone before the first."""

    def __init__(self, chunks: AsyncIterator[str], held: AsyncExitStack) -> None:
        super().__init__(chunks, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self.held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.held:
            await super().__call__(scope, receive, send)


async def _chunks(answer: httpx.Response, model: str, usage: bool, give_up: Callable[[], None]) -> AsyncIterator[str]:
    """An answer's chunks as server-sent events; the tokens in one of their own, if they are asked for."""
    head = _head("chat.completion.chunk", model)
    try:
        async for line in answer.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if "choices" not in chunk:
                raise ValueError
            choices = [{"index": choice["index"], "delta": choice["delta"], "logprobs": None, "finish_reason": choice.get("finish_reason")} for choice in chunk["choices"]]
            yield _event({**head, "choices": choices, **({"usage": None} if usage else {})})
            if usage and chunk.get("usage"):
                yield _event({**head, "choices": [], "usage": chunk["usage"]})
    except httpx.TimeoutException:
        give_up()
        yield _event(ApiError(504, _TIMED_OUT, **_SERVER_ERROR).body)
        return
    except (httpx.HTTPError, ValueError):  # the status has gone out; what is left is an event of its own
        yield _event(ApiError(502, "the model failed while it answered", **_SERVER_ERROR).body)
        return
    yield "data: [DONE]\n\n"


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{secrets.token_hex(12)}", "object": kind, "created": int(time.time()), "model": model, "system_fingerprint": None}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _refused(answer: httpx.Response) -> ApiError:
    """What `transformers serve` said; of an error of its own it says nothing, and its most frequent one is the chat template's."""
    if answer.status_code < 500:
        return ApiError(400, f"the model's server refused the request: {answer.text[:500]}", code="invalid_request")
    said = "the model's server failed; a chat template may refuse the roles of these messages, or they are longer than the model's context"
    return ApiError(500, said, **_SERVER_ERROR)
