"""`lawft export RUN --serve-dir`: base and adapter in one folder of links, which `transformers serve` takes for a tuned model."""

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.evaluation.held_out import run_tokenizer
from lawft_trl.export.base_model import (
    OTHER_WEIGHTS,
    TOKENIZER_FILES,
    base_config,
    base_folder,
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
from lawft_trl.folders import refuse_existing, whole_folder, write_json
from lawft_trl.recipe import Recipe
from lawft_trl.run_dir import FinishedRun, now
from lawft_trl.text_files import file_sha256

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_NOT_OF_THE_BASE = ("generation_config.json", "README.md", "export.json", "adapter_*", ".*")


def export_serve_folder(
    path: Path,
    out: Path,
    *,
    checkpoint: Path | None = None,
    copy: bool = False,
    test: Path | None = None,
    questions: int = 50,
    proof: bool = True,
    force: bool = False,
) -> dict[str, Any]:
    """Makes a folder with the base's weights and config, and the run's adapter, tokenizer and chat template.

    transformers 5 loads an adapter that lies beside a whole model (`config.json` and weights) on that model; an adapter's
    folder alone `transformers serve` refuses, because it looks for `config.json` first.

    Args:
        path: a finished run.
        out: the folder to make; it appears whole or not at all.
        checkpoint: one of the run's, whose adapter is taken instead of its last; not with `proof`, which asks the run's.
        copy: copies instead of links, for a folder that is carried elsewhere.
        test: rows for the proof instead of the recipe's `data.test`.
        questions: how many held-out questions the proof asks at most.
        proof: whether to load the folder and compare its letters with the adapter's.
        force: replace an existing export.

    Returns:
        What is written as `export.json`, as for `lawft_trl.export.merged.export_merged`.

    Raises:
        InputError: as `export_merged`, and where links cannot be made.
    """
    run = read_adapter_run(path, out)
    refuse_existing(out, force=force, mark="export.json", rename="--out")
    tokenizer, config = run_tokenizer(run), base_config(run)
    files = {**{file.name: file for file in base_files(base_folder(run))}, **{file.name: file for file in _run_files(path, checkpoint or path)}}
    if copy:
        require_room(out, sum(file.stat().st_size for file in files.values()))
    asked = proof_prompts(run, tokenizer, test=test, questions=questions) if proof else []
    before = score_adapter(run, tokenizer, asked) if proof else []
    generation = stopping_config(run, tokenizer, config)
    record: dict[str, Any] = {
        "kind": "serve-dir",
        "command": sys.argv,
        "created": now(),
        **run_facts(run),
        "trained_on": quantized_to(run) or f"{run.recipe.model.dtype} weights",
        "links": not copy,
        "adapter_sha256": file_sha256((checkpoint or path) / "adapter_model.safetensors"),
        "end_tokens": tokenizer.convert_ids_to_tokens(generation.eos_token_id),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(out, force=force, mark="export.json", rename="--out") as folder:
        for name, file in files.items():
            place(file, folder / name, copy=copy)
        generation.save_pretrained(folder)
        record["warnings"] = []
        if proof:
            after, device = score_folder(folder, run, tokenizer, asked)
            record["proof"] = {"device": device, **compare_letters(before, after)}
            record["warnings"] = proof_warnings(record["proof"], run)
        record["next"] = [
            serve_command(run, out),
            f"lawft export {shlex.quote(str(path))} --endpoint http://127.0.0.1:8000/v1 --tuned {shlex.quote(str(out.resolve()))}",
        ]
        write_json(folder / "export.json", record)
    return record


def serve_command(run: FinishedRun, out: Path, *, merged: bool = False) -> str:
    """The command that serves an exported folder as the run held and asked its model; `merged` ones are not quantized."""
    return shlex.join(["transformers", *serve_words(run.recipe, str(out.resolve()), merged=merged)])


def serve_words(recipe: Recipe, model: str, *, port: int = 8000, merged: bool = False) -> list[str]:
    """What `transformers` is given to serve a folder as a recipe's runs hold and ask their model.

    Args:
        recipe: the recipe.
        model: the folder; as it is written here, clients have to name it.
        port: on 127.0.0.1, since `transformers serve` asks nobody for a key.
        merged: the folder holds whole weights, which were not quantized.
    """
    quantization = {} if merged else recipe.values.get("quantization") or {}
    kwargs = recipe.pattern.chat_template_kwargs
    parts = ["serve", model, "--host", "127.0.0.1", "--port", str(port)]
    if quantization:
        parts += ["--quantization", "bnb-8bit" if quantization.get("load_in_8bit") else "bnb-4bit"]
    if kwargs:
        parts += ["--chat-template-kwargs", json.dumps(kwargs, ensure_ascii=False)]
    if recipe.model.trust_remote_code:
        parts.append("--trust-remote-code")
    return parts


def base_files(base: Path) -> Iterator[Path]:
    """The files of the base's top folder that a program reads, but not its tokenizer: the run has its own."""
    has_safetensors = any(base.glob("*.safetensors"))
    if not has_safetensors:
        raise InputError(f"{base}: no *.safetensors here; this base is not in the form that transformers writes today")
    index = base / "model.safetensors.index.json"
    without = (*_NOT_OF_THE_BASE, *TOKENIZER_FILES, *OTHER_WEIGHTS)
    for file in sorted(base.iterdir()):
        if file.is_file() and (file == index or not any(file.match(pattern) for pattern in without)):
            yield file


def _run_files(path: Path, adapter: Path) -> Iterator[Path]:
    yield from (adapter / name for name in _ADAPTER_FILES)
    yield from (file for file in sorted(path.iterdir()) if any(file.match(pattern) for pattern in TOKENIZER_FILES))


def place(file: Path, target: Path, *, copy: bool = False) -> None:
    """Links a file, or copies it.

    Raises:
        InputError: where links cannot be made.
    """
    if copy:
        shutil.copyfile(file, target)
        return
    try:
        target.symlink_to(file.resolve())
    except OSError as error:
        raise InputError(f"{target.parent}: no link can be made there: {error.strerror}; add --copy") from error
