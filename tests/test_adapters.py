"""Other adapters than plain LoRA, and all weights: trained for real, saved, and loaded again as an evaluation loads them."""

import json
import shutil

import pytest
import torch
from conftest import QUICKSTART, ROOT, TINY_MODEL, adapter, rows_file, run_lawft, run_sft, settings, sft_here

from lawft_trl.errors import InputError
from lawft_trl.evaluation.loading import ask_base_and_tuned, load_tuned
from lawft_trl.recipe import load_recipe
from lawft_trl.recipe_adapters import changes_base
from lawft_trl.run_dir import read_run
from lawft_trl.training.adapters import adapter_config

KINDS = {
    "DoRA with rsLoRA": ["lora.use_dora=true", "lora.use_rslora=true"],
    "PiSSA": ["lora.init_lora_weights=pissa"],
    "rsLoRA": ["lora.use_rslora=true"],
    "DoRA": ["lora.use_dora=true"],
    "a fast PiSSA with rsLoRA": ["lora.init_lora_weights=pissa_niter_4", "lora.use_rslora=true"],
    "OLoRA": ["lora.init_lora_weights=olora", "lora.rank_pattern={q_proj: 4}"],
    "orthogonal": ["lora.init_lora_weights=orthogonal"],
    "MiCA": ["lora.init_lora_weights=mica"],
    "whole modules beside": ["lora.target_modules=[q_proj, v_proj]", "lora.modules_to_save=[lm_head]"],
    "some layers, ranks and tokens": [
        "lora.target_modules=[q_proj, down_proj]", "lora.layers_to_transform=[1, 3]", "lora.rank_pattern={q_proj: 4}", "lora.trainable_token_indices=[5, 6]",
    ],
}  # fmt: skip
QUICK = ("DoRA with rsLoRA", "PiSSA")  # the others take a minute together
IDS = torch.arange(3, 67).reshape(2, 32)


@torch.no_grad()
def log_probs(model) -> torch.Tensor:
    model.eval()
    return model(input_ids=IDS.to(model.device)).logits.float().log_softmax(-1)


def base_log_probs() -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    return log_probs(AutoModelForCausalLM.from_pretrained(TINY_MODEL))


@pytest.fixture
def train(small_data, tmp_path, monkeypatch):
    """Trains three steps by the launcher's `main`; returns the run and the trainer."""
    import trl

    from lawft_trl.sft import main

    caught = {}

    class Caught(trl.SFTTrainer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            caught.update(trainer=self, start=log_probs(self.model))

    def run(*overrides):
        main(load_recipe(QUICKSTART, settings(small_data, tmp_path / "run", *overrides)))
        return tmp_path / "run", caught

    monkeypatch.setattr(trl, "SFTTrainer", Caught)
    monkeypatch.chdir(ROOT)
    return run


@pytest.mark.parametrize("kind", [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind not in QUICK)])
def test_what_is_loaded_again_is_what_was_trained_and_its_base_is_untouched(train, kind):
    run, caught = train(*KINDS[kind])
    base = base_log_probs()
    if kind != "orthogonal":
        assert torch.allclose(caught["start"], base, atol=1e-4), "the adapter begins as the base"
    trained = log_probs(caught["trainer"].model)
    assert (trained - base).abs().max() > 1e-2, "something was learned"
    again = ask_base_and_tuned(read_run(run), lambda model, name: log_probs(model))
    assert torch.allclose(again[0], base, atol=1e-6), "without the adapter it is the base itself"
    assert torch.allclose(again[1], trained, atol=1e-4)
    config = json.loads((run / "adapter_config.json").read_text(encoding="utf-8"))
    took = changes_base(read_run(run).recipe.values["lora"])
    assert (config["r"], config["init_lora_weights"] is True) == (32 if took else 16, took or "init_lora_weights" not in "".join(KINDS[kind]))


@pytest.mark.slow
def test_an_adapter_that_changed_its_base_is_resumed_to_the_same(small_data, tmp_path):
    steps = ["lora.init_lora_weights=pissa", "training.save_strategy=steps", "training.save_steps=1"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    run_sft(QUICKSTART, *settings(small_data, whole, *steps), check=True)
    # As if it had been killed after its second step
    shutil.copytree(whole, tmp_path / "run.unfinished", ignore=shutil.ignore_patterns("adapter*", "checkpoint-3"))
    for checkpoint in (1, 2):
        shutil.copytree(whole / f"checkpoint-{checkpoint}", tmp_path / "run.unfinished" / f"checkpoint-{checkpoint}", dirs_exist_ok=True)
    record = json.loads((whole / "run.json").read_text(encoding="utf-8"))
    record["status"] = "unfinished"
    record["identity"]["recipe"]["training"]["output_dir"] = str(run)
    (tmp_path / "run.unfinished" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    run_sft(QUICKSTART, *settings(small_data, run, *steps), "--resume", check=True)
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["resumed_from_step"] == 2
    ours, theirs = adapter(run), adapter(whole)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["lora.target_modules=[no_such_layer]"], "the section lora does not fit the model: Target modules"),
        (["lora.layers_to_transform=[1]"], "peft.LoraConfig refuses the section lora: `layers_to_transform` cannot be used"),
    ],
)
def test_what_peft_refuses_is_said_before_a_model_is_loaded(overrides, expected):
    with pytest.raises(InputError) as error:
        adapter_config(load_recipe(QUICKSTART, overrides))
    assert expected in str(error.value)


@pytest.fixture(scope="module")
def whole(small_data, tmp_path_factory):
    """A run that trained all weights."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    result = sft_here(QUICKSTART, *settings(small_data, run, "lora=null", "training.learning_rate=1e-4"), check=True)
    assert "Trained: all 1," in result.stdout and "in float32" in result.stdout
    return run


def test_all_weights_move_and_the_run_is_a_model_folder(whole):
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    before, after = load_file(TINY_MODEL / "model.safetensors"), load_file(whole / "model.safetensors")
    assert set(before) == set(after)
    assert not [name for name in before if torch.equal(before[name], after[name])]
    assert {"config.json", "generation_config.json", "tokenizer.json", "run.json", "recipe.yaml", "README.md"} <= {path.name for path in whole.iterdir()}
    assert not list(whole.glob("adapter*"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(whole), AutoTokenizer.from_pretrained(whole)
    end = model.generation_config.eos_token_id
    assert tokenizer.eos_token_id in (end if isinstance(end, list) else [end])
    base, tuned = ask_base_and_tuned(read_run(whole), lambda model, name: log_probs(model))
    assert torch.equal(tuned, log_probs(model)) and torch.equal(base, base_log_probs()) and not torch.equal(base, tuned)


@pytest.mark.slow
def test_every_verb_works_on_a_whole_model_or_refuses_in_words(whole, small_data, tmp_path):
    result = run_lawft("eval", whole, "--test", rows_file(small_data, "dev"), "--name", "dev", check=True)
    assert "base" in result.stdout and "tuned" in result.stdout
    metrics = json.loads((whole / "eval" / "dev" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["models"]["base"] != metrics["models"]["tuned"]
    log = (whole / "experiment.md").read_text(encoding="utf-8")
    assert "すべて（全パラメータ）" in log and "LoRA" not in log
    card = (whole / "README.md").read_text(encoding="utf-8")
    assert "model with all weights trained" in card and "AutoPeft" not in card
    run_lawft("compare", f"{whole}:base", f"{whole}:tuned", check=True)
    run_lawft("ladder", whole, "--statutes", "gold", "--limit", "4", check=True)
    for arguments in (["--merge", "--out", tmp_path / "merged"], ["--serve-dir", "--out", tmp_path / "served"], ["--vllm-check"]):
        refused = run_lawft("export", whole, *arguments)
        assert (refused.returncode, "is a model's folder already" in refused.stderr) == (2, True)
    assert not list(tmp_path.iterdir())


def test_a_whole_model_that_lost_weights_is_not_evaluated(whole, tmp_path):
    from safetensors.torch import load_file, save_file

    run = tmp_path / "damaged"
    shutil.copytree(whole, run)
    weights = load_file(run / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, run / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match="1 weights are missing"):
        load_tuned(read_run(run))


def test_plan_knows_all_weights(small_data):
    from transformers import AutoConfig

    from lawft_trl.training.estimate import Rows, estimate_memory

    config, rows = AutoConfig.from_pretrained(TINY_MODEL), Rows(lengths=(100, 200), supervised=(2, 2))
    memory = estimate_memory(load_recipe(QUICKSTART, ["lora=null"]), config, rows)
    assert memory.trainable == memory.parameters
    assert memory.parts["gradients"] == memory.parts["weights (float32)"] == 4 * memory.parameters
    assert memory.parts["optimizer states"] == 8 * memory.parameters
    assert "adapter" not in memory.parts
    half = estimate_memory(load_recipe(QUICKSTART, ["lora=null", "model.dtype=bfloat16"]), config, rows)
    assert half.parts["gradients"] == 2 * memory.parameters and half.parts["optimizer states"] == 4 * memory.parameters
    dora = estimate_memory(load_recipe(QUICKSTART, ["lora.use_dora=true", "lora.init_lora_weights=true"]), config, rows)
    assert dora.trainable > estimate_memory(load_recipe(QUICKSTART), config, rows).trainable
