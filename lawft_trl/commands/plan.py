"""`lawft plan`: memory and time of a training, before anything but configuration and tokenizer is loaded."""

import argparse
from typing import Any

from lawft_trl.commands.recipe import add_recipe_arguments, recipe_path
from lawft_trl.errors import InputError


def add(verbs: Any) -> None:
    """Declares the verb."""
    plan = verbs.add_parser(
        "plan",
        help="memory and time of a training, and what would make it fit",
        description="Estimates the peak memory of a training from the model's configuration and the real lengths of the rows, and its time on a "
        "named card. Loads configuration and tokenizer only. docs/memory.md has what was measured beside it.",
    )
    add_recipe_arguments(plan)
    plan.add_argument("--gpu", metavar="CARD", help="rtx3080, rtx4090, a100-40, a100-80, h100, ... (default: the GPU of this machine)")
    plan.add_argument("--memory", metavar="10GiB", help="memory of one device, instead of the card's")
    plan.add_argument("--count", type=int, default=1, metavar="N", help="how many cards train side by side, each with the whole model (default 1)")
    plan.add_argument("--rehearse", action="store_true", help="the plan of the rehearsal: the bundled tiny model, on the CPU")
    plan.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from lawft_trl.training.cards import find_card, read_memory

    problems, card, available = [], None, None
    try:
        card = find_card(options.gpu) if options.gpu else None
    except InputError as error:
        problems += [error.heading, *error.problems]
    try:
        available = read_memory(options.memory) if options.memory else None
    except InputError as error:
        problems.append(error.heading)
    if options.count < 1:
        problems.append(f"--count {options.count}: expected at least 1")
    if problems:
        raise InputError("lawft plan: wrong options", problems)
    from rich.console import Console

    from lawft_trl.recipe import load_recipe
    from lawft_trl.training.plan import make_plan, print_plan, visible_gpu_memory
    from lawft_trl.training.preflight import rehearsal_changes

    path = recipe_path(options.recipe)
    recipe = load_recipe(path, options.overrides, rehearsal_changes(path, options.overrides) if options.rehearse else {})
    if not (card or available or recipe.training("use_cpu")):
        available = visible_gpu_memory()
    print_plan(make_plan(recipe, card=card, available=available, processes=options.count), Console())
