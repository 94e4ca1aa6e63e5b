"""How many tokens training examples are: with OpenAI's vocabulary, with a model's own tokenizer, or by an estimate that says so."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.data.rows import Row
from lawft_trl.doctor.token_counts import count_tokens
from lawft_trl.errors import InputError
from lawft_trl.text_files import file_sha256

if TYPE_CHECKING:
    from tiktoken import Encoding

# Longest prefix first. tiktoken 0.14 has a table of its own, which gives `ft:gpt-4.1…` the vocabulary of gpt-4.
_VOCABULARIES = {
    "chatgpt-4o": "o200k_base",
    "gpt-3.5-turbo": "cl100k_base",
    "babbage-002": "cl100k_base",
    "davinci-002": "cl100k_base",
    "gpt-4.1": "o200k_base",
    "gpt-4.5": "o200k_base",
    "gpt-4o": "o200k_base",
    "gpt-4": "cl100k_base",
    "gpt-5": "o200k_base",
    "o1": "o200k_base",
    "o3": "o200k_base",
    "o4": "o200k_base",
}
# Where tiktoken fetches a vocabulary and the SHA-256 it wants (tiktoken_ext.openai_public). A cached file that has
# another one it deletes and fetches again, without a word: so the file is looked at before tiktoken is asked.
_SOURCE = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
# What the chat form costs beside the texts, as OpenAI's cookbook counts it.
_PER_MESSAGE, _PER_NAME, _PER_EXAMPLE = 3, 1, 3
# Tenths of a token per ASCII character and per other one, fitted to Japanese legal texts (docs/openai.md).
_TENTHS = {"o200k_base": (3, 9), "cl100k_base": (3, 12)}
_TENTHS_UNKNOWN = (3, 10)
# Training tokens of one example; what is longer is cut. Microsoft's table for the same models (azure-ai-docs, 2025) and
# OpenAI's page on gpt-3.5-turbo. What is not here is not known.
_LIMITS = {"gpt-4o": 65_536, "gpt-3.5-turbo": 16_385}


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of examples.

    Attributes:
        lengths: one number per example.
        counted_by: the vocabulary or tokenizer; for an estimate what it is and how to count instead.
        exact: whether they were counted.
    """

    lengths: list[int]
    counted_by: str
    exact: bool


def base_model(model: str) -> str:
    """The model that was tuned: `ft:gpt-4.1-mini-2025-04-14:org:suffix:id` is `gpt-4.1-mini-2025-04-14`."""
    return model.removeprefix("ft:").split(":")[0] if model.startswith("ft:") else model


def vocabulary_of(model: str | None) -> str | None:
    """The name of an OpenAI model's vocabulary; `None` for other models."""
    base = base_model(model or "")
    return next((name for prefix, name in _VOCABULARIES.items() if base == prefix or base.startswith((f"{prefix}-", f"{prefix}:"))), None)


def example_limit(model: str | None) -> int | None:
    """How many tokens one training example of an OpenAI model may have; `None` where this project does not know."""
    base = base_model(model or "")
    return next((limit for prefix, limit in _LIMITS.items() if base == prefix or base.startswith(f"{prefix}-")), None)


def count_examples(records: Sequence[Mapping[str, Any]], *, model: str | None, tokenizer: str | None = None) -> TokenCounts:
    """Tokens of training examples, as well as they can be known here; nothing is downloaded.

    Args:
        records: examples without faults, `{"messages": [...]}`.
        model: the model that is to be tuned.
        tokenizer: a tokenizer's folder; the examples are counted as the local training sees them, one prompt and output
            per trained assistant turn.

    Raises:
        InputError: when the tokenizer cannot be loaded or refuses the messages.
    """
    if tokenizer is not None:
        if not Path(tokenizer).is_dir():  # a name would be looked for on the hub
            raise InputError(f"--tokenizer {tokenizer}: no such folder; give the one that holds the model's tokenizer.json")
        return TokenCounts(_with_tokenizer(records, tokenizer), f"the tokenizer of {tokenizer}", True)
    vocabulary = vocabulary_of(model)
    encoding, missing = _encoding(vocabulary, model)
    if encoding is not None:
        return TokenCounts([count_example(record, lambda text: len(encoding.encode_ordinary(text))) for record in records], str(vocabulary), True)
    lengths = [count_example(record, lambda text: estimate_tokens(text, vocabulary)) for record in records]
    return TokenCounts(lengths, f"ESTIMATE from the number of characters; {missing}", False)


def count_example(record: Mapping[str, Any], count: Any) -> int:
    """Tokens of one example in OpenAI's chat form, by a function that counts those of a text."""
    total = _PER_EXAMPLE
    for message in record["messages"]:
        texts = [message["role"], *(value if isinstance(value, str) else _as_json(value) for value in map(message.get, ("content", "name", "tool_calls", "function_call")) if value)]
        total += _PER_MESSAGE + (_PER_NAME if message.get("name") else 0) + sum(map(count, texts))
    return total + sum(count(_as_json(record[key])) for key in ("tools", "functions") if record.get(key))


def estimate_tokens(text: str, vocabulary: str | None) -> int:
    """A guess from the number of ASCII and of other characters; a longer text never has fewer."""
    ascii_tenths, other_tenths = _TENTHS.get(vocabulary or "", _TENTHS_UNKNOWN)
    of_ascii = sum(character.isascii() for character in text)
    return (of_ascii * ascii_tenths + (len(text) - of_ascii) * other_tenths + 9) // 10


def training_rows(records: Sequence[Mapping[str, Any]], sources: Sequence[str]) -> list[Row]:
    """A row for every assistant turn that is trained: those with text, a prompt before them and no `weight` of 0."""
    rows = []
    for record, source in zip(records, sources, strict=True):
        messages = [{"role": message["role"], "content": message.get("content") or ""} for message in record["messages"]]
        rows += [
            Row(prompt=tuple(messages[:index]), output=messages[index]["content"], source=source)
            for index, message in enumerate(record["messages"])
            if message["role"] == "assistant" and messages[index]["content"] and message.get("weight") != 0 and index > 0
        ]
    return rows


def _with_tokenizer(records: Sequence[Mapping[str, Any]], tokenizer: str) -> list[int]:
    from lawft_trl.data.chat import load_tokenizer

    rows = training_rows(records, [str(index) for index in range(len(records))])
    lengths = [0] * len(records)
    for row, tokens in zip(rows, count_tokens(rows, load_tokenizer(tokenizer), {"enable_thinking": False}), strict=True):
        lengths[int(row.source)] += tokens
    return lengths


def _encoding(vocabulary: str | None, model: str | None) -> "tuple[Encoding | None, str]":
    """tiktoken's vocabulary if it is on this disk, and otherwise what to do for an exact count."""
    if vocabulary is None:
        known = f"the vocabulary of {model} is not known here; for an exact count give" if model else "for an exact count give --model NAME (OpenAI's), or"
        return None, f"{known} --tokenizer FOLDER"
    try:
        import tiktoken
    except ImportError:
        return None, f"for an exact count: pip install 'lawft-trl[tokens]' and a cache of {vocabulary} (docs/openai.md)"
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", str(Path(tempfile.gettempdir()) / "data-gym-cache")))
    file = Path(folder) / hashlib.sha1(_SOURCE.format(vocabulary).encode()).hexdigest()
    if not folder or not file.is_file() or file_sha256(file) != _SHA256[vocabulary]:
        return None, f"for an exact count point TIKTOKEN_CACHE_DIR at a cache of {vocabulary} (docs/openai.md says how to fill one)"
    return tiktoken.get_encoding(vocabulary), ""


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
