"""Pushing a finished run to the Hugging Face hub (`training.push_to_hub`): the adapter, its card and its record.

The trainer would push before the run has its name, with TRL's card and with optimizer states where it pushes checkpoints.
Here the finished folder is pushed, once, after everything in it stands.
"""

import shlex
from pathlib import Path

from lawft_trl.errors import InputError
from lawft_trl.recipe import Recipe

# Only files at the top of the folder, and of these kinds: checkpoints, logs and evaluations lie in folders of their own, and
# training_args.bin is a pickle, which nobody should have to load.
_PUSHED = {".safetensors", ".json", ".jinja", ".md", ".yaml", ".csv", ".png", ".txt", ".model"}
_NOT_PUSHED = {"experiment.md"}  # what the person noted for themselves


def announce_push(recipe: Recipe) -> str:
    """Finds out before the training that the run cannot be pushed, and says where it will go and who can see it there.

    Args:
        recipe: a checked recipe that is to be pushed.

    Raises:
        InputError: when there is no token, or one that the hub does not take, when the hub cannot be reached or has no
            such place, or when the run's name cannot be one there.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import (  # HTTPError: that of the client it uses
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils import validate_repo_id

    without = "or train without it: training.push_to_hub=false"
    if constants.is_offline_mode():
        raise InputError("training.push_to_hub is on, and the hub is switched off here (HF_HUB_OFFLINE)", ["unset HF_HUB_OFFLINE", without])
    if not get_token():
        raise InputError("training.push_to_hub is on, but no token of the hub is known here", ["run `hf auth login`, or export HF_TOKEN", without])
    name, api = _wanted_name(recipe), HfApi()
    try:
        validate_repo_id(name)
        full = name if "/" in name else f"{api.whoami()['name']}/{name}"
        try:
            there = "public" if not api.model_info(full).private else "private"
            visibility = f"already there, {there}"
        except RepositoryNotFoundError:
            visibility = _new_visibility(recipe)
    except HFValidationError as error:
        raise InputError(f"{name!r} cannot be a name on the hub: {error}", ["set training.hub_model_id: NAME or ORGANISATION/NAME", without]) from error
    except (HTTPError, OSError) as error:
        raise InputError(f"training.push_to_hub is on, but the hub refuses or cannot be reached: {_one_line(error)}", [without]) from error
    return f"Hub: the finished run will be pushed to {api.endpoint}/{full} ({visibility})"


def _wanted_name(recipe: Recipe) -> str:
    """The repository's name, with or without its owner."""
    return recipe.training("hub_model_id") or Path(recipe.values["training"]["output_dir"]).name


def _new_visibility(recipe: Recipe) -> str:
    private = recipe.training("hub_private_repo")
    if private is None:
        return "new, and PUBLIC unless your organisation's default is private; training.hub_private_repo: true makes it private"
    return f"new, {'private' if private else 'PUBLIC'}"


def push_finished(recipe: Recipe) -> str:
    """Pushes the finished run that a recipe trained; returns a line with its address.

    Raises:
        InputError: when it cannot be pushed, with the command that pushes it by hand; the run is finished all the same.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    run, name, revision = Path(recipe.values["training"]["output_dir"]), _wanted_name(recipe), recipe.training("hub_revision")
    try:
        repository = HfApi().create_repo(name, private=recipe.training("hub_private_repo"), exist_ok=True)
        if revision:
            HfApi().create_branch(repository.repo_id, branch=revision, exist_ok=True)
        HfApi().upload_folder(
            repo_id=repository.repo_id, folder_path=run, allow_patterns=pushed_files(run), commit_message=f"{run.name}, trained by lawft-trl", revision=revision
        )
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        command = ["hf", "upload", name, str(run), ".", *(part for file in pushed_files(run) for part in ("--include", file))]
        command += _options(recipe, revision)
        raise InputError(
            f"the adapter is finished and whole in {run}, but it could not be pushed: {_one_line(error)}",
            [f"to push it: {shlex.join(command)}"],
        ) from error
    return f"Pushed:  {repository}"


def _options(recipe: Recipe, revision: str | None) -> list[str]:
    private = recipe.training("hub_private_repo")
    return [*(["--private"] if private else []), *(["--revision", revision] if revision else [])]


def pushed_files(run: Path) -> list[str]:
    """The names of the files in a finished run's folder that are pushed."""
    return sorted(path.name for path in run.iterdir() if path.is_file() and path.suffix in _PUSHED and path.name not in _NOT_PUSHED)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
