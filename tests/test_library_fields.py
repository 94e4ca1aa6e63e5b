"""What is read from the libraries' source is what their classes say when they are imported."""

import dataclasses
import inspect

import pytest

from lawft_trl.library_fields import UNKNOWN, lora_fields, quantization_fields, training_fields


def test_training_fields_are_those_of_sft_config():
    from trl import SFTConfig

    fields = {field.name: field for field in dataclasses.fields(SFTConfig) if field.init and not field.name.startswith("_")}
    assert set(training_fields()) == set(fields)
    for name, read in training_fields().items():
        if read.default is not UNKNOWN and fields[name].default is not dataclasses.MISSING:
            default = fields[name].default
            assert read.default == getattr(default, "value", default), name


def test_lora_fields_are_those_of_lora_config():
    from peft import LoraConfig

    known = {field.name for field in dataclasses.fields(LoraConfig) if field.init}
    assert set(lora_fields()) <= known
    assert {"r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "modules_to_save", "task_type"} <= set(lora_fields())


def test_quantization_fields_are_the_arguments_of_the_config():
    from transformers import BitsAndBytesConfig

    arguments = {name for name, p in inspect.signature(BitsAndBytesConfig.__init__).parameters.items() if p.kind is not p.VAR_KEYWORD}
    assert set(quantization_fields()) == arguments - {"self"}


@pytest.mark.parametrize(
    ("name", "kinds", "choice"),
    [
        ("eval_strategy", {"str"}, "epoch"),
        ("lr_scheduler_type", {"str"}, "cosine"),
        ("max_length", {"int", "null"}, None),
        ("learning_rate", {"float"}, None),
        ("packing", {"bool"}, None),
    ],
)
def test_types_and_choices(name, kinds, choice):
    field = training_fields()[name]
    assert field.kinds == kinds
    assert choice is None or choice in field.choices
