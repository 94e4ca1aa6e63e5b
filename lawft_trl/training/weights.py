"""The weights a training begins with: what the trainer is given, and what is mended in what it makes of it."""

import warnings
from typing import TYPE_CHECKING

from lawft_trl.evaluation.added_rows import grow_embeddings
from lawft_trl.recipe import Recipe
from lawft_trl.training.preflight import keep_quantized_weights
from lawft_trl.training.punctuation_rows import added_marks, show_bias

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel
    from trl import SFTConfig, SFTTrainer


def model_to_train(recipe: Recipe, args: "SFTConfig", quantization: "BitsAndBytesConfig | None") -> "str | PreTrainedModel":
    """What `SFTTrainer` is given as its model: a name, or where marks were added the model with rows for them.

    Args:
        recipe: the resolved recipe.
        args: the trainer's; a model is loaded as the trainer would.
        quantization: of the base.

    Raises:
        InputError: see `added_marks`.
    """
    added = added_marks(recipe)
    if not added:
        return recipe.model.name_or_path
    from trl.trainer.utils import create_model_from_path

    kwargs = {**args.model_init_kwargs, "trust_remote_code": recipe.model.trust_remote_code}
    if args.distributed_state.distributed_type in ("MULTI_GPU", "DEEPSPEED"):
        kwargs["device_map"] = None  # left out it means "auto": every process would spread the model over all GPUs
    model = create_model_from_path(recipe.model.name_or_path, **kwargs, **({"quantization_config": quantization} if quantization else {}))
    grow_embeddings(model, added)
    return model


def prepare_weights(trainer: "SFTTrainer") -> None:
    """Mends the weights of a built trainer.

    Where the training computes in float16 the adapter is put back into float32, as PEFT makes it: TRL makes the adapters of
    quantized models bfloat16, a type that PyTorch's loss scaling, which float16 needs, cannot unscale on CUDA. Autocast
    computes with float32 weights in float16. For 4-bit weights on a CPU see `keep_quantized_weights`, for the rows of added
    marks `show_bias`; that PEFT saves their layers whole is said once, by `describe_punctuation`, and not at every checkpoint.

    Args:
        trainer: built, not yet training.
    """
    import torch

    keep_quantized_weights(trainer.model)
    show_bias(trainer.model)
    warnings.filterwarnings("ignore", message="Setting `save_embedding_layers` to `True` as the embedding layer has been resized")
    if trainer.args.fp16:
        for weight in trainer.model.parameters():
            if weight.requires_grad and weight.dtype == torch.bfloat16:
                weight.data = weight.data.float()
