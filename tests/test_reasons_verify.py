"""Reasons: what the verification lets through, what it must not, and how a teacher's output is read."""

import dataclasses
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lawft_trl.data.lawqa import find_lawqa, read_lawqa
from lawft_trl.data.prompts import UNSUPPORTED, answer_text
from lawft_trl.data.questions import LETTERS, ORDERS, Question, write_questions
from lawft_trl.errors import InputError
from lawft_trl.reasons.verify import AcceptedReasons, file_problems, parse_reasons, reasons_grams, reasons_problems

QUESTION = Question(
    id="q1",
    law="架空借家法",
    question="建物の賃貸借の更新について、正しいものはどれか。",
    choices={
        "a": "期間の満了の三月前までに通知をしなければならない。",
        "b": "期間の満了の一年前から六月前までの間に通知をしなければならない。",
        "c": "通知をすることを要しない。",
        "d": "期間の満了の一年前から六月前までの間に通知をすることができる。",
    },
    answer="b",
    statutes=(
        "## 架空借家法\n### 第26条の２（更新）\n#### 第１項\n当事者が期間の満了の一年前から六月前までの間に相手方に対して「更新をしない旨」の通知をしなければならない。",
        "## 架空借家法\n### 第二十七条\nこの法律は、平成十年から施行する。",
    ),
)
REASONS = {
    "a": "条文は「期間の満了の一年前から六月前までの間」とし、『三月前まで』とする点が異なる。",
    "b": "第二十六条の２の「通知をしなければならない」という義務と期間のいずれにも『通知をしなければならない』が一致する。",
    "c": "「通知をしなければならない」とあり、『要しない』とするのは反対である。",
    "d": "義務であるのに、『通知をすることができる』として任意のものとしている。",
}


def problems(changes=None, question=QUESTION, statutes=QUESTION.statutes, **reasons):
    return reasons_problems(question, {**REASONS, **reasons, **(changes or {})}, statutes)


def kinds(found):
    return sorted({problem.split(":")[0] for problem in found})


def test_sound_reasons_pass():
    assert problems() == []


FINE = {
    "width and white space do not count": {"b": "第26条の２の「通知を しなければ\u3000ならない」に『通知をしなければならない』が一致する。"},
    "a bracket within a quotation": {"b": "「相手方に対して『更新をしない旨』の通知をしなければならない」とあり、これと一致する。"},
    "a term of the choice in short": {"d": "「することができる」ではなく義務であると定めるから、これとは異なる。".replace("することができる", "できる")},
    "another article that is shown": {"d": "第27条は施行の時を定めるだけで、任意とする根拠にはならない。"},
    "the word choice without a place": {"d": "この選択肢は義務を任意のものとしており、ほかの選択肢とも違って根拠がない。"},
    "letters within words": {"d": "ABCD株式会社であるかdataであるかを問わず、義務であって任意ではない。"},
    "three choices": {"d": "選択肢四つのうちで、義務を任意のものとするのはこれだけである。"},
}


@pytest.mark.parametrize("name", FINE)
def test_what_must_pass(name):
    assert problems(FINE[name]) == []


FAULTS = {
    "missing": ({"c": "  "}, "missing: c: no reason"),
    "too little": ({"c": "誤り。"}, "empty: c: '誤り。' gives no reason"),
    "the choice alone": ({"c": "『通知をすることを要しない。』とある。"}, "empty: c"),
    "the same twice": ({"c": REASONS["d"].replace("『通知をすることができる』", ""), "d": REASONS["d"].replace("『通知をすることができる』", "")}, "repeated: 2 choices"),
    "invented quotation": ({"b": "「通知をするよう努めなければならない」とあり、義務に近い。"}, "quotation: b: 「通知をするよう努めなければならない」 is not in the statutes"),
    "invented, in half-width brackets": ({"b": "｢通知をするよう努めなければならない｣とあり、義務に近い。"}, "quotation: b: 「通知をするよう努めなければならない」"),
    "elided quotation": ({"b": "「期間の満了の…通知をしなければならない」とあり、義務である。"}, "quotation: b"),
    "a short word of neither": ({"b": "「三年」と定められているので、義務であることに変わりはない。"}, "quotation: b: 「三年」"),
    "an empty quotation": ({"b": "「」と定められているので、義務であることに変わりはない。"}, "quotation: b: 「」"),
    "words of another choice": ({"b": "『要しない』とする点が条文と異なり、義務の定めに反している。"}, "choice quotation: b: 『要しない』"),
    "open bracket": ({"b": "「通知をしなければならないとあり、義務であることは明らかである。"}, "brackets: b"),
    "crossed brackets": ({"b": "「通知を『しなければ」ならない』とあり、義務であることは明らか。"}, "brackets: b"),
    "other quotation marks": ({"b": "“通知をするよう努める”とあり、義務であることは明らかである。"}, "brackets: b: statutes are quoted in 「」"),
    "letter": ({"b": "aと異なり、期間と義務のいずれもが条文と一致している。"}, "letter: b: 'a' names a choice"),
    "wide letter": ({"b": "期間と義務のいずれもが条文と一致し、（ｃ）とは異なる。"}, "letter: b: 'c'"),
    "letter in a short quotation": ({"b": "「ｃ」とは異なり、期間と義務のいずれもが条文と一致する。"}, "quotation: b"),
    "capital letter": ({"b": "期間と義務のいずれもが条文と一致し、Ｃとは異なる。"}, "letter: b: 'C'"),
    "numbered choice": ({"b": "期間と義務のいずれもが条文と一致し、選択肢③とは異なる。"}, "letter: b: '選択肢3'"),
    "kana choice": ({"b": "期間と義務のいずれもが条文と一致し、肢イとは異なる。"}, "letter: b: '肢イ'"),
    "place of a choice": ({"b": "期間と義務のいずれもが条文と一致し、最初の選択肢とは異なる。"}, "letter: b: '最初の選択肢'"),
    "article that is not shown": ({"b": "第二十六条の三により、期間と義務のいずれもが一致する。"}, "article: b: 第26条の3 is not in what is shown"),
    "only headings quoted": (
        {"a": "「架空借家法」の定めと期間が異なっている。", "b": "条文の期間と義務のいずれにも一致する。", "c": "義務を定める条文の反対である。"},
        "no quotation: no reason quotes a provision",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_must_not_pass(name):
    changes, expected = FAULTS[name]
    found = problems(changes)
    assert [problem for problem in found if problem.startswith(expected)], found
    assert kinds(found) == [expected.split(":")[0]], found


def test_a_letter_that_the_question_uses_is_a_person():
    about = dataclasses.replace(QUESTION, question="ＡがＢに建物を賃貸した。正しいものはどれか。")
    reason = "Aは相手方であるBに、義務として期間内に伝える必要がある。"
    assert problems(question=about, b=reason) == []
    assert kinds(problems(b=reason)) == ["letter"]
    assert kinds(problems(question=about, b=reason + "選択肢Aとは異なる。")) == ["letter"]


def test_without_statutes_nothing_can_be_quoted_and_nothing_must():
    words = {letter: text.replace("「", "").replace("」", "").replace("第二十六条の２の", "") for letter, text in REASONS.items()}
    assert problems(words, statutes=()) == []
    assert kinds(problems(statutes=())) == ["article", "quotation"]


def test_all_faults_are_told_at_once():
    found = problems(a="", b="「通知は要しないものとする」とある第9条による。", c="ｂを見よ、これは義務の定めに反する。")
    assert kinds(found) == ["article", "letter", "missing", "no quotation", "quotation"]


@pytest.mark.parametrize("order", ["".join(order) for order in itertools.permutations("abcd")])
def test_the_order_of_the_choices_changes_nothing(order):
    whole = dataclasses.replace(QUESTION, reasons=REASONS)
    moved = whole.in_order(order)
    assert reasons_problems(moved, moved.reasons, QUESTION.statutes) == []
    broken = dataclasses.replace(QUESTION, reasons=REASONS | {"c": "「通知を要しないものとする」とある。"}).in_order(order)
    assert kinds(reasons_problems(broken, broken.reasons, QUESTION.statutes)) == ["quotation"]
    assert reasons_grams(moved.reasons) == reasons_grams(REASONS)


def test_near_identical_sees_through_letters_and_numbers():
    accepted = AcceptedReasons()
    accepted.add("far", {"a": "まったく別の事柄についての、別の言葉による長い理由である。"})
    swapped = {letter: text.replace("六月", "８月").replace("一年", "二十年") for letter, text in REASONS.items()}
    assert accepted.near_identical(swapped) is None
    accepted.add("near", REASONS)
    accepted.add("nearer", swapped)
    assert accepted.near_identical(swapped) == "near", "the first one"
    assert accepted.near_identical(dict(zip("abcd", reversed(REASONS.values()), strict=True))) == "near"
    half = {letter: text if letter in "ab" else f"これは{letter}についての、条文から離れた独自の理由を述べたもの。" for letter, text in REASONS.items()}
    assert accepted.near_identical(half) is None


@given(st.lists(st.text("あいう漢字", max_size=40), min_size=1, max_size=6), st.text("あいう漢字", max_size=40))
def test_the_search_for_near_identical_reasons_misses_none(texts, text):
    def jaccard(one, other):
        return len(one & other) / len(one | other)

    accepted = AcceptedReasons()
    for index, other in enumerate([*texts, text[1:], text + "あ"]):
        accepted.add(str(index), {"a": other})
    wanted = reasons_grams({"a": text})
    near = [str(i) for i, other in enumerate([*texts, text[1:], text + "あ"]) if jaccard(wanted, reasons_grams({"a": other})) >= 0.9]
    assert accepted.near_identical({"a": text}) == (near[0] if near else None)


def written(reasons=REASONS, answer="b", **how):
    return answer_text(dataclasses.replace(QUESTION, reasons=reasons, answer=answer), answer="cot", **how)


PLAIN = written()
FORMS = {
    "as we write it": PLAIN,
    "with the line on missing statutes": written(caveat=UNSUPPORTED),
    "thoughts": f"<think>\na ではない\n答え: c\n</think>\n\n{PLAIN}",
    "thoughts whose start the server cut": f"a を検討する\n答え: c</think>{PLAIN}",
    "preamble": f"以下のとおりです。\n\n{PLAIN}",
    "code fence": f"```text\n{PLAIN}\n```\n",
    "blank lines": PLAIN.replace("\n", "\n\n"),
    "Windows lines": PLAIN.replace("\n", "\r\n"),
    "bold": "\n".join(f"**{line[0]}** {line[2:]}" for line in PLAIN.split("\n")[:4]) + "\n**答え: b**",
    "list": "\n".join(f"- {line}" for line in PLAIN.split("\n")),
    "wide letters": "\n".join(f"{chr(ord(line[0]) + 0xFEE0)}\u3000{line[2:]}" for line in PLAIN.split("\n")[:4]) + "\n答え：ｂ",
    "colons": "\n".join(f"{line[0]}：{line[2:]}" for line in PLAIN.split("\n")[:4]) + "\n答え:b",
    "brackets": "\n".join(f"({line[0]}) {line[2:]}" for line in PLAIN.split("\n")[:4]) + "\n答え: (b)",
    "the word choice": "\n".join(f"選択肢{line[0]}: {line[2:]}" for line in PLAIN.split("\n")[:4]) + "\n正解は b です。",
    "several lines": PLAIN.replace("とし、", "とし、\n  "),
    "letters as headings": "\n".join(f"### {line[0]}\n{line[2:]}" for line in PLAIN.split("\n")[:4]) + "\n答え: B",
}


@pytest.mark.parametrize("name", FORMS)
def test_a_teachers_output_is_read(name):
    assert parse_reasons(FORMS[name]) == (REASONS, "b")


NO_FORM = {
    "nothing": "",
    "prose": "条文によればbが正しい。",
    "cut thoughts": f"<think>\n{PLAIN}",
    "the answer alone": "答え: b",
}


@pytest.mark.parametrize("name", NO_FORM)
def test_what_has_not_the_form_gives_no_reasons(name):
    reasons, letter = parse_reasons(NO_FORM[name])
    assert reasons == {}
    assert letter == ("b" if name == "the answer alone" else None)


def test_a_choice_that_was_left_out_is_missing_and_its_text_is_not_invented():
    reasons, letter = parse_reasons("\n".join(line for line in PLAIN.split("\n") if not line.startswith("c")))
    assert (sorted(reasons), letter) == (["a", "b", "d"], "b")
    assert reasons_problems(QUESTION, reasons, QUESTION.statutes) == ["missing: c: no reason for this choice"]


def test_words_after_the_answer_are_no_last_line():
    assert parse_reasons(PLAIN + "\n以上のとおりです。")[1] is None


# Any single line that is not itself marked up; what the parser passes over cannot be given back.
LINES = (
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1)
    .map(str.strip)
    .filter(lambda text: text and not any(mark in text for mark in ("**", "```", "<think", "</think")))
)


@given(st.tuples(LINES, LINES, LINES, LINES), st.sampled_from(LETTERS), st.sampled_from(ORDERS))
def test_what_is_written_is_read_back_in_every_order(texts, answer, order):
    question = dataclasses.replace(QUESTION, reasons=dict(zip(LETTERS, texts, strict=True)), answer=answer)
    moved = question.in_order(order)
    reasons, letter = parse_reasons(answer_text(moved, answer="cot"))
    assert (reasons, letter) == (moved.reasons, moved.answer)
    back = dataclasses.replace(moved, reasons=reasons, answer=letter).in_order("".join(LETTERS[order.index(at)] for at in LETTERS))
    assert back == question


NASTY = st.text(st.sampled_from("abcdａｂ答え: ：b\n\r「」『』<think>/*`#-（）()第五条の二1１Ａ \u3000選択肢"), max_size=80)


@given(st.one_of(st.text(), NASTY))
def test_reading_never_fails(text):
    reasons, letter = parse_reasons(text)
    assert set(reasons) <= set(LETTERS) and letter in (None, *LETTERS)


@given(st.dictionaries(st.sampled_from(LETTERS), st.one_of(st.text(), NASTY)), st.lists(st.one_of(st.text(), NASTY), max_size=2))
def test_verification_never_fails(reasons, statutes):
    assert all(isinstance(problem, str) for problem in reasons_problems(QUESTION, reasons, statutes))


def test_hand_written_reasons_are_checked_with_their_lines(tmp_path):
    good = dataclasses.replace(QUESTION, reasons=REASONS)
    path = tmp_path / "q.jsonl"
    write_questions(path, [dataclasses.replace(QUESTION, id="none"), good])
    assert file_problems(path) == (1, [])
    bad = dataclasses.replace(good, id="q2", reasons=REASONS | {"c": "「通知を要しないものとする」とあり、これに一致する。"})
    write_questions(path, [good, dataclasses.replace(QUESTION, id="none"), bad, dataclasses.replace(good, id="q3")])
    path.write_text("\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    checked, found = file_problems(path)
    assert checked == 3
    assert found[0].startswith(f"{path}:4: q2: quotation: c: 「通知を要しないものとする」")
    assert found[-1] == f"{path}:5: q3: near-identical: but for letters and numbers the reasons are those of q1"
    path.write_text(json.dumps({**dataclasses.asdict(QUESTION), "reasons": {}}, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(InputError, match="none of the 1 questions has `reasons`"):
        file_problems(path)


def test_on_real_statutes_verbatim_quotations_pass_and_a_changed_character_does_not(lawqa_dir):
    """The longest line of each question's statutes is quoted; brackets, widths and articles are as the source has them."""
    for question in read_lawqa(find_lawqa(lawqa_dir)):
        lines = [line for passage in question.statutes for line in passage.split("\n") if not line.startswith("#")]
        quoted = max(lines, key=len)[:200].rstrip("「『（(")
        quoted = quoted if quoted.count("「") == quoted.count("」") else quoted.replace("「", "").replace("」", "")[: quoted.find("「")]
        reasons = {letter: f"条文には「{quoted}」とあり、『{question.choices[letter]}』についての判断は{word}とはならない。"
                   for letter, word in zip(LETTERS, ("可", "否", "適", "不適"), strict=True)}  # fmt: skip
        assert reasons_problems(question, reasons, question.statutes) == [], question.id
        changed = quoted[:-2] + "〓" + quoted[-1:]
        broken = reasons | {"c": reasons["c"].replace(quoted, changed)}
        assert kinds(reasons_problems(question, broken, question.statutes)) == ["quotation"], question.id
