"""`lawft sweep`: real trainings of the tiny model in one table and one picture, and what is refused before any of them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import QUICKSTART, ROOT, TINY_MODEL, rows_file, run_lawft

from lawft_trl.errors import InputError
from lawft_trl.evaluation.folder import read_evaluation
from lawft_trl.training.preflight import REHEARSAL
from lawft_trl.training.sweep import _verdict
from lawft_trl.training.sweep_grid import plan_sweep, read_grid

REPORT = {"sweep.md", "sweep.csv", "sweep.json", "sweep.png", "sweep.svg"}


def files(data, *more: str) -> list[str]:
    return [*(f"data.{role}={data}/direct_gold/{role}_*.jsonl" for role in ("train", "dev", "test")), f"model.name_or_path={TINY_MODEL}", *more]


@pytest.mark.slow
def test_two_runs_end_in_one_table_and_one_picture_and_are_kept(small_data, tmp_path):
    command = ["sweep", QUICKSTART, *files(small_data), "training.max_steps=2", "training.logging_steps=1", "training.learning_rate=1e-4,1e-3", "--out", tmp_path / "sweep"]
    said = run_lawft(*command, check=True)
    out = tmp_path / "sweep"
    runs = {"learning_rate=1e-4", "learning_rate=1e-3"}
    assert {path.name for path in out.iterdir()} - {".lock"} == REPORT | runs | {f"{run}.log" for run in runs}
    result = json.loads((out / "sweep.json").read_text(encoding="utf-8"))
    assert result["reference"] == "learning_rate=1e-3" and result["reference_is_usual"], "the recipe's own rate, wherever it stands in the list"
    ids = {json.loads(line)["meta"]["id"] for line in rows_file(small_data, "dev").read_text(encoding="utf-8").splitlines()}
    for row in result["runs"]:
        assert [path.name for path in (out / row["name"] / "eval").iterdir()] == ["dev"], "the held-out questions are not asked"
        evaluation = read_evaluation(out / row["name"] / "eval" / "dev")
        assert set(evaluation.questions) == ids
        assert evaluation.metrics["models"]["tuned"]["accuracy"] == row["accuracy"]
        recipe = json.loads((out / row["name"] / "run.json").read_text(encoding="utf-8"))["identity"]["recipe"]
        assert recipe["training"]["learning_rate"] == float(row["values"]["training.learning_rate"])
    with (out / "sweep.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [(line["training.learning_rate"], line["reference"]) for line in lines] == [("1e-4", "False"), ("1e-3", "True")]
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG") and "learning_rate 1e-3 (ref.)" in (out / "sweep.svg").read_text(encoding="utf-8")
    table = (out / "sweep.md").read_text(encoding="utf-8")
    assert "![Accuracy" in table and "One seed each" in table and f"lawft eval {out / result['best']}" in table
    assert "lawft eval" in said.stdout and "1e-4" in said.stdout and "…" not in said.stdout, "no figure is cut off in a narrow terminal"

    before = {path: path.stat().st_mtime_ns for path in out.glob("*/**/*") if path.is_file()}
    again = run_lawft(*command, check=True)
    assert "2 of 2 runs are finished and kept" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/**/*") if path.is_file()} == before
    changed = run_lawft(*command[:-2], "training.max_steps=3", *command[-2:])
    assert (changed.returncode, changed.stderr.count("training.max_steps: trained with 2, now 3")) == (2, 2)


@pytest.mark.slow
def test_six_rehearsals_interrupted_and_gone_on_with(small_data, tmp_path):
    command = ["sweep", ROOT / "recipes" / "direct_gold.yaml", *files(small_data)[:3], "training.learning_rate=1e-4,1e-3,1e-2", "lora.r=8,16", "--rehearse", "--out", "sweep"]
    out = tmp_path / "sweep"
    with (tmp_path / "said.txt").open("wb") as said:
        process = subprocess.Popen([sys.executable, "-m", "lawft_trl.cli", *map(str, command)], cwd=tmp_path, env=os.environ, stdout=said, stderr=said)
    deadline = time.monotonic() + 400
    while not (out / "learning_rate=1e-4,r=16.log").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert "the same command goes on where it was" in (tmp_path / "said.txt").read_text(encoding="utf-8")
    first = out / "learning_rate=1e-4,r=8" / "run.json"
    before = first.stat().st_mtime_ns

    said = run_lawft(*command, check=True, cwd=tmp_path)
    assert "1 of 6 runs are finished and kept" in said.stderr and first.stat().st_mtime_ns == before
    result = json.loads((out / "sweep.json").read_text(encoding="utf-8"))
    assert len(result["runs"]) == 6 and result["rehearsal"] and not result["failed"]
    assert sum("holm_p_value" in row for row in result["runs"]) == 5, "five comparisons with the reference"
    assert {path.name for path in out.iterdir() if path.is_file()} - {".lock"} >= REPORT
    assert (out / "sweep.md").read_text(encoding="utf-8").startswith("**REHEARSAL")


@pytest.mark.slow
def test_a_run_that_fails_does_not_end_the_others(small_data, tmp_path):
    """GaLore's library is not among those that are installed, which only the trainer finds out."""
    settings = ["training.max_steps=1", "training.optim=galore_adamw,adamw_torch"]
    said = run_lawft("sweep", QUICKSTART, *files(small_data, *settings), "--out", tmp_path / "sweep")
    assert said.returncode == 1
    assert "FAILED: training.optim=galore_adamw: training of training.optim=galore_adamw failed (exit code 1)" in said.stdout
    result = json.loads((tmp_path / "sweep" / "sweep.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in result["runs"]] == ["optim=adamw_torch"] and "nothing to compare" in result["verdict"][0]


def test_commas_in_brackets_and_quotes_belong_to_a_value():
    single, grid = read_grid(["lora.target_modules=[q_proj,v_proj],all-linear", 'pattern.system="a, b"', "training.optim_args='x=1,y=2',null", "training.seed=1"], {})
    assert single == ['pattern.system="a, b"', "training.seed=1"]
    assert grid == {"lora.target_modules": ["[q_proj,v_proj]", "all-linear"], "training.optim_args": ["'x=1,y=2'", "null"]}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["lora.r=8"], ["nothing to sweep: give a key several values"]),
        (["lora.r=8,,16", "training.learning_rate=[1,2"], ["lora.r: an empty value", "training.learning_rate=[1,2: a bracket or a quotation mark"]),
        (["lora.r=8,16,8"], ["lora.r: 8 stands there twice"]),
        (["lora.r=8,16", "lora.r=32"], ["lora.r: given both as a list and as one value"]),
        (["pattern.statutes=none,gold", "data.dev=a,b"], ["pattern.statutes: must be the same for all runs", "data.dev: must be the same"]),
        (["lora.r=8,16", "training.output_dir=x"], ["training.output_dir: every run has a folder of its own"]),
        (["training.max_steps=1,2"], ["training.max_steps: the rehearsal sets it itself"]),
    ],
)
def test_what_cannot_be_swept_is_said_at_once(settings, expected):
    with pytest.raises(InputError) as error:
        read_grid(settings, REHEARSAL)
    for text in expected:
        assert text in str(error.value)


def test_all_combinations_are_checked_before_the_first_is_trained(small_data, tmp_path):
    grid = ["lora.r=16,x", "lora.target_modules=all-linear,[no_such_layer]", "training.max_length=1024,20"]
    with pytest.raises(InputError) as error:
        plan_sweep(QUICKSTART, files(small_data, *grid), {}, tmp_path / "sweep")
    problems = "\n".join(error.value.problems)
    assert "lora.r: expected a whole number, found the string 'x'" in problems
    assert "lora.r=16, lora.target_modules=[no_such_layer], training.max_length=1024; " in problems and "Target modules" in problems
    assert "longer than training.max_length=20" in problems
    for grid, expected in ((["lora.r=8,16", "data.dev=null"], "data.dev: missing; a sweep chooses by dev"), (["lora.r=8,16", "training.push_to_hub=true"], "runs of a sweep are not pushed"), (["training.learning_rate=1e-3,0.001"], "the same recipe as")):
        with pytest.raises(InputError, match=expected):
            plan_sweep(QUICKSTART, files(small_data, *grid), {}, tmp_path / "sweep")
    assert list(tmp_path.iterdir()) == []


def test_values_that_no_folder_can_be_named_after_get_names_of_their_own(small_data, tmp_path):
    plan, dev = plan_sweep(QUICKSTART, files(small_data, "lora.target_modules=[q_proj, v_proj],[v_proj, q_proj],all-linear"), {}, tmp_path)
    names = [combination.name for combination in plan]
    assert len(set(names)) == 3 and names[-1] == "target_modules=all-linear" and all("/" not in name and " " not in name for name in names)
    assert dev == rows_file(small_data, "dev") and [combination.usual for combination in plan] == [False, False, True]


def verdict_of(*verdicts: str) -> str:
    """The sentences on a reference with 40 of 100 right and others with these verdicts."""
    rows = [{"name": "one", "title": "r=8", "correct": 40, "accuracy": 0.4}]
    rows += [
        {"name": f"n{place}", "title": f"r={place}", "correct": 45 + place, "accuracy": 0.45 + place / 100, "difference": 0.05, "holm_p_value": 0.2, "verdict": verdict, "reason": "why", "discordance": 0.3}
        for place, verdict in enumerate(verdicts)
    ]  # fmt: skip
    return " ".join(_verdict({"runs": rows, "reference": "one", "best": rows[-1]["name"], "questions": 100, "rehearsal": False}))


def test_the_verdict_says_whether_anything_is_more_than_chance():
    text = verdict_of("no evidence", "no evidence")
    assert "Highest on dev: r=1 with 46 of 100" in text and "No run differs from r=8 by more than chance" in text and "17 points in 4 of 5" in text
    text = verdict_of("better", "no evidence")
    assert "r=0 is better than r=8" in text and "The highest, r=1, is not among them: why." in text
    assert "not among them" not in verdict_of("worse", "better")
