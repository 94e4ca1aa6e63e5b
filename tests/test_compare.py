"""`lawft compare`: what is paired, what is refused, the verdicts and the gate."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import run_lawft
from hypothesis import given, settings
from hypothesis import strategies as st
from made_evaluations import made_questions, save, scored, some_right, verb, written

from lawft_trl.commands import compare as command
from lawft_trl.errors import InputError
from lawft_trl.evaluation.compare_evaluations import compare_evaluations, gate_failures
from lawft_trl.evaluation.comparison_report import render_comparison, terminal_lines, write_comparison
from lawft_trl.evaluation.metrics import compare
from lawft_trl.evaluation.paired import holm

N = 60
GOLD = ["abcd"[index % 4] for index in range(N)]
QUESTIONS = made_questions(GOLD)
BASE = some_right(GOLD, set(range(20)))
GOOD = some_right(GOLD, set(range(2, 45)), seed=1)
SAME = some_right(GOLD, {*range(19), 30}, seed=2)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The runs `one` (a gain) and `two` (nearly its base), each with one evaluation of base and tuned."""
    monkeypatch.chdir(tmp_path)
    for name, tuned in (("one", GOOD), ("two", SAME)):
        save(tmp_path / name / "eval" / "test", QUESTIONS, {"base": scored(QUESTIONS, BASE), "tuned": scored(QUESTIONS, tuned)}, run=name)
    return tmp_path


def one_model(path, contents, questions=QUESTIONS, *, metrics=None, **how):
    return save(path, questions, {"tuned": scored(questions, contents, **how)}, **(metrics or {}))


def refusal(*names, **options) -> str:
    with pytest.raises(InputError) as caught:
        compare_evaluations([str(name) for name in names], **options)
    return str(caught.value)


def test_two_models_of_a_run_are_compared_as_its_evaluation_compares_them(runs):
    result = compare_evaluations(["one:base", "one"])
    stored = json.loads((runs / "one/eval/test/metrics.json").read_text())
    found = result["sides"][1]["comparison"]
    assert {key: found[key] for key in stored["comparison"]} == stored["comparison"]
    assert [side["figures"] for side in result["sides"]] == [stored["models"]["base"], stored["models"]["tuned"]]
    assert found["verdict"] == "better"
    assert (len(found["gained"]), len(found["lost"])) == (25, 2)
    assert result["orders"] == ["abcd", "bcda", "cdab", "dabc"]


def test_several_runs_are_paired_with_the_first_and_adjusted(runs):
    result = compare_evaluations(["two", "one", "one/eval/test:base"])
    tuned = {name: scored(QUESTIONS, contents) for name, contents in (("two", SAME), ("one", GOOD), ("base", BASE))}
    expected = [compare(tuned["two"], tuned[name], seed=0) for name in ("one", "base")]
    found = [side["comparison"] for side in result["sides"][1:]]
    for one, other in zip(found, expected, strict=True):
        assert {key: one[key] for key in ("difference", "interval", "p_value", "gained", "lost")} == {
            key: other[key] for key in ("difference", "interval", "p_value", "gained", "lost")
        }
    assert [one["holm_p_value"] for one in found] == holm([max(other["p_value"], other["group_p_value"]) for other in expected])
    assert [one["verdict"] for one in found] == ["better", "no evidence"]


def test_the_adjusted_p_value_decides(tmp_path):
    """9 gained and 1 lost: p = .021 alone; as one of five comparisons it is no evidence."""
    right = set(range(20))
    one_model(tmp_path / "first", some_right(GOLD, right))
    one_model(tmp_path / "gain", some_right(GOLD, right - {0} | set(range(20, 29)), seed=1))
    same = [str(one_model(tmp_path / f"same{place}", some_right(GOLD, right, seed=3))) for place in range(4)]
    alone = compare_evaluations([str(tmp_path / "first"), str(tmp_path / "gain")])["sides"][1]["comparison"]
    assert (alone["verdict"], round(alone["p_value"], 3), alone["holm_p_value"]) == ("better", 0.021, alone["p_value"])
    among = compare_evaluations([str(tmp_path / "first"), str(tmp_path / "gain"), *same])["sides"][1]["comparison"]
    assert among["holm_p_value"] == pytest.approx(5 * alone["p_value"])
    assert among["verdict"] == "no evidence" and "paired test" in among["reason"]
    assert among["interval"] == alone["interval"]


def test_worse_is_said(runs):
    assert compare_evaluations(["one", "one:base"])["sides"][1]["comparison"]["verdict"] == "worse"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"), st.integers(0, 3)), min_size=1, max_size=12), st.booleans())
def test_an_evaluation_never_differs_from_itself(tmp_path_factory, made, across):
    gold, contents, groups = zip(*made, strict=True)
    questions = made_questions(gold, [str(group) for group in groups])
    path = str(one_model(tmp_path_factory.mktemp("same") / "test", contents, questions))
    found = compare_evaluations([path, path], across_prompts=across)["sides"][1]["comparison"]
    assert (found["gained"], found["lost"], found["difference"], found["verdict"]) == ([], [], 0, "no evidence")
    assert found["interval"] == [0, 0] and found["p_value"] == 1


def test_which_model_is_meant(runs):
    assert [side["name"] for side in compare_evaluations(["one", "two:base"])["sides"]] == ["one:tuned", "two:base"]
    assert [side["model"] for side in compare_evaluations(["one", "two"], model="base")["sides"]] == ["base", "base"]
    save(runs / "api", QUESTIONS, {"gpt": scored(QUESTIONS, GOOD)})
    assert compare_evaluations(["one", "api"])["sides"][1]["name"] == "api:gpt"
    save(runs / "odd:name", QUESTIONS, {"gpt": scored(QUESTIONS, GOOD)})
    assert compare_evaluations(["one", "odd:name"])["sides"][1]["model"] == "gpt"
    assert compare_evaluations(["one", "odd:name:gpt"])["sides"][1]["name"] == "odd:name:gpt"


def test_every_name_that_is_none_is_said_at_once(runs):
    save(runs / "one" / "eval" / "again", QUESTIONS, {"tuned": scored(QUESTIONS, GOOD)})
    text = refusal("two:other", "one", "nowhere")
    assert "two/eval/test: no model 'other' there; there is two:base, two:tuned" in text
    assert "one: 2 evaluations are there; name one" in text and "one/eval/again" in text
    assert "nowhere: no evaluation here" in text
    assert "at least two" in refusal("one")


def test_other_questions_are_refused(tmp_path):
    one_model(tmp_path / "one", BASE)
    questions = [*QUESTIONS[10:], *made_questions("ab")]
    questions[-2:] = [{**questions[-2], "id": "new1"}, {**questions[-1], "id": "new2"}]
    one_model(tmp_path / "two", [*GOOD[10:], "a", "b"], questions, metrics={"test_sha256": "1" * 64})
    text = refusal(tmp_path / "one", tmp_path / "two")
    assert f"10 of 62 questions are only in {tmp_path / 'one'}:tuned: q000, q001, q002, q003, q004 …" in text
    assert f"2 of 62 questions are only in {tmp_path / 'two'}:tuned: new1, new2" in text
    assert "test_sha256: 000000000000 / 111111111111" in text
    assert "lawft eval RUN --test FILE" in text and "--across-prompts" not in text
    assert "10 of 62 questions" in refusal(tmp_path / "one", tmp_path / "two", across_prompts=True)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "c"}, "1 of 60 questions have the same id but another right answer: q000"),
        ({"question": "別の問い"}, "1 of 60 questions have the same id but another text: q000"),
        ({"choices": {**QUESTIONS[0]["choices"], "b": "別の選択肢"}}, "1 of 60 questions have the same id but another text: q000"),
        ({"group": "g1"}, "1 of 60 questions have the same id but another statute group: q000"),
    ],
)
def test_questions_that_only_share_their_id_are_refused(tmp_path, change, said, across):
    one_model(tmp_path / "one", BASE)
    one_model(tmp_path / "two", GOOD, [{**QUESTIONS[0], **change}, *QUESTIONS[1:]])
    assert said in refusal(tmp_path / "one", tmp_path / "two", across_prompts=across)


def test_other_orders_are_refused(tmp_path):
    one_model(tmp_path / "one", BASE)
    one_model(tmp_path / "two", GOOD, orders=("abcd",))
    text = refusal(tmp_path / "one", tmp_path / "two")
    assert "60 questions were asked in other orders of their choices: abcd bcda cdab dabc / abcd (q000, q001, q002, q003, q004 …)" in text
    assert "--across-prompts pairs by question" in text


def test_other_prompts_are_refused_with_what_explains_them(tmp_path):
    one_model(tmp_path / "none", BASE)
    one_model(tmp_path / "gold", GOOD, prompt="gold", metrics={"statutes": "gold", "prompt_fingerprint": "e" * 64})
    save(tmp_path / "cot", QUESTIONS, {"tuned": written(QUESTIONS, GOOD, prompt="cot")}, answer="cot")
    text = refusal(tmp_path / "none", tmp_path / "gold", tmp_path / "cot")
    gold, cot = (f"{tmp_path / name}:tuned" for name in ("gold", "cot"))
    assert f"{gold}: 240 of 240 prompts have another text: q000, q001, q002, q003, q004 …" in text
    assert f"{gold}: statutes: none / gold" in text
    assert f"{gold}: prompt_fingerprint: ffffffffffff / eeeeeeeeeeee" in text
    assert f"{cot}: answer: direct / cot" in text and f"{cot}: scorer: letters / generate" in text
    assert f"{cot}: statutes" not in text
    assert "--across-prompts pairs by question" in text


def test_across_prompts_pairs_by_question_and_says_so(tmp_path):
    one_model(tmp_path / "none", BASE)
    one_model(tmp_path / "gold", GOOD, prompt="gold", metrics={"statutes": "gold"})
    result = compare_evaluations([str(tmp_path / "none"), str(tmp_path / "gold")], across_prompts=True)
    expected = compare(scored(QUESTIONS, BASE), scored(QUESTIONS, GOOD), seed=0)
    found = result["sides"][1]["comparison"]
    assert {key: found[key] for key in expected} == expected
    (note,) = result["notes"]
    assert "compared across prompts" in note and "240 of 240 prompts" in note and "statutes: none / gold" in note
    assert note in render_comparison(result) and f"NOTE: {note}" in terminal_lines(result)


def test_across_prompts_takes_the_orders_that_all_share(tmp_path):
    """One order and four: the reference's figures are those of the shared order, in which it does worse here."""
    four = [p if p.order != "abcd" else replace(p, letter="a", letter_logprobs={x: math.log(0.9 if x == "a" else 0.02) for x in "abcd"}) for p in scored(QUESTIONS, GOLD)]
    save(tmp_path / "four", QUESTIONS, {"tuned": four})
    one_model(tmp_path / "one", GOLD, orders=("abcd",), prompt="cot")
    result = compare_evaluations([str(tmp_path / "four"), str(tmp_path / "one")], across_prompts=True)
    assert result["orders"] == ["abcd"]
    assert [side["figures"]["accuracy"] for side in result["sides"]] == [0.25, 1.0]
    assert "other orders of their choices" in result["notes"][0]
    one_model(tmp_path / "other", GOLD, orders=("bcda",), prompt="cot")
    assert "60 questions were asked in no order that both share" in refusal(tmp_path / "one", tmp_path / "other", across_prompts=True)
    three = [str(tmp_path / name) for name in ("four", "one", "other")]
    assert "60 questions were asked in no order that all share" in refusal(*three, across_prompts=True)


def test_letters_and_written_answers_to_the_same_prompts_are_compared_and_it_is_said(tmp_path):
    one_model(tmp_path / "letters", BASE)
    save(tmp_path / "texts", QUESTIONS, {"tuned": written(QUESTIONS, [None, *GOOD[1:]])})
    result = compare_evaluations([str(tmp_path / "letters"), str(tmp_path / "texts")])
    assert "answers were read differently (letters / generate)" in result["notes"][0]
    lines = "\n".join(terminal_lines(result))
    assert "0.99" in lines and "no letter" in lines
    save(tmp_path / "old", QUESTIONS, {"tuned": written(QUESTIONS, GOOD)}, parser_version="0")
    assert "lawft rescore" in compare_evaluations([str(tmp_path / "texts"), str(tmp_path / "old")])["notes"][0]


def test_another_template_under_the_same_messages_is_said(tmp_path):
    one_model(tmp_path / "one", BASE)
    one_model(tmp_path / "two", GOOD, metrics={"prompt_fingerprint": "e" * 64})
    one_model(tmp_path / "other", GOOD, metrics={"prompt_fingerprint": "e" * 64, "model": "another model"})
    assert "another chat template" in compare_evaluations([str(tmp_path / "one"), str(tmp_path / "two")])["notes"][0]
    assert compare_evaluations([str(tmp_path / "one"), str(tmp_path / "other")])["notes"] == []


def test_a_better_score_by_a_preference_for_letters_is_no_evidence(tmp_path):
    one_model(tmp_path / "one", BASE)
    one_model(tmp_path / "low", GOOD, mass=0.5)
    found = compare_evaluations([str(tmp_path / "one"), str(tmp_path / "low")])["sides"][1]["comparison"]
    assert found["verdict"] == "no evidence" and "0.50" in found["reason"]


def test_a_cross_validation_is_compared_like_an_evaluation(tmp_path):
    folds = {"cross_validation": {"folds": 5, "seeds": [42], "per_fold": [], "per_seed": [], "spread": None}, "test_file": "fold_*_of_5"}
    for name, tuned in (("first", BASE), ("second", GOOD)):
        save(tmp_path / name, QUESTIONS, {"base": scored(QUESTIONS, BASE), "tuned": scored(QUESTIONS, tuned)}, **folds)
    assert gate_failures(compare_evaluations([str(tmp_path / "first"), str(tmp_path / "second")])) == []


def test_the_first_of_several_seeds_is_compared_and_it_is_said(tmp_path):
    folds = {"cross_validation": {"folds": 5, "seeds": [42, 43, 44]}}
    save(tmp_path / "cv", QUESTIONS, {"base": scored(QUESTIONS, BASE), "tuned": scored(QUESTIONS, GOOD)}, **folds)
    (note,) = compare_evaluations([f"{tmp_path / 'cv'}:base", str(tmp_path / "cv")])["notes"]
    assert "seed 42, the first of 3" in note


def test_what_nobody_knows_of_the_training_is_said(tmp_path):
    unknown = "not checked: what gpt was trained on is not known here"
    local = {"overlap": "not checked: train.jsonl is gone", "warnings": ["Overlap of training and held-out rows not checked: train.jsonl is gone."]}
    paths = [str(one_model(tmp_path / name, BASE, metrics=metrics)) for name, metrics in (("a", local), ("b", {"overlap": unknown}))]
    warnings = compare_evaluations(paths)["warnings"]
    assert warnings == [f"{local['warnings'][0]} ({paths[0]})", f"Overlap of training and held-out rows {unknown}. ({paths[1]})"]


SENTENCE = "CONTAMINATED: 5 of 60 held-out questions are in the training rows (data.allow_overlap): this is not a held-out result."


@pytest.mark.parametrize("place", [0, 1])
def test_the_first_line_says_contaminated(tmp_path, capsys, place):
    marks = [{}, {}]
    marks[place] = {"contaminated": SENTENCE, "rehearsal": True, "warnings": ["REHEARSAL on the tiny model: nothing.", "Only the first 60 were asked."]}
    paths = [one_model(tmp_path / name, contents, metrics=mark) for name, contents, mark in zip("ab", (BASE, GOOD), marks, strict=True)]
    assert verb(command, *paths, "--out", tmp_path / "out", "--gate") == 1
    shown = capsys.readouterr().out
    wanted = f"{SENTENCE} ({paths[place]})"
    assert shown.startswith(wanted + "\nREHEARSAL")
    assert (tmp_path / "out" / "comparison.md").read_text().startswith(f"**{wanted}**\n")
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert next(iter(stored)) == "contaminated" and stored["contaminated"] == [wanted]
    assert stored["sides"][1]["comparison"]["verdict"] == "better", "the figures alone would pass"
    assert "No verdict" in shown and "gate: closed" in shown
    assert shown.count("REHEARSAL on the tiny model") == 0 and "WARNING: Only the first 60 were asked." in shown


def test_a_rehearsal_is_said_and_does_not_pass(tmp_path, capsys):
    paths = [one_model(tmp_path / "a", BASE), one_model(tmp_path / "b", GOOD, metrics={"rehearsal": True})]
    assert verb(command, *paths, "--gate") == 1
    shown = capsys.readouterr().out
    assert shown.startswith("REHEARSAL") and "No verdict: a rehearsal" in shown
    assert verb(command, *paths) == 0, "without the gate it is only said"


@pytest.mark.parametrize(
    ("names", "code", "said"),
    [
        (["one:base", "one"], 0, "gate: passed"),
        (["two:base", "two"], 1, "two:tuned: no evidence (the interval of the difference contains 0)"),
        (["one", "one:base"], 1, "one:base: worse"),
        (["one:base", "one", "two"], 1, "two:tuned: no evidence"),
        (["one:base", "nowhere"], 2, "nowhere: no evaluation here"),
    ],
)
def test_the_gate(runs, capsys, names, code, said):
    assert verb(command, *names, "--gate") == code
    assert said in capsys.readouterr().out
    assert verb(command, *names) == (2 if code == 2 else 0)


def test_the_gate_as_a_user_meets_it(runs):
    closed = run_lawft("compare", "two:base", "two", "--gate", cwd=runs)
    assert closed.returncode == 1 and "gate: closed\n  - two:tuned: no evidence" in closed.stdout and closed.stderr == ""
    assert run_lawft("compare", "one:base", "one", "--gate", cwd=runs).returncode == 0
    refused = run_lawft("compare", "one", "nowhere", "--gate", cwd=runs)
    assert refused.returncode == 2 and "nowhere: no evaluation here" in refused.stderr and refused.stdout == ""


def test_the_gate_closes_though_nobody_reads_what_it_prints(runs):
    """As in `lawft compare … --gate | head -1` under `set -o pipefail`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "lawft_trl.cli", "compare", "two:base", "two", "--gate"]
    for unbuffered in ("", "1"):
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        assert subprocess.run(command, stdout=writer, cwd=runs, env=environment, timeout=600).returncode == 1
    os.close(writer)


def test_the_report_shows_who_took_which_choice(tmp_path):
    questions = [{**QUESTIONS[0], "question": "一行目\n二行目 <b>|</b>"}, *QUESTIONS[1:30], {**QUESTIONS[30], "choices": None}, *QUESTIONS[31:]]
    one_model(tmp_path / "a", ["a", *BASE[1:30], "b", *BASE[31:]], questions)
    save(tmp_path / "b", questions, {"tuned": written(questions, [None, *GOOD[1:]])})
    result = compare_evaluations([str(tmp_path / "a"), str(tmp_path / "b")])
    text = render_comparison(result)
    assert "- `q000` (借地借家法) 一行目 二行目 <b>|</b>\n  - a: 第0問の選択肢aの文 ← right, before\n  - b: 第0問の選択肢bの文\n" in text
    assert "  - d: 第0問の選択肢dの文\n  - no answer: after\n" in text
    assert "  - right c, before b, after c\n" in text
    assert "### Gained: 25" in text and "### Lost: 2" in text
    assert all(f"`{id}`" in text for id in [*result["sides"][1]["comparison"]["gained"], *result["sides"][1]["comparison"]["lost"]])
    lines = terminal_lines(result)
    assert sum(line.startswith("  - `q") for line in lines) == 4, "two gained and two lost"
    assert any(line.startswith("gained 25: q0") and line.endswith(" and 5 more") for line in lines)


def test_the_table_fits_a_terminal_and_agrees_with_the_figures(runs):
    result = compare_evaluations(["one:base", "one", "two"])
    lines = terminal_lines(result)
    header = next(place for place, line in enumerate(lines) if "RStd" in line)
    table = lines[header : header + 4]
    assert max(map(len, table)) <= 90 and len({len(line) for line in table}) == 1
    assert table[2].split()[:3] == ["2", "43/60", "71.7"]
    assert "| 2 | 43/60 | 71.7 | " in render_comparison(result)
    assert "p (Holm)" in table[0]
    assert not any("p (Holm)" in line for line in terminal_lines(compare_evaluations(["one:base", "one"])))


def test_nothing_is_overwritten_without_force(runs, capsys):
    assert verb(command, "one:base", "one", "--out", "out") == 0
    first = (runs / "out" / "comparison.json").read_bytes()
    assert verb(command, "one:base", "two", "--out", "out") == 2
    assert "--force" in capsys.readouterr().out
    assert (runs / "out" / "comparison.json").read_bytes() == first
    assert verb(command, "one:base", "two", "--out", "out", "--force") == 0
    assert (runs / "out" / "comparison.json").read_bytes() != first
    assert verb(command, "one:base", "one", "--out", "one/eval/test", "--force") == 2, "an evaluation is no comparison"
    assert verb(command, "one:base", "one", "--force") == 2
    assert {path.name for path in runs.iterdir()} == {"one", "two", "out"}, "nothing half-written"
    with pytest.raises(InputError):
        write_comparison(compare_evaluations(["one:base", "one"]), runs / "out")


def test_a_damaged_evaluation_is_said(runs, capsys):
    lines = (runs / "two/eval/test/questions.jsonl").read_text().splitlines()
    (runs / "two/eval/test/questions.jsonl").write_text("\n".join(lines[1:]))
    assert verb(command, "one", "two") == 2
    assert "1 questions of predictions.jsonl are not in questions.jsonl: q000" in capsys.readouterr().out
    (runs / "two/eval/test/predictions.jsonl").write_text("{}\n")
    assert verb(command, "one", "two") == 2
    assert "not an evaluation of this version" in capsys.readouterr().out
