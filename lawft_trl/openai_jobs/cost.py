"""What a fine-tuning costs: tokens times epochs, and money where the user gives a dated price list or a rate."""

import math
from dataclasses import dataclass
from pathlib import Path

from lawft_trl.errors import InputError
from lawft_trl.openai_jobs.token_counts import TokenCounts, base_model, count_examples
from lawft_trl.openai_jobs.training_file import read_training_file
from lawft_trl.prices import Prices, read_prices


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one training reads, and what that costs.

    Attributes:
        counts: tokens of each example.
        epochs: how often it is read.
        prices: of a million training tokens; `None` where no list was given.
        gpu_hour_rate: what an hour of a GPU costs; `None` where it was not given.
        tokens_per_second: how fast it trains.
    """

    counts: TokenCounts
    epochs: float
    prices: Prices | None = None
    gpu_hour_rate: float | None = None
    tokens_per_second: float | None = None

    @property
    def trained_tokens(self) -> int:
        """Tokens of all examples in all epochs, rounded up."""
        return math.ceil(sum(self.counts.lengths) * self.epochs)

    @property
    def price(self) -> float | None:
        """By the price list."""
        return None if self.prices is None else self.prices.of(training=self.trained_tokens)

    @property
    def gpu_hours(self) -> float | None:
        """By the training's speed."""
        return None if self.tokens_per_second is None else self.trained_tokens / self.tokens_per_second / 3600

    @property
    def gpu_price(self) -> float | None:
        """By the training's speed and the rate, in the rate's currency."""
        return None if self.gpu_hours is None or self.gpu_hour_rate is None else self.gpu_hours * self.gpu_hour_rate


def estimate_cost(
    path: Path,
    *,
    model: str | None,
    epochs: float,
    prices: Path | None = None,
    tokenizer: str | None = None,
    gpu_hour_rate: float | None = None,
    tokens_per_second: float | None = None,
) -> Cost:
    """The cost of training on a file.

    Args:
        path: a training file without errors.
        model: the model to be tuned. The price of a tuned model, `ft:NAME:…`, is that of `NAME`.
        epochs: how often the file is read.
        prices: a dated price list (`lawft_trl.prices`) with the model's price of a million `training` tokens.
        tokenizer: the model's own, for models that are not OpenAI's.
        gpu_hour_rate: what an hour of your own GPU costs, for a local training.
        tokens_per_second: how fast it trains there.

    Raises:
        InputError: with every value that cannot be used, and when the file has errors.
    """
    problems = [
        f"{name} {value:g}: expected above 0"
        for name, value in {"--epochs": epochs, "--gpu-hour-rate": gpu_hour_rate, "--tokens-per-second": tokens_per_second}.items()
        if value is not None and not 0 < value < float("inf")
    ]
    if gpu_hour_rate is not None and tokens_per_second is None:
        problems.append("--gpu-hour-rate: needs --tokens-per-second N, the speed of your training as it was measured (its progress line shows tokens/s)")
    if prices is not None and model is None:
        problems.append("--prices: needs --model NAME, as the list names it")
    if problems:
        raise InputError(f"lawft openai cost: {len(problems)} option(s) cannot be used", problems)
    file = read_training_file(path, least=1)
    errors = [f"{found.code}: {item.place}: {item.excerpt or found.message}" for found in file.findings if found.severity == "error" for item in found.examples]
    if errors:
        raise InputError(f"{path}: {len(errors)} error(s) in the file; lawft openai check {path} says what to do", errors)
    price_list = read_prices(prices, base_model(model), ("training",)) if prices is not None and model is not None else None
    counts = count_examples(list(file.examples.values()), model=model, tokenizer=tokenizer)
    return Cost(counts=counts, epochs=epochs, prices=price_list, gpu_hour_rate=gpu_hour_rate, tokens_per_second=tokens_per_second)
