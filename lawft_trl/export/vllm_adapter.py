"""`lawft export RUN --vllm-check`: whether vLLM will take a run's adapter, found out without vLLM.

The rules are those of vLLM's own loading code, read in its public sources (`vllm/lora/peft_helper.py`,
`vllm/lora/lora_model.py`, `vllm/config/lora.py`); vLLM itself was not run.
"""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lawft_trl.errors import InputError
from lawft_trl.export.base_model import read_adapter_run
from lawft_trl.export.proof import quantized_to
from lawft_trl.run_dir import FinishedRun

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank may be
_DEFAULT_RANK = 16
# Linear layers of today's dense decoders, under the names their checkpoints give them.
_KNOWN_LAYERS = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "gate_proj", "up_proj", "down_proj", "gate_up_proj"}
    | {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h", "c_attn", "c_proj", "fc1", "fc2", "out_proj"}
)
# Initializations that take something out of the base's weights, which the adapter then holds.
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something vLLM will stumble over, or may.

    Attributes:
        level: `"error"`: it refuses the adapter, or answers falsely with it; `"note"`: to be known.
        says: what was found.
        change: what to set in the recipe, or to do instead.
    """

    level: Literal["error", "note"]
    says: str
    change: str


def check_for_vllm(path: Path) -> tuple[list[Finding], str]:
    """Findings about a run's adapter, and the command that serves it.

    Args:
        path: a finished run.

    Raises:
        InputError: when it has no adapter that can be read.
    """
    from safetensors import SafetensorError, safe_open

    run = read_adapter_run(path)
    config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    try:
        with safe_open(path / "adapter_model.safetensors", framework="numpy") as file:
            names = list(file.keys())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path / 'adapter_model.safetensors'}: cannot be read: {error}") from error
    findings = check_adapter(config, names)
    if quantized_to(run) is not None:
        says = f"trained on {quantized_to(run)} weights; vLLM serves the base's own, on which answers differ somewhat"
        findings.append(Finding(level="note", says=says, change="measure it: lawft export RUN --endpoint URL --tuned NAME"))
    return findings, serve_command(run, config)


def check_adapter(config: Mapping[str, Any], names: Iterable[str]) -> list[Finding]:
    """Findings about an adapter.

    Args:
        config: its `adapter_config.json`.
        names: of its weights, as they stand in `adapter_model.safetensors`.
    """
    findings = []

    def refused(says: str, change: str) -> None:
        findings.append(Finding(level="error", says=says, change=change))

    merge = "or export with --merge and serve the merged model"
    if config.get("peft_type") != "LORA":
        refused(f"peft_type {config.get('peft_type')}: vLLM takes LoRA only", merge.removeprefix("or "))
    if config["r"] > _RANKS[-1]:
        refused(f"rank {config['r']}: the greatest --max-lora-rank is {_RANKS[-1]}", f"lora.r: {_RANKS[-1]} or less, {merge}")
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        refused("biases are trained", f"lora.bias: none and no lora.lora_bias, {merge}")
    if config.get("use_dora"):
        refused("DoRA: its magnitudes are not taken", f"lora.use_dora: false, {merge}")
    if config.get("modules_to_save"):
        refused(f"modules_to_save {', '.join(config['modules_to_save'])}: whole layers are not taken", f"leave out lora.modules_to_save, {merge}")
    if config.get("trainable_token_indices"):
        refused("trainable_token_indices: trained embeddings are not taken", f"leave out lora.trainable_token_indices, {merge}")
    for key in ("rank_pattern", "alpha_pattern"):
        if config.get(key):
            refused(f"{key}: vLLM does not read it and scales every layer by lora_alpha and r alone: wrong answers without a word", f"leave out lora.{key}, {merge}")
    if any(config.get(key) for key in ("layer_replication", "target_parameters", "alora_invocation_tokens")):
        refused("layer_replication, target_parameters or alora_invocation_tokens: not taken", f"leave them out, {merge}")
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_CHANGED_BASE):
        refused(f"init_lora_weights {init}: the adapter belongs to a base with a part taken out, which vLLM does not take out: wrong answers", f"another lora.init_lora_weights, {merge}")
    told = {"lora_magnitude_vector"} if config.get("use_dora") else set()
    told |= set(config.get("modules_to_save") or ())
    return [*findings, *_layer_findings(name for name in names if not told & set(name.split(".")))]


def _layer_findings(names: Iterable[str]) -> list[Finding]:
    layers, other = set(), set()
    for name in names:
        parts = name.split(".")
        if parts[-2:] == ["base_layer", "weight"]:
            continue  # of the embeddings, which PEFT saves along; vLLM passes them over
        if parts[-1] == "weight" and parts[-2] in ("lora_A", "lora_B"):
            layers.add("experts" if "experts" in parts else parts[-3])
        elif parts[-1] in ("lora_embedding_A", "lora_embedding_B"):
            layers.add(parts[-2])
        else:
            other.add(name)
    findings = []
    if other:
        says = f"{len(other)} weights are no LoRA matrices, e.g. {min(other)}: vLLM refuses them"
        findings.append(Finding(level="error", says=says, change="lora.target_modules: linear layers only, or export with --merge"))
    unknown = sorted(layers - _KNOWN_LAYERS)
    if unknown:
        findings.append(
            Finding(
                level="note",
                says=f"adapted layers {', '.join(unknown)}: whether vLLM takes them depends on the model and its version",
                change="lora.target_modules: the attention and MLP layers, or start vLLM once before relying on it",
            )
        )
    return findings


def serve_command(run: FinishedRun, config: Mapping[str, Any]) -> str:
    """The command that serves base and adapter side by side; the adapter's model name is the run's."""
    rank = next((allowed for allowed in _RANKS if allowed >= config["r"]), _RANKS[-1])
    parts = ["vllm", "serve", run.recipe.model.name_or_path, "--enable-lora", "--lora-modules", f"{run.path.resolve().name}={run.path.resolve()}"]
    if run.recipe.model.revision:
        parts += ["--revision", run.recipe.model.revision]
    if rank > _DEFAULT_RANK:
        parts += ["--max-lora-rank", str(rank)]
    if (run.path / "chat_template.jinja").is_file():
        parts += ["--chat-template", str((run.path / "chat_template.jinja").resolve())]
    # The base's own sampling settings would be applied to every request that does not name its own.
    parts += ["--generation-config", "vllm"]
    if run.recipe.model.trust_remote_code:
        parts.append("--trust-remote-code")
    return shlex.join(parts)
