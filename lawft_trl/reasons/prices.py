"""What tokens cost, from a file the user keeps; this project knows no prices."""

from dataclasses import dataclass
from pathlib import Path

from lawft_trl.errors import InputError
from lawft_trl.text_files import read_text

_FORM = "date: 2026-01-31 / currency: USD / models: {NAME: {input: 1.25, output: 10}}, per million tokens"


@dataclass(frozen=True, kw_only=True)
class Price:
    """Price of one model.

    Attributes:
        input: per million tokens of the prompt.
        output: per million tokens of the answer.
        currency: e.g. `"USD"`.
        date: ISO date of the price list.
    """

    input: float
    output: float
    currency: str
    date: str

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


def read_price(path: Path, model: str) -> Price:
    """Reads a model's price from a YAML or JSON file with `date`, `currency` and `models`.

    Raises:
        InputError: with every fault of the file, or when the model is not in it.
    """
    import datetime

    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="safe", pure=True).load(read_text(path))
    except YAMLError as error:
        raise InputError(f"{path}: not YAML: {str(error).splitlines()[0]}", [f"expected {_FORM}"]) from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected {_FORM}")
    problems = []
    try:
        date = datetime.date.fromisoformat(str(document.get("date"))).isoformat()
    except ValueError:
        problems.append(f"`date`: expected the day of the price list, YYYY-MM-DD, found {document.get('date')!r}")
    if not isinstance(document.get("currency"), str):
        problems.append(f"`currency`: expected a name such as USD, found {document.get('currency')!r}")
    models = document.get("models")
    if not isinstance(models, dict):
        problems.append(f"`models`: expected a price for each model, found {models!r:.60}")
    elif model not in models:
        problems.append(f"`models`: {model!r} is not among them; there are {', '.join(map(str, models)) or 'none'}")
    else:
        price = models[model] if isinstance(models[model], dict) else {}
        problems += [
            f"`models.{model}.{key}`: expected a price per million tokens, found {price.get(key)!r}"
            for key in ("input", "output")
            if isinstance(price.get(key), bool) or not isinstance(price.get(key), int | float) or not 0 <= price[key] < float("inf")
        ]
    if problems:
        raise InputError(f"{path}: {len(problems)} error(s) in the prices; expected {_FORM}", problems)
    return Price(input=price["input"], output=price["output"], currency=document["currency"], date=date)
