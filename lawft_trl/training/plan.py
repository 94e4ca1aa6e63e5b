"""`lawft plan`: what a recipe will need, put together and printed."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lawft_trl.errors import InputError
from lawft_trl.recipe import Recipe
from lawft_trl.training.cards import GIB, Card
from lawft_trl.training.check import optimizer_steps
from lawft_trl.training.estimate import (
    LAUNCH_MS,
    MFU,
    TIGHT,
    Memory,
    Rows,
    estimate_memory,
    estimate_seconds,
    read_config,
    step_shape,
    verdict,
)
from lawft_trl.training.prefix_choice import choose_items
from lawft_trl.training.preflight import encode_role, read_roles, recipe_tokenizer
from lawft_trl.training.smaller import Change, changes_that_fit, oom_advice
from lawft_trl.training.supervision import EncodedRow

_REHEARSAL = " (REHEARSAL: the tiny model, not the recipe's)"
_STYLES = {"fits": "bold green", "tight": "bold yellow", "does not fit": "bold red"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a recipe will need.

    Attributes:
        recipe: the recipe.
        rows: what it trains.
        memory: the peak on one device.
        available: bytes of the device; `None` where it is not known.
        card: the GPU; `None` for a CPU or a size alone.
        processes: how many train side by side.
        steps: optimizer steps.
        seconds: from and to; `None` where no card is named.
        changes: what would make it fit with room to spare, where it does not.
    """

    recipe: Recipe
    rows: Rows
    memory: Memory
    available: int | None
    card: Card | None
    processes: int
    steps: int
    seconds: tuple[float, float] | None
    changes: list[Change]


def make_plan(recipe: Recipe, *, card: Card | None = None, available: int | None = None, processes: int = 1) -> Plan:
    """Reads the recipe's rows, tokenizer and model configuration, and estimates; nothing else is loaded.

    Args:
        recipe: a checked recipe.
        card: the GPU it is for.
        available: bytes of one device, where they are not the card's.
        processes: how many train side by side (DDP).

    Raises:
        InputError: as the training would, and where configuration or model cannot be had.
    """
    config = read_config(recipe)
    rows, encode = rows_of(recipe)
    available = available or (card.memory if card else None)
    memory = estimate_memory(recipe, config, rows, processes=processes)
    changes = []
    if available and verdict(memory.total, available) != "fits":
        changes = changes_that_fit(recipe, config, rows, TIGHT * available, encode=encode, processes=processes)
    steps = optimizer_steps(recipe, len(rows.lengths), processes, per_item=rows.per_item)
    seconds = estimate_seconds(recipe, config, rows, card, steps=steps) if card and not recipe.training("use_cpu") else None
    return Plan(
        recipe=recipe, rows=rows, memory=memory, available=available, card=card, processes=processes, steps=steps, seconds=seconds, changes=changes
    )


def rows_of(recipe: Recipe) -> tuple[Rows, Callable[[Recipe], Rows]]:
    """The recipe's rows as token counts, and how to count them for the same recipe with other lengths.

    Raises:
        InputError: when rows cannot be used.
    """
    roles, tokenizer = read_roles(recipe), recipe_tokenizer(recipe)
    kept: dict[tuple, list[list[EncodedRow]]] = {}

    def encode(changed: Recipe) -> Rows:
        lengths = changed.max_length, changed.data.overlong
        if lengths not in kept:
            kept[lengths] = [encode_role(changed, roles[role], tokenizer) for role in ("train", "dev")]
        train, dev = kept[lengths]
        batch, accumulation = changed.training("per_device_train_batch_size"), changed.training("gradient_accumulation_steps")
        shared, items = choose_items(train, batch=batch, accumulation=accumulation, wanted=changed.data.shared_prefix)
        return count_items(items, dev, shared.rows_per_item) if shared.on else count_rows(train, dev)

    return encode(recipe), encode


def count_rows(train: Sequence[EncodedRow], dev: Sequence[EncodedRow]) -> Rows:
    """Encoded rows as token counts."""
    return Rows(
        lengths=tuple(len(item.input_ids) for item in train),
        supervised=tuple(len(item.input_ids) - item.prompt_length for item in train),
        dev_longest=max((len(item.input_ids) for item in dev), default=0),
    )


def count_items(items: Sequence[Mapping[str, list[int]]], dev: Sequence[EncodedRow], per_item: int) -> Rows:
    """Items of `per_item` rows that share their prefix as token counts."""
    return Rows(
        lengths=tuple(len(item["input_ids"]) for item in items),
        supervised=tuple(sum(label >= 0 for label in item["labels"]) for item in items),
        dev_longest=max((len(item.input_ids) for item in dev), default=0),
        per_item=per_item,
    )


def print_plan(plan: Plan, console: Console) -> None:
    """Prints tables and, last, the verdict."""
    console.print(_training_table(plan))
    console.print(_memory_table(plan))
    for note in _notes(plan):
        console.print(note, highlight=False, soft_wrap=True)
    if plan.available is None:
        console.print(Text("No verdict: name the card (--gpu rtx3080) or its memory (--memory 10GiB)", style="bold"))
        return
    word = verdict(plan.memory.total, plan.available)
    if word != "fits":
        _print_changes(plan, console)
    where = plan.card.name if plan.card else "the device"
    share = plan.memory.total / plan.available
    style = _STYLES[word]
    word = f"{word}{_REHEARSAL}" if _is_rehearsal(plan.recipe) else word
    text = f"{word}: {_gib(plan.memory.total)} of the {_gib(plan.available)} of {where} ({100 * share:.0f} %)"
    console.print(Text(text, style=style), soft_wrap=True)


def _is_rehearsal(recipe: Recipe) -> bool:
    """Whether it is not the recipe's model that is planned."""
    return recipe.origins.get("model.name_or_path") == "--rehearse"


def _training_table(plan: Plan) -> Table:
    recipe, rows = plan.recipe, plan.rows
    lengths, (batch, accumulated) = rows.lengths, step_shape(recipe, rows)
    table = Table(title=f"{recipe.path}: plan{_REHEARSAL if _is_rehearsal(recipe) else ''}", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("value", overflow="fold")
    table.add_row("model", recipe.model.name_or_path)
    table.add_row("parameters", f"{plan.memory.parameters:,}")
    table.add_row("trained", f"{plan.memory.trainable:,} ({100 * plan.memory.trainable / plan.memory.parameters:.2f} %)")
    packed = f" in {len(lengths)} items of {rows.per_item} (data.shared_prefix)" if rows.per_item > 1 else ""
    table.add_row("rows", f"{len(lengths) * rows.per_item}{packed}; tokens min / median / longest {min(lengths)} / {statistics.median(lengths):g} / {max(lengths)}")
    table.add_row("tokens of an epoch", f"{sum(lengths):,}, of them supervised {sum(rows.supervised):,}")
    each = f"{batch} {'item(s)' if packed else 'rows'} × {accumulated} accumulated" + (f" × {plan.processes} processes" if plan.processes > 1 else "")
    table.add_row("optimizer steps", f"{plan.steps}, each of {batch * accumulated * plan.processes * rows.per_item} rows ({each})")
    table.add_row("time", _time(plan))
    return table


def _time(plan: Plan) -> str:
    if plan.seconds is None:
        return "no estimate: " + (
            "none is stated for a CPU" if plan.recipe.training("use_cpu") else "none is stated without bf16 or fp16" if plan.card else "name a card with --gpu"
        )
    fast, slow = (f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min" for seconds in plan.seconds)
    return (
        f"{fast} to {slow}, without loading and evaluation: assumes {100 * MFU[1]:.0f} to {100 * MFU[0]:.0f} % of {plan.card.tflops:g} TFLOPS "
        f"and up to {LAUNCH_MS[1]:g} ms of waiting per layer and batch; not measured"
    )


def _memory_table(plan: Plan) -> Table:
    batch, longest = step_shape(plan.recipe, plan.rows)[0], max(plan.rows.lengths)
    table = Table(title="Peak memory per device", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("size", justify="right")
    for name, size in plan.memory.parts.items():
        table.add_row(f"{name}, {batch} × {longest} tokens" if name == "activations" else name, _gib(size))
    table.add_section()
    table.add_row("in all", _gib(plan.memory.total))
    return table


def _notes(plan: Plan) -> list[str]:
    recipe, notes = plan.recipe, []
    if plan.card and not plan.card.bf16 and recipe.training("bf16") in (True, None) and not recipe.training("fp16"):
        half = "training.bf16=false training.fp16=true model.dtype=float16 quantization.bnb_4bit_compute_dtype=float16"
        notes.append(f"{plan.card.name} does not compute in bfloat16: {half}")
    if plan.processes > 1:
        notes.append(f"{plan.processes} processes (DDP): each card holds the whole model, so more cards save time and no memory; gradients are held twice")
    if recipe.model.device_map is not None:
        notes.append("model.device_map spreads the layers over the cards of one process; the figures are for the whole model on one")
    return notes


def _print_changes(plan: Plan, console: Console) -> None:
    if not plan.changes:
        console.print("No change of the recipe makes it fit: take a smaller model or a larger card.", highlight=False)
        return
    console.print("It would fit with one of these, what changes least of what is learned first:", highlight=False)
    for change in plan.changes:
        console.print(f"  {' '.join(change.overrides)}", highlight=False, soft_wrap=True, markup=False)
        console.print(f"    {_gib(change.total)}: {change.says}", highlight=False, soft_wrap=True)


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"


def visible_gpu_memory() -> int | None:
    """Bytes of the first GPU of this machine; `None` where there is none."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None


@contextmanager
def answering_out_of_memory(recipe: Recipe, *, processes: int, available: int | None = None) -> Iterator[None]:
    """Turns a GPU that runs out of memory in the block into what to add to the command.

    Args:
        recipe: the recipe that runs.
        processes: how many train.
        available: bytes of the device; by default those of the first GPU.

    Raises:
        InputError: in place of `torch.OutOfMemoryError`.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        memory = available or visible_gpu_memory() or 0
        rows, encode = rows_of(recipe)
        heading, *advice = oom_advice(recipe, rows, memory, encode=encode, processes=processes)
        raise InputError(heading, [*advice, f"what the GPU said: {str(error).splitlines()[0]:.200}"]) from error
