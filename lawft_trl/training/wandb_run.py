"""The training in Weights & Biases: one run, also where the training was interrupted and resumed."""

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.integrations import WandbCallback

from lawft_trl.evaluation.wandb_log import begin_run, where_logged
from lawft_trl.folders import write_text
from lawft_trl.recipe import Recipe
from lawft_trl.training.progress import say

if TYPE_CHECKING:
    from torch import nn
    from transformers import TrainerState, TrainingArguments


class WandbRun(WandbCallback):
    """transformers' callback, with a run of our own: rank 0 alone, nobody is asked, `config` is `run.json`.

    The run's id is kept in `wandb/run_id` of the run's folder, so that a resumed training goes on in the same W&B run.

    Args:
        recipe: the resolved recipe.
        work: the folder the run trains in, which holds its `run.json` by the time the training begins.
    """

    def __init__(self, recipe: Recipe, work: Path) -> None:
        super().__init__()
        self.recipe, self.work = recipe, work
        self.lost = False

    def setup(self, args: "TrainingArguments", state: "TrainerState", model: "nn.Module", **kwargs: Any) -> None:
        """Begins the run, or goes on with it."""
        self._initialized = True
        if not state.is_world_process_zero:
            return
        run = begin_run(
            self.recipe.monitor,
            run=Path(self.recipe.values["training"]["output_dir"]).name,
            folder=self.work,
            name=os.environ.get("WANDB_NAME", args.run_name),
            job_type="train",
            id=_kept_id(self.work),
            resume="allow",
            config=wandb_config(json.loads((self.work / "run.json").read_text(encoding="utf-8"))),
            allow_val_change=True,  # of a resumed run: the commit or the machine may be another
        )
        run.define_metric("train/global_step")
        run.define_metric("*", step_metric="train/global_step", step_sync=True)


    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Logs; where W&B has gone, says so once: a training is worth more than its curve there."""
        self._unless_lost(super().on_log, *args, **kwargs)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """As transformers' own, unless W&B has gone."""
        self._unless_lost(super().on_train_end, *args, **kwargs)

    def _unless_lost(self, do: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        try:
            if not self.lost:
                do(*args, **kwargs)
        except Exception as error:
            self.lost = True
            say(f"W&B can no longer be reached ({type(error).__name__}: {error}); the training goes on without it")


def _kept_id(work: Path) -> str:
    """The W&B id of the run in this folder, made at its first start."""
    file = work / "wandb" / "run_id"
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        write_text(file, secrets.token_hex(4))
    return file.read_text(encoding="utf-8")


def wandb_config(record: Mapping[str, Any]) -> dict[str, Any]:
    """What W&B shows as a run's configuration.

    Args:
        record: the run's `run.json` as the training begins.

    Returns:
        The recipe by its sections, and beside them what else tells two runs apart: data hashes, prompt, commit, versions.
    """
    identity, environment = record["identity"], record["environment"]
    hashes = {role: {entry["file"]: entry["sha256"] for entry in entries} for role, entries in identity["data"].items()}
    others = {key: record[key] for key in ("rehearsal", "overlap", "shared_prefix", "rows_with_trimmed_statutes") if key in record}
    return {
        **identity["recipe"],
        "data_sha256": hashes,
        "prompt_fingerprint": identity["prompt_fingerprint"],
        "processes": identity["processes"],
        **{key: environment[key] for key in ("commit", "versions", "hardware")},
        **others,
    }


def finish_wandb(work: Path, target: Path, results: Mapping[str, Any]) -> str:
    """Ends the run with the training's last figures and its picture.

    Args:
        work: the folder the run trained in.
        target: the name it will have.
        results: the figures of `training_summary.json`.

    Returns:
        Where the run can be seen, or the command that sends it.
    """
    import wandb

    run = wandb.run
    run.log({"training_progress": wandb.Image(str(work / "training_progress.png")), "train/global_step": results["steps"]})
    run.summary.update({f"training/{key}": value for key, value in results.items() if value is not None})
    run.finish()
    return where_logged(run, target)
