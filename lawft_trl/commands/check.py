"""`lawft check`: everything that can be known about a run before it."""

import argparse
from typing import Any

from lawft_trl.commands.recipe import add_recipe_arguments, recipe_path


def add(verbs: Any) -> None:
    """Declares the verb."""
    check = verbs.add_parser("check", help="everything that can be known about a run before it: rows, tokens, leakage, steps")
    check.add_argument("--processes", type=int, default=1, help="how many processes will train (default 1)")
    add_recipe_arguments(check)
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> None:
    from lawft_trl.recipe import load_recipe

    recipe = load_recipe(recipe_path(options.recipe), options.overrides)
    from rich.console import Console

    from lawft_trl.training.check import check_recipe, print_check

    print_check(check_recipe(recipe), Console(), processes=options.processes)
