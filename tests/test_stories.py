"""What a fine-tune can come to, planted and named: a collapse, a lost form, a leak, and a genuine gain.

By the user's own commands, on the bundled tiny model and the sample's questions.
"""

import json
from pathlib import Path

import pytest
from conftest import CPU, QUICKSTART, rows_file, run_lawft, run_sft, settings, sft_here

from lawft_trl.evaluation.folder import read_evaluation


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write(file: Path, rows: list[dict]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def some_groups(rows: list[dict], step: int) -> list[dict]:
    """The rows of every `step`-th group."""
    groups = list(dict.fromkeys(row["meta"]["group"] for row in rows))
    return [row for row in rows if row["meta"]["group"] in groups[::step]]


def train(sample_data: Path, run: Path, train: Path, test: Path, *more: str, launcher: tuple = ()) -> Path:
    files = [f"data.train={train}", f"data.test={test}", "training.per_device_train_batch_size=8"]
    arguments = [QUICKSTART, *settings(sample_data, run, *files, *more)]
    run_sft(*arguments, launcher=launcher, check=True) if launcher else sft_here(*arguments, check=True)
    return run


def evaluate(run: Path, name: str, *options) -> tuple[dict, str, dict]:
    """`lawft eval`: the figures, the report, and the findings by name."""
    run_lawft("eval", run, "--name", name, *options, check=True)
    evaluation = read_evaluation(run / "eval" / name)
    report = (evaluation.path / "report.md").read_text(encoding="utf-8")
    for found in evaluation.metrics["diagnosis"]:
        assert f"- **{found['name']}**: {found['says']}\n  Next: {found['try_next']}" in report
    return evaluation.metrics, report, {found["name"]: found["says"] for found in evaluation.metrics["diagnosis"]}


@pytest.fixture(scope="module")
def held_out(sample_data, tmp_path_factory) -> Path:
    """A fifth of the held-out groups."""
    return write(tmp_path_factory.mktemp("held_out") / "some.jsonl", some_groups(read(rows_file(sample_data, "test")), 5))


def test_a_collapse_to_one_letter_is_foretold_and_named(sample_data, held_out, tmp_path):
    rows = [row for row in some_groups(read(rows_file(sample_data, "train")), 3) if row["output"] == "a"]
    taught = write(tmp_path / "only_a.jsonl", rows)
    assert "letter-skew" in run_lawft("check", taught).stdout
    run = train(sample_data, tmp_path / "run", taught, held_out, "training.max_steps=16", "training.warmup_steps=2")
    metrics, report, found = evaluate(run, "all")
    assert metrics["comparison"]["verdict"] in ("worse", "no evidence")
    assert "**Better.**" not in report
    assert found["label-collapse"].startswith("`a` is the answer to ") and "right for 25.0 %" in found["label-collapse"]
    assert metrics["models"]["tuned"]["letters"]["a"] >= 0.95 * 4 * metrics["models"]["tuned"]["questions"]
    assert "format-loss" not in found and metrics["models"]["tuned"]["label_mass"] > 0.95


@pytest.mark.slow
def test_a_changed_form_is_foretold_and_named(sample_data, held_out, tmp_path):
    rows = [{**row, "output": f"答えは{row['output']}"} for row in read(rows_file(sample_data, "train"))]
    taught = write(tmp_path / "sentences.jsonl", rows)
    assert "letter-asked" in run_lawft("check", taught).stdout
    steps = ("training.max_steps=25", "training.learning_rate=3e-3", "training.warmup_steps=3")
    run = train(sample_data, tmp_path / "run", taught, held_out, *steps)
    metrics, report, found = evaluate(run, "letters")
    assert metrics["models"]["base"]["label_mass"] > 0.95 > 0.5 > metrics["models"]["tuned"]["label_mass"]
    assert metrics["comparison"]["verdict"] != "better" and "**Better.**" not in report
    assert "of the probability after the prompt is on any letter" in found["format-loss"]
    assert "label-collapse" not in found, "which letter leads says little where none has any probability"

    metrics, report, found = evaluate(run, "written", "--scorer", "generate", "--orders", "1")
    assert "are not the bare letter that was asked for" in found["format-loss"]
    assert "は" in found["format-loss"].split("mostly")[1], "the words that were taught are shown"
    assert metrics["models"]["base"]["unparsed"] == 0


@pytest.fixture(scope="module")
def taught(sample_data, tmp_path_factory) -> Path:
    """A run on all training rows, whose `data.test` names some of the same questions; it is allowed to."""
    folder = tmp_path_factory.mktemp("taught")
    rows = [row for row in some_groups(read(rows_file(sample_data, "train")), 8) if row["meta"]["order"] == "abcd"]
    leak = write(folder / "leak.jsonl", rows)
    steps = ("training.max_steps=200", "training.learning_rate=1.5e-3", "training.warmup_steps=20", "data.allow_overlap=true")
    return train(sample_data, folder / "run", rows_file(sample_data, "train"), leak, *steps, launcher=CPU)


@pytest.mark.slow
def test_a_leak_is_the_first_thing_that_is_said_and_no_success(taught):
    metrics, report, found = evaluate(taught, "leak")
    count = metrics["models"]["tuned"]["questions"]
    assert metrics["contaminated"].startswith(f"CONTAMINATED: {count} of {count} held-out questions are in the training rows")
    assert report.splitlines()[0] == f"**{metrics['contaminated']}**"
    assert metrics["comparison"]["verdict"] == "better", "the figures alone would sell it"
    assert "**Better.**" not in report and "**No verdict:**" in report
    assert next(iter(found)) == "contaminated"


@pytest.mark.slow
def test_a_genuine_gain_is_called_better_without_an_alarm(taught, sample_data):
    metrics, report, found = evaluate(taught, "held_out", "--test", rows_file(sample_data, "test"))
    assert (metrics["comparison"]["verdict"], metrics["contaminated"]) == ("better", None)
    assert "**Better.**" in report and "## Diagnosis" not in report
    assert found == {}
    assert metrics["comparison"]["difference"] > 0.15
    check, tuned = metrics["train_check"], metrics["models"]["tuned"]
    assert check["questions"] == 100 and check["accuracy"] > 0.7
    assert set(metrics["label_prior"]) == set("abcd")
    assert f"tuned answers {100 * check['accuracy']:.1f} % right" in report
    own = tuned["one_order"]
    assert f"| {100 * own['as_asked']['accuracy']:.1f} % / {100 * own['debiased']['accuracy']:.1f} % |" in report
