"""The diagnosis: every finding where it belongs, and silence where there is nothing, or too little, to see."""

import json
import math
import random
from collections import Counter

import numpy as np
import pytest

from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.evaluation.diagnosis import TrainEvidence, diagnose, retrieval_figures
from lawft_trl.evaluation.metrics import Prediction, describe_model, share_right
from lawft_trl.evaluation.weak_spots import lowest_part, question_type

WELL_TRAINED = TrainEvidence(steps=300, first_loss=1.2, last_loss=0.3)
N = 40


def made(answer, n=N, *, golds=None, groups=None, orders=ORDERS):
    """Predictions of a model: `answer(index, order, gold letter)` is a letter, or what a prediction holds beside it."""
    predictions = []
    for index in range(n):
        gold = (golds or "abcd")[index % len(golds or "abcd")]
        for order in orders:
            right = LETTERS[order.index(gold)]
            found = answer(index, order, right)
            fields = scored(found) if isinstance(found, str) else found
            predictions.append(
                Prediction(id=f"q{index}", group=f"g{index % (groups or n)}", order=order, prompt_sha256=f"{index}{order}", gold=right, **fields)
            )
    return predictions


def scored(letter, mass=0.99):
    return {"letter": letter, "letter_logprobs": {other: math.log(mass * (0.91 if other == letter else 0.03)) for other in LETTERS}}


def written(letter, text=None, *, cut=0):
    return {"letter": letter, "outputs": (letter if text is None else text,), "cut": cut, "unread": int(letter is None)}


def right_for(share, wrong=1):
    """Right for the first `share` of the questions, else `wrong` letters on from the right one, in every order."""

    def answer(index, order, gold):
        choice = order[LETTERS.index(gold)]
        other = LETTERS[(LETTERS.index(choice) + wrong) % 4]
        return gold if (index * 7) % N < share * N else LETTERS[order.index(other)]

    return answer


def records(predictions, **fields):
    """`questions.jsonl` of the predictions; a field may be a function of the question's number."""
    ids = dict.fromkeys(one.id for one in predictions)
    plain = {"law": "試験法", "question": "正しいものはどれか。", "gold_shown": None} | fields
    return {question: {key: value(int(question[1:])) if callable(value) else value for key, value in plain.items()} for question in ids}


def findings(tuned, base=None, *, train=WELL_TRAINED, questions=None, **options):
    predictions = ({"base": base} if base else {}) | {"tuned": tuned}
    models = {name: describe_model(answers) for name, answers in predictions.items()}
    return {found["name"]: found for found in diagnose(models, predictions, questions or records(tuned), train=train, **options)}


BASE = made(right_for(0.5))
GOOD = made(right_for(0.9))


def test_nothing_is_found_where_nothing_is_wrong():
    check = share_right([True] * 37 + [False] * 3)
    train = TrainEvidence(steps=300, first_loss=1.2, last_loss=0.3, check=check)
    assert findings(GOOD, BASE, train=train, statutes="gold") == {}
    assert findings(GOOD, train=train) == {}, "nor where the tuned model stands alone"


def test_contamination_is_said_first_and_of_any_number_of_questions():
    train = TrainEvidence(contaminated="CONTAMINATED: 3 of 3 …", steps=3)
    assert list(findings(made(lambda *_: "a", 3), train=train)) == ["contaminated"]
    found = findings(made(lambda *_: "a"), BASE, train=train)
    assert list(found)[:2] == ["contaminated", "label-collapse"]
    assert "--test FILE" in found["contaminated"]["try_next"]


@pytest.mark.parametrize(("n", "groups", "told"), [(19, None, False), (20, None, True), (40, 9, False), (40, 10, True)])
def test_of_few_questions_or_groups_nothing_is_said(n, groups, told):
    assert ("label-collapse" in findings(made(lambda *_: "a", n, groups=groups))) == told


def one_letter(share, letter="a"):
    """One letter for a share of the prompts, else the right choice."""
    return lambda index, order, gold: letter if random.Random(f"{index}{order}").random() < share else gold


def test_a_collapse_to_one_letter():
    found = findings(made(one_letter(0.95)), BASE)
    assert "`a` is the answer to 95.6 % of the prompts and right for 25.0 % (base: 25.0 %)" in found["label-collapse"]["says"]
    assert "letter-skew" in found["label-collapse"]["try_next"]
    partly = findings(made(one_letter(0.5)), BASE)
    assert "label-collapse" not in partly and "position-bias" in partly
    skewed = made(lambda index, order, gold: "a", golds="aaaab", orders=ORDERS[:1])
    assert "label-collapse" not in findings(skewed), "in one order `a` may be right nearly always"


def test_a_preference_for_a_letter_is_told_from_chance_and_from_what_the_base_had():
    found = findings(made(one_letter(0.3)), GOOD)["position-bias"]
    assert "RStd" in found["says"] and "(base: 0.0)" in found["says"]
    assert "evaluation.orders: 4" in found["try_next"]
    assert "position-bias" not in findings(made(one_letter(0.3)), made(one_letter(0.35, "b"))), "the base had it as much"
    assert "position-bias" not in findings(made(one_letter(0.04)), GOOD), "a slight one"
    few = made(lambda index, order, gold: "a" if index in (0, 7, 14, 21) else gold, 24)
    assert "position-bias" not in findings(few, made(right_for(0.9), 24)), "four questions may be chance"


def test_the_prior_is_offered_where_it_helps():
    def biased(index, order, gold):
        logits = {letter: 2.0 * (letter == gold) + 3.0 * (letter == "c") for letter in LETTERS}
        total = math.log(sum(map(math.exp, logits.values()))) + 0.01
        scores = {letter: value - total for letter, value in logits.items()}
        return {"letter": max(scores, key=scores.get), "letter_logprobs": scores}

    def half(index, order, gold):  # `c` in every second question
        return biased(index, order, gold) if index % 2 else scored(gold)

    helped = findings(made(half), GOOD)["position-bias"]
    assert "label_prior" in helped["try_next"]
    assert "label_prior" not in findings(made(lambda *question: written(one_letter(0.3)(*question))), GOOD)["position-bias"]["try_next"]


@pytest.mark.parametrize(("mass", "told"), [(0.001, True), (0.9, True), (0.96, False)])
def test_probability_on_something_else_than_letters(mass, told):
    answers = made(lambda index, order, gold: scored(gold, mass))
    found = findings(answers, BASE)
    assert ("format-loss" in found) == told
    if told:
        assert f"Only {mass:.3g} of the probability" in found["format-loss"]["says"]
        assert "(base: 0.99)" in found["format-loss"]["says"]


def test_letters_that_carry_no_probability_are_not_read():
    collapsed = findings(made(lambda *_: scored("a", 0.001)), BASE)
    assert "format-loss" in collapsed and "label-collapse" not in collapsed
    assert "says little" in collapsed["format-loss"]["says"]
    both = findings(made(lambda *_: scored("a", 0.9)), BASE)
    assert list(both)[:2] == ["format-loss", "label-collapse"]


def texts(share, text, letter=None):
    """A text without the right letter for a share of the questions, spread over them; else the right letter."""
    return lambda index, order, gold: written(letter, text) if (index * 7) % N < share * N else written(gold)


def test_written_answers_without_a_letter():
    base = made(texts(0.02, "わからない"))
    found = findings(made(texts(0.4, "わからない")), base)["format-loss"]
    assert "40.0 % (base: 2.5 %) of the answers have no letter" in found["says"]
    assert "「わからない」" in found["says"] and "letter-asked" in found["try_next"]
    assert "format-loss" not in findings(made(texts(0.05, "わからない")), base)


def test_written_answers_of_another_form_that_can_still_be_read():
    bracketed = made(lambda index, order, gold: written(gold, f"【{gold}】"))
    plain = made(lambda index, order, gold: written(gold, f" {gold}\n"))
    found = findings(bracketed, plain)["format-loss"]
    assert "100.0 % (base: 0.0 %) are not the bare letter" in found["says"] and "no letter" not in found["says"]
    assert "format-loss" not in findings(plain, bracketed)
    assert "format-loss" not in findings(bracketed, bracketed), "the base wrote so, too: nothing was lost"
    assert "format-loss" not in findings(bracketed, plain, answer="cot"), "a reasoned answer is more than its letter"
    wide = made(lambda index, order, gold: written(gold, chr(ord(gold) - ord("a") + ord("Ａ"))))
    assert "format-loss" not in findings(wide, plain), "another kind of letter is the letter"


LOOPS = ["回答: b\n" * 6, "答えはbです。" * 30, "まず条文を読む。" + "b b " * 20 + "b"]
NO_LOOPS = ["a 第1条により正しい。\nb 第1条により誤り。\nc 同じ。\nd 同じ。\n答え: a", "-" * 60 + "\n答え: a", "……………………", ""]


@pytest.mark.parametrize(("text", "told"), [*((text, True) for text in LOOPS), *((text, False) for text in NO_LOOPS)])
def test_answers_that_go_in_circles(text, told):
    found = findings(made(lambda index, order, gold: written(gold, text)), answer="cot")
    assert ("repetition" in found) == told
    if told:
        assert "100.0 % repeat a line or a phrase 5 times or more" in found["repetition"]["says"]


def test_answers_that_do_not_end():
    plain = made(lambda index, order, gold: written(gold))
    cut = made(lambda index, order, gold: written(gold, f"{gold} これは条文{index}による長い理由。", cut=1))
    reasoned = findings(cut, plain, answer="cot")["repetition"]
    assert "100.0 % (base: 0.0 %) of the answers reach the greatest length" in reasoned["says"]
    assert "evaluation.max_new_tokens" in reasoned["try_next"]
    assert "end of the turn" in findings(cut, plain)["repetition"]["try_next"], "a letter is never too long"
    rarely = made(lambda index, order, gold: written(gold, cut=int(index == 0)))
    assert "repetition" not in findings(rarely, plain)


def test_the_same_answers_as_the_base():
    found = findings(BASE, BASE, train=TrainEvidence(steps=6, first_loss=2.0, last_loss=1.98))
    says, mend = found["nothing-learned"]["says"], found["nothing-learned"]["try_next"]
    assert "40 of 40 questions" in says and "6 optimiser steps" in says and "from 2 to 1.98" in says
    assert "at least 100 steps" in mend
    assert "training.learning_rate" in findings(BASE, BASE, train=TrainEvidence(steps=300, first_loss=2.0, last_loss=1.98))["nothing-learned"]["try_next"]
    assert "derive" in findings(BASE, BASE)["nothing-learned"]["try_next"], "the loss fell: the rows taught nothing new"
    assert "nothing-learned" not in findings(made(right_for(0.6)), BASE)
    perfect = made(right_for(1))
    assert "nothing-learned" not in findings(perfect, perfect), "there was nothing left to learn"


def test_few_steps_are_named_only_where_they_did_not_help():
    few = TrainEvidence(steps=33, first_loss=1.0, last_loss=0.5)
    assert "33 optimiser steps" in findings(made(right_for(0.55, wrong=2)), BASE, train=few)["few-steps"]["says"]
    assert "few-steps" not in findings(GOOD, BASE, train=few)
    assert "few-steps" not in findings(made(right_for(0.55, wrong=2)), BASE)
    assert "few-steps" not in findings(made(one_letter(1)), BASE, train=few), "it learned: to say `a`"


@pytest.mark.parametrize(("correct", "asked", "told"), [(98, 100, True), (60, 100, False), (18, 19, False)])
def test_training_questions_answered_better_than_held_out_ones(correct, asked, told):
    check = share_right([True] * correct + [False] * (asked - correct))
    found = findings(BASE, GOOD, train=TrainEvidence(steps=300, check=check))
    assert ("over-fitting" in found) == told
    if told:
        assert "98.0 % (98/100" in found["over-fitting"]["says"] and "50.0 % (20/40" in found["over-fitting"]["says"]
        assert "evaluation.early_stopping_patience" in found["over-fitting"]["try_next"]


def hit_for(index):
    return index % 2 == 0


def test_what_the_search_decides():
    tuned = made(lambda index, order, gold: right_for(1 if hit_for(index) else 0.3)(index, order, gold), 80)
    questions = records(tuned, gold_shown=hit_for)
    figures = retrieval_figures({"base": tuned, "tuned": tuned}, questions)
    assert figures["hit"]["questions"] == figures["miss"]["questions"] == 40
    assert figures["hit"]["tuned"]["accuracy"] == 1 and figures["miss"]["tuned"]["accuracy"] == pytest.approx(0.3, abs=0.05)
    assert figures["hit"]["tuned"]["interval"][1] == pytest.approx(1)
    found = findings(tuned, questions=questions, statutes="retrieved")["retrieval"]
    assert "100.0 % (40/40" in found["says"] and "statutes eval" in found["try_next"]
    same = made(right_for(0.9), 80)
    assert "retrieval" not in findings(same, questions=records(same, gold_shown=hit_for), statutes="retrieved")
    few = made(lambda index, order, gold: right_for(0 if index < 5 else 1)(index, order, gold), 80)
    assert "retrieval" not in findings(few, questions=records(few, gold_shown=lambda index: index >= 5), statutes="retrieved")


def test_where_the_rows_say_nothing_of_retrieval_nothing_is_told():
    assert retrieval_figures({"tuned": GOOD}, records(GOOD)) is None
    only_hits = retrieval_figures({"tuned": GOOD}, records(GOOD, gold_shown=True))
    assert list(only_hits) == ["hit"]


def test_a_text_that_is_shown_and_not_read():
    assert "reading" in findings(BASE, GOOD, statutes="gold")
    assert "lawft ladder RUN" in findings(BASE, GOOD, statutes="gold")["reading"]["try_next"]
    assert "reading" not in findings(BASE, GOOD, statutes="none")
    assert "reading" not in findings(made(right_for(0.7)), GOOD, statutes="gold"), "28 of 40 may be three quarters"
    assert "reading" in findings(BASE, GOOD, questions=records(BASE, gold_shown=True), statutes="retrieved")
    assert "reading" not in findings(BASE, GOOD, questions=records(BASE, gold_shown=False), statutes="retrieved")
    assert "reading" not in findings(made(one_letter(1)), GOOD, statutes="gold"), "that it says `a` explains it"


def test_the_lowest_law_with_its_base_and_examples():
    def law(index):
        return ("甲法", "乙法", "丙法")[index % 3]

    tuned = made(lambda index, order, gold: right_for(0.2 if law(index) == "乙法" else 1)(index, order, gold), 90)
    base = made(right_for(0.5, wrong=2), 90)
    found = findings(tuned, base, questions=records(tuned, law=law))["lowest-law"]
    assert "Lowest of 3 laws with ten questions or more: 乙法" in found["says"]
    assert "/30, 95 % interval" in found["says"] and "all others 100.0 %; base: " in found["says"]
    assert found["says"].count("`q") == 3
    even = made(right_for(0.8), 90)
    assert "lowest-law" not in findings(even, base, questions=records(even, law=law))


def test_the_lowest_type_of_question():
    def text(index):
        return "次のうち、誤っているものはどれか。" if index % 2 else "次のうち、正しいものはどれか。"

    tuned = made(lambda index, order, gold: right_for(0.2 if index % 2 else 1)(index, order, gold), 60)
    found = findings(tuned, questions=records(tuned, question=text))
    assert "false statement (誤っているもの)" in found["lowest-question-type"]["says"]
    assert "lowest-law" not in found, "one law alone has no others"


def test_small_parts_and_parts_without_a_name_are_not_compared():
    right = {f"q{index}": index >= 9 for index in range(60)}
    assert lowest_part({f"q{index}": "small" if index < 9 else "rest" for index in range(60)}, right) is None
    right = {f"q{index}": index >= 10 for index in range(60)}
    found = lowest_part({f"q{index}": "ten" if index < 10 else "rest" for index in range(60)}, right)
    assert (found["part"], found["correct"], found["questions"], found["others"]) == ("ten", 0, 10, 1)
    assert found["wrong"] == ["q0", "q1", "q2"]
    assert found["p_value"] == pytest.approx(2 / math.comb(60, 10)), "Fisher by hand, times two parts (Holm)"
    assert lowest_part({f"q{index}": "" if index < 10 else "rest" for index in range(60)}, right) is None


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("次のうち、正しいものを教えてください。", "true"),
        ("公開買付けによらなければならないものとして、正しいものを教えてください。", "true"),
        ("縦覧書類及び期間の組み合わせとして、誤っているものを教えてください。", "combination"),
        ("体制の記載として正しくないものを教えてください。", "false"),
        ("登録を受けなければならないとされているものに該当しないものを教えてください。", "exception"),
        ("有価証券報告書の提出期間を定めた条文を教えてください。", "provision"),
        ("次の文の（　）に入る語はどれか。", "blank"),
        ("国庫に納付しなければならない課徴金の額はいくらか、教えてください。", "number"),
        ("索具技師となることができるのは、何歳以上の者か。", "number"),
        ("金融商品取引法第168条に違反する行為を教えてください。", "instance"),
        ("届出を要しない有価証券の募集又は売出しに該当するものを教えてください。", "instance"),
        ("高度を変えた者は、いくら以下の過料に処せられるか。", "number"),
        ("雪蔵の営業の許可の権限は、だれに属するか。", "other"),
    ],
)
def test_types_of_question(question, expected):
    assert question_type(question).split()[0] == expected


def test_types_of_real_questions(lawqa_dir):
    data = json.loads((lawqa_dir / "data" / "selection.json").read_text(encoding="utf-8"))
    records = data if isinstance(data, list) else data["samples"]
    types = Counter(question_type(record["問題文"]).split()[0] for record in records)
    assert sum(types.values()) == 140
    assert types["other"] <= 14, types
    assert types["true"] >= 40 and types["false"] >= 25 and types["provision"] >= 20, types


def test_honest_models_raise_few_alarms():
    """Sets of 30 questions, a base of 40 % and a tuned model of 55 % with noise in every order: no finding in more than 6 %."""
    sets, told = 120, Counter()
    for seed in range(sets):
        rng = np.random.default_rng(seed)

        def noisy(knows, rng=rng):
            contents = {index: rng.normal(0, 1, 4) for index in range(30)}
            known = {index for index in contents if rng.random() < knows}

            def answer(index, order, gold):
                shown = {letter: contents[index][LETTERS.index(choice)] for letter, choice in zip(LETTERS, order, strict=True)}
                logits = {letter: shown[letter] + 4 * (letter == gold and index in known) + rng.normal(0, 1) for letter in LETTERS}
                total = math.log(sum(map(math.exp, logits.values()))) + 0.01
                return {"letter": max(logits, key=logits.get), "letter_logprobs": {letter: value - total for letter, value in logits.items()}}

            return answer

        base, tuned = made(noisy(0.2), 30), made(noisy(0.4), 30)
        shown, laws = rng.random(30) < 0.5, rng.integers(0, 2, 30)
        questions = records(tuned, gold_shown=lambda index, shown=shown: bool(shown[index]), law=lambda index, laws=laws: f"第{laws[index]}法")
        check = share_right(list(rng.random(30) < 0.55))
        told.update(findings(tuned, base, train=TrainEvidence(steps=300, check=check), questions=questions, statutes="retrieved").keys() - {"reading"})
    assert max(told.values(), default=0) <= 0.06 * sets, told
