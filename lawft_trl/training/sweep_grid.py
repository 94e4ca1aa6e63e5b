"""The combinations of a sweep: every value of every list with every other, found to be right before anything is trained."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawft_trl import run_dir
from lawft_trl.data.chat import prompt_fingerprint
from lawft_trl.doctor.examine import refuse_unfit
from lawft_trl.errors import InputError
from lawft_trl.evaluation.held_out import how_to_ask, questions_to_score
from lawft_trl.recipe import Recipe, load_recipe
from lawft_trl.training.adapters import adapter_config
from lawft_trl.training.child_runs import PlannedRun
from lawft_trl.training.preflight import (
    data_files,
    encode_role,
    read_roles,
    recipe_tokenizer,
    refuse_overlap,
    require_device,
)

_LONGEST_NAME = 80  # characters of a folder's name
# What must be the same for all, or their answers could not be compared: questions, prompts and scoring.
_FIXED_SECTIONS = ("pattern", "evaluation", "monitor")
_FIXED_KEYS = ("data.dev", "data.test", "data.allow_overlap")
_CLOSING = {"[": "]", "{": "}"}


@dataclass(frozen=True, kw_only=True)
class Combination(PlannedRun):
    """One training of a sweep.

    Attributes:
        values: swept key -> its value here, as it was typed.
        usual: whether these are the values that the recipe has without the sweep.
    """

    values: dict[str, str]
    usual: bool

    @property
    def title(self) -> str:
        return _title(self.values)


def read_grid(settings: Sequence[str], final: Mapping[str, Any]) -> tuple[list[str], dict[str, list[str]]]:
    """Tells lists of values from single ones.

    Args:
        settings: `section.key=value`, or `section.key=value,value,...`; the values in YAML, so that commas inside brackets
            and quotes belong to a value.
        final: keys that a rehearsal sets.

    Returns:
        The settings with one value, and swept key -> its values.

    Raises:
        InputError: with everything that is wrong with the lists.
    """
    single, grid, problems = [], {}, []
    for setting in settings:
        key, equals, text = setting.partition("=")
        values = _split(text)
        if values is None:
            problems.append(f"{setting}: a bracket or a quotation mark is not closed")
        elif not equals or len(values) == 1:
            single.append(setting)
        else:
            problems += _list_problems(key, values, grid, final)
            grid[key] = values
    problems += [f"{key}: given both as a list and as one value" for key in grid if any(one.startswith(f"{key}=") for one in single)]
    problems += ["training.output_dir: every run has a folder of its own; name the folder of all with --out"] * any(
        setting.startswith("training.output_dir=") for setting in settings
    )
    if not grid and not problems:
        problems.append("nothing to sweep: give a key several values, e.g. training.learning_rate=1e-5,5e-5,2e-4 lora.r=8,16")
    if problems:
        raise InputError(f"lawft sweep: {len(problems)} error(s) in what is to be swept; nothing was started", problems)
    return single, grid


def _split(text: str) -> list[str] | None:
    """A text at its commas outside brackets and quotation marks; `None` where one of these is not closed."""
    parts, closing, quote = [""], [], ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in _CLOSING:
            closing.append(_CLOSING[character])
        elif closing and character == closing[-1]:
            closing.pop()
        elif character == "," and not closing:
            parts.append("")
            continue
        parts[-1] += character
    return None if closing or quote else [part.strip() for part in parts]


def _list_problems(key: str, values: Sequence[str], grid: Mapping[str, Any], final: Mapping[str, Any]) -> list[str]:
    """What is wrong with a list of values."""
    problems = []
    if "" in values:
        problems.append(f"{key}: an empty value in {','.join(values)}; write null for none")
    if twice := sorted({value for value in values if value and values.count(value) > 1}):
        problems.append(f"{key}: {', '.join(twice)} stands there twice")
    if key in grid:
        problems.append(f"{key}: given twice; put all its values into one list")
    if key.partition(".")[0] in _FIXED_SECTIONS or key in _FIXED_KEYS:
        problems.append(f"{key}: must be the same for all runs, or their answers could not be compared; give it one value")
    if key in final:
        problems.append(f"{key}: the rehearsal sets it itself, so it cannot be swept in one")
    return problems


def plan_sweep(path: Path, settings: Sequence[str], final: Mapping[str, Any], out: Path) -> tuple[list[Combination], Path]:
    """All trainings of a sweep and the dev file they are scored on.

    The recipe, rows, tokens and adapter of each are checked as the launcher checks them; nothing is trained.

    Args:
        path: the recipe.
        settings: see `read_grid`.
        final: what a rehearsal sets.
        out: the folder of all runs.

    Raises:
        InputError: with the problems of all combinations.
    """
    single, grid = read_grid(settings, final)
    usual, combinations, checked = _usual_values(path, single, final), [], {}
    wrong: dict[str, list[str]] = {}  # problem -> the combinations that have it
    for chosen in itertools.product(*grid.values()):
        values = dict(zip(grid, chosen, strict=True))
        name = _folder_name(values)
        target = json.dumps(str(out / name), ensure_ascii=False)
        own = (*single, *(f"{key}={value}" for key, value in values.items()), f"training.output_dir={target}")
        try:
            recipe = load_recipe(path, own, final)
            identity = _check(recipe, checked)
        except InputError as error:
            for text in error.problems or [error.heading]:
                wrong.setdefault(text, []).append(_title(values))
            continue
        same = _without_folder(recipe) == usual
        combinations.append(Combination(name=name, recipe=recipe, overrides=own, identity=identity, values=values, usual=same))
    count = math.prod(map(len, grid.values()))
    problems = [text if len(titles) == count else f"{'; '.join(titles)}: {text}" for text, titles in wrong.items()]
    problems += _same_recipes(combinations)
    if problems:
        raise InputError(f"{path}: {len(problems)} error(s) in the combinations of the sweep; nothing was started", problems)
    return combinations, data_files(combinations[0].recipe)["dev"][0]


def _check(recipe: Recipe, checked: dict[str, str]) -> dict[str, Any]:
    """Checks a combination as the launcher will, and returns its identity; what several share is checked once.

    Args:
        recipe: the combination's.
        checked: what was found so far: a text that stands for all that decides on the rows -> prompt fingerprint.
    """
    if not recipe.data.dev:
        raise InputError("data.dev: missing; a sweep chooses by dev questions, never by the held-out ones. `lawft data` writes dev_*.jsonl")
    _, answer, _ = how_to_ask(recipe)  # refuses dialogues
    require_device(recipe.values["training"])
    adapter_config(recipe)
    training = {key: recipe.training(key) for key in ("max_length", "chat_template_path")}
    same = json.dumps([recipe.values["data"], recipe.values["pattern"], recipe.values["evaluation"], recipe.values["model"], training], sort_keys=True, default=str)
    if same not in checked:
        rows = read_roles(recipe)
        refuse_unfit(rows["train"], str(recipe.path))
        refuse_overlap(recipe, rows)
        questions_to_score(recipe, rows["dev"], Path(recipe.data.dev), answer)
        tokenizer = recipe_tokenizer(recipe)
        for role in ("train", "dev"):
            encode_role(recipe, rows[role], tokenizer)
        checked[same] = prompt_fingerprint(tokenizer, system=recipe.pattern.system, template_kwargs=recipe.pattern.chat_template_kwargs)
    return run_dir.identity(recipe, data_files(recipe), checked[same], processes=0)


def _usual_values(path: Path, single: Sequence[str], final: Mapping[str, Any]) -> dict[str, dict[str, Any]] | None:
    """The recipe's values without the sweep; `None` where it is no recipe without."""
    try:
        return _without_folder(load_recipe(path, single, final))
    except InputError:
        return None


def _title(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _without_folder(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """A recipe's values but for where its run goes."""
    return {section: {key: value for key, value in keys.items() if (section, key) != ("training", "output_dir")} for section, keys in recipe.values.items()}


def _same_recipes(combinations: Sequence[Combination]) -> list[str]:
    """Combinations that differ in how they were typed only."""
    problems, seen = [], {}
    for combination in combinations:
        values = json.dumps(_without_folder(combination.recipe), sort_keys=True, default=str)
        first = seen.setdefault(values, combination)
        if first is not combination:
            problems.append(f"{combination.title}: the same recipe as {first.title}")
    return problems


def _folder_name(values: Mapping[str, str]) -> str:
    """A name that says the values, and tells apart those that it cannot spell; the same for the same values."""
    text = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in values.items())
    name = re.sub(r"[^\w.,=+-]+", "_", text)
    if name == text and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(json.dumps(dict(values), ensure_ascii=False).encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9]}-{digest}"
