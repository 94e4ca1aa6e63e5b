"""Faults, injected for real into the user's own command: what is left, what is said, and that a resumed run is the same run."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import CPU, QUICKSTART, ROOT, TWO, adapter, disk_of, rows_file, run_sft, settings
from transformers import TrainerCallback

from lawft_trl.errors import InputError
from lawft_trl.recipe import load_recipe
from lawft_trl.sft import main
from lawft_trl.training.checkpoints import fault, last_checkpoint
from lawft_trl.training.disk_space import _SMALL_FILES
from lawft_trl.training.divergence import are_weights_finite
from lawft_trl.training.estimate import optimizer_bytes
from lawft_trl.training.preflight import encode_role, read_roles

# Six steps an epoch, dropout, accumulation, and entries of the log that do not fall together with checkpoints
STEPS = [
    "training.max_steps=14",
    "training.per_device_train_batch_size=2",
    "training.gradient_accumulation_steps=2",
    "training.logging_steps=3",
    "training.save_strategy=steps",
    "training.save_steps=4",
    "training.lr_scheduler_type=cosine",
    "lora.lora_dropout=0.2",
]
EVALUATED = [
    "training.eval_strategy=steps",
    "training.eval_steps=4",
    "training.load_best_model_at_end=true",
    "training.metric_for_best_model=eval_letter_gold_logprob",
    "training.save_total_limit=1",
    "evaluation.early_stopping_patience=3",
]
BY_EPOCH = ["training.save_strategy=epoch", "training.eval_strategy=epoch", "data.shared_prefix=true", "training.per_device_train_batch_size=4", "training.gradient_accumulation_steps=1"]
TIMES = {"memory_rss_gib", "train_runtime", "train_samples_per_second", "train_steps_per_second", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}

# Injects a fault into the launcher's own process: a callback that runs when a step begins.
FAULT = """
import os, runpy, signal, sys
import transformers, trl

class Fault(transformers.TrainerCallback):
    {method}

original = trl.SFTTrainer.__init__
def __init__(self, *args, **kwargs):
    original(self, *args, **kwargs)
    self.add_callback(Fault())
trl.SFTTrainer.__init__ = __init__
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
IN_SAVE = """
    def on_step_begin(self, args, state, control, **kwargs):
        def die(trainer, folder):  # what is saved between the optimizer and the random generators
            if trainer.state.global_step == {step}:
                os.kill(os.getpid(), signal.SIGKILL)
        transformers.Trainer._save_scaler = die"""
AT_END = """
    def on_train_end(self, args, state, control, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)"""
AT_STEP = """def on_step_begin(self, args, state, control, model, **kwargs):
        if state.global_step == {step}:
            {act}"""


@pytest.fixture(scope="module")
def small(sample_data, tmp_path_factory) -> list[str]:
    """Six questions in four orders to train, three to watch."""
    folder = tmp_path_factory.mktemp("small")
    for role, count in (("train", 24), ("dev", 12)):
        lines = rows_file(sample_data, role).read_text(encoding="utf-8").splitlines()[:count]
        (folder / f"{role}.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return [*settings(sample_data, Path("unset")), f"data.train={folder}/train.jsonl", f"data.dev={folder}/dev.jsonl", "data.test=null"]


def run_with_fault(tmp_path: Path, method: str, *arguments, launcher: tuple = (), **environment) -> subprocess.CompletedProcess:
    """The launcher with a callback that does `method`; what it prints and its exit code."""
    script = tmp_path / "fault.py"
    script.write_text(FAULT.format(method=method), encoding="utf-8")
    start = [sys.executable, "-m", "accelerate.commands.launch", *launcher] if launcher else [sys.executable]
    command = [*start, script, ROOT / "lawft_trl" / "sft.py", *arguments]
    return subprocess.run(list(map(str, command)), cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300)


def at_step(step: int, act: str) -> str:
    return AT_STEP.format(step=step, act=act)


def log_of(run: Path) -> list[dict[str, str]]:
    with (run / "training_metrics.csv").open(encoding="utf-8", newline="") as stream:
        return [{key: value for key, value in line.items() if value and key not in TIMES} for line in csv.DictReader(stream)]


def assert_same_run(ours: Path, theirs: Path) -> None:
    assert log_of(ours) == log_of(theirs)
    mine, other = adapter(ours), adapter(theirs)
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in other)


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory) -> Path:
    """A run that nothing happened to, with its last two checkpoints."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    run_sft(QUICKSTART, *small, *STEPS, *EVALUATED, f"training.output_dir={run}", check=True)
    return run


def resumed(small: list[str], run: Path, *more: str) -> subprocess.CompletedProcess:
    return run_sft(QUICKSTART, *small, *STEPS, *more, f"training.output_dir={run}", "--resume", check=True)


def test_a_run_that_was_told_to_stop_goes_on_as_the_same_run(small, whole, tmp_path):
    """In the middle of an epoch, between two log entries, checkpoints and evaluations; the only older checkpoint is removed."""
    arguments = [*small, *STEPS, *EVALUATED, f"training.output_dir={tmp_path}/run"]
    stopped = run_with_fault(tmp_path, at_step(7, "os.kill(os.getpid(), signal.SIGTERM)"), QUICKSTART, *arguments, launcher=CPU)
    work = tmp_path / "run.unfinished"
    assert stopped.returncode != 0, "accelerate ends with 1 whatever its process ended with"
    assert "exit status 143" in stopped.stderr
    assert f"Saved {work}/checkpoint-8" in stopped.stdout
    assert "accelerate.commands.launch" in stopped.stdout and f"training.output_dir={tmp_path}/run --resume\n" in stopped.stdout
    assert not (tmp_path / "run").exists()
    resumed(small, tmp_path / "run", *EVALUATED)
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
def test_by_epochs_with_shared_prefixes_too(small, tmp_path):
    arguments = [*small, *STEPS, *BY_EPOCH]
    run_sft(QUICKSTART, *arguments, f"training.output_dir={tmp_path}/whole", check=True)
    for step, name in ((8, "SIGINT"), (5, "SIGUSR1")):  # within an epoch, and in its last step
        run = f"training.output_dir={tmp_path}/{name}"
        stopped = run_with_fault(tmp_path, at_step(step, f"os.kill(os.getpid(), signal.{name})"), QUICKSTART, *arguments, run)
        assert stopped.returncode == {"SIGINT": 130, "SIGUSR1": 143}[name], stopped.stderr
        assert last_checkpoint(tmp_path / f"{name}.unfinished").name == f"checkpoint-{step + 1}"
        resumed(small, tmp_path / name, *BY_EPOCH)
        assert_same_run(tmp_path / name, tmp_path / "whole")


def test_killed_in_a_save_and_once_more_behind_the_last_step(small, whole, tmp_path):
    """The older checkpoint is taken. Killed again between the last step and the finished run: no step is done twice."""
    arguments = [*small, *STEPS, *EVALUATED, f"training.output_dir={tmp_path}/run"]
    killed = run_with_fault(tmp_path, IN_SAVE.format(step=8), QUICKSTART, *arguments)
    work = tmp_path / "run.unfinished"
    assert killed.returncode == -signal.SIGKILL
    assert (work / "checkpoint-8" / "optimizer.pt").is_file() and last_checkpoint(work).name == "checkpoint-4"
    again = run_with_fault(tmp_path, AT_END, QUICKSTART, *arguments, "--resume")
    assert again.returncode == -signal.SIGKILL
    assert "checkpoint-8: passed over and removed, it was not written whole (trainer_state.json is missing)" in again.stdout
    assert f"Resuming from {work}/checkpoint-4" in again.stdout
    assert last_checkpoint(work).name == "checkpoint-14"
    resumed(small, tmp_path / "run", *EVALUATED)
    assert_same_run(tmp_path / "run", whole)


def test_a_best_checkpoint_that_is_deleted_by_hand_costs_itself_only(small, tmp_path):
    """`save_total_limit` is 1: transformers would look for it once more, among those to remove, and fail."""
    delete = at_step(13, '__import__("shutil").rmtree(state.best_model_checkpoint)')
    early = ["training.metric_for_best_model=eval_loss", "training.greater_is_better=true", "evaluation.early_stopping_patience=null"]  # the first is "best"
    result = run_with_fault(tmp_path, delete, QUICKSTART, *small, *STEPS, *EVALUATED, *early, f"training.output_dir={tmp_path}/run")
    assert result.returncode == 0, result.stderr
    run = tmp_path / "run"
    assert "the best checkpoint so far, is gone; where no later one is better, the run ends with its last step" in result.stdout
    summary = json.loads((run / "training_summary.json").read_text(encoding="utf-8"))
    assert (summary["steps"], summary["kept_step"]) == (14, 14) and summary["best_metric_step"] < 14
    kept, last = adapter(run), adapter(run / "checkpoint-14")
    assert all(torch.equal(kept[name], last[name]) for name in last)


def test_a_checkpoint_that_lacks_anything_is_not_whole(whole, tmp_path):
    """Every file a resume reads, removed, cut in half, and short of its last byte."""
    good = max(whole.glob("checkpoint-*"))
    assert fault(good, 1) is None
    assert "rng_state_0.pth" in fault(good, 2)
    needed = ["adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]
    assert set(needed) <= {path.name for path in good.iterdir()}
    for name in needed:
        for size in (None, 0, 0.5, 1):
            broken = tmp_path / f"{name}-{size}"
            shutil.copytree(good, broken)
            content = (good / name).read_bytes()
            (broken / name).unlink()
            if size is not None:
                (broken / name).write_bytes(content[: int(len(content) * size) - (size == 1) * 2])
            found = fault(broken, 1)
            assert found is not None and (name in found or size is None), (name, size)
    sharded = shutil.copytree(good, tmp_path / "sharded")
    (sharded / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00001.safetensors"}}')
    assert fault(sharded, 1) == "model-00001-of-00001.safetensors is missing"


def test_weights_on_several_devices_are_looked_at():
    """As `device_map: balanced` leaves them; what is offloaded is on no device."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, device="meta"))
    trainer = SimpleNamespace(model=model, accelerator=SimpleNamespace(num_processes=1))
    assert are_weights_finite(trainer)
    model[0].bias.data[0] = float("inf")
    assert not are_weights_finite(trainer)


@pytest.mark.slow
def test_a_disk_that_fills_up_in_a_save_costs_that_save(small, whole, tmp_path):
    """The kernel refuses files of more than 100 kB (EFBIG), from step 7 on."""
    arguments = [*small, *STEPS, *EVALUATED, f"training.output_dir={tmp_path}/run"]
    limit = at_step(6, "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))")
    full = run_with_fault(tmp_path, limit, QUICKSTART, *arguments)
    work = tmp_path / "run.unfinished"
    assert (full.returncode, "Traceback" in full.stderr) == (2, False), full.stderr
    assert f"the last good checkpoint is {work}/checkpoint-4" in full.stderr and "--resume" in full.stderr
    assert [path.name for path in work.glob("checkpoint-*")] == ["checkpoint-4"]
    resumed(small, tmp_path / "run", *EVALUATED)
    assert_same_run(tmp_path / "run", whole)


@pytest.fixture
def disk(tmp_path):
    """A file system of 64 MiB."""
    with disk_of(tmp_path / "disk", "64m") as place:
        yield place


@pytest.mark.slow
def test_a_full_tmpfs_too(small, whole, tmp_path, disk):
    arguments = [*small, *STEPS, *EVALUATED, f"training.output_dir={disk}/run"]
    fill = f'import shutil; open("{disk}/filler", "wb").write(b"0" * (shutil.disk_usage("{disk}").free - 1_000_000))'
    full = run_with_fault(tmp_path, at_step(6, fill), QUICKSTART, *arguments)
    assert (full.returncode, "Traceback" in full.stderr) == (2, False), full.stderr
    assert "full; a checkpoint that was being saved was removed again" in full.stderr
    assert [path.name for path in (disk / "run.unfinished").glob("checkpoint-*")] == ["checkpoint-4"]
    (disk / "filler").unlink()
    resumed(small, disk / "run", *EVALUATED)
    assert_same_run(disk / "run", whole)


def train_here(monkeypatch, arguments: list[str], fault: TrainerCallback) -> str:
    """Trains in this process with a callback more, and returns what it is refused with."""
    import trl

    class Faulty(trl.SFTTrainer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.add_callback(fault)

    monkeypatch.setattr(trl, "SFTTrainer", Faulty)
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError) as refused:
        main(load_recipe(QUICKSTART, arguments))
    return str(refused.value)


def test_a_run_that_cannot_fit_the_disk_is_not_begun(small, tmp_path, monkeypatch):
    much = ["training.max_steps=100000000", "training.save_steps=1", f"training.output_dir={tmp_path}/run"]
    refused = train_here(monkeypatch, [*small, *STEPS, *much], TrainerCallback())
    assert "100000000 checkpoint(s) at once" in refused and "are free; nothing was trained" in refused
    assert "training.save_total_limit=1" in refused
    assert list(tmp_path.iterdir()) == []


def test_what_is_reckoned_for_the_disk_is_what_is_written(whole):
    """The figure for a checkpoint of this run, from its own files."""
    written = {path.name: path.stat().st_size for path in max(whole.glob("checkpoint-*")).iterdir()}
    weights, states = written["adapter_model.safetensors"], written["optimizer.pt"]
    assert states == pytest.approx(optimizer_bytes("adamw_torch", [weights // 4], 4), rel=0.1)
    rest = sum(written.values()) - weights - states - written["tokenizer.json"]
    assert rest < _SMALL_FILES


class PlantNaN(TrainerCallback):
    """Gives a token that one question alone has an embedding of NaN, from the third step on."""

    def on_step_begin(self, args, state, control, model, train_dataloader, **kwargs):
        rows = [set(row) for row in train_dataloader.dataset["input_ids"]]
        if state.global_step == 2:
            self.token = next(token for token in sorted(rows[0]) if sum(token in row for row in rows) == 4)
            model.get_input_embeddings().weight.data[self.token] = float("nan")


class PlantNaNGradient(TrainerCallback):
    """The gradient of one weight is NaN in the fourth step, whose checkpoint is due."""

    def on_step_begin(self, args, state, control, model, **kwargs):
        if state.global_step == 3:
            next(weight for weight in model.parameters() if weight.requires_grad).register_hook(lambda gradient: gradient * float("nan"))


def test_a_loss_that_is_not_finite_stops_at_once_and_names_its_rows(small, tmp_path, monkeypatch, tiny_tokenizer):
    fault = PlantNaN()
    refused = train_here(monkeypatch, [*small, *STEPS, "training.save_steps=2", f"training.output_dir={tmp_path}/run"], fault)
    recipe = load_recipe(QUICKSTART, [*small, *STEPS])
    with_token = {item.row.source for item in encode_role(recipe, read_roles(recipe)["train"], tiny_tokenizer) if fault.token in item.input_ids}
    named = {line.split()[1] for line in refused.splitlines() if "its loss alone is not finite" in line}
    assert named and named <= with_token and len(with_token) == 4
    assert "training.learning_rate (it is 0.001)" in refused
    checkpoints = sorted((tmp_path / "run.unfinished").glob("checkpoint-*"))
    assert f"the last good checkpoint is {checkpoints[-1]}" in refused


def test_a_gradient_that_is_not_finite_is_never_saved(small, tmp_path, monkeypatch):
    """The loss still is."""
    refused = train_here(monkeypatch, [*small, *STEPS, f"training.output_dir={tmp_path}/run"], PlantNaNGradient())
    assert "the weights were no longer finite after step 4, and were not saved" in refused
    assert list((tmp_path / "run.unfinished").glob("checkpoint-*")) == []


def two_with_fault(small: list[str], tmp_path: Path, method: str) -> subprocess.CompletedProcess:
    """Two processes, which fail."""
    arguments = [QUICKSTART, *small, *STEPS, f"training.output_dir={tmp_path}/run"]
    result = run_with_fault(tmp_path, method, *arguments, launcher=TWO, OMP_NUM_THREADS="1")
    assert result.returncode != 0
    return result


def test_a_process_that_is_killed_takes_the_others_down(small, tmp_path):
    result = two_with_fault(small, tmp_path, at_step(2, 'os.environ["RANK"] == "1" and os.kill(os.getpid(), signal.SIGKILL)'))
    assert "exitcode  : -9" in result.stderr.split("Root Cause (first observed failure)")[1]


@pytest.mark.slow
def test_an_error_in_one_process_is_the_one_that_is_shown(small, tmp_path):
    result = two_with_fault(small, tmp_path, at_step(2, 'assert os.environ["RANK"] != "1", "what only rank one met"'))
    assert "AssertionError: what only rank one met" in result.stderr
    assert "rank      : 1" in result.stderr.split("Root Cause (first observed failure)")[1]


@pytest.mark.slow
def test_a_disk_that_is_full_for_one_process_only_is_said(small, tmp_path):
    act = 'os.environ["RANK"] == "1" and __import__("resource").setrlimit(__import__("resource").RLIMIT_FSIZE, (100, -1))'
    result = two_with_fault(small, tmp_path, at_step(6, act))
    assert "rank 1: " in result.stderr and "is full; --resume removes a checkpoint that was being saved" in result.stderr, result.stderr


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step(small, tmp_path):
    """One of them alone hears the signal; the resumed run is the same run."""
    arguments = [*small, *STEPS]
    run_sft(QUICKSTART, *arguments, f"training.output_dir={tmp_path}/whole", launcher=TWO, check=True, OMP_NUM_THREADS="1")
    act = 'os.environ["RANK"] == "1" and os.kill(os.getpid(), signal.SIGTERM)'
    run = f"training.output_dir={tmp_path}/run"
    stopped = run_with_fault(tmp_path, at_step(6, act), QUICKSTART, *arguments, run, launcher=TWO, OMP_NUM_THREADS="1")
    assert f"Saved {tmp_path}/run.unfinished/checkpoint-7" in stopped.stdout, stopped.stderr
    run_sft(QUICKSTART, *arguments, run, "--resume", launcher=TWO, check=True, OMP_NUM_THREADS="1")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_signals_while_nothing_is_trained_and_the_second_one(tmp_path):
    """Before a training, and in a step that does not end."""
    code = """
        import os, signal, sys, time
        from lawft_trl.training.stop_signals import hearing_signals
        with hearing_signals(may_wait=lambda: sys.argv[1] == "training"):
            print("ready", flush=True)
            time.sleep(120)
    """
    for what, number, wanted in (("loading", signal.SIGINT, 130), ("loading", signal.SIGTERM, 143), ("training", signal.SIGTERM, 143)):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        process.send_signal(number)
        if what == "training":  # what comes at once is the same wish, handed on by a launcher
            process.send_signal(number)
            time.sleep(3)
            assert process.poll() is None
            process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == wanted
        assert ("again: ended at once" if what == "training" else "no step was done that would have to be saved") in said


@pytest.mark.slow
def test_a_launcher_that_is_ended_does_not_leave_its_training_running(small, tmp_path):
    """`accelerate launch` hands no signal on; the training hears of its death all the same, and saves."""
    command = [sys.executable, "-m", "accelerate.commands.launch", *CPU, ROOT / "lawft_trl" / "sft.py", QUICKSTART, *small, *STEPS]
    command += ["training.max_steps=2000", "training.save_total_limit=2", f"training.output_dir={tmp_path}/run"]
    with (tmp_path / "log").open("w") as log:
        launcher = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=log, stderr=log)
    work, log = tmp_path / "run.unfinished", tmp_path / "log"
    deadline = time.monotonic() + 240
    while not list(work.glob("checkpoint-*")) and time.monotonic() < deadline and launcher.poll() is None:
        time.sleep(0.05)
    launcher.terminate()
    launcher.wait(60)
    while "To go on:" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "--resume" in log.read_text().split("To go on:")[1]
    assert last_checkpoint(work) is not None
