"""`lawft check RECIPE`: everything that can be known about a run before a weight is loaded."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from lawft_trl.data.chat import end_of_turn
from lawft_trl.data.questions import LETTERS
from lawft_trl.data.rows import Row
from lawft_trl.doctor.data_files import benchmark_rows, conversations
from lawft_trl.doctor.examine import examine, refuse_unfit
from lawft_trl.doctor.findings import Finding
from lawft_trl.library_fields import UNKNOWN
from lawft_trl.recipe import Recipe
from lawft_trl.recipe_views import changed_from_defaults
from lawft_trl.training.emphasis import find_spans
from lawft_trl.training.preflight import (
    data_files,
    encode_role,
    recipe_tokenizer,
    refuse_overlap,
    require_scorable,
)
from lawft_trl.training.supervision import EncodedRow

_SHOWN_ROWS = 3
_FEW_QUESTIONS = 20
_SHOWN_PROMPT = 240  # characters of the prompt's end that are shown before the supervised span


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What `check_recipe` found: the rows of each role, the encoded training rows, the verdict on leakage, and what weighs more."""

    recipe: Recipe
    rows: dict[str, list[Row]]
    encoded: list[EncodedRow]
    overlap: str
    emphasis: str | None
    turn_end: str
    tokenizer: object


def check_recipe(recipe: Recipe, rows: dict[str, list[Row]]) -> Checked:
    """Encodes and proves all rows of a recipe, as `read_roles` has read them, without loading its model.

    Raises:
        InputError: as training would.
    """
    refuse_unfit(rows["train"], str(recipe.path))
    overlap = refuse_overlap(recipe, rows)
    tokenizer = recipe_tokenizer(recipe)
    encoded = encode_role(recipe, rows["train"], tokenizer)
    encode_role(recipe, rows["dev"], tokenizer)
    require_scorable(recipe, rows["test"], tokenizer)
    kwargs, emphasis = recipe.pattern.chat_template_kwargs, recipe.data.emphasis
    emphasised = None if emphasis is None else find_spans(encoded, tokenizer, emphasis, kwargs)[1]
    turn_end = end_of_turn(tokenizer, kwargs)
    return Checked(recipe=recipe, rows=rows, encoded=encoded, overlap=overlap, emphasis=emphasised, turn_end=turn_end, tokenizer=tokenizer)


def examine_recipe(
    recipe: Recipe, rows: Mapping[str, Sequence[Row]], against: Mapping[str, Sequence[Row]], *, max_output: int
) -> list[Finding]:
    """What the data doctor finds in the rows that the recipe trains on.

    Args:
        recipe: the resolved recipe.
        rows: role -> rows, as `read_roles` gives them.
        against: name -> rows of further evaluation sets. Against the recipe's own dev and test rows `check_recipe`
            compares, and refuses.
        max_output: characters from which an output counts as long.
    """
    benchmark = benchmark_rows({**against, "dev": rows["dev"], "test": rows["test"]})
    return examine(rows["train"], evaluation=against, benchmark=benchmark, max_output=max_output)


def trained_tokens(checked: Checked) -> tuple[int, float]:
    """The tokens of one epoch, and the epochs."""
    return sum(len(item.input_ids) for item in checked.encoded), float(checked.recipe.training("num_train_epochs"))


def print_check(checked: Checked, console: Console, *, processes: int = 1) -> None:
    """Prints tables, marked rows and what differs from the libraries' defaults."""
    console.print(_rows_table(checked))
    console.print(_figures_table(checked, processes))
    console.print(Text("\nSupervised tokens, between ⟦ and ⟧:", style="bold"))
    for item in _spread(checked.encoded):
        console.print(_marked(item, checked))
    changes = Table(title="Set by the recipe, other than the defaults", title_justify="left")
    for column in ("key", "recipe", "default"):
        changes.add_column(column, overflow="fold")
    for key, value, default in changed_from_defaults(checked.recipe):
        changes.add_row(key, str(value), "-" if default is UNKNOWN else str(default))
    console.print(changes)
    console.print(Text("All rows keep the supervision contract; nothing was trained.", style="bold green"))


def optimizer_steps(recipe: Recipe, sequences: int, processes: int, *, per_item: int = 1) -> int:
    """How many times the optimizer will step.

    Args:
        recipe: the recipe.
        sequences: rows, or items of several rows.
        processes: how many train.
        per_item: rows of each sequence.
    """
    if recipe.training("max_steps") > 0:
        return recipe.training("max_steps")
    per_step = recipe.training("per_device_train_batch_size") * recipe.training("gradient_accumulation_steps") // per_item
    per_epoch = math.ceil(math.ceil(sequences / processes) / per_step)
    return math.ceil(per_epoch * recipe.training("num_train_epochs"))


def _rows_table(checked: Checked) -> Table:
    table = Table(title=f"{checked.recipe.path}: rows", title_justify="left")
    dialogues = checked.recipe.pattern.answer == "dialogue"
    for column in ("role", "file", *(("conversations", "turns") if dialogues else ("rows", "questions")), "groups", *(() if dialogues else ("answers a/b/c/d",))):
        table.add_column(column, overflow="fold")
    for role, rows in checked.rows.items():
        if not rows:
            continue
        files = "\n".join(map(str, data_files(checked.recipe)[role]))
        letters = Counter(row.gold for row in rows)
        counts = (conversations(rows), len(rows)) if dialogues else (len(rows), len({row.id for row in rows}))
        groups = len({row.meta.get("group") or row.id for row in rows})
        table.add_row(role, files, *map(str, (*counts, groups)), *(() if dialogues else ("/".join(str(letters[letter]) for letter in LETTERS),)))
    return table


def _figures_table(checked: Checked, processes: int) -> Table:
    lengths = [len(item.input_ids) for item in checked.encoded]
    supervised = [len(item.input_ids) - item.prompt_length for item in checked.encoded]
    quantiles = np.quantile(lengths, [0, 0.5, 0.9, 1]).round().astype(int)
    trimmed = [item for item in checked.encoded if item.dropped_statutes]
    steps = optimizer_steps(checked.recipe, len(lengths), processes)
    table = Table(title="Training", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("value", overflow="fold")
    limit = checked.recipe.max_length
    table.add_row("tokenizer", checked.recipe.model.name_or_path)
    table.add_row("tokens per row, min / median / 90 % / max", " / ".join(map(str, quantiles)) + f" (limit {limit})")
    table.add_row("supervised tokens", f"{sum(supervised)} of {sum(lengths)} ({100 * sum(supervised) / sum(lengths):.2f} %)")
    table.add_row("supervised per row, min / max", f"{min(supervised)} / {max(supervised)}, ending with {checked.turn_end}")
    if checked.emphasis:
        table.add_row("emphasis", checked.emphasis)
    if trimmed:
        dropped = sum(item.dropped_statutes for item in trimmed)
        table.add_row("trimmed statutes", f"{dropped} passages in {len(trimmed)} rows (data.overlong)")
    table.add_row("training rows among the held-out rows", checked.overlap)
    dialogues = checked.recipe.pattern.answer == "dialogue"
    held_out = conversations(checked.rows["test"]) if dialogues else len({row.id for row in checked.rows["test"]})
    if 0 < held_out < _FEW_QUESTIONS:
        # Exact McNemar, and signs flipped: five gained and none lost are p = 0.06.
        table.add_row("held-out conversations" if dialogues else "held-out questions", f"{held_out}: so few can hardly show a difference (six gained, none lost are needed)")
    table.add_row("optimizer steps", f"{steps} with {processes} process(es)" + (" - fewer than 100 teach little" if steps < 100 else ""))
    for name, text in _this_machine(checked.recipe):
        table.add_row(name, text)
    return table


def _this_machine(recipe: Recipe) -> list[tuple[str, str]]:
    """What training would meet here, beyond rows and tokens."""
    import torch

    device = "the CPU (training.use_cpu)" if recipe.values["training"].get("use_cpu") else "a GPU"
    if device == "a GPU" and not torch.accelerator.is_available():
        device = "a GPU, and none is visible here: train elsewhere, or add --rehearse to try the way"
    target = Path(recipe.values["training"]["output_dir"])
    taken = ", already there: give another name, or --force" if target.exists() else ""
    wandb = "wandb (online, needs `wandb login`)" if recipe.monitor.wandb == "online" else "wandb (offline, to be sent later with `wandb sync`)"
    reports = ", ".join(wandb if name == "wandb" else name for name in recipe.report_to) or "nowhere"
    return [("trains on", device), ("training.output_dir", f"{target}{taken}"), ("training.report_to", reports)]


def _spread(encoded: Sequence[EncodedRow]) -> list[EncodedRow]:
    """The shortest, the median and the longest row."""
    ordered = sorted(encoded, key=lambda item: len(item.input_ids))
    picks = np.linspace(0, len(ordered) - 1, min(_SHOWN_ROWS, len(ordered))).round().astype(int)
    return [ordered[pick] for pick in picks]


def _marked(item: EncodedRow, checked: Checked) -> Group:
    """A row's end with its supervised span marked. Spans are decoded whole: a kanji can be several tokens."""
    decode = checked.tokenizer.decode
    prompt, supervised = decode(item.input_ids[: item.prompt_length]), decode(item.input_ids[item.prompt_length :])
    shown = prompt if len(prompt) <= _SHOWN_PROMPT else "…" + prompt[-_SHOWN_PROMPT:]
    title = Text(f"{item.row.source} (id {item.row.id}), {len(item.input_ids)} tokens", style="cyan")
    return Group(title, Text.assemble((shown, "dim"), ("⟦" + supervised + "⟧", "bold black on green")), Text(""))
