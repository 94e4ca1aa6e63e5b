"""Added punctuation in a training: a base that has rows for it, and an adapter that trains these and no others."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lawft_trl.data.punctuation import add_punctuation
from lawft_trl.errors import InputError
from lawft_trl.evaluation.added_rows import token_layers
from lawft_trl.recipe import Recipe
from lawft_trl.recipe_adapters import changes_base
from lawft_trl.training.preflight import base_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def added_marks(recipe: Recipe) -> dict[int, list[int]]:
    """What `add_punctuation` adds to the recipe's tokenizer; `{}` where the recipe does not ask for it.

    Raises:
        InputError: where marks are added to an adapter that is saved as a difference of LoRA matrices, without rows.
    """
    added = add_punctuation(base_tokenizer(recipe)) if recipe.data.add_punctuation else {}
    if added and changes_base(lora := recipe.values.get("lora", {})):
        raise InputError(
            f"{recipe.path}: an adapter with lora.init_lora_weights={lora['init_lora_weights']} cannot be saved with the rows of {len(added)} added marks",
            ["set data.add_punctuation=false, or lora.init_lora_weights=true"],
        )
    return added


def with_trained_rows(lora: Mapping[str, Any], model: "PreTrainedModel", added: Mapping[int, Sequence[int]]) -> dict[str, Any]:
    """Arguments of `LoraConfig` that train the rows of added tokens too, and no other row; the same where none was added."""
    if not added:
        return dict(lora)
    return {**lora, "trainable_token_indices": {name: sorted(added) for name in token_layers(model)}}


def embedding_bytes(model: "PreTrainedModel") -> int:
    """How much of embedding and output projection PEFT saves with an adapter that trains rows of them, beside these rows.

    PEFT saves both whole where the model has got new rows, and nothing of them where it had rows to spare.

    Args:
        model: as the trainer has wrapped it; 0 for one without such an adapter.

    Returns:
        Bytes in the adapter's file.
    """
    from peft import get_peft_model_state_dict
    from peft.utils.other import TrainableTokensWrapper

    if not any(isinstance(module, TrainableTokensWrapper) for module in model.modules()):
        return 0
    untrained = {weight.data_ptr() for weight in model.parameters() if not weight.requires_grad}
    # A tensor under two names, as a tied one, is written twice.
    return sum(tensor.nbytes for tensor in get_peft_model_state_dict(model).values() if tensor.data_ptr() in untrained)


def show_bias(model: "PreTrainedModel") -> None:
    """Lets TRL read the `bias` of an output projection whose rows are trained, through PEFT's wrapper, which shows the weight alone.

    Args:
        model: as the trainer has wrapped it.
    """
    from peft.utils.other import TrainableTokensWrapper

    head = model.get_output_embeddings()
    if isinstance(head, TrainableTokensWrapper) and not hasattr(head, "bias"):
        head.bias = head.original_module.bias
