"""What the batches of a training hold and in which order they are tried: all that is done to a built trainer's rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lawft_trl.recipe import Recipe
from lawft_trl.training.emphasis import emphasise
from lawft_trl.training.longest_batch import try_longest_batch_first
from lawft_trl.training.prefix_choice import SharedPrefix
from lawft_trl.training.shared_prefix import share_prefixes
from lawft_trl.training.step_batches import balance_processes
from lawft_trl.training.supervision import EncodedRow

if TYPE_CHECKING:
    from trl import SFTTrainer


def prepare_batches(trainer: "SFTTrainer", encoded: Sequence[EncodedRow], recipe: Recipe) -> SharedPrefix:
    """Shares prefixes of copies and weighs spans where the recipe says so, balances processes, has the longest batch tried first.

    Args:
        trainer: built on the rows, proven by `prove_trainer`, not yet training.
        encoded: its training rows.
        recipe: the resolved recipe.

    Raises:
        InputError, RuntimeError: see `share_prefixes` and `emphasise`.
    """
    shared = share_prefixes(trainer, encoded, recipe.data.shared_prefix)
    emphasised = emphasise(trainer, encoded, recipe.data.emphasis, recipe.pattern.chat_template_kwargs)
    if emphasised:
        trainer.accelerator.print(emphasised)
    balanced = balance_processes(trainer)
    if trainer.accelerator.num_processes > 1:
        trainer.accelerator.print(balanced)
    try_longest_batch_first(trainer)
    return shared
