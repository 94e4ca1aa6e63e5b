"""The answer parser: hand-made cases for every rule, real labelled outputs, properties."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawft_trl.evaluation.answers import explain_answer, parse_answer
from tests.conftest import folder_from

CHOICES = {
    "a": "金融商品取引法第2条第1項",
    "b": "金融商品取引法第37条第1項",
    "c": "借地借家法第11条",
    "d": "借地権者は、建物を時価で買い取るべきことを請求することができる。",
}


CASES = [
    ("a", "a"),
    ("Ｂ", "b"),
    ("ⓒ", "c"),
    ("④", "d"),
    ("２", "b"),
    ("(c)", "c"),
    ("（ｄ）", "d"),
    ("「a」", "a"),
    ("**b**", "b"),
    ("c.", "c"),
    ("d。", "d"),
    ("bです。", "b"),
    ("選択肢c", "c"),
    ("Option D", "d"),
    ("\n\n a \n", "a"),
    ("Answer: b", "b"),
    ("Answer：B", "b"),
    ("answer is c.", "c"),
    ("The correct answer is (d).", "d"),
    ("回答：１", "a"),
    ("正解は「2」です。", "b"),
    ("正解：③", "c"),
    ("答え\u3000ｄ", "d"),
    ("答えは④です", "d"),
    ("【回答】b", "b"),
    ("回答 b", "b"),
    ("最終回答: c", "c"),
    ("結論：a", "a"),
    ("結論: 選択肢bが正しい。", "b"),
    ("$\\boxed{c}$", "c"),
    ("\\boxed{\\text{D}}", "d"),
    ("\\boxed{2}", "b"),
    ("\\[\\boxed{\\textbf{(B)}}\\]", "b"),
    ("\\boxed{\\text{Option C}}", "c"),
    ('{"answer": "b"}', "b"),
    ('```json\n{"reason": "…", "answer": "D"}\n```', "d"),
    ('{"回答": 3}', "c"),
    ('{"answer": ["a","c"]}', None),
    ("{'answer':'a'}", "a"),
    ('{"answer": null}', None),
    ("<think>aかな</think>b", "b"),
    ("<think>\n正解はa\n", None),
    ("<think>a</think>\n\n", None),
    ("<think>答えはa</think>\n回答: c", "c"),
    ("回答（1文字のみ）:", None),
    ("回答（１文字のみ）：", None),
    ("1文字だけ出力してください。", None),
    ("回答: 1文字", None),
    ("a, b, c, d のいずれか1文字のみ出力してください。", None),
    ("a\nb\nc\nd", None),
    ("回答: a, b, c, d", None),
    ("Answer: a/b/c/d", None),
    ("例: a", None),
    ("出力例: Answer: a", None),
    ("(例: b)", None),
    ("例：\nAnswer: a", None),
    ("Answer: [a-d]", None),
    ("Answer: x", None),
    ("以下に例を示します。\n例: b\n\nAnswer: c", "c"),
    ("正解はaではなくbです。", "b"),
    ("正解はaではありません。", None),
    ("aは誤りです。", None),
    ("aは正しくない。bも正しくない。", None),
    ("正解はaまたはbです。", None),
    ("Answer: a and c", None),
    ("正解はaとcです。", None),
    ("Answer: a\nAnswer: b", None),
    ("Answer: a\nやはり再検討すると、訂正します。\nAnswer: b", "b"),
    ("正解はaと思われる。しかし、bのほうが条文に沿う。したがって正解はbです。", "b"),
    ("回答: a\n回答: b\n回答: c\n回答: a\n回答: b", None),
    ("該当なし", None),
    ("正解はなし", None),
    ("Answer: None of the above", None),
    ("Answer: N/A", None),
    ("したがって、選択肢cが正しいです。", "c"),
    ("よって、cは誤りである。", "c"),
    ("したがって、最も適切なのはbである。", "b"),
    ("誤っているものはdです。", "d"),
    ("したがって、選択肢aは正しくない。", None),
    ("Therefore, option b is correct.", "b"),
    ("Thus, the best choice is c.", "c"),
    ("Option d is the correct answer.", "d"),
    ("The answer is a matter of interpretation.", None),
    ("I choose b.", "b"),
    ("I would go with c.", "c"),
    ("借地借家法第11条", "c"),
    ("正解は、借地借家法第11条です。", "c"),
    ("答え: 金融商品取引法第37条第1項", "b"),
    ("借地権者は建物を時価で買い取るべきことを請求できる", "d"),
    ("民法第1条", None),
    ("c 借地借家法第11条", "c"),
    ("c. 借地借家法第11条", "c"),
    ("b: 理由は次のとおり", "b"),
    ("a. 金融商品取引法第2条第1項\nb. 金融商品取引法第37条第1項\nc. 借地借家法第11条", None),
    ("a は誤り。b は正しい。c は誤り。d は誤り。", "b"),
    ("a: 正しい\nb: 誤り\nc: 正しい\nd: 正しい", "b"),
    ("選択肢bを選びます。", "b"),
    ("私はcを選択します", "c"),
    ("aは選べない。", None),
    ("第1項により、2つの要件がある。", None),
    ("1", "a"),
    ("1. 条文の要点をまとめる", None),
    ("回答:\n1. 条文の要点を整理する\n2. 検討する", None),
    ("Answer: 2.", "b"),
    ("Answer: 10", None),
    ("正解: 2番", "b"),
    ("正解は2番目の選択肢です", "b"),
    ("", None),
    ("   \n", None),
    ("Paris.", None),
    ("a cat sat", None),
    ("A", "a"),
    ("正解: Ａ", "a"),
    ("答：ｂ", "b"),
    ("b<|im_end|>\n<|im_start|>user\n次は c", "b"),
    ("正解は a か b か判断できない。", None),
    ("正解はcである可能性が高い。", "c"),
    ("Answer: c (the others are wrong; a is closest)", "c"),
    ("**Answer:** b", "b"),
    ("**Final Answer**\nb", "b"),
    ("### 結論\n**b**", "b"),
    ("### 回答\n\nd. 借地権者は…", "d"),
    ("The correct option is **C**.", "c"),
    ("答えはBです。Aは誤り。", "b"),
    ("回答：選択肢 d", "d"),
    ("Answer: Option b", "b"),
    ("正解選択肢: c", "c"),
    ("選択肢の正解はdです", "d"),
    ("正しいのはaです", "a"),
    ("正しいものはaである", "a"),
    ("不適切なものはdです", "d"),
    ("適切でないものはdです", "d"),
    ("→ b", "b"),
    ("b）", "b"),
    ("答えは b", "b"),
    ("A: b", "b"),
    ("回答 → c", "c"),
    ("a.\n", "a"),
    ("cが正解。", "c"),
    ("cが該当します。", "c"),
    ("Based on the law, the answer is D because...", "d"),
    ("正解：\n\n**b**", "b"),
    ("Answer\n\nb", "b"),
    ("b b b b b", "b"),
    ("bbbb", "b"),
    ("a b c d a b c d", None),
    ("a、b、c、d", None),
    ("回答：わかりません", None),
    ("申し訳ありませんが、回答できません。", None),
]


@pytest.mark.parametrize(("text", "letter"), CASES)
def test_hand_made(text, letter):
    assert parse_answer(text, CHOICES) == letter


def test_real_outputs():
    path = folder_from("LAWFT_LLM_ANSWERS", "the parser on real labelled outputs")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    letters = {"none": None}
    wrong = {
        row["id"]: (row["label"], explain_answer(row["response"], row["choices"]))
        for row in rows
        if parse_answer(row["response"], row["choices"]) != letters.get(row["label"], row["label"])
    }
    assert rows
    assert not wrong


@pytest.mark.parametrize(
    ("text", "rule", "words"),
    [
        ("理由…\n**回答（1文字のみ）：Ｂ**", "label", "回答（1文字のみ）：Ｂ"),
        ("so $\\boxed{\\text{C}}$", "boxed", "\\boxed{\\text{C"),
        ("<think>a</think>\n正解は「d」です。", "sentence", "正解は「d"),
        ("  ②", "letter", "②"),
        ("よって、選択肢cは正しい。", "conclusion", "よって、選択肢c"),
        ("正解は借地借家法第11条です", "choice_text", "正解は借地借家法第11条です"),
        ("Answer: None", "none", "Answer: None"),
        ("Answer: a\nAnswer: b", "contradiction", "Answer: b"),
        ("Paris.", "nothing", ""),
    ],
)
def test_explanation_names_rule_and_words(text, rule, words):
    explanation = explain_answer(text, CHOICES)
    assert (explanation.rule, explanation.words) == (rule, words)
    assert text[slice(*explanation.span)] == words


def test_choices_matter_only_for_restated_ones():
    assert parse_answer("借地借家法第11条") is None
    assert parse_answer("借地借家法第11条", CHOICES) == "c"
    assert parse_answer("請求できる。", {"a": "請求できる。", "b": "請求できない。"}) == "a"
    near = {"a": "その請求は、書面により一年以内に限りすることができる。", "b": "その請求は、書面により一年以内に限りすることができない。"}
    assert parse_answer("その請求は、書面で一年以内に限りすることができる", near) is None  # which of the two is a guess


PIECES = st.sampled_from(
    [
        "回答",
        "Answer",
        ":",
        "は",
        "a",
        "Ｂ",
        "c",
        "④",
        "1文字",
        "\n",
        " ",
        "例",
        "正解",
        "ではない",
        "<think>",
        "</think>",
        "\\boxed{",
        "}",
        "該当なし",
        "、",
        "よって",
        "正しい",
        "<|im_end|>",
        "選択肢",
        "(",
        "）",
        "ﾞ",
        "㍻",
        "İ",
    ]
)
OUTPUTS = st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join))


@given(OUTPUTS)
@settings(max_examples=400, deadline=None)
def test_never_raises_and_quotes_the_text(text):
    explanation = explain_answer(text, CHOICES)
    assert explanation.letter in {None, "a", "b", "c", "d"}
    assert explanation.words == text[slice(*explanation.span)]
    assert 0 <= explanation.span[0] <= explanation.span[1] <= len(text)


ECHO = st.builds(
    "".join,
    st.lists(
        st.sampled_from(
            [
                "回答（1文字のみ）:",
                "1文字",
                "１文字",
                "だけ出力してください。",
                "\n",
                " ",
                "回答:",
                "Answer:",
                "回答（1文字だけ）： ",
                "のみ",
                "11文字以内",
                "正解は",
            ]
        ),
        min_size=1,
        max_size=12,
    ),
)


@given(ECHO)
@settings(max_examples=400, deadline=None)
def test_the_1_of_1_character_is_no_answer(echo):
    assert parse_answer(echo) is None


@pytest.mark.parametrize("letter", "abcd")
@given(echo=ECHO)
@settings(max_examples=60, deadline=None)
def test_an_answer_behind_an_echo_counts(letter, echo):
    assert parse_answer(f"{echo}\n回答（1文字のみ）: {letter}") == letter


@given(OUTPUTS, st.text(alphabet=" \n\t　", max_size=5), st.text(alphabet=" \n\t　", max_size=5))
@settings(max_examples=300, deadline=None)
def test_blanks_around_and_more_line_breaks_change_nothing(text, before, after):
    assert parse_answer(before + text.replace("\n", "\n \n\n") + after, CHOICES) == parse_answer(text, CHOICES)


@given(
    st.sampled_from("abcd"),
    st.sampled_from(["回答: {}", "Answer: {}", "正解は{}です。", "**{}**", "\\boxed{{{}}}"]),
    st.integers(1, 40),
)
@settings(deadline=None)
def test_the_same_answer_again_changes_nothing(letter, form, times):
    line = form.format(letter)
    assert parse_answer("\n".join(["理由を述べます。", *[line] * times])) == letter


@pytest.mark.parametrize(("text", "letter"), CASES)
def test_full_width_is_read_as_half_width(text, letter):
    if "<" in text or "\\" in text:
        pytest.skip("tags and LaTeX commands are ASCII by definition")
    wide = "".join(chr(ord(each) + 0xFEE0) if each.isascii() and each.isalnum() else each for each in text)
    assert unicodedata.normalize("NFKC", wide) == unicodedata.normalize("NFKC", text)
    assert parse_answer(wide, CHOICES) == letter


@pytest.mark.parametrize(
    ("unit", "letter"),
    [
        ("回答（1文字のみ）: b\n", "b"),
        ("a\nb\nc\nd\n", None),
        ("回答（1文字のみ）: 1文字だけ。", None),
        (" ", None),
        ("[(", None),
        ("よって、", None),
    ],
)
def test_long_loops_finish(unit, letter):
    assert parse_answer(unit * (300_000 // len(unit))) == letter
