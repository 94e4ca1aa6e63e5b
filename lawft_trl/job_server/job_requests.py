"""What clients may ask for, by OpenAI's description (limits and names), and what of it is not done here, in words."""

import re
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from lawft_trl.job_server.api_errors import ApiError

JOB_BODY = 64 * 1024  # bytes of a request
CHAT_BODY = 8 * 1024 * 1024
HEARD_OUT = 64 * 1024 * 1024  # of one that is too large, so that a client that is still sending comes to read the answer

_Auto = Literal["auto"]
_Text = Annotated[str, Field(max_length=512)]
# Not of a chat template but of what renders it, by transformers' tokenizers and processors: a template of the client's own could loop for ever.
_NOT_OF_A_TEMPLATE = frozenset(
    ["self", "conversation", "conversations", "messages", "tools", "documents", "chat_template", "add_generation_prompt", "continue_final_message", "tokenize", "sanitize_control_tokens", "padding", "padding_side", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask", "load_audio_from_video", "tokenizer_kwargs", "processor_kwargs", "template_kwargs", "kwargs"]
)
_Nothing = Annotated[list[Any], Field(max_length=0)] | None
_Form = TypeVar("_Form", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Hyperparameters(_Strict):
    """`auto` is what the recipe of the base model says."""

    n_epochs: _Auto | Annotated[int, Field(ge=1, le=50)] = "auto"
    batch_size: _Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    learning_rate_multiplier: _Auto | Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = "auto"


class Supervised(_Strict):
    """Settings of the one method there is."""

    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)


class Method(_Strict):
    """How is trained."""

    type: Literal["supervised"]
    supervised: Supervised = Field(default_factory=Supervised)


class JobRequest(_Strict):
    """`POST /v1/fine_tuning/jobs`."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    training_file: Annotated[str, Field(min_length=1, max_length=64)]
    validation_file: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    metadata: Annotated[dict[Annotated[str, Field(min_length=1, max_length=64)], _Text], Field(max_length=16)] | None = None
    integrations: list[Any] | None = None

    @field_validator("suffix")
    @classmethod
    def _plain_suffix(cls, suffix: str | None) -> str | None:
        if suffix is not None and not re.fullmatch(r"[\w.-]+", suffix):
            raise ValueError("letters, digits and . _ - only; it becomes a part of the model's name")
        return suffix

    @field_validator("integrations")
    @classmethod
    def _no_integrations(cls, integrations: list[Any] | None) -> list[Any] | None:
        if integrations:
            raise ValueError("none here; what a training reports to is set in the base model's recipe (training.report_to)")
        return integrations

    @model_validator(mode="after")
    def _one_place(self) -> "JobRequest":
        if self.method is not None and self.hyperparameters is not None:
            raise ValueError("hyperparameters stand in `method.supervised.hyperparameters` or, as formerly, beside it; not in both")
        return self

    @property
    def settings(self) -> Hyperparameters:
        """The hyperparameters, wherever they were given."""
        return self.method.supervised.hyperparameters if self.method else self.hyperparameters or Hyperparameters()


class TextPart(_Strict):
    """A part of a message; there are no images here."""

    type: Literal["text"]
    text: str


class ChatMessage(_Strict):
    """A message of a conversation. A client sends an answer back as it came, with all its empty fields, and it may be an empty one."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None
    name: None = None
    refusal: Literal[""] | None = None
    annotations: _Nothing = None
    audio: None = None
    tool_calls: _Nothing = None
    function_call: None = None

    @model_validator(mode="after")
    def _something_said(self) -> "ChatMessage":
        if self.role != "assistant" and not self.content:
            raise ValueError("content: missing or empty; only the assistant's may be")
        return self

    def plain(self) -> dict[str, str]:
        """Role and text, as chat templates take them."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or [])
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class TextFormat(_Strict):
    """The one form of an answer there is."""

    type: Literal["text"]


class StreamOptions(_Strict):
    """Whether the last chunk tells the tokens."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class ChatRequest(_Strict):
    """`POST /v1/chat/completions`. What `transformers serve` would ignore without a word is refused, unless it asks for nothing."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=32768)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=32768)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    stop: Annotated[str, Field(min_length=1)] | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=4)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    response_format: TextFormat | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: Literal[False] | None = None
    service_tier: str | None = None

    @field_validator("chat_template_kwargs")
    @classmethod
    def _of_a_template(cls, named: dict[str, Any] | None) -> dict[str, Any] | None:
        wrong = sorted(_NOT_OF_A_TEMPLATE & set(named or {}))
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: not an argument of a chat template")
        return named

    def forwarded(self, model: str) -> dict[str, Any]:
        """What `transformers serve` is sent, under its own name for the model."""
        kept = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop", "stream", "chat_template_kwargs")
        values = {key: getattr(self, key) for key in kept if getattr(self, key) is not None}
        return {**values, "model": model, "messages": [message.plain() for message in self.messages]}


async def read_body(request: Request, form: type[_Form], most: int) -> _Form:
    """The JSON body of a request, held against its form.

    Args:
        request: the request.
        form: what it must be.
        most: bytes it may have.

    Raises:
        ApiError: 413 where it has more, 415 where it is not sent as JSON, 400 for what is wrong with it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, f"expected Content-Type: application/json, found {kind[:80] or 'none'}", code="unsupported_content_type")
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= most:
            body += chunk
        elif size > HEARD_OUT:
            break
    if size > most:
        raise ApiError(413, f"the body is larger than {most} bytes", code="request_too_large")
    try:
        return form.model_validate_json(bytes(body))
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> ApiError:
    """All that is wrong, the first field named; what was sent is not repeated."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    named = [(_name(fault), fault["msg"].removeprefix("Value error, ")) for fault in faults]
    text = "; ".join(dict.fromkeys(f"{name}: {said}" if name else said for name, said in named[:8]))
    code = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter", "json_invalid": "invalid_json"}
    return ApiError(400, text, param=named[0][0] or None, code=code.get(faults[0]["type"], "invalid_value"))


def _name(fault: ErrorDetails) -> str:
    """The field that is meant, `messages.0.role`; of an unknown one the client's own word."""
    parts = [str(part) for part in fault["loc"] if isinstance(part, int) or part in _FIELDS]
    unknown = [str(fault["loc"][-1])[:40]] if fault["type"] == "extra_forbidden" and fault["loc"][-1] not in _FIELDS else []
    return ".".join(parts + unknown)


# Pydantic names the branches of a union between the fields; only these are the client's own words.
_FIELDS = {name for form in (JobRequest, Method, Supervised, Hyperparameters, ChatRequest, ChatMessage, TextPart, TextFormat, StreamOptions) for name in form.model_fields}
