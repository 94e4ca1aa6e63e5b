"""Added punctuation in a training: a base that has rows for it, and an adapter that trains these and no others."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lawft_trl.data.punctuation import add_punctuation
from lawft_trl.evaluation.added_rows import token_layers
from lawft_trl.recipe import Recipe
from lawft_trl.training.preflight import base_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def added_marks(recipe: Recipe) -> dict[int, list[int]]:
    """What `add_punctuation` adds to the recipe's tokenizer; `{}` where the recipe does not ask for it."""
    return add_punctuation(base_tokenizer(recipe)) if recipe.data.add_punctuation else {}


def with_trained_rows(lora: Mapping[str, Any], model: "PreTrainedModel", added: Mapping[int, Sequence[int]]) -> dict[str, Any]:
    """Arguments of `LoraConfig` that train the rows of added tokens too, and no other row; the same where none was added."""
    if not added:
        return dict(lora)
    return {**lora, "trainable_token_indices": {name: sorted(added) for name in token_layers(model)}}


def show_bias(model: "PreTrainedModel") -> None:
    """Lets TRL read the `bias` of an output projection whose rows are trained, through PEFT's wrapper, which shows the weight alone.

    Args:
        model: as the trainer has wrapped it.
    """
    from peft.utils.other import TrainableTokensWrapper

    head = model.get_output_embeddings()
    if isinstance(head, TrainableTokensWrapper) and not hasattr(head, "bias"):
        head.bias = head.original_module.bias
