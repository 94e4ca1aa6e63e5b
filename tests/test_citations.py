"""Numerals, article numbers, and which provisions a text names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lawft_trl.statutes.citations import (
    SHORT_TITLES,
    article_number,
    find_citations,
    item_name,
    paragraph_number,
    title_names,
)
from lawft_trl.statutes.numerals import read_number

DRUGS = "医薬品、医療機器等の品質、有効性及び安全性の確保等に関する法律"
NAMES = title_names(
    {"金融商品取引法": (), "金融商品取引法施行令": (), "商法": (), "会社法": (), DRUGS: (), f"{DRUGS}施行規則": (), "公開買付府令": ("他社株府令",)}
)


def kanji_number(number: int) -> str:
    """27 -> `"二十七"`, as statutes write it; from 1 to 9999."""
    digits = [(number // power % 10, sign) for power, sign in ((1000, "千"), (100, "百"), (10, "十"), (1, ""))]
    return "".join(("" if digit == 1 and sign else "〇一二三四五六七八九"[digit]) + sign for digit, sign in digits if digit)


@given(st.integers(1, 9999))
def test_kanji_numbers_are_read_as_they_are_written(number):
    assert read_number(kanji_number(number)) == number
    assert read_number(str(number)) == read_number(str(number).translate(str.maketrans("0123456789", "０１２３４５６７８９"))) == number
    assert read_number("".join("〇一二三四五六七八九"[int(digit)] for digit in str(number))) == number


@pytest.mark.parametrize(("kanji", "number"), [("十", 10), ("百六十六", 166), ("二〇二", 202), ("千九百", 1900), ("二千二十", 2020)])
def test_numerals(kanji, number):
    assert read_number(kanji) == number


@pytest.mark.parametrize("text", ["", "2十", "イ", "-1"])
def test_what_is_no_numeral(text):
    assert read_number(text) is None


@pytest.mark.parametrize(
    ("name", "number"),
    [("第二十七条の二", "27_2"), ("第１６６条", "166"), ("第27条の30の6", "27_30_6"), ("第５条の見出し", ""), ("第二条の一部", ""), ("5条", ""),
     ("第2項", ""), ("", "")],
)  # fmt: skip
def test_article_numbers(name, number):
    assert article_number(name) == number


def test_item_numbers():
    assert [item_name(name) for name in ("第１号", "第二号の三", "第イ号", "第1号イ", "")] == ["第1号", "第2号の3", "", "", ""]


def test_paragraph_numbers():
    assert [paragraph_number(name) for name in ("第１項", "第十二項", "第1項本文", "第1号", "")] == ["1", "12", "", "", ""]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("金融商品取引法第二十七条の二第一項", [("金融商品取引法", "27_2", "1")]),
        ("金融商品取引法 第27条の２ 第１項", [("金融商品取引法", "27_2", "1")]),
        ("金商法第5条第6項により", [("金融商品取引法", "5", "6")]),
        ("薬機法施行規則第114条", [(f"{DRUGS}施行規則", "114", "")]),
        ("他社株府令第30条の2", [("公開買付府令", "30_2", "")]),
        ("金融商品取引法（昭和二十三年法律第二十五号）第5条", [("金融商品取引法", "5", "")]),
        (f"{DRUGS}（以下「法」という。）第2条", [(DRUGS, "2", "")]),
        ("金商法第2条第1項及び第3項", [("金融商品取引法", "2", "1"), ("金融商品取引法", "2", "3")]),
        ("金商法第2条第1項第3号又は第6条、会社法第9条から第11条まで", [("金融商品取引法", "2", "1"), ("金融商品取引法", "6", ""),
                                                       ("会社法", "9", ""), ("会社法", "11", "")]),
        ("金商法第2条、金商法第2条", [("金融商品取引法", "2", "")]),
        # the orders of a law are not the law, whether or not the corpus has them
        ("金融商品取引法施行令第5条", [("金融商品取引法施行令", "5", "")]),
        ("金融商品取引法施行規則第5条", []),
        ("会社法施行令第5条", []),
        # another law whose name ends alike; laws that are not named
        ("特別商法第5条", []),
        ("民法第5条", []),
        ("同法第5条、法第6条、第7条", []),
        # as people write: without 第, quoted, after 「の」, numbers and words that belong to no title
        ("金商法5条", [("金融商品取引法", "5", "")]),
        ("会社法３条の二1項2号、6条", [("会社法", "3_2", "1"), ("会社法", "6", "")]),
        ("会社法2条件のうち三条を満たす", []),
        ("「会社法」第5条、『金商法』の第6条", [("会社法", "5", ""), ("金融商品取引法", "6", "")]),
        ("(1)会社法第5条（イ）会社法第6条", [("会社法", "5", ""), ("会社法", "6", "")]),
        ("上記金商法第5条の2", [("金融商品取引法", "5_2", "")]),
        ("届出 金商法第5条", [("金融商品取引法", "5", "")]),
        ("質問　会社法第5条", [("会社法", "5", "")]),
        ("金商法第５条２項、会社法第109条1項", [("金融商品取引法", "5", "2"), ("会社法", "109", "1")]),
        ("改正会社法第5条、会社法 施行令第5条", []),
        # 同法 is the law named last in the sentence, known or not
        ("金商法第5条の届出は、同法第6条及び第7条による。", [("金融商品取引法", "5", ""), ("金融商品取引法", "6", ""), ("金融商品取引法", "7", "")]),
        ("金商法第5条、金商法施行令第1条、同法第6条、同令第2条", [("金融商品取引法", "5", ""), ("金融商品取引法施行令", "1", ""),
                                             ("金融商品取引法", "6", ""), ("金融商品取引法施行令", "2", "")]),
        ("金商法第5条と会社法の規定により、同法第6条の方法で", [("金融商品取引法", "5", ""), ("会社法", "6", "")]),
        ("金商法第5条と民法の規定により、同法第6条", [("金融商品取引法", "5", "")]),
        ("金商法第5条、民法第6条、同法第7条", [("金融商品取引法", "5", "")]),
        ("金商法第5条による。同法第6条", [("金融商品取引法", "5", "")]),
        ("金商法第5条、民法第6条又は第7条", [("金融商品取引法", "5", "")]),
        # a line ends a citation: choices stand on lines
        ("金商法第5条、\n第6条", [("金融商品取引法", "5", "")]),
        ("", []),
    ],
)  # fmt: skip
def test_citations(text, found):
    assert find_citations(text, NAMES) == found


def test_within_an_order_the_act_and_the_order_itself_need_no_name():
    text = "法第二十七条の二第一項に規定する政令で定める場合は、第五条及び第六条第二項（附則第三条並びに会社法第九条を除く。）とする。"
    assert find_citations(text, NAMES, own="金融商品取引法施行令", parent="金融商品取引法") == [
        ("金融商品取引法", "27_2", "1"),
        ("金融商品取引法施行令", "5", ""),
        ("金融商品取引法施行令", "6", "2"),
        ("会社法", "9", ""),
    ]


@given(
    st.sampled_from(["金融商品取引法", "金融商品取引法施行令", "会社法", DRUGS]),
    st.integers(1, 999),
    st.lists(st.integers(2, 40), max_size=2),
    st.integers(1, 30),
    st.text("あはの、。（", max_size=5),
)
def test_kanji_and_arabic_citations_are_the_same(law, article, branches, paragraph, before):
    kanji = f"{before}{law}第{kanji_number(article)}条{''.join('の' + kanji_number(each) for each in branches)}第{kanji_number(paragraph)}項"
    arabic = f"{before}{law}第{article}条{''.join(f'の{each}' for each in branches)}第{paragraph}項"
    expected = [(law, "_".join(map(str, [article, *branches])), str(paragraph))]
    assert find_citations(kanji, NAMES) == find_citations(arabic, NAMES) == expected


@given(st.text("第一二十条項の法令金商取引及び又は、（）\n0５", max_size=60))
def test_any_text_can_be_read(text):
    for law, article, paragraph in find_citations(text, NAMES, own="商法", parent="会社法"):
        assert law and article and (paragraph == "" or paragraph.isdecimal())


def test_short_titles_name_whole_titles_and_never_each_other():
    assert not set(SHORT_TITLES) & set(SHORT_TITLES.values())
    assert title_names({"民法": ()}) == {"民法": "民法"}, "a short title of a law that is not there names nothing"
    assert title_names({"甲法": ("乙",), "乙": ()})["乙"] == "乙", "a title goes before another law's short title"
