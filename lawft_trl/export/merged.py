"""`lawft export RUN --merge` and `--gguf-ready`: the adapter's weights added to the base's, as a model of its own."""

import dataclasses
import errno
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.errors import InputError
from lawft_trl.evaluation.held_out import run_tokenizer
from lawft_trl.evaluation.loading import load_tuned
from lawft_trl.export.base_model import (
    BYTES,
    base_config,
    base_folder,
    count_parameters,
    read_adapter_run,
    require_room,
    run_facts,
    stopping_config,
)
from lawft_trl.export.proof import (
    compare_letters,
    proof_prompts,
    proof_warnings,
    quantized_to,
    score_adapter,
    score_folder,
)
from lawft_trl.export.serve_folder import serve_command
from lawft_trl.folders import refuse_existing, whole_folder, write_json, write_text
from lawft_trl.model_card import render_model_card
from lawft_trl.run_dir import FinishedRun, now
from lawft_trl.text_files import file_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHARD = "5GB"
_OTHER_BYTES = 64 * 2**20  # tokenizer, configs, the headers of the shards


def export_merged(
    path: Path,
    out: Path,
    *,
    dtype: str = "bfloat16",
    gguf: bool = False,
    test: Path | None = None,
    questions: int = 50,
    proof: bool = True,
    force: bool = False,
) -> dict[str, Any]:
    """Writes base and adapter as one model that any program can load, and compares its letters with the adapter's.

    The adapter is added to the base's own weights, never to weights that were quantized and taken back: what rounding
    to 4 bits took away is not in the export. For an adapter that was trained on such weights the export is thus another
    base than it learned on; the proof says what that does to the answers.

    Args:
        path: a finished run.
        out: the folder to make; it appears whole or not at all.
        dtype: `"bfloat16"`, `"float16"` or `"float32"`, of the weights that are written.
        gguf: also look for what llama.cpp's `convert_hf_to_gguf.py` needs.
        test: rows for the proof instead of the recipe's `data.test`.
        questions: how many held-out questions the proof asks at most.
        proof: whether to make it.
        force: replace an existing export.

    Returns:
        What is written as `export.json`: `dtype`, `trained_on`, `end_tokens`, `proof` (see `compare_letters`),
        `warnings`, `next` (what to type) and where it came from.

    Raises:
        InputError: when the run has no adapter or no full-precision base, its prompt has changed, `out` is taken, or
            the disk is too small.
    """
    run = read_adapter_run(path, out)
    refuse_existing(out, force=force, mark="export.json", rename="--out")
    if gguf and dtype == "float32":
        raise InputError("--dtype float32: llama.cpp's converter is given 16-bit weights here; choose bfloat16 or float16")
    tokenizer, config = run_tokenizer(run), base_config(run)
    require_room(out, count_parameters(config, trust_remote_code=run.recipe.model.trust_remote_code) * BYTES[dtype] + _OTHER_BYTES)
    asked = proof_prompts(run, tokenizer, test=test, questions=questions) if proof else []
    before = score_adapter(run, tokenizer, asked) if proof else []
    record: dict[str, Any] = {
        "kind": "gguf-ready" if gguf else "merge",
        "command": sys.argv,
        "created": now(),
        **run_facts(run),
        "trained_on": quantized_to(run) or f"{run.recipe.model.dtype} weights",
        "dtype": dtype,
        "adapter_sha256": file_sha256(path / "adapter_model.safetensors"),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(out, force=force, mark="export.json", rename="--out") as folder:
        record["end_tokens"] = _write_merged(run, tokenizer, config, folder, dtype)
        warnings = _gguf_findings(run, tokenizer, folder) if gguf else []
        if proof:
            after, device = score_folder(folder, run, tokenizer, asked)
            record["proof"] = {"device": device, **compare_letters(before, after)}
            warnings += proof_warnings(record["proof"], run)
        record["warnings"] = warnings
        record["next"] = [_convert_command(out, dtype)] if gguf else [f"vllm serve {shlex.quote(str(out))}", serve_command(run, out, merged=True)]
        write_text(folder / "README.md", render_model_card(path, merged=True))
        write_json(folder / "export.json", record)
    return record


def _write_merged(run: FinishedRun, tokenizer: "PreTrainedTokenizerBase", config: Any, folder: Path, dtype: str) -> list[str]:
    """Merges on the CPU, in the precision the base is stored in, and writes the model; returns its end tokens."""
    import torch
    from safetensors import SafetensorError

    try:
        merged = load_tuned(_on_plain_base(run)).merge_and_unload(progressbar=sys.stderr.isatty(), safe_merge=True)
    except (ValueError, NotImplementedError) as error:
        raise InputError(f"{run.path}: PEFT cannot merge this adapter: {error}", ["serve base and adapter together instead: --serve-dir"]) from error
    for name, parameter in merged.named_parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype))
        if dtype == "float16" and not torch.isfinite(parameter.data).all():
            raise InputError(f"--dtype float16: {name} holds values that float16 cannot; use --dtype bfloat16")
    merged.generation_config = stopping_config(run, tokenizer, config)
    ends = merged.generation_config.eos_token_id
    merged.config.get_text_config().eos_token_id = ends[0]
    merged.config.dtype = getattr(torch, dtype)
    try:
        merged.save_pretrained(folder, max_shard_size=_SHARD)
    except SafetensorError as error:
        if "os error 28" in str(error):  # its word for a full disk
            raise OSError(errno.ENOSPC, str(error)) from error
        raise
    tokenizer.save_pretrained(folder)
    return tokenizer.convert_ids_to_tokens(ends)


def _on_plain_base(run: FinishedRun) -> FinishedRun:
    """The run with its base in the precision it is stored in, on the CPU, which has room for it."""
    values = {section: entries for section, entries in run.recipe.values.items() if section != "quantization"}
    values["model"] = {**values["model"], "dtype": "auto", "attn_implementation": None, "device_map": None, "max_memory": None}
    values["training"] = {**values["training"], "use_cpu": True}
    return dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, values=values))


def _gguf_findings(run: FinishedRun, tokenizer: "PreTrainedTokenizerBase", folder: Path) -> list[str]:
    """Copies what the converter reads beside transformers' files, and says what is missing or will be in its way."""
    findings = []
    pieces = base_folder(run) / "tokenizer.model"
    if pieces.is_file():
        shutil.copyfile(pieces, folder / pieces.name)
    if not {"tokenizer.json", "tokenizer.model"} & {file.name for file in folder.iterdir()}:
        findings.append("neither tokenizer.json nor tokenizer.model is there: the converter cannot read this tokenizer")
    if not tokenizer.chat_template:
        findings.append("the tokenizer has no chat template: the GGUF file will ask in another form than the training did")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rows = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    largest = max(tokenizer.get_vocab().values())
    if rows is not None and largest >= rows:
        findings.append(f"the tokenizer knows token {largest}, the model has {rows} rows of embeddings: the converter will stop; train with the base's own tokenizer")
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend" or isinstance(settings.get("extra_special_tokens"), list):
        findings.append("the tokenizer is written in the form of transformers 5, which version 4 cannot read: convert with transformers 5 or later beside llama.cpp")
    return findings


def _convert_command(out: Path, dtype: str) -> str:
    short = {"bfloat16": "bf16", "float16": "f16"}[dtype]
    folder, file = shlex.quote(str(out)), shlex.quote(f"{out}-{short}.gguf")
    return f"python llama.cpp/convert_hf_to_gguf.py {folder} --outtype {short} --outfile {file}"
