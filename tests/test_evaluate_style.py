"""`lawft eval` of a run on dialogues: its files and figures, who else reads them, and the paired test behind the verdict."""

import csv
import io
import itertools
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import lawft_here, run_lawft, run_sft
from tiny_chat import make_data, make_model, make_recipe, read_lines
from wandb_file import read_wandb

from lawft_trl.data.rows import read_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation.compare_styles import compare_styles
from lawft_trl.evaluation.evaluate import evaluate_run
from lawft_trl.evaluation.loading import load_tuned
from lawft_trl.evaluation.style import describe_style, score_reply
from lawft_trl.evaluation.style_comparison import ScoredReply, compare_replies, describe_replies, find_gaming
from lawft_trl.evaluation.style_report import draw_styles, style_headline, style_lines
from lawft_trl.evaluation.wandb_log import log_style
from lawft_trl.experiment_log import write_experiment
from lawft_trl.model_card import write_model_card
from lawft_trl.recipe import load_recipe
from lawft_trl.recipe_sections import MonitorSection
from lawft_trl.recipe_style import SOCRATIC, StylePatterns
from lawft_trl.run_dir import read_run
from lawft_trl.sft import main

PATTERNS = StylePatterns(addresses=("い", "か", "た", "よ"))
TURNED_OFF = ["training.eval_strategy=no", "training.save_strategy=no", "training.load_best_model_at_end=false"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("style")
    return make_recipe(folder, make_model(folder / "model"), make_data(folder))


@pytest.fixture(scope="module")
def run(recipe) -> Path:
    main(load_recipe(recipe, [*TURNED_OFF, "training.max_steps=2"]))
    return recipe.parent / "run"


@pytest.fixture(scope="module")
def evaluated(run) -> tuple[Path, str]:
    """The evaluation that `lawft eval RUN` writes, and what it prints."""
    said = lawft_here("eval", run, check=True).stdout
    (folder,) = (run / "eval").iterdir()
    return folder, said


def test_the_files_and_the_verdict(evaluated, run):
    folder, said = evaluated
    assert {file.name for file in folder.iterdir()} == {"metrics.json", "predictions.jsonl", "turns.jsonl", "report.md", "style.png"}
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["comparison"]["verdict"] in said and "\ntutor  style " in said and f"Report: {folder / 'report.md'}" in said
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert "![Style of the replies](style.png)" in report and "| base | tuned | tutor |" in report and "scored by the recipe's patterns" in report.lower()
    from PIL import Image

    assert len(set(Image.open(folder / "style.png").convert("RGB").getdata())) > 50


def test_the_figures_follow_from_the_replies(evaluated, run):
    folder, _ = evaluated
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    turns, lines = read_lines(folder / "turns.jsonl"), read_lines(folder / "predictions.jsonl")
    (file,) = (run.parent / "data" / "dialogue").glob("test_*.jsonl")
    rows = read_rows(file)
    assert [turn["id"] for turn in turns] == [row.id for row in rows] and len({turn["conversation"] for turn in turns}) == 8
    means = {}
    for model in ("base", "tuned"):
        replies = [line for line in lines if line["model"] == model]
        assert [line["id"] for line in replies] == [row.id for row in rows]
        assert all(line["style"] == score_reply(line["reply"], PATTERNS) for line in replies)
        by_conversation = {turn["conversation"]: [line["style"] for line in replies if line["conversation"] == turn["conversation"]] for turn in turns}
        means[model] = {name: sum(scores) / len(scores) for name, scores in by_conversation.items()}
        assert metrics["models"][model]["style"] == pytest.approx(np.mean(list(means[model].values())))
        assert metrics["models"][model]["cut"] == np.mean([line["cut"] for line in replies])
    changes = [means["tuned"][name] - means["base"][name] for name in means["base"]]
    assert any(changes), "else nothing was compared"
    assert metrics["comparison"]["difference"] == pytest.approx(np.mean(changes))
    flips = [abs(sum(sign * change for sign, change in zip(signs, changes, strict=True))) for signs in itertools.product((1, -1), repeat=len(changes))]
    assert metrics["comparison"]["p_value"] == pytest.approx(np.mean([flip >= abs(sum(changes)) - 1e-12 for flip in flips])), "every flip counted"
    assert metrics["tutor"]["style"] > metrics["models"]["base"]["style"] and metrics["tutor"]["only_questions"] > 0


def test_the_picture_shows_the_means_of_the_report(evaluated):
    folder, _ = evaluated
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    lines = [{key: value for key, value in line.items() if key != "model"} | {"side": line["model"]} for line in read_lines(folder / "predictions.jsonl")]
    said = {side: [ScoredReply(**{key: line[key] for key in line if key != "side"}) for line in lines if line["side"] == side] for side in ("base", "tuned")}
    figure = draw_styles(metrics, {**said, "tutor": said["tuned"]})
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == [f"{side}, mean {figures['style']:.3f}" for side, figures in {**metrics["models"], "tutor": metrics["tutor"]}.items()]
    assert metrics["run"] in figure.get_suptitle()


def test_the_tuned_replies_are_the_adapter_s_and_the_perplexity_is_the_base_s(evaluated, run):
    """By the libraries alone: greedy from `generate`, and the loss that the model itself computes."""
    folder, _ = evaluated
    from transformers import AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(run), load_tuned(read_run(run))
    turn = read_lines(folder / "turns.jsonl")[1]
    ids = tokenizer.apply_chat_template(turn["prompt"], add_generation_prompt=True, return_dict=True, return_tensors="pt")["input_ids"]
    output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    (tuned,) = (line for line in read_lines(folder / "predictions.jsonl") if line["model"] == "tuned" and line["id"] == turn["id"])
    assert tuned["reply"] == tokenizer.decode(output, skip_special_tokens=True)

    losses, tokens = 0.0, 0
    with torch.inference_mode(), model.disable_adapter():
        for turn in read_lines(folder / "turns.jsonl"):
            prompt = tokenizer.apply_chat_template(turn["prompt"], add_generation_prompt=True, return_dict=True, return_tensors="pt")["input_ids"]
            said = torch.tensor([tokenizer(turn["tutor"], add_special_tokens=False)["input_ids"]])
            labels = torch.cat([torch.full_like(prompt, -100), said], dim=1)
            losses += model(torch.cat([prompt, said], dim=1), labels=labels).loss.item() * said.shape[1]
            tokens += said.shape[1]
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["tutor"]["perplexity"] == pytest.approx(math.exp(losses / tokens), rel=1e-3)


def test_everyone_who_reads_evaluations(evaluated, run, tmp_path):
    folder, _ = evaluated
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    tuned = f"{metrics['models']['tuned']['style']:.3f}"
    experiment, card = ((run / name).read_text(encoding="utf-8") for name in ("experiment.md", "README.md"))
    assert "文体スコア" in experiment and f"| tuned | {tuned} |" in experiment and "会話単位" in experiment
    assert f"| tuned | {tuned} |" in card and "paired by conversation" in card and "日本語の対話" in card and "- accuracy" not in card and "四肢択一" not in card
    listed = run_lawft("log", run.parent, "--csv", tmp_path / "log.csv", check=True).stdout
    assert "STYLE: dialogues;" in listed
    (entry,) = csv.DictReader(io.StringIO((tmp_path / "log.csv").read_text(encoding="utf-8-sig")))
    assert float(entry["tuned"]) == metrics["models"]["tuned"]["style"] and entry["scorer"] == "style" and entry["asked"] == "dialogue/none"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["log", "PARENT", "--figure", "OUT.svg"], "none of the runs was evaluated on questions"),
        pytest.param(["rescore", "RUN"], "whose replies have a style and no letters", marks=pytest.mark.slow),
        pytest.param(["ladder", "RUN"], "this asks four-choice questions, and pattern.answer is dialogue", marks=pytest.mark.slow),
        pytest.param(["cv", "RECIPE"], "this asks four-choice questions, and pattern.answer is dialogue", marks=pytest.mark.slow),
        pytest.param(["sweep", "RECIPE", "lora.r=4,8"], "this asks four-choice questions, and pattern.answer is dialogue", marks=pytest.mark.slow),
        (["eval", "RUN", "--answer", "cot", "--orders", "1"], "--answer, --orders: of four-choice questions"),
        (["eval", "RUN", "--samples", "3", "--name", "x"], "--samples: of four-choice questions"),
        (["eval", "RUN"], "already there; give another --name, or --force"),
        (["eval", "RUN", "--endpoint", "http://localhost:9/v1", "--tuned", "t", "--name", "x"], "this asks four-choice questions, and pattern.answer is dialogue"),
        (["compare", "RUN", "GONE"], "no evaluation here"),
        (["compare", "RUN:base", "RUN", "--across-prompts"], "--across-prompts pairs four-choice questions"),
        (["compare", "RUN", "RUN:other"], "no model 'other' there; there is"),
        (["style", "score", "RECIPE", "--recipe", "QUICKSTART"], "no evaluation.style there"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(evaluated, run, recipe, tmp_path, command, expected):
    names = {"RUN": run, "GONE": tmp_path / "gone", "PARENT": run.parent, "RECIPE": recipe, "OUT.svg": tmp_path / "out.svg", "QUICKSTART": "recipes/tiny_direct_gold.yaml"}
    typed = [str(names.get(part, part)).replace("RUN:", f"{run}:") for part in command]
    if command[0] == "style":
        (tmp_path / "replies.jsonl").write_text('"君は。"\n', encoding="utf-8")
        typed[2] = str(tmp_path / "replies.jsonl")
    refused = run_lawft(*typed)
    assert refused.returncode == 2 and expected in refused.stderr, refused.stderr
    assert "Traceback" not in refused.stderr


def test_patterns_of_a_recipe(recipe, tmp_path):
    (tmp_path / "replies.jsonl").write_text('"君は正義を知る。"\n"かたい。"\n', encoding="utf-8")
    usual = run_lawft("style", "score", tmp_path / "replies.jsonl", check=True).stdout
    own = run_lawft("style", "score", tmp_path / "replies.jsonl", "--recipe", recipe, check=True).stdout
    assert usual.startswith("style 0.125,") and own.startswith("style 0.125,")
    each = run_lawft("style", "score", "--each", tmp_path / "replies.jsonl", "--recipe", recipe, check=True).stdout
    assert "0.00  君は正義を知る。\n0.25  かたい。" in each


def test_the_first_turns_only_and_what_was_trained_on(run):
    """The library's own entry: a limit is said, and an evaluation of trained rows begins with that."""
    metrics = evaluate_run(run, name="few", limit=3)
    rows = read_rows(Path(metrics["test_file"]))
    assert metrics["warnings"] == [f"Only the first 3 of {len(rows)} held-out turns were taken."]
    assert metrics["models"]["base"]["replies"] == 3
    shutil.rmtree(run / "eval" / "few")
    (train,) = (run.parent / "data" / "dialogue").glob("train_*.jsonl")
    with pytest.raises(InputError, match="are in the training rows"):
        evaluate_run(run, test=train, name="trained")


@pytest.mark.slow
def test_all_weights_and_a_rehearsal(recipe, tmp_path):
    """A run without an adapter is asked as two models; its rehearsal ends with a report that means nothing."""
    out = tmp_path / "run"
    said = run_sft(recipe, "--rehearse", "lora=null", f"training.output_dir={out}", check=True).stdout
    assert "REHEARSAL on the tiny model" in said and "lawft eval" not in said
    (folder,) = (out / "eval").iterdir()
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["rehearsal"] and metrics["models"]["tuned"]["replies"] == 8 and metrics["generation"]["max_new_tokens"] == 32
    assert (folder / "report.md").read_text(encoding="utf-8").count("**No verdict:** a rehearsal.") == 1
    assert "REHEARSAL: the figures mean nothing" in (out / "README.md").read_text(encoding="utf-8")


def test_two_evaluations_are_paired(evaluated, tmp_path):
    folder, _ = evaluated
    other = tmp_path / "other"
    other.mkdir()
    for name in ("metrics.json", "turns.jsonl", "predictions.jsonl"):
        (other / name).write_bytes((folder / name).read_bytes())
    lines = read_lines(folder / "predictions.jsonl")
    for line in lines:
        if line["model"] == "tuned":
            line |= {"reply": "では、君は何を考えているのかね？", "style": 1.0}
    (other / "predictions.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")

    done = run_lawft("compare", folder, other, "--gate", "--out", tmp_path / "out", check=True).stdout
    assert "gate: passed" in done and "2  better: +" in done and "rose in 8 of 8 conversations" in done
    assert "2  one reply for all: " in done, "a verdict does not stand alone"
    result = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert result["sides"][1]["comparison"]["p_value"] == pytest.approx(2 / 2**8), "eight conversations that all rose"
    written = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert "| **style** |" in written and "- 2, **one reply for all**: " in written
    backwards = run_lawft("compare", f"{other}:tuned", folder, "--gate")
    assert backwards.returncode == 1 and "2  worse: -" in backwards.stdout

    three = compare_styles([f"{folder}:base", str(folder), str(other)])
    found = [side["comparison"] for side in three["sides"][1:]]
    assert found[1]["holm_p_value"] == pytest.approx(2 * found[1]["p_value"]), "the smaller of two"

    metrics = json.loads((other / "metrics.json").read_text(encoding="utf-8"))
    metrics["patterns"]["endings"] = ["かい"]
    (other / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    lines[-1]["prompt_sha256"] = "0"
    gone = [line for line in lines if line["id"] != lines[0]["id"]]
    (other / "predictions.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in gone), encoding="utf-8")
    with pytest.raises(InputError) as refused:
        compare_styles([str(folder), str(other)])
    for part in ("1 of ", "turns are only in", "turns have another history", "scored by other patterns: endings"):
        assert part in str(refused.value)


# The paired test and the signs of gaming, of made-up replies


def replies(styles: dict[str, list[float]], text: str = "正義は大切です。", groups: dict[str, str] | None = None) -> list[ScoredReply]:
    """One reply for each number, of the conversations named."""
    return [
        ScoredReply(id=f"{name}#{turn}", conversation=name, group=(groups or {}).get(name, name), prompt_sha256="", reply=text, cut=False, style=style)
        for name, scores in styles.items()
        for turn, style in enumerate(scores)
    ]


def test_the_unit_is_the_conversation():
    """One conversation of many turns weighs as much as one of a single turn."""
    base = replies({"long": [0.0] * 20, "a": [0.0], "b": [0.0], "c": [0.0]})
    tuned = replies({"long": [1.0] * 20, "a": [0.0], "b": [0.0], "c": [0.0]})
    found = compare_replies(base, tuned, seed=0)
    assert found["difference"] == 0.25 and (found["rose"], found["fell"], found["same"]) == (1, 0, 3)
    assert found["verdict"] == "no evidence" and found["p_value"] == 1
    assert describe_replies(tuned, SOCRATIC, seed=0)["style"] == 0.25


@pytest.mark.parametrize(("sign", "verdict"), [(1, "better"), (-1, "worse")])
def test_a_difference_in_most_conversations_is_one(sign, verdict):
    low, high = {str(place): [0.1] for place in range(20)}, {str(place): [0.1 if place == 0 else 0.7] for place in range(20)}
    first, second = (replies(side) for side in ((low, high) if sign > 0 else (high, low)))
    found = compare_replies(first, second, seed=0)
    assert found["verdict"] == verdict and found["difference"] == pytest.approx(sign * 0.57) and found["p_value"] < 0.01


def test_conversations_of_a_group_are_one():
    """Twenty copies of one conversation are no evidence."""
    names = [str(place) for place in range(20)]
    groups = dict.fromkeys(names, "the same")
    first, second = (replies({name: [style] for name in names}, groups=groups) for style in (0.0, 1.0))
    assert compare_replies(first, second, seed=0)["verdict"] == "no evidence"
    with pytest.raises(ValueError, match="not asked the same"):
        compare_replies(first, second[1:], seed=0)


FAIR = {"empty": 0.0, "same_reply": 0.0, "repeated_within": 0.0, "cut": 0.0, "only_questions": 0.2, "characters": 60.0, "perplexity": 20.0}
FAIR["distinct_2_by_letters"] = {"64": 0.9, "128": 0.5}


@pytest.mark.parametrize(
    ("figures", "names"),
    [
        ({}, []),
        ({"empty": 0.1}, ["silence"]),
        ({"same_reply": 0.9, "distinct_2_by_letters": {"64": 0.9, "128": 0.1}}, ["one reply for all", "few words"]),
        ({"distinct_2_by_letters": {"64": 0.8}}, []),
        ({"distinct_2_by_letters": {"64": 0.4, "128": 0.4, "256": 0.05}}, []),
        ({"distinct_2_by_letters": {}}, []),
        ({"repeated_within": 0.3}, ["repetition"]),
        ({"cut": 0.5}, ["no end"]),
        ({"only_questions": 1.0, "characters": 20.0}, ["nothing but questions", "short replies"]),
        ({"perplexity": 41.0}, ["odd language"]),
        ({"perplexity": None}, []),
    ],
)
def test_signs_of_gaming(figures, names):
    tutor = FAIR | {"perplexity": 1000.0}
    found = find_gaming(FAIR, FAIR | figures, tutor)
    assert [each["name"] for each in found] == names
    assert all(re.search(r"base|tutor", each["says"]) and each["try_next"] for each in found)


def test_more_text_is_not_fewer_words():
    """Distinct-2 falls with the amount of text; of equal numbers of letters it does not."""
    vocabulary = [chr(ord("あ") + place) for place in range(60)]
    draw = np.random.default_rng(0)
    few, many = (["".join(draw.choice(vocabulary, 50)) + "。" for _ in range(count)] for count in (10, 400))
    short, long = (describe_replies([replies({str(place): [0.5]}, text)[0] for place, text in enumerate(texts)], SOCRATIC, seed=0) for texts in (few, many))
    assert long["distinct_2"] < 0.5 * short["distinct_2"]
    kept = [*(text[:50] for text in many[:5]), many[5][:6]]
    assert long["distinct_2_by_letters"]["256"] == describe_style(kept, SOCRATIC)["distinct_2"]
    assert max(map(int, short["distinct_2_by_letters"])) == 256 and max(map(int, long["distinct_2_by_letters"])) == 16384
    short["perplexity"] = long["perplexity"] = None
    assert find_gaming(short, long, short) == []


def test_what_is_contaminated_has_no_verdict(evaluated, run):
    folder, _ = evaluated
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    metrics["comparison"]["verdict"] = "better"
    assert style_headline(metrics) == "**Better.** The tuned model replies more in the style than the base model."
    metrics["contaminated"] = "CONTAMINATED: 3 rows"
    assert "**No verdict:** rows of the training" in style_headline(metrics)
    assert style_lines(metrics)[0] == "CONTAMINATED: 3 rows" and any(line.startswith("no verdict, the figures alone would say better") for line in style_lines(metrics))


def test_a_damaged_evaluation_is_a_line_of_the_card(evaluated, run):
    folder, _ = evaluated
    content = (folder / "metrics.json").read_text(encoding="utf-8")
    broken = json.loads(content)
    del broken["models"]["tuned"]["style"]
    try:
        (folder / "metrics.json").write_text(json.dumps(broken), encoding="utf-8")
        write_experiment(run)
        write_model_card(run)
        assert "models.tuned.style: expected a number" in (run / "README.md").read_text(encoding="utf-8")
        assert "models.tuned.style: expected a number" in (run / "experiment.md").read_text(encoding="utf-8")
    finally:
        (folder / "metrics.json").write_text(content, encoding="utf-8")
        write_experiment(run)
        write_model_card(run)


def test_what_wandb_logs(evaluated, tmp_path):
    folder, _ = evaluated
    metrics, said = json.loads((folder / "metrics.json").read_text(encoding="utf-8")), {}
    for line in read_lines(folder / "predictions.jsonl"):
        said.setdefault(line.pop("model"), []).append(ScoredReply(**line))
    where = log_style(metrics, said, (folder / "style.png").read_bytes(), MonitorSection(wandb="offline"), folder=tmp_path)
    assert where.startswith("offline; to send it: wandb sync")
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    logged = read_wandb(file)
    assert logged.summary["eval/tuned/style"] == metrics["models"]["tuned"]["style"] and logged.summary["eval/verdict"] == metrics["comparison"]["verdict"]
    assert {key.partition("/")[2].partition("/")[0] for entry in logged.history for key in entry if key.startswith("eval/")} >= {"style", "predictions"}


def test_equal_replies_are_equal():
    one = replies({"a": [0.5], "b": [0.1]})
    found = compare_replies(one, [replace(reply) for reply in one], seed=0)
    assert found["difference"] == 0 and found["p_value"] == 1 and found["verdict"] == "no evidence"
