"""Reading headed and plain text: keys, excerpts put together, nothing lost, nothing twice."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawft_trl.errors import InputError
from lawft_trl.statutes.headed_text import article_keys, lawqa_passages, read_headed, read_law_ids, read_text_files
from lawft_trl.statutes.passages import show_article, sort_key


def places(text: str, **more) -> list[tuple[str, str, str, str]]:
    return [(each.law, each.provision, each.article, each.paragraph) for each in read_headed(text, source="s.md", **more)]


@pytest.mark.parametrize(
    ("heading", "article"),
    [
        ("### 第27条の2", "27_2"),
        ("### 第１６６条", "166"),
        ("### 第二十七条の二", "27_2"),
        ("### 第 18 条の２", "18_2"),
        ("### 第百六十六条の三十の二", "166_30_2"),
        ("#### 第1条の３", "1_3"),  # one context has its articles a level too deep
        ("### Q&A", "Q&A"),
        ("### Q＆A", "Q&A"),
        ("### III.  監督上の評価項目", "III.監督上の評価項目"),
        ("### 第4条（募集又は売出の届出）関係", "第4条(募集又は売出の届出)関係"),
    ],
)
def test_article_headings(heading, article):
    (passage,) = read_headed(f"## 模擬法\n{heading}\n本文。", source="s")
    assert (passage.law, passage.article, passage.paragraph, passage.text) == ("模擬法", article, "", "本文。")


def test_captions_paragraphs_and_items():
    text = "## 模擬法\n### 第2条（定義）\n#### 第１項\n次のもの\n##### 第１号\n甲\n#### 第2号\n乙\n###### イ\n丙\n#### 第二項\n丁"
    first, second = read_headed(text, source="s")
    assert (first.caption, first.paragraph) == ("定義", "1")
    assert first.text == "次のもの\n##### 第1号\n甲\n##### 第2号\n乙\n###### イ\n丙"
    assert (second.paragraph, second.text, second.caption) == ("2", "丁", "定義")
    assert first.heading == "模擬法 第2条第1項（定義）"


def test_an_answer_stays_with_its_question():
    text = "## 問答集\n### (問12)\n甲ですか。\n### (答)\n乙です。\n### (問13)\n丙ですか。\n### (答)\n丁です。"
    assert [(passage.article, passage.text) for passage in read_headed(text, source="s")] == [
        ("(問12)", "甲ですか。\n##### (答)\n乙です。"),
        ("(問13)", "丙ですか。\n##### (答)\n丁です。"),
    ]


def test_a_law_under_an_articles_heading_is_a_law():
    text = "## 甲法施行令\n### 第9条の4\n一\n### 公開買付けの開示に関する内閣府令\n### 第30条の2\n二\n## 乙\n### 第1章　金融商品取引法\n三"
    assert places(text) == [
        ("甲法施行令", "main", "9_4", ""),
        ("公開買付けの開示に関する内閣府令", "main", "30_2", ""),
        ("乙", "main", "第1章金融商品取引法", ""),
    ]


def test_text_outside_articles_and_supplementary_provisions():
    text = "前書き\n## 模擬法\n通則\n### 第1条\n一\n### 附則 第1条\n二\n## 模擬法\n### 附則（平成十一年法律第一号）第1条\n三"
    assert places(text, law="無題") == [
        ("無題", "main", "", ""),
        ("模擬法", "main", "", ""),
        ("模擬法", "main", "1", ""),
        ("模擬法", "suppl", "1", ""),
        ("模擬法", "suppl:平成十一年法律第一号", "1", ""),
    ]


def test_chapters_are_no_laws_and_titles_may_stand_at_depth_1():
    text = "# 模擬法\n## 第一章　総則\n### 第1条\n一\n## 第二章 罰則\n二\n### 第2条\n三"
    assert places(text) == [("模擬法", "main", "1", ""), ("模擬法", "main", "", ""), ("模擬法", "main", "2", "")]


def test_law_ids_are_found_however_the_title_is_written():
    (passage,) = read_headed("## 甲（乙）法\n### 第1条\n一", source="s", law_ids={"甲(乙)法": "403AC0000000090"}, as_of="2025-04-01")
    assert (passage.key, passage.as_of) == ("403AC0000000090/main/1/", "2025-04-01")
    assert passage.article_key == "甲(乙)法/main/1"


def test_excerpts_of_one_paragraph_are_put_together():
    head = "## 模擬法\n### 第2条\n#### 第1項\n次の各号に掲げるものをいう。\n"
    one, other = head + "##### 第3号\n丙\n###### ロ\nろ", head + "##### 第１号\n甲\n##### 第3号\n丙\n###### イ\nい"
    for contexts in ([one, other], [other, one]):
        (passage,) = lawqa_passages(contexts)
        assert passage.text == "次の各号に掲げるものをいう。\n##### 第1号\n甲\n##### 第3号\n丙\n###### イ\nい\n###### ロ\nろ"


def test_a_miscopied_lead_stands_once_and_different_ones_both_stay():
    lead = "厚生労働大臣は、製造所における医療機器の試験検査の実施方法その他製造業者がその業務に関し遵守すべき事項を定めることができる。"
    slip = lead.replace("製造業者が", "製造業者又は外国製造業者が")
    other = "前項の規定は、外国において医薬品を製造しようとする者について準用する。この場合において、必要な読替えは政令で定める。"
    (passage,) = lawqa_passages([f"## 甲法\n### 第1条\n{text}" for text in (lead, slip, other, lead[:30])])
    assert passage.text == f"{slip}\n{other}"


def test_an_undivided_excerpt_is_the_first_paragraph_of_a_divided_article():
    passages = lawqa_passages(["## 甲法\n### 第1条\n一", "## 甲法\n### 第1条\n#### 第2項\n二"])
    assert [(passage.paragraph, passage.text) for passage in passages] == [("1", "一"), ("2", "二")]


def test_untitled_contexts_are_not_taken_for_one_law():
    one, other = "第1条 賃料は月末に払う。", "第1条 売主は物を引き渡す。"
    passages = lawqa_passages([one, other])
    assert len({passage.key for passage in passages}) == 2
    assert {passage.article_key for passage in passages} == {*article_keys(one), *article_keys(other)}


def test_plain_text():
    text = (
        "第一章　総則\n（目的）\n第一条　この法律は、甲を目的とする。\n\n（定義）\n第二条　甲とは、次のものをいう。\n一　乙\n２　前項は、適用しない。\n"
        "第二条の二　第三条の規定を準用する。\n附　則\n第一条　公布の日から施行する。\n"
    )
    passages = read_headed(text, source="mogi.txt")
    assert [(each.key, each.caption, each.text) for each in passages] == [
        ("mogi/main/1/", "目的", "この法律は、甲を目的とする。"),
        ("mogi/main/2/1", "定義", "甲とは、次のものをいう。\n一　乙"),
        ("mogi/main/2/2", "定義", "前項は、適用しない。"),
        ("mogi/main/2_2/", "", "第三条の規定を準用する。"),
        ("mogi/suppl/1/", "", "公布の日から施行する。"),
    ]


def test_plain_text_without_articles_is_divided_at_blank_lines():
    passages = read_headed("一つ目。\r\n（注）\r\n続き。\r\n\r\n第三条の規定は二つ目。", source="memo.txt")
    assert [(each.key, each.text) for each in passages] == [
        ("memo/main//#1", "一つ目。\n（注）\n続き。"),
        ("memo/main//#2", "第三条の規定は二つ目。"),
    ]


def test_plain_articles_under_the_heading_of_a_law_or_chapter():
    text = "# 民法\n前書き\n\n第1条（目的） あ\n第2条 い\n２　う\n## 第2章 雑則\n第３条 え\n## 附則\n第1条 お\n## 指針\n第1条のとおり\n\n一"
    assert [(*place, passage.text) for place, passage in zip(places(text), read_headed(text, source="s.md"), strict=True)] == [
        ("民法", "main", "", "", "前書き"),
        ("民法", "main", "1", "", "あ"),
        ("民法", "main", "2", "1", "い"),
        ("民法", "main", "2", "2", "う"),
        ("民法", "main", "3", "", "え"),
        ("民法", "suppl", "1", "", "お"),
        ("指針", "main", "", "", "第1条のとおり\n\n一"),
    ]


def test_deleted_articles_in_plain_text_are_not_the_one_before():
    text = "第２条　あ\n第３条から第５条まで　削除\n第６条及び第７条　削　除\n第８条　い"
    assert [(p.article, p.text) for p in read_headed(text, source="s")] == [("2", "あ"), ("3:5", "削除"), ("6:7", "削　除"), ("8", "い")]
    assert places("## 甲法\n### 第6条から第8条まで\n一") == [("甲法", "main", "6:8", "")], "as it is shown, so it is read"


def test_files(tmp_path):
    for name, text in (("b.md", "## 乙法\n### 第10条\n一\n### 第2条\n二"), ("甲法.txt", "第1条 三")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    passages = read_text_files([tmp_path / "b.md", tmp_path / "甲法.txt"])
    assert [passage.article_key for passage in passages] == ["乙法/main/2", "乙法/main/10", "甲法/main/1"]
    assert {passage.source for passage in passages} == {"b.md", "甲法.txt"}


def test_every_fault_of_the_files_is_named(tmp_path):
    for name, text in (("a.md", "## 乙法\n### 第2条\n一"), ("b.md", "## 乙法\n### 第２条\n二"), ("c.txt", "\n \n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_text_files([tmp_path / name for name in ("a.md", "b.md", "c.txt")])
    assert "b.md: 乙法 第2条 is also in" in str(error.value)
    assert "c.txt: no text in it" in str(error.value)


def test_law_lists(tmp_path):
    path = tmp_path / "law_list.json"
    path.write_text(
        json.dumps([{"title": "甲法", "url": "https://laws.e-gov.go.jp/law/403AC0000000090"}, {"title": "指針", "url": "https://example.jp/a.pdf"}]),
        encoding="utf-8",
    )
    assert read_law_ids(path) == {"甲法": "403AC0000000090"}
    path.write_text('{"甲法": "403AC0000000090"}', encoding="utf-8")
    with pytest.raises(InputError, match="list of objects with `title` and `url`"):
        read_law_ids(path)


LINES = st.text("甲乙丙丁は、が。", min_size=1, max_size=12)
HEADINGS = st.sampled_from(
    ["## 甲法", "## 乙法施行令", "### 第1条", "### 第２条の３（定義）", "### 附則", "### Q&A", "#### 第1項", "#### 第２項", "#### 一般", "##### 第1号",
     "##### 第２号", "###### イ", "###### ロ", "### (答)"]
)  # fmt: skip
CONTEXTS = st.lists(st.one_of(HEADINGS, LINES), min_size=1, max_size=14).map("\n".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(CONTEXTS, min_size=1, max_size=4))
def test_no_key_twice_no_line_lost(contexts):
    passages = lawqa_passages(contexts)
    assert len({passage.key for passage in passages}) == len(passages)
    everything = "\n".join(passage.text for passage in passages)
    for line in "\n".join(contexts).split("\n"):
        if not line.startswith("#") and not re.fullmatch(r"[、。は が]*", line):
            assert line.strip() in everything
    keys = {passage.article_key for passage in passages}
    assert all(set(article_keys(context)) <= keys for context in contexts)


@settings(max_examples=100, deadline=None)
@given(CONTEXTS)
def test_what_a_prompt_shows_is_read_as_it_was_written(context):
    """`show_article` and `read_headed` are inverse, so a shown passage keeps its key."""
    articles: dict[str, list] = {}
    for passage in sorted(read_headed(f"## 丙法\n{context}", source="s"), key=sort_key):  # as a corpus holds them
        articles.setdefault(passage.article_key, []).append(passage)
    for passages in articles.values():
        again = read_headed(show_article(passages), source="s")
        assert [(each.key, each.text) for each in again] == [(each.key, each.text) for each in passages]


def test_real_lawqa(lawqa_dir: Path):
    samples = json.loads((lawqa_dir / "data" / "selection.json").read_text(encoding="utf-8"))["samples"]
    contexts = [sample["コンテキスト"] for sample in samples]
    passages = lawqa_passages(contexts, law_ids=read_law_ids(lawqa_dir / "data" / "law_list.json"))
    articles = {passage.article_key for passage in passages}
    assert (len(passages), len(articles), len({passage.key for passage in passages})) == (266, 179, 266)
    assert {passage.law_id for passage in passages if passage.law == "借地借家法"} == {"403AC0000000090"}
    assert {key for context in contexts for key in article_keys(context)} == articles
    assert "発行者以外の者による株券等の公開買付けの開示に関する内閣府令/main/30_2" in articles
    lines = {line.strip() for context in contexts for line in context.split("\n")}
    shown = {line for passage in passages for line in passage.text.split("\n") if not line.startswith("#")}
    assert shown <= lines, "every line of the corpus stands in a context: nothing of questions, choices or answers came in"
