"""The verbs of `lawft` as a user types them."""

import json

import pytest
from conftest import ROOT, TINY_MODEL, rows_file, run_lawft

from lawft_trl.training.check import optimizer_steps


def test_help_names_every_verb_and_loads_nothing_heavy():
    result = run_lawft("--help", check=True)
    for verb in ("data", "recipe", "check", "eval"):
        assert verb in result.stdout
    import subprocess
    import sys

    code = "import sys, lawft_trl.cli; print({'torch', 'transformers', 'trl', 'numpy', 'scipy', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.parametrize("verb", [["data"], ["data", "sample"], ["recipe"], ["recipe", "show"], ["check"], ["eval"]])
def test_every_verb_has_help(verb):
    assert run_lawft(*verb, "--help", check=True).stdout.startswith("usage: lawft")


@pytest.mark.parametrize("typed", [["check", "tiny_socratic", "--stri"], ["data", "dialogues", "--sampl"]])
def test_options_are_not_guessed(typed):
    result = run_lawft(*typed)
    assert result.returncode == 2 and f"unrecognized arguments: {typed[-1]}" in result.stderr


def test_recipe_show_says_where_each_value_comes_from():
    shown = run_lawft("recipe", "show", "direct_gold", "training.seed=7", check=True).stdout
    lines = {line.split(":")[0].strip(): line for line in shown.splitlines()}
    assert "parents/qlora.yaml:" in lines["bnb_4bit_quant_type"]
    assert "recipes/direct_gold.yaml:" in lines["statutes"]
    (training_seed,) = [line for line in shown.splitlines() if line.strip().startswith("seed: 7")]
    assert training_seed.endswith("# command line")
    assert "# default" in lines["overlong"]


def test_recipe_schema_is_json():
    assert json.loads(run_lawft("recipe", "schema", check=True).stdout)["title"] == "lawft-trl recipe"


def test_broken_recipe_ends_with_2_and_no_traceback(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("training:\n  learnig_rate: 1\n", encoding="utf-8")
    for verb in (["recipe", "show"], ["check"]):
        result = run_lawft(*verb, path)
        assert result.returncode == 2
        assert "did you mean learning_rate?" in result.stderr
        assert "Traceback" not in result.stderr


def test_check_shows_tokens_letters_leakage_and_steps(small_data):
    files = [f"data.{split}={small_data}/direct_gold/{split}_*.jsonl" for split in ("train", "dev", "test")]
    shown = run_lawft("check", "tiny_direct_gold", *files, check=True, COLUMNS="200").stdout
    assert "20/20/20/20" in shown  # letter balance of the training rows
    assert "supervised per row, min / max" in shown and "2 / 2" in shown
    assert shown.count("<|im_end|>⟧") == 3, "three rows with the supervised span marked"
    assert "training rows among the held-out rows" in shown and "none" in shown
    assert "320 with 1 process" in shown
    assert "training.learning_rate" in shown


def test_check_remarks_on_a_handful_of_held_out_questions(small_data, tmp_path):
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(rows_file(small_data, "test").read_text(encoding="utf-8").splitlines()[:5]), encoding="utf-8")
    files = [f"data.{split}={small_data}/direct_gold/{split}_*.jsonl" for split in ("train", "dev")]
    shown = run_lawft("check", "tiny_direct_gold", *files, f"data.test={few}", check=True, COLUMNS="200").stdout
    assert "5: so few can hardly show a difference" in shown


def test_check_refuses_what_training_refuses(small_data):
    files = [f"data.{split}={small_data}/direct_gold/train_*.jsonl" for split in ("train", "dev", "test")]
    result = run_lawft("check", "tiny_direct_gold", *files)
    assert (result.returncode, "leakage" in result.stderr) == (2, True)


@pytest.mark.parametrize(("rows", "batch", "accumulation", "epochs"), [(10, 2, 2, 2), (9, 2, 4, 1), (7, 3, 1, 1.5), (5, 2, 8, 3)])
def test_steps_are_those_of_the_trainer(tmp_path, rows, batch, accumulation, epochs):
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from lawft_trl.data.chat import load_tokenizer
    from lawft_trl.recipe import load_recipe

    sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation, "num_train_epochs": epochs}
    recipe = load_recipe(ROOT / "recipes" / "direct_norag.yaml", [f"training.{key}={value}" for key, value in sizes.items()])
    config = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], save_strategy="no", **sizes)
    dataset = Dataset.from_list([{"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1]}] * rows)
    model = AutoModelForCausalLM.from_pretrained(TINY_MODEL)
    trainer = SFTTrainer(model, args=config, train_dataset=dataset, processing_class=load_tokenizer(str(TINY_MODEL)))
    trainer.train()
    assert trainer.state.max_steps == trainer.state.global_step == optimizer_steps(recipe, rows, 1)


def test_patterns_of_data_files(sample_data, tmp_path):
    """`train_*.jsonl` finds the file whatever its count; held-out rows are one file."""
    folder = f"{sample_data}/direct_gold"
    missing = run_lawft("check", "tiny_direct_gold", f"data.train={tmp_path}/train_*.jsonl", f"data.test={folder}/*_*.jsonl", f"data.dev={folder}/dev_*.jsonl")
    assert missing.returncode == 2
    assert f"data.train: no file matches {tmp_path}/train_*.jsonl" in missing.stderr
    assert f"data.test: {folder}/*_*.jsonl matches 3 files, expected one" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_a_closed_pipe_is_no_fault():
    import subprocess
    import sys

    shell = f"{sys.executable} -m lawft_trl.cli recipe schema | head -1"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", shell], capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, result.stdout, result.stderr) == (0, "{\n", "")


@pytest.mark.parametrize("name", ["direct_norag", "direct_norag.yaml", "recipes/direct_norag", "recipes/direct_norag.yaml"])
def test_a_recipe_is_found_however_it_is_named(name):
    assert "Qwen/Qwen3-8B" in run_lawft("recipe", "show", name, check=True).stdout
