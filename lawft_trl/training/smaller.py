"""What makes a recipe need less memory, as overrides to type: before a training, and when one ran out of memory."""

import copy
import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from lawft_trl.errors import InputError
from lawft_trl.recipe import Recipe
from lawft_trl.training.cards import GIB
from lawft_trl.training.estimate import TIGHT, Rows, estimate_memory, mixed_precision, optimizer, read_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_SHAPES = Path(__file__).parents[1] / "assets" / "qwen3_shapes.json"
_QUIET_SECONDS = 3

Option = tuple[dict[str, Any], str]  # overrides, and what they do


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that makes a recipe smaller.

    Attributes:
        overrides: what to type behind the recipe.
        says: what it does, and to what is learned.
        total: the memory it would need then, in bytes.
    """

    overrides: tuple[str, ...]
    says: str
    total: int


def changes_that_fit(
    recipe: Recipe,
    config: "PretrainedConfig",
    rows: Rows,
    limit: float,
    *,
    encode: Callable[[Recipe], Rows],
    processes: int = 1,
    shown: int = 3,
) -> list[Change]:
    """Up to three changes after which the recipe needs at most `limit` bytes, those that change least of what is learned first.

    Each is tried alone and, where that is not enough, together with cheaper ones.

    Args:
        recipe: the recipe that does not fit.
        config: its model's configuration.
        rows: what it trains.
        limit: bytes.
        encode: the rows of a changed recipe, for a change of their lengths or of what is packed together; raises `InputError` where they cannot be trimmed.
        processes: as in `estimate_memory`.
        shown: how many are wanted.
    """
    options = _options(recipe, rows)

    def total(chosen: Sequence[Option]) -> float:
        values = {key: value for overrides, _ in chosen for key, value in overrides.items()}
        changed = _with(recipe, values)
        name = values.get("model.name_or_path")
        try:
            repacked = recipe.data.shared_prefix is not False and "training.per_device_train_batch_size" in values
            lengths = encode(changed) if "data.overlong" in values or repacked else rows
            return estimate_memory(changed, bundled_configs()[name] if name else config, lengths, processes=processes).total
        except InputError:
            return math.inf

    found: list[tuple[list[Option], float]] = []
    for last, option in enumerate(tqdm(options, desc="looking for changes that fit", unit="change", delay=_QUIET_SECONDS)):
        tries = [[option]]
        if found:  # in the place of one of the changes found first
            tries += [[*(each for each in found[0][0] if each is not left_out), option] for left_out in found[0][0] if len(found[0][0]) > 1]
        elif total(options[: last + 1]) <= limit:
            tries.append(_needed(options[: last + 1], total, limit))
        fitting = next(((chosen, needed) for chosen in tries if (needed := total(chosen)) <= limit), None)
        if fitting:
            found.append(fitting)
        if len(found) == shown:
            break
    return [_change(chosen, round(needed)) for chosen, needed in found]


def _needed(chosen: list[Option], total: Callable[[Sequence[Option]], float], limit: float) -> list[Option]:
    """Those of the changes that cannot be left out; what changes more of what is learned is left out first."""
    for option in reversed(chosen[:-1]):
        fewer = [each for each in chosen if each is not option]
        if total(fewer) <= limit:
            chosen = fewer
    return chosen


def _change(chosen: Sequence[Option], total: int) -> Change:
    overrides = tuple(f"{key}={_typed(value)}" for part, _ in chosen for key, value in part.items())
    return Change(overrides=overrides, says="; ".join(says for _, says in chosen), total=total)


def _options(recipe: Recipe, rows: Rows) -> list[Option]:
    """What can be changed, as overrides and in words; what changes least of what is learned first."""
    training, on_cpu = recipe.training, bool(recipe.training("use_cpu"))
    options: list[Option] = []
    batch, r = training("per_device_train_batch_size"), (recipe.values.get("lora") or {}).get("r", 8)
    if batch > 1:
        smaller = {"training.per_device_train_batch_size": 1, "training.gradient_accumulation_steps": training("gradient_accumulation_steps") * batch}
        options.append((smaller, "one row at a time: the same steps"))
    if training("eval_strategy") != "no" and rows.dev_longest and max(training("per_device_eval_batch_size"), recipe.evaluation.batch_size) > 1:
        options.append(({"training.per_device_eval_batch_size": 1, "evaluation.batch_size": 1}, "evaluated one row at a time: the same figures"))
    if not training("gradient_checkpointing"):
        options.append(({"training.gradient_checkpointing": True}, "layers computed twice: the same steps, about a third slower"))
    if not on_cpu and "8bit" not in optimizer(recipe):
        options.append(({"training.optim": "paged_adamw_8bit"}, "optimizer states in 8 bits"))
    quantization = recipe.values.get("quantization") or {}
    if "lora" not in recipe.values:
        adapter = {"lora.r": 16, "lora.lora_alpha": 32, "lora.target_modules": "all-linear"}
        options.append((adapter, "an adapter instead of all weights (LoRA); it wants a learning rate some ten times higher"))
    elif not quantization.get("load_in_4bit"):
        four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
        four |= {"bnb_4bit_compute_dtype": mixed_precision(recipe) or "float32"} | ({"load_in_8bit": False} if quantization else {})
        options.append(({f"quantization.{key}": value for key, value in four.items()}, "the base model rounded to 4 bits (QLoRA)"))
    kept = sorted(rows.lengths)[int(0.9 * (len(rows.lengths) - 1))]
    if kept < max(rows.lengths):
        trimmed = {"training.max_length": kept, "data.overlong": "trim_statutes"}
        options.append((trimmed, "the longest rows lose their last statutes, down to the length of nine rows in ten"))
    if r > 8:
        alpha = (recipe.values.get("lora") or {}).get("lora_alpha", 8)
        options.append(({"lora.r": 8, "lora.lora_alpha": max(1, alpha * 8 // r)}, "a smaller adapter"))
    return options + [({"model.name_or_path": name}, "a smaller model of the family") for name in smaller_models(recipe.model.name_or_path)]


def bundled_configs() -> dict[str, "PretrainedConfig"]:
    """Model id -> configuration of the Qwen3 models, whose shapes are bundled; from the smallest to the largest."""
    from transformers import AutoConfig

    shapes = json.loads(_SHAPES.read_text(encoding="utf-8"))
    return {name: AutoConfig.for_model(**(shapes["common"] | own)) for name, own in shapes["models"].items()}


def smaller_models(name: str) -> list[str]:
    """The smaller models of a bundled family, the largest first; none for other models."""
    known = list(json.loads(_SHAPES.read_text(encoding="utf-8"))["models"])
    at = next((at for at, each in enumerate(known) if Path(each).name == Path(name).name), 0)
    return known[:at][::-1]


def _with(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with other values under dotted keys."""
    changed = copy.deepcopy(recipe.values)
    for key, value in values.items():
        section, _, name = key.partition(".")
        changed.setdefault(section, {})[name] = value
    return dataclasses.replace(recipe, values=changed)


def _typed(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def oom_advice(recipe: Recipe, rows: Rows, available: int, *, encode: Callable[[Recipe], Rows], processes: int = 1) -> list[str]:
    """What to say when training ran out of memory: the estimate, and what to add to the command.

    As training did run out, the estimate was too low or the card is shared: the changes must save 15 % of the estimate, too.

    Args:
        recipe: the recipe that ran.
        rows: what it trained.
        available: the device's memory in bytes.
        encode: see `changes_that_fit`.
        processes: as in `estimate_memory`.
    """
    config = read_config(recipe)
    needed = estimate_memory(recipe, config, rows, processes=processes).total
    lines = [f"out of memory: the estimate is {needed / GIB:.1f} GiB, the device has {available / GIB:.1f} GiB in all"]
    if needed <= TIGHT * available:
        lines.append("that should fit: look whether another process uses the device (nvidia-smi)")
    changes = changes_that_fit(recipe, config, rows, min(TIGHT * available, 0.85 * needed), encode=encode, processes=processes)
    lines += [f"add {' '.join(change.overrides)}  ({change.total / GIB:.1f} GiB; {change.says})" for change in changes]
    if not changes:
        lines.append("no change of the recipe makes it fit: take a smaller model or a larger device (lawft plan RECIPE --gpu NAME)")
    return lines
