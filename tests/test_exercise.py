"""`scripts/exercise.sh`, the whole exercise against a real `lawft serve-jobs`: what it leaves behind, and what it must not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import ROOT

from lawft_trl.data.legal_pairs import LEGAL_PAIRS, read_pairs
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.rows import read_rows

SCRIPT = ROOT / "scripts" / "exercise.sh"
ADDED = ROOT / "scripts" / "exercise_pairs.jsonl"
STEPS = ("課題1-1", "課題1-2", "課題2-1", "課題2-2", "課題3-1", "課題3-2", "課題4-1", "課題4-2")


def run_script(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    small = {"EXERCISE_EPOCHS": "2", "EXERCISE_TOKENS": "48", "EXERCISE_LIMIT": "2", "OMP_NUM_THREADS": "1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **small, "PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", str(SCRIPT), *words], cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8")


def of_the_exercise(folder: Path) -> list[str]:
    """Command lines of the processes that have the folder in them or in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            if str(folder) in words or str(folder) in process.environ().get("LAWFT_JOBS_FOLDER", ""):
                found.append(words)
        except psutil.Error:
            continue
    return found


def record(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_written_pairs_have_no_faults_and_are_new():
    assert len({pair.kind for pair in read_pairs(ADDED)}) == 4
    assert not find_overlaps(read_rows(ADDED), read_rows(LEGAL_PAIRS))


@pytest.mark.parametrize("words", [("mine",), ("mine", "--force"), ("--what",)])
def test_nothing_of_others_is_replaced(tmp_path, words):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", encoding="utf-8")
    done = run_script(tmp_path, *words)
    assert done.returncode == 2 and done.stdout == "" and done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]


@pytest.mark.slow
def test_the_exercise_from_data_to_the_assistant(tmp_path):
    done = run_script(tmp_path)
    folder = tmp_path / "exercise"
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert all(f"== {step} " in done.stdout for step in STEPS)
    assert of_the_exercise(folder) == []
    assert [path.name for path in tmp_path.iterdir()] == ["exercise"]

    jobs = [record(folder / name) for name in ("job.json", "job2.json")]
    assert [job["state"] for job in jobs] == ["succeeded", "succeeded"]
    assert [job["tuned_model"].split(":")[3] for job in jobs] == ["houmu", "houmu2"]
    for job in jobs:
        losses = [found["train_loss"] for found in job["metrics"] if "train_loss" in found]
        assert losses[-1] < losses[0] - 0.5, "it learned"

    answers = record(folder / "answers.json")
    assert list(answers) == ["tiny", jobs[0]["tuned_model"]] and len(set(answers.values())) == 2
    wrapper = record(folder / "wrapper.json")
    assert [turn["role"] for turn in wrapper["history"]] == ["user", "assistant"] * 2
    assert list(wrapper["failure"]) == ["ModelMissing"]
    assert list(wrapper["json"]) in (["UnreadableAnswer"], ["issue", "article"])

    metrics = {name: record(folder / "assessments" / name / "metrics.json") for name in ("first", "second", "strategies")}
    assert {name: (found["pairs"], found["contaminated"]) for name, found in metrics.items()} == {"first": (14, None), "second": (14, None), "strategies": (2, None)}
    assert all("not checked" not in found["overlap"] for found in metrics.values())
    assert [found["models"]["tuned"]["name"] for found in metrics.values()] == [jobs[0]["tuned_model"], jobs[1]["tuned_model"], jobs[1]["tuned_model"]]
    assert metrics["strategies"]["strategies"] == ["plain", "system", "few_shot", "cot", "few_shot_cot"]
    assert metrics["second"]["against"]["comparisons"]
    assert "expertise: " in done.stdout and "expertise since " in done.stdout, "the verdict, and that of the comparison"
    assert all((folder / "assessments" / name / "report.md").is_file() for name in metrics)

    (train,), (held_out,) = folder.glob("data/dialogue/train_*.jsonl"), folder.glob("data/dialogue/test_*.jsonl")
    (improved,) = folder.glob("improved/train_*.jsonl")
    rows = read_rows(improved)
    assert len(rows) >= len(read_rows(train)) + 4 and not find_overlaps(rows, read_rows(held_out))
    assert len((folder / "improved" / "openai_train.jsonl").read_text(encoding="utf-8").splitlines()) == len(rows)

    for name in ("review.md", "risks.md", "draft.md"):
        assert "弁護士法第72条" in (folder / name).read_text(encoding="utf-8"), name
    assert "株式会社甲野" in (folder / "draft.md").read_text(encoding="utf-8")
    assert (folder / "answer.docx").read_bytes().startswith(b"PK")

    key = (folder / "jobs" / "api_key").read_text(encoding="utf-8").strip()
    assert len(key) > 20 and key not in done.stdout + done.stderr
    holders = [path for path in folder.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert holders == [folder / "jobs" / "api_key"]
