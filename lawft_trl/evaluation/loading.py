"""A finished run's model: its base as the run loaded it, with the adapter on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.run_dir import FinishedRun

if TYPE_CHECKING:
    from peft import PeftModel


def load_tuned(run: FinishedRun) -> "PeftModel":
    """The base model as the run loaded it, with the run's adapter on it, in `eval` mode.

    Raises:
        RuntimeError: when not every weight of the adapter found its place.
    """
    import torch
    import transformers
    from peft import PeftModel
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
    base_class = getattr(transformers, architectures[0], AutoModelForCausalLM)
    tuned = PeftModel.from_pretrained(base_class.from_pretrained(model.name_or_path, **kwargs), str(run.path)).eval()
    _require_adapter(tuned, run.path)
    return tuned


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
