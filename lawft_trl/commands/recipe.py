"""`lawft recipe`: looking at recipes. Also how every verb finds the recipe it is given."""

import argparse
import json
from pathlib import Path
from typing import Any


def add(verbs: Any) -> None:
    """Declares the verb."""
    recipe = verbs.add_parser("recipe", help="look at recipes").add_subparsers(required=True, metavar="VERB")
    show = recipe.add_parser("show", help="the resolved recipe, and where each value comes from")
    add_recipe_arguments(show)
    show.set_defaults(run=_recipe_show)
    recipe.add_parser("schema", help="a JSON schema of recipes, for editors").set_defaults(run=_recipe_schema)


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe and its overrides, as every verb that takes a recipe has them."""
    parser.add_argument("recipe", help="a YAML file, or its name in recipes/")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")


def recipe_path(name: str) -> Path:
    """A recipe by its path, or by its name in `recipes/`, with or without its suffix."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = path.with_name(f"{path.name}.yaml")
    return path if path.exists() or path.parent != Path() else Path("recipes") / path


def _recipe_show(options: argparse.Namespace) -> None:
    from lawft_trl.recipe import load_recipe
    from lawft_trl.recipe_views import resolved_yaml

    print(resolved_yaml(load_recipe(recipe_path(options.recipe), options.overrides), origins=True), end="")


def _recipe_schema(options: argparse.Namespace) -> None:
    from lawft_trl.recipe_views import json_schema

    print(json.dumps(json_schema(), ensure_ascii=False, indent=2))
