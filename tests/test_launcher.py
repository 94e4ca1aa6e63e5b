"""The launcher, by the user's own commands in subprocesses: what must move, what must not, and what is refused."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import NF4, QUICKSTART, ROOT, TWO, adapter, run_lawft, run_sft, settings, sft_here

RUN_FILES = {
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "experiment.md",
    "training_metrics.csv",
    "recipe.yaml",
    "run.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "training_args.bin",
    "training_progress.png",
    "training_summary.json",
}


def losses(run: Path) -> list[float]:
    with (run / "training_metrics.csv").open(encoding="utf-8", newline="") as stream:
        return [float(line["loss"]) for line in csv.DictReader(stream) if line["loss"]]


def test_a_run_leaves_exactly_its_files(trained):
    assert {path.name for path in trained.iterdir()} - {"eval"} == RUN_FILES
    assert sorted(path.name for path in trained.parent.iterdir()) == ["trained"], "nothing unfinished is left"
    record = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "finished"
    assert record["steps"] == 3 and record["peak_memory_gib"]["host"] > 0 and record["rows_per_second"] > 0
    assert record["environment"]["versions"]["trl"].startswith("1.")
    assert record["identity"]["data"]["train"][0]["sha256"]
    assert len(losses(trained)) == 3


def test_the_adapter_is_one_for_every_linear_layer(trained):
    moved = [name for name, tensor in adapter(trained).items() if "lora_B" in name and tensor.abs().max() > 0]
    assert len(moved) == 4 * 7, "seven linear layers in each of four blocks; PEFT starts lora_B at zero"
    assert all("lora_" in name for name in adapter(trained)), "only LoRA weights are saved"


@pytest.mark.parametrize("quantization", [[], NF4], ids=["float32", "nf4"])
def test_training_moves_the_adapter_and_not_the_base(small_data, tmp_path, monkeypatch, quantization):
    """The launcher's own `main`, with the trainer caught to compare its weights before and after."""
    import trl
    from bitsandbytes.nn import Linear4bit

    from lawft_trl.recipe import load_recipe
    from lawft_trl.sft import main

    caught = {}

    class Caught(trl.SFTTrainer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            weights = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
            caught.update(trainer=self, before=weights)

    monkeypatch.setattr(trl, "SFTTrainer", Caught)
    monkeypatch.chdir(ROOT)
    main(load_recipe(QUICKSTART, settings(small_data, tmp_path / "run", *quantization)))
    model, before = caught["trainer"].model, caught["before"]
    after = dict(model.named_parameters())
    assert set(after) == set(before)
    for name, parameter in after.items():
        moved = not torch.equal(parameter, before[name])
        assert moved == ("lora_B" in name or "lora_A" in name), name
    packed = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(packed) == (4 * 7 if quantization else 0)


def test_the_saved_model_stops_at_the_end_of_turn(trained):
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(trained).eos_token == "<|im_end|>"


def test_a_finished_run_is_not_overwritten(trained, small_data):
    before = (trained / "adapter_model.safetensors").read_bytes()
    result = run_sft(QUICKSTART, *settings(small_data, trained))
    assert (result.returncode, "--force" in result.stderr, "Traceback" in result.stderr) == (2, True, False)
    resumed = run_sft(QUICKSTART, *settings(small_data, trained), "--resume")
    assert resumed.returncode == 2 and f"{trained}: this run is finished" in resumed.stderr and f"lawft eval {trained}" in resumed.stderr
    assert (trained / "adapter_model.safetensors").read_bytes() == before


def test_the_same_seed_gives_the_same_adapter_and_force_replaces(trained, small_data, tmp_path):
    run = tmp_path / "trained"
    shutil.copytree(trained, run)
    (run / "mark").touch()
    run_sft(QUICKSTART, *settings(small_data, run), "--force", check=True)
    assert not (run / "mark").exists()
    ours, theirs = adapter(run), adapter(trained)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("run", "arguments", "expected"),
    [
        (sft_here, ["training.max_length=20"], "longer than training.max_length=20"),
        (run_sft, ["training.learnig_rate=1"], "did you mean learning_rate?"),
        (run_sft, ["data.train=nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (sft_here, ["model.name_or_path=/nowhere/model"], "/nowhere/model: no tokenizer could be loaded"),
        (run_sft, ["pattern.statutes=none"], "set pattern.statutes: gold"),
        (run_sft, ["--resume"], "nothing to resume"),
        (run_sft, ["--resum"], "unrecognized arguments: --resum"),
        (run_sft, ["--rehears"], "unrecognized arguments: --rehears"),
    ],
)
def test_what_cannot_be_used_is_explained_and_nothing_is_written(small_data, tmp_path, run, arguments, expected):
    result = run(QUICKSTART, *settings(small_data, tmp_path / "run"), *arguments)
    assert result.returncode == 2, result.stderr
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_recipe_for_a_gpu_is_refused_without_one(small_data, tmp_path):
    result = sft_here(QUICKSTART, *settings(small_data, tmp_path / "run", "training.use_cpu=false", "training.bf16=true"))
    assert (result.returncode, "add --rehearse" in result.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_train_like_one_with_twice_the_accumulation(small_data, tmp_path):
    common = ["lora.lora_dropout=0.0", "training.per_device_train_batch_size=4"]
    one, two = tmp_path / "one", tmp_path / "two"
    sft_here(QUICKSTART, *settings(small_data, one, *common, "training.gradient_accumulation_steps=2"), check=True)
    result = run_sft(QUICKSTART, *settings(small_data, two, *common), launcher=TWO, check=True, OMP_NUM_THREADS="1")
    assert json.loads((two / "run.json").read_text(encoding="utf-8"))["identity"]["processes"] == 2
    assert result.stdout.count("Adapter:") == 1, "rank 0 alone speaks"
    assert losses(two) == pytest.approx(losses(one), abs=1e-3)
    ours, theirs = adapter(one), adapter(two)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in theirs)


def test_two_processes_complain_with_one_voice(small_data, tmp_path):
    result = run_sft(QUICKSTART, *settings(small_data, tmp_path / "run"), "training.learnig_rate=1", launcher=TWO, OMP_NUM_THREADS="1")
    assert result.returncode != 0
    assert result.stderr.count("did you mean learning_rate?") == 1


@pytest.mark.slow
def test_an_interrupted_run_is_resumed_only_unchanged(small_data, tmp_path):
    steps = ["training.max_steps=12", "training.save_strategy=steps", "training.save_steps=2"]
    whole = tmp_path / "whole"
    run_sft(QUICKSTART, *settings(small_data, whole, *steps), check=True)

    run = tmp_path / "stopped"
    command = [sys.executable, ROOT / "lawft_trl" / "sft.py", QUICKSTART, *settings(small_data, run, *steps)]
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    work = tmp_path / "stopped.unfinished"
    deadline = time.monotonic() + 240
    while not (work / "checkpoint-4" / "trainer_state.json").is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert work.exists() and not run.exists(), "an unfinished run does not have a finished run's name"

    taken = run_sft(QUICKSTART, *settings(small_data, run, *steps))
    assert (taken.returncode, "--resume" in taken.stderr) == (2, True)
    changed = run_sft(QUICKSTART, *settings(small_data, run, *steps, "training.learning_rate=1e-5"), "--resume")
    assert changed.returncode == 2
    assert "training.learning_rate: begun with 0.001, now 1e-05" in changed.stderr
    assert run_lawft("eval", run).returncode == 2

    run_sft(QUICKSTART, *settings(small_data, run, *steps), "--resume", check=True)
    assert not work.exists()
    assert len(losses(run)) == 12
    assert losses(run) == pytest.approx(losses(whole), abs=1e-4)
