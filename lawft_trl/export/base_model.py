"""The base model of a run: its files, its size, its end tokens, and whether there is room for it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.data.chat import encode, end_of_turn
from lawft_trl.errors import InputError
from lawft_trl.evaluation.loading import read_base_config
from lawft_trl.run_dir import FinishedRun, read_run

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}

# A model's own weights in the forms that nothing here reads; `transformers` takes safetensors where there are some.
OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.index.json")
TOKENIZER_FILES = (
    "tokenizer*", "chat_template*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model",
)  # fmt: skip


def read_adapter_run(path: Path, out: Path | None = None) -> FinishedRun:
    """A finished run that is an adapter.

    Args:
        path: its folder.
        out: the folder that is to be made.

    Raises:
        InputError: when it is none, or `out` is inside it: a run stays as it is.
    """
    run = read_run(path)
    if not (path / "adapter_config.json").is_file():
        raise InputError(f"{path}: no adapter here (no adapter_config.json)", ["a run that trained all weights is a model's folder already: serve or convert it as it is"])
    if json.loads((path / "adapter_config.json").read_text(encoding="utf-8")).get("trainable_token_indices"):
        raise InputError(
            f"{path}: its adapter has rows of added tokens, which the base has no place for, and is not exported",
            ["load it with peft.AutoPeftModelForCausalLM, which gives the base the rows", "or train without them: data.add_punctuation=false"],
        )
    if out is not None and out.resolve().is_relative_to(path.resolve()):
        raise InputError(f"{out}: is inside the run, which stays as it is; give another --out")
    return run


def base_config(run: FinishedRun) -> Any:
    """The base's `transformers` config.

    Raises:
        InputError: when it cannot be had, or its weights are stored quantized, so that there are no full-precision ones.
    """
    config = read_base_config(run)
    if getattr(config, "quantization_config", None):
        raise InputError(
            f"{run.recipe.model.name_or_path}: this base is stored quantized, so there are no full-precision weights to export",
            ["serve base and adapter together instead: lawft export RUN --vllm-check", "or train on the full-precision base with a section quantization in the recipe"],
        )
    return config


def base_folder(run: FinishedRun) -> Path:
    """The folder of the base's files: the local one, or the hub's in the cache, fetched where files are missing.

    Raises:
        InputError: when the hub's files cannot be had.
    """
    model = run.recipe.model
    if Path(model.name_or_path).is_dir():
        return Path(model.name_or_path).resolve()
    from huggingface_hub import snapshot_download

    # Only the top folder: some repositories hold the weights again, in other forms, below it.
    try:
        return Path(
            snapshot_download(
                model.name_or_path,
                revision=model.revision,
                local_files_only=model.local_files_only,
                ignore_patterns=["*/*", *(pattern for pattern in OTHER_WEIGHTS if pattern != "*.index.json")],
            )
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{model.name_or_path}: the files of the base cannot be had: {str(error).strip().splitlines()[0]}") from error


def count_parameters(config: Any, *, trust_remote_code: bool) -> int:
    """The parameters of a model of this config; tied ones count once. Nothing is loaded."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM

    model_class = getattr(transformers, (config.architectures or [""])[0], None)
    with torch.device("meta"):
        model = model_class(config) if model_class else AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return sum(parameter.numel() for parameter in model.parameters())


def require_room(out: Path, needed: int) -> None:
    """Refuses, before a model is loaded, what the disk has no room for.

    Args:
        out: the folder that is to be made.
        needed: bytes.

    Raises:
        InputError: with both figures.
    """
    there = out.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"{out}: needs {needed / 2**30:.2f} GiB, and the disk of {there} has {free / 2**30:.2f} GiB left",
            ["make room, or give an --out on another disk", "--serve-dir links the base instead of writing it again"],
        )


def stopping_config(run: FinishedRun, tokenizer: "PreTrainedTokenizerBase", config: Any) -> "GenerationConfig":
    """The base's `generation_config` with every token at which an answer ends, the chat template's end of turn first.

    A base model ends texts, not turns: its own file often does not name the token that the tuned model was taught to
    write. Programs that know one end token only take the first.

    Args:
        run: the run.
        tokenizer: the run's.
        config: the base's config, for a base without a `generation_config.json`.
    """
    from transformers import GenerationConfig

    model = run.recipe.model
    try:
        generation = GenerationConfig.from_pretrained(model.name_or_path, revision=model.revision or "main", local_files_only=model.local_files_only)
    except OSError:
        generation = GenerationConfig.from_model_config(config)
    generation._from_model_config = False  # else transformers would make it again from the config, without the end tokens
    turn = encode(tokenizer, end_of_turn(tokenizer, run.recipe.pattern.chat_template_kwargs))[0]
    known = generation.eos_token_id
    ends = [turn, tokenizer.eos_token_id, *(known if isinstance(known, list) else [known])]
    generation.eos_token_id = list(dict.fromkeys(token for token in ends if token is not None))
    if generation.pad_token_id is None:
        generation.pad_token_id = tokenizer.pad_token_id
    return generation


def run_facts(run: FinishedRun) -> Mapping[str, Any]:
    """What every `export.json` says of the run."""
    return {
        "run": str(run.path),
        "base": run.recipe.model.name_or_path,
        "revision": run.recipe.model.revision,
        "prompt_fingerprint": run.record["identity"]["prompt_fingerprint"],
        "rehearsal": bool(run.record.get("rehearsal")),
    }
