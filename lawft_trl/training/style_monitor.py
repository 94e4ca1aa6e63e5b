"""The style of the replies while a model is trained: the dev dialogues' turns, taken as `lawft eval` will take the held-out ones.

The loss on the dev rows says how likely the tutor's own words are, not how the model speaks when it speaks for itself. So
it is let speak, and for comparison it is also read at the tutor's places, where every word before was the tutor's.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object

from lawft_trl.evaluation.asking import Asked
from lawft_trl.evaluation.generation import Generation
from lawft_trl.evaluation.replies import Turn, forced_replies, write_replies
from lawft_trl.evaluation.style import describe_style
from lawft_trl.recipe import Recipe
from lawft_trl.recipe_style import StylePatterns, style_patterns
from lawft_trl.training.dev_figures import DevFigures, refuse_split
from lawft_trl.training.dev_letters import watch_dev_letters
from lawft_trl.training.supervision import EncodedRow

if TYPE_CHECKING:
    from torch import nn
    from transformers import TrainerState
    from trl import SFTTrainer

# What of `describe_style` is logged under which name; the rest is for `lawft style` and `lawft eval`.
_LOGGED = {
    "style": "eval_socratic_style",
    "question_endings": "eval_style_question",
    "only_questions": "eval_style_only_questions",
    "same_reply": "eval_style_same_reply",
    "repeated_within": "eval_style_repeated_within",
    "repeated_across": "eval_style_repeated_across",
    "distinct_2": "eval_style_distinct_2",
    "characters": "eval_style_characters",
    "empty": "eval_style_empty",
}


def watch_dev_rows(trainer: "SFTTrainer", recipe: Recipe, asked: Sequence[Asked], encoded: Sequence[EncodedRow]) -> None:
    """Adds to the trainer what is measured on the dev rows: the style of replies, letters, and early stopping behind them.

    Args:
        trainer: the trainer.
        recipe: the resolved recipe.
        asked: see `lawft_trl.training.dev_letters.ask_dev_questions`.
        encoded: the dev rows.

    Raises:
        InputError: when the trainer splits the model over processes, which then could not be asked on their own.
    """
    style = recipe.evaluation.style
    if style is not None and encoded and recipe.training("eval_strategy") != "no":
        refuse_split(trainer, recipe, "evaluation.style", "null")
        turns = [Turn(row=item.row, input_ids=item.prompt_ids, output_ids=item.input_ids[item.prompt_length :]) for item in encoded]
        trainer.add_callback(StyleMonitor(trainer, recipe, evenly(turns, recipe.monitor.eval_samples), style_patterns(style, str(recipe.path))))
    watch_dev_letters(trainer, recipe, asked)


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, from the first to the last of them at even distances."""
    count = min(len(items), most)
    return [items[place * len(items) // count] for place in range(count)]


class StyleMonitor(DevFigures):
    """Scores the style of the replies to dev prompts, and that of the words at the tutor's places; see `DevFigures`.

    Of several processes each answers its share of the prompts; all see the same figures.

    Args:
        trainer: it must not split the model over processes.
        recipe: the resolved recipe.
        turns: what is to be said; `evaluation.batch_size` of them at a time.
        patterns: what is looked for.
    """

    def __init__(self, trainer: "SFTTrainer", recipe: Recipe, turns: Sequence[Turn], patterns: StylePatterns) -> None:
        super().__init__(trainer)
        self.patterns = patterns
        self.settings = {
            "max_new_tokens": Generation.of(recipe.evaluation, "dialogue").max_new_tokens,
            "template_kwargs": recipe.pattern.chat_template_kwargs,
            "batch_size": recipe.evaluation.batch_size,
        }
        self.turns = turns[trainer.accelerator.process_index :: trainer.accelerator.num_processes]

    def measure(self, state: "TrainerState", model: "nn.Module") -> tuple[dict[str, float], list[str]]:
        """The figures of `style_metrics`, and a line on them."""
        before = next((entry for entry in state.log_history if "eval_socratic_style" in entry), None)
        tokenizer = self.trainer.processing_class
        replies = write_replies(model, tokenizer, self.turns, **self.settings, progress=None)
        forced = forced_replies(model, tokenizer, self.turns)
        mine = [(reply.text, reply.cut, words) for reply, words in zip(replies, forced, strict=True)]
        metrics = style_metrics(*zip(*gather_object(mine), strict=True), patterns=self.patterns)
        return metrics, [_progress(metrics, before, state.global_step)]


def style_metrics(replies: Sequence[str], cut: Sequence[bool], forced: Sequence[str], *, patterns: StylePatterns) -> dict[str, float]:
    """The figures that are logged.

    Args:
        replies: what the model said.
        cut: whether each reached the greatest length.
        forced: what it would have said at the tutor's places.
        patterns: what is looked for.

    Returns:
        `eval_socratic_style`, the mean style of the replies (whatever the patterns are); `eval_teacher_forced_style`, that of
        `forced`; `eval_style_…`: question, only_questions, same_reply, repeated_within, repeated_across, distinct_2,
        characters, empty, as `describe_style` explains them; and cut, the share of replies that reached the greatest length.
    """
    described = describe_style(replies, patterns)
    return {
        **{name: described[key] for key, name in _LOGGED.items()},
        "eval_style_cut": sum(cut) / len(cut),
        "eval_teacher_forced_style": describe_style(forced, patterns)["style"],
    }


def _progress(metrics: Mapping[str, float], before: Mapping[str, float] | None, step: int) -> str:
    then = f"{before['eval_socratic_style']:.3f} before the training -> " if before else ""
    return (
        f"style of dev replies: {then}{metrics['eval_socratic_style']:.3f} {f'at step {step}' if step else 'before the training'} "
        f"(at the tutor's places {metrics['eval_teacher_forced_style']:.3f}; the same as another {metrics['eval_style_same_reply']:.0%})"
    )
