"""A finished run's model and its base: an adapter on the base as the run loaded it, or two models where all weights were trained."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lawft_trl.run_dir import FinishedRun

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

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
    return _ask_and_free(_load_base(run).eval(), "base", ask)


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
    return model_class.from_pretrained(run.recipe.model.name_or_path, **kwargs)


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


def _how_to_load(run: FinishedRun) -> tuple[Any, dict[str, Any]]:
    """The model's class and the arguments of its `from_pretrained`."""
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    model = run.recipe.model
    source = {"revision": model.revision or "main", "trust_remote_code": model.trust_remote_code}
    source["local_files_only"] = model.local_files_only
    kwargs: dict[str, Any] = {**source, "dtype": model.dtype}
    if model.attn_implementation:
        kwargs["attn_implementation"] = model.attn_implementation
    if "quantization" in run.recipe.values:
        kwargs["quantization_config"] = BitsAndBytesConfig(**run.recipe.values["quantization"])
    on_gpu = torch.cuda.is_available() and not run.recipe.values["training"].get("use_cpu", False)
    kwargs["device_map"] = (model.device_map or {"": 0}) if on_gpu else {"": "cpu"}
    if model.max_memory and on_gpu:
        kwargs["max_memory"] = dict(model.max_memory)  # accelerate writes into it
    # The class TRL trained, which is not AutoModelForCausalLM's for models that also see images: an adapter's weights
    # are named after their place in that class.
    architectures = AutoConfig.from_pretrained(model.name_or_path, **source).architectures or [""]
    return getattr(transformers, architectures[0], AutoModelForCausalLM), kwargs


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
