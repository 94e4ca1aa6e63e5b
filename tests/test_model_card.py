"""The model card: metadata that the hub's library reads, and what it says of base, data, prompt, results and limits."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import TINY_MODEL
from huggingface_hub import ModelCard
from test_experiment_log import evaluate, make_metrics, make_run

from lawft_trl.data.lawqa import ATTRIBUTION
from lawft_trl.data.prompts import build_messages
from lawft_trl.errors import InputError
from lawft_trl.folders import write_json
from lawft_trl.model_card import _EXAMPLE, _EXAMPLE_STATUTE, render_model_card, write_model_card
from lawft_trl.text_files import file_sha256


def card(run: Path) -> ModelCard:
    """The card as the hub's library reads it; an unreadable metadata block is an error there."""
    write_model_card(run)
    return ModelCard.load(run / "README.md")


def add_manifest(run: Path, **changes) -> Path:
    """A data folder's manifest above the rows that `make_run` wrote."""
    file = run.parent / "train.jsonl"
    manifest = {"dataset": "lawqa_jp", "attribution": ATTRIBUTION, "law_as_of": ["2024-08-30"], "files": {"direct_gold/train_2.jsonl": {"sha256": file_sha256(file)}}}
    write_json(run.parent / "manifest.json", manifest | changes)
    return run.parent / "manifest.json"


def test_a_fresh_run(tmp_path):
    run = make_run(tmp_path)
    read = card(run)
    data = read.data.to_dict()
    assert data["library_name"] == "peft" and data["language"] == "ja" and data["pipeline_tag"] == "text-generation" and data["license"] == "other"
    assert {"lawft-trl", "trl", "lora", "legal"} <= set(data["tags"])
    assert "base_model" not in data and "datasets" not in data and "metrics" not in data, "a local base is no name of the hub"
    text = read.text
    assert "Licence: unknown (不明)" in text and "look it up before this model is passed on" in text
    assert "origin unknown (no manifest.json beside the rows)" in text and "find out their licence" in text
    assert "Not evaluated yet." in text and "有効な評価結果はありません" in text
    assert "not legal advice" in text and "法的助言ではありません" in text
    assert str(TINY_MODEL.parent) not in text and str(tmp_path) not in text, "paths of this machine are nobody's business"
    assert "LoRA: r=16, lora_alpha=32" in text and "trl 1.16.0" in text and "last training loss 0.7000" in text


@pytest.mark.parametrize(
    ("overrides", "answer", "statutes", "expected"),
    [
        ((), "direct", (_EXAMPLE_STATUTE,), "max_new_tokens=16"),
        (("pattern.statutes=none", "pattern.answer=cot", "pattern.system=あなたは助手です。"), "cot", (), "max_new_tokens=1024"),
    ],
)
def test_how_to_ask_is_the_prompt_of_training(tmp_path, overrides, answer, statutes, expected):
    run = make_run(tmp_path, overrides=overrides)
    text = card(run).text
    system = "あなたは助手です。" if overrides else None
    for message in build_messages(_EXAMPLE, answer=answer, statutes=statutes, system=system):
        assert f"[{message['role']}]\n{message['content']}\n" in text
    assert expected in text and "enable_thinking=False" in text and ("[system]" in text) == bool(overrides)
    code = text.split("~~~~python\n")[1].split("~~~~")[0]
    compile(code, "card", "exec")


def test_the_data_and_its_licence(tmp_path):
    run = make_run(tmp_path)
    manifest = add_manifest(run)
    text, data = card(run).text, card(run).data.to_dict()
    assert f"`train.jsonl`: lawqa_jp; law as of 2024-08-30\n  - Attribution and licence: {ATTRIBUTION}" in text
    assert "法令基準日: 2024-08-30" in text and "Law as of 2024-08-30: later amendments" in text
    assert "made again" not in text and "find out their licence" not in text
    assert "lawqa_jp" in data["tags"] and "datasets" not in data, "no data set of that name on the hub is meant"
    add_manifest(run, dataset="someone/lawqa", files={"x.jsonl": {"sha256": "0" * 64}})
    read = card(run)
    assert read.data.datasets == ["someone/lawqa"] and "the data folder has been made again since" in read.text
    for damaged in ("[]", "{", '{"folds": 3, "law_as_of": null}'):
        manifest.write_text(damaged)
        assert "origin unknown" in card(run).text
    manifest.write_text('{"dataset": "talks", "attribution": "ours", "law_as_of": []}')
    text = card(run).text
    assert "`train.jsonl`: talks\n" in text and "aw as of" not in text and "法令基準日" not in text, "dialogues are of no law"
    manifest.write_text('{"dataset": "a <b> | c", "attribution": "x\\n\\n# y", "law_as_of": [""]}')
    text = card(run).text
    assert "a &lt;b> \\| c; law as of a day its source does not state" in text and "licence: x # y\n" in text


@pytest.mark.parametrize(
    ("front", "licence", "said"),
    [
        ("license: apache-2.0", {"license": "apache-2.0"}, "Licence: apache-2.0 (as its card says)"),
        ("license: other\nlicense_name: llama3.3\nlicense_link: https://x.y/z", {"license": "other", "license_name": "llama3.3", "license_link": "https://x.y/z"}, "Licence: llama3.3, https://x.y/z"),
        ("language: ja", {"license": "other"}, "its card names none"),
        ("license: [a, b]", {"license": "other"}, "unknown (不明)"),
        ("license: {", {"license": "other"}, "unknown (不明)"),
    ],
)
def test_the_licence_of_the_base(tmp_path, front, licence, said):
    base = tmp_path / "base"
    shutil.copytree(TINY_MODEL, base)
    (base / "README.md").write_text(f"---\n{front}\n---\n# Base\n", encoding="utf-8")
    read = card(make_run(tmp_path, overrides=(f"model.name_or_path={base}",)))
    data = read.data.to_dict()
    assert {key: data[key] for key in ("license", "license_name", "license_link") if key in data} == licence
    assert said in read.text and "`base` (a local folder)" in read.text


def test_a_base_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    data = card(make_run(tmp_path, overrides=("model.name_or_path=some-lab/base-8B",))).data.to_dict()
    assert (data["base_model"], data["base_model_relation"], data["license"]) == ("some-lab/base-8B", "adapter", "other")
    merged = render_model_card(tmp_path / "direct", merged=True)
    assert "base_model_relation: finetune" in merged and "library_name: transformers" in merged and "AutoPeftModel" not in merged
    assert "base and LoRA adapter merged" in merged


def test_results_with_their_interval_and_verdict(tmp_path):
    run = make_run(tmp_path)
    evaluate(run)
    metrics = make_metrics()
    read = card(run)
    low, high = (100 * bound for bound in metrics["models"]["tuned"]["interval"])
    assert f"| tuned | 80.0 % (24 of 30) | [{low:.1f}, {high:.1f}] |" in read.text and "| base | 0.0 % (0 of 30) |" in read.text
    assert "Tuned minus base: +80.0 points, 95 % interval [+" in read.text and "Verdict: **better**" in read.text
    assert read.data.metrics == ["accuracy"]
    assert f"test_30: tuned 80.0 %（24/30、95 % 区間 [{low:.1f}, {high:.1f}]）" in read.text
    assert "Measured with the adapter" in render_model_card(run, merged=True)


@pytest.mark.parametrize("mark", [{"contaminated": "CONTAMINATED: 3 of 30 held-out questions are in the training rows"}, {"rehearsal": True}])
def test_results_that_prove_nothing_are_marked(tmp_path, mark):
    run = make_run(tmp_path)
    evaluate(run, **mark)
    read = card(run)
    assert "Verdict: **none, see above**" in read.text and "metrics" not in read.data.to_dict() and "有効な評価結果はありません" in read.text
    assert (mark.get("contaminated") or "REHEARSAL: the figures mean nothing.") in read.text


def test_marks_of_the_run_itself(tmp_path):
    text = card(make_run(tmp_path, rehearsal=True, overlap="3 of 560 train rows are in the 28 test rows")).text
    assert "REHEARSAL on the tiny bundled model" in text and "**Training and held-out rows: 3 of 560 train rows" in text


def test_a_damaged_evaluation_is_named_and_a_damaged_run_refused(tmp_path):
    run = make_run(tmp_path)
    (evaluate(run) / "metrics.json").write_text("{")
    assert "This evaluation cannot be read:" in card(run).text
    before = (run / "README.md").read_bytes()
    (run / "run.json").write_text("{}")
    with pytest.raises(InputError, match="not finished"):
        write_model_card(run)
    assert (run / "README.md").read_bytes() == before and not list(run.glob(".*"))


def test_it_takes_the_place_of_the_card_that_trl_writes(trained):
    """After a real run; its data's manifest lies above the rows."""
    read = card(trained)
    assert "From small.jsonl." in read.text
    assert "@misc" not in read.text and "transformers import pipeline" not in read.text
    assert json.loads((trained / "run.json").read_text())["status"] == "finished"
    assert f"{json.loads((trained / 'run.json').read_text())['rows']} rows" in read.text
