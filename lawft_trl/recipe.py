"""Recipes: YAML files that say what is trained on what. Loading, inheritance, overrides, and every error at once.

A recipe has the sections `model`, `quantization`, `lora` and `training`, whose keys are those of `from_pretrained`,
`transformers.BitsAndBytesConfig`, `peft.LoraConfig` and `trl.SFTConfig`, and the project's own sections `pattern`,
`data`, `monitor` and `evaluation`. Nothing here imports torch: a mistake is answered in well under a second.
"""

import dataclasses
import difflib
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lawft_trl.errors import InputError
from lawft_trl.library_fields import UNKNOWN, Field, class_fields, lora_fields, quantization_fields, training_fields
from lawft_trl.recipe_names import FOREIGN_KEYS, STALE_KEYS


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """Keyword arguments of `AutoModelForCausalLM.from_pretrained`; keys left out keep its defaults."""

    name_or_path: str
    """A model id of the Hugging Face hub or a local folder."""
    revision: str | None = None
    """Branch, tag or commit of the model repository."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of the weights that are not quantized; `auto` takes the checkpoint's."""
    attn_implementation: str | None = None
    """`sdpa`, `flash_attention_2`, `eager`, ..."""
    device_map: str | dict | None = None
    """Where the layers go in one process; leave it out under several processes."""
    max_memory: dict | None = None
    """With a `device_map`: the memory per device, e.g. `{0: 4GiB, cpu: 24GB}`."""
    trust_remote_code: bool = False
    """Run code that the model repository ships."""
    local_files_only: bool = False
    """Never ask the hub."""


@dataclass(frozen=True, kw_only=True)
class PatternSection:
    """Which experiment this is: what the model sees and in what form it answers."""

    answer: Literal["direct", "cot", "auto"] = "direct"
    """Which rows are trained, by `meta.mode`: the letter alone, reasons and then the letter, or both."""
    statutes: Literal["none", "gold"] = "none"
    """Whether the prompts show the statutes that decide the question; rows of the other kind are refused."""
    system: str | None = None
    """Text of the system message; null sends none (some chat templates then write one of their own)."""
    chat_template_kwargs: dict = dataclasses.field(default_factory=dict)
    """Arguments of the chat template. `enable_thinking: false` is added: an empty think block is no answer."""


@dataclass(frozen=True, kw_only=True)
class DataSection:
    """The JSONL files, from the folder the command is run in."""

    train: str | list[str]
    """Rows to train on."""
    dev: str | None = None
    """Rows for the loss during training (`training.eval_strategy`)."""
    test: str | None = None
    """Held-out rows of `lawft eval`; training refuses rows that are in it."""
    overlong: Literal["error", "trim_statutes"] = "error"
    """Rows longer than `training.max_length`: refuse them, or leave out statute passages from the last one."""
    allow_overlap: bool = False
    """Train although rows are in the test file. Every report of the run then says so."""


@dataclass(frozen=True, kw_only=True)
class MonitorSection:
    """Weights & Biases."""

    wandb: Literal["disabled", "offline", "online"] = "disabled"
    """`offline` writes to disk for a later `wandb sync`; `online` needs `wandb login` or WANDB_API_KEY."""
    project: str = "lawft-trl"
    """The W&B project."""
    tags: list[str] = dataclasses.field(default_factory=list)
    """Tags of the W&B run."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """How `lawft eval` scores the base model and the tuned one."""

    scorer: Literal["letters"] = "letters"
    """`letters`: log-probability of the four letters, averaged by content over four orders of the choices."""
    batch_size: int = 8
    """Prompts per forward pass."""
    seed: int = 0
    """Seed of the bootstrap."""


OWN_SECTIONS = {
    "pattern": PatternSection,
    "data": DataSection,
    "monitor": MonitorSection,
    "evaluation": EvaluationSection,
}
SECTIONS = ("pattern", "data", "model", "quantization", "lora", "training", "monitor", "evaluation")
OPTIONAL_SECTIONS = ("quantization",)

_DTYPES = ("bfloat16", "float16", "float32")
# Choices that the libraries check only when it is too late, or not at all.
_CHOICES = {
    "quantization.bnb_4bit_quant_type": ("nf4", "fp4"),
    "quantization.bnb_4bit_compute_dtype": _DTYPES,
    "quantization.bnb_4bit_quant_storage": ("uint8", *_DTYPES),
    "training.truncation_mode": ("keep_start",),
    "training.train_sampling_strategy": ("random", "sequential", "group_by_length", "batch_by_length"),
}


_TEXT_LISTS = ("data.train", "monitor.tags")
_POSITIVE = (
    "evaluation.batch_size",
    "training.per_device_train_batch_size",
    "training.per_device_eval_batch_size",
    "training.gradient_accumulation_steps",
    "training.max_length",
    "lora.r",
)
# Keys of SFTConfig that this project sets itself, and what to set instead.
_OWNED = {
    "report_to": "set monitor.wandb (disabled, offline, online)",
    "model_init_kwargs": "set the section model",
    "resume_from_checkpoint": "give the launcher --resume",
    "dataset_kwargs": "rows are tokenized and checked before the trainer sees them",
    "trust_remote_code": "set model.trust_remote_code",
    "do_predict": "use lawft eval",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A checked recipe.

    Attributes:
        path: the file it was read from.
        values: section -> key -> value, as the files and overrides set them, over the project's defaults.
        origins: `section.key` -> where its value comes from, `"recipes/x.yaml:12"`, `"command line"` or `"default"`.
    """

    path: Path
    values: dict[str, dict[str, Any]]
    origins: dict[str, str]

    @property
    def max_length(self) -> int | None:
        """The longest row allowed, in tokens; `SFTConfig`'s own default where the recipe says nothing."""
        return self.values["training"].get("max_length", section_fields()["training"]["max_length"].default)

    @property
    def pattern(self) -> PatternSection:
        return PatternSection(**self.values["pattern"])

    @property
    def data(self) -> DataSection:
        return DataSection(**self.values["data"])

    @property
    def model(self) -> ModelSection:
        return ModelSection(**self.values["model"])

    @property
    def monitor(self) -> MonitorSection:
        return MonitorSection(**self.values["monitor"])

    @property
    def evaluation(self) -> EvaluationSection:
        return EvaluationSection(**self.values["evaluation"])


@functools.cache
def section_fields() -> dict[str, dict[str, Field]]:
    """Every key a recipe may have: section -> key -> what it may hold."""
    own = {name: class_fields(Path(__file__), section.__name__) for name, section in OWN_SECTIONS.items()}
    fields = own | {
        "model": class_fields(Path(__file__), "ModelSection"),
        "quantization": quantization_fields(),
        "lora": lora_fields(),
        "training": training_fields(),
    }
    for key, choices in _CHOICES.items():
        section, name = key.split(".")
        fields[section][name] = dataclasses.replace(fields[section][name], choices=choices)
    return {section: fields[section] for section in SECTIONS}


def load_recipe(path: Path | str, overrides: Sequence[str] = (), final: Mapping[str, Any] | None = None) -> Recipe:
    """Reads a recipe, its parents and the overrides, and checks the whole.

    Args:
        path: the YAML file.
        overrides: `section.key=value`, the value in YAML; `quantization=null` removes that section.
        final: dotted keys that win over everything (what `--rehearse` sets).

    Raises:
        InputError: with every mistake: file, line, key, what was found, what is allowed, the nearest known name.
    """
    path = Path(path)
    settings: dict[str, tuple[Any, str]] = {}
    problems: list[str] = []
    document = _parse_yaml(path)
    _read_document(path, document, settings, problems, ())
    for override in overrides:
        _read_override(override, settings, problems)
    for key, value in (final or {}).items():
        settings[key] = (value, "--rehearse")
    settings = {key: (_check_value(key, *setting, problems), setting[1]) for key, setting in settings.items()}
    values = {section: {} for section in SECTIONS}
    for key, (value, _) in settings.items():
        section, _, name = key.partition(".")
        values[section][name] = value
    origins = {key: origin for key, (_, origin) in settings.items()}
    _add_defaults(values, origins, path)
    problems += [f"{path}: {fault}" for fault in _missing(values)]
    problems += [f"{origins.get(key, path)}: {key}: {fault}" for key, fault in _contradictions(values)]
    if problems:
        raise InputError(f"{path}: {len(problems)} error(s) in the recipe; nothing was started", problems)
    return Recipe(path=path, values={section: values[section] for section in SECTIONS if values[section]}, origins=origins)


def _read_document(
    path: Path, document: dict, settings: dict[str, tuple[Any, str]], problems: list[str], ancestors: tuple[Path, ...]
) -> None:
    """Adds the settings of a parsed file to `settings`, its parents' first, so that the child's win."""
    for parent in _parents(path, document, problems):
        if parent.resolve() in (*ancestors, path.resolve()):
            problems.append(f"{parent}: `extends` leads back to this file")
            continue
        try:
            read = _parse_yaml(parent)
        except InputError as error:
            problems.append(str(error))
            continue
        _read_document(parent, read, settings, problems, (*ancestors, path.resolve()))
    for section, body in document.items():
        if section == "extends":
            continue
        where = f"{path}:{_line(document, section)}"
        if not _is_section(section, where, problems):
            continue
        if body is None and section in OPTIONAL_SECTIONS:
            _remove_section(section, settings)
        elif not isinstance(body, dict):
            problems.append(f"{where}: {section}: expected `key: value` lines below it, found {_shown(_plain(body))}")
        else:
            for key, value in body.items():
                where = f"{path}:{_line(body, key)}"
                if _is_key(section, str(key), where, problems):
                    settings[f"{section}.{key}"] = (_plain(value), where)


def _parents(path: Path, document: dict, problems: list[str]) -> list[Path]:
    """The files that `extends` names."""
    names = _plain(document.get("extends", []))
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problems.append(f"{path}:{_line(document, 'extends')}: extends: expected a file or a list of files, found {_shown(names)}")
        return []
    return [path.parent / name for name in names]


def _line(mapping: Any, key: Any) -> int:
    """The line of a key, counted from 1; of the mapping itself for a key that was merged in with `<<`."""
    at = (mapping.lc.data or {}).get(key)
    return (at[0] if at else mapping.lc.line or 0) + 1


def _parse_yaml(path: Path) -> dict:
    """The file as ruamel.yaml's YAML 1.2 mapping, which knows its line numbers."""
    from ruamel.yaml import YAML, YAMLError

    if not path.is_file():
        known = sorted(str(other) for other in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        close = difflib.get_close_matches(str(path), known, n=1, cutoff=0.5)
        raise InputError(f"{path}: no such recipe" + (f"; did you mean {close[0]}?" if close else ""))
    try:
        document = YAML().load(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); save the recipe as UTF-8") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        reason = str(getattr(error, "problem", None) or error).splitlines()[0]
        if "'\\t'" in reason:
            reason = "a tab; YAML is indented with spaces only"
        elif "duplicate key" in reason:
            reason = f"{reason.split(' with value')[0]}: the same key stands twice in one section; keep one"
        raise InputError(f"{path}{line}: {reason}") from None
    if not isinstance(document, dict):
        found = "nothing" if document is None else type(document).__name__
        raise InputError(f"{path}: expected sections ({', '.join(SECTIONS)}), found {found}")
    return document


def _read_override(override: str, settings: dict[str, tuple[Any, str]], problems: list[str]) -> None:
    """Adds one `section.key=value` of the command line."""
    from ruamel.yaml import YAML, YAMLError

    where = "command line"
    key, equals, text = override.partition("=")
    section, dot, name = key.partition(".")
    if not equals:
        problems.append(f"{where}: {override!r}: expected section.key=value")
        return
    try:
        value = _plain(YAML().load(text)) if text else ""
    except YAMLError as error:
        problems.append(f"{where}: {key}: {text!r} is not YAML: {str(getattr(error, 'problem', error)).splitlines()[0]}")
        return
    if not dot and section in OPTIONAL_SECTIONS and value is None:
        _remove_section(section, settings)
    elif not dot:
        problems.append(f"{where}: {override!r}: expected section.key=value with a section among {', '.join(SECTIONS)}")
    elif _is_section(section, where, problems) and _is_key(section, name, where, problems):
        settings[key] = (value, where)


def _remove_section(section: str, settings: dict[str, tuple[Any, str]]) -> None:
    for key in [key for key in settings if key.partition(".")[0] == section]:
        del settings[key]


def _is_section(section: str, where: str, problems: list[str]) -> bool:
    if section in SECTIONS:
        return True
    hint = _elsewhere(str(section), "") or _nearest(str(section), SECTIONS)
    problems.append(f"{where}: {section}: unknown section; a recipe has {', '.join(SECTIONS)} and extends{hint}")
    return False


def _is_key(section: str, key: str, where: str, problems: list[str]) -> bool:
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


def _check_value(key: str, value: Any, where: str, problems: list[str]) -> Any:
    """Checks type and choice; returns the value, with whole floats made integers where only those are allowed."""
    section, _, name = key.partition(".")
    field = section_fields()[section][name]
    kind = _kind(value)
    if kind == "float" and "float" not in field.kinds and "int" in field.kinds and value.is_integer():
        return int(value)
    allowed = field.kinds | ({"int"} if "float" in field.kinds else set())
    if key in _TEXT_LISTS and kind == "list" and not _text_list(value, field):
        problems.append(f"{where}: {key}: expected a list of strings, found {_shown(value)}")
    elif field.kinds and kind not in allowed:
        problems.append(f"{where}: {key}: expected {_expected(field)}, found {_shown(value)}{_type_hint(value, allowed)}")
    elif kind == "str" and field.choices and value not in field.choices:
        problems.append(f"{where}: {key}: expected {_expected(field)}, found {_shown(value)}{_nearest(value, field.choices)}")
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


def _add_defaults(values: dict[str, dict[str, Any]], origins: dict[str, str], path: Path) -> None:
    """Fills in what a recipe need not say: the project's own defaults, and where a run goes."""
    for section in ("model", *OWN_SECTIONS):
        for name, field in section_fields()[section].items():
            if name not in values[section] and field.default is not UNKNOWN:
                values[section][name] = field.default
                origins[f"{section}.{name}"] = "default"
    ours = {"output_dir": f"runs/{path.stem}", "seed": 42, "completion_only_loss": True}
    for name, value in ours.items():
        if name not in values["training"]:
            values["training"][name] = value
            origins[f"training.{name}"] = "default"
    # Thinking is off unless the recipe says otherwise, also where it sets another argument of the template.
    values["pattern"]["chat_template_kwargs"] = {"enable_thinking": False} | values["pattern"]["chat_template_kwargs"]


def _missing(values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    faults = [
        f"{key}: missing; {need}"
        for key, need in {
            "model.name_or_path": "name a model, e.g. Qwen/Qwen3-1.7B, or a folder",
            "data.train": "name the JSONL file of training rows (`lawft data` writes it)",
        }.items()
        if key.partition(".")[2] not in values[key.partition(".")[0]]
    ]
    if not values["lora"]:
        faults.append("lora: missing; a recipe trains an adapter: add e.g. `lora: {r: 16, target_modules: all-linear}`")
    return faults


def _contradictions(values: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
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
    template = training.get("chat_template_path")
    if isinstance(template, str) and not template.endswith((".jinja", ".j2")):
        faults.append(("training.chat_template_path", "must be a .jinja file; another model's template would resize this one"))
    if quantization.get("load_in_4bit") and quantization.get("load_in_8bit"):
        faults.append(("quantization.load_in_8bit", "4-bit and 8-bit are both on; keep one"))
    if quantization and not (quantization.get("load_in_4bit") or quantization.get("load_in_8bit")):
        faults.append(("quantization", "neither load_in_4bit nor load_in_8bit is true; set one, or remove the section"))
    if quantization.get("load_in_4bit") and "bnb_4bit_compute_dtype" not in quantization:
        faults.append(("quantization.bnb_4bit_compute_dtype", "missing; 4-bit would compute in float32: set bfloat16"))
    if training.get("eval_strategy", "no") != "no" and not data.get("dev"):
        faults.append(("training.eval_strategy", "needs rows to evaluate on: set data.dev, or eval_strategy: no"))
    faults += [(f"training.{key}", f"not set here: {instead}") for key, instead in _OWNED.items() if key in training]
    for key in _POSITIVE:
        section, _, name = key.partition(".")
        value = values[section].get(name, 1)
        if isinstance(value, int) and value < 1:
            faults.append((key, f"expected at least 1, found {value}"))
    if not Path(str(training["output_dir"])).name:
        faults.append(("training.output_dir", "expected the name of a new folder, e.g. runs/mine"))
    return faults


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict"}
    return kinds.get(type(value), type(value).__name__)


def _plain(value: Any) -> Any:
    """ruamel's annotated containers and numbers as plain Python ones."""
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _shown(value: Any) -> str:
    names = {"str": "the string", "int": "the whole number", "float": "the number", "list": "the list", "dict": "the mapping"}
    text = {"bool": str(value).lower(), "null": "null"}.get(_kind(value), repr(value))
    return f"{names.get(_kind(value), '')} {text if len(text) <= 60 else text[:57] + '...'}".strip()
