"""The marks 。、！？ as tokens: a tokenizer that cuts one into pieces of bytes is given it as an ordinary token.

Never as a special one: `decode(..., skip_special_tokens=True)`, with which answers are read, leaves special tokens out, and
a text without marks has no sentences. Most tokenizers that know Japanese have all four (Qwen, Gemma): then nothing is done.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lawft_trl.data.chat import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PUNCTUATION = ("。", "、", "！", "？")


def missing_punctuation(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Which of 。、！？ have no token that decodes to them and nothing else, or one that decoding leaves out."""
    return [mark for mark in PUNCTUATION if not _is_token(tokenizer, mark)]


def _is_token(tokenizer: "PreTrainedTokenizerBase", mark: str) -> bool:
    # Some tokenizers begin every text with a token for a space of their own, so the mark is looked at alone and by its name.
    ids = encode(tokenizer, mark)
    known = {mark: tokenizer.get_vocab().get(mark), "alone": ids[0] if len(ids) == 1 else None}
    return any(token is not None and tokenizer.decode([token], skip_special_tokens=True) == mark for token in known.values())


def add_punctuation(tokenizer: "PreTrainedTokenizerBase") -> dict[int, list[int]]:
    """Adds the marks that are missing, as ordinary tokens.

    Args:
        tokenizer: is changed where a mark is missing. Save it with the adapter: without it the same text has other tokens.

    Returns:
        New id -> the ids the mark was written with until now, for the start values of its rows
        (`evaluation.added_rows.grow_embeddings`); `{}` where nothing was missing.
    """
    from transformers import AddedToken

    pieces = {mark: encode(tokenizer, mark) for mark in missing_punctuation(tokenizer)}
    # Found in the text as it stands: a tokenizer that makes ？ a ? first would otherwise take every ? for it.
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in pieces])
    return {tokenizer.convert_tokens_to_ids(mark): list(ids) for mark, ids in pieces.items()}


def describe_punctuation(tokenizer: "PreTrainedTokenizerBase", added: Mapping[int, Sequence[int]], *, whole: int = 0) -> str:
    """What `add_punctuation` did, in one line.

    Args:
        tokenizer: the changed one.
        added: what `add_punctuation` returned.
        whole: bytes of embedding and output projection that are saved with the adapter beside the trained rows.
    """
    if not added:
        return f"punctuation: {''.join(PUNCTUATION)} are single tokens already; nothing was added"
    marks = ", ".join(f"{tokenizer.decode([token])} (was {len(ids)} tokens)" for token, ids in added.items())
    beside = f", which also holds the whole embedding and output projection, for they have grown ({whole / 2**20:,.1f} MiB)" if whole else ""
    return f"punctuation: added as ordinary tokens: {marks}; their rows are trained and saved with the adapter{beside}"
