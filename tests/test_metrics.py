"""Statistics against known values and simulations, and the verdict's conditions."""

import itertools
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.data.rows import Row
from lawft_trl.evaluation.asking import Asked
from lawft_trl.evaluation.metrics import Prediction, compare, content_answers, content_gold, describe_model, judge
from lawft_trl.evaluation.paired import cluster_interval, holm, mcnemar, sign_flip
from lawft_trl.evaluation.report import render_report

sys.path.insert(0, str(ROOT / "scripts"))
from simulate_statistics import bootstrap_bounds, by_cluster, flip_p_values, simulated


def predictions(gold_contents, chooser, groups=None):
    """Predictions of a model `chooser(question index, order) -> letter probabilities` on questions with these answers."""
    made = []
    for index, gold in enumerate(gold_contents):
        for order in ORDERS:
            probs = chooser(index, order)
            made.append(
                Prediction(
                    id=f"q{index}",
                    group=groups[index] if groups else f"g{index}",
                    order=order,
                    prompt_sha256=f"{index}{order}",
                    letter=max(probs, key=probs.get),
                    letter_logprobs={letter: math.log(value) for letter, value in probs.items()},
                    gold=LETTERS[order.index(gold)],
                )
            )
    return made


def always(letter):
    return lambda index, order: {other: 0.9 if other == letter else 0.03 for other in LETTERS}


def knows(contents, bias=None):
    """A model whose logit is a little higher for the right content, and far higher for one letter everywhere."""

    def choose(index, order):
        right = LETTERS[order.index(contents[index])]
        raw = {letter: math.exp((0.1 if letter == right else 0) + (5 if letter == bias else 0)) for letter in LETTERS}
        return {letter: value / sum(raw.values()) for letter, value in raw.items()}

    return choose


@pytest.mark.parametrize(
    ("gained", "lost", "expected"),
    [
        (12, 4, 0.0768),
        (3, 15, 0.0075),
        (10, 0, 0.00195),
        (9, 21, 0.0428),
        (16, 10, 0.3269),
        (5, 1, 0.2188),
        (0, 0, 1.0),
        (5, 5, 1.0),
        (14, 2, 0.0042),
    ],
)
def test_mcnemar_known_values(gained, lost, expected):
    assert mcnemar(gained, lost) == pytest.approx(expected, abs=1e-4)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_binomial_sum(gained, lost):
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    assert mcnemar(gained, lost) == pytest.approx(min(1.0, 2 * tail))


@pytest.mark.parametrize(
    ("right", "expected"),
    [(60, (35.0, 51.1)), (39, (21.1, 35.8)), (73, (43.9, 60.2)), (85, (52.4, 68.4)), (87, (53.9, 69.8)), (96, (60.5, 75.7))],
)
def test_wilson_interval_known_values(right, expected):
    """Of 140, the size of lawqa_jp; and the formula of the documentation."""
    gold = ["a"] * 140
    answers = ["a"] * right + ["b"] * (140 - right)
    low, high = describe_model(predictions(gold, knows(answers)))["interval"]
    assert (round(100 * low, 1), round(100 * high, 1)) == expected
    p, n, z = right / 140, 140, 1.959964
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    assert (low, high) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_a_bias_for_a_letter_cancels_in_the_mean_over_orders():
    gold = list("abcdabcd")
    biased = predictions(gold, knows(gold, bias="a"))
    assert describe_model(biased)["correct"] == 8
    assert describe_model(biased)["single_order_accuracy"] == 0.25, "in a single order it always says the letter"
    assert describe_model(biased)["rstd"] > 0


@given(st.lists(st.lists(st.floats(-8, 8), min_size=4, max_size=4), min_size=1, max_size=5), st.lists(st.floats(-30, 30), min_size=4, max_size=4))
def test_any_bias_in_the_logits_cancels_exactly(worths, biases):
    """What a model adds to a letter's logit in every prompt does not change which choice wins."""

    def model(with_bias):
        def choose(index, order):
            logits = [worths[index]["abcd".index(shown)] + with_bias * biases[place] for place, shown in enumerate(order)]
            top = max(logits)
            total = sum(math.exp(value - top) for value in logits)
            return {letter: max(math.exp(value - top) / total, 1e-300) for letter, value in zip(LETTERS, logits, strict=True)}

        return content_answers(predictions(["a"] * len(worths), choose))

    clear = [i for i, worth in enumerate(worths) if sorted(worth)[-1] - sorted(worth)[-2] > 1e-3]
    fair, biased = model(0), model(1)
    assert all(fair[f"q{i}"] == biased[f"q{i}"] == "abcd"[worths[i].index(max(worths[i]))] for i in clear)


@pytest.mark.parametrize("letter", LETTERS)
def test_always_one_letter_is_a_quarter(letter):
    described = describe_model(predictions(list("ccccbd"), always(letter)))
    assert described["single_order_accuracy"] == 0.25
    assert described["correct"] == 0, "all four choices are equally probable: no answer, never a right one"
    assert described["consistency"] == 0
    assert described["letters"][letter] == 24
    assert described["rstd"] == pytest.approx(100 * np.std([1, 0, 0, 0]))


def test_no_answer_is_never_right():
    unread = [
        Prediction(id="q", group="g", order=order, prompt_sha256=order, outputs=("?",), unread=1, letter=None, gold="a")
        for order in ORDERS
    ]
    assert content_answers(unread) == {"q": None}
    described = describe_model(unread)
    assert (described["correct"], described["unparsed"], described["label_mass"], described["consistency"]) == (0, 4, None, 0)


def test_comparison_counts_what_only_one_model_knows():
    gold = list("abcd" * 10)
    base_answers = ["a" if g != "a" else "b" for g in gold]
    base_answers[:4] = gold[:4]
    tuned_answers = list(gold)
    tuned_answers[0] = "c"
    base, tuned = predictions(gold, knows(base_answers)), predictions(gold, knows(tuned_answers))
    result = compare(base, tuned, seed=0)
    assert (len(result["gained"]), result["lost"], result["difference"]) == (36, ["q0"], 35 / 40)
    assert result["majority_baseline"] == 0.25
    assert result["verdict"] == "better"
    assert compare(tuned, base, seed=0)["verdict"] == "worse"
    assert compare(base, base, seed=0)["verdict"] == "no evidence"
    assert content_gold(base) == {f"q{i}": g for i, g in enumerate(gold)}


def test_models_that_were_asked_differently_are_not_compared():
    base = predictions(list("ab"), always("a"))
    with pytest.raises(ValueError, match="not asked the same"):
        compare(base, base[:-1], seed=0)


def test_a_whole_cluster_is_drawn_together():
    """Forty questions in two clusters are worth two observations: the interval must be far wider than with forty."""
    differences = [1.0] * 20 + [0.0] * 20
    two = cluster_interval(differences, ["x"] * 20 + ["y"] * 20, seed=0)
    forty = cluster_interval(differences, [str(i) for i in range(40)], seed=0)
    assert two == (0.0, 1.0)
    assert 0.3 < forty[0] < 0.5 < forty[1] < 0.7
    assert cluster_interval(differences, ["x"] * 20 + ["y"] * 20, seed=0) == two


def test_sign_flip_counts_every_flip_of_a_few_differences():
    differences = [1.0, 0.75, 0.5, -0.25, 0.0, 0.25]
    flips = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in itertools.product((1, -1), repeat=6)]
    expected = sum(abs(total) >= abs(sum(differences)) - 1e-9 for total in flips) / len(flips)
    assert sign_flip(differences, list("abcdef"), seed=0) == pytest.approx(expected)
    assert sign_flip([-d for d in differences], list("abcdef"), seed=1) == pytest.approx(expected), "two-sided, and no draws"


@given(st.integers(0, 6), st.integers(0, 6))
def test_sign_flip_of_whole_answers_is_mcnemar(gained, lost):
    differences = [1.0] * gained + [-1.0] * lost + [0.0] * 5
    assert sign_flip(differences, [str(i) for i in range(len(differences))], seed=0) == pytest.approx(mcnemar(gained, lost))


def test_sign_flip_draws_where_there_are_too_many_to_count():
    differences, names = [1.0] * 25 + [-1.0] * 11, [str(i) for i in range(36)]
    drawn = sign_flip(differences, names, seed=0)
    assert drawn == pytest.approx(mcnemar(25, 11), abs=0.006)
    assert drawn == sign_flip(differences, names, seed=0) != sign_flip(differences, names, seed=1)


def test_sign_flip_flips_whole_clusters():
    assert sign_flip([1.0] * 8, ["x"] * 4 + ["y"] * 4, seed=0) == pytest.approx(2 / 2**2)
    assert sign_flip([1.0] * 8, list("abcdefgh"), seed=0) == pytest.approx(2 / 2**8)
    assert sign_flip([1.0] * 8, ["x"] * 8, seed=0) == 1.0
    with pytest.raises(ValueError, match="8 values but 1 clusters"):
        sign_flip([1.0] * 8, ["x"], seed=0)


def test_holm_known_values():
    """The smallest p times the number of tests, the next times one less, and never below one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9, 0.6]) == pytest.approx([1.0, 1.0, 1.0])
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_stepping_down_rejects(p_values):
    order, rejected = sorted(range(len(p_values)), key=lambda i: p_values[i]), set()
    for rank, place in enumerate(order):
        if p_values[place] * (len(p_values) - rank) >= 0.05:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(holm(p_values)) if p < 0.05} == rejected


@pytest.mark.parametrize(
    ("groups", "sizes", "alike", "lowest", "highest"),
    [
        (140, (1,), 0.0, 0.93, 0.97),
        (100, (1, 1, 2, 4), 0.6, 0.93, 0.97),
        # Too few groups: the interval is too narrow, which is why the verdict also asks the paired test.
        (12, (1, 1, 2, 4), 0.6, 0.80, 0.93),
    ],
)
def test_coverage_of_the_bootstrap_interval(groups, sizes, alike, lowest, highest):
    """The true difference lies within the 95 % interval of so many of 2,000 simulated sets."""
    values, clusters = simulated(np.random.default_rng(3), groups, gain=0.1, alike=alike, sizes=sizes)
    low, high = bootstrap_bounds(values, clusters, seed=0)
    names = [f"{name:03d}" for name in clusters]
    for column in range(3):
        assert cluster_interval(list(values[:, column]), names, seed=0) == pytest.approx((low[column], high[column]))
    coverage = np.mean((low <= 0.1) & (high >= 0.1))
    assert lowest <= coverage <= highest, f"{100 * coverage:.1f} %"


def test_single_questions_would_make_the_interval_too_narrow():
    values, clusters = simulated(np.random.default_rng(3), 100, gain=0.1, alike=0.6, sizes=(1, 1, 2, 4))
    low, high = bootstrap_bounds(values, np.arange(len(clusters)), seed=0)
    coverage = np.mean((low <= 0.1) & (high >= 0.1))
    assert coverage < 0.91


def test_false_positives_of_the_sign_flip_are_about_five_percent():
    """Mean over four orders of models that do not differ, 100 groups whose questions go together."""
    rng = np.random.default_rng(5)
    steps = [simulated(rng, 100, alike=0.6, sizes=(1, 1, 2, 4)) for _ in range(4)]
    values, clusters = sum(values for values, _ in steps) / 4, steps[0][1]
    p_values = flip_p_values(by_cluster(values, clusters))
    names = [str(name) for name in clusters]
    for column in range(5):
        assert sign_flip(list(values[:, column]), names, seed=0) == pytest.approx(p_values[column], abs=0.03)
    rate, ignoring = np.mean(p_values < 0.05), np.mean(flip_p_values(values) < 0.05)
    assert 0.03 <= rate <= 0.06, f"{100 * rate:.1f} %: a little below 5 %, since scores in quarters tie"
    assert ignoring > 0.08, "flipping single questions takes every group for several observations"


@pytest.mark.parametrize("questions", [27, 140])
def test_false_positives_of_mcnemar_stay_below_five_percent(questions):
    values, _ = simulated(np.random.default_rng(9), questions)
    gained, lost = (values > 0).sum(axis=0), (values < 0).sum(axis=0)
    rate = np.mean([mcnemar(int(g), int(lo)) < 0.05 for g, lo in zip(gained, lost, strict=True)])
    assert 0.005 < rate <= 0.05


def test_letter_scores_by_hand():
    """Six prompts in one order: gold aaabbc, answers aab b(none) a; d never occurs."""
    gold, answers = "aaabbc", ["a", "a", "b", "b", None, "a"]
    asked = [
        Prediction(id=f"q{i}", group="g", order="abcd", prompt_sha256="", letter=answer, gold=letter)
        for i, (letter, answer) in enumerate(zip(gold, answers, strict=True))
    ]
    described = describe_model(asked)
    assert described["confusion"]["a"] == {"a": 2, "b": 1, "c": 0, "d": 0}
    assert described["confusion"]["b"] == {"a": 0, "b": 1, "c": 0, "d": 0}, "no answer stands in no column"
    assert described["confusion"]["c"] == {"a": 1, "b": 0, "c": 0, "d": 0}
    assert described["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert described["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)  # a: P = R = 2/3; b: P = R = 1/2
    assert described["rstd"] == pytest.approx(100 * np.std([2 / 3, 1 / 2, 0]))


def test_always_one_letter_is_a_quarter_when_balanced():
    """In one order, 11 of 27 gold answers `a` make "always a" look like 40.7 %."""
    contents = "a" * 11 + "b" * 6 + "c" * 6 + "d" * 4
    own_order = [p for p in predictions(contents, always("a")) if p.order == "abcd"]
    described = describe_model(own_order)
    assert described["single_order_accuracy"] == pytest.approx(11 / 27)
    assert described["balanced_accuracy"] == 0.25
    assert described["macro_f1"] == pytest.approx(2 * 11 / (11 + 27) / 4)


def test_right_in_every_order_asks_for_every_order():
    gold = list("abcd")
    described = describe_model(predictions(gold, knows(gold, bias="a")))
    assert (described["accuracy"], described["all_orders_correct"], described["single_order_accuracy"]) == (1.0, 0.0, 0.25)
    assert describe_model(predictions(gold, knows(gold)))["all_orders_correct"] == 1.0
    half = [replace(p, letter=None) if p.id == "q0" and p.order == "dabc" else p for p in predictions(gold, knows(gold))]
    assert describe_model(half)["all_orders_correct"] == 0.75


def test_questions_in_doubt_are_reported_apart_and_stay_in_the_official_figure():
    gold = list("abcd" * 3)
    answers = ["b" if g == "a" else g for g in gold]  # wrong where the gold letter is a
    asked = predictions(gold, knows(answers))
    assert describe_model(asked)["without_known_issues"] is None
    flagged = [replace(p, known_issue=p.id in ("q0", "q1")) for p in asked]
    described = describe_model(flagged)
    assert (described["correct"], described["questions"]) == (9, 12)
    assert (described["without_known_issues"]["correct"], described["without_known_issues"]["questions"]) == (8, 10)
    assert describe_model([replace(p, known_issue=True) for p in asked])["without_known_issues"] is None


@pytest.mark.parametrize(("meta", "expected"), [({"known_issue": True}, True), ({"known_issue": False}, False), ({}, False)])
def test_predictions_carry_the_doubt_of_their_row(meta, expected):
    row = Row(prompt=({"role": "user", "content": "?"},), output="a", meta=meta, source="rows.jsonl:1")
    asked = Asked(row=row, order="abcd", gold="a", choices=None, messages=row.prompt, input_ids=[1], label_ids=[1, 2, 3, 4])
    prediction = asked.prediction(letter="a", letter_logprobs=dict.fromkeys(LETTERS, -1.0))
    assert (prediction.known_issue, prediction.to_record()["known_issue"]) == (expected, expected)


def test_comparison_of_the_mean_over_orders():
    gold = list("abcd" * 10)
    base, tuned = predictions(gold, always("a")), predictions(gold, knows(gold))
    paired = compare(base, tuned, seed=0)["single_order"]
    assert paired["difference"] == 0.75 and paired["interval"] == [0.75, 0.75]
    assert paired["p_value"] < 0.001
    same = compare(base, base, seed=0)
    assert (same["single_order"]["p_value"], same["discordance"], same["smallest_detectable"]) == (1.0, 0.0, None)


def rendered(base, tuned):
    known = dict.fromkeys(("run", "model", "scorer", "answer", "parser_version", "statutes", "test_file", "test_sha256", "asked", "prompt_fingerprint", "overlap"), "-")
    figures = {"models": {"base": describe_model(base), "tuned": describe_model(tuned)}, "comparison": compare(base, tuned, seed=0)}
    flags = {"contaminated": None, "rehearsal": False, "warnings": [], "retrieval": None, "diagnosis": []}
    return render_report({**known, **figures, **flags, "law_as_of": [""], "groups": 40})


def test_the_report_says_what_the_set_could_show():
    gold = list("abcd" * 10)
    weak, strong = [*gold[:20], *("b" if g == "a" else "a" for g in gold[20:])], list(gold)
    base, tuned = predictions(gold, knows(weak)), predictions(gold, knows(strong))
    report = rendered(base, tuned)
    assert "With 40 questions of which 50.0 % changed, the smallest difference that is found in 4 of 5 tries is 3" in report
    assert "| gold | base | tuned |" in report and "| a | 20 / 10 / 5 / 5 | 40 / 0 / 0 / 0 |" in report
    assert "| right in every order | 50.0 % | 100.0 % |" in report
    assert "signs of whole groups flipped" in report
    assert "authors doubt" not in report
    assert "no difference could be found" in rendered(base, base)
    doubtful = [[replace(p, known_issue=p.id == "q39") for p in side] for side in (base, tuned)]
    assert "Without the 1 whose gold answer its authors doubt: base 51.3 % (20/39), tuned 100.0 % (39/39)." in rendered(*doubtful)


GOOD = {"rstd": 5.0, "label_mass": 0.99}


@pytest.mark.parametrize(
    ("low", "high", "p_value", "tuned", "verdict"),
    [
        (0.01, 0.2, 0.01, GOOD, "better"),
        (0.0, 0.2, 0.01, GOOD, "no evidence"),
        (-0.1, 0.1, 0.01, GOOD, "no evidence"),
        (-0.2, -0.01, 0.01, GOOD, "worse"),
        (-0.2, -0.01, 0.05, GOOD, "no evidence"),
        (0.01, 0.2, 0.05, GOOD, "no evidence"),
        (0.01, 0.2, 0.01, GOOD | {"rstd": 10.1}, "no evidence"),
        (0.01, 0.2, 0.01, GOOD | {"label_mass": 0.94}, "no evidence"),
        (0.01, 0.2, 0.01, GOOD | {"label_mass": None}, "better"),
    ],
)
def test_verdict(low, high, p_value, tuned, verdict):
    assert judge(low, high, p_value, GOOD, tuned)[0] == verdict


def test_a_handful_of_questions_proves_nothing():
    gold, wrong = list("abc"), list("bcd")
    result = compare(predictions(gold, knows(wrong)), predictions(gold, knows(gold)), seed=0)
    assert (result["interval"], result["verdict"]) == ([1.0, 1.0], "no evidence")
