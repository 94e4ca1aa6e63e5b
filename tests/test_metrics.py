"""Statistics against known values, and the verdict's conditions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.evaluation.metrics import (
    Prediction,
    cluster_interval,
    compare,
    content_answers,
    content_gold,
    describe_model,
    judge,
    mcnemar,
)


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
                    output=None,
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
    [(12, 4, 0.0768), (3, 15, 0.0075), (10, 0, 0.00195), (0, 0, 1.0), (5, 5, 1.0), (14, 2, 0.0042)],
)
def test_mcnemar_known_values(gained, lost, expected):
    assert mcnemar(gained, lost) == pytest.approx(expected, abs=1e-4)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_binomial_sum(gained, lost):
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    assert mcnemar(gained, lost) == pytest.approx(min(1.0, 2 * tail))


def test_wilson_interval_known_value():
    """60 of 140, from research on this very set: 35.0 % to 51.1 %."""
    gold = ["a"] * 140
    answers = ["a"] * 60 + ["b"] * 80
    low, high = describe_model(predictions(gold, knows(answers)))["interval"]
    assert (round(100 * low, 1), round(100 * high, 1)) == (35.0, 51.1)


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
        Prediction(id="q", group="g", order=order, prompt_sha256=order, output="?", letter=None, letter_logprobs=None, gold="a")
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
