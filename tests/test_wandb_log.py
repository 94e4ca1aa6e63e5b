"""What an evaluation leaves in Weights & Biases, read back from the offline files."""

import json
import math

from conftest import SAMPLE
from wandb_file import read_wandb

from lawft_trl.data.questions import LETTERS, ORDERS, read_questions
from lawft_trl.evaluation.folder import Evaluation
from lawft_trl.evaluation.metrics import Prediction, compare, describe_model
from lawft_trl.evaluation.wandb_log import log_evaluation, summary
from lawft_trl.recipe_sections import MonitorSection


def evaluation(path, sample) -> Evaluation:
    """Two models on sample questions: one always says `a`, the other mostly knows."""
    questions = read_questions(sample)[:24]
    models = {"base": [], "tuned": []}
    for number, question in enumerate(questions):
        for order in ORDERS:
            gold = LETTERS[order.index(question.answer)]
            for name, letter in (("base", "a"), ("tuned", gold if number % 6 else "b")):
                logprobs = {other: math.log(0.7 if other == letter else 0.1) for other in LETTERS}
                models[name].append(
                    Prediction(
                        id=question.id, group=question.group, order=order, prompt_sha256=order, letter=letter, gold=gold, letter_logprobs=logprobs
                    )
                )
    metrics = {
        "run": "mine", "model": "tiny", "scorer": "letters", "answer": "direct", "statutes": "gold", "test_file": "test.jsonl",
        "test_sha256": "0" * 64, "contaminated": None, "rehearsal": False,
        "models": {name: describe_model(found) for name, found in models.items()}, "comparison": compare(models["base"], models["tuned"], seed=0),
    }  # fmt: skip
    described = {q.id: {"law": q.law, "question": q.question, "choices": q.choices, "answer": q.answer} for q in questions}
    return Evaluation(path=path, metrics=metrics, predictions=models, questions=described)


def test_figures_table_and_names_are_in_the_offline_run(tmp_path):
    made = evaluation(tmp_path / "test_24", SAMPLE)
    log_evaluation(made, MonitorSection(wandb="offline", tags=["x"]), folder=tmp_path)
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    images = {path.name.split("_")[0] for path in run.glob("files/media/images/eval/*.png")}
    assert {"accuracy", "letters", "confusion", "changes", "reliability"} <= images
    (table,) = run.glob("files/media/table/eval/predictions*.json")
    lines = json.loads(table.read_text(encoding="utf-8"))
    assert lines["columns"] == ["id", "law", "question", "gold", "base", "tuned", "base right", "tuned right"]
    right = [line[-1] for line in lines["data"]]
    assert sum(right) == made.metrics["models"]["tuned"]["correct"] and len(right) == 24
    (log,) = run.glob("*.wandb")
    assert summary(made.metrics).keys() <= read_wandb(log).summary.keys(), "stable names"


def test_names_stay_as_they_are(tmp_path):
    names = summary(evaluation(tmp_path, SAMPLE).metrics)
    assert {"eval/base/accuracy", "eval/tuned/accuracy", "eval/tuned/label_mass", "eval/difference", "eval/p_value", "eval/verdict"} <= set(names)
    assert names["eval/gained"] - names["eval/lost"] == round(24 * names["eval/difference"])


def test_folds_and_seeds_are_one_group_where_the_environment_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_GROUP", "a_cross_validation")
    monkeypatch.setenv("WANDB_NAME", "seed_42/fold_1_of_5")
    said = log_evaluation(evaluation(tmp_path / "test_24", SAMPLE), MonitorSection(), folder=tmp_path)
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    (log,) = run.glob("*.wandb")
    logged = read_wandb(log)
    assert (logged.group, logged.name) == ("a_cross_validation", "seed_42/fold_1_of_5-test_24")
    assert said == f"offline; to send it: wandb sync {run}"
