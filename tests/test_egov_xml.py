"""Laws in e-Gov's XML become passages: one test for each rule, on XML written for it."""

import io
import time
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawft_trl.errors import InputError
from lawft_trl.statutes.egov_xml import MAX_CHARS, read_law
from lawft_trl.statutes.passages import Passage, sort_key


def read(body: str, **options) -> list[Passage]:
    """The passages of a law with this body."""
    law = f'<Law><LawNum>令和六年法律第一号</LawNum><LawBody><LawTitle Abbrev="茶法,茶業法">茶業振興法</LawTitle>{body}</LawBody></Law>'
    return read_law(io.BytesIO(law.encode()), **{"source": "tea.xml", "law_id": "506AC0000000001"} | options)


def main(inner: str, **options) -> list[Passage]:
    return read(f"<MainProvision>{inner}</MainProvision>", **options)


def sentences(*texts: str) -> str:
    return "".join(f'<Sentence Num="{number}">{text}</Sentence>' for number, text in enumerate(texts, start=1))


def paragraph(text: str, number: str = "1", rest: str = "", shown: str = "", attributes: str = "") -> str:
    return (
        f'<Paragraph Num="{number}" {attributes}><ParagraphNum>{shown}</ParagraphNum>'
        f"<ParagraphSentence>{text if text.startswith('<') else sentences(text)}</ParagraphSentence>{rest}</Paragraph>"
    )


def article(number: str, *paragraphs: str, caption: str = "", attributes: str = "") -> str:
    caption = f"<ArticleCaption>{caption}</ArticleCaption>" if caption else ""
    return f'<Article Num="{number}" {attributes}>{caption}<ArticleTitle>第{number}条</ArticleTitle>{"".join(paragraphs)}</Article>'


def item(title: str, text: str, rest: str = "", kind: str = "Item", attributes: str = "") -> str:
    inner = text if text.startswith("<") else sentences(text)
    return f"<{kind} {attributes}><{kind}Title>{title}</{kind}Title><{kind}Sentence>{inner}</{kind}Sentence>{rest}</{kind}>"


def test_a_paragraph_with_its_items_is_one_passage():
    items = item("一", "煎茶", item("イ", "蒸し製", kind="Subitem1") + item("ロ", "釜炒り製", kind="Subitem1")) + item("二", "抹茶")
    (passage,) = main(article("1", paragraph("茶とは、次に掲げるものをいう。", rest=items), caption="（定義）"), revision="R", as_of="2026-04-01")
    assert passage.text == "茶とは、次に掲げるものをいう。\n一　煎茶\nイ　蒸し製\nロ　釜炒り製\n二　抹茶"
    assert passage.heading == "茶業振興法 第1条（定義）"
    assert passage.key == "506AC0000000001/main/1/"
    assert (passage.aliases, passage.revision, passage.as_of, passage.source) == (("茶法", "茶業法"), "R", "2026-04-01", "tea.xml")


def test_the_proviso_stays_with_its_sentence():
    lead = '<Sentence Num="1" Function="main">届け出なければならない。</Sentence>\n  <Sentence Num="2" Function="proviso">ただし、軽微なものは、この限りでない。</Sentence>'
    (passage,) = main(article("1", paragraph(lead)))
    assert passage.text == "届け出なければならない。ただし、軽微なものは、この限りでない。"


def test_only_the_number_of_an_undivided_article_is_empty():
    passages = main(article("1", paragraph("甲。")) + article("2", paragraph("乙。"), paragraph("丙。", "2", shown="２")))
    assert [(p.article, p.paragraph, p.text) for p in passages] == [("1", "", "甲。"), ("2", "1", "乙。"), ("2", "2", "丙。")]
    assert main(article("1", paragraph("残った項。", "2")))[0].paragraph == "2" == main(article("1", paragraph("番号。", "2", shown="２")))[0].paragraph


def test_inserted_articles_are_read_and_sorted_by_number():
    inserted = "".join(article(number, paragraph(f"本文{number}。")) for number in ("10", "27_2", "27", "27_10", "27_2_3"))
    passages = main(f"<Chapter><ChapterTitle>第一章</ChapterTitle><Section><SectionTitle>節</SectionTitle>{inserted}</Section></Chapter>")
    assert [p.article for p in passages] == ["10", "27", "27_2", "27_2_3", "27_10"]
    assert passages[2].heading == "茶業振興法 第27条の2"
    assert all("章" not in p.text and "節" not in p.text for p in passages)


@pytest.mark.parametrize("gone", [{"attributes": 'Delete="true"'}, {"attributes": 'Hide="true"'}, {}])
def test_deleted_and_hidden_articles_are_left_out(gone):
    text = "削除" if not gone else "隠れた本文。"
    deleted = article("3:5", paragraph(text), **gone)
    assert [p.article for p in main(article("2", paragraph("前。")) + deleted + article("6", paragraph("後。")))] == ["2", "6"]


def test_deleted_chapters_paragraphs_and_items_are_left_out():
    items = item("一", "残る号") + item("二", "消えた号", attributes='Delete="true"') + item("三", "削除")
    passages = main(
        f'<Chapter Delete="true">{article("1", paragraph("消えた章。"))}</Chapter>'
        + article("2", paragraph("次のもの", rest=items), paragraph("消えた項。", "2", attributes='Hide="true"'))
    )
    assert [(p.article, p.paragraph, p.text) for p in passages] == [("2", "1", "次のもの\n一　残る号\n三　削除")]


def test_paragraphs_without_a_printed_number_have_their_attributes():
    old = "".join(paragraph(f"古キ項{number}", number, attributes='OldNum="true"') for number in "123")
    assert [(p.paragraph, p.text) for p in main(article("1", old))] == [("1", "古キ項1"), ("2", "古キ項2"), ("3", "古キ項3")]


def test_a_law_without_articles():
    captioned = paragraph("茶を奨励する。", shown="１").replace("<ParagraphNum>", "<ParagraphCaption>（奨励）</ParagraphCaption><ParagraphNum>")
    passages = main(captioned + paragraph("施行の日は政令で定める。", "2", shown="２"))
    assert [p.key for p in passages] == ["506AC0000000001/main//1", "506AC0000000001/main//2"]
    assert [p.heading for p in passages] == ["茶業振興法 第1項（奨励）", "茶業振興法 第2項"]
    assert passages[0].text == "茶を奨励する。"
    assert main(paragraph("ただ一つの項。"))[0].heading == "茶業振興法"


def test_readings_are_dropped_and_the_base_stays():
    (passage,) = main(article("1", paragraph("<Sentence>瓶の<Ruby>蓋<Rt>ふた</Rt></Ruby>を閉じ、<Line>傍線</Line>と一〇<Sup>２</Sup>を除く。</Sentence>")))
    assert passage.text == "瓶の蓋を閉じ、傍線と一〇２を除く。"


def test_columns_are_joined_by_a_full_width_space():
    columns = f'<Column Num="1">{sentences("静岡県")}</Column>\n<Column Num="2">{sentences("やぶきた")}</Column>'
    (passage,) = main(article("1", paragraph("次のとおりとする。", rest=item("一", columns))))
    assert passage.text == "次のとおりとする。\n一　静岡県　やぶきた"


def test_tables_are_read_row_by_row():
    def row(*cells: str) -> str:
        return "<TableRow>" + "".join(f"<TableColumn>{cell}</TableColumn>" for cell in cells) + "</TableRow>\n"

    header = "<TableHeaderRow><TableHeaderColumn>区分</TableHeaderColumn><TableHeaderColumn>税率</TableHeaderColumn></TableHeaderRow>"
    rows = row(sentences("一　緑茶"), sentences("百分の五")) + row(item("一", "紅茶") + item("二", "烏龍茶"), "") + row(sentences("計"), sentences("別に定める。"))
    table = f"<TableStruct><TableStructTitle>税率表</TableStructTitle><Table>{header}{rows}</Table></TableStruct>"
    (passage,) = main(article("1", paragraph("次の表による。", rest=table)))
    assert passage.text == "次の表による。\n税率表\n区分｜税率\n一　緑茶｜百分の五\n一　紅茶　二　烏龍茶｜\n計｜別に定める。"
    in_item = f"<Table>{row(sentences('甲'), sentences('乙'))}</Table>"
    assert main(article("1", paragraph("次の号", rest=item("一", in_item))))[0].text == "次の号\n一\n甲｜乙"


def test_quoted_new_provisions_are_no_articles_of_this_law():
    amends = f"<AmendProvision><AmendProvisionSentence>{sentences('第九条を次のように改める。')}</AmendProvisionSentence><NewProvision>{article('9', paragraph('引用された新条文。'))}</NewProvision></AmendProvision>"
    toc = "<TOC><TOCLabel>目次</TOCLabel><TOCChapter><ChapterTitle>第一章</ChapterTitle></TOCChapter></TOC>"
    passages = read(f"<EnactStatement>朕</EnactStatement>{toc}<MainProvision>{article('1', paragraph('茶法を改正する。', rest=amends))}</MainProvision>")
    assert [(p.article, p.text) for p in passages] == [("1", "茶法を改正する。\n第九条を次のように改める。")]


def test_supplementary_provisions_stand_apart():
    body = (
        f"<MainProvision>{article('1', paragraph('本則。'))}</MainProvision>"
        f"<SupplProvision><SupplProvisionLabel>附　則</SupplProvisionLabel>{article('1', paragraph('原始附則。'))}</SupplProvision>"
        f"<SupplProvision AmendLawNum='令和七年法律第二号' Extract='true'>{article('1', paragraph('改正附則。'))}</SupplProvision>"
        f"<SupplProvision AmendLawNum=''>{paragraph('番号のない改正附則。')}</SupplProvision>"
    )
    passages = read(body)
    assert [(p.provision, p.text) for p in passages] == [("main", "本則。"), ("suppl", "原始附則。")]
    assert passages[1].heading == "茶業振興法 附則第1条"
    every = read(body, amending_supplements=True)
    assert [p.provision for p in every] == ["main", "suppl", "suppl:令和七年法律第二号", "suppl:番号不明"]


def test_a_preamble_is_a_provision_of_its_own():
    passages = read(f"<Preamble>{paragraph('われらは、茶を愛する。')}</Preamble><MainProvision>{article('1', paragraph('本則。'))}</MainProvision>")
    assert [p.heading for p in passages] == ["茶業振興法 第1条", "茶業振興法 前文"]


def test_captions_lose_their_brackets_and_a_common_caption_stays_with_the_first():
    passages = main(article("1", paragraph("甲。"), caption="（許可（更新を含む。）の基準）") + article("2", paragraph("乙。")))
    assert [p.caption for p in passages] == ["許可（更新を含む。）の基準", ""]


def test_long_paragraphs_are_divided_at_items_and_keep_their_lead():
    items = "".join(item(f"第{number}号", "茶" * 90) for number in range(20))
    passages = main(article("1", paragraph("次に掲げる茶をいう。", rest=items)), max_chars=400)
    assert [p.part for p in passages] == list(range(1, len(passages) + 1))
    assert len(passages) > 4
    assert all(p.text.startswith("次に掲げる茶をいう。\n第") and len(p.text) <= 400 for p in passages)
    assert [line for p in passages for line in p.text.split("\n")[1:]] == [f"第{number}号　{'茶' * 90}" for number in range(20)]
    assert [p.part for p in main(article("1", paragraph("次に掲げる茶をいう。", rest=items)), max_chars=10_000)] == [0]


def test_a_long_item_is_divided_and_keeps_its_own_lead_too():
    below = "".join(item(sign, "葉" * 60, kind="Subitem1") for sign in "イロハニ")
    passages = main(article("1", paragraph("柱書。", rest=item("一", "次のもの", below) + item("二", "短い号"))), max_chars=160)
    assert [p.text.split("\n")[:2] for p in passages[:2]] == [["柱書。", "一　次のもの"]] * 2
    assert sum(p.text.count("葉" * 60) for p in passages) == 4
    assert passages[-1].text.endswith("二　短い号")


def test_a_lead_longer_than_the_limit_is_not_repeated_for_every_item():
    items = "".join(item("号", "茶" * 40) for _ in range(20))
    passages = main(article("1", paragraph("長" * 300 + "。", rest=items)), max_chars=200)
    assert len(passages) == 10
    assert all(p.text.startswith("長" * 300) for p in passages)


def test_a_long_paragraph_without_items_is_divided_between_sentences():
    texts = [f"茶は{'よ' * 60}い（「茶{number}」という。）。" for number in range(6)]
    for max_chars in range(len(texts[0]), 300):
        passages = main(article("1", paragraph(sentences(*texts))), max_chars=max_chars)
        assert "".join(p.text for p in passages) == "".join(texts)
        assert all(p.text.endswith("。）。") and len(p.text) <= max_chars for p in passages)
    (whole,) = main(article("1", paragraph("長" * 3000 + "。")))
    assert len(whole.text) == 3001 > MAX_CHARS, "a sentence is never cut"


def test_text_of_unknown_elements_is_kept():
    unknown = "<Sentence>前<Emphasis>強調<Deep>深</Deep></Emphasis>後。</Sentence>"
    passages = main(
        article("1", paragraph(unknown, rest=f"<Annotation>{sentences('項の注。')}</Annotation>"), "<SupplNote>条の注</SupplNote>")
        + f"<Wrapper>{article('2', paragraph('包まれた条。'))}</Wrapper><Loose>{sentences('浮いた文。')}</Loose>"
    )
    assert [(p.article, p.part, p.text) for p in passages] == [
        ("", 0, "浮いた文。"), ("1", 1, "前強調深後。\n項の注。"), ("1", 2, "条の注"), ("2", 0, "包まれた条。"),
    ]  # fmt: skip


def test_a_number_used_twice_loses_nothing():
    passages = main(article("7", paragraph("先の条。"), caption="（先）") + article("7", paragraph("後の条。"), caption="（後）"))
    assert [(p.key, p.caption, p.text) for p in passages] == [
        ("506AC0000000001/main/7/#1", "先", "先の条。"), ("506AC0000000001/main/7/#2", "後", "後の条。"),
    ]  # fmt: skip


def test_the_layout_of_the_xml_is_not_in_the_text():
    laid_out = "\n        <Sentence>\n          国は、\n          茶を守る。\n        </Sentence>\n        <Sentence>地方も同じ。</Sentence>\n      "
    assert main(f"\n  {article('1', paragraph(laid_out.strip()))}\n")[0].text == "国は、茶を守る。地方も同じ。"


ANSWER = """<?xml version="1.0" encoding="UTF-8"?><law_data_response><law_info><law_id>506AC0000000009</law_id></law_info>
<revision_info><law_revision_id>506AC0000000009_20250401_000000000000000</law_revision_id>{told}</revision_info>
<law_full_text><Law><LawNum>令和六年法律第九号</LawNum><LawBody><LawTitle>湯呑法</LawTitle><MainProvision>
<Paragraph Num="1"><ParagraphSentence><Sentence>湯呑を備える。</Sentence></ParagraphSentence></Paragraph>
</MainProvision></LawBody></Law></law_full_text></law_data_response>"""


def test_an_answer_of_the_api_brings_its_own_ids():
    (passage,) = read_law(io.BytesIO(ANSWER.format(told="").encode()), source="a.xml", as_of="2026-04-01")
    assert (passage.law_id, passage.revision) == ("506AC0000000009", "506AC0000000009_20250401_000000000000000")
    (passage,) = read_law(io.BytesIO(ANSWER.format(told="").encode()), source="a.xml", law_id="X", revision="Y")
    assert (passage.law_id, passage.revision) == ("X", "Y")


def test_an_answer_that_is_not_the_law_of_the_day_is_refused():
    repealed = ANSWER.format(told="<repeal_status>Repeal</repeal_status><repeal_date>2026-01-01</repeal_date>").encode()
    assert read_law(io.BytesIO(repealed), source="a.xml", as_of="2025-12-31")
    with pytest.raises(InputError, match=r"a\.xml: not in force on 2026-04-01: Repeal on 2026-01-01"):
        read_law(io.BytesIO(repealed), source="a.xml", as_of="2026-04-01")


def test_the_law_number_stands_in_for_a_missing_id_or_title():
    (passage,) = read_law(io.BytesIO("<Law><LawNum>明治元年布告第一号</LawNum><LawBody><MainProvision><Paragraph><ParagraphSentence>"
                                     "<Sentence>茶ヲ飲ム</Sentence></ParagraphSentence></Paragraph></MainProvision></LawBody></Law>".encode()), source="x")  # fmt: skip
    assert (passage.law_id, passage.law, passage.aliases) == ("明治元年布告第一号", "明治元年布告第一号", ())


def test_a_law_without_text_gives_no_passage():
    assert read("") == [] == main("") == main(article("1", paragraph("削　除")))


BOMB = '<!DOCTYPE Law [<!ENTITY a "茶茶茶茶茶茶茶茶茶茶">' + "".join(f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True)) + "]>"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (f"{BOMB}<Law>&i;</Law>", "declares a DTD or entities"),
        ('<!DOCTYPE Law SYSTEM "file:///etc/passwd"><Law/>', "declares a DTD or entities"),
        ("<Law><LawNum>", "not XML that can be read: no element found"),
        ("", "not XML that can be read"),
        ('{"law": 1}', "not XML that can be read"),
        ('<?xml version="1.0" encoding="Shift_JIS"?><Law/>', "not XML that can be read"),
        ('<?xml version="1.0" encoding="tea"?><Law/>', "not XML that can be read"),
        ("<html><body/></html>", "no <Law> in it: the root is <html>"),
        ("<Law><LawBody/></Law>", "neither a title"),
        ("<Law><LawNum>一</LawNum><MainProvision>" + "<Part>" * 50_000 + "</Part>" * 50_000 + "</MainProvision></Law>", "nested more deeply"),
    ],
)
def test_bad_files_are_refused_quickly_and_by_name(data, said):
    start = time.monotonic()
    with pytest.raises(InputError, match=rf"^bad\.xml: .*{said}"):
        read_law(io.BytesIO(data.encode()), source="bad.xml")
    assert time.monotonic() - start < 2


# Any small law: divisions in divisions, articles and paragraphs with numbers that may repeat, items below items.
WORD = st.text(alphabet="茶葉湯急須蒸", min_size=1, max_size=6).map(lambda text: text + "。")
NUMBER = st.sampled_from(["1", "2", "3", "3_2", "10"])
SENTENCES = st.lists(WORD, min_size=1, max_size=3).map(lambda texts: sentences(*texts))
SUBITEM = st.builds(lambda text: item("イ", text, kind="Subitem1"), SENTENCES)
ITEM = st.builds(lambda text, below: item("一", text, "".join(below)), SENTENCES, st.lists(SUBITEM, max_size=2))
PARAGRAPH = st.builds(lambda text, number, items: paragraph(text, number, "".join(items)), SENTENCES, st.sampled_from("123"), st.lists(ITEM, max_size=3))  # fmt: skip
ARTICLE = st.builds(lambda number, paragraphs: article(number, *paragraphs), NUMBER, st.lists(PARAGRAPH, min_size=1, max_size=3))
INNER = st.recursive(
    st.one_of(ARTICLE, PARAGRAPH),
    lambda below: st.builds(lambda tag, inner: f"<{tag}>{''.join(inner)}</{tag}>", st.sampled_from(["Part", "Chapter", "Section", "Strange"]), st.lists(below, min_size=1, max_size=3)),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(inner=st.lists(INNER, min_size=1, max_size=4).map("".join), max_chars=st.sampled_from([8, 30, MAX_CHARS]))
def test_any_law_has_unique_keys_and_loses_no_sentence(inner, max_chars):
    passages = main(inner, max_chars=max_chars)
    assert len({p.key for p in passages}) == len(passages)
    assert passages == sorted(passages, key=sort_key)
    law = ElementTree.fromstring(f"<x>{inner}</x>")
    found = "\n".join(p.text for p in passages)
    written = [sentence.text for sentence in law.iter("Sentence")]
    assert all(text in found for text in written)
    if max_chars == MAX_CHARS:  # nothing is divided, so nothing is repeated: the characters are those of the sentences
        bare = "".join(line.removeprefix("一　").removeprefix("イ　") for line in found.split("\n"))
        assert sorted(bare) == sorted("".join(written))


def test_appended_tables_are_provisions_of_their_own():
    law = '''<Law Era="Heisei" Lang="ja" LawType="Act" Num="1" Year="3"><LawNum>平成三年法律第一号</LawNum><LawBody><LawTitle>甲法</LawTitle><MainProvision><Article Num="1"><ArticleTitle>第一条</ArticleTitle><Paragraph Num="1"><ParagraphNum/><ParagraphSentence><Sentence>本文。</Sentence></ParagraphSentence></Paragraph></Article></MainProvision><AppdxTable Num="1"><AppdxTableTitle>別表第一</AppdxTableTitle><RelatedArticleNum>（第一条関係）</RelatedArticleNum><TableStruct><Table><TableRow><TableColumn><Sentence>一級</Sentence></TableColumn><TableColumn><Sentence>百円</Sentence></TableColumn></TableRow><TableRow><TableColumn><Sentence>二級</Sentence></TableColumn><TableColumn><Sentence>五十円</Sentence></TableColumn></TableRow></Table></TableStruct></AppdxTable><AppdxTable><AppdxTableTitle>別表第二</AppdxTableTitle><Item Num="1"><ItemTitle>一</ItemTitle><ItemSentence><Sentence>石</Sentence></ItemSentence></Item></AppdxTable></LawBody></Law>'''
    found = read_law(io.BytesIO(law.encode()), source="x")
    assert [(p.provision, p.heading, p.text) for p in found] == [
        ("main", "甲法 第1条", "本文。"),
        ("別表第一", "甲法 別表第一（第一条関係）", "一級｜百円\n二級｜五十円"),
        ("別表第二", "甲法 別表第二", "一\u3000石"),
    ]
