"""What a recipe may say about which weights are trained: kinds of adapters, and all weights where it has no section `lora`.

Every run must be able to answer beside its untouched base: that is what an evaluation compares. What PEFT cannot take off
again, or would start otherwise than it is called, is refused here.
"""

import re
from collections.abc import Mapping
from typing import Any

# Starts of an adapter that need nothing but the base's weights.
_STARTS = ("true", "false", "gaussian", "orthogonal", "mica", "olora", "pissa")
# Starts that PEFT computes from data or gradients in a step of their own, which the trainer does not take.
_PREPARED = {
    "eva": "the activations of training rows; without them it would silently be plain LoRA",
    "corda": "covariances of activations, collected beforehand",
    "lora_ga": "gradients of training rows, collected beforehand",
    "loftq": "a base rounded for it, which is then no longer the model that is evaluated beside it",
}
_CHANGES_BASE = r"(pissa(_niter_\d+)?|olora)"


def changes_base(lora: Mapping[str, Any]) -> bool:
    """Whether the adapter begins by taking a part out of the base's weights, as PiSSA and OLoRA do."""
    return re.fullmatch(_CHANGES_BASE, str(lora.get("init_lora_weights", True)).lower()) is not None


def adapter_faults(values: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Pairs (key, fault) of what is trained in a way that cannot work, or could not be compared with its base.

    Args:
        values: section -> key -> value of a recipe; `lora` is empty where all weights are trained.
    """
    lora, quantization = values["lora"], values["quantization"]
    if not lora:
        marks = [("data.add_punctuation", "trains the added rows with an adapter: set false, or add a section lora")] * (values["data"]["add_punctuation"] is True)
        return _full_faults(values["model"], quantization) + marks
    faults, start = [], str(lora.get("init_lora_weights", True)).lower()
    if start in _PREPARED:
        faults.append(("lora.init_lora_weights", f"{start} needs {_PREPARED[start]}; use pissa or olora, or leave it out"))
    elif start not in _STARTS and not changes_base(lora):
        faults.append(("lora.init_lora_weights", f"unknown start {start!r}; there are {', '.join(_STARTS)} and pissa_niter_4 (a faster pissa)"))
    if changes_base(lora):
        faults += _residual_faults(lora, quantization, start)
    if lora.get("bias", "none") != "none":
        faults.append(("lora.bias", "would train the base's own biases, which cannot be taken off to ask the base: set none"))
    if lora.get("layer_replication"):
        faults.append(("lora.layer_replication", "would build another base, which the evaluation could not ask: leave it out"))
    if "lm_head" in (lora.get("target_modules") or ()):
        faults.append(("lora.target_modules", "lm_head cannot be adapted: TRL computes the loss from its weight alone; remove it"))
    return faults


def _full_faults(model: Mapping[str, Any], quantization: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What keeps all weights from being trained."""
    faults = []
    if quantization:
        text = "missing, and the base is quantized: rounded weights cannot be trained. Add e.g. `lora: {r: 16, target_modules: all-linear}`, "
        faults.append(("lora", f"{text}or train all weights unrounded with quantization=null"))
    if model.get("dtype") == "float16":
        faults.append(("model.dtype", "float16 weights cannot be trained themselves: set float32 (training.fp16 still computes in float16), or bfloat16"))
    return faults


def _residual_faults(lora: Mapping[str, Any], quantization: Mapping[str, Any], start: str) -> list[tuple[str, str]]:
    """An adapter that took a part out of the base is saved as the difference of two; only plain LoRA matrices have one."""
    faults = []
    if quantization:
        faults.append(("lora.init_lora_weights", f"{start} takes a part out of the base's weights, and quantized ones cannot give it: set true, or quantization=null"))
    also = [key for key in ("use_dora", "modules_to_save", "trainable_token_indices", "lora_bias") if lora.get(key)]
    also += [key for key in ("rank_pattern", "alpha_pattern") if lora.get(key) and lora.get("use_rslora")]
    faults += [(f"lora.{key}", f"cannot be saved for the untouched base together with init_lora_weights {start}: leave one of them out") for key in also]
    return faults
