"""What tokens cost, from a dated file the user keeps; this project knows no prices."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lawft_trl.errors import InputError
from lawft_trl.text_files import read_text


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices of one model.

    Attributes:
        per_million: kind of token (`"input"`, `"output"`, `"training"`) -> price of a million of them.
        currency: e.g. `"USD"`.
        date: ISO date of the price list.
    """

    per_million: dict[str, float]
    currency: str
    date: str

    def of(self, **tokens: int) -> float:
        """What so many tokens of each kind cost: `prices.of(input=1200, output=300)`."""
        return sum(self.per_million[kind] * count for kind, count in tokens.items()) / 1e6


def read_prices(path: Path, model: str, kinds: Sequence[str]) -> Prices:
    """Reads a model's prices of some kinds from a YAML or JSON file with `date`, `currency` and `models`.

    Raises:
        InputError: with every fault of the file, or when the model is not in it.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    form = f"date: 2026-01-31 / currency: USD / models: {{NAME: {{{', '.join(f'{kind}: 1.25' for kind in kinds)}}}}}, per million tokens"
    try:
        document = YAML(typ="safe", pure=True).load(read_text(path))
    except YAMLError as error:
        raise InputError(f"{path}: not YAML: {str(error).splitlines()[0]}", [f"expected {form}"]) from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected {form}")
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
            f"`models.{model}.{kind}`: expected a price per million tokens, found {price.get(kind)!r}"
            for kind in kinds
            if isinstance(price.get(kind), bool) or not isinstance(price.get(kind), int | float) or not 0 <= price[kind] < float("inf")
        ]
    if problems:
        raise InputError(f"{path}: {len(problems)} error(s) in the prices; expected {form}", problems)
    return Prices(per_million={kind: float(price[kind]) for kind in kinds}, currency=document["currency"], date=date)
