"""`lawft eval RUN`: base and tuned on the held-out questions, asked exactly as in training."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.data.chat import load_tokenizer, prompt_fingerprint
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.rows import Row, read_rows, select_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation.metrics import Prediction, compare, describe_model
from lawft_trl.evaluation.predict import Asked, ask_in_four_orders, score_letters, unique_questions
from lawft_trl.evaluation.report import render_report
from lawft_trl.folders import refuse_existing, whole_folder, write_json
from lawft_trl.recipe import Recipe
from lawft_trl.run_dir import FinishedRun, read_run
from lawft_trl.text_files import file_sha256

if TYPE_CHECKING:
    from peft import PeftModel


def evaluate_run(
    path: Path, *, test: Path | None = None, name: str | None = None, force: bool = False, limit: int | None = None
) -> dict[str, Any]:
    """Scores the base model and the tuned one and writes `RUN/eval/NAME/`.

    Args:
        path: a finished run.
        test: rows to score instead of the recipe's `data.test`.
        name: the evaluation's folder; the test file's name without its ending where none is given.
        force: replace an existing evaluation of that name.
        limit: score the first so many questions only; the warnings then say so.

    Returns:
        The metrics, also written as `metrics.json` beside `predictions.jsonl` and `report.md`.

    Raises:
        InputError: when the run, the rows or the prompt do not fit together.
    """
    run = read_run(path)
    held_out = run.record["identity"]["data"].get("test")  # the recipe may name it by a pattern
    file = test or (Path(held_out[0]["file"]) if held_out else None)
    if file is None:
        raise InputError(f"{path}: the recipe has no data.test; name held-out rows with --test FILE")
    out = run.path / "eval" / (name or file.stem)
    refuse_existing(out, force=force, mark="metrics.json", rename="--name")
    pattern = run.recipe.pattern
    if pattern.answer == "cot":
        raise InputError(f"{path}: pattern.answer is 'cot', but the scorer `letters` reads direct answers only")
    tokenizer = load_tokenizer(str(run.path))
    _require_same_prompt(run, prompt_fingerprint(tokenizer, system=pattern.system, template_kwargs=pattern.chat_template_kwargs))
    rows = questions_to_score(run.recipe, read_rows(file, system=pattern.system), file)
    overlap, warnings = _check_overlap(run, rows)
    if limit is not None and limit < len(rows):
        warnings.append(f"Only the first {limit} of {len(rows)} held-out questions were asked.")
        rows = rows[:limit]
    if run.record.get("rehearsal"):
        warnings.insert(0, "REHEARSAL on the tiny model: the way works; the figures and the verdict mean nothing.")
    trim_to = run.recipe.max_length if run.recipe.data.overlong == "trim_statutes" else None
    asked = ask_in_four_orders(rows, tokenizer, pattern.chat_template_kwargs, trim_to=trim_to)

    started = time.monotonic()
    model = load_tuned(run)
    settings = {"pad_token_id": tokenizer.pad_token_id, "batch_size": run.recipe.evaluation.batch_size}
    with model.disable_adapter():
        base = score_letters(model, asked, progress="base", **settings)
    tuned = score_letters(model, asked, progress="tuned", **settings)

    metrics = {
        "run": path.name,
        "model": run.recipe.model.name_or_path,
        "scorer": run.recipe.evaluation.scorer,
        "statutes": pattern.statutes,
        "law_as_of": sorted({str(row.meta.get("law_as_of") or "") for row in rows}),
        "test_file": str(file),
        "test_sha256": file_sha256(file),
        "asked": _how_asked(rows, asked),
        "groups": len({prediction.group for prediction in base}),
        "prompt_fingerprint": run.record["identity"]["prompt_fingerprint"],
        "overlap": overlap,
        "warnings": warnings,
        "seconds": round(time.monotonic() - started, 1),
        "base": describe_model(base, seed=run.recipe.evaluation.seed),
        "tuned": describe_model(tuned, seed=run.recipe.evaluation.seed),
        "comparison": compare(base, tuned, seed=run.recipe.evaluation.seed),
    }
    out.parent.mkdir(exist_ok=True)
    with whole_folder(out, force=force, mark="metrics.json", rename="--name") as folder:
        _write(folder, metrics, {"base": base, "tuned": tuned})
    return {**metrics, "report": str(out / "report.md")}


def _write(folder: Path, metrics: dict[str, Any], predictions: dict[str, Sequence[Prediction]]) -> None:
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as stream:
        for model, answered in predictions.items():
            for prediction in answered:
                stream.write(json.dumps({"model": model, **prediction.to_record()}, ensure_ascii=False) + "\n")
    write_json(folder / "metrics.json", metrics)
    (folder / "report.md").write_text(render_report(metrics), encoding="utf-8")


def _how_asked(rows: Sequence[Row], asked: Sequence[Asked]) -> str:
    orders = len(asked) / len(rows)
    text = f"{len(rows)} questions in {'four orders' if orders == 4 else f'{orders:.1f} orders on average'} each"
    passages = {row.id: len(row.meta.get("statutes") or []) for row in rows}
    trimmed = {item.row.id for item in asked if len(item.row.meta.get("statutes") or []) < passages[item.row.id]}
    return text + (f", {len(trimmed)} of them with fewer statutes to fit training.max_length" if trimmed else "")


def questions_to_score(recipe: Recipe, rows: Sequence[Row], file: Path) -> list[Row]:
    """The direct rows of those read from `file`, one per question."""
    return unique_questions(select_rows(rows, "direct", recipe.pattern.statutes, str(file)))


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
        kwargs["max_memory"] = model.max_memory
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


def _require_same_prompt(run: FinishedRun, fingerprint: str) -> None:
    trained = run.record["identity"]["prompt_fingerprint"]
    if fingerprint != trained:
        raise InputError(
            f"{run.path}: the model would be asked another prompt than it was trained on",
            [
                f"trained with the fingerprint {trained[:12]}, now {fingerprint[:12]}",
                "the prompts of lawft-trl, the chat template or the tokenizer have changed since; evaluate with "
                f"lawft-trl at commit {(run.record['environment']['commit'] or {}).get('id', 'unknown')}, or train again",
            ],
        )


def _check_overlap(run: FinishedRun, rows: Sequence[Row]) -> tuple[str, list[str]]:
    """Compares the scored rows with the rows the run was trained on; returns what the report says and its warnings.

    Raises:
        InputError: when they overlap and the recipe does not allow it.
    """
    train = []
    for entry in run.record["identity"]["data"]["train"]:
        file = Path(entry["file"])
        if not file.is_file() or file_sha256(file) != entry["sha256"]:
            text = f"not checked: {file} is gone or has changed since the training"
            return text, [f"Overlap of training and held-out rows {text}."]
        train += read_rows(file, system=run.recipe.pattern.system)
    overlaps = find_overlaps(train, rows)
    if not overlaps:
        return "none", []
    touched = len({overlap.test.id for overlap in overlaps})
    text = f"{touched} of {len(rows)} held-out questions are in the training rows"
    if not run.recipe.data.allow_overlap:
        raise InputError(
            f"{run.path}: {text}; the result would mean nothing",
            [f"{overlap.test.source}: {overlap.reason} as {overlap.train.source}" for overlap in overlaps],
        )
    return text, [f"{text} (data.allow_overlap): this is not a held-out result."]
