"""What makes a recipe wrong: unknown names, wrong types and choices, settings that cannot work together."""

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.library_fields import Field
from lawft_trl.recipe_adapters import adapter_faults
from lawft_trl.recipe_emphasis import emphasis_faults
from lawft_trl.recipe_names import FOREIGN_KEYS, STALE_KEYS
from lawft_trl.recipe_sections import SECTIONS, section_fields
from lawft_trl.recipe_style import style_patterns

_TEXT_LISTS = ("data.train", "monitor.tags")
_POSITIVE = (
    "evaluation.batch_size",
    "evaluation.max_new_tokens",
    "evaluation.samples",
    "evaluation.early_stopping_patience",
    "monitor.eval_samples",
    "training.per_device_train_batch_size",
    "training.per_device_eval_batch_size",
    "training.gradient_accumulation_steps",
    "training.max_length",
    "lora.r",
)
# Keys of SFTConfig that this project sets itself, and what to set instead.
_OWNED = {
    "model_init_kwargs": "set the section model",
    "resume_from_checkpoint": "give the launcher --resume",
    "dataset_kwargs": "rows are tokenized and checked before the trainer sees them",
    "trust_remote_code": "set model.trust_remote_code",
    "do_predict": "use lawft eval",
    "save_only_model": "a checkpoint without the optimizer's state cannot be gone on from; training.save_total_limit keeps few",
    "restore_callback_states_from_checkpoint": "what a resumed run needs of its callbacks is restored",
    "hub_token": "export HF_TOKEN, or run `hf auth login`: a recipe is kept with its run and may be passed on",
    "hub_always_push": "the finished run is pushed, once",
}
# Names that training.report_to may hold, besides `none`.
REPORTERS = ("wandb", "tensorboard", "trackio")


# What an evaluation during training yields besides `eval_loss`: TRL's figures, and those of training/dev_letters.py and
# training/style_monitor.py.
_LOSS_METRICS = ("loss", "mean_token_accuracy", "entropy", "aux_loss")
_LETTER_METRICS = tuple(
    f"letter_{name}"
    for name in ("accuracy", "single_order_accuracy", "gold_logprob", "mass", "entropy")  # those of which more is better
)
_STYLE_METRICS = ("socratic_style", "teacher_forced_style")


def is_section(section: str, where: str, problems: list[str]) -> bool:
    if section in SECTIONS:
        return True
    hint = _elsewhere(str(section), "") or _nearest(str(section), SECTIONS)
    problems.append(f"{where}: {section}: unknown section; a recipe has {', '.join(SECTIONS)} and extends{hint}")
    return False


def is_key(section: str, key: str, where: str, problems: list[str]) -> bool:
    fields = section_fields()[section]
    if key in fields:
        return True
    hint = f"; {STALE_KEYS[key]}" if key in STALE_KEYS else _elsewhere(key, section) or _nearest(key, fields)
    problems.append(f"{where}: {section}.{key}: unknown key{hint}")
    return False


def _elsewhere(key: str, section: str) -> str:
    """The hint for a key of another section, or under the name another program gives it."""
    if key in FOREIGN_KEYS:
        return f"; this is written {FOREIGN_KEYS[key]}"
    homes = [f"{name}.{key}" for name, fields in section_fields().items() if name != section and key in fields]
    return f"; it belongs in another section: {' or '.join(homes)}" if homes else ""


def _nearest(key: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def check_value(key: str, value: Any, where: str, problems: list[str]) -> Any:
    """Checks type and choice; returns the value, with whole floats made integers where only those are allowed."""
    section, _, name = key.partition(".")
    field = section_fields()[section][name]
    kind = _kind(value)
    if kind == "float" and "float" not in field.kinds and "int" in field.kinds and value.is_integer():
        return int(value)
    allowed = field.kinds | ({"int"} if "float" in field.kinds else set())
    if key in _TEXT_LISTS and kind == "list" and not _text_list(value, field):
        problems.append(f"{where}: {key}: expected a list of strings, found {shown(value)}")
    elif field.kinds and kind not in allowed:
        problems.append(f"{where}: {key}: expected {_expected(field)}, found {shown(value)}{_type_hint(value, allowed)}")
    elif kind == "str" and field.choices and value not in field.choices:
        problems.append(f"{where}: {key}: expected {_expected(field)}, found {shown(value)}{_nearest(value, field.choices)}")
    elif kind == "float" and not math.isfinite(value):
        problems.append(f"{where}: {key}: expected a finite number, found {value}")
    return value


def _text_list(value: list, field: Field) -> bool:
    """Whether a list holds strings alone, and at least one unless an empty list is the default."""
    return all(isinstance(item, str) for item in value) and (bool(value) or field.default == [])


def _expected(field: Field) -> str:
    names = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a string", "dict": "a mapping"}
    names |= {"list": "a list", "null": "null"}
    if field.choices:
        names["str"] = f"one of {', '.join(map(str, field.choices))}"
    kinds = [kind for kind in names if kind in field.kinds and not (kind == "int" and "float" in field.kinds)]
    return " or ".join(names[kind] for kind in kinds) or names["str"]


def _type_hint(value: Any, allowed: frozenset[str] | set[str]) -> str:
    if isinstance(value, str) and "bool" in allowed and value.lower() in ("yes", "no", "on", "off"):
        return f"; in YAML 1.2 write {'true' if value.lower() in ('yes', 'on') else 'false'}"
    if isinstance(value, str) and allowed & {"int", "float"}:
        try:
            float(value)
        except ValueError:
            return ""
        return "; write it without quotes"
    return ""


def missing_keys(values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{key}: missing; {need}"
        for key, need in {
            "model.name_or_path": "name a model, e.g. Qwen/Qwen3-1.7B, or a folder",
            "data.train": "name the JSONL file of training rows (`lawft data` writes it)",
        }.items()
        if key.partition(".")[2] not in values[key.partition(".")[0]]
    ]


def contradictions(values: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Pairs (key, fault) of settings that cannot work together."""
    training, quantization, data = values["training"], values["quantization"], values["data"]
    faults = []
    for key in ("bf16", "fp16"):
        # TRL turns bf16 on when neither is said.
        if training.get("use_cpu") and training.get(key, key == "bf16" and not training.get("fp16")):
            faults.append((f"training.{key}", f"{key} is on but training.use_cpu is true; set training.{key}: false"))
    if training.get("bf16") and training.get("fp16"):
        faults.append(("training.fp16", "bf16 and fp16 are both on; keep one"))
    if training["completion_only_loss"] is not True:
        faults.append(("training.completion_only_loss", "must be true: only the output is trained here"))
    for key in ("packing", "eval_packing", "padding_free", "assistant_only_loss"):
        if training.get(key):
            faults.append((f"training.{key}", "must be false: rows are trained one by one with completion masks"))
    faults += adapter_faults(values) + emphasis_faults(values)
    attention = values["model"].get("attn_implementation")
    copies = data.get("shared_prefix")
    if type(copies) is int and copies < 2:
        faults.append(("data.shared_prefix", f"{copies} copies cannot share anything; set 2 or more, true, false or null"))
    if copies and attention not in (None, "sdpa", "eager"):
        faults.append(("data.shared_prefix", f"{attention} takes no mask of its own for every token; set model.attn_implementation: sdpa"))
    faults += [(f"data.{role}", "an empty name; write the file of its rows") for role in ("train", "dev", "test") if data.get(role) in ("", [])]
    template = training.get("chat_template_path")
    if isinstance(template, str) and not template.endswith((".jinja", ".j2")):
        faults.append(("training.chat_template_path", "must be a .jinja file; another model's template would resize this one"))
    if quantization.get("load_in_4bit") and quantization.get("load_in_8bit"):
        faults.append(("quantization.load_in_8bit", "4-bit and 8-bit are both on; keep one"))
    if quantization and not (quantization.get("load_in_4bit") or quantization.get("load_in_8bit")):
        faults.append(("quantization", "neither load_in_4bit nor load_in_8bit is true; set one, or remove the section"))
    if quantization.get("load_in_4bit") and "bnb_4bit_compute_dtype" not in quantization:
        faults.append(("quantization.bnb_4bit_compute_dtype", "missing; 4-bit would compute in float32: set bfloat16"))
    if values["pattern"]["answer"] == "cot" and values["evaluation"]["scorer"] == "letters":
        faults.append(("evaluation.scorer", "letters reads direct answers only; set generate, or leave it out"))
    if values["evaluation"]["orders"] not in (1, 4):
        faults.append(("evaluation.orders", f"expected 1 or 4, found {shown(values['evaluation']['orders'])}"))
    temperature = values["evaluation"]["temperature"]
    if isinstance(temperature, (int, float)) and temperature <= 0:
        faults.append(("evaluation.temperature", "expected above 0; greedy answers are samples: 1"))
    if training.get("eval_strategy", "no") != "no" and not data.get("dev"):
        faults.append(("training.eval_strategy", "needs rows to evaluate on: set data.dev, or eval_strategy: no"))
    faults += _choice_faults(values) + _style_faults(values) + _monitor_faults(values)
    faults += [(f"training.{key}", f"not set here: {instead}") for key, instead in _OWNED.items() if key in training]
    for key in _POSITIVE:
        section, _, name = key.partition(".")
        value = values[section].get(name, 1)
        if isinstance(value, int) and value < 1:
            faults.append((key, f"expected at least 1, found {value}"))
    if not Path(str(training["output_dir"])).name:
        faults.append(("training.output_dir", "expected the name of a new folder, e.g. runs/mine"))
    return faults


def _choice_faults(values: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Faults in what chooses a checkpoint or stops early: it needs evaluations, a metric they yield, and saved states."""
    training, evaluation = values["training"], values["evaluation"]
    evaluated, saved = training.get("eval_strategy", "no"), training.get("save_strategy", "steps")
    metric, patience = training.get("metric_for_best_model"), evaluation["early_stopping_patience"]
    faults = []
    if patience is not None and evaluated == "no":
        faults.append(("evaluation.early_stopping_patience", "counts evaluations: set training.eval_strategy: epoch (or steps)"))
    if patience is not None and metric is None:
        faults.append(("evaluation.early_stopping_patience", "needs training.metric_for_best_model, e.g. eval_letter_accuracy or eval_loss"))
    if patience is not None and not training.get("load_best_model_at_end"):
        text = "stops some evaluations after the best, and would keep the last state: set training.load_best_model_at_end: true"
        faults.append(("evaluation.early_stopping_patience", text))
    name = str(metric).removeprefix("eval_")
    known = (*_LOSS_METRICS, *_LETTER_METRICS, *_STYLE_METRICS)
    if metric is not None and name not in known:
        hint = _nearest(name, known) or f"; there are {', '.join(f'eval_{each}' for each in known)}"
        faults.append(("training.metric_for_best_model", f"no evaluation during training yields {metric}{hint}"))
    answer = values["pattern"]["answer"]
    if name in _LETTER_METRICS and answer in ("cot", "dialogue"):
        instead = "eval_socratic_style or eval_loss" if answer == "dialogue" else "eval_loss"
        faults.append(("training.metric_for_best_model", f"{metric} is of direct answers, and pattern.answer is {answer}: set {instead}"))
    elif name in _LETTER_METRICS and not evaluation["dev_letters"]:
        faults.append(("training.metric_for_best_model", f"{metric} needs evaluation.dev_letters: true"))
    if name in _STYLE_METRICS and evaluation["style"] is None:
        faults.append(("training.metric_for_best_model", f"{metric} needs evaluation.style: {{}} (the Socratic one, or patterns of your own)"))
    if not training.get("load_best_model_at_end"):
        return faults
    if evaluated == "no":
        faults.append(("training.load_best_model_at_end", "the best is found by evaluations: set training.eval_strategy: epoch (or steps)"))
    elif saved not in (evaluated, "best"):
        text = f"the best must have been saved: set training.save_strategy: {evaluated}, as eval_strategy is (now {saved})"
        faults.append(("training.load_best_model_at_end", text))
    elif evaluated == saved == "steps":
        every = training.get("eval_steps") or training.get("logging_steps", 10), training.get("save_steps", 500)
        if every[0] != every[1]:
            text = f"the best must have been saved: set training.save_steps: {every[0]}, as often as is evaluated (now {every[1]})"
            faults.append(("training.load_best_model_at_end", text))
    return faults


def _style_faults(values: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Faults in the style that is looked for, and settings that have none to score."""
    evaluation, dialogue = values["evaluation"], values["pattern"]["answer"] == "dialogue"
    faults = []
    if dialogue and evaluation["scorer"] is not None:
        faults.append(("evaluation.scorer", f"{evaluation['scorer']} is of four-choice answers, and pattern.answer is dialogue: leave it out"))
    if dialogue and evaluation["samples"] != 1:
        faults.append(("evaluation.samples", "replies of dialogues are greedy: set 1, or leave it out"))
    if not isinstance(evaluation["style"], dict):
        return faults
    if not dialogue:
        faults.append(("evaluation.style", f"is of dialogues, and pattern.answer is {values['pattern']['answer']}: set pattern.answer: dialogue, or style: null"))
    try:
        style_patterns(evaluation["style"], "evaluation.style")
    except InputError as error:
        faults += [("evaluation.style", problem) for problem in error.problems]
    return faults


def reporters(report_to: Any) -> list[str]:
    """The names that a value of `training.report_to` holds."""
    names = report_to if isinstance(report_to, list) else [report_to]
    return [name for name in names if name not in (None, "none")]


def _monitor_faults(values: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Faults in where a training is logged: names that are not known, and a mode of W&B where W&B is not asked for, or off."""
    names, mode = reporters(values["training"].get("report_to")), values["monitor"]["wandb"]
    unknown = [name for name in names if name not in REPORTERS]
    faults = []
    if unknown:
        hint = _nearest(str(unknown[0]), REPORTERS) or f"; there are {', '.join(REPORTERS)}, a list of them, and none"
        faults.append(("training.report_to", f"{', '.join(map(str, unknown))} is not supported{hint}"))
    if "wandb" in names and mode == "disabled":
        faults.append(("monitor.wandb", "disabled, but training.report_to names wandb: leave one of them out"))
    if "wandb" not in names and mode in ("offline", "online"):
        text = f"{mode} says how W&B logs, but training.report_to does not name it: set training.report_to: wandb, or leave monitor.wandb out"
        faults.append(("monitor.wandb", text))
    return faults


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict"}
    return kinds.get(type(value), type(value).__name__)


def shown(value: Any) -> str:
    names = {"str": "the string", "int": "the whole number", "float": "the number", "list": "the list", "dict": "the mapping"}
    text = {"bool": str(value).lower(), "null": "null"}.get(_kind(value), repr(value))
    return f"{names.get(_kind(value), '')} {text if len(text) <= 60 else text[:57] + '...'}".strip()
