"""`lawft ladder` on a real run: the same questions on every rung, other statutes, other prompting, paired tests."""

import json
from pathlib import Path

import pytest
from conftest import lawft_here, run_lawft

from lawft_trl.data.rows import read_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation import ladder as module
from lawft_trl.evaluation.ladder import Rung


@pytest.fixture(scope="module")
def climbed(trained) -> Path:
    """Every kind of statutes and every prompting, on six questions."""
    result = run_lawft("ladder", trained, "--promptings", "plain,few-shot,system", "--limit", "6", "--force", check=True)
    assert "none, direct, plain" in result.stdout and "(as trained)" in result.stdout
    return trained / "ladders" / "ladder"


def test_every_rung_asks_the_same_questions_with_its_own_prompts(climbed):
    lines = [json.loads(line) for line in (climbed / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    by_rung = {}
    for line in lines:
        by_rung.setdefault(line["rung"], {}).setdefault(line["model"], set()).add((line["id"], line["order"], line["gold"]))
    assert len(by_rung) == 12 and len(lines) == 12 * 2 * 6 * 4
    assert len({frozenset(asked) for sides in by_rung.values() for asked in sides.values()}) == 1
    prompts = {rung: {line["prompt_sha256"] for line in lines if line["rung"] == rung} for rung in by_rung}
    names = list(prompts)
    shared = {(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if prompts[a] & prompts[b]}
    # One article can be all that a search finds: only these two may ask the same.
    assert all({a.split(",")[0], b.split(",")[0]} == {"retrieved", "gold"} for a, b in shared), shared


def test_the_report_pairs_what_people_ask(climbed):
    found = json.loads((climbed / "ladder.json").read_text(encoding="utf-8"))
    asked = {test["question"] for test in found["tests"]}
    assert asked == {"tuning", "statutes", "reading", "prompting", "tuning or prompting"}
    assert all(test["holm_p"] >= test["p_value"] for test in found["tests"])
    assert [rung["name"] for rung in found["rungs"] if rung["trained"]] == ["gold, direct, plain"]
    retrieved = next(rung for rung in found["rungs"] if rung["statutes"] == "retrieved")
    assert sum(part["questions"] for part in retrieved["retrieval"].values()) == 6
    report = (climbed / "report.md").read_text(encoding="utf-8")
    assert "Does it read them?" in report and "(hit) or not (miss)" in report and module.SYSTEM in report
    assert "<svg" in (climbed / "ladder.svg").read_text(encoding="utf-8")


def test_shuffled_statutes_are_another_groups(sample_data):
    rows = sorted(read_rows(next((sample_data / "direct_gold").glob("test_*.jsonl"))), key=lambda row: row.id)
    shuffled = module._shuffled(rows)
    assert [row.id for row in shuffled] == [row.id for row in rows]
    group_of = {text: row.meta["group"] for row in rows for text in row.meta["statutes"]}
    for row, other in zip(rows, shuffled, strict=True):
        assert all(group_of[text] != row.meta["group"] for text in other.meta["statutes"])
        assert "gold_shown" not in other.meta and "passages" not in other.meta
        assert other.prompt != row.prompt and other.meta["statutes"][0] in other.prompt[-1]["content"]
    assert module._shuffled(rows) == shuffled
    one_group = [row for row in rows if row.meta["group"] == rows[0].meta["group"]]
    with pytest.raises(InputError, match="same statutes"):
        module._shuffled(one_group)


def test_examples_are_training_questions_one_for_each_letter(sample_data):
    rung = Rung("gold", "direct", "few-shot")
    turns = module._examples(sample_data, rung, set())
    assert sorted(turn["content"] for turn in turns[1::2]) == list("abcd")
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 4
    train = {row.prompt[-1]["content"] for row in read_rows(next((sample_data / "direct_gold").glob("train_*.jsonl")))}
    assert all(turn["content"] in train for turn in turns[::2])
    assert module._examples(sample_data, rung, set()) == turns
    with pytest.raises(InputError, match="leave out few-shot"):
        groups = {str(row.meta["group"]) for row in read_rows(next((sample_data / "direct_gold").glob("train_*.jsonl")))}
        module._examples(sample_data, rung, groups)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--statutes", "some"], "expected some of none,retrieved,gold,shuffled"),
        (["--data", "/nowhere"], "lawft data"),
    ],
)
def test_what_cannot_be_asked_is_said(trained, arguments, said):
    result = lawft_here("ladder", trained, "--name", "other", *arguments)
    assert (result.returncode, said in result.stderr, "Traceback" in result.stderr) == (2, True, False), result.stderr
    assert not (trained / "ladders" / "other").exists()
