"""What is measured on the dev rows besides their loss: whenever the trainer evaluates, and once before the first step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from lawft_trl.errors import InputError
from lawft_trl.recipe import Recipe
from lawft_trl.training.progress import say

if TYPE_CHECKING:
    from torch import nn
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from trl import SFTTrainer


class DevFigures(TrainerCallback):
    """Measures, logs and tells; what, says `measure` of a subclass.

    The figures are put into the metrics of the evaluation, so that `metric_for_best_model` and `EarlyStoppingCallback` can
    use them, and into the log: trackers, `trainer_state.json` and `training_metrics.csv` get an entry of their own behind that of the
    evaluation, with the same step. The entry of step 0 is the model before the training: the base model, as adapters begin.
    It never counts as the best.

    The model is asked with the adapter on, in `eval` mode, in which nothing is drawn from a random generator: the training is
    the same with and without this. What goes through the model's `forward` has the trainer's mixed precision; what an adapter
    generates has not, for `PeftModel.generate` calls the model within it, and computes in the weights' own types.

    Args:
        trainer: it must not split the model over processes; see `refuse_split`.
    """

    def __init__(self, trainer: "SFTTrainer") -> None:
        self.trainer = trainer

    def measure(self, state: "TrainerState", model: "nn.Module") -> tuple[dict[str, float], list[str]]:
        """The figures, which all processes see, under the names they are logged by; and what is said of them."""
        raise NotImplementedError

    def on_train_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", model: "nn.Module", **kwargs: Any
    ) -> None:
        """Measures the model before its first step; not again in a resumed training, nor where the trainer itself will."""
        if state.global_step == 0 and not args.eval_on_start:
            self._report(state, model)

    def on_evaluate(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        model: "nn.Module",
        metrics: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Adds the figures to `metrics`."""
        metrics.update(self._report(state, model))

    def _report(self, state: "TrainerState", model: "nn.Module") -> dict[str, float]:
        with _asked_quietly(model):
            metrics, lines = self.measure(state, model)
            # While the model is in eval mode: in train mode TRL would empty its running means into this entry
            self.trainer.log(dict(metrics))
        if state.is_world_process_zero:
            for line in lines:
                say(line)
        return metrics


def refuse_split(trainer: "SFTTrainer", recipe: Recipe, key: str, off: str) -> None:
    """Raises `InputError` when the trainer splits the model over processes, which then could not be asked on their own.

    Args:
        trainer: the trainer.
        recipe: its recipe.
        key: what needs the whole model.
        off: its value that does without.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise InputError(
            f"{recipe.path}: {key} needs the whole model in every process, and FSDP or DeepSpeed splits it",
            [f"set {key}: {off}, or launch with accelerate_configs/multi_gpu.yaml"],
        )


@contextmanager
def _asked_quietly(model: "nn.Module") -> Iterator[None]:
    """The model in `eval` mode: no dropout, and no gradient checkpointing, which would drop the cache that generation needs."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
