"""The style of a reply: sentences scored by hand, what must hold for any text, the figures beside it, people's ratings."""

import csv

import pytest
from conftest import run_lawft
from hypothesis import given
from hypothesis import strategies as st

from lawft_trl.errors import InputError
from lawft_trl.evaluation.style import describe_style, score_reply, score_sentence, split_sentences
from lawft_trl.evaluation.style_agreement import agree, kendall_of_draws, spearman_of_draws
from lawft_trl.evaluation.style_files import Rating, read_ratings, read_replies
from lawft_trl.recipe_style import SOCRATIC, StylePatterns, style_patterns

# A reply and the scores of its sentences, by hand: 0.6 ending, 0.25 address, 0.15 lead.
BY_HAND = [
    # what the definition itself names
    ("では、君は正義について何を考えているのかね？", [1.0]),
    ("正義は大切です。", [0.0]),
    # the endings
    ("勇気とは何かね？", [0.6]),
    ("それは本当だろうか。", [0.6]),
    ("それは徳ではないかね！", [0.6]),
    ("それは徳でしょうか？", [0.0]),  # a question, not in this manner
    ("何をお考えですか？", [0.0]),
    ("かねて考えていた。", [0.0]),  # かね within a word
    ("それを決めかねている。", [0.0]),
    ("かねがね聞いている", [0.0]),
    ("かね？", [0.6]),
    ("そうだろうかと思った。", [0.0]),
    # the second person
    ("君は若い。", [0.25]),
    ("そう言ったのは君が最初だ。", [0.25]),
    ("君の考えを聞こう。", [0.25]),
    ("君、どう思うかね？", [0.6]),  # no particle
    ("君に聞こう。", [0.0]),
    ("あなたは正しい。", [0.0]),
    ("君は、君の友を、君が選んだと言う。", [0.25]),  # once is enough
    # the leads
    ("では、始めよう。", [0.15]),
    ("それでは続けよう。", [0.15]),
    ("なるほど、では次に進もう。", [0.15]),  # at the beginning of a clause
    ("「では、行こう。」", [0.15]),
    ("東京では雨が降る。", [0.0]),  # not at the beginning
    ("それは正義ではない。", [0.0]),  # a negation
    ("ではないかね？", [0.6]),
    ("悪、ではなくて善である。", [0.0]),
    ("ではあるまい。", [0.0]),
    ("ではなぜ人は学ぶのか。", [0.15]),
    ("正義について話す。", [0.15]),
    ("君の考える正義について。", [0.4]),  # at the end, too
    ("では、正義について考えよう。", [0.15]),  # two leads weigh as one
    # several parts
    ("君は正義を知っているのかね？", [0.85]),
    ("では、善とは何だろうか？", [0.75]),
    ("徳について、君は何を知るのか。", [0.4]),
    # marks, brackets, white space
    ("「君は何を知っているのかね？」", [0.85]),
    ("『「勇気とは何かね」』", [0.6]),
    ("（勇気とは、何かね？）。", [0.6]),
    ("【問い】勇気とは何かね】】", [0.6]),
    ("「正義とは何かね」と彼は言った。", [0.0]),
    ("「正義とは何かね？」と彼は言った。", [0.0]),  # the same sentence, marked within
    ("「正義とは何かね？」「わかりません。」", [0.6, 0.0]),
    ("そうかね……", [0.6]),
    ("そうかね…本当に", [0.0]),
    ("本当かね？！", [0.6]),
    ("本当かね!?", [0.6]),
    ("本当かね？ ！", [0.6]),
    ("本当かね?", [0.6]),
    ("本当かね｡", [0.6]),
    ("本当かね．", [0.6]),
    ("本当かね〜♪", [0.6]),
    ("本当かねー？", [0.6]),
    ("本当かね？😊", [0.6]),
    ("本当かね", [0.6]),  # no mark at the end
    ("１．５は数かね．", [0.6]),  # a decimal point ends nothing
    ("3.14は数である。", [0.0]),
    ("て\u3099は、君は。", [0.4]),  # letters in two parts
    # several sentences
    ("なるほど。では、君はどう思うのかね？", [0.0, 1.0]),
    ("勇気とは何かね？\n君は勇敢だ", [0.6, 0.25]),
    ("では、\r\n正義とは何かね", [0.15, 0.6]),
    ("- 君の考え\n- 善とは何だろうか", [0.25, 0.6]),
    # numbers of a list, and laughter
    ("1．君は何を知るのかね？", [0.85]),
    ("1. 君は何を知るのかね？", [0.85]),
    ("１２．君は何を知るのかね？", [0.85]),
    ("（一）．君の考え\n②．善とは何だろうか", [0.25, 0.6]),
    ("ア．君の考え\nＢ．善とは何だろうか", [0.25, 0.6]),
    ("君は何を知るのかね？（笑）", [0.85]),
    ("君は何を知るのかね（苦笑）。", [0.85]),
    ("君は何を知るのかね？笑", [0.85]),
    ("君は何を知るのかね？www", [0.85]),
    ("君は何を知るのかねｗｗ", [0.85]),
    ("君は笑う。は？", [0.25, 0.0]),  # words
    ("本当かね？law", [0.6, 0.0]),
    ("本当かね？３つある。", [0.6, 0.0]),
    # nothing
    ("42。", []),
    ("（笑）", []),
    ("", []),
    ("。。。", []),
    ("……？！」\n 　", []),
    ("😊", []),
]


@pytest.mark.parametrize(("text", "scores"), BY_HAND, ids=[repr(text) for text, _ in BY_HAND])
def test_sentences_scored_by_hand(text, scores):
    assert [score_sentence(sentence) for sentence in split_sentences(text)] == pytest.approx(scores)
    assert score_reply(text) == pytest.approx(sum(scores) / len(scores) if scores else 0)


def test_there_are_enough_of_them():
    assert len({text for text, _ in BY_HAND}) == len(BY_HAND) >= 40


PIECES = ["では", "それでは", "君は", "君が", "君の", "君", "について", "かね", "だろうか", "ではないかね", "かねて", "正義", "は", "な", "い", "笑", "w",
          "。", "、", "？", "！", "?", "!", "．", "｡", "…", "「", "」", "『", "』", "（", "）", "”", " ", "　", "\n", "\r\n", "1", "．5", "ー", "〜", "😊", "と"]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(max_size=40)
PLAIN = ["正義は大切です。", "雨が降る。", "はい。", "それは徳ではない。", "わかりました！", "どう思いますか？"]


@given(texts)
def test_a_score_is_between_0_and_1(text):
    assert 0 <= score_reply(text) <= 1


@given(texts, st.sampled_from(PLAIN), st.booleans())
def test_a_sentence_without_style_never_raises_the_mean(text, plain, before):
    more = f"{plain}\n{text}" if before else f"{text}\n{plain}"
    assert score_reply(more) <= score_reply(text)


@given(texts, st.sampled_from(PLAIN))
def test_nor_does_it_where_no_line_ends(text, plain):
    if not text or text[-1] in "。？！":
        assert score_reply(text + plain) <= score_reply(text)


ENDS = ["。", "？", "?", "！", "!", "｡", "．", "？！", "!?", "…。", "", "」", "？」", "）。", " ", "\n", "〜？", "♪"]


@given(st.lists(st.sampled_from([text for text, scores in BY_HAND if len(scores) == 1 and not text.endswith(("…", "本当に"))]), min_size=1, max_size=4), st.data())
def test_variants_of_the_marks_score_the_same(sentences, data):
    bare = [sentence.rstrip("。？！?!｡．…」』）】〜♪ー😊 　\n") for sentence in sentences]
    variants = ["\n".join(text + data.draw(st.sampled_from(ENDS)) for text in bare) for _ in range(2)]
    assert score_reply(variants[0]) == score_reply(variants[1])


@given(st.lists(texts, min_size=1, max_size=8), st.randoms())
def test_the_order_of_replies_does_not_matter(replies, chance):
    shuffled = list(replies)
    chance.shuffle(shuffled)
    assert describe_style(shuffled) == describe_style(replies)
    figures = describe_style(replies)
    assert all(0 <= figures[name] <= 1 for name in figures if name not in ("replies", "sentences", "characters"))


def test_the_figures_beside_the_style():
    replies = ["では、君は正義について何を考えているのかね？", "正義は大切です。君は何を知るのかね？", "。"]
    found = describe_style(replies)
    assert {name: found[name] for name in found if not name.startswith("distinct")} == pytest.approx(
        {
            "style": (1.0 + 0.425 + 0) / 3,
            "replies": 3,
            "question_endings": 2 / 3,
            "addresses": 2 / 3,
            "leads": 1 / 3,
            "sentences": 1.0,
            "characters": (22 + 18 + 1) / 3,
            "empty": 1 / 3,
            "only_questions": 1 / 3,
            "same_reply": 0,
            "repeated_within": 0,
            "repeated_across": 0,
        }
    )
    found = describe_style(["正義は、正義。", "正"])  # 正 義 は 正 義, 正; 正義 義は は正 正義
    assert (found["distinct_1"], found["distinct_2"]) == (pytest.approx(3 / 6), pytest.approx(3 / 4))


def test_a_model_that_says_one_thing_is_seen():
    """The style is perfect, and everything beside it says why."""
    once = "では、君は正義について何を考えているのかね？"
    found = describe_style([once] * 20)
    assert found["style"] == found["only_questions"] == found["repeated_across"] == 1
    assert found["same_reply"] == pytest.approx(19 / 20)
    assert found["distinct_2"] < 0.06
    chanting = describe_style([once * 20])
    assert chanting["style"] == 1 and chanting["repeated_within"] > 0.9 and chanting["repeated_across"] == 0


def test_other_questions_count_as_questions_alone():
    assert describe_style(["何をお考えですか？"])["only_questions"] == 1
    assert describe_style(["何をお考えですか？」 "])["only_questions"] == 1
    assert describe_style(["何をお考えですか？よいでしょう。"])["only_questions"] == 0


def test_no_replies_are_no_score():
    with pytest.raises(ValueError, match="no replies"):
        describe_style([])


def test_patterns_of_a_recipe():
    assert style_patterns({}, "x") == SOCRATIC
    kind = style_patterns({"endings": ["でしょうか"], "ending_weight": 1, "address_weight": 0, "lead_weight": 0.0}, "x")
    assert kind == StylePatterns(endings=("でしょうか",), ending_weight=1.0, address_weight=0.0, lead_weight=0.0)
    assert score_reply("いかがでしょうか。", kind) == 1
    with pytest.raises(InputError) as error:
        style_patterns({"ending": ["か"], "topics": "について", "openings": [""], "lead_weight": 2, "ending_weight": True}, "r.yaml")
    assert len(error.value.problems) == 5 and error.value.heading.startswith("r.yaml: 5 error(s)")
    with pytest.raises(InputError, match="must sum to 1"):
        style_patterns({"lead_weight": 0.5}, "r.yaml")


# --- people's ratings

GRADED = ["正義は大切です。", "では、始めよう。", "君は若い。", "勇気とは何かね？", "では、善とは何だろうか？", "君は正義を知っているのかね？"]


def ratings_of(number, rating_of):
    return [Rating(id=str(i), reply=GRADED[i % 6] + f"{i}は数である。" * (i // 6), rating=rating_of(i), rater="甲") for i in range(number)]


def test_agreement_is_that_of_the_ranks():
    ratings = ratings_of(30, lambda i: 10 * score_reply(GRADED[i % 6] + f"{i}は数である。" * (i // 6)) ** 3)
    found = agree(ratings)
    assert (found["spearman"][0], found["kendall"][0]) == pytest.approx((1, 1))
    assert agree([Rating(id=one.id, reply=one.reply, rating=-one.rating) for one in ratings])["spearman"] == pytest.approx([-1, -1, -1])


def test_agreement_with_chance_has_an_interval_around_0():
    import random

    found = agree(ratings_of(60, lambda i: random.Random(i).random()))
    for name in ("spearman", "kendall"):
        value, low, high = found[name]
        assert low < 0 < high and low < value < high and high - low > 0.2
    assert found == agree(ratings_of(60, lambda i: random.Random(i).random())), "the same seed, the same interval"


def test_the_draws_are_those_of_scipy():
    import numpy as np
    from scipy.stats import kendalltau, spearmanr

    rng = np.random.default_rng(0)
    one, other, drawn = rng.integers(4, size=15), rng.integers(3, size=15), rng.integers(15, size=(20, 15))
    one[:8] = 1  # ties
    for ours, theirs in ((spearman_of_draws, spearmanr), (kendall_of_draws, kendalltau)):
        expected = [theirs(one[items], other[items]).statistic for items in drawn]
        assert ours(one.astype(float), other.astype(float), drawn) == pytest.approx(expected)
        assert np.isnan(ours(one.astype(float), other.astype(float), np.zeros((1, 15), int)))


def test_the_reply_is_the_unit_whoever_rated_it():
    ratings = ratings_of(20, float)
    twice = [*ratings, *(Rating(id=one.id, reply=one.reply, rating=one.rating + 1, rater="乙") for one in ratings)]
    one, both = agree(ratings), agree(twice)
    assert (both["replies"], both["ratings"], both["raters"]) == (20, 40, 2)
    assert both["spearman"] == one["spearman"]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError) as error:
        agree([Rating(id=str(i), reply="はい。", rating=3) for i in range(4)])
    assert len(error.value.problems) == 3, "too few, all rated the same, all scored the same"


def write_csv(path, *lines):
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows(lines)
    return path


def test_ratings_are_read_with_every_fault(tmp_path):
    good = write_csv(tmp_path / "good.csv", ["reply", "rating"], ["では、\n君は。", "4"], ["はい", " 1.5"])
    assert read_ratings(good)[0] == Rating(id="では、\n君は。", reply="では、\n君は。", rating=4.0)
    bad = write_csv(
        tmp_path / "bad.csv",
        ["id", "reply", "rating", "rater"],
        ["1", "", "4", "甲"],
        ["2", "はい", "良い", "甲"],
        ["3", "はい", "nan", "甲"],
        ["4", "はい"],
        ["5", "はい", "1", "甲"],
        ["5", "いいえ", "1", "乙"],
        ["5", "はい", "2", "甲"],
    )
    with pytest.raises(InputError) as error:
        read_ratings(bad)
    places = [problem.split(": ")[0].rpartition(":")[2] for problem in error.value.problems]
    assert sorted(places) == ["2", "3", "4", "5", "7", "8"]
    for name, lines, said in (
        ("columns", [["reply", "score"], ["はい", "1"]], "expected reply and rating"),
        ("empty", [["reply", "rating"]], "no ratings"),
    ):
        with pytest.raises(InputError, match=said):
            read_ratings(write_csv(tmp_path / f"{name}.csv", *lines))
    (tmp_path / "quote.csv").write_text('reply,rating\n"はい,1', encoding="utf-8")
    with pytest.raises(InputError, match=r"quote\.csv:2: not CSV"):
        read_ratings(tmp_path / "quote.csv")


def test_replies_are_read_in_three_forms(tmp_path):
    path = tmp_path / "replies.jsonl"
    path.write_text(
        '"はい。"\n{"reply": "いいえ。", "id": 3}\n'
        '{"messages": [{"role": "user", "content": "徳は。"}, {"role": "assistant", "content": "何かね？"}]}\n',
        encoding="utf-8",
    )
    assert read_replies(path) == ["はい。", "いいえ。", "何かね？"]
    path.write_text('3\n{"reply": 1}\n{"text": "x"}\n"はい"\n', encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_replies(path)
    assert len(error.value.problems) == 3


def test_the_verbs(tmp_path):
    replies = tmp_path / "replies.jsonl"
    replies.write_text('"では、君は正義について何を考えているのかね？"\n"正義は大切です。"\n', encoding="utf-8")
    shown = run_lawft("style", "score", replies, "--each", check=True).stdout
    assert run_lawft("style", "score", replies, "--each", "--recipe", "tiny_socratic", check=True).stdout == shown
    assert "1.00  では、君は" in shown and "0.00  正義は大切です。" in shown and "style 0.500, mean of 2 replies" in shown
    ratings = write_csv(tmp_path / "r.csv", ["reply", "rating"], *([one.reply, one.rating] for one in ratings_of(24, lambda i: i % 6)))
    shown = run_lawft("style", "agree", ratings, check=True).stdout
    assert "24 replies, 24 ratings by 1 rater(s)" in shown and "Spearman's rho" in shown and "95 % interval" in shown
    refused = run_lawft("style", "agree", replies)
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)


def test_the_worked_examples_of_the_manual_score_as_it_says():
    import re

    from conftest import ROOT

    page = (ROOT / "docs" / "style.md").read_text(encoding="utf-8")
    examples = re.findall(r"^\| (\S.*?) \| ([01]\.\d\d) \|", page, re.M)
    assert len(examples) >= 10
    for text, score in examples:
        assert f"{score_reply(text):.2f}" == score, text
