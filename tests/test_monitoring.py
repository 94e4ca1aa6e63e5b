"""What a training shows and logs while it runs: an offline W&B run over an interruption, TensorBoard, the terminal, no network."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import QUICKSTART, ROOT, TINY_MODEL, settings, sft_here
from test_survival import at_step, run_with_fault
from wandb_file import read_wandb

STRACE = shutil.which("strace")
# What this suite sets to keep itself off the network; the launcher must do without it.
HELD_BACK = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "WANDB_MODE")


@pytest.fixture(scope="module")
def interrupted(small_data, tmp_path_factory) -> SimpleNamespace:
    """A run on a terminal, killed after its first checkpoint, and resumed without one, its system calls watched where strace is."""
    folder = tmp_path_factory.mktemp("monitored")
    run, work, trace = folder / "mine", folder / "mine.unfinished", folder / "trace"
    more = ["training.max_steps=24", "training.save_strategy=steps", "training.save_steps=8", "training.per_device_train_batch_size=2"]
    more += ["training.report_to=[wandb,tensorboard]", "monitor.tags=[x]", f"model.name_or_path={TINY_MODEL}"]
    command = [sys.executable, ROOT / "lawft_trl" / "sft.py", QUICKSTART, *settings(small_data, run, *more)]
    environment = {name: value for name, value in os.environ.items() if name not in HELD_BACK} | {"TERM": "xterm", "COLUMNS": "200"}
    terminal = _until_checkpoint(list(map(str, command)), environment, work)
    watched = [STRACE, "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", trace] if STRACE else []
    resumed = subprocess.run(
        list(map(str, [*watched, *command, "--resume"])), cwd=ROOT, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600
    )
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    parts = [read_wandb(file) for file in sorted(run.glob("wandb/offline-run-*/*.wandb"))]
    return SimpleNamespace(run=run, terminal=terminal, said=resumed.stdout, parts=parts, trace=trace.read_text() if STRACE else None)


def _until_checkpoint(command: list[str], environment: dict[str, str], work: Path) -> str:
    """Runs a command on a terminal of its own and kills it when its first checkpoint and W&B's log of it are on the disk."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.set_blocking(ours, False)
    shown, deadline = b"", time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        try:
            shown += os.read(ours, 65536)
        except (BlockingIOError, OSError):
            time.sleep(0.05)
        logs = [file for file in work.glob("wandb/offline-run-*/*.wandb") if (work / "checkpoint-8" / "trainer_state.json").is_file()]
        if logs and b"train/global_step" in logs[0].read_bytes():
            process.kill()
    process.wait()
    os.close(ours)
    assert work.exists(), shown.decode(errors="replace")[-3000:]
    return shown.decode(errors="replace")


def test_one_wandb_run_over_an_interruption(interrupted):
    first, second = interrupted.parts
    assert first.id == second.id == (interrupted.run / "wandb" / "run_id").read_text()
    assert (second.name, second.group, second.tags) == ("mine", "mine", ["x"])
    steps = [line["train/global_step"] for line in second.history if "train/loss" in line]
    assert steps == list(range(9, 25)), "from the checkpoint on"
    assert all(line["train/memory_rss_gib"] > 0 for line in second.history if "train/loss" in line)
    assert {line["train/global_step"] for line in first.history} <= set(range(1, 24))
    folders = sorted(interrupted.run.glob("wandb/offline-run-*"))
    assert f"wandb sync {folders[0]} {folders[1]}\n" in interrupted.said, "offline is said once, with the folders' last names"
    assert interrupted.said.count("offline;") == 1


def test_wandb_holds_what_tells_runs_apart_and_how_it_ended(interrupted):
    logged = interrupted.parts[-1]
    record = json.loads((interrupted.run / "run.json").read_text(encoding="utf-8"))
    assert logged.config["lora"]["r"] == record["identity"]["recipe"]["lora"]["r"]
    assert logged.config["prompt_fingerprint"] == record["identity"]["prompt_fingerprint"]
    assert list(logged.config["data_sha256"]["train"].values()) == [record["identity"]["data"]["train"][0]["sha256"]]
    assert logged.config["commit"] == record["environment"]["commit"]
    assert logged.config["rehearsal"] is False
    assert "vocab_size" not in logged.config and "per_device_eval_batch_size" not in logged.config, "not all of the libraries' defaults"
    assert logged.summary["training/steps"] == 24 and logged.summary["training/last_loss"] == record["last_loss"]
    pictures = interrupted.run.glob("wandb/offline-run-*/files/media/images/*.png")
    assert [path.read_bytes() for path in pictures] == [(interrupted.run / "training_progress.png").read_bytes()]


@pytest.mark.skipif(STRACE is None, reason="strace is not installed: that nothing is sent was NOT tested")
def test_nothing_is_sent_and_no_name_is_looked_up(interrupted):
    assert "wandb" in interrupted.said and "connect(" in interrupted.trace
    addresses = re.findall(r'sin6?_addr=inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', interrupted.trace)
    assert {name for pair in addresses for name in pair if name} <= {"127.0.0.1", "::1"}


def test_tensorboard_has_every_step(interrupted):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed: NOT tested")
    events = event_accumulator.EventAccumulator(str(interrupted.run / "tensorboard"))
    events.Reload()
    for name in ("train/loss", "train/memory_rss_gib"):
        assert sorted({event.step for event in events.Scalars(name)}) == list(range(1, 25))


def test_a_log_file_has_a_plain_line_for_each_step(interrupted):
    lines = [line for line in interrupted.said.splitlines() if line.startswith("step ")]
    form = re.compile(
        r"step \d+/24 \| \d+:\d\d elapsed, \d+:\d\d left \| epoch \d\.\d\d \| loss \d\.\d{4} \| lr \d\.\d\de-\d\d \| (?P<rate>[\d,]+ tokens/s \| )?peak \d+\.\d\d GiB (host|gpu)"
    )
    assert [int(line.split()[1].split("/")[0]) for line in lines] == list(range(9, 25))
    assert all(form.fullmatch(line) for line in lines), lines
    assert [bool(form.fullmatch(line)["rate"]) for line in lines] == [False] + [True] * 15, "of the first after a resume it is not known"
    assert "\r" not in interrupted.said and "\x1b" not in interrupted.said


def test_a_terminal_has_one_live_line(interrupted):
    assert "\x1b[?25l" in interrupted.terminal, "the cursor is hidden while it is live"
    assert re.search(r"training .*/24.* left \| epoch .* loss .* tokens/s \| peak", interrupted.terminal)
    assert "step 1/24" not in interrupted.terminal and "{'loss'" not in interrupted.terminal


def test_what_cannot_be_logged_is_refused_before_the_training(small_data, tmp_path):
    result = sft_here(QUICKSTART, *settings(small_data, tmp_path / "run", "training.report_to=[wandb,trackio]"))
    if result.returncode == 0:
        pytest.skip("trackio is installed here: the message for a missing package was NOT tested")
    assert (result.returncode, "Traceback" in result.stderr) == (2, False), result.stderr
    assert "pip install trackio" in result.stderr and "training.report_to=[wandb]" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_training_outlives_wandb(small_data, tmp_path):
    """W&B's own process is killed in the middle of the training."""
    act = 'for child in __import__("psutil").Process().children(recursive=True): child.kill()'
    more = ["training.max_steps=6", "training.logging_steps=1", "training.report_to=wandb", f"model.name_or_path={TINY_MODEL}"]
    result = run_with_fault(tmp_path, at_step(3, act), QUICKSTART, *settings(small_data, tmp_path / "mine", *more))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("the training goes on without it") == 1
    assert "was lost before the end" in result.stdout
    assert json.loads((tmp_path / "mine" / "run.json").read_text())["status"] == "finished"
