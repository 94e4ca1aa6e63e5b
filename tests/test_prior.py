"""PriDe: the preference for letters, found and taken off."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.evaluation.metrics import Prediction, describe_model
from lawft_trl.evaluation.prior import debiased_letter, label_prior, one_order_hits

LOGITS = st.lists(st.floats(-4, 4), min_size=4, max_size=4)


def asked(question, gold, contents, bias, *, group=None, orders=ORDERS):
    """A model whose logit is that of the choice plus that of the letter."""
    made = []
    for order in orders:
        logits = {letter: contents[LETTERS.index(shown)] + bias[at] for at, (letter, shown) in enumerate(zip(LETTERS, order, strict=True))}
        total = math.log(sum(map(math.exp, logits.values())))
        scores = {letter: logit - total for letter, logit in logits.items()}
        made.append(
            Prediction(
                id=question,
                group=group or question,
                order=order,
                prompt_sha256=f"{question}{order}",
                letter=max(scores, key=scores.get),
                letter_logprobs=scores,
                gold=LETTERS[order.index(gold)],
            )
        )
    return made


@given(bias=LOGITS, contents=st.lists(LOGITS, min_size=1, max_size=5))
def test_a_preference_that_adds_to_logits_is_found_whatever_is_asked(bias, contents):
    predictions = [one for at, content in enumerate(contents) for one in asked(f"q{at}", "a", content, bias)]
    total = sum(map(math.exp, bias))
    expected = {letter: math.log(math.exp(value) / total) for letter, value in zip(LETTERS, bias, strict=True)}
    assert label_prior(predictions) == pytest.approx(expected, abs=1e-6)


@given(bias=LOGITS, contents=st.permutations([0.0, 1.0, 2.0, 3.0]))
def test_with_the_prior_taken_off_the_choice_decides_in_every_order(bias, contents):
    predictions = asked("q", "abcd"[contents.index(3.0)], contents, bias)
    prior = label_prior(predictions)
    assert all(debiased_letter(one.letter_logprobs, prior) == one.gold for one in predictions)


def test_the_prior_is_the_mean_of_the_questions_priors():
    """By hand: softmax of two letters' biases, 1 : 1 : 1 : 1 and 5 : 1 : 1 : 1, gives 0.25 and 0.625 for `a`."""
    predictions = asked("q", "a", [0, 0, 0, 0], [0, 0, 0, 0]) + asked("r", "a", [0, 0, 0, 0], [math.log(5), 0, 0, 0])
    prior = label_prior(predictions)
    assert math.exp(prior["a"]) == pytest.approx((0.25 + 0.625) / 2)
    assert sum(map(math.exp, prior.values())) == pytest.approx(1)


def test_questions_in_one_order_and_written_answers_say_nothing():
    one = asked("q", "a", [1, 0, 0, 0], [0, 0, 0, 0], orders=ORDERS[:1])
    assert label_prior(one) is None and one_order_hits(one) is None
    written = Prediction(id="q", group="q", order="abcd", prompt_sha256="", letter="a", gold="a", outputs=("a",))
    assert label_prior([written]) is None
    full = asked("r", "a", [1, 0, 0, 0], [2, 0, 0, 0])
    assert label_prior([*one, *full]) == label_prior(full)


def test_the_prior_for_a_question_comes_from_other_groups_only():
    """q is preferred at `a` because `a` is right; r and s, of another group, prefer nothing."""
    q = asked("q", "a", [0, 1, 0, 0], [3, 0, 0, 0], group="one")  # says `a`, wrongly by its contents; gold is `a`
    r = asked("r", "b", [0, 1, 0, 0], [0, 0, 0, 0], group="two")
    assert one_order_hits([*q, *r])[1][0], "the prior of r is flat: the answer to q stays a"
    same_group = asked("r", "b", [0, 1, 0, 0], [0, 0, 0, 0], group="one")
    assert one_order_hits([*q, *same_group]) is None, "nothing is known from outside the group"
    biased = asked("r", "b", [0, 1, 0, 0], [3, 0, 0, 0], group="two")
    assert one_order_hits([*q, *biased]) == ([True, False], [False, True])


def test_describe_model_tells_what_one_order_is_worth_with_and_without():
    golds = "abcd" * 5
    predictions = [one for at, gold in enumerate(golds) for one in asked(f"q{at}", gold, [2.0 * (letter == gold) for letter in LETTERS], [0, 0, 3, 0])]
    described = describe_model(predictions)
    assert described["accuracy"] == 1, "over four orders the preference cancels"
    assert described["one_order"]["as_asked"]["correct"] == 5, "in one order it wins: always c"
    assert described["one_order"]["debiased"]["correct"] == 20
    low, high = described["one_order"]["as_asked"]["interval"]
    assert low == pytest.approx(0.1119, abs=1e-4) and high == pytest.approx(0.4687, abs=1e-4), "Wilson for 5 of 20"
