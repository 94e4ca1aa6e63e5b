"""The user's own commands, in subprocesses, with the real trainer: what must move and what must not."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY_MODEL, run_lawft, run_sft
from safetensors.torch import load_file

CPU = ("--config_file", ROOT / "accelerate_configs" / "cpu.yaml")
TWO = ("--config_file", ROOT / "accelerate_configs" / "multi_gpu.yaml")  # on the CPU: two gloo processes
QUICKSTART = ROOT / "recipes" / "tiny_direct_gold.yaml"
RUN_FILES = {
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "metrics.csv",
    "recipe.yaml",
    "run.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "training_args.bin",
    "training_summary.json",
}


def settings(sample_data: Path, out: Path, *more: str) -> list[str]:
    files = [f"data.{split}={sample_data}/direct_gold/{split}.jsonl" for split in ("train", "dev", "test")]
    return [*files, f"training.output_dir={out}", "training.max_steps=3", "training.logging_steps=1", *more]


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        return [float(line["loss"]) for line in csv.DictReader(stream) if line["loss"]]


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def trained(sample_data, tmp_path_factory) -> Path:
    """One short run by `accelerate launch`."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    before = {path: path.read_bytes() for path in TINY_MODEL.iterdir()}
    result = run_sft(QUICKSTART, *settings(sample_data, run), launcher=CPU, check=True)
    assert f"lawft eval {run}" in result.stdout
    assert "rows/s, peak memory" in result.stdout
    assert {path: path.read_bytes() for path in TINY_MODEL.iterdir()} == before, "the base model's files are not touched"
    return run


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


NF4 = [
    "quantization.load_in_4bit=true",
    "quantization.bnb_4bit_quant_type=nf4",
    "quantization.bnb_4bit_compute_dtype=float32",
    "quantization.bnb_4bit_use_double_quant=true",
]


@pytest.mark.parametrize("quantization", [[], NF4], ids=["float32", "nf4"])
def test_training_moves_the_adapter_and_not_the_base(sample_data, tmp_path, monkeypatch, quantization):
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
    main(load_recipe(QUICKSTART, settings(sample_data, tmp_path / "run", *quantization)))
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


def test_a_finished_run_is_not_overwritten(trained, sample_data):
    before = (trained / "adapter_model.safetensors").read_bytes()
    result = run_sft(QUICKSTART, *settings(sample_data, trained))
    assert (result.returncode, "--force" in result.stderr, "Traceback" in result.stderr) == (2, True, False)
    assert (trained / "adapter_model.safetensors").read_bytes() == before


def test_the_same_seed_gives_the_same_adapter_and_force_replaces(trained, sample_data, tmp_path):
    import shutil

    run = tmp_path / "trained"
    shutil.copytree(trained, run)
    (run / "mark").touch()
    run_sft(QUICKSTART, *settings(sample_data, run), "--force", check=True)
    assert not (run / "mark").exists()
    ours, theirs = adapter(run), adapter(trained)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_eval_asks_what_was_trained_and_writes_a_report(trained, sample_data):
    result = run_lawft("eval", trained, check=True)
    out = trained / "eval" / "test"
    assert {path.name for path in out.iterdir()} == {"metrics.json", "predictions.jsonl", "report.md"}
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    test = (sample_data / "direct_gold" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    assert metrics["tuned"]["questions"] == len(test) >= 100
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2 * 4 * len(test)
    assert {line["model"] for line in lines} == {"base", "tuned"}
    assert all(0 < sum(line["letter_probs"].values()) <= 1 + 1e-6 for line in lines)
    assert metrics["comparison"]["verdict"] in result.stdout
    assert "fingerprint" in (out / "report.md").read_text(encoding="utf-8")

    run_lawft("eval", trained, "--test", sample_data / "direct_gold" / "dev.jsonl", "--name", "another", check=True)
    assert (trained / "eval" / "another" / "report.md").is_file()
    again = run_lawft("eval", trained)
    assert (again.returncode, "--force" in again.stderr) == (2, True)


def test_eval_refuses_another_prompt(trained, tmp_path):
    import shutil

    run = tmp_path / "changed"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("eval"))
    (run / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}", encoding="utf-8")
    result = run_lawft("eval", run)
    assert result.returncode == 2
    assert "another prompt than it was trained on" in result.stderr
    assert not (run / "eval").exists()


def test_eval_refuses_rows_the_run_was_trained_on(trained, sample_data):
    result = run_lawft("eval", trained, "--test", sample_data / "direct_gold" / "train.jsonl")
    assert result.returncode == 2
    assert "the result would mean nothing" in result.stderr


def test_eval_of_no_run_says_so(tmp_path):
    result = run_lawft("eval", tmp_path)
    assert (result.returncode, "no finished run here" in result.stderr, "Traceback" in result.stderr) == (2, True, False)


def test_leakage_is_refused_and_an_allowed_one_is_reported(sample_data, tmp_path):
    leak = f"data.test={sample_data}/direct_gold/train.jsonl"
    result = run_sft(QUICKSTART, *settings(sample_data, tmp_path / "leak"), leak)
    assert (result.returncode, "leakage" in result.stderr, "same id" in result.stderr) == (2, True, True)
    assert list(tmp_path.iterdir()) == []
    run_sft(QUICKSTART, *settings(sample_data, tmp_path / "leak", leak, "data.allow_overlap=true"), check=True)
    result = run_lawft("eval", tmp_path / "leak", check=True)
    assert "not a held-out result" in result.stdout
    assert "not a held-out result" in (tmp_path / "leak" / "eval" / "train" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["training.max_length=20"], "longer than training.max_length=20"),
        (["training.learnig_rate=1"], "did you mean learning_rate?"),
        (["data.train=nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["model.name_or_path=/nowhere/model"], "/nowhere/model: no tokenizer could be loaded"),
        (["pattern.statutes=none"], "set pattern.statutes: gold"),
        (["--resume"], "nothing to resume"),
    ],
)
def test_what_cannot_be_used_is_explained_and_nothing_is_written(sample_data, tmp_path, arguments, expected):
    result = run_sft(QUICKSTART, *settings(sample_data, tmp_path / "run"), *arguments)
    assert result.returncode == 2, result.stderr
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_recipe_for_a_gpu_is_refused_without_one(sample_data, tmp_path):
    result = run_sft(QUICKSTART, *settings(sample_data, tmp_path / "run", "training.use_cpu=false", "training.bf16=true"))
    assert (result.returncode, "add --rehearse" in result.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_qlora_run_is_evaluated_on_its_4_bit_base(sample_data, tmp_path):
    run = tmp_path / "qlora"
    run_sft(QUICKSTART, *settings(sample_data, run, *NF4), check=True)
    run_lawft("eval", run, check=True)
    metrics = json.loads((run / "eval" / "test" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["base"]["label_mass"] > 0

    from bitsandbytes.nn import Linear4bit

    from lawft_trl.evaluation.evaluate import load_tuned
    from lawft_trl.run_dir import read_run

    model = load_tuned(read_run(run))
    assert sum(isinstance(module, Linear4bit) for module in model.modules()) == 4 * 7


def test_an_adapter_that_does_not_fit_is_refused(trained, tmp_path):
    """PEFT only warns; a report on it would compare the base with itself."""
    import shutil

    from safetensors.torch import save_file

    run = tmp_path / "renamed"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("eval"))
    renamed = {name.replace("model.layers", "model.language_model.layers"): tensor for name, tensor in adapter(run).items()}
    save_file(renamed, run / "adapter_model.safetensors")
    result = run_lawft("eval", run)
    assert result.returncode != 0
    assert "found no place in the model" in result.stderr
    assert not (run / "eval").exists()


def test_letters_are_told_apart_in_bfloat16(trained, sample_data):
    """A bfloat16 logit comes in steps that tie letters; the four letters are computed in float32."""
    from lawft_trl.data.chat import load_tokenizer
    from lawft_trl.evaluation.evaluate import load_tuned, questions_to_score
    from lawft_trl.evaluation.predict import ask_in_four_orders, score_letters
    from lawft_trl.run_dir import read_run

    run = read_run(trained)
    tokenizer = load_tokenizer(str(trained))
    rows = questions_to_score(run.recipe, sample_data / "direct_gold" / "dev.jsonl")[:20]
    asked = ask_in_four_orders(rows, tokenizer, run.recipe.pattern.chat_template_kwargs)
    model = load_tuned(run)
    options = {"pad_token_id": tokenizer.pad_token_id, "progress": "test"}
    one = score_letters(model, asked, batch_size=1, **options)
    many = score_letters(model, asked, batch_size=7, **options)
    for a, b in zip(one, many, strict=True):  # padding and order of the batch change nothing
        assert a.letter_logprobs == pytest.approx(b.letter_logprobs, abs=1e-4)
    rough = score_letters(model.to(torch.bfloat16), asked, batch_size=7, **options)
    values = [value for prediction in rough for value in prediction.letter_logprobs.values()]
    assert len(set(values)) > 0.95 * len(values), "values on a grid of bfloat16 steps would coincide"
    for a, b in zip(one, rough, strict=True):
        assert a.letter_logprobs == pytest.approx(b.letter_logprobs, abs=0.5)


def test_two_processes_train_like_one_with_twice_the_accumulation(sample_data, tmp_path):
    common = ["lora.lora_dropout=0.0", "training.per_device_train_batch_size=4"]
    one, two = tmp_path / "one", tmp_path / "two"
    run_sft(QUICKSTART, *settings(sample_data, one, *common, "training.gradient_accumulation_steps=2"), launcher=CPU, check=True)
    result = run_sft(QUICKSTART, *settings(sample_data, two, *common), launcher=TWO, check=True, OMP_NUM_THREADS="1")
    assert json.loads((two / "run.json").read_text(encoding="utf-8"))["identity"]["processes"] == 2
    assert result.stdout.count("Adapter:") == 1, "rank 0 alone speaks"
    assert losses(two) == pytest.approx(losses(one), abs=1e-3)
    ours, theirs = adapter(one), adapter(two)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in theirs)


def test_two_processes_complain_with_one_voice(sample_data, tmp_path):
    result = run_sft(QUICKSTART, *settings(sample_data, tmp_path / "run"), "training.learnig_rate=1", launcher=TWO, OMP_NUM_THREADS="1")
    assert result.returncode != 0
    assert result.stderr.count("did you mean learning_rate?") == 1


def test_an_interrupted_run_is_resumed_only_unchanged(sample_data, tmp_path):
    steps = ["training.max_steps=12", "training.save_strategy=steps", "training.save_steps=2"]
    whole = tmp_path / "whole"
    run_sft(QUICKSTART, *settings(sample_data, whole, *steps), check=True)

    run = tmp_path / "stopped"
    command = [sys.executable, ROOT / "lawft_trl" / "sft.py", QUICKSTART, *settings(sample_data, run, *steps)]
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    work = tmp_path / "stopped.unfinished"
    deadline = time.monotonic() + 240
    while not (work / "checkpoint-4" / "trainer_state.json").is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert work.exists() and not run.exists(), "an unfinished run does not have a finished run's name"

    taken = run_sft(QUICKSTART, *settings(sample_data, run, *steps))
    assert (taken.returncode, "--resume" in taken.stderr) == (2, True)
    changed = run_sft(QUICKSTART, *settings(sample_data, run, *steps, "training.learning_rate=1e-5"), "--resume")
    assert changed.returncode == 2
    assert "training.learning_rate: begun with 0.002, now 1e-05" in changed.stderr
    assert run_lawft("eval", run).returncode == 2

    run_sft(QUICKSTART, *settings(sample_data, run, *steps), "--resume", check=True)
    assert not work.exists()
    assert len(losses(run)) == 12
    assert losses(run) == pytest.approx(losses(whole), abs=1e-4)


def test_any_recipe_is_rehearsed_on_real_lawqa(lawqa_dir, tmp_path):
    """Real data, real launcher, the recipe's own QLoRA; only the model and the machine are small."""
    run_lawft("data", "lawqa", "--from", lawqa_dir, "--out", tmp_path / "data" / "lawqa_jp", check=True)
    run_sft(ROOT / "recipes" / "direct_norag.yaml", "--rehearse", launcher=CPU, cwd=tmp_path, check=True)
    run = tmp_path / "runs" / "rehearsal" / "direct_norag"
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["steps"] == 10
    assert record["identity"]["recipe"]["quantization"]["load_in_4bit"] is True
    report = (run / "eval" / "test" / "report.md").read_text(encoding="utf-8")
    assert "questions in four orders each" in report, "a rehearsal ends with a report on held-out questions"
    run_sft(ROOT / "recipes" / "direct_norag.yaml", "--rehearse", "training.max_steps=1", cwd=tmp_path, check=True)


def test_wandb_offline_writes_into_the_run(sample_data, tmp_path):
    run = tmp_path / "logged"
    run_sft(QUICKSTART, *settings(sample_data, run, "monitor.wandb=offline", "monitor.tags=[x]"), check=True)
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))


def test_wandb_online_without_a_key_is_refused(sample_data, tmp_path):
    environment = {"WANDB_API_KEY": "", "HOME": str(tmp_path / "home"), "NETRC": "/nonexistent"}
    result = run_sft(QUICKSTART, *settings(sample_data, tmp_path / "run", "monitor.wandb=online"), **environment)
    assert (result.returncode, "wandb login" in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "run.unfinished").exists()
