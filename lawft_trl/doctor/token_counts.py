"""How many tokens rows are as they are trained."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lawft_trl.data.chat import encode, prompt_text
from lawft_trl.data.rows import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def count_tokens(rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase", template_kwargs: Mapping[str, Any]) -> list[int]:
    """Tokens of every row as it is trained: prompt in the chat template, output, and one token that ends the turn.

    Raises:
        InputError: when the tokenizer has no chat template or the template refuses the messages.
    """
    from tqdm.auto import tqdm

    counted = tqdm(rows, desc="counting tokens", unit="row", delay=3, leave=False)
    return [
        len(encode(tokenizer, prompt_text(tokenizer, row.prompt, template_kwargs))) + len(encode(tokenizer, row.output)) + 1 for row in counted
    ]
