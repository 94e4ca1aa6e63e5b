"""Faults, injected for real into the user's own command: what is left, what is said, and that a resumed run is the same run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from conftest import CPU, QUICKSTART, ROOT, TWO, adapter, rows_file, run_sft, settings

from lawft_trl.training.checkpoints import fault, last_checkpoint

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
TIMES = {"train_runtime", "train_samples_per_second", "train_steps_per_second", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}

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
    globals()["trainer"] = self
trl.SFTTrainer.__init__ = __init__
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
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


def run_with_fault(tmp_path: Path, method: str, *arguments, launcher: tuple = (), wrap: tuple = (), **environment) -> subprocess.CompletedProcess:
    """The launcher with a callback that does `method`; what it prints and its exit code."""
    script = tmp_path / "fault.py"
    script.write_text(FAULT.format(method=method), encoding="utf-8")
    start = [sys.executable, "-m", "accelerate.commands.launch", *launcher] if launcher else [sys.executable]
    command = [*wrap, *start, script, ROOT / "lawft_trl" / "sft.py", *arguments]
    return subprocess.run(list(map(str, command)), cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300)


def at_step(step: int, act: str) -> str:
    return AT_STEP.format(step=step, act=act)


def log_of(run: Path) -> list[dict[str, str]]:
    import csv

    with (run / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        return [{key: value for key, value in line.items() if value and key not in TIMES} for line in csv.DictReader(stream)]


def assert_same_run(ours: Path, theirs: Path) -> None:
    assert log_of(ours) == log_of(theirs)
    mine, other = adapter(ours), adapter(theirs)
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in other)


@pytest.mark.parametrize(("how", "stop"), [(EVALUATED, 7), (BY_EPOCH, 8)], ids=["steps", "epochs-shared-prefix"])
def test_a_resumed_run_is_the_same_run(small, tmp_path, how, stop):
    common = [*small, *STEPS, *how]
    run_sft(QUICKSTART, *common, f"training.output_dir={tmp_path}/whole", check=True)
    stopped = run_with_fault(tmp_path, at_step(stop, "os.kill(os.getpid(), signal.SIGTERM)"), QUICKSTART, *common, f"training.output_dir={tmp_path}/run")
    assert stopped.returncode == 143, stopped.stdout + stopped.stderr
    work = tmp_path / "run.unfinished"
    assert last_checkpoint(work).name == f"checkpoint-{stop + 1}"
    run_sft(QUICKSTART, *common, f"training.output_dir={tmp_path}/run", "--resume", check=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")
