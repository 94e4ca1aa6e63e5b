"""The index and the search: citations first, nothing twice, the same each time, refused when it does not fit."""

import json
import os
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_lawft
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lawft_trl.errors import InputError
from lawft_trl.statutes import index_files, search
from lawft_trl.statutes.headed_text import read_headed
from lawft_trl.statutes.index_files import bigrams
from lawft_trl.statutes.passages import Passage, sort_key, write_corpus
from lawft_trl.statutes.search import LEFT_OUT, build_index, open_index, shorten

TEXT = """
## 金融商品取引法
### 第2条（定義）
この法律において有価証券とは、国債証券、社債券その他政令で定める証券をいう。
### 第5条（届出書）
#### 第1項
発行者は、届出書を内閣総理大臣に提出しなければならない。
#### 第2項
前項の届出書の様式は、内閣府令で定める。
### 第6条（写しの送付）
第五条第一項の届出書の写しは、遅滞なく取引所に送付する。
### 第9条（公告）
公開買付者は、公告をしなければならない。
## 金融商品取引法施行令
### 第1条（証券の範囲）
法第二条に規定する政令で定める証券は、学校法人が発行する債券とする。
### 第3条（手数料）
手数料の額は、一件につき九千円とする。
## 企業内容開示府令
### 第1条（定義）
この府令は、金融商品取引法（以下「法」という。）の用語による。
### 第8条（様式）
法第五条第二項の様式は、別紙様式とする。
## 借地借家法
### 第3条（借地権の存続期間）
借地権の存続期間は、三十年とする。ただし、契約でこれより長い期間を定めたときは、その期間とする。
"""


def corpus_of(passages: list[Passage], folder: Path) -> Path:
    write_corpus(sorted(passages, key=sort_key), folder, as_of="", attribution="made for a test", sources={}, force=True)
    return folder


@pytest.fixture
def corpus(tmp_path) -> Path:
    return corpus_of(read_headed(TEXT, source="test"), tmp_path / "corpus")


@pytest.fixture(params=["bm25s", "tantivy"])
def index(corpus, request):
    build_index(corpus, engine=request.param)
    return open_index(corpus)


def keys(hits) -> list[str]:
    return [hit.article_key for hit in hits]


def test_bigrams():
    assert bigrams("第２７条の2、ＡＢＣと「甲」！") == ["第2", "27", "7条", "条の", "の2", "ab", "bc", "cと", "甲"]
    assert bigrams("、。 \n_") == []
    assert bigrams("〇々ー") == ["〇々", "々ー"]


def test_words_find_the_article_and_show_it_whole(index):
    hit = index.search("届出書を提出する", 1)[0]
    assert (hit.article_key, hit.rank, hit.via) == ("金融商品取引法/main/5", 1, "bm25")
    assert hit.score > 0
    assert hit.text == (
        "## 金融商品取引法\n### 第5条（届出書）\n#### 第1項\n発行者は、届出書を内閣総理大臣に提出しなければならない。\n"
        "#### 第2項\n前項の届出書の様式は、内閣府令で定める。"
    )
    assert [passage.paragraph for passage in hit.passages] == ["1", "2"]


@pytest.mark.parametrize("citation", ["金商法第９条", "金融商品取引法第九条", "金融商品取引法 第9条第1項"])
def test_a_cited_article_comes_before_what_the_words_find(index, citation):
    query = f"借地権の存続期間は三十年、契約で長い期間を定めたときはその期間とする。{citation}"
    hits = index.search(query, 3)
    assert [(hit.article_key, hit.via) for hit in hits[:2]] == [("金融商品取引法/main/9", "citation"), ("借地借家法/main/3", "bm25")]
    assert hits[0].score < hits[1].score, "BM25 alone would have put it second"


def test_an_order_is_not_its_act(index):
    assert keys(index.search("金融商品取引法施行令第3条", 1)) == ["金融商品取引法施行令/main/3"]
    assert "citation" not in {hit.via for hit in index.search("金融商品取引法施行規則第5条", 5)}


def test_cited_articles_do_not_depend_on_the_order_of_the_lines(index):
    lines = ["金商法第9条", "金商法第2条", "金商法施行令第3条", "借地借家法第3条", "届出書"]
    expected = index.search("\n".join(lines), 5, hops=1)
    for seed in range(10):
        random.Random(seed).shuffle(lines)
        assert index.search("\n".join(lines), 5, hops=1) == expected


def test_hops_follow_citations_both_ways(index):
    def found(query: str) -> list[tuple[str, str]]:
        return [(hit.article_key, hit.via) for hit in index.search(query, 1, hops=1)]

    act, order = "金融商品取引法/main", "金融商品取引法施行令/main"
    assert found("金商法第2条") == [(f"{act}/2", "citation"), (f"{order}/1", "hop")]  # 政令で定める -> the order that says 法第二条
    assert found("金商法施行令第1条") == [(f"{order}/1", "citation"), (f"{act}/2", "hop")]  # 法第二条
    assert found("金商法第6条") == [(f"{act}/6", "citation"), (f"{act}/5", "hop")]  # 第五条 of the same law
    assert found("金商法第5条") == [(f"{act}/5", "citation"), ("企業内容開示府令/main/8", "hop")]  # 以下「法」という
    assert found("金商法第9条") == [(f"{act}/9", "citation")]
    assert [hit.via for hit in index.search("金商法第2条", 2, hops=1)] == ["citation", "bm25", "hop", "hop"]


def test_nothing_is_found_for_nothing(index):
    assert index.search("", 3) == index.search("、。", 3) == index.search("zzzz", 3, hops=1) == []


def test_a_long_article_is_shown_by_its_best_paragraphs(tmp_path):
    paragraphs = [f"{name}に関する規定は、" + "別に定めるところによるものとし、" * 12 + f"{name}を要する。" for name in ("登記", "納税", "測量", "証紙", "保険")]
    passages = [Passage(law_id="x", law="甲法", article="1", paragraph=str(place), text=text) for place, text in enumerate(paragraphs, 1)]
    corpus = corpus_of(passages, tmp_path / "corpus")
    build_index(corpus)
    index = open_index(corpus)
    whole, part = index.search("証紙と納税", 1, max_chars=10_000)[0], index.search("証紙と納税", 1, max_chars=520)[0]
    assert [passage.paragraph for passage in whole.passages] == ["1", "2", "3", "4", "5"]
    assert [passage.paragraph for passage in part.passages] == ["2", "4"]
    assert len(part.text) <= 520
    cited = index.search("甲法第1条第5項の納税", 1, max_chars=300)[0]
    assert [passage.paragraph for passage in cited.passages] == ["5"], "the cited paragraph goes first"


def test_shorten_keeps_the_items_that_fit_the_query():
    text = "次のものをいう。\n##### 第1号\n国債証券\n##### 第2号\n地方債証券\n###### イ\n県債\n##### 第3号\n社債券"
    assert shorten(text, set(bigrams("社債券")), 1000) == text
    assert shorten(text, set(bigrams("社債券")), 40) == f"次のものをいう。\n{LEFT_OUT}\n##### 第3号\n社債券"
    assert shorten("甲は、\n一　乙乙乙乙乙\n二　丙丁\n三　戊戊戊戊戊", set(bigrams("丙丁")), 23) == f"甲は、\n{LEFT_OUT}\n二　丙丁\n{LEFT_OUT}"
    assert shorten("長い文" * 20, set(), 20) == ("長い文" * 20)[:17] + LEFT_OUT


@given(st.text("甲乙丙一二\n# 第号", max_size=300), st.integers(8, 200))
def test_shortened_text_fits_and_is_taken_from_the_text(text, room):
    short = shorten(text, {"甲乙", "丙一"}, room)
    assert len(short) <= max(room, len(LEFT_OUT))
    for piece in short.split(LEFT_OUT):
        assert piece.strip("\n") in text


ARTICLES = st.lists(
    st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["甲法", "甲法施行令", "乙法"]), st.integers(1, 4), st.lists(st.sampled_from(
        ["権利を有する。", "義務を負う。", "届出をする。", "届出 をする。", "法第二条の政令で定める。", "第三条を準用する。"]), min_size=1, max_size=3)),
    min_size=1, max_size=10)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ARTICLES, st.text("権利義務届出甲乙法第123条、\n", max_size=40), st.integers(1, 5), st.integers(0, 1))
def test_no_article_and_no_text_twice(tmp_path, articles, query, k, hops):
    passages = {
        (law_id, law, number, place): Passage(law_id=law_id, law=law, article=str(number), paragraph=str(place), text=text)
        for law_id, law, number, texts in articles
        for place, text in enumerate(texts, 1)
    }  # the same law may be there under two ids
    corpus = corpus_of(list(passages.values()), tmp_path / "corpus")
    build_index(corpus)
    hits = open_index(corpus).search(query, k, hops=hops)
    texts = ["".join(passage.text.split()) for hit in hits for passage in hit.passages]
    assert len(set(texts)) == len(texts)
    assert len({(hit.passages[0].law_id, hit.article_key) for hit in hits}) == len(hits) <= k * (1 + hops)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    order = ["citation", "bm25", "hop"]
    assert [hit.via for hit in hits] == sorted((hit.via for hit in hits), key=order.index)


def test_the_same_index_and_hits_each_time(corpus, tmp_path):
    other = corpus_of(read_headed(TEXT, source="test"), tmp_path / "other")
    for each in (corpus, other):
        build_index(each)
    for path in (corpus / "index").rglob("*"):
        if path.is_file() and path.name != "index.json":
            assert path.read_bytes() == (other / "index" / path.relative_to(corpus / "index")).read_bytes(), path
    query = "届出書の様式、金商法第2条、期間"
    assert open_index(corpus).search(query, 5, hops=1) == open_index(other).search(query, 5, hops=1)


def test_both_engines_find_the_same(corpus):
    queries = ["届出書を提出", "手数料の額は九千円", "借地権の存続期間", "学校法人が発行する債券", "公開買付者の公告", "金商法施行令第3条"]
    found = {}
    for engine in ("bm25s", "tantivy"):
        build_index(corpus, engine=engine, force=True)
        index = open_index(corpus)
        found[engine] = [index.search(query, 1)[0].article_key for query in queries]
    assert found["bm25s"] == found["tantivy"]
    assert found["bm25s"][1:4] == ["金融商品取引法施行令/main/3", "借地借家法/main/3", "金融商品取引法施行令/main/1"]


def test_the_index_is_mapped(corpus):
    build_index(corpus)
    index = open_index(corpus)
    assert all(isinstance(table, np.memmap) for table in (index._offsets, index._starts, index._hashes, index._by_hash, index._citations))
    closure = dict(zip(index._best.__code__.co_freevars, index._best.__closure__, strict=True))
    scores = closure["index"].cell_contents.scores
    assert isinstance(scores["data"], np.memmap) and isinstance(scores["indices"], np.memmap)


def test_what_the_index_says_of_itself(corpus):
    build_index(corpus)
    record = json.loads((corpus / "index" / "index.json").read_text(encoding="utf-8"))
    assert (record["engine"], record["k1"], record["b"], record["passages"], record["articles"], record["laws"]) == ("bm25s", 0.9, 0.4, 10, 9, 4)
    assert record["corpus_sha256"] == json.loads((corpus / "manifest.json").read_text(encoding="utf-8"))["sha256"]
    assert record["library"].startswith("bm25s ")


def refusal(corpus: Path) -> str:
    with pytest.raises(InputError) as error:
        open_index(corpus)
    return str(error.value)


def test_a_corpus_without_index_and_a_folder_without_corpus(corpus, tmp_path):
    assert f"lawft statutes index {corpus}" in refusal(corpus)
    assert "not a statutes corpus" in refusal(tmp_path)


def test_a_changed_corpus_is_refused(corpus):
    build_index(corpus)
    path = corpus / "passages.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("三十年", "四十年"), encoding="utf-8")
    message = refusal(corpus)
    assert "the corpus was changed after it was indexed" in message
    assert f"lawft statutes index {corpus} --force" in message
    with pytest.raises(InputError, match="was changed after the corpus was made"):
        build_index(corpus, force=True)


def test_a_touched_corpus_is_not_a_changed_one(corpus):
    build_index(corpus)
    os.utime(corpus / "passages.jsonl", (1, 1))
    assert open_index(corpus).search("届出書", 1)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("K1", 1.5, "k1: the index was made with 0.9, this version searches with 1.5"),
        ("B", 0.75, "b: the index was made with 0.4"),
        ("TOKENIZER", "words; version 2", "version 1', this version searches with 'words; version 2'"),
        ("FORMAT", 99, "format: the index was made with 1, this version searches with 99"),
    ],
)
def test_another_tokenizer_or_parameter_is_refused(corpus, monkeypatch, name, value, said):
    build_index(corpus)
    monkeypatch.setattr(index_files, name, value)
    assert said in refusal(corpus)


def test_an_index_is_replaced_only_when_asked(corpus):
    build_index(corpus)
    with pytest.raises(InputError, match="--force"):
        build_index(corpus)
    with pytest.raises(InputError, match="expected one of auto, bm25s, tantivy"):
        build_index(corpus, engine="faiss", force=True)
    build_index(corpus, force=True)


@pytest.mark.parametrize("engine", ["bm25s", "tantivy"])
def test_ctrl_c_leaves_nothing_half_written(corpus, monkeypatch, engine):
    build_index(corpus)
    before = {path: path.read_bytes() for path in (corpus / "index").rglob("*") if path.is_file()}
    calls = iter(range(5))

    def interrupted(text: str) -> list[str]:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return bigrams(text)

    monkeypatch.setattr(search, "bigrams", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_index(corpus, engine=engine, force=True)
    assert {path: path.read_bytes() for path in (corpus / "index").rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in corpus.iterdir()) == ["ATTRIBUTION.txt", "index", "manifest.json", "passages.jsonl"]


def test_large_corpora_are_given_to_tantivy(corpus, monkeypatch):
    assert build_index(corpus)["engine"] == "bm25s"
    monkeypatch.setattr(search, "LARGE", 9)
    assert build_index(corpus, force=True)["engine"] == "tantivy"


def test_a_missing_library_is_named(corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "tantivy", None)
    with pytest.raises(InputError) as error:
        build_index(corpus, engine="tantivy")
    assert "pip install 'lawft-trl[scale]'" in str(error.value)
    assert not (corpus / "index").exists()


def test_a_damaged_tantivy_index_says_how_to_mend_it(corpus):
    build_index(corpus, engine="tantivy")
    (corpus / "index" / "tantivy" / "meta.json").write_text("{}", encoding="utf-8")
    message = refusal(corpus)
    assert "cannot read it" in message and f"lawft statutes index {corpus} --force" in message


def test_two_laws_with_one_title_are_both_found(tmp_path):
    passages = [Passage(law_id=law_id, law="模擬法", article="1", text=text) for law_id, text in (("a", "旧の届出。"), ("b", "新の届出。"))]
    assert build_index(corpus_of(passages, tmp_path / "corpus"))["laws"] == 2
    for query in ("模擬法第1条", "届出"):
        hits = open_index(tmp_path / "corpus").search(query, 3)
        assert sorted((hit.article_key, hit.passages[0].law_id) for hit in hits) == [("模擬法/main/1", "a"), ("模擬法/main/1", "b")]


def test_more_articles_than_there_are_can_be_asked_for(index):
    assert index.search("届出書", 10**12) == index.search("届出書", 9)


@pytest.mark.parametrize(
    ("name", "content"),
    [("index.json", "{"), ("index.json", '"a"'), ("index.json", ""), ("offsets.npy", ""), ("citations.npy", None), ("laws.json", "[]"),
     ("laws.json", None), ("bm25s", None), ("bm25s/vocab.index.json", "{")],
)  # fmt: skip
def test_a_damaged_index_says_how_to_mend_it(corpus, name, content):
    build_index(corpus)
    path = corpus / "index" / name
    if content is not None:
        path.write_text(content, encoding="utf-8")
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    message = refusal(corpus)
    assert f"{corpus / 'index'}" in message and f"build it again: lawft statutes index {corpus} --force" in message


def test_tables_of_another_index_are_refused(corpus, tmp_path):
    build_index(corpus)
    build_index(corpus_of([Passage(law_id="x", law="甲法", text="甲。")], tmp_path / "other"))
    shutil.copy(tmp_path / "other" / "index" / "offsets.npy", corpus / "index" / "offsets.npy")
    assert "the tables are not those of index.json" in refusal(corpus)


def test_the_command_line(corpus):
    result = run_lawft("statutes", "index", corpus, check=True)
    assert "10 passages, 9 articles, 4 laws; bm25s" in result.stdout
    result = run_lawft("statutes", "search", corpus, "金商法第2条の証券", "-k", "1", "--hops", check=True)
    assert "--- 1. 金融商品取引法/main/2 (citation" in result.stdout
    assert "--- 2. 金融商品取引法施行令/main/1 (hop" in result.stdout
    result = run_lawft("statutes", "search", corpus, "証券", "-k", "0")
    assert result.returncode == 2 and "-k 0: expected at least 1" in result.stderr
    result = run_lawft("statutes", "index", corpus)
    assert result.returncode == 2 and "--force" in result.stderr
