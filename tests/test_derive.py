"""Questions derived by rule: the rules change one thing, and every question has one right answer that its statutes show."""

import json
import random
import re
import runpy
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from functools import cache

import pytest
from conftest import ROOT, SAMPLE, run_lawft
from hypothesis import given
from hypothesis import strategies as st

from lawft_trl.data.prompts import answer_text
from lawft_trl.data.questions import LETTERS, Question, question_problems, read_questions
from lawft_trl.data.rows import Row
from lawft_trl.derive.changes import (
    Change,
    changes_of,
    comparable,
    is_implied,
    number_value,
    read_corpus,
    rewrite,
    show,
)
from lawft_trl.derive.choice_only import guesses, hits
from lawft_trl.derive.designs import square, three_values
from lawft_trl.derive.drafts import read_neighbourhood
from lawft_trl.derive.elements import KINDS, find_elements
from lawft_trl.derive.exclusion import excluded_articles
from lawft_trl.derive.parties import find_parties, read_parties
from lawft_trl.derive.predicates import find_predicates
from lawft_trl.derive.questions import derive_questions, neighbourhoods
from lawft_trl.derive.statements import Statement, cuttable, read_statements, split_sentences
from lawft_trl.derive.verbs import (
    dictionary_from_negative,
    dictionary_from_te,
    negative_from_dictionary,
    te_from_dictionary,
)
from lawft_trl.errors import InputError
from lawft_trl.reasons.verify import reasons_problems
from lawft_trl.statutes.headed_text import lawqa_passages, merge_excerpts, read_headed
from lawft_trl.statutes.numerals import read_number, write_number
from lawft_trl.statutes.passages import Passage, sort_key, write_corpus

LAW = "架空水路法"
LAW_TEXT = {
    ("1", "1"): "水路を開設しようとする者は、水路管理庁の許可を受けなければならない。ただし、政令で定める小規模な水路については、この限りでない。",
    ("1", "2"): "前項の許可の有効期間は、許可の日から五年とする。",
    ("1", "3"): "水路主は、氏名又は住所に変更があつたときは、その日から二週間以内に、その旨を水路管理庁に届け出なければならない。",
    ("2", ""): "次に掲げる者は、水路主となることができない。\n一　十八歳に満たない者\n二　この法律の規定に違反し、罰金以上の刑に処せられ、その執行を終わつた日から三年を経過しない者\n"
    "三　前条第一項の許可を取り消された者（その取消しの日から二年を経過した者を除く。）\n四　水路の管理を適正に行うことができない者として国土交通省令で定めるもの",
    ("3", "1"): "水門番は、水位が三メートルを超えるときは、直ちに水門を閉じなければならない。",
    ("3", "2"): "何人も、水門番の承諾を得なければ、水門を開いてはならない。",
    ("3", "3"): "水路主は、毎年二回以上、水門の点検を行わなければならない。",
    ("4", ""): "この法律において「幹線水路」とは、二以上の市町村の区域にわたる水路をいう。",
    ("5", "1"): "国土交通大臣は、あらかじめ、水路審議会の意見を聴いて、通航料の上限を定めることができる。",
    ("5", "2"): "通航料に関する規定に反する特約で通航者に不利なものは、無効とする。",
    ("5", "3"): "水路主は、通航料の総額の百分の五に相当する額を水路管理庁に納めるよう努めなければならない。",
}


def passage(article: str, paragraph: str, text: str, law: str = LAW, **more) -> Passage:
    return Passage(law_id=law, law=law, article=article, paragraph=paragraph, text=text, as_of="2026-04-01", **more)


@cache
def small_corpus() -> tuple[Passage, ...]:
    return tuple(passage(article, paragraph, text) for (article, paragraph), text in LAW_TEXT.items())


@cache
def sample_corpus() -> tuple[Passage, ...]:
    """The statutes of the shipped questions, of two of the fourteen fictional laws."""
    texts = dict.fromkeys(text for question in read_questions(SAMPLE) for text in question.statutes if "空中庭園法" in text)
    return tuple(merge_excerpts(found for text in texts for found in read_headed(text, source="sample")))


@cache
def derived(corpus: str) -> list[Question]:
    return derive_questions({"small": small_corpus, "sample": sample_corpus}[corpus](), seed=0)


def statement(text: str, **more) -> Statement:
    return Statement(passage=passage("1", "1", text), text=text, **more)


def changed(text: str, kind: str, law: tuple[Passage, ...] = ()) -> set[str]:
    """Every changed form of a rule with a kind of element."""
    rule = statement(text)
    corpus = read_corpus([rule.passage, *law], [rule.passage])
    return {change.text for change in changes_of(rule, corpus) if change.kind == kind}


# Numerals.


@given(st.integers(1, 10**15 - 1))
def test_a_numeral_is_read_as_it_was_written(number):
    assert read_number(write_number(Fraction(number))) == number
    assert read_number(write_number(Fraction(number), like="14")) == number


@given(st.integers(0, 99), st.integers(1, 99))
def test_a_decimal_is_read_as_it_was_written(whole, hundredths):
    value = whole + Fraction(hundredths, 100)
    assert read_number(write_number(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("三十", 30), ("千五百", 1500), ("五千万", 50_000_000), ("一億", 10**8), ("二七", 27), ("二・二五", Fraction(9, 4)), ("60万", 600_000), ("１４", 14), ("百六十六", 166)],
)
def test_numerals_of_statutes(text, value):
    assert read_number(text) == value
    assert read_number(write_number(Fraction(value), like=text)) == value


def test_what_is_no_numeral():
    assert [read_number(text) for text in ("", "第三", "一・", "数")] == [None] * 4


# Conjugation.


@pytest.mark.parametrize(
    ("negative", "verb"),
    [("提出し", "提出する"), ("受け", "受ける"), ("支払わ", "支払う"), ("届け出", None), ("置か", "置く"), ("講じ", "講ずる"), ("よら", "よる"), ("者で", None)],
)
def test_the_dictionary_form_of_a_duty(negative, verb):
    assert dictionary_from_negative(negative) == verb
    if verb:
        assert negative_from_dictionary(verb) == negative


@pytest.mark.parametrize(("te", "verb"), [("使用して", "使用する"), ("行つて", "行う"), ("行って", "行う"), ("用いて", "用いる"), ("与えて", "与える"), ("飛んで", None), ("切って", None)])
def test_the_dictionary_form_of_a_prohibition(te, verb):
    assert dictionary_from_te(te) == verb
    if verb and te_from_dictionary(verb):
        assert te_from_dictionary(verb) == te


# Statements.


def test_a_proviso_stays_with_its_rule():
    rules, items = read_statements(passage("1", "1", LAW_TEXT["1", "1"]))
    assert [rule.text for rule in rules] == [LAW_TEXT["1", "1"]]
    assert not items


@pytest.mark.parametrize("heading", ["##### 第1号\n{0}\n##### 第2号\n{1}\n###### イ\nあ\n##### 第3号の2\n{2}", "一　{0}\n二　{1}\nイ　あ\n三の二　{2}"])
def test_items_in_both_ways_of_writing(heading):
    text = "次に掲げる者は、水路主となることができない。\n" + heading.format("甲である者", "次に掲げる者", "乙である者")
    rules, items = read_statements(passage("2", "", text))
    assert [(item.item, item.text) for item in items] == [("第1号", "甲である者"), ("第3号の2", "乙である者")]  # the second is a list itself
    assert [item.place for item in items] == ["第2条第1号", "第2条第3号の2"]
    assert show(rules[0]) == "第2条各号に掲げる者は、水路主となることができない"


@pytest.mark.parametrize(
    "text",
    ["Q&Aの問いですか。", "次の表の上欄に掲げる者は、届け出なければならない。", "届出は不要です。なお、できます。", "文の終わりがない", "前条の規定は、「甲」とあるのは「乙」と読み替えるものとする。"],
)
def test_what_cannot_be_judged_alone_is_no_rule(text):
    assert read_statements(passage("1", "", text)) == ([], [])


def test_guidelines_are_not_used():
    assert read_statements(passage("B 基本ガイドライン", "4-2", "届け出なければならない。")) == ([], [])


def test_only_brackets_that_name_are_cut():
    text = "者（以下「甲」という。）は、物（乙を除く。以下この条において同じ。）を、法（平成五年法律第八十九号）により、庁（丙にあつては、丁）に納める。"
    kept = rewrite(text, [(start, end, "") for start, end in cuttable(text)])
    assert kept == "者は、物（乙を除く。）を、法により、庁（丙にあつては、丁）に納める。"


@given(st.lists(st.sampled_from(["甲は、", "（乙。）", "「丙。」", "届け出る", "。", "（", "）"]), max_size=12).map("".join))
def test_sentences_are_divided_without_loss(text):
    assert "".join(split_sentences(text)).strip() == text.strip()


# Rules of change.


def test_every_rule_changes_what_it_says_it_changes():
    periods = changed(LAW_TEXT["1", "3"], "period")
    assert periods and all(re.search(r"から[一三四六八]週間以内に", text) for text in periods)
    assert changed(LAW_TEXT["1", "3"], "limit") == {LAW_TEXT["1", "3"].replace("以内に", "を経過した後に")}
    assert changed(LAW_TEXT["5", "2"], "effect") == {LAW_TEXT["5", "2"].replace("無効", "有効")}
    assert changed(LAW_TEXT["5", "2"], "term") == {LAW_TEXT["5", "2"].replace("不利", "有利")}
    assert changed(LAW_TEXT["3", "2"], "duty") == set()  # 開いて may be 開く: it is left alone
    assert changed("何人も、許可を受けなければ、水路を開設してはならない。", "duty") == {"何人も、許可を受けなくても、水路を開設することができる。"}
    assert changed(LAW_TEXT["5", "3"], "duty") == {
        LAW_TEXT["5", "3"].replace("納めるよう努めなければならない", "納めなければならない"),
        LAW_TEXT["5", "3"].replace("納めるよう努めなければならない", "納めることを要しない"),
    }
    assert changed(LAW_TEXT["1", "1"], "proviso") == {LAW_TEXT["1", "1"].replace("ただし、", "").replace("については、この限りでない", "についても、同様とする")}
    assert {"百分の三", "百分の十"} <= {text[text.index("百分の") :][:4].rstrip("に") for text in changed(LAW_TEXT["5", "3"], "ratio")}
    assert changed("建物の賃貸人は、賃借人に対し、通知をしなければならない。", "party") == {"建物の賃借人は、賃貸人に対し、通知をしなければならない。"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("甲法（平成五年法律第八十九号）の規定により、届け出なければならない。", "period"),
        ("届出は、四月一日から翌年三月三十一日までにしなければならない。", "period"),
        ("買付け等をした後六月以内に売付け等をし、又は売付け等をした後六月以内に買付け等をした者は、利益を提供しなければならない。", "time"),
        ("次の各号のいずれかに該当するときは、登録を拒否しなければならない。", "condition"),  # who meets all meets one
        ("賃貸人又は賃借人は、通知をしなければならない。", "party"),
        ("本邦に輸出される医療機器については、承認を受けなければならない。", "term"),
        ("第三条、第五条及び第七条の規定は、転借人について準用する。", "citation"),
        ("この法律において「三年計画」とは、計画をいう。", "period"),
        ("必要な能力を有する者は、責任者に該当するものとする。", "duty"),
    ],
)
def test_what_would_still_be_true_or_cannot_be_checked_is_left_alone(text, kind):
    assert not changed(text, kind)


def test_a_number_that_holds_in_another_case_is_no_alternate():
    found = changed("更新の期間は、十年（最初の更新にあつては、二十年）とする。", "period")
    assert found and not any("更新の期間は、二十年" in text or "あつては、十年" in text for text in found)


def test_two_or_more_never_becomes_one_or_more():
    found = changed("相続人が二人以上ある場合において、その全員の同意により一人を選定したときは、その者が承継する。", "count")
    assert found and not any("一人以上" in text for text in found)


def test_a_change_that_another_provision_states_is_not_made():
    text = "係留業の登録の有効期間は、交付の日から三年とする。"
    other = passage("9", "", "浮橋業の登録の有効期間は、交付の日から五年とする。")
    assert any("五年" in form for form in changed(text, "period"))
    assert not any("五年" in form for form in changed(text, "period", (other,)))


TEXTS = st.lists(
    st.sampled_from([*"はをにの、。（）「」", "発行者", "賃貸人", "三十日", "以内に", "百分の五", "以上の", "一億円", "第三条第二項", "政令で定め", "しなければならない。", "ことができる。",
                     "ただし、", "この限りでない。", "許可", "を受け", "した後", "なければ、", "てはならない。", "提出", "を除く。）", "のいずれかに該当する", "平成", "十七", "年", "月"]),
    max_size=25,
).map("".join)  # fmt: skip


@given(TEXTS)
def test_a_change_changes_one_element_and_nothing_else(text):
    rule = statement(text)
    for element in [*find_elements(text), *find_predicates(text), *find_parties(text, text, ("発行者",))]:
        assert element.kind in KINDS
        assert all(0 <= start <= end <= len(text) for start, end in element.spans)
        assert all(a[1] <= b[0] for a, b in zip(element.spans, element.spans[1:], strict=False))
        for option in element.options:
            change = Change(rule, element, option)
            assert change.text != text
            pieces = re.split("\0+", rewrite(text, [(start, end, "\0") for start, end in element.spans]))
            assert change.text == pieces[0] + "".join(words + piece for words, piece in zip(option, pieces[1:], strict=False)) or len(pieces) != len(option) + 1


@pytest.mark.parametrize(
    ("text", "implied"),
    [
        ("発行者は、三十日以内に届け出なければならない。", {"四十日", "四十五日"}),  # who files within 30 days files within 40
        ("園主は、毎年三回以上、検査を行わなければならない。", {"二回"}),
        ("十八歳に満たない者は、園主となることができない。", {"十五歳", "十六歳"}),
        ("公道から二十メートル以内の区域には、巣箱を設けてはならない。", {"十五メートル", "十メートル"}),
        ("庭石の重量は、二十キログラムを超えてはならない。", {"三十キログラム", "五十キログラム"}),
        ("長官は、期限を一年を超えない範囲内において延長することができる。", set()),
        ("請求権は、二年間行わないときは、消滅する。", {"三年", "四年", "五年"}),
        ("園主は、帳簿を五年間保存しなければならない。", {"三年", "四年"}),
        ("満了の一年前から通知をしなかったときは、更新したものとみなす。", {"二年", "三年", "四年", "五年"}),
        ("借地権の存続期間は、三十年とする。", set()),
    ],
)
def test_a_changed_number_that_the_statute_implies_is_no_wrong_statement(text, implied):
    rule = statement(text)
    changes = [change for change in changes_of(rule, read_corpus([rule.passage], [rule.passage])) if change.kind in ("period", "age", "count")]
    assert changes
    assert implied <= {change.new[0] for change in changes if is_implied(change)}
    if not implied:
        assert not any(map(is_implied, changes))


def test_parties_are_those_a_sentence_begins_with():
    parties = read_parties(small_corpus())[LAW]
    assert parties == ("水路主", "水門番")


# Questions.


@pytest.mark.parametrize("corpus", ["small", "sample"])
def test_every_question_is_sound(corpus):
    for question in derived(corpus):
        record = json.loads(json.dumps(vars(question)))
        assert question_problems(record) == [], question
        assert len({comparable(text) for text in question.choices.values()}) == 4
        shown = "\n".join(question.statutes)
        for letter in LETTERS:
            quotations = re.findall("「([^「」]*)」", question.reasons[letter])
            assert quotations, question.reasons[letter]
            assert all(quotation in shown for quotation in quotations), question.reasons[letter]
            assert not re.search(r"選択肢[a-d]|[a-d]は", question.reasons[letter])
        right = [letter for letter in LETTERS if question.reasons[letter].endswith("正しい。")]
        asks_for_wrong = "誤っているもの" in question.question or "一致しないもの" in question.question
        assert [question.answer] == ([letter for letter in LETTERS if letter not in right] if asks_for_wrong else right)
        assert question.group and question.provisions and question.references
        assert answer_text(question, answer="cot").endswith(f"答え: {question.answer}")


@pytest.mark.parametrize("corpus", ["small", "sample"])
def test_true_statements_stand_in_the_statute_and_changed_ones_nowhere(corpus):
    whole = comparable("\n".join(part.text for part in (small_corpus if corpus == "small" else sample_corpus)()))
    checked = 0
    for question in derived(corpus):
        if not re.search(r"正しいもの|誤っているもの|一致する|一致しない", question.question) or "意義" in question.question:
            continue
        shown = comparable("\n".join(question.statutes))
        for letter in LETTERS:
            text = re.sub(r"^第[^、]+?によれば、", "", question.choices[letter])
            text = comparable(re.sub(r"第\d+条(?:第\d+項)?各号に掲げる", "次に掲げる", text))
            true = question.reasons[letter].endswith("正しい。")
            assert (text in shown) if true else (text not in whole), (question.question, question.choices[letter])
            checked += 1
    assert checked > 100


@pytest.mark.parametrize("corpus", ["small", "sample"])
def test_letters_are_balanced_and_nothing_occurs_twice(corpus):
    questions = derived(corpus)
    counts = Counter(question.answer for question in questions)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len({question.id for question in questions}) == len(questions)
    assert len({(question.question, frozenset(question.choices.values())) for question in questions}) == len(questions)
    assert len({tuple(question.reasons.values()) for question in questions}) > 0.99 * len(questions)


def test_all_forms_are_made():
    questions = "\n".join(question.question for question in derived("small"))
    for words in ("正しいもの", "誤っているもの", "一致する", "一致しない", "【　　】", "とされているか", "のは、誰ですか", "条文を教えて", "各号に掲げる"):
        assert words in questions, words


def test_the_same_seed_gives_the_same_questions_in_any_order_of_the_passages():
    shuffled = random.Random(5).sample(small_corpus(), len(small_corpus()))
    assert derive_questions(shuffled, seed=0) == derived("small")
    other = derive_questions(small_corpus(), seed=1)
    assert other != derived("small")


# What the choices alone tell.

SCRIPT = ROOT / "scripts" / "choice_only_baselines.py"
FORMS = (r"^(?!.*(?:各号|意義)).*(?:正しい|一致する)もの", r"^(?!.*各号).*(?:誤っている|一致しない)もの", r"各号.*正しい", r"各号.*誤っている", "【　　】", "誰ですか", r"^(?!.*誰ですか).*何.+か。$",
         "条文を教えて", "用語を教えて", "の意義として")  # fmt: skip


@cache
def lawqa_questions(folder) -> list[Question]:
    samples = json.loads((folder / "data" / "selection.json").read_text(encoding="utf-8"))["samples"]
    return derive_questions(lawqa_passages([sample["コンテキスト"] for sample in samples]), seed=0)


def assert_choices_tell_nothing(questions: list[Question]) -> None:
    """No rule hits above 32 % of all questions, of those that ask for what is so or is not, or above 36 % of a form with sixty."""
    baselines = runpy.run_path(str(SCRIPT))
    named = baselines["by_form"](questions, FORMS)
    assert sum(len(named[form]) for form in FORMS) == len(questions)
    for name, members in named.items():
        rates = baselines["hit_rates"](members)
        learned = rates.pop("learned", None)
        for rule, (rate, of) in rates.items():
            assert of < 60 or rate <= (0.36 if name in FORMS else 0.32), (name, rule, rate)
        if name not in FORMS:
            assert learned[0] <= 0.45, (name, learned)


def test_the_choices_of_the_sample_set_do_not_tell_the_right_one():
    assert_choices_tell_nothing(derived("sample"))


def test_the_choices_of_lawqa_questions_do_not_tell_the_right_one(lawqa_dir):
    assert_choices_tell_nothing(lawqa_questions(lawqa_dir))


def test_rules_that_read_the_choices_alone():
    one_edit_each = ("甲は三十日以内に庁に届け出る", "乙は三十日以内に庁に届け出る", "甲は三十日以内に署に届け出る", "甲は三十日経過後に庁に届け出る")
    assert hits(one_edit_each, 0)["centroid"] == 1 and hits(one_edit_each, 1)["centroid"] == 0
    square = ("甲は庁に届け出る", "乙は庁に届け出る", "甲は署に届け出る", "乙は署に届け出る")
    assert all(hits(square, gold) == dict.fromkeys(("centroid", "outlier", "closest pair", "longest", "shortest"), 0.25) for gold in range(4))
    assert guesses(("一", "二二", "三三三", "四四四"))["longest"] == {2, 3}
    numbers = hits(("その三十日以内に", "その三十五日以内に", "その十四日以内に", "その二月以内に"), 0)
    assert "lowest number" not in numbers  # they differ in the unit too
    assert [hits(("百分の五", "百分の二・五", "百分の十", "百分の二十"), gold)["second number"] for gold in range(4)] == [1, 0, 0, 0]


def test_no_wording_stands_in_wrong_choices_alone():
    right = [question for question in derived("sample") if not re.search("誤っている|一致しない", question.question)]
    choices = [(letter == question.answer, text) for question in right for letter, text in question.choices.items()]
    for words in ("努めなければならない", "ことを要しない", "同様とする", "総務大臣", "総務省令", "に限る", "推定する"):
        counts = Counter(is_right for is_right, text in choices if words in text)
        assert counts[False] <= 0.03 * len(choices) + 4 * counts[True], (words, counts)


def test_how_many_numbers_lie_below_is_drawn():
    rule = statement("水路主は、許可の日から三十日以内に、届け出なければならない。")
    options = [change for change in changes_of(rule, read_corpus([rule.passage], [rule.passage])) if change.kind == "period"]
    below = Counter(sum(number_value(change.new[0]) < 30 for change in three_values(options, random.Random(seed))) for seed in range(200))
    assert sorted(below) == [0, 1, 2, 3] and min(below.values()) >= 10


def test_two_changes_at_once_leave_a_statement_wrong():
    text = "水路主は、国土交通大臣の許可を受けた後、三十日以内に、政令で定める事項を水路管理庁に届け出なければならない。ただし、軽微な場合は、この限りでない。"
    part = passage("1", "", text)
    here = read_neighbourhood([part], read_corpus([part], [part]))
    drawn = [choices for seed in range(20) for choices in square(here.rules[0], here, random.Random(seed))]
    assert drawn
    for (_, none), (_, first), (_, second), (_, both) in drawn:
        assert none == () and both == (*first, *second)
        assert not any(map(is_implied, both)) and first[0].element != second[0].element
        assert len({show(here.rules[0], changes) for changes in (none, first, second, both)}) == 4
        assert not {change.new[-1] for change in both} & {"届け出ることを要しない。", "届け出てはならない。"}  # 総務大臣に届け出ることを要しない: true


def test_reasons_pass_the_checks_of_written_reasons():
    assert [fault for question in derived("sample") for fault in reasons_problems(question, question.reasons, question.statutes)] == []


def test_limit_takes_of_many_articles():
    few = derive_questions(sample_corpus(), seed=0, limit=20)
    groups = Counter(question.group for question in few)
    possible = {question.group for question in derived("sample")}
    assert len(few) == 20 and len(groups) >= min(10, len(possible))


def test_an_excluded_article_is_still_looked_up():
    """What an article states is true, whether it may be asked about or not."""
    asked = passage("1", "", "係留業の登録の有効期間は、交付の日から三年とする。水路主は、直ちに届け出なければならない。水門番は、直ちに届け出なければならない。")
    held_out = passage("9", "", "浮橋業の登録の有効期間は、交付の日から五年とする。")
    shown = [text for question in derive_questions([asked, held_out], seed=0, exclude={held_out.article_key}) for text in question.choices.values()]
    assert any("四年" in text for text in shown) and not any("五年" in text for text in shown)
    assert any("五年" in text for question in derive_questions([asked], seed=0) for text in question.choices.values())


def test_two_laws_with_one_title_are_kept_apart():
    other = tuple(replace(part, law_id="別の法", text=part.text.replace("水路主", "園主")) for part in small_corpus())
    for question in derive_questions([*small_corpus(), *other], seed=0):
        shown = "\n".join(question.statutes)
        assert not ("水路主" in shown and "園主" in shown)


def test_limit_takes_of_every_form():
    few = derive_questions(small_corpus(), seed=0, limit=12)
    assert len(few) == 12
    assert Counter(question.answer for question in few) == dict.fromkeys(LETTERS, 3)
    assert len({re.sub(r"第.*", "", question.question) for question in few}) > 3


def test_excluded_articles_are_neither_asked_about_nor_shown():
    excluded = f"{LAW}/main/3"
    questions = derive_questions(small_corpus(), seed=0, exclude={excluded})
    assert questions
    assert not any(excluded in question.provisions for question in questions)
    assert not any("水門" in "\n".join([*question.statutes, question.question, *question.choices.values()]) for question in questions)


def test_neighbouring_articles_share_a_group_and_laws_never_do():
    passages = sorted([passage(str(article), "1", "甲は、届け出なければならない。", law) for law in "甲乙" for article in range(1, 21)], key=sort_key)
    runs = neighbourhoods(passages)
    assert [len(run) for run in runs] == [6, 6, 8] * 2
    assert all(len({part.law for part in run}) == 1 for run in runs)
    of_provision = {}
    for question in derived("sample"):
        for provision in question.provisions:
            assert of_provision.setdefault(provision, question.group) == question.group


def test_nothing_to_derive_says_why():
    with pytest.raises(InputError, match="the corpus is empty"):
        derive_questions([], seed=0)
    with pytest.raises(InputError, match="--exclude leaves none"):
        derive_questions(small_corpus(), seed=0, exclude={part.article_key for part in small_corpus()})
    with pytest.raises(InputError, match=r"1 passage\(s\) were read; none has three ways"):
        derive_questions([passage("1", "", "削除")], seed=0)


# What an evaluation set touches.


def row(text: str = "", **meta) -> Row:
    return Row(prompt=({"role": "user", "content": text},), output="a", meta=meta, source="test.jsonl:1")


def test_articles_named_or_shown_by_an_evaluation_set():
    assert excluded_articles([row(provisions=[f"{LAW}/main/5"])], small_corpus()) == {f"{LAW}/main/5"}
    assert excluded_articles([row(statutes=[f"## {LAW}\n### 第３条\n#### 第1項\n抜粋"])], small_corpus()) == {f"{LAW}/main/3"}
    nearly = "【条文】\n" + LAW_TEXT["3", "1"].replace("三メートル", "３メートル") + "\n【問題】"
    assert excluded_articles([row(nearly)], small_corpus()) == {f"{LAW}/main/3"}
    assert excluded_articles([row("水門番は、水位を見なければならない。")], small_corpus()) == set()
    assert excluded_articles([row(nearly, provisions=["架空水路法施行規則/main/3"])], small_corpus()) == {f"{LAW}/main/3", "架空水路法施行規則/main/3"}
    for anything in (None, 3, "第3条", [1, ["a"]], {"a": 1}):
        assert excluded_articles([row(nearly, provisions=anything, statutes=anything)], small_corpus()) == {f"{LAW}/main/3"}


def test_the_command_writes_questions_and_keeps_out_an_evaluation_set(tmp_path):
    corpus, held_out = tmp_path / "corpus", tmp_path / "test.jsonl"
    write_corpus(sorted(sample_corpus(), key=sort_key), corpus, as_of="", attribution="架空", sources={})
    excluded = sample_corpus()[0]
    record = {"id": "q", "law": excluded.law, "question": "問", "choices": dict(zip(LETTERS, "一二三四", strict=True)), "answer": "a"}
    held_out.write_text(json.dumps({**record, "provisions": [excluded.article_key]}, ensure_ascii=False) + "\n", encoding="utf-8")
    without = run_lawft("data", "derive", "--statutes", corpus, "--out", tmp_path / "out")
    assert without.returncode == 2 and "lawft statutes index" in without.stderr + without.stdout and "derived from" not in without.stdout
    run_lawft("statutes", "index", corpus, check=True)
    arguments = ("data", "derive", "--statutes", corpus, "--exclude", held_out, "--limit", "300", "--out", tmp_path / "out")
    result = run_lawft(*arguments, check=True)
    assert "1 articles of the corpus are in it and left out" in result.stdout
    questions = read_questions(tmp_path / "out" / "questions.jsonl")
    assert len(questions) == 300
    assert not any(excluded.text in text for question in questions for text in question.statutes)
    again = run_lawft(*arguments)
    assert again.returncode == 2 and "--force" in again.stderr + again.stdout
    wrong = run_lawft("data", "derive", "--statutes", tmp_path, "--out", tmp_path / "other")
    assert wrong.returncode == 2 and "not a statutes corpus" in wrong.stderr + wrong.stdout
    assert not (tmp_path / "other").exists()


# Real statutes.


def test_the_statutes_of_lawqa_give_enough_questions(lawqa_dir):
    questions = lawqa_questions(lawqa_dir)
    assert len(questions) >= 1500
    assert len({question.group for question in questions}) >= 30
    for question in questions:
        shown = "\n".join(question.statutes)
        assert all(quotation in shown for reason in question.reasons.values() for quotation in re.findall("「([^「」]*)」", reason))
        assert max(map(len, question.choices.values())) <= 260
        assert reasons_problems(question, question.reasons, question.statutes) == []
