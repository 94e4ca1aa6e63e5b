"""What is checked on this machine before a model is loaded, and how a recipe becomes the libraries' objects."""

import copy
import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.data.chat import load_tokenizer
from lawft_trl.data.punctuation import add_punctuation
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.rows import Row, read_rows, select_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation.asking import ask
from lawft_trl.evaluation.held_out import how_to_ask, questions_to_score
from lawft_trl.evaluation.loading import usable_attention
from lawft_trl.recipe import Recipe, load_recipe
from lawft_trl.training.supervision import EncodedRow, encode_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig

TINY_MODEL = Path(__file__).parents[1] / "assets" / "tiny_model"
TINY_CHAT_MODEL = TINY_MODEL.with_name("tiny_chat_model")

# What `--rehearse` changes: the model and the machine, never the data, the prompt or the adapter.
REHEARSAL = {
    "model.name_or_path": str(TINY_MODEL),
    "model.revision": None,
    "model.dtype": "float32",
    "model.attn_implementation": None,
    "model.device_map": None,
    "model.max_memory": None,
    "training.use_cpu": True,
    "training.bf16": False,
    "training.fp16": False,
    "training.optim": "adamw_torch",
    "training.max_length": None,  # the tiny tokenizer needs more tokens for the same text
    "training.max_steps": 10,
    "training.per_device_train_batch_size": 2,
    "training.gradient_accumulation_steps": 1,
    "training.logging_steps": 1,
    "training.eval_strategy": "no",
    "training.save_strategy": "no",
    "training.load_best_model_at_end": False,
    "training.push_to_hub": False,
    "training.report_to": "none",
    "monitor.wandb": None,
    "evaluation.early_stopping_patience": None,  # there are no evaluations to count
    "evaluation.max_new_tokens": 32,  # the tiny model does not end its reasons
}


# What its end says nothing about.
NOT_REHEARSED = (
    "Rehearsal on the tiny model, in float32, on the CPU. Not tried: the recipe's own model, device_map and max_memory, fp16 or bf16, its optimizer, "
    "its batch and length, evaluations and checkpoints while it trains"
)


def rehearsal_changes(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """What `--rehearse` changes of a recipe: dialogues whose style is scored are rehearsed with the tiny chat model, a Gemma 2
    without a system role.

    Raises:
        InputError: see `load_recipe`.
    """
    recipe = load_recipe(path, overrides, REHEARSAL)
    styled = recipe.pattern.answer == "dialogue" and recipe.evaluation.style is not None
    return {**REHEARSAL, "model.name_or_path": str(TINY_CHAT_MODEL)} if styled else REHEARSAL


REHEARSED_QUESTIONS = 8  # scored at the end of a rehearsal, whose figures mean nothing


def data_files(recipe: Recipe) -> dict[str, list[Path]]:
    """Role (`train`, `dev`, `test`) -> the files the recipe names for it.

    Raises:
        InputError: when a pattern matches no file, or one for held-out rows matches several.
    """
    train = recipe.data.train if isinstance(recipe.data.train, list) else [recipe.data.train]
    roles = {"train": train, "dev": [recipe.data.dev], "test": [recipe.data.test]}
    files: dict[str, list[Path]] = {}
    problems = []
    for role, names in roles.items():
        files[role] = []
        for name in filter(None, names):
            is_pattern = glob.has_magic(name) and not Path(name).exists()
            found = sorted(map(Path, glob.glob(name))) if is_pattern else [Path(name)]
            if not found:
                problems.append(f"data.{role}: no file matches {name} (looked from {Path.cwd()}); `{_writer(recipe, name)}` writes it")
            elif role != "train" and len(found) > 1:
                problems.append(f"data.{role}: {name} matches {len(found)} files, expected one: {', '.join(map(str, found))}")
            problems += [f"data.{role}: {file} is named twice" for file in found if file in files[role]]
            files[role] += found
    if problems:
        raise InputError(f"{recipe.path}: {len(problems)} error(s) in the names of its data files", problems)
    return files


def _writer(recipe: Recipe, name: str) -> str:
    """The command that writes a data file of a recipe."""
    folder, dialogues, _ = name.partition("/dialogue/")
    if recipe.pattern.answer != "dialogue" or not dialogues:
        return "lawft data"
    return "lawft data legal" if Path(folder).name == "legal" else f"lawft data dialogues --sample --out {folder}"


def read_roles(recipe: Recipe) -> dict[str, list[Row]]:
    """Role -> the rows the recipe's pattern selects; `[]` where the recipe names no file.

    Raises:
        InputError: with the faults of all files.
    """
    rows: dict[str, list[Row]] = {}
    errors = []
    for role, files in data_files(recipe).items():
        rows[role] = []
        for file in files:
            try:
                found = read_rows(file, system=recipe.pattern.system)
                if role == "test":  # whatever its form, a held-out question is not to be trained on
                    rows[role] += found
                else:
                    _refuse_scoring_only(found, file)
                    rows[role] += select_rows(found, recipe.pattern.answer, recipe.pattern.statutes, str(file))
            except InputError as error:
                errors.append(error)
    if len(errors) > 1:
        raise InputError(f"{recipe.path}: {len(errors)} of its data files cannot be used", map(str, errors))
    if errors:
        raise errors[0]
    return rows


def _refuse_scoring_only(rows: Sequence[Row], file: Path) -> None:
    only = [row for row in rows if row.meta.get("scoring_only")]
    if only:
        raise InputError(
            f"{file}: {len(only)} of {len(rows)} rows are for scoring only: reasoned answers without reasons teach nothing",
            ["make reasons: lawft data reasons --help, or train on derived questions: lawft data derive --help"],
        )


def recipe_tokenizer(recipe: Recipe) -> "PreTrainedTokenizerBase":
    """The tokenizer of a recipe: its model's, with the chat template and the marks that the recipe gives it."""
    tokenizer = base_tokenizer(recipe)
    if recipe.data.add_punctuation:
        add_punctuation(tokenizer)
    return tokenizer


def base_tokenizer(recipe: Recipe) -> "PreTrainedTokenizerBase":
    """The tokenizer of the recipe's model, with the recipe's chat template."""
    model, template = recipe.model, recipe.values["training"].get("chat_template_path")
    return load_tokenizer(
        model.name_or_path,
        template=Path(template) if template else None,
        revision=model.revision or "main",
        trust_remote_code=model.trust_remote_code,
        local_files_only=model.local_files_only,
    )


def encode_role(recipe: Recipe, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> list[EncodedRow]:
    """Encodes and proves rows under the recipe's chat template and length limit."""
    return encode_rows(
        rows,
        tokenizer,
        template_kwargs=recipe.pattern.chat_template_kwargs,
        max_length=recipe.max_length,
        overlong=recipe.data.overlong,
    )


def refuse_overlap(recipe: Recipe, rows: Mapping[str, Sequence[Row]]) -> str:
    """Compares training with held-out rows, and the dev rows, by which a checkpoint may be chosen, with both.

    Returns:
        What is found between training and held-out rows, in words.

    Raises:
        InputError: when two of them overlap and the recipe does not allow it.
    """
    texts, shown = [], []
    for first, second in (("train", "test"), ("dev", "test"), ("train", "dev")):
        overlaps = find_overlaps(rows[first], rows[second])
        if overlaps:
            texts.append(f"{len(overlaps)} of {len(rows[first])} {first} rows are in the {len(rows[second])} {second} rows")
            shown += [f"{overlap.train.source}: {overlap.reason} as {overlap.test.source}" for overlap in overlaps]
    if texts and not recipe.data.allow_overlap:
        raise InputError(
            f"leakage: {', '.join(texts)}; nothing was trained. Split by group (`lawft data` does), or set "
            "data.allow_overlap=true and every report of the run will say so",
            shown,
        )
    if not rows["test"]:
        texts.append("no held-out rows named (data.test)")
    return ", ".join(texts) or "none"


def require_scorable(recipe: Recipe, test: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> None:
    """Finds out before the training whether `lawft eval` will be able to score the held-out rows; dialogues have no letters.

    Raises:
        InputError: when a row has no gold letter or the letters are not single tokens with this tokenizer.
    """
    if recipe.data.test and recipe.pattern.answer != "dialogue":
        scorer, answer, _ = how_to_ask(recipe)
        rows = questions_to_score(recipe, test, Path(recipe.data.test), answer)
        ask(rows, tokenizer, recipe.pattern.chat_template_kwargs, answer=answer, letters=scorer == "letters")


def require_device(training: dict[str, Any]) -> None:
    """Refuses, before TRL does, a recipe for a GPU on a machine without one."""
    import torch

    if training.get("use_cpu") or torch.accelerator.is_available():
        return
    raise InputError(
        "no GPU is visible here, and the recipe is for one",
        [
            "to try the whole way on this machine with the tiny model, add --rehearse",
            "to train on the CPU after all, add training.use_cpu=true training.bf16=false",
        ],
    )


def keep_quantized_weights(model: "PreTrainedModel") -> None:
    """Keeps bitsandbytes from repacking 4-bit weights when the model is first asked in `eval` mode on a CPU.

    Where the CPU knows AVX512-BF16, bitsandbytes 0.50 puts them into a form for inference, for good, through which no
    gradient flows: from the first evaluation on the training would silently learn from wrong gradients.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def sft_config(recipe: Recipe, *, work: Path, turn_end: str, report_to: list[str], run_name: str) -> "SFTConfig":
    """`trl.SFTConfig` of a recipe.

    Args:
        recipe: the resolved recipe.
        work: where checkpoints go.
        turn_end: the end-of-turn token; becomes `eos_token`, so that the saved model stops at it.
        report_to: what the trainer itself reports to.
        run_name: the run's name in the monitor.
    """
    from trl import SFTConfig

    from lawft_trl.training.estimate import read_config

    model = {key: copy.deepcopy(value) for key, value in recipe.values["model"].items() if value is not None and key != "name_or_path"}
    if recipe.model.attn_implementation == "sdpa":
        model["attn_implementation"] = usable_attention(read_config(recipe), "sdpa")
    values = {"eos_token": turn_end, "run_name": run_name, "project": recipe.monitor.project, **recipe.values["training"]}
    values |= {"output_dir": str(work), "report_to": report_to, "model_init_kwargs": model}
    values["push_to_hub"] = False  # the finished run is pushed, see training/hub.py
    values["trust_remote_code"] = recipe.model.trust_remote_code
    if values.get("use_cpu") and "device_map" not in model:
        model["device_map"] = {"": "cpu"}  # bitsandbytes alone would choose a GPU wherever there is one
    try:
        return SFTConfig(**values)
    except (ValueError, TypeError) as error:
        raise InputError(f"{recipe.path}: trl.SFTConfig refuses the section training: {error}") from error
