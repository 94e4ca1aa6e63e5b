"""Recipes: YAML files that say what is trained on what. Loading, inheritance, overrides, and every error at once.

A recipe has the sections `model`, `quantization`, `lora` and `training`, whose keys are those of `from_pretrained`,
`transformers.BitsAndBytesConfig`, `peft.LoraConfig` and `trl.SFTConfig`, and the project's own sections `pattern`,
`data`, `monitor` and `evaluation`. Nothing here imports torch: a mistake is answered in well under a second.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.library_fields import UNKNOWN
from lawft_trl.recipe_rules import check_value, contradictions, is_key, is_section, missing_keys, reporters, shown
from lawft_trl.recipe_sections import (
    OPTIONAL_SECTIONS,
    OWN_SECTIONS,
    SECTIONS,
    DataSection,
    EvaluationSection,
    ModelSection,
    MonitorSection,
    PatternSection,
    section_fields,
)


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

    def training(self, key: str) -> Any:
        """A setting of the section `training`; `SFTConfig`'s own default where the recipe says nothing."""
        return self.values["training"].get(key, section_fields()["training"][key].default)

    @property
    def max_length(self) -> int | None:
        """The longest row allowed, in tokens."""
        return self.training("max_length")

    @property
    def report_to(self) -> list[str]:
        """Where the training is logged: `wandb`, `tensorboard`, `trackio`, some of them, or nowhere."""
        return reporters(self.training("report_to"))

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


def load_recipe(path: Path | str, overrides: Sequence[str] = (), final: Mapping[str, Any] | None = None) -> Recipe:
    """Reads a recipe, its parents and the overrides, and checks the whole.

    Args:
        path: the YAML file.
        overrides: `section.key=value`, the value in YAML; `quantization=null` and `lora=null` remove those sections.
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
    settings = {key: (check_value(key, *setting, problems), setting[1]) for key, setting in settings.items()}
    values = {section: {} for section in SECTIONS}
    for key, (value, _) in settings.items():
        section, _, name = key.partition(".")
        values[section][name] = value
    origins = {key: origin for key, (_, origin) in settings.items()}
    _add_defaults(values, origins, path)
    problems += [f"{path}: {fault}" for fault in missing_keys(values)]
    problems += [f"{origins.get(key, path)}: {key}: {fault}" for key, fault in contradictions(values)]
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
        if not is_section(section, where, problems):
            continue
        if body is None and section in OPTIONAL_SECTIONS:
            _remove_section(section, settings)
        elif body == {} and section in OPTIONAL_SECTIONS:
            problems.append(f"{where}: {section}: empty; write `{section}: null` to do without it")
        elif not isinstance(body, dict):
            problems.append(f"{where}: {section}: expected `key: value` lines below it, found {shown(_plain(body))}")
        else:
            for key, value in body.items():
                where = f"{path}:{_line(body, key)}"
                if is_key(section, str(key), where, problems):
                    settings[f"{section}.{key}"] = (_plain(value), where)


def _parents(path: Path, document: dict, problems: list[str]) -> list[Path]:
    """The files that `extends` names."""
    names = _plain(document.get("extends", []))
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problems.append(f"{path}:{_line(document, 'extends')}: extends: expected a file or a list of files, found {shown(names)}")
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
        raise InputError(f"{path}: no such recipe (looked in {path.parent.resolve()})" + (f"; did you mean {close[0]}?" if close else ""))
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
        elif "expected <block end>" in reason:
            reason = "indented otherwise than the lines around it; the keys of a section begin in one column"
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
    elif is_section(section, where, problems) and is_key(section, name, where, problems):
        settings[key] = (value, where)


def _remove_section(section: str, settings: dict[str, tuple[Any, str]]) -> None:
    for key in [key for key in settings if key.partition(".")[0] == section]:
        del settings[key]


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
