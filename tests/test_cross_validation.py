"""`lawft cv`: real trainings of the tiny model, killed and gone on with; and what is refused before any training."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import torch
from conftest import QUICKSTART, ROOT, SAMPLE, TINY_MODEL, adapter, run_lawft, run_sft

from lawft_trl.errors import InputError
from lawft_trl.evaluation.folder import Evaluation, read_evaluation
from lawft_trl.evaluation.metrics import Prediction, describe_model
from lawft_trl.recipe import load_recipe
from lawft_trl.training.cross_validation import cross_validate
from lawft_trl.training.folds import find_folds
from lawft_trl.training.out_of_fold import pool_folds

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
MODEL = f"model.name_or_path={TINY_MODEL}"  # by its whole path: these commands are not run from the repository


def files(folder: str = "data/small") -> list[str]:
    return [f"data.{role}={folder}/direct_gold/{role}_*.jsonl" for role in ("train", "dev", "test")]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A folder with `data/small_2_folds`: 24 questions of the sample in two folds."""
    folder = tmp_path_factory.mktemp("small")
    chosen = SAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)[::38][:24]
    (folder / "small.jsonl").write_text("".join(chosen), encoding="utf-8")
    run_lawft("data", "questions", "small.jsonl", "--folds", "2", check=True, cwd=folder)
    return folder


@pytest.fixture
def here(small, tmp_path, monkeypatch) -> Path:
    """A folder of its own with that data, to be run in."""
    shutil.copytree(small, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*arguments, cwd: Path) -> subprocess.Popen:
    """`lawft ARGUMENTS` as the leader of a process group of its own."""
    command = [sys.executable, "-m", "lawft_trl.cli", *map(str, arguments)]
    with (cwd / "said.txt").open("wb") as said:
        return subprocess.Popen(command, cwd=cwd, env=os.environ | ONE_THREAD, stdout=said, stderr=said, start_new_session=True)


def wait_for(path: Path, process: subprocess.Popen, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, (process.returncode, sorted(path.parent.parent.rglob("*.log")))
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_in_fold_3_and_begun_again_every_lawqa_question_is_answered_out_of_fold(lawqa_dir, tmp_path):
    run_lawft("data", "lawqa", "--from", lawqa_dir, "--folds", "3", check=True, cwd=tmp_path)
    command = ("cv", ROOT / "recipes" / "direct_norag.yaml", "evaluation.batch_size=32", "--rehearse", "--out", "cv")
    seed = tmp_path / "cv" / "seed_42"
    process = start(*command, cwd=tmp_path)
    wait_for(seed / "fold_3_of_3.unfinished" / "run.json", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (seed / "fold_3_of_3").exists() and not (tmp_path / "cv" / "metrics.json").exists()
    kept = {path: path.read_bytes() for path in seed.glob("fold_[12]_of_3/adapter_model.safetensors")}
    times = {path: path.stat().st_mtime_ns for path in kept}
    assert len(kept) == 2

    result = run_lawft(*command, check=True, cwd=tmp_path, **ONE_THREAD)
    assert {path: path.stat().st_mtime_ns for path in kept} == times, "finished folds are not trained again"
    assert "seed 42 fold 3: " in result.stdout and "REHEARSAL" in result.stdout
    evaluation = read_evaluation(tmp_path / "cv")
    assert len(evaluation.questions) == 140
    for predictions in evaluation.predictions.values():
        assert Counter((p.id, p.order) for p in predictions) == {(q, o): 1 for q in evaluation.questions for o in ("abcd", "bcda", "cdab", "dabc")}
    assert evaluation.metrics["models"]["tuned"]["questions"] == 140 and evaluation.metrics["rehearsal"]
    assert [fold["questions"] for fold in evaluation.metrics["cross_validation"]["per_fold"]] == [
        len(read_evaluation(run / "eval" / "out_of_fold").questions) for run in sorted(seed.glob("fold_?_of_3"))
    ]
    assert_unseen(tmp_path, seed)

    # The fold that was killed is what it would have been
    record = json.loads((seed / "fold_3_of_3" / "run.json").read_text(encoding="utf-8"))
    arguments = ["training.output_dir=whole" if text.startswith("training.output_dir=") else text for text in record["command"][1:]]
    run_sft(*arguments, check=True, cwd=tmp_path, **ONE_THREAD)
    interrupted, whole = adapter(seed / "fold_3_of_3"), adapter(tmp_path / "whole")
    assert all(torch.equal(interrupted[name], tensor) for name, tensor in whole.items())


def assert_unseen(folder: Path, seed: Path) -> None:
    """No question that a fold's adapter was scored on shares its group or its statutes' text with one it was trained on."""
    lines = (folder / "data" / "lawqa_jp_3_folds" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = {question["id"]: question for question in map(json.loads, lines)}
    for run in seed.glob("fold_?_of_3"):
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
        trained = {
            json.loads(line)["meta"]["id"]
            for entry in record["identity"]["data"]["train"]
            for line in (folder / entry["file"]).read_text(encoding="utf-8").splitlines()
        }
        scored = set(read_evaluation(run / "eval" / "out_of_fold").questions)
        assert len(trained) > 70 and len(scored) > 40
        assert not {questions[id]["group"] for id in trained} & {questions[id]["group"] for id in scored}
        assert not {text for id in trained for text in questions[id]["statutes"]} & {text for id in scored for text in questions[id]["statutes"]}


@pytest.fixture(scope="module")
def two_seeds(small, tmp_path_factory) -> Path:
    """Two folds with two seeds; the second fold of the first seed was killed after a checkpoint and gone on with."""
    folder = tmp_path_factory.mktemp("seeds")
    shutil.copytree(small, folder, dirs_exist_ok=True)
    process = start(*cv_of_small(), cwd=folder)
    wait_for(folder / "cv" / "seed_42" / "fold_2_of_2.unfinished" / "checkpoint-1" / "trainer_state.json", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    result = run_lawft(*cv_of_small(), check=True, cwd=folder, **ONE_THREAD)
    (folder / "printed.txt").write_text(result.stdout, encoding="utf-8")
    return folder


def cv_of_small(*overrides: str) -> list:
    steps = ["training.max_steps=6", "training.save_strategy=steps", "training.save_steps=1", "training.save_total_limit=2"]
    return ["cv", QUICKSTART, MODEL, *files(), *steps, "training.per_device_train_batch_size=2", *overrides, "--seeds", "2", "--out", "cv"]


@pytest.mark.slow
def test_two_seeds_are_reported_with_their_mean_and_spread(two_seeds):
    metrics = read_evaluation(two_seeds / "cv").metrics
    validation = metrics["cross_validation"]
    assert (validation["folds"], validation["seeds"]) == (2, [42, 43])
    assert [(fold["seed"], fold["fold"]) for fold in validation["per_fold"]] == [(42, 1), (42, 2), (43, 1), (43, 2)]
    one, other = (result["accuracy"] for result in validation["per_seed"])
    assert metrics["models"]["tuned"]["accuracy"] == one
    assert validation["mean"]["accuracy"] == pytest.approx((one + other) / 2)
    assert validation["spread"] == pytest.approx(abs(one - other) / 2**0.5)
    assert not [text for text in metrics["warnings"] if "same model" in text], "the base does not depend on the seed"
    weights = [adapter(two_seeds / "cv" / f"seed_{seed}" / "fold_1_of_2") for seed in (42, 43)]
    assert any(not torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items()), "the seeds differ"
    assert "mean   of 2 seeds" in (two_seeds / "printed.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_checkpoint(two_seeds):
    log = (two_seeds / "cv" / "seed_42" / "fold_2_of_2.log").read_text(encoding="utf-8")
    begun = [line for line in log.splitlines() if line.startswith("$ ") and "sft.py" in line]
    assert [line.endswith("--resume") for line in begun] == [False, True]
    summary = json.loads((two_seeds / "cv" / "seed_42" / "fold_2_of_2" / "training_summary.json").read_text(encoding="utf-8"))
    assert summary["resumed_from_step"] >= 1 and summary["steps"] == 6


@pytest.mark.slow
def test_finished_folds_are_kept_and_another_recipe_is_refused(two_seeds):
    before = {path: path.stat().st_mtime_ns for path in two_seeds.rglob("run.json")}
    report = (two_seeds / "cv" / "predictions.jsonl").read_bytes()
    run_lawft(*cv_of_small(), check=True, cwd=two_seeds)
    assert {path: path.stat().st_mtime_ns for path in two_seeds.rglob("run.json")} == before
    assert (two_seeds / "cv" / "predictions.jsonl").read_bytes() == report

    result = run_lawft(*cv_of_small("training.learning_rate=1e-5"), cwd=two_seeds)
    assert result.returncode == 2
    assert result.stderr.count("training.learning_rate: trained with 0.001, now 1e-05") == 4, "every fold is named"
    assert "--force trains those folds again" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in two_seeds.rglob("run.json")} == before


def test_ctrl_c_ends_the_training_too(here):
    process = start(*cv_of_small(), cwd=here)
    wait_for(here / "cv" / "seed_42" / "fold_1_of_2.log", process)
    children = psutil.Process(process.pid).children(recursive=True)
    time.sleep(1)
    os.kill(process.pid, signal.SIGINT)  # to it alone; a terminal sends it to all of them
    assert process.wait(timeout=60) == 130, (here / "said.txt").read_text(encoding="utf-8")
    assert children and not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert "stopped" in (here / "said.txt").read_text(encoding="utf-8")


def test_a_failed_training_shows_the_end_of_its_log(here):
    with pytest.raises(InputError) as error:
        cross_validate(QUICKSTART, [MODEL, *files()], out=Path("cv"), config_file=Path("none.yaml"))
    assert "training of fold_1_of_2 with seed 42 failed (exit code 1); the end of cv/seed_42/fold_1_of_2.log" in error.value.heading
    assert "none.yaml" in str(error.value) and len(error.value.problems) <= 20
    with (here / "cv" / ".lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the failed one holds it no longer
        with pytest.raises(InputError, match="another `lawft cv` is at work there"):
            cross_validate(QUICKSTART, [MODEL, *files()], out=Path("cv"))


@pytest.mark.parametrize(
    ("overrides", "options", "expected"),
    [
        (files("data/none"), {}, "data/none_5_folds: no data set in folds here; write it:\n  - lawft data questions QUESTIONS.jsonl --folds 5 --out data/none_5_folds"),
        (files("data/lawqa_jp"), {}, "- lawft data lawqa --folds 5"),
        (files("other/lawqa_jp"), {"folds": 3}, "- lawft data lawqa --folds 3 --out other/lawqa_jp_3_folds"),
        (files(), {"folds": 5}, "data/small_5_folds: no data set in folds here"),
        (files(), {"folds": 5, "data": Path("data/small_2_folds")}, "data/small_2_folds: this data set has 2 folds, not the 5 of --folds"),
        (["data.test=null"], {}, "which questions are to be cross-validated? data.test is None"),
        (["data.train=data/derived/direct_gold/train_*.jsonl", *files()[1:]], {}, "every fold would train the same adapter"),
        ([*files(), "training.output_dir=x"], {}, "name the folder of all of them with --out"),
        (files(), {"seeds": 0}, "--seeds 0: expected at least 1"),
        (["data.train=data/small/cot_gold/train_*.jsonl", *files()[1:]], {}, "data.train: no file matches data/small_2_folds/fold_1_of_2/cot_gold"),
    ],
)
def test_what_cannot_be_cross_validated_is_refused_with_the_mend(here, overrides, options, expected):
    with pytest.raises(InputError) as error:
        cross_validate(QUICKSTART, overrides, **options)
    assert expected in str(error.value)
    assert not (here / "runs").exists()


def test_the_command_that_writes_the_folds_names_the_data_set_s_own_settings(here):
    run_lawft("data", "questions", "small.jsonl", "--seed", "3", "--top-k", "2", "--dev-share", "0", check=True, cwd=here)
    shutil.rmtree(here / "data" / "small_2_folds")
    with pytest.raises(InputError, match=r"- lawft data questions small\.jsonl --folds 4 --dev-share 0\.0 --seed 3 --top-k 2$"):
        find_folds(load_recipe(QUICKSTART, files()), folds=4)


def test_several_folds_must_be_chosen_from(here):
    shutil.copytree(here / "data" / "small_2_folds", here / "data" / "small_3_folds")
    with pytest.raises(InputError, match="say which with --folds"):
        find_folds(load_recipe(QUICKSTART, files()))
    assert find_folds(load_recipe(QUICKSTART, files()), folds=2)[1:] == (Path("data/small_2_folds"), ["fold_1_of_2", "fold_2_of_2"])


def rewrite(path: Path, change) -> None:
    records = change([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def test_a_training_row_that_shares_statutes_with_a_held_out_question_is_refused(here):
    """Neither its id, group nor text say so; the questions' own statutes do."""
    folder = here / "data" / "small_2_folds"
    (train,) = folder.glob("fold_2_of_2/direct_gold/train_*.jsonl")
    (test,) = folder.glob("fold_2_of_2/direct_gold/test_*.jsonl")
    known, held_out = (json.loads(path.read_text(encoding="utf-8").splitlines()[0])["meta"]["id"] for path in (train, test))

    def share(records):
        statutes = next(record["statutes"] for record in records if record["id"] == held_out)
        return [{**record, "statutes": [*record["statutes"], *statutes], "group": "x"} if record["id"] == known else record for record in records]

    rewrite(folder / "questions.jsonl", share)
    with pytest.raises(InputError, match=r"fold_1_of_2: 4 training rows share a group or a statute") as error:
        cross_validate(QUICKSTART, [MODEL, *files()], out=Path("cv"))
    assert all(f"id {held_out}" in problem for problem in error.value.problems)
    assert not (here / "cv").exists()


def test_a_folder_that_holds_something_else_is_never_written_to(here):
    (here / "mine").mkdir()
    (here / "mine" / "metrics.json").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="mine: something else than a cross-validation is there"):
        cross_validate(QUICKSTART, [MODEL, *files()], out=Path("mine"))
    assert [path.name for path in (here / "mine").iterdir()] == ["metrics.json"]


def test_folds_that_leave_a_question_out_are_refused(here):
    (test,) = here.glob("data/small_2_folds/fold_2_of_2/direct_gold/test_*.jsonl")
    rewrite(test, lambda records: records[1:])
    with pytest.raises(InputError, match="do not hold out every question once") as error:
        cross_validate(QUICKSTART, [MODEL, *files()], out=Path("cv"))
    assert [problem.endswith("held out 0 times") for problem in error.value.problems] == [True]


ORDERS = ("abcd", "bcda", "cdab", "dabc")


def answered(question: int, right: bool) -> list[Prediction]:
    """The prompts of a question whose gold choice is `a`, answered by content; question pairs share a group."""
    chosen = "a" if right else "b"
    return [
        Prediction(
            id=f"q{question}",
            group=f"g{question // 2}",
            order=order,
            prompt_sha256=f"{question}{order}",
            letter="abcd"[order.index(chosen)],
            gold="abcd"[order.index("a")],
            letter_logprobs={letter: -0.1 if order["abcd".index(letter)] == chosen else -4.0 for letter in "abcd"},
        )
        for order in ORDERS
    ]


def evaluation(questions: range, base: set[int], tuned: set[int]) -> Evaluation:
    """A fold's evaluation in which the models know the questions named."""
    predictions = {name: [p for q in questions for p in answered(q, q in known)] for name, known in (("base", base), ("tuned", tuned))}
    metrics = dict.fromkeys(("model", "scorer", "answer", "parser_version", "statutes", "prompt_fingerprint", "contaminated"))
    metrics |= {"answer": "direct", "statutes": "none"}
    metrics |= {"overlap": "none", "rehearsal": False, "warnings": [], "seconds": 1.0, "law_as_of": [""], "test_sha256": str(questions)}
    metrics["models"] = {name: describe_model(answers) for name, answers in predictions.items()}
    return Evaluation(path=Path(), metrics=metrics, predictions=predictions, questions={f"q{q}": {"id": f"q{q}", "group": f"g{q // 2}", "law": "法", "question": "?"} for q in questions})


HALVES = (range(20), range(20, 40))
BASE = set(range(0, 40, 4))


def pooled(*seeds: set[int], base: tuple[set[int], ...] = (BASE, BASE, BASE)):
    evaluations = {
        42 + index: [evaluation(half, known & set(half), tuned & set(half)) for half in HALVES]
        for index, (tuned, known) in enumerate(zip(seeds, base, strict=False))
    }
    return pool_folds(evaluations, name="cv", source=Path("data"), seed=0)


def test_one_seed_is_the_comparison_of_all_questions():
    metrics, predictions, questions = pooled(set(range(30)))
    assert len(predictions["tuned"]) == 160 and len(questions) == 40 and metrics["groups"] == 20
    assert metrics["comparison"]["difference"] == pytest.approx(30 / 40 - 10 / 40)
    assert metrics["cross_validation"]["spread"] is None and metrics["cross_validation"]["mean"] is None
    assert metrics["comparison"]["verdict"] == "better"


def test_several_seeds_are_averaged_by_question_and_the_first_stays_the_comparison():
    knows = [set(range(20)), set(range(30)), set(range(10))]
    metrics, _, _ = pooled(*knows)
    validation, right = metrics["cross_validation"], [len(seed) / 40 for seed in knows]
    assert metrics["models"]["tuned"]["accuracy"] == right[0] == 0.5
    assert [result["accuracy"] for result in validation["per_seed"]] == right
    assert validation["spread"] == pytest.approx(0.25)  # of 0.5, 0.75, 0.25
    assert validation["mean"]["accuracy"] == pytest.approx(0.5)
    assert validation["mean"]["difference"] == pytest.approx(0.5 - 10 / 40)
    low, high = validation["mean"]["interval"]
    assert low < 0.25 < high
    verdicts = {result["verdict"] for result in validation["per_seed"]}
    assert len(verdicts) > 1 and any("The seeds do not agree" in text for text in metrics["warnings"])


def test_a_base_that_moves_between_seeds_and_leakage_are_said():
    metrics, _, _ = pooled({1}, {1}, base=(BASE, BASE | {1}))
    assert any(text.startswith("The base model did not answer 4 prompts as it did") for text in metrics["warnings"])
    folds = [evaluation(half, BASE & set(half), set()) for half in HALVES]
    folds[0].metrics["contaminated"] = "CONTAMINATED: ..."
    assert pool_folds({42: folds}, name="cv", source=Path("data"), seed=0)[0]["contaminated"].startswith("CONTAMINATED: in 1 of 2 evaluations")


def test_a_question_in_two_folds_is_an_error():
    twice = [evaluation(range(20), set(), set()), evaluation(range(19, 40), set(), set())]
    with pytest.raises(ValueError, match=r"1 questions were not asked exactly once, e\.g\. \['q19'\]"):
        pool_folds({42: twice}, name="cv", source=Path("data"), seed=0)
