"""Recipes: what they may say, what is said back when they are wrong, and every shipped one."""

import json
import subprocess
import sys
import textwrap

import jsonschema
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from lawft_trl import cli
from lawft_trl.errors import InputError
from lawft_trl.recipe import load_recipe
from lawft_trl.recipe_names import STALE_KEYS
from lawft_trl.recipe_sections import SECTIONS, section_fields
from lawft_trl.recipe_views import changed_from_defaults, json_schema, resolved_yaml

RECIPES = sorted(path for path in (ROOT / "recipes").rglob("*.yaml") if path.parent.name != "parents")

GOOD = """
model:
  name_or_path: some/model
data:
  train: train.jsonl
lora:
  r: 8
training:
  learning_rate: 2e-5
  eval_strategy: no
"""


def write(tmp_path, text, name="recipe.yaml"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def test_yaml_is_read_as_version_1_2(tmp_path):
    training = load_recipe(write(tmp_path, GOOD)).values["training"]
    assert training["learning_rate"] == 2e-5
    assert training["eval_strategy"] == "no"


def test_all_shipped_recipes_and_parents_are_found():
    assert len(RECIPES) >= 3
    assert len(list((ROOT / "recipes" / "parents").glob("*.yaml"))) >= 2


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipe_loads_builds_and_fits_the_schema(path):
    from peft import LoraConfig
    from ruamel.yaml import YAML
    from transformers import BitsAndBytesConfig
    from trl import SFTConfig

    recipe = load_recipe(path)
    values = recipe.values
    training = values["training"] | {"use_cpu": True, "bf16": False, "output_dir": "/nonexistent"}
    assert SFTConfig(**training).learning_rate == values["training"]["learning_rate"]
    assert LoraConfig(**values["lora"]).r == values["lora"]["r"]
    if "quantization" in values:
        assert BitsAndBytesConfig(**values["quantization"]).load_in_4bit
    jsonschema.validate(YAML(typ="safe", pure=True).load(path), json_schema())
    assert path.read_text(encoding="utf-8").startswith("#"), "a recipe's header says what it teaches"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_resolved_recipe_loads_to_the_same_values(path, tmp_path):
    recipe = load_recipe(path)
    for origins in (False, True):
        again = load_recipe(write(tmp_path, resolved_yaml(recipe, origins=origins)))
        assert again.values == recipe.values


def test_child_wins_over_parents_and_the_command_line_over_all(tmp_path):
    write(tmp_path, "training:\n  seed: 1\n  max_steps: 1\n  logging_steps: 1\n", "first.yaml")
    write(tmp_path, "training:\n  seed: 2\n  max_steps: 2\n", "second.yaml")
    child = write(tmp_path, "extends: [first.yaml, second.yaml]\n" + GOOD + "  seed: 3\n")
    recipe = load_recipe(child, ["training.learning_rate=1e-3"])
    training = recipe.values["training"]
    assert (training["logging_steps"], training["max_steps"], training["seed"], training["learning_rate"]) == (1, 2, 3, 1e-3)
    assert recipe.origins["training.max_steps"] == f"{tmp_path / 'second.yaml'}:3"
    assert recipe.origins["training.learning_rate"] == "command line"
    assert recipe.origins["training.output_dir"] == "default"


def test_a_section_can_be_removed(tmp_path):
    text = GOOD + "quantization:\n  load_in_4bit: true\n  bnb_4bit_compute_dtype: bfloat16\n"
    assert "quantization" in load_recipe(write(tmp_path, text)).values
    assert "quantization" not in load_recipe(write(tmp_path, text), ["quantization=null"]).values
    child = write(tmp_path, "extends: recipe.yaml\nquantization:\n", "child.yaml")
    assert "quantization" not in load_recipe(child).values


def test_an_override_value_may_hold_an_equals_sign(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD), ["pattern.system=a=b"])
    assert recipe.pattern.system == "a=b"


BROKEN = {
    "misspelt key": (GOOD + "  learnig_rate: 1e-4\n", ["recipe.yaml:11", "training.learnig_rate", "did you mean learning_rate?"]),
    "misspelt section": (GOOD + "trainig:\n  seed: 1\n", ["trainig: unknown section", "did you mean training?"]),
    "stale key": (GOOD + "  warmup_ratio: 0.03\n", ["training.warmup_ratio", "warmup_steps: 0.03"]),
    "stale key of TRL": (GOOD + "  max_seq_length: 512\n", ["training.max_seq_length", "it is now max_length"]),
    "stale key of the model": (GOOD.replace("some/model", "some/model\n  torch_dtype: bfloat16"), ["it is now dtype"]),
    "wrong type": (GOOD + "  max_steps: 1.5\n", ["training.max_steps: expected a whole number, found the number 1.5"]),
    "number in quotes": (GOOD + '  weight_decay: "1e-2"\n', ["expected a number", "write it without quotes"]),
    "YAML 1.1 boolean": (GOOD + "  bf16: yes\n", ["training.bf16", "in YAML 1.2 write true"]),
    "wrong choice": (GOOD + "  lr_scheduler_type: cosin\n", ["expected one of linear, cosine", "did you mean cosine"]),
    "list for a number": (GOOD.replace("r: 8", "r: [8, 16]"), ["lora.r: expected a whole number, found the list [8, 16]"]),
    "duplicate key": (GOOD + "  eval_strategy: no\n", ["recipe.yaml:11", "eval_strategy", "stands twice"]),
    "tabs": (GOOD + "\tseed: 1\n", ["recipe.yaml:11", "a tab"]),
    "empty file": ("", ["expected sections", "found nothing"]),
    "a list": ("- 1\n", ["expected sections"]),
    "broken YAML": (GOOD + "  seed: [1\n", ["recipe.yaml:"]),
    "lora key in training": (GOOD + "  lora_alpha: 16\n", ["training.lora_alpha", "another section: lora.lora_alpha"]),
    "TRL's name for a lora key": (GOOD + "  lora_r: 16\n", ["training.lora_r", "written lora.r"]),
    "bf16 on a CPU": (GOOD + "  use_cpu: true\n  bf16: true\n", ["training.bf16", "set training.bf16: false"]),
    "bf16 on a CPU by TRL's default": (GOOD + "  use_cpu: true\n", ["training.bf16", "set training.bf16: false"]),
    "4-bit without compute type": (GOOD + "quantization:\n  load_in_4bit: true\n", ["bnb_4bit_compute_dtype: missing"]),
    "all tokens trained": (GOOD + "  completion_only_loss: false\n", ["training.completion_only_loss: must be true"]),
    "no model": (GOOD.replace("name_or_path: some/model", "dtype: float32"), ["model.name_or_path: missing"]),
    "all of a quantized base": (
        GOOD.replace("lora:\n  r: 8\n", "quantization: {load_in_4bit: true, bnb_4bit_compute_dtype: bfloat16}\n"),
        ["lora: missing, and the base is quantized", "quantization=null"],
    ),
    "all float16 weights": (GOOD.replace("lora:\n  r: 8\n", "").replace("some/model", "some/model\n  dtype: float16"), ["model.dtype: float16 weights cannot be trained"]),
    "an empty adapter": (GOOD.replace("  r: 8\n", "  {}\n"), ["lora: empty; write `lora: null`"]),
    "pissa on a quantized base, with DoRA": (
        GOOD.replace("r: 8", "r: 8\n  init_lora_weights: pissa\n  use_dora: true") + "quantization: {load_in_4bit: true, bnb_4bit_compute_dtype: bfloat16}\n",
        ["lora.init_lora_weights: pissa takes a part out", "lora.use_dora: cannot be saved for the untouched base"],
    ),
    "an adapter that wants data": (GOOD.replace("r: 8", "r: 8\n  init_lora_weights: eva"), ["lora.init_lora_weights: eva needs the activations"]),
    "an unknown start": (GOOD.replace("r: 8", "r: 8\n  init_lora_weights: pizza"), ["unknown start 'pizza'; there are true, "]),
    "trained biases": (GOOD.replace("r: 8", "r: 8\n  bias: all"), ["lora.bias: would train the base's own biases"]),
    "eval without rows": (GOOD.replace("eval_strategy: no", "eval_strategy: epoch"), ["set data.dev"]),
    "section that is a value": ("model: some/model\n", ["model: expected `key: value` lines"]),
    "missing parent": ("extends: nowhere.yaml\n" + GOOD, ["nowhere.yaml: no such recipe"]),
    "extends a number": ("extends: 5\n" + GOOD, ["recipe.yaml:1: extends: expected a file or a list of files, found the whole number 5"]),
    "template that is a number": (GOOD + "  chat_template_path: 5\n", ["training.chat_template_path: expected a string"]),
    "template of another model": (GOOD + "  chat_template_path: Qwen/Qwen3-8B\n", ["must be a .jinja file"]),
    "an adapter on the head": (GOOD.replace("r: 8", "r: 8\n  target_modules: [q_proj, lm_head]"), ["lora.target_modules: lm_head cannot be adapted"]),
    "no training file": (GOOD.replace("train: train.jsonl", "train: []"), ["data.train: expected a list of strings"]),
    "training files that are numbers": (GOOD.replace("train: train.jsonl", "train: [1]"), ["data.train: expected a list of strings"]),
    "batch of nothing": (GOOD + "evaluation:\n  batch_size: 0\n", ["evaluation.batch_size: expected at least 1, found 0"]),
    "output_dir that is here": (GOOD + "  output_dir: .\n", ["training.output_dir: expected the name of a new folder"]),
    "a key of the project's": (GOOD + "  resume_from_checkpoint: x\n", ["give the launcher --resume"]),
    "a tracker that is not supported": (GOOD + "  report_to: [wandb, mlflow]\n", ["training.report_to: mlflow is not supported; there are wandb, tensorboard, trackio"]),
    "a mode of W&B without W&B": (GOOD + "  report_to: none\nmonitor:\n  wandb: online\n", ["set training.report_to: wandb"]),
    "W&B asked for and switched off": (GOOD + "  report_to: wandb\nmonitor:\n  wandb: disabled\n", ["training.report_to names wandb"]),
    "a token in a recipe": (GOOD + "  hub_token: hf_x\n", ["export HF_TOKEN"]),
    "pushes in between": (GOOD + "  hub_strategy: every_save\n", ["training.hub_strategy: expected one of end"]),
    "model_init_kwargs": (GOOD + "  model_init_kwargs: {a: 1}\n", ["set the section model"]),
    "circular parents": ("extends: recipe.yaml\n" + GOOD, ["leads back to this file"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_recipe_is_explained_with_exit_code_2(tmp_path, capsys, name):
    text, expected = BROKEN[name]
    path = write(tmp_path, text)
    assert cli.main(["check", str(path)]) == 2
    printed = capsys.readouterr()
    for part in expected:
        assert part in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == [path], "nothing is written"


def test_every_mistake_is_in_one_message(tmp_path):
    path = write(tmp_path, GOOD + "  learnig_rate: 1\n  max_steps: x\n  warmup_ratio: 0\npatern:\n  answer: direct\n")
    with pytest.raises(InputError) as caught:
        load_recipe(path, ["lora.rank=8", "nonsense"])
    assert len(caught.value.problems) == 6


def test_a_missing_parent_hides_nothing(tmp_path):
    with pytest.raises(InputError) as caught:
        load_recipe(write(tmp_path, "extends: [nowhere.yaml, nothing.yaml]\n" + GOOD + "  learnig_rate: 1\n"))
    assert len(caught.value.problems) == 3


def test_merge_keys_of_yaml_are_read(tmp_path):
    text = "model: &m {name_or_path: x}\ndata: {train: t}\nlora: {r: 8}\ntraining:\n  <<: {max_steps: 3}\n"
    assert load_recipe(write(tmp_path, text)).values["training"]["max_steps"] == 3


def test_thinking_stays_off_beside_other_arguments_of_the_template(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD), ["pattern.chat_template_kwargs={date_string: 1 Jan 2026}"])
    assert recipe.pattern.chat_template_kwargs == {"enable_thinking": False, "date_string": "1 Jan 2026"}


def test_a_missing_recipe_names_the_nearest_one():
    with pytest.raises(InputError, match="did you mean .*direct_norag.yaml"):
        load_recipe(ROOT / "recipes" / "direct_norga.yaml")


def test_a_recipe_in_another_encoding(tmp_path):
    path = tmp_path / "sjis.yaml"
    path.write_bytes("pattern:\n  system: 法律\n".encode("cp932"))
    with pytest.raises(InputError, match="not UTF-8"):
        load_recipe(path)


def test_stale_keys_are_really_gone():
    for key in STALE_KEYS:
        for section, fields in section_fields().items():
            assert key not in fields, f"{section}.{key} exists in the installed libraries"


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8), lambda x: st.lists(x, max_size=2), max_leaves=3))
def test_any_override_value_is_taken_or_explained(value):
    """Whatever stands behind the equals sign, the answer is a recipe or an `InputError`."""
    try:
        recipe = load_recipe(ROOT / "recipes" / "direct_norag.yaml", [f"training.learning_rate={json.dumps(value)}"])
    except InputError as error:
        assert "training.learning_rate" in str(error)
    else:
        assert isinstance(recipe.values["training"]["learning_rate"], (int, float))


def test_a_recipe_error_needs_no_heavy_library(tmp_path):
    path = write(tmp_path, GOOD + "  learnig_rate: 1e-4\n")
    code = (
        "import sys\nfrom lawft_trl.recipe import load_recipe\nfrom lawft_trl.errors import InputError\n"
        f"try: load_recipe({str(path)!r})\nexcept InputError: pass\nelse: raise SystemExit(1)\n"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets', 'numpy'} & set(sys.modules)\nraise SystemExit(str(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_schema_is_a_schema_and_refuses_unknown_keys():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == {*SECTIONS, "extends"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"training": {"learnig_rate": 1}}, schema)
    json.dumps(schema)


def test_changes_from_the_libraries_defaults(tmp_path):
    changed = {key for key, _, _ in changed_from_defaults(load_recipe(write(tmp_path, GOOD)))}
    assert "training.eval_strategy" not in changed  # "no" is the default
    assert {"model.name_or_path", "training.completion_only_loss"} <= changed
