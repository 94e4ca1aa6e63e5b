"""`lawft eval RUN`: base and tuned on the held-out questions, asked exactly as in training."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.data.build import file_sha256
from lawft_trl.data.chat import load_tokenizer, prompt_fingerprint
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.rows import Row, read_rows, select_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation.metrics import compare, describe_model
from lawft_trl.evaluation.predict import ask_in_four_orders, score_letters, unique_questions
from lawft_trl.evaluation.report import render_report
from lawft_trl.folders import refuse_existing, whole_folder, write_json
from lawft_trl.run_dir import FinishedRun, read_run

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def evaluate_run(path: Path, *, test: Path | None = None, force: bool = False) -> dict[str, Any]:
    """Scores the base model and the tuned one and writes `RUN/eval/<name of the test file>/`.

    Args:
        path: a finished run.
        test: rows to score instead of the recipe's `data.test`.
        force: replace an existing evaluation on the same file.

    Returns:
        The metrics, also written as `metrics.json` beside `predictions.jsonl` and `report.md`.

    Raises:
        InputError: when the run, the rows or the prompt do not fit together.
    """
    run = read_run(path)
    file = test or (run.recipe.data.test and Path(run.recipe.data.test))
    if file is None:
        raise InputError(f"{path}: the recipe has no data.test; name held-out rows with --test FILE")
    out = run.path / "eval" / file.stem
    refuse_existing(out, force=force, what="an evaluation")
    pattern = run.recipe.pattern
    if pattern.answer == "cot":
        raise InputError(f"{path}: pattern.answer is 'cot', but the scorer `letters` reads direct answers only")
    tokenizer = load_tokenizer(str(run.path))
    _require_same_prompt(run, prompt_fingerprint(tokenizer, system=pattern.system, template_kwargs=pattern.chat_template_kwargs))
    rows = select_rows(read_rows(file, system=pattern.system), "direct", pattern.statutes, str(file))
    rows = unique_questions(rows)
    overlap, warnings = _check_overlap(run, rows)
    asked = ask_in_four_orders(rows, tokenizer, pattern.chat_template_kwargs)

    started = time.monotonic()
    model = load_tuned(run)
    settings = {"pad_token_id": tokenizer.pad_token_id, "batch_size": run.recipe.evaluation.batch_size}
    with model.disable_adapter():
        base = score_letters(model, asked, progress="base", **settings)
    tuned = score_letters(model, asked, progress="tuned", **settings)

    orders = len(asked) / len(rows)
    metrics = {
        "run": path.name,
        "model": run.recipe.model.name_or_path,
        "scorer": run.recipe.evaluation.scorer,
        "statutes": pattern.statutes,
        "test_file": str(file),
        "test_sha256": file_sha256(file),
        "asked": f"{len(rows)} questions in {'four orders' if orders == 4 else f'{orders:.1f} orders on average'} each",
        "groups": len({prediction.group for prediction in base}),
        "prompt_fingerprint": run.record["identity"]["prompt_fingerprint"],
        "overlap": overlap,
        "warnings": warnings,
        "seconds": round(time.monotonic() - started, 1),
        "base": describe_model(base),
        "tuned": describe_model(tuned),
        "comparison": compare(base, tuned, seed=run.recipe.evaluation.seed),
    }
    out.parent.mkdir(exist_ok=True)
    with whole_folder(out, force=force, what="an evaluation") as folder:
        with (folder / "predictions.jsonl").open("w", encoding="utf-8") as stream:
            for name, predictions in (("base", base), ("tuned", tuned)):
                for prediction in predictions:
                    stream.write(json.dumps({"model": name, **prediction.to_record()}, ensure_ascii=False) + "\n")
        write_json(folder / "metrics.json", metrics)
        (folder / "report.md").write_text(render_report(metrics), encoding="utf-8")
    return {**metrics, "report": str(out / "report.md")}


def load_tuned(run: FinishedRun) -> "PreTrainedModel":
    """The base model as the run loaded it, with the run's adapter on it, in `eval` mode."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    model = run.recipe.model
    kwargs: dict[str, Any] = {"revision": model.revision or "main", "dtype": model.dtype}
    kwargs |= {"trust_remote_code": model.trust_remote_code, "local_files_only": model.local_files_only}
    if model.attn_implementation:
        kwargs["attn_implementation"] = model.attn_implementation
    if "quantization" in run.recipe.values:
        kwargs["quantization_config"] = BitsAndBytesConfig(**run.recipe.values["quantization"])
    on_gpu = torch.cuda.is_available() and not run.recipe.values["training"].get("use_cpu", False)
    kwargs["device_map"] = (model.device_map or {"": 0}) if on_gpu else {"": "cpu"}
    if model.max_memory and on_gpu:
        kwargs["max_memory"] = model.max_memory
    base = AutoModelForCausalLM.from_pretrained(model.name_or_path, **kwargs)
    return PeftModel.from_pretrained(base, str(run.path)).eval()


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
            [f"{overlap.test.source}: {overlap.reason} as {overlap.train.source}" for overlap in overlaps[:20]],
        )
    return text, [f"{text} (data.allow_overlap): this is not a held-out result."]
