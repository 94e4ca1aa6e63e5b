"""What the installed TRL, PEFT and transformers let a configuration say, read from their source without importing them.

Importing `trl` takes seconds and a list kept by hand goes stale with the next release, so the field names, types,
choices and defaults are taken from the syntax trees of the installed files. `tests/test_library_fields.py` holds the
result against the imported classes.
"""

import ast
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Values that stand for "not known from the source" (a factory, a computed default).
UNKNOWN = object()

_KINDS = {"int": "int", "float": "float", "bool": "bool", "str": "str", "dict": "dict", "list": "list", "tuple": "list"}
_LITERAL_KINDS = {str: "str", bool: "bool", int: "int", float: "float", type(None): "null"}


@dataclass(frozen=True)
class Field:
    """What one key may hold.

    Attributes:
        kinds: allowed JSON kinds among `int float bool str list dict null`; empty allows anything.
        choices: the allowed strings, when they are known; empty allows any string.
        default: the default, or `UNKNOWN`.
        help: one sentence, when the source has one.
    """

    kinds: frozenset[str]
    choices: tuple[Any, ...] = ()
    default: Any = UNKNOWN
    help: str = ""


def class_fields(file: Path, class_name: str, enums: dict[str, tuple[str, ...]] | None = None) -> dict[str, Field]:
    """The annotated fields of one class body, as a dataclass would have them.

    Args:
        file: a Python source file.
        class_name: a class at the top of that file.
        enums: choices of enumeration names that annotations mention.
    """
    tree = _tree(file)
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    fields = {}
    for node, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.target.id.startswith("_"):
            continue
        kinds, choices = _read_annotation(node.annotation, enums or {})
        if any(isinstance(choice, str) and "[" in choice for choice in choices):
            choices = ()  # PEFT writes a pattern, "pissa_niter_[number of iters]", where it means any number
        default, text = _read_default(node.value)
        # A string literal under a field is its documentation in our own sections; libraries put it in metadata.
        if not text and isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = str(following.value.value)
        fields[node.target.id] = Field(kinds, choices, default, " ".join(text.split()))
    return fields


@functools.cache
def training_fields() -> dict[str, Field]:
    """The fields of `trl.SFTConfig`."""
    enums = enum_values(_source("transformers", "trainer_utils.py")) | enum_values(_source("transformers", "training_args.py"))
    return (
        class_fields(_source("transformers", "training_args.py"), "TrainingArguments", enums)
        | class_fields(_source("trl", "trainer/base_config.py"), "_BaseConfig", enums)
        | class_fields(_source("trl", "trainer/sft_config.py"), "SFTConfig", enums)
    )


@functools.cache
def lora_fields() -> dict[str, Field]:
    """The fields of `peft.LoraConfig` that a recipe may set."""
    return class_fields(_source("peft", "config.py"), "PeftConfig") | class_fields(
        _source("peft", "tuners/lora/config.py"), "LoraConfig"
    )


@functools.cache
def quantization_fields() -> dict[str, Field]:
    """The arguments of `transformers.BitsAndBytesConfig`, whose types are told by its defaults alone."""
    tree = _tree(_source("transformers", "utils/quantization_config.py"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "BitsAndBytesConfig")
    init = next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    names = [argument.arg for argument in init.args.args[1:]]
    defaults = [_constant(node) for node in init.args.defaults]
    kinds = {None: frozenset(), **{kind: frozenset({kind}) for kind in ("bool", "float", "str")}}
    return {
        name: Field(kinds[None if default in (None, UNKNOWN) else _LITERAL_KINDS[type(default)]], (), default)
        for name, default in zip(names, defaults, strict=True)
    }


def enum_values(file: Path) -> dict[str, tuple[str, ...]]:
    """The string values of every enumeration at the top of a file, by class name."""
    values = {}
    for node in _tree(file).body:
        if isinstance(node, ast.ClassDef) and any(isinstance(base, ast.Name) and base.id.endswith("Enum") for base in node.bases):
            assigned = [_constant(item.value) for item in node.body if isinstance(item, ast.Assign)]
            values[node.name] = tuple(value for value in assigned if isinstance(value, str))
    return values


@functools.cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _source(package: str, file: str) -> Path:
    """A source file of an installed top-level package; `find_spec` does not import it."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"{package} is not installed: pip install -e . -c constraints.txt")
    return Path(spec.submodule_search_locations[0]) / file


def _read_annotation(node: ast.expr, enums: dict[str, tuple[str, ...]]) -> tuple[frozenset[str], tuple[Any, ...]]:
    """Kinds and choices of an annotation; a name that is not known here allows anything."""
    match node:
        case ast.Constant(value=None):
            return frozenset({"null"}), ()
        case ast.Constant(value=str(text)):
            return _read_annotation(ast.parse(text, mode="eval").body, enums)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([left, right], enums)
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return _union([inner, ast.Constant(value=None)], enums)
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=members)):
            return _union(members, enums)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            values = [_constant(item) for item in (inner.elts if isinstance(inner, ast.Tuple) else [inner])]
            return frozenset(_LITERAL_KINDS[type(value)] for value in values), tuple(values)
        case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)) if name in _KINDS:
            return frozenset({_KINDS[name]}), ()
        case ast.Name(id=name) if enums.get(name):
            return frozenset({"str"}), enums[name]
        case _:
            return frozenset(), ()


def _union(members: list[ast.expr], enums: dict[str, tuple[str, ...]]) -> tuple[frozenset[str], tuple[Any, ...]]:
    read = [_read_annotation(member, enums) for member in members]
    kinds = frozenset() if any(not kinds for kinds, _ in read) else frozenset().union(*(kinds for kinds, _ in read))
    # `SchedulerType | str` means "one of these, as a string"; `Literal["a"] | bool` limits only its strings.
    return kinds, tuple(choice for _, choices in read for choice in choices if isinstance(choice, str))


def _read_default(node: ast.expr | None) -> tuple[Any, str]:
    """The default and the help text of `= value` or `= field(default=..., metadata={"help": ...})`."""
    name = getattr(node.func, "attr", getattr(node.func, "id", None)) if isinstance(node, ast.Call) else None
    if name != "field":
        return (UNKNOWN if node is None else _constant(node)), ""
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    default = _constant(given["default"]) if "default" in given else UNKNOWN
    factories = {"list": [], "dict": {}}
    if isinstance(given.get("default_factory"), ast.Name):
        default = factories.get(given["default_factory"].id, UNKNOWN)
    metadata = _constant(given["metadata"]) if "metadata" in given else {}
    return default, metadata.get("help", "") if isinstance(metadata, dict) else ""


def _constant(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN
