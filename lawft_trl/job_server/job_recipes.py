"""A job as a recipe: what the base model's own recipe says, with the job's rows and hyperparameters."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.recipe import Recipe, load_recipe

_SAVED = 3  # checkpoints that are kept, as OpenAI keeps them
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*")


@dataclass(frozen=True, kw_only=True)
class Base:
    """A model that can be tuned.

    Attributes:
        name: what clients call it.
        path: its recipe; the sections `data` and `pattern` are the jobs' own.
        recipe: as it was read when the server started.
    """

    name: str
    path: Path
    recipe: Recipe


# What a job sets whatever the recipe says: dialogues, nothing held out, and no report to anyone.
_ALWAYS = {
    "pattern.answer": "dialogue",
    "pattern.statutes": "none",
    "pattern.system": None,
    "data.dev": None,
    "data.test": None,
    "data.allow_overlap": False,
    "data.shared_prefix": False,
    "data.add_punctuation": False,  # tokens of its own would keep an adapter from being served
    "training.report_to": "none",
    "training.push_to_hub": False,
    "training.load_best_model_at_end": False,  # a job ends with its last step, as OpenAI's does
    "training.metric_for_best_model": None,
    "training.logging_steps": 1,
    "training.save_total_limit": _SAVED,
    "monitor.wandb": None,
    "evaluation.early_stopping_patience": None,
    "evaluation.dev_letters": False,
    "evaluation.style": None,
}


def read_bases(named: Mapping[str, Path]) -> dict[str, Base]:
    """The models that can be tuned, each with a recipe that a job could be.

    Args:
        named: name -> recipe.

    Raises:
        InputError: with everything that is wrong with names and recipes.
    """
    bases, problems = {}, []
    for name, path in named.items():
        if not _NAME.fullmatch(name):
            problems.append(f"{name}: expected letters, digits, . _ - and / as the name of a base model")
        try:
            bases[name] = Base(name=name, path=path, recipe=load_recipe(path, _words({**_ALWAYS, "data.train": "rows.jsonl", **_without_dev("epoch")})))
        except InputError as error:
            problems.append(f"{name}: {error}")
    if not named:
        problems.append("name at least one: --base NAME=RECIPE, e.g. tiny=recipes/parents/jobs_tiny.yaml")
    if problems:
        raise InputError(f"{len(problems)} error(s) in the base models", problems)
    return bases


def job_recipe(base: Base, hyperparameters: Mapping[str, Any], *, train: Path, dev: Path | None, run: Path, seed: int | None, processes: int) -> Recipe:
    """The recipe of a job.

    Args:
        base: its base model.
        hyperparameters: `n_epochs`, `batch_size` and `learning_rate_multiplier`, each a number or `"auto"`.
        train: its rows.
        dev: rows whose loss is told, if there are some.
        run: the folder of the finished run.
        seed: `None` for the recipe's.
        processes: how many train.

    Raises:
        InputError: when the recipe has come to be one that cannot be trained.
    """
    parent = base.recipe
    saved = parent.training("save_strategy")
    changes = {**_ALWAYS, "data.train": str(train), "training.output_dir": str(run), **_without_dev("steps" if saved == "steps" and "save_strategy" in parent.values["training"] else "epoch")}
    if dev is not None:
        changes |= {"data.dev": str(dev), "training.eval_strategy": changes["training.save_strategy"]}
        if changes["training.save_strategy"] == "steps":
            changes["training.eval_steps"] = parent.training("save_steps")
    if seed is not None:
        changes["training.seed"] = seed
    if hyperparameters["n_epochs"] != "auto":
        changes |= {"training.num_train_epochs": hyperparameters["n_epochs"], "training.max_steps": -1}
    if hyperparameters["batch_size"] != "auto":
        changes |= _batches(hyperparameters["batch_size"], parent.training("per_device_train_batch_size"), processes)
    if hyperparameters["learning_rate_multiplier"] != "auto":
        changes["training.learning_rate"] = parent.training("learning_rate") * hyperparameters["learning_rate_multiplier"]
    return load_recipe(base.path, _words(changes))


def resolved(recipe: Recipe, hyperparameters: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """What `auto` has become, where it is a number: a recipe may count its steps instead of epochs."""
    epochs = recipe.training("num_train_epochs")
    batch = recipe.training("per_device_train_batch_size") * recipe.training("gradient_accumulation_steps") * processes
    multiplier = hyperparameters["learning_rate_multiplier"]
    return {
        "n_epochs": int(epochs) if recipe.training("max_steps") <= 0 and epochs == int(epochs) else "auto",
        "batch_size": batch,
        "learning_rate_multiplier": 1.0 if multiplier == "auto" else multiplier,
    }


def can_divide(batch_size: int | str, processes: int) -> bool:
    """Whether a batch can be shared evenly among the processes that train."""
    return batch_size == "auto" or batch_size % processes == 0


def count_processes(config_file: Path | None) -> int:
    """How many processes an accelerate config starts.

    Raises:
        InputError: when the file cannot be read as one.
    """
    if config_file is None:
        return 1
    from ruamel.yaml import YAML, YAMLError

    try:
        return int(YAML(typ="safe").load(config_file.read_text(encoding="utf-8")).get("num_processes", 1))
    except (OSError, YAMLError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"--config_file {config_file}: cannot be read as a file of `accelerate config`: {error}") from None


def _batches(size: int, per_device: int, processes: int) -> dict[str, int]:
    """Rows of a step as rows that fit a device at once, the recipe's number of them at most, times accumulation."""
    share = size // processes
    at_once = next(rows for rows in range(min(per_device, share), 0, -1) if share % rows == 0)
    return {"training.per_device_train_batch_size": at_once, "training.gradient_accumulation_steps": share // at_once}


def _without_dev(saved: str) -> dict[str, str]:
    return {"training.save_strategy": saved, "training.eval_strategy": "no"}


def _words(changes: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()]
