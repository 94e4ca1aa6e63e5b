"""The adapter a recipe asks for, and how it is saved so that it belongs to the base as it was before the training."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lawft_trl.data.punctuation import describe_punctuation
from lawft_trl.errors import InputError
from lawft_trl.recipe import Recipe
from lawft_trl.recipe_adapters import changes_base
from lawft_trl.training.activations import meta_model
from lawft_trl.training.estimate import read_config
from lawft_trl.training.punctuation_rows import added_marks, embedding_bytes, with_trained_rows

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import Tensor
    from trl import SFTTrainer

_HIGH_FOR_ALL_WEIGHTS = 1e-4  # a learning rate


def adapter_config(recipe: Recipe) -> "LoraConfig | None":
    """The section `lora` as PEFT's object; `None` where all weights are trained.

    Raises:
        InputError: when PEFT refuses it, or it does not fit the model, found on a model without weights; or when it could not
            be saved with the rows of added marks.
    """
    from peft import LoraConfig

    if "lora" not in recipe.values:
        return None
    try:
        config = LoraConfig(**{"task_type": "CAUSAL_LM", **recipe.values["lora"]})
    except (ValueError, TypeError, ImportError) as error:
        raise InputError(f"{recipe.path}: peft.LoraConfig refuses the section lora: {error}") from error
    added = added_marks(recipe)
    model = read_config(recipe)
    # Code of the model's own repository, and models that also see images, are left for the trainer to build.
    if not recipe.model.trust_remote_code and (model.architectures or [""])[0].endswith("ForCausalLM"):
        # A copy: PEFT resolves `all-linear` in the one it is given. How the weights start is nothing to find out here.
        meta_model(model, LoraConfig(**{**recipe.values["lora"], "task_type": "CAUSAL_LM", "init_lora_weights": True}), "float32")
    if added:
        config.trainable_token_indices = with_trained_rows({}, meta_model(model, None, "float32"), added)["trainable_token_indices"]
    return config


def describe_trained(trainer: "SFTTrainer", recipe: Recipe) -> str:
    """What is trained, for the start of a training, and what of the learning rate will surprise."""
    weights = [(weight.numel(), weight.dtype) for weight in trainer.model.parameters() if weight.requires_grad]
    count = sum(size for size, _ in weights)
    if "lora" in recipe.values:
        used = trainer.model.config.get_text_config()._attn_implementation
        other = f"; attention: {used}, for this model has no {wanted}" if (wanted := recipe.model.attn_implementation) not in (None, used) else ""
        marks = f"\n{describe_punctuation(trainer.processing_class, added_marks(recipe), whole=embedding_bytes(trainer.model))}" if recipe.data.add_punctuation else ""
        return f"Trained: an adapter of {count:,} weights{other}{marks}{_about_rate(trainer, recipe)}"
    kinds = {str(dtype).removeprefix("torch.") for _, dtype in weights}
    text = f"Trained: all {count:,} weights, in {', '.join(sorted(kinds))}"
    if "bfloat16" in kinds:
        text += "; it rounds off steps under some 0.4 % of a weight: model.dtype=float32 keeps them, for twice the memory"
    return text + _about_rate(trainer, recipe)


def _about_rate(trainer: "SFTTrainer", recipe: Recipe) -> str:
    args, text = trainer.args, ""
    if "lora" not in recipe.values and args.learning_rate > _HIGH_FOR_ALL_WEIGHTS:
        text += f"\nNote: training.learning_rate={args.learning_rate:g} is usual for LoRA; all weights are trained with a tenth of it or less"
    if 0 < args.max_steps <= args.get_warmup_steps(args.max_steps):
        text += f"\nNote: the warm-up of {args.get_warmup_steps(args.max_steps)} steps is not over in {args.max_steps}: the learning rate is never reached (training.warmup_steps)"
    return text


def initial_adapter(trainer: "SFTTrainer", recipe: Recipe) -> "dict[str, Tensor] | None":
    """The adapter as it begins, where it began by taking a part out of the base; `None` for all others.

    To be called before the training, a resumed one too: the same seed makes the same beginning.
    """
    from peft import get_peft_model_state_dict

    if not changes_base(recipe.values.get("lora", {})):
        return None
    return {name: tensor.detach().cpu().clone() for name, tensor in get_peft_model_state_dict(trainer.model).items()}


def save_tuned(trainer: "SFTTrainer", work: Path, initial: "dict[str, Tensor] | None") -> None:
    """Saves adapter or model with its tokenizer.

    An adapter that took a part out of the base is saved as the difference to its beginning, a LoRA of twice the rank on the
    untouched base. As it is, it would belong to a base that is nowhere on disk, and taking it off would not give the base.

    Args:
        trainer: after training.
        work: where to.
        initial: what `initial_adapter` returned.
    """
    from safetensors.torch import save_file

    trainer.save_model(str(work))
    if initial is None or not trainer.accelerator.is_main_process:
        return
    with tempfile.TemporaryDirectory() as folder:
        beginning = Path(folder, "beginning")  # PEFT takes the folder's name for that of a second adapter
        beginning.mkdir()
        save_file(initial, beginning / "adapter_model.safetensors")
        trainer.model.save_pretrained(str(work), path_initial_model_for_weight_conversion=str(beginning))
