"""`lawft rescore`: stored outputs read again."""

import json
from dataclasses import replace

import pytest
from conftest import QUICKSTART
from hypothesis import given, settings
from hypothesis import strategies as st
from made_evaluations import made_questions, save, scored, some_right, verb, written

from lawft_trl.commands import rescore as command
from lawft_trl.errors import InputError
from lawft_trl.evaluation import rescore as rescoring
from lawft_trl.evaluation.answers import PARSER_VERSION
from lawft_trl.evaluation.folder import read_evaluation
from lawft_trl.evaluation.metrics import compare, describe_model
from lawft_trl.evaluation.rescore import rescore, score_outputs, write_rescored
from lawft_trl.recipe import load_recipe
from lawft_trl.run_dir import begin, finish, identity, unfinished

N = 60
GOLD = ["abcd"[index % 4] for index in range(N)]
QUESTIONS = made_questions(GOLD)
BASE = some_right(GOLD, set(range(20)))
GOOD = some_right(GOLD, set(range(2, 45)), seed=1)


def old_parser(predictions):
    """As a parser that takes the `1` of `1文字` for a: every stored letter is a."""
    return [replace(prediction, letter="a") for prediction in predictions]


@pytest.fixture
def stored(tmp_path):
    """An evaluation whose tuned answers an old parser read as `a` throughout."""
    texts = written(QUESTIONS, GOOD, form="1文字で答えます。\n\n**回答：{}**")
    predictions = {"base": written(QUESTIONS, BASE), "tuned": old_parser(texts)}
    return save(tmp_path / "run" / "eval" / "test-cot", QUESTIONS, predictions, parser_version="0", diagnosis=[{"name": "label-collapse", "says": "a throughout", "try_next": "-"}])


def test_what_moved_and_what_it_moves(stored):
    found = rescore(stored)
    texts = written(QUESTIONS, GOOD, form="1文字で答えます。\n\n**回答：{}**")
    assert found.predictions == {"base": written(QUESTIONS, BASE), "tuned": texts}
    should = {(p.id, p.order, p.letter) for p in texts if p.letter != "a"}
    assert {(one["id"], one["order"], one["new"]) for one in found.moved} == should
    assert {(one["model"], one["old"]) for one in found.moved} == {("tuned", "a")}
    one = found.moved[0]
    (output,) = one["outputs"]
    assert output["rule"] == "label" and output["text"][slice(*output["span"])] == output["words"]
    assert one["new"] in output["words"]
    assert found.before["comparison"] == compare(written(QUESTIONS, BASE), old_parser(texts), seed=0)
    assert found.after["comparison"] == compare(written(QUESTIONS, BASE), texts, seed=0)
    assert found.after["models"]["tuned"] == describe_model(texts)
    assert found.before["comparison"]["verdict"] != "better" == found.after["comparison"]["verdict"]


def test_the_command_shows_it_and_writes_beside_the_old(stored, capsys):
    before = {path.name: path.read_bytes() for path in stored.iterdir()}
    assert verb(command, stored) == 0
    shown = capsys.readouterr().out
    assert f"stored as read by parser 0, now read by parser {PARSER_VERSION}" in shown
    assert "answers moved" in shown and "tuned q001 abcd: a -> " in shown and "by label" in shown
    assert "tuned: 60 from a to b" in shown
    assert "tuned: 0/60 (0.0 %) -> 43/60 (71.7 %), without a letter 0 -> 0" in shown, "a letter in every order is a draw of all choices"
    assert "base: 20/60 (33.3 %) -> 20/60 (33.3 %)" in shown
    assert "-> better (+38.3 points" in shown
    assert {path.name for path in stored.parent.iterdir()} == {"test-cot"}, "without --write nothing is written"

    assert verb(command, stored, "--write") == 0
    new = stored.with_name(f"test-cot-parser-{PARSER_VERSION}")
    assert f"Report: {new / 'report.md'}" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == before, "the old one stays"
    again = read_evaluation(new)
    assert again.metrics["parser_version"] == PARSER_VERSION and again.metrics["rescored_from"] == "test-cot"
    assert again.metrics["models"]["tuned"]["correct"] == 43 and again.metrics["comparison"]["verdict"] == "better"
    assert "label-collapse" not in {found["name"] for found in again.metrics["diagnosis"]}, "there was none"
    assert (new / "report.html").is_file()
    assert again.questions == read_evaluation(stored).questions
    assert verb(command, stored, "--write") == 2
    assert "already there" in capsys.readouterr().out


def test_rescoring_again_changes_nothing(stored, capsys):
    new = write_rescored(rescore(stored))
    again = rescore(new)
    assert again.moved == [] and again.before == again.after
    assert write_rescored(again) is None
    assert verb(command, new, "--write") == 0
    shown = capsys.readouterr().out
    assert "unchanged: none of 480 answers moved" in shown and "nothing written" in shown
    assert len(list(stored.parent.iterdir())) == 2


def test_the_diagnosis_is_made_anew_and_the_log_is_rewritten(tmp_path):
    """Answers that an old parser spread over the letters, and that are all `a`: the collapse is found, and is in experiment.md."""
    recipe, run = load_recipe(QUICKSTART), tmp_path / "run"
    begin(run, recipe, {"identity": identity(recipe, {}, "f" * 64, 1), "command": [], "environment": {"commit": None, "versions": {}, "hardware": {}}})
    finish(unfinished(run), run, {"steps": 3})
    base, tuned = written(QUESTIONS, BASE), [replace(p, outputs=("a",)) for p in written(QUESTIONS, GOOD)]
    stored = save(run / "eval" / "test", QUESTIONS, {"base": base, "tuned": tuned}, parser_version="0", command=["lawft", "eval", "run"])
    new = read_evaluation(write_rescored(rescore(stored)))
    assert "label-collapse" in {found["name"] for found in new.metrics["diagnosis"]}
    assert new.path.name in (run / "experiment.md").read_text()


def test_the_name_does_not_grow(stored, monkeypatch):
    new = write_rescored(rescore(stored))
    monkeypatch.setattr(rescoring, "PARSER_VERSION", "7")
    assert write_rescored(rescore(new)).name == "test-cot-parser-7", "unmoved, but read by another version"


def test_choices_are_those_of_the_prompt(tmp_path):
    """An output that restates a choice is read with the choices in the order in which they were shown."""
    texts = [replace(p, outputs=(QUESTIONS[0]["choices"]["b"],), letter=None, unread=1) for p in written(QUESTIONS[:1], ["b"])]
    found = rescore(save(tmp_path / "eval", QUESTIONS[:1], {"tuned": texts}))
    assert {(one["order"], one["new"]) for one in found.moved} == {("abcd", "b"), ("bcda", "a"), ("cdab", "d"), ("dabc", "c")}
    assert "comparison" not in found.after
    foreign = save(tmp_path / "foreign", [{**QUESTIONS[0], "choices": None}], {"tuned": texts})
    assert rescore(foreign).moved == []


def test_of_several_samples_the_majority_counts(tmp_path):
    outputs = {"abcd": ("答えはb", "答えはc", "答えはb"), "bcda": ("答えはb", "答えはc"), "cdab": ("わかりません", "答えはd"), "dabc": ("？", "？")}
    texts = [replace(p, outputs=outputs[p.order], letter="a") for p in written(QUESTIONS[:1], ["a"])]
    found = rescore(save(tmp_path / "eval", QUESTIONS[:1], {"tuned": texts}))
    assert {one["order"]: one["new"] for one in found.moved} == {"abcd": "b", "bcda": None, "cdab": "d", "dabc": None}
    assert [one["letter"] for one in found.moved[0]["outputs"]] == ["b", "c", "b"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.text(max_size=40), st.sampled_from(["a", "b", None])), min_size=1, max_size=6))
def test_rescoring_is_idempotent_whatever_was_written(tmp_path_factory, made):
    questions = made_questions([gold for gold, _, _ in made])
    texts = written(questions, [gold for gold, _, _ in made], orders=("abcd",))
    texts = [replace(p, outputs=(text,), letter=letter) for p, (_, text, letter) in zip(texts, made, strict=True)]
    folder = tmp_path_factory.mktemp("any")
    first = rescore(save(folder / "first", questions, {"tuned": texts}))
    assert len(first.moved) == sum(new.letter != old.letter for new, old in zip(first.predictions["tuned"], texts, strict=True))
    second = rescore(save(folder / "second", questions, first.predictions))
    assert second.moved == [] and second.predictions == first.predictions


def test_letters_leave_nothing_to_parse(tmp_path, capsys):
    path = save(tmp_path / "eval", QUESTIONS, {"base": scored(QUESTIONS, BASE), "tuned": scored(QUESTIONS, GOOD)})
    assert verb(command, path) == 2
    assert "nothing to parse" in capsys.readouterr().out


def test_a_contaminated_or_rehearsed_evaluation_says_so_first(tmp_path, capsys):
    sentence = "CONTAMINATED: 5 of 60 held-out questions are in the training rows."
    path = save(tmp_path / "eval", QUESTIONS, {"tuned": written(QUESTIONS, GOOD)}, contaminated=sentence, rehearsal=True)
    verb(command, path)
    assert capsys.readouterr().out.startswith(f"{sentence}\nREHEARSAL")


def test_a_cross_validation_is_shown_but_not_written(tmp_path):
    texts = old_parser(written(QUESTIONS, GOOD))
    found = rescore(save(tmp_path / "cv", QUESTIONS, {"tuned": texts}, cross_validation={"folds": 5}))
    assert found.moved
    with pytest.raises(InputError, match="folds"):
        write_rescored(found)


def outputs_file(path, *records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def test_a_file_of_outputs_from_elsewhere(tmp_path, capsys):
    choices = {"a": "地主の承諾が必要である", "b": "登記が必要である", "c": "届出が必要である", "d": "何も必要でない"}
    file = outputs_file(
        tmp_path / "outputs.jsonl",
        {"output": "回答（1文字のみ）: b", "gold": "b"},
        {"response": "登記が必要である", "label": "b", "choices": choices},
        {"response": "登記が必要である", "label": "b"},
        {"response": "わかりません", "label": "none"},
        {"output": "答えはc", "gold": "d"},
    )
    found = score_outputs(file)
    assert (found["questions"], found["correct"], found["unparsed"]) == (5, 3, 2)
    assert found["interval"] == pytest.approx([0.2307, 0.8824], abs=1e-4), "Wilson, 3 of 5"
    assert [(one["line"], one["gold"], one["letter"]) for one in found["wrong"]] == [(3, "b", None), (5, "d", "c")]
    assert verb(command, file) == 0
    shown = capsys.readouterr().out
    assert f"parser {PARSER_VERSION}: 3/5 (60.0 %), 95 % interval 23.1 to 88.2 (Wilson); 2 without a letter" in shown
    assert "line 5: c by sentence" in shown
    assert verb(command, file, "--write") == 2


def test_every_line_that_cannot_be_used_is_said(tmp_path):
    file = outputs_file(
        tmp_path / "outputs.jsonl",
        {"gold": "b"},
        {"output": "b", "gold": None},
        {"output": "b", "label": "e", "choices": ["x"]},
        {"output": "b"},
        ["b"],
    )
    with pytest.raises(InputError) as caught:
        score_outputs(file)
    text = str(caught.value)
    for said in (":1: output or response", ":2: gold: None", ":3: label: 'e'", ":3: choices", ":4: gold or label", ":5: an object"):
        assert f"{file}{said}" in text
