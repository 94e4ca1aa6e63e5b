"""Letter scoring while a model is trained: the dev questions, asked as `lawft eval` will ask the held-out ones.

The loss on the dev rows says how surprised the model is, not whether it answers right, and not whether it has fallen
for one letter. So whenever the trainer evaluates, the letters are scored as well, and once before the first step.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from accelerate.utils import gather_object
from transformers import EarlyStoppingCallback

from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.data.rows import Row
from lawft_trl.errors import InputError
from lawft_trl.evaluation.asking import Asked, ask, unique_questions
from lawft_trl.evaluation.letters import score_letters
from lawft_trl.evaluation.metrics import MIN_LABEL_MASS, Prediction, describe_model
from lawft_trl.recipe import Recipe
from lawft_trl.training.dev_figures import DevFigures, refuse_split

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase, TrainerState
    from trl import SFTTrainer

# One letter for nearly all prompts, of which there are enough for this not to be chance.
_COLLAPSED, _ENOUGH = 0.85, 40
# A letter that is the right one so often may be chosen so often; over four orders each is right in a quarter.
_OFTEN_RIGHT = 0.5
_DROP = 0.01  # of the label mass; smaller ones are no change of form


def ask_dev_questions(recipe: Recipe, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> list[Asked]:
    """The prompts of the dev questions that are answered by a letter alone, as many orders of each as `lawft eval` asks.

    Args:
        recipe: the resolved recipe.
        rows: its dev rows.
        tokenizer: the recipe's tokenizer.

    Returns:
        `[]` where the trainer does not evaluate, `evaluation.dev_letters` is off, or no dev row's answer is a letter.

    Raises:
        InputError: when letters cannot be scored with this tokenizer, ids are not unique, or the checkpoint is to be
            chosen by letters and there are none.
    """
    if recipe.training("eval_strategy") == "no" or not recipe.evaluation.dev_letters:
        return []
    rows = [row for row in rows if row.meta.get("mode") in (None, "direct") and row.gold == row.output.strip()]
    metric = recipe.training("metric_for_best_model") or ""
    if not rows and metric.removeprefix("eval_").startswith("letter_"):
        raise InputError(
            f"{recipe.path}: training.metric_for_best_model is {metric}, but no row of data.dev is answered by a letter alone",
            ["set training.metric_for_best_model: eval_loss, or name other rows in data.dev"],
        )
    trim_to = recipe.max_length if recipe.data.overlong == "trim_statutes" else None
    try:
        orders = ORDERS[: recipe.evaluation.orders]
        return ask(unique_questions(rows), tokenizer, recipe.pattern.chat_template_kwargs, orders=orders, trim_to=trim_to)
    except InputError as error:
        raise InputError(f"{recipe.path}: the dev questions' letters cannot be scored; evaluation.dev_letters: false leaves it", [str(error)]) from error


def watch_dev_letters(trainer: "SFTTrainer", recipe: Recipe, asked: Sequence[Asked]) -> None:
    """Adds to the trainer what the recipe says: `DevLetters` where there is something to ask, and early stopping behind it.

    Raises:
        InputError: when the trainer splits the model over processes, which then could not score on their own.
    """
    if asked:
        refuse_split(trainer, recipe, "evaluation.dev_letters", "false")
        trainer.add_callback(DevLetters(trainer, asked, batch_size=recipe.evaluation.batch_size))
    patience = recipe.evaluation.early_stopping_patience
    if patience is not None:  # after DevLetters, whose figures it may wait for
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=patience))


class DevLetters(DevFigures):
    """Scores the dev questions' letters; see `DevFigures`. Logged are `letter_metrics` and `eval_letter_alarm`, how many alarms were raised.

    Of several processes each scores its share of the questions; all see the same figures.

    Args:
        trainer: it must not split the model over processes.
        asked: see `ask_dev_questions`.
        batch_size: prompts per forward pass.
    """

    def __init__(self, trainer: "SFTTrainer", asked: Sequence[Asked], *, batch_size: int) -> None:
        super().__init__(trainer)
        self.batch_size = batch_size
        # Whole questions to every process: their orders are read together
        process, processes = trainer.accelerator.process_index, trainer.accelerator.num_processes
        mine = set(list(dict.fromkeys(item.row.id for item in asked))[process::processes])
        self.asked = [item for item in asked if item.row.id in mine]

    def measure(self, state: "TrainerState", model: "nn.Module") -> tuple[dict[str, float], list[str]]:
        """The letters' figures, a line on them, and the alarms."""
        before = next((entry for entry in state.log_history if "eval_letter_accuracy" in entry), None)
        pad_token_id = self.trainer.processing_class.pad_token_id
        try:
            mine = score_letters(model, self.asked, pad_token_id=pad_token_id, batch_size=self.batch_size, progress=None)
        except FloatingPointError as error:
            raise InputError(
                f"step {state.global_step}: the model's outputs are no longer finite, the training has diverged",
                ["lower training.learning_rate, or train in bfloat16 instead of float16; checkpoints from before are in the run's folder"],
            ) from error
        predictions = gather_object(mine)
        metrics = letter_metrics(predictions)
        raised = alarms(predictions, before) if before else []
        metrics["eval_letter_alarm"] = float(len(raised))
        return metrics, [_progress(metrics, before, state.global_step), *(f"ALARM: {text}" for text in raised)]


def letter_metrics(predictions: Sequence[Prediction]) -> dict[str, float]:
    """The figures that are logged.

    Returns:
        `eval_letter_accuracy`: share of questions right, averaged by content over the orders, as in `lawft eval`;
        `eval_letter_single_order_accuracy`: share of prompts right; `eval_letter_gold_logprob`: mean log-probability of the
        right letter, which moves where few questions leave the accuracy in coarse steps; `eval_letter_mass`: mean
        probability of any letter; `eval_letter_share_a` to `_d`: of the prompts, how many were answered so;
        `eval_letter_entropy`: of these shares, in bits: 2 for even ones, 0 for one letter alone.
    """
    described = describe_model(predictions)
    shares = {letter: count / len(predictions) for letter, count in described["letters"].items()}
    gold = [prediction.letter_logprobs[prediction.gold] for prediction in predictions]
    return {
        "eval_letter_accuracy": described["accuracy"],
        "eval_letter_single_order_accuracy": described["single_order_accuracy"],
        "eval_letter_gold_logprob": sum(gold) / len(gold),
        "eval_letter_mass": described["label_mass"],
        "eval_letter_entropy": -sum(share * math.log2(share) for share in shares.values() if share) + 0.0,  # no -0.0
        **{f"eval_letter_share_{letter}": shares[letter] for letter in LETTERS},
    }


def alarms(predictions: Sequence[Prediction], before: Mapping[str, float]) -> list[str]:
    """Sentences on what is going wrong, with what to try.

    Args:
        predictions: of the model as it is now.
        before: `letter_metrics` of the model before the training.
    """
    now, raised, prompts = letter_metrics(predictions), [], len(predictions)
    letter = max(LETTERS, key=lambda each: now[f"eval_letter_share_{each}"])
    share, share_before = now[f"eval_letter_share_{letter}"], before[f"eval_letter_share_{letter}"]
    right = Counter(prediction.gold for prediction in predictions)[letter] / prompts
    if share >= _COLLAPSED and prompts >= _ENOUGH and right <= _OFTEN_RIGHT:
        advice = (
            "It was so before: the training has not changed it yet. If it stays so, try more steps or a higher training.learning_rate."
            if share_before >= _COLLAPSED
            else "The model is learning a letter, not the law. Look at the letters of the training rows (`lawft check RECIPE`; "
            "`lawft data` writes every question in four orders), and try a lower training.learning_rate."
        )
        raised.append(
            f"label collapse: {share:.0%} of {prompts} prompts are answered {letter!r}, which is right in {right:.0%} of them "
            f"(before the training {share_before:.0%} were). {advice}"
        )
    if now["eval_letter_mass"] < MIN_LABEL_MASS and now["eval_letter_mass"] < before["eval_letter_mass"] - _DROP:
        raised.append(
            f"format loss: only {now['eval_letter_mass']:.2f} of the probability is on any letter (before the training "
            f"{before['eval_letter_mass']:.2f}). The model is unlearning to answer by a letter alone. See whether the outputs of all "
            "training rows are one (`lawft check RECIPE`), and try a lower training.learning_rate or fewer epochs."
        )
    return raised


def _progress(metrics: Mapping[str, float], before: Mapping[str, float] | None, step: int) -> str:
    now = f"{metrics['eval_letter_accuracy']:.1%}"
    then = f"{before['eval_letter_accuracy']:.1%} before the training -> " if before else ""
    return f"dev questions right by their letters: {then}{now} {f'at step {step}' if step else 'before the training'}"
