"""How many tokens rows are, and what training on them costs by a dated price list."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.data.chat import encode, prompt_text
from lawft_trl.data.rows import Row
from lawft_trl.errors import InputError
from lawft_trl.text_files import read_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FORM = "date: 2026-01-31 / currency: USD / models: {NAME: {training: 0.5}}, per million tokens"


@dataclass(frozen=True)
class TrainingPrice:
    """What training costs.

    Attributes:
        per_million: price of a million trained tokens.
        currency: e.g. `"JPY"`.
        date: ISO date of the price list.
    """

    per_million: float
    currency: str
    date: str

    def of(self, tokens: int) -> str:
        """The cost of so many tokens in words, with the date of the price."""
        return f"{tokens * self.per_million / 1e6:,.2f} {self.currency} (prices of {self.date})"


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


def read_training_price(path: Path, model: str) -> TrainingPrice:
    """Reads `models.MODEL.training` from a YAML or JSON price file with `date` and `currency`.

    Raises:
        InputError: with every fault of the file, or when the model is not in it.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="safe", pure=True).load(read_text(path))
    except YAMLError as error:
        raise InputError(f"{path}: not YAML: {str(error).splitlines()[0]}", [f"expected {_FORM}"]) from None
    document = document if isinstance(document, dict) else {}
    models = document.get("models") if isinstance(document.get("models"), dict) else {}
    price = models[model].get("training") if isinstance(models.get(model), dict) else None
    problems = []
    try:
        date = datetime.date.fromisoformat(str(document.get("date"))).isoformat()
    except ValueError:
        problems.append(f"`date`: expected the day of the price list, YYYY-MM-DD, found {document.get('date')!r}")
    if not isinstance(document.get("currency"), str):
        problems.append(f"`currency`: expected a name such as JPY, found {document.get('currency')!r}")
    if model not in models:
        problems.append(f"`models`: {model!r} is not among them; there are {', '.join(map(str, models)) or 'none'}")
    elif isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < float("inf"):
        problems.append(f"`models.{model}.training`: expected a price per million trained tokens, found {price!r}")
    if problems:
        raise InputError(f"{path}: {len(problems)} error(s) in the prices; expected {_FORM}", problems)
    return TrainingPrice(float(price), document["currency"], date)
