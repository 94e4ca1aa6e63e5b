"""Answers in a form: a pydantic model's JSON schema is put into the prompt, and the answer is read and validated here.

Servers ignore `response_format` without a word (`transformers serve` does), so nothing relies on it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCED = re.compile(r"^[ \t]*```(?:json|JSON)?[ \t]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
_TOLD = 10  # errors that the model is told of


def with_schema(messages: Sequence[Mapping[str, str]], form: "type[BaseModel]") -> list[dict[str, str]]:
    """The messages, the last turn of the user ending with the schema of the answer."""
    schema = json.dumps(form.model_json_schema(), ensure_ascii=False)
    asked = f"次の JSON Schema に合う JSON だけを出力してください。説明や前置きは書かないでください。\n{schema}"
    *earlier, last = [dict(message) for message in messages]
    if last["role"] != "user":
        return [*earlier, last, {"role": "user", "content": asked}]
    return [*earlier, {**last, "content": f"{last['content']}\n\n{asked}"}]


def repair_request(faults: Sequence[str], *, cut: bool) -> str:
    """What is said to a model whose answer did not fit."""
    lines = ["直前の出力は、求めた JSON として読み取れませんでした。誤りは次のとおりです。", *(f"- {fault}" for fault in faults[:_TOLD])]
    if cut:
        lines.append("- 出力が長さの上限で途切れています。各項目を短くしてください。")
    return "\n".join([*lines, "誤りを直した JSON だけを、もう一度はじめから出力してください。"])


def read_form(text: str, form: "type[BaseModel]") -> tuple["BaseModel | None", list[str]]:
    """Reads an answer: JSON alone, in one ```json block, or with words before and after it.

    Args:
        text: the answer. A thought (`<think>…</think>`) before it is passed over.
        form: what it should be.

    Returns:
        The answer, and no faults; or `None`, and what is wrong with it.
    """
    from pydantic import ValidationError

    text = _THOUGHT.sub("", text).strip()
    blocks = _FENCED.findall(text)
    between = text[text.find("{") : text.rfind("}") + 1]
    candidates = [between] if text.startswith("{") or not blocks else blocks
    read: list[BaseModel] = []
    faults: list[str] = []
    for candidate in candidates:
        try:
            value = form.model_validate_json(candidate.strip())
        except ValidationError as error:
            faults = _faults(error)
            continue
        if value not in read:
            read.append(value)
    if len(read) == 1:
        return read[0], []
    return None, ["求めた JSON が二つ以上あります。一つだけにしてください。"] if read else faults


def _faults(error: Any) -> list[str]:
    """pydantic's errors, a line each, without the values they are about: those may be of the document."""
    return [f"{'.'.join(map(str, each['loc'])) or '全体'}: {each['msg']}" for each in error.errors(include_url=False, include_context=False, include_input=False)]
