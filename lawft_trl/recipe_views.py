"""What is shown of recipes: the resolved YAML, where each value comes from, and a JSON schema for editors."""

import io
from typing import Any

from lawft_trl.library_fields import UNKNOWN, Field
from lawft_trl.recipe import Recipe
from lawft_trl.recipe_sections import OPTIONAL_SECTIONS, section_fields


def resolved_yaml(recipe: Recipe, *, origins: bool = False) -> str:
    """The whole recipe as YAML that can be loaded again.

    Args:
        recipe: a checked recipe.
        origins: add to every line where its value comes from, as a comment.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    document = CommentedMap()
    for section, values in recipe.values.items():
        document[section] = CommentedMap(values)
        document[section].fa.set_block_style()
        if origins:
            for key in values:
                document[section].yaml_add_eol_comment(recipe.origins[f"{section}.{key}"], key, column=56)
    yaml = YAML()
    yaml.default_flow_style = None  # nested lists and mappings on one line
    yaml.width = 4096
    yaml.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null"))
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def changed_from_defaults(recipe: Recipe) -> list[tuple[str, Any, Any]]:
    """`(section.key, value, default)` wherever a section differs from its library's defaults, or from the project's."""
    return [
        (f"{section}.{key}", value, section_fields()[section][key].default)
        for section in ("model", "quantization", "lora", "training", "monitor", "evaluation")
        for key, value in recipe.values.get(section, {}).items()
        if value != section_fields()[section][key].default
    ]


def json_schema() -> dict[str, Any]:
    """A JSON schema of recipes, for editors (draft 2020-12)."""
    sections = {
        section: {
            "type": ["object", "null"] if section in OPTIONAL_SECTIONS else "object",
            "additionalProperties": False,
            "properties": {name: _property(field) for name, field in fields.items()},
        }
        for section, fields in section_fields().items()
    }
    extends = {
        "description": "The recipe or recipes this one starts from, from this file's folder; later ones win.",
        "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lawft-trl recipe",
        "type": "object",
        "additionalProperties": False,
        "properties": {"extends": extends, **sections},
    }


def _property(field: Field) -> dict[str, Any]:
    names = {"int": "integer", "float": "number", "bool": "boolean", "str": "string", "list": "array", "dict": "object"}
    kinds = sorted({names.get(kind, kind) for kind in field.kinds})
    schema: dict[str, Any] = {}
    if field.choices:
        strings = {"enum": [choice for choice in field.choices if isinstance(choice, str)]}
        others = [{"type": kind} for kind in kinds if kind != "string"]
        schema = {"anyOf": [strings, *others]} if others else strings
    elif kinds:
        schema = {"type": kinds if len(kinds) > 1 else kinds[0]}
    if field.help:
        schema["description"] = field.help
    if field.default is not UNKNOWN and field.default is not None:
        schema["default"] = field.default
    return schema
