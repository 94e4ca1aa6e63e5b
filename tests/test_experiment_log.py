"""`experiment.md` and `lawft log`, on small run folders made as the launcher and the evaluation make them."""

import argparse
import contextlib
import csv
import io
import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from conftest import NF4, QUICKSTART, run_lawft
from hypothesis import given, settings
from hypothesis import strategies as st

from lawft_trl.commands import log
from lawft_trl.errors import InputError
from lawft_trl.evaluation.metrics import Prediction, compare, describe_model
from lawft_trl.evaluation.paired import holm
from lawft_trl.evaluation.run_list import list_runs
from lawft_trl.experiment_log import _BEGIN, _END, read_metrics, write_experiment
from lawft_trl.folders import write_json
from lawft_trl.recipe import load_recipe
from lawft_trl.run_dir import begin, finish, identity, unfinished

ENVIRONMENT = {
    "commit": {"id": "0123456789abcdef0123456789abcdef01234567", "uncommitted_changes": True},
    "versions": {"lawft-trl": "0.1.0", "trl": "1.16.0"},
    "hardware": {"machine": "x86_64", "cpus": 2, "gpus": ["NVIDIA GeForce RTX 3080"]},
}
RESULTS = {"steps": 3, "epochs": 0.04, "rows": 1120, "minutes": 1.25, "rows_per_second": 11.8, "peak_memory_gib": {"host": 1.1, "gpu": 7.5}, "first_loss": 3.9, "last_loss": 0.7}  # fmt: skip
SECTIONS = ["実験ID", "日時", "GitのコミットID", "使用モデル名", "使用した JSONL ファイル", "主要ハイパーパラメータ", "学習時間", "学習後に実行した評価コマンドと結果", "所感・次のアクション"]  # fmt: skip


def make_run(folder: Path, name: str = "direct", *, is_finished: bool = True, overrides: tuple = (), **record) -> Path:
    """A run's records, without its adapter, by the functions that the launcher calls."""
    train = folder / "train.jsonl"
    train.write_text('{"input": "問", "output": "a"}\n\n{"input": "問", "output": "b"}\n', encoding="utf-8")
    recipe, target = load_recipe(QUICKSTART, overrides), folder / name
    known = identity(recipe, {"train": [train]}, "f" * 64, 1)
    whole = {"identity": known, "command": ["lawft_trl/sft.py", "recipes/tiny direct.yaml"], "environment": ENVIRONMENT, "overlap": "none"}
    begin(target, recipe, whole | record)
    if is_finished:
        finish(unfinished(target), target, RESULTS)
    return target


def figures(base: str, tuned: str) -> dict:
    """`models` and `comparison` for questions whose gold answers are all `a`, each in one order."""
    asked = {
        model: [
            Prediction(id=str(n), group=str(n), order="abcd", prompt_sha256=str(n), letter=letter, letter_logprobs=None, gold="a", known_issue=False)
            for n, letter in enumerate(letters)
        ]
        for model, letters in (("base", base), ("tuned", tuned))
    }
    models = {model: describe_model(predictions, seed=0) for model, predictions in asked.items()}
    return {"models": models, "comparison": compare(asked["base"], asked["tuned"], seed=0)}


def make_metrics(base: str = "b" * 30, tuned: str = "a" * 24 + "b" * 6, **changes) -> dict:
    metrics = {"run": "direct", "model": "tiny", "scorer": "letters", "answer": "direct", "statutes": "gold", "test_file": "data/test_30.jsonl"}
    metrics |= {"test_sha256": "c" * 64, "asked": "30 questions in one order each", "contaminated": None, "rehearsal": False, "warnings": []}
    return metrics | figures(base, tuned) | {"diagnosis": []} | changes


def evaluate(run: Path, name: str = "test_30", **changes) -> Path:
    folder = run / "eval" / name
    folder.mkdir(parents=True)
    write_json(folder / "metrics.json", make_metrics(**changes))
    return folder


def experiment(run: Path) -> str:
    write_experiment(run)
    return (run / "experiment.md").read_bytes().decode()


def lawft_log(*arguments) -> str:
    """What the verb prints; through its own parser, without the start of a new Python."""
    parser = argparse.ArgumentParser()
    log.add(parser.add_subparsers())
    options = parser.parse_args(["log", *map(str, arguments)])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        options.run(options)
    return printed.getvalue()


# experiment.md


def test_all_sections_of_the_template_are_filled_in(tmp_path):
    run = make_run(tmp_path, started="2025-11-23T11:08:22+09:00")
    evaluate(run, command=["/usr/bin/lawft", "eval", "runs/direct", "--name", "two words"])
    text = experiment(run)
    assert [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")] == SECTIONS
    for shown in (
        "`direct`",
        "2025-11-23 11:08:22+09:00",
        "`0123456789abcdef0123456789abcdef01234567`（**未コミットの変更あり**）",
        "lawft_trl/assets/tiny_model",
        "量子化: なし",
        "16 / 32 / 0.05",
        "16 × 1 × 1 = 16（実効バッチサイズ）",
        "320 ステップ (max_steps)",
        "all-linear",
        "fp32 / float32",
        "1.2 分（途中の評価を含む）、3 ステップ",
        "gpu 7.50 GiB",
        "NVIDIA GeForce RTX 3080",
        "    accelerate launch lawft_trl/sft.py 'recipes/tiny direct.yaml'",
        "    lawft eval runs/direct --name 'two words'",
        "| base | 0.0 % (0/30) |",
        "| tuned | 80.0 % (24/30) |",
        "+80.0 ポイント",
        "改善 (better)",
        "eval/test_30/report.md",
    ):
        assert shown in text, shown


def test_files_are_named_with_hash_and_rows_and_a_changed_one_is_not_counted(tmp_path):
    run = make_run(tmp_path)
    row = next(line for line in experiment(run).splitlines() if line.startswith("| train |"))
    recorded = json.loads((run / "run.json").read_text())["identity"]["data"]["train"][0]["sha256"]
    assert f"`{recorded[:12]}`" in row and row.endswith("| 2 |")
    (tmp_path / "train.jsonl").write_text("{}\n{}\n{}\n")
    assert "学習後に変更された" in experiment(run)
    (tmp_path / "train.jsonl").unlink()
    assert "ファイルがない" in experiment(run)


def test_hyperparameters_the_recipe_leaves_out_are_the_libraries_defaults(tmp_path):
    changes = ("training.max_steps=-1", "training.use_cpu=false", "training.bf16=null", "training.gradient_accumulation_steps=4", *NF4)
    text = experiment(make_run(tmp_path, overrides=changes))
    assert "| 学習の長さ | 3.0 エポック |" in text
    assert "16 × 4 × 1 = 64（実効バッチサイズ）" in text
    assert "| 計算精度 / 重みの型 | bf16 / float32 |" in text, "TRL's own default"
    assert "量子化: load_in_4bit=True" in text


def test_a_run_without_evaluation_suggests_one_and_one_with_a_diagnosis_its_next_steps(tmp_path):
    run = make_run(tmp_path)
    assert f"評価していない: `lawft eval {run}`" in experiment(run)
    found = {"name": "label collapse", "says": "…", "try_next": "permute the choices"}
    evaluate(run, "first", diagnosis=[found])
    evaluate(run, "second", diagnosis=[found])
    text = experiment(run)
    assert "評価していない" not in text
    assert text.count("permute the choices") == 1


def test_contamination_rehearsal_and_warnings_are_said(tmp_path):
    run = make_run(tmp_path, rehearsal=True)
    evaluate(run, contaminated="CONTAMINATED: 3 of 30", warnings=["Only the first 8 of 30."])
    text = experiment(run)
    assert "> **CONTAMINATED: 3 of 30**" in text and "> **Only the first 8 of 30.**" in text
    assert "リハーサル" in text.split("## 実験ID")[0]
    assert "--rehearse なし" in text


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "{}", '{"models": {"base": {}}}', '{"models": {"base": 5}, "comparison": 7}', '{"models": [1]}', "\xff", '{"models": {}, "warnings": 3}'],
)
def test_a_damaged_evaluation_is_a_line_and_the_others_stay(tmp_path, damage):
    run = make_run(tmp_path)
    evaluate(run, "good")
    (evaluate(run, "bad") / "metrics.json").write_bytes(damage.encode("latin-1"))
    text = experiment(run)
    assert "評価結果を読めませんでした。" in text and "bad/metrics.json" in text
    assert "80.0 % (24/30)" in text
    with pytest.raises(InputError, match="metrics.json"):
        read_metrics(run / "eval" / "bad")


def test_every_fault_of_the_metrics_is_named(tmp_path):
    run = make_run(tmp_path)
    metrics = make_metrics()
    del metrics["models"]["tuned"]["interval"]
    metrics["comparison"] |= {"p_value": "0.1", "verdict": None}
    folder = evaluate(run)
    write_json(folder / "metrics.json", metrics)
    with pytest.raises(InputError) as error:
        read_metrics(folder)
    assert error.value.problems == ["models.tuned.interval: expected two numbers", "comparison.p_value: expected a number", "comparison.verdict: expected a text"]


def test_one_model_alone_is_shown_without_a_comparison(tmp_path):
    run = make_run(tmp_path)
    metrics = make_metrics()
    evaluate(run, models={"tuned": metrics["models"]["tuned"]}, comparison=None)
    text = experiment(run)
    assert "| tuned | 80.0 % (24/30) |" in text and "判定" not in text


@pytest.mark.parametrize("content", ["{", "5", '{"status": "finished"}', '{"status": "finished", "identity": {"recipe": []}}', '{"status": "unfinished"}'])
def test_a_damaged_run_is_an_input_error(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=str(tmp_path)):
        write_experiment(tmp_path)
    assert not (tmp_path / "experiment.md").exists()


# What the person wrote


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    run = make_run(tmp_path_factory.mktemp("written"))
    evaluate(run)
    write_experiment(run)
    return run


def with_notes(run: Path, notes: str) -> bytes:
    """The file as a person leaves it who replaced the empty part."""
    text = (run / "experiment.md").read_bytes().decode()
    return (text.split(_BEGIN)[0] + f"{_BEGIN}\n{notes}\n{_END}\n").encode()


texts = st.lists(st.one_of(st.text(), st.sampled_from([_BEGIN, _END, "\n", "\r\n", "## 所感・次のアクション", "# 実験ログ", "\ufeff", "`|<!--"])), max_size=8).map("".join)


@given(texts)
@settings(max_examples=300, deadline=None)
def test_notes_are_kept_to_the_letter(written, notes):
    file = written / "experiment.md"
    file.write_bytes(with_notes(written, notes))
    before = file.read_bytes()
    write_experiment(written)
    assert file.read_bytes() == before, "nothing of the run has changed, so nothing of the file"


@given(texts)
@settings(max_examples=300, deadline=None)
def test_a_file_with_broken_marks_loses_nothing(written, content):
    """Whatever stands in the file, and however often it is written anew."""
    file = written / "experiment.md"
    file.write_bytes(content.encode())
    for _ in range(2):
        write_experiment(written)
        kept = file.read_bytes().decode()
        first, end = content.removeprefix("\ufeff").partition(_BEGIN)[2], kept.rindex(_END)
        if _BEGIN not in content:
            assert content.removeprefix("\ufeff").strip() in kept[:end]
        elif _END in first:
            notes, _, behind = first.rpartition(_END)
            assert notes.strip() in kept[:end] and behind.strip() in kept[:end]
        else:
            assert first.strip() in kept[:end]


def test_text_below_the_last_mark_is_taken_in_once(written):
    file = written / "experiment.md"
    file.write_bytes(with_notes(written, "上") + "下に書いた\n".encode())
    write_experiment(written)
    once = file.read_bytes()
    write_experiment(written)
    assert file.read_bytes() == once
    assert once.decode().index("下に書いた") < once.decode().rindex(_END)


def test_notes_saved_as_shift_jis_or_as_no_text_at_all_are_kept(written):
    file = written / "experiment.md"
    file.write_bytes(with_notes(written, "学習率を下げる").decode().replace("±", "").replace("—", "―").encode("cp932"))
    write_experiment(written)
    assert f"{_BEGIN}\n学習率を下げる\n{_END}" in file.read_bytes().decode()
    file.write_bytes(b"\xff\xfe\x81 notes \xa0\xff")
    write_experiment(written)
    assert "\\xff\\xfe" in file.read_bytes().decode() and " notes " in file.read_bytes().decode()


def test_no_value_of_a_run_can_pass_for_the_marks(tmp_path):
    run = make_run(tmp_path, command=["sft.py", _BEGIN, _END], started=_BEGIN)
    evaluate(run, warnings=[_END], contaminated=_BEGIN)
    text = experiment(run)
    assert text.count(_BEGIN) == text.count(_END) == 1
    assert experiment(run) == text


# lawft log


def test_one_line_per_evaluation_and_holm_over_all_of_them(tmp_path):
    old = make_run(tmp_path, "old", started="2025-01-01T09:00:00+09:00")
    new = make_run(tmp_path, "new", started="2025-02-01T00:00:00+00:00")
    make_run(tmp_path, "bare", started="2025-01-31T23:00:00-02:00")  # an hour after `new`
    evaluate(old, "a", tuned="a" * 8 + "b" * 22)
    evaluate(new, "a", tuned="a" * 6 + "b" * 24)
    evaluate(new, "b", tuned="a" * 5 + "b" * 25)
    found = list_runs([tmp_path, new])
    assert [(entry["experiment"], entry["evaluation"]) for entry in found.entries] == [("old", "a"), ("new", "a"), ("new", "b"), ("bare", None)]
    raw = [entry["p_value"] for entry in found.entries[:3]]
    assert raw == pytest.approx([2 / 2**8, 2 / 2**6, 2 / 2**5])
    assert [entry["p_holm"] for entry in found.entries] == [*holm(raw), None]
    assert found.entries[0]["base"] == 0 and found.entries[0]["tuned"] == pytest.approx(8 / 30)
    assert found.entries[3]["verdict"] is None and found.entries[3]["pattern"] == "direct/gold"


def test_rehearsals_are_marked_or_left_out_with_their_p_values(tmp_path):
    evaluate(make_run(tmp_path, "real"))
    evaluate(make_run(tmp_path, "rehearsal/real", rehearsal=True), rehearsal=True)
    assert [entry["rehearsal"] for entry in list_runs([tmp_path]).entries] == [False, True]
    (entry,) = list_runs([tmp_path], rehearsals=False).entries
    assert entry["p_holm"] == entry["p_value"]
    assert "REHEARSAL" in lawft_log(tmp_path) and "REHEARSAL" not in lawft_log(tmp_path, "--no-rehearsals")
    with pytest.raises(InputError) as error:
        list_runs([tmp_path / "rehearsal"], rehearsals=False)
    assert error.value.problems == ["--no-rehearsals left out 1 rehearsal(s)"]


def test_cross_validations_are_listed_and_their_folds_are_not(tmp_path):
    fold = make_run(tmp_path, "cv/fold_1")
    evaluate(fold)
    write_json(tmp_path / "cv" / "metrics.json", make_metrics(cross_validation={"folds": 5}))
    (entry,) = list_runs([tmp_path]).entries
    assert (entry["experiment"], entry["evaluation"], entry["model"], entry["pattern"]) == ("cv", "cross-validation", "tiny", "direct/gold")
    assert entry["tuned"] == pytest.approx(0.8) and entry["verdict"] == "better"
    assert "cross-validation" in lawft_log(tmp_path)


def test_unfinished_and_damaged_runs_are_named_and_do_not_stop_the_others(tmp_path):
    good = make_run(tmp_path, "good")
    evaluate(good)
    (evaluate(good, "broken") / "metrics.json").write_text("{")
    make_run(tmp_path, "begun", is_finished=False)
    (make_run(tmp_path, "torn") / "run.json").write_text('{"status": "fin')
    (tmp_path / ".good.1.old").mkdir()
    shutil.copy(good / "run.json", tmp_path / ".good.1.old")
    for form in ([], ["--markdown"]):
        printed = lawft_log(tmp_path, *form)
        assert "better" in printed and "not readable" in printed
        assert f"Not readable: {good / 'eval/broken/metrics.json'}: not JSON" in printed
        assert f"Not readable: {tmp_path / 'torn/run.json'}: not JSON" in printed
        assert f"Not finished (repeat the command with --resume): {tmp_path / 'begun.unfinished'}" in printed
        assert ".old" not in printed


def test_where_no_runs_are_the_message_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="no such folder") as error:
        lawft_log(tmp_path / "one", tmp_path / "two")
    assert len(error.value.problems) == 3 and "lawft log FOLDER" in error.value.problems[-1]
    with pytest.raises(InputError, match="no finished run below") as error:
        lawft_log(tmp_path)
    assert "train one" in str(error.value)
    make_run(tmp_path, is_finished=False)
    with pytest.raises(InputError, match=r"direct\.unfinished: not finished; repeat its command with --resume"):
        lawft_log(tmp_path)


def test_the_command_line_ends_with_2_where_no_runs_are(tmp_path):
    result = run_lawft("log", cwd=tmp_path)
    assert result.returncode == 2
    assert "runs: no such folder" in result.stderr and "Traceback" not in result.stderr


def test_the_terminal_shows_the_key_columns_in_80_characters(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    evaluate(make_run(tmp_path, "direct_norag_qwen3"), contaminated="CONTAMINATED: 3 of 30")
    printed = lawft_log(tmp_path)
    assert all(len(line) <= 80 for line in printed.splitlines() if not line.startswith(("CONTAMINATED", "Holm")))
    for shown in ("direct_norag_qwen3", "test_30", "30", "0.0", "80.0", "+80.0", "no verdict", "CONTAMINATED"):
        assert any(shown in line for line in printed.splitlines()), shown
    assert "CONTAMINATED direct_norag_qwen3 · test_30: CONTAMINATED: 3 of 30" in printed


def test_markdown_has_one_cell_per_column_whatever_the_names(tmp_path):
    run = make_run(tmp_path, "a|b \\ [赤]")
    evaluate(run, "x|y", contaminated="3 of 30")
    lines = lawft_log(tmp_path, "--markdown").splitlines()
    table = lines[: lines.index("")]
    assert len(table) == 3
    cells = [len(line.replace("\\\\", "").replace("\\|", "").split("|")) for line in table]
    assert len(set(cells)) == 1
    assert table[2].startswith("| a\\|b \\\\ [赤] |") and "| x\\|y |" in table[2] and table[2].endswith("| no verdict | CONTAMINATED |")


def test_the_csv_opens_in_a_spreadsheet_with_full_precision(tmp_path):
    evaluate(make_run(tmp_path, '条文, "あり"'), tuned="a" * 10 + "b" * 20)
    out = tmp_path / "log.csv"
    assert f"Written: {out}" in lawft_log(tmp_path, "--csv", out)
    assert out.read_bytes().startswith(b"\xef\xbb\xbf")
    with out.open(encoding="utf-8-sig", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["experiment"] == '条文, "あり"' and float(row["tuned"]) == 1 / 3 and row["contaminated"] == ""
    before = out.read_bytes()
    with pytest.raises(InputError, match="--force"):
        lawft_log(tmp_path, "--csv", out)
    assert out.read_bytes() == before
    lawft_log(tmp_path, "--csv", out, "--force")


def test_all_faults_of_the_output_files_are_named_before_anything_is_written(tmp_path):
    evaluate(make_run(tmp_path))
    with pytest.raises(InputError) as error:
        lawft_log(tmp_path, "--figure", tmp_path / "log.png", "--csv", tmp_path / "no" / "log.csv")
    assert [problem.split()[0] for problem in error.value.problems] == ["--csv", "--figure"]
    assert "log.svg" in str(error.value)
    assert not list(tmp_path.glob("log.*"))


def test_the_figure_names_every_evaluated_run(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: the figure was NOT tested")
    evaluate(make_run(tmp_path, "first"))
    evaluate(make_run(tmp_path, "second", rehearsal=True))
    make_run(tmp_path, "bare")
    lawft_log(tmp_path, "--figure", tmp_path / "log.svg")
    drawn = "".join(ET.parse(tmp_path / "log.svg").getroot().itertext())
    assert "first · test_30" in drawn and "second · test_30 REHEARSAL" in drawn and "bare" not in drawn


def test_a_figure_of_runs_without_evaluations_is_refused(tmp_path):
    make_run(tmp_path, "bare")
    with pytest.raises(InputError, match="nothing to draw"):
        lawft_log(tmp_path, "--figure", tmp_path / "log.svg")
    assert not (tmp_path / "log.svg").exists()
