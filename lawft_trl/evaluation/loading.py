"""A finished run's model and its base: an adapter on the base as the run loaded it, or two models where all weights were trained."""

import gc
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lawft_trl.data.chat import load_tokenizer
from lawft_trl.data.punctuation import add_punctuation
from lawft_trl.errors import InputError
from lawft_trl.evaluation.added_rows import grow_embeddings
from lawft_trl.run_dir import FinishedRun

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel

T = TypeVar("T")


def ask_base_and_tuned(run: FinishedRun, ask: Callable[["PreTrainedModel", str], T]) -> tuple[T, T]:
    """What the base answers and what the tuned model does; at no time are two models in memory.

    Args:
        run: the run.
        ask: is given the model, in `eval` mode, and `"base"` or `"tuned"`; it must not keep the model.
    """
    if is_adapter(run):
        model = load_tuned(run)
        with model.disable_adapter():
            base = ask(model, "base")
        return base, ask(model, "tuned")
    base = _ask_and_free(load_base(run).eval(), "base", ask)
    return base, _ask_and_free(load_tuned(run), "tuned", ask)


def ask_base(run: FinishedRun, ask: Callable[["PreTrainedModel", str], T]) -> T:
    """What the base does, loaded for this alone; see `ask_base_and_tuned`, whose models are gone by then."""
    _free()
    return _ask_and_free(load_base(run).eval(), "base", ask)


def load_tuned(run: FinishedRun) -> "PreTrainedModel | PeftModel":
    """The tuned model in `eval` mode: the base as the run loaded it with the run's adapter on it, or the run's own weights.

    Raises:
        RuntimeError: when not every weight of the run found its place, or the model has weights that it does not.
    """
    from peft import PeftModel

    if not is_adapter(run):
        return _load_whole(run).eval()
    tuned = PeftModel.from_pretrained(load_base(run), str(run.path)).eval()
    _require_adapter(tuned, run.path)
    return tuned


def is_adapter(run: FinishedRun) -> bool:
    """Whether the run trained an adapter, and not all weights."""
    return "lora" in run.recipe.values


def _ask_and_free(model: "PreTrainedModel", name: str, ask: Callable[["PreTrainedModel", str], T]) -> T:
    answers = ask(model, name)
    del model  # the caller holds no other reference
    _free()
    return answers


def _free() -> None:
    """Gives back the memory of models that nothing refers to any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load_base(run: FinishedRun) -> "PreTrainedModel":
    """The base as the run loaded it."""
    model_class, kwargs = _how_to_load(run)
    base = model_class.from_pretrained(run.recipe.model.name_or_path, **kwargs)
    if run.recipe.data.add_punctuation:
        grow_embeddings(base, _added_marks(run))
    return base


def _added_marks(run: FinishedRun) -> dict[int, list[int]]:
    """Tokens of the run that its base has not -> the base's tokens for the same mark."""
    model = run.recipe.model
    tokenizer = load_tokenizer(
        model.name_or_path, revision=model.revision or "main", trust_remote_code=model.trust_remote_code, local_files_only=model.local_files_only
    )
    return add_punctuation(tokenizer)


def _load_whole(run: FinishedRun) -> "PreTrainedModel":
    """The model whose weights were all trained, from the run's folder.

    transformers only warns about weights that are missing there, and makes them up.
    """
    model_class, kwargs = _how_to_load(run)
    own = {**kwargs, "revision": "main", "local_files_only": True}
    model, found = model_class.from_pretrained(str(run.path), **own, output_loading_info=True)
    wrong = [str(name) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in found[kind]]
    if wrong:
        raise RuntimeError(f"{run.path}: {len(wrong)} weights are missing or have no place in the model, e.g. {sorted(wrong)[:1]}")
    return model


def read_base_config(run: FinishedRun) -> "PretrainedConfig":
    """The config of the run's base.

    Raises:
        InputError: when it cannot be had, with the folder to run the command in where the base is found above the run's.
    """
    from transformers import AutoConfig

    name = run.recipe.model.name_or_path
    try:
        return AutoConfig.from_pretrained(name, **_source(run))
    except (OSError, ValueError) as error:
        above = next((folder for folder in run.path.resolve().parents if (folder / name).is_dir()), None)
        raise InputError(
            f"{name}: the base of {run.path} cannot be read: {str(error).strip().splitlines()[0]}",
            [
                f"it is in {above}: cd {shlex.quote(str(above))}, where the run is {run.path.resolve().relative_to(above)}"
                if above
                else f"a relative path is looked up from the folder the command is run in, here {Path.cwd()}; run it where the training was run",
                "if it is a name on the hub: check the network and `hf auth login`",
            ],
        ) from error


def _source(run: FinishedRun) -> dict[str, Any]:
    """Where `from_pretrained` gets the base from."""
    model = run.recipe.model
    return {"revision": model.revision or "main", "trust_remote_code": model.trust_remote_code, "local_files_only": model.local_files_only}


def _how_to_load(run: FinishedRun) -> tuple[Any, dict[str, Any]]:
    """The model's class and the arguments of its `from_pretrained`."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    model = run.recipe.model
    kwargs: dict[str, Any] = {**_source(run), "dtype": model.dtype}
    if "quantization" in run.recipe.values:
        kwargs["quantization_config"] = BitsAndBytesConfig(**run.recipe.values["quantization"])
    on_gpu = torch.cuda.is_available() and not run.recipe.values["training"].get("use_cpu", False)
    kwargs["device_map"] = (model.device_map or {"": 0}) if on_gpu else {"": "cpu"}
    if model.max_memory and on_gpu:
        kwargs["max_memory"] = dict(model.max_memory)  # accelerate writes into it
    # The class TRL trained, which is not AutoModelForCausalLM's for models that also see images: an adapter's weights
    # are named after their place in that class.
    config = read_base_config(run)
    if model.attn_implementation:
        kwargs["attn_implementation"] = usable_attention(config, model.attn_implementation)
    return getattr(transformers, (config.architectures or [""])[0], AutoModelForCausalLM), kwargs


def usable_attention(config: "PretrainedConfig", wanted: str | None) -> str | None:
    """The `attn_implementation` a model is loaded with: `eager` where `sdpa` is wanted and the model's class has none.

    Gemma 2 caps its attention scores, which PyTorch's SDPA cannot do. Older releases of transformers left the cap out without
    a word; those of today refuse to load the model.

    Args:
        config: the model's.
        wanted: the recipe's `model.attn_implementation`.
    """
    import transformers

    model_class = getattr(transformers, (config.architectures or [""])[0], None)
    return "eager" if wanted == "sdpa" and not getattr(model_class, "_supports_sdpa", True) else wanted


def _require_adapter(tuned: "PeftModel", path: Path) -> None:
    """PEFT only warns about weights that found no place; without them the base would be compared with itself."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    saved, loaded = load_file(path / "adapter_model.safetensors"), get_peft_model_state_dict(tuned)
    lost = [
        name
        for name, tensor in saved.items()
        if name not in loaded or not tensor.to(loaded[name]).equal(loaded[name])
    ]
    if lost or set(loaded) - set(saved):
        raise RuntimeError(f"{path}: {len(lost)} of {len(saved)} adapter weights found no place in the model, e.g. {lost[:1]}")
