"""Power of the exact McNemar test, and `lawft eval --power`."""

import json
import math

import numpy as np
import pytest
from conftest import SAMPLE, lawft_here, rows_file, run_lawft
from hypothesis import given, settings
from hypothesis import strategies as st

from lawft_trl.errors import InputError
from lawft_trl.evaluation.paired import mcnemar
from lawft_trl.evaluation.plan import plan_set, render_plan
from lawft_trl.evaluation.power import effective_questions, mcnemar_power, smallest_detectable


def summed(n, difference, discordance, alpha=0.05):
    """The power by its definition: every count of gained and lost questions, its probability, and whether p < alpha."""
    up, down = (discordance + difference) / 2, (discordance - difference) / 2
    total = 0.0
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            if mcnemar(gained, lost) < alpha:
                same = n - gained - lost
                ways = math.factorial(n) // (math.factorial(gained) * math.factorial(lost) * math.factorial(same))
                total += ways * up**gained * down**lost * (1 - discordance) ** same
    return total


@pytest.mark.parametrize(
    ("n", "expected"),
    [(27, (0.03, 0.08, 0.19, 0.40)), (40, (0.05, 0.16, 0.36, 0.68)), (140, (0.16, 0.62, 0.95, 1.0))],
)
def test_power_known_values(n, expected):
    """Simulated for lawqa_jp at 25 % discordance, 5, 10, 15 and 20 points: right to the noise of a simulation."""
    found = [mcnemar_power(n, points / 100, 0.25) for points in (5, 10, 15, 20)]
    assert found == pytest.approx(expected, abs=0.017)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 22), st.floats(0.05, 0.95), st.floats(-1, 1), st.sampled_from([0.01, 0.05, 0.2]))
def test_power_is_the_sum_over_all_outcomes(n, discordance, part, alpha):
    difference = part * discordance
    assert mcnemar_power(n, difference, discordance, alpha=alpha) == pytest.approx(summed(n, difference, discordance, alpha), abs=1e-9)


def test_power_agrees_with_a_simulation():
    rng = np.random.default_rng(0)
    steps = rng.choice([1, -1, 0], size=(4_000, 60), p=[0.2, 0.05, 0.75])
    found = [mcnemar(int((row > 0).sum()), int((row < 0).sum())) < 0.05 for row in steps]
    assert np.mean(found) == pytest.approx(mcnemar_power(60, 0.15, 0.25), abs=0.025)


@pytest.mark.parametrize("n", [5, 27, 40, 140, 560])
@pytest.mark.parametrize("discordance", [0.05, 0.25, 0.5, 1.0])
def test_the_exact_test_has_at_most_five_percent_false_positives(n, discordance):
    assert mcnemar_power(n, 0, discordance) <= 0.05


def test_power_refuses_what_cannot_be():
    for n, difference, discordance in [(0, 0.1, 0.2), (10, 0.3, 0.2), (10, 0.1, 1.2), (10, -0.3, 0.2)]:
        with pytest.raises(ValueError, match="need n >= 1"):
            mcnemar_power(n, difference, discordance)
    assert mcnemar_power(10, 0, 0) == 0


@pytest.mark.parametrize("n", [27, 40, 140, 560])
def test_the_smallest_detectable_difference_has_the_power_asked_for(n):
    for power in (0.8, 0.9):
        found = smallest_detectable(n, 0.35, power=power)
        assert mcnemar_power(n, found, 0.35) == pytest.approx(power, abs=1e-6)
        assert mcnemar_power(n, found - 0.005, 0.35) < power
    assert smallest_detectable(n, 0.15) is None or smallest_detectable(n, 0.15) < found


def test_more_questions_show_smaller_differences_and_five_show_none():
    found = [smallest_detectable(n, 0.25) for n in (40, 140, 560, 5_000)]
    assert found == sorted(found, reverse=True)
    assert 0.01 < found[-1] < 0.03
    assert smallest_detectable(5, 1.0) is None, "five of five is p = .0625"
    assert smallest_detectable(6, 1.0) == pytest.approx(2 * 0.8 ** (1 / 6) - 1, abs=1e-3), "six of six, four times in five"


def test_clustered_questions_count_for_less():
    assert effective_questions(["a", "b", "c"], 1) == 3
    assert effective_questions(["a"] * 4 + ["b"] * 4, 1) == 2
    assert effective_questions(["a"] * 4 + ["b"] * 4, 0) == 8
    assert effective_questions(["a"] * 4 + ["b"] * 4, 0.5) == pytest.approx(8 / 2.5)
    assert effective_questions(["a"] * 3 + ["b"], 1) == pytest.approx(16 / 10), "n² / Σ size²"


def question(name, **more):
    choices = {letter: f"{name}の{letter}" for letter in "abcd"}
    return {"id": name, "law": "架空法", "question": f"{name}?", "choices": choices, "answer": "a", **more}


def row(name, order="abcd", **meta):
    return {"input": f"{name} {order}", "output": "a", "meta": {"id": name, "correct": "a", **meta}}


def written(path, records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def test_questions_and_rows_are_planned_alike(tmp_path):
    questions = written(tmp_path / "q.jsonl", [question(f"q{i}", group=f"g{i // 2}") for i in range(40)])
    rows = written(
        tmp_path / "r.jsonl",
        [row(f"q{i}", order, group=f"g{i // 2}", known_issue=i < 3) for i in range(40) for order in ("abcd", "bcda", "cdab", "dabc")],
    )
    plan, same = plan_set(questions), plan_set(rows)
    assert (plan["questions"], plan["groups"], plan["largest_group"], plan["worth_at_least"]) == (40, 20, 2, 20)
    assert (plan["known_issues"], same["known_issues"]) == (0, 3)
    assert {**plan, "file": "", "known_issues": 0} == {**same, "file": "", "known_issues": 0}
    assert plan["table"][0.25]["power"][0.2] == mcnemar_power(40, 0.2, 0.25)
    assert plan["table"][0.15]["power"][0.2] is None, "no 20 points where 15 % of the answers change"
    text = render_plan(same)
    assert "40 questions in 20 groups, 3 of them with an answer in doubt" in text
    assert f"can show a difference of {100 * smallest_detectable(40, 0.25):.1f} points or more" in text
    assert "count for less: if those of a group stood or fell together, for 20 questions, and " in text


def test_a_handful_is_told_that_it_shows_nothing(tmp_path):
    text = render_plan(plan_set(written(tmp_path / "few.jsonl", [row(f"q{i}") for i in range(8)])))
    assert "cannot show any difference reliably" in text and text.count("none") == 3
    assert "count for less" not in text, "every question is its own group"


def test_rows_without_a_gold_letter_are_all_named(tmp_path):
    records = [row("q0"), {"input": "要約せよ", "output": "要約"}, {"input": "説明せよ", "output": "説明"}]
    with pytest.raises(InputError) as caught:
        plan_set(written(tmp_path / "open.jsonl", records))
    assert "2 of 3 questions cannot be scored" in str(caught.value)
    assert "open.jsonl:2" in str(caught.value) and "open.jsonl:3" in str(caught.value) and "meta.correct" in str(caught.value)


def test_the_command_line(sample_data, tmp_path):
    test = rows_file(sample_data, "test")
    shown = run_lawft("eval", "--power", test, check=True).stdout
    assert shown.startswith(f"{test}: ") and "exact McNemar" in shown and "25 %" in shown
    assert "924 questions in 231 groups" in run_lawft("eval", "--power", SAMPLE, check=True).stdout
    nothing = lawft_here("eval")
    assert (nothing.returncode, "lawft eval --power FILE" in nothing.stderr) == (2, True)
    both = lawft_here("eval", "runs/x", "--power", test, "--force")
    assert both.returncode == 2 and "leave out RUN, --force" in both.stderr
    missing = lawft_here("eval", "--power", tmp_path / "none.jsonl")
    assert missing.returncode == 2 and "no such file" in missing.stderr and "Traceback" not in missing.stderr
