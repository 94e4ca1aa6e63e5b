"""What a run leaves to read: one line for each step, current while it trains, the same whether it was killed or not; resuming by name."""

import csv
import gc
import json
import shutil
import signal
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from conftest import QUICKSTART, ROOT, adapter, rows_file, run_sft, settings
from test_survival import TIMES, at_step, run_with_fault

from lawft_trl.errors import InputError
from lawft_trl.recipe import load_recipe
from lawft_trl.sft import main
from lawft_trl.training.memory import memory_gib, release_memory
from lawft_trl.training.records import best_metric, kept_line, metrics_csv
from lawft_trl.training.stop_signals import join_resume

# Evaluated and logged at the same step (24, and the last) and apart; the loss that is greatest is "best", so that an early checkpoint is
STEPS = [
    "training.max_steps=40",
    "training.per_device_train_batch_size=2",
    "training.logging_steps=8",
    "training.eval_strategy=steps",
    "training.eval_steps=12",
    "training.save_strategy=steps",
    "training.save_steps=12",
    "training.save_total_limit=2",
    "training.load_best_model_at_end=true",
    "training.metric_for_best_model=eval_loss",
    "training.greater_is_better=true",
    "training.torch_empty_cache_steps=5",
    "evaluation.orders=1",
]


def lines_of(run: Path) -> list[dict[str, str]]:
    with (run / "training_metrics.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def lasting(lines: list[dict[str, str]]) -> list[dict[str, str]]:
    """Without the columns of time and memory."""
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def summary_of(run: Path) -> dict:
    return json.loads((run / "training_summary.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def killed(sample_data, tmp_path_factory) -> SimpleNamespace:
    """A run of forty steps, and the same killed with SIGKILL before its 31st step: the folders as they were left."""
    folder = tmp_path_factory.mktemp("records")
    for role, count in (("train", 24), ("dev", 12)):
        lines = rows_file(sample_data, role).read_text(encoding="utf-8").splitlines()[:count]
        (folder / f"{role}.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    files = [f"data.train={folder}/train.jsonl", f"data.dev={folder}/dev.jsonl", "data.test=null"]
    arguments = [*settings(sample_data, Path("unset")), *files, *STEPS]
    said = run_sft(QUICKSTART, *arguments, f"training.output_dir={folder}/whole", check=True).stdout
    assert "\nKept:    step 12 (loss " in said
    ended = run_with_fault(folder, at_step(30, "os.kill(os.getpid(), signal.SIGKILL)"), QUICKSTART, *arguments, f"training.output_dir={folder}/run")
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return SimpleNamespace(arguments=arguments, whole=folder / "whole", work=folder / "run.unfinished")


def left_behind(killed: SimpleNamespace, folder: Path) -> list[str]:
    """A copy of what the killed run left, and the recipe's overrides for it."""
    shutil.copytree(killed.work, folder / "run.unfinished")
    record = folder / "run.unfinished" / "run.json"
    text = record.read_text(encoding="utf-8")
    for file in (folder / "run.unfinished").glob("**/trainer_state.json"):
        file.write_text(file.read_text(encoding="utf-8").replace(str(killed.work), str(folder / "run.unfinished")), encoding="utf-8")
    record.write_text(text.replace(str(killed.work.with_suffix("")), str(folder / "run")), encoding="utf-8")
    return [*killed.arguments, f"training.output_dir={folder}/run"]


@pytest.mark.slow
def test_the_files_are_current_when_a_run_is_killed(killed):
    lines = lines_of(killed.work)
    assert [int(line["step"]) for line in lines] == [0, 8, 12, 16, 24]
    assert lines[2]["eval_loss"] and lines[2]["eval_letter_accuracy"] and not lines[2]["loss"]
    assert all(float(line["memory_rss_gib"]) > 0.1 for line in lines[1:])
    summary = summary_of(killed.work)
    assert (summary["steps"], summary["best_metric_step"], summary["kept_step"]) == (24, 12, 12)
    assert (killed.work / "training_progress.png").read_bytes()[:4] == b"\x89PNG"
    assert not list(killed.work.glob(".*")), "nothing half-written"


@pytest.mark.slow
def test_a_resumed_run_tells_the_same_as_one_that_was_not_killed(killed, tmp_path):
    arguments = left_behind(killed, tmp_path)
    run, whole = tmp_path / "run", killed.whole
    run_sft(QUICKSTART, *arguments, "--resume", check=True)
    assert lasting(lines_of(run)) == lasting(lines_of(whole))
    assert [int(line["step"]) for line in lines_of(run)] == [0, 8, 12, 16, 24, 32, 36, 40]
    assert [line["step"] for line in lines_of(run) if line["loss"] and line["eval_loss"] and line["eval_letter_accuracy"]] == ["24", "40"]
    ours, theirs = summary_of(run), summary_of(whole)
    same = ("steps", "epochs", "rows", "kept_step", "first_loss", "last_loss", "best_loss", "best_metric_name", "best_metric", "best_metric_step")
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert (ours["resumed_from_step"], theirs["resumed_from_step"]) == (24, None)
    for part in ("", "checkpoint-40"):
        mine, other = adapter(run / part), adapter(whole / part)
        assert all(torch.equal(mine[name], other[name]) for name in other)


@pytest.mark.slow
def test_the_best_checkpoint_survives_the_limit_and_is_what_is_kept(killed):
    whole = killed.whole
    assert {path.name for path in whole.glob("checkpoint-*")} == {"checkpoint-12", "checkpoint-40"}
    state = json.loads((whole / "checkpoint-40" / "trainer_state.json").read_text(encoding="utf-8"))
    summary = summary_of(whole)
    assert (summary["best_metric"], summary["best_metric_step"]) == (state["best_metric"], state["best_global_step"])
    assert (summary["kept_step"], summary["best_metric_step"]) == (12, 12)
    best, last, kept = adapter(whole / "checkpoint-12"), adapter(whole / "checkpoint-40"), adapter(whole)
    assert all(torch.equal(best[name], kept[name]) for name in kept)
    assert not all(torch.equal(last[name], kept[name]) for name in kept)


def test_the_kept_step_is_said():
    summary = {"kept_step": 20, "best_metric_name": "eval_socratic_style", "best_metric": 0.64, "best_metric_step": 20}
    assert kept_line(summary) == "Kept:    step 20 (socratic_style 0.640)"
    assert kept_line(summary | {"kept_step": 40}) == "Kept:    step 40 (no checkpoint of step 20, the best, was left)"


@pytest.mark.slow
def test_a_named_checkpoint_is_gone_on_from_and_later_ones_go_only_by_force(killed, tmp_path):
    """The files that were left tell of steps behind it, which appear once."""
    arguments = left_behind(killed, tmp_path)
    work = tmp_path / "run.unfinished"
    done = run_sft(QUICKSTART, "--resume", "checkpoint-12", *arguments, "--force", check=True)
    assert f"{work}/checkpoint-24: removed, the run goes on from checkpoint-12" in done.stdout
    assert f"Resuming from {work}/checkpoint-12" in done.stdout
    assert lasting(lines_of(tmp_path / "run")) == lasting(lines_of(killed.whole))
    mine, other = adapter(tmp_path / "run" / "checkpoint-40"), adapter(killed.whole / "checkpoint-40")
    assert all(torch.equal(mine[name], other[name]) for name in other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("checkpoint-99", [], ["there is no such checkpoint", "there is checkpoint-12", "there is checkpoint-24"]),
        ("/elsewhere/run.unfinished/checkpoint-12", [], ["is not in this run's folder"]),
        ("checkpoint-12", [], ["later checkpoints than checkpoint-12 are there: checkpoint-24", "--force removes them"]),
        ("checkpoint-18", [], ["it was not written whole (trainer_state.json is missing)", "there is checkpoint-18, which is not whole"]),
        ("checkpoint-24", ["training.learning_rate=1e-5"], ["training.learning_rate: begun with 0.001, now 1e-05"]),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(killed, tmp_path, monkeypatch, name, more, expected):
    arguments = left_behind(killed, tmp_path)
    (tmp_path / "run.unfinished" / "checkpoint-18").mkdir()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError) as refused:
        main(load_recipe(QUICKSTART, [*arguments, *more]), resume=name)
    assert all(text in str(refused.value) for text in expected), refused.value
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("r.yaml --resume", "r.yaml --resume=latest"),
        ("r.yaml --resume training.max_steps=3", "r.yaml --resume=latest training.max_steps=3"),
        ("--resume r.yaml a.b=1", "--resume=latest r.yaml a.b=1"),
        ("r.yaml --resume --force", "r.yaml --resume=latest --force"),
        ("r.yaml --resume checkpoint-20 a.b=1", "r.yaml --resume=checkpoint-20 a.b=1"),
        ("r.yaml --resume runs/lr=1e-4.unfinished/checkpoint-20", "r.yaml --resume=runs/lr=1e-4.unfinished/checkpoint-20"),
        ("r.yaml --resume=checkpoint-20", "r.yaml --resume=checkpoint-20"),
        ("r.yaml a.b=1", "r.yaml a.b=1"),
    ],
)
def test_what_follows_resume_is_told_apart(typed, read):
    assert join_resume(typed.split()) == read.split()


def test_a_run_without_evaluations_or_saves_has_its_records(trained):
    assert [int(line["step"]) for line in lines_of(trained)] == [1, 2, 3]
    assert all(line["loss"] and line["learning_rate"] and line["memory_rss_gib"] for line in lines_of(trained))
    summary = summary_of(trained)
    assert (summary["best_metric_name"], summary["best_metric"], summary["best_metric_step"]) == (None, None, None)
    losses = [float(line["loss"]) for line in lines_of(trained)]
    assert (summary["best_loss"], summary["last_loss"]) == (min(losses), losses[-1])
    assert summary["kept_step"] == summary["steps"] == 3 and summary["minutes"] > 0


def test_columns_and_lines():
    empty = metrics_csv([])
    assert empty.split() == ["step,epoch,loss,learning_rate"]
    log = [
        {"eval_letter_accuracy": 0.25, "epoch": 0, "step": 0},
        {"loss": 2.0, "memory_rss_gib": 1.0, "learning_rate": 0.1, "epoch": 0.5, "step": 2},
        {"eval_loss": 1.5, "memory_rss_gib": 1.2, "epoch": 0.5, "step": 2},
        {"eval_socratic_style": 0.4, "epoch": 0.5, "step": 2},
        {"train_loss": 2.0, "epoch": 0.5, "step": 2},
    ]
    header, before, second = metrics_csv(log).split()
    assert header == "step,epoch,loss,learning_rate,eval_loss,eval_socratic_style,eval_letter_accuracy,train_loss,memory_rss_gib"
    assert before == "0,0,,,,,0.25,," and second == "2,0.5,2.0,0.1,1.5,0.4,,2.0,1.2"


def test_which_metric_is_followed():
    log = [
        {"step": 0, "eval_letter_accuracy": 0.9},
        *({"step": step, "eval_loss": loss, "eval_socratic_style": style} for step, loss, style in ((1, 3.0, 0.1), (2, 1.0, 0.5), (3, 2.0, 0.5))),
        {"step": 3, "eval_loss": float("nan")},
    ]
    assert list(best_metric(log, None, greater_is_better=None).values()) == ["eval_socratic_style", 0.5, 2], "step 0 counts for nothing, the first of equals does"
    assert list(best_metric(log, "loss", greater_is_better=False).values()) == ["eval_loss", 1.0, 2]
    assert list(best_metric(log, "eval_loss", greater_is_better=True).values()) == ["eval_loss", 3.0, 1]
    assert list(best_metric(log[:1], "loss", greater_is_better=False).values()) == [None, None, None]


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's: that freed memory goes back was NOT tested")
def test_memory_is_really_released():
    """What only a circle holds, and 300 MB in small pieces below one that stays."""

    class Node:
        pass

    node = Node()
    node.itself, there = node, weakref.ref(node)
    gc.disable()
    try:
        pieces = [bytearray(30_000) for _ in range(10_000)]
        kept = pieces.pop()
        full = psutil.Process().memory_info().rss
        del pieces, node
        assert there() is not None
        release_memory()
    finally:
        gc.enable()
    assert there() is None
    assert full - psutil.Process().memory_info().rss > 250_000_000
    assert len(kept) == 30_000 and memory_gib()["memory_rss_gib"] > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: its columns were NOT tested")
def test_memory_of_a_gpu():
    held = torch.ones(2**28, device="cuda")
    found = memory_gib()
    assert found["memory_gpu_peak_gib"] >= found["memory_gpu_allocated_gib"] >= held.nbytes / 2**30 == 1
    assert found["memory_gpu_reserved_gib"] >= found["memory_gpu_allocated_gib"]
