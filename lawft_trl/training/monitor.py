"""Where a training is seen while it runs: W&B, TensorBoard, Trackio (`training.report_to`), and the terminal."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.errors import InputError
from lawft_trl.evaluation.wandb_log import require_login
from lawft_trl.recipe import Recipe

if TYPE_CHECKING:
    from trl import SFTTrainer


def set_up_monitor(recipe: Recipe, work: Path) -> list[str]:
    """Finds out before a model is loaded that the training cannot be logged as the recipe says.

    Args:
        recipe: the resolved recipe.
        work: the folder the run trains in; TensorBoard's files go into its `tensorboard`.

    Returns:
        What the trainer itself is to report to. W&B is left out: it gets a callback of ours, see `watch_training`.

    Raises:
        InputError: when a package is missing, or W&B is to log online and has no key.
    """
    missing = [name for name in recipe.report_to if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{recipe.path}: training.report_to names what is not installed here: {', '.join(missing)}",
            [f"pip install {' '.join(missing)}", f"or leave it out: training.report_to={_without(recipe, missing)}"],
        )
    if "wandb" in recipe.report_to:
        require_login(recipe.monitor)
    if "tensorboard" in recipe.report_to:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(work / "tensorboard")  # one folder, also of a resumed run
    return [name for name in recipe.report_to if name != "wandb"]


def _without(recipe: Recipe, missing: list[str]) -> str:
    kept = [name for name in recipe.report_to if name not in missing]
    return f"[{','.join(kept)}]" if kept else "none"


def watch_training(trainer: "SFTTrainer", recipe: Recipe, work: Path) -> None:
    """Adds to the trainer what shows its progress, in place of the library's bar, and what logs it to W&B."""
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    from lawft_trl.training.progress import Progress

    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(Progress())
    if "wandb" in recipe.report_to:
        from lawft_trl.training.wandb_run import WandbRun

        trainer.add_callback(WandbRun(recipe, work))


def finish_monitor(recipe: Recipe, work: Path, target: Path, results: Mapping[str, Any]) -> list[str]:
    """Ends what `watch_training` began; to be called by rank 0, before the run gets its name.

    Args:
        recipe: the resolved recipe.
        work: the folder the run trained in.
        target: the name it will have.
        results: the figures of `training_summary.json`.

    Returns:
        Lines that say where the log can be seen.
    """
    lines = []
    if "wandb" in recipe.report_to:
        from lawft_trl.training.wandb_run import finish_wandb

        try:
            lines.append(f"W&B:     {finish_wandb(work, target, results)}")
        except Exception as error:  # whatever it is, the run is whole without it
            lines.append(f"W&B:     was lost before the end ({type(error).__name__}: {error}); the run itself is whole")
    if "tensorboard" in recipe.report_to:
        lines.append(f"Curves:  tensorboard --logdir {target / 'tensorboard'}")
    return lines
