"""Passages: their names and order, and a corpus folder that is written whole."""

import errno
import json

import pytest

from lawft_trl.errors import InputError
from lawft_trl.folders import whole_folder
from lawft_trl.statutes.passages import (
    Passage,
    article_key,
    article_name,
    read_manifest,
    read_passages,
    show_article,
    sort_key,
    write_corpus,
)


def passage(article: str = "1", text: str = "本文。", **fields) -> Passage:
    return Passage(**{"law_id": "403AC0000000090", "law": "借地借家法", "article": article, "text": text} | fields)


def write(passages, out, **options) -> dict:
    return write_corpus(passages, out, **{"as_of": "2026-04-01", "attribution": "出典", "sources": {}} | options)


def test_keys_and_headings():
    found = passage("27_2", paragraph="1", caption="見出し")
    assert (found.key, found.article_key) == ("403AC0000000090/main/27_2/1", "借地借家法/main/27_2")
    assert found.heading == "借地借家法 第27条の2第1項（見出し）"
    assert passage(provision="suppl", part=2).key == "403AC0000000090/suppl/1/#2"
    assert passage(provision="suppl:平成一一年法律第一号").heading == "借地借家法 附則第1条"
    assert article_name("3:5_2") == "第3条から第5条の2まで" and article_name("") == ""
    assert article_key("借地 借家法（抄）", "1") == article_key("借地借家法(抄)", "1")


def test_order():
    names = [("main", "2"), ("main", "10"), ("main", "10_2"), ("main", "11"), ("suppl", "1"), ("suppl:x", "1")]
    passages = [passage(article, provision=provision) for provision, article in names]
    assert sorted([*passages[3:], *passages[:3]], key=sort_key) == passages


def test_an_article_as_prompts_show_it():
    shown = show_article([passage("5", paragraph="1", text="甲。", caption="更新"), passage("5", paragraph="2", text="乙。")])
    assert shown == "## 借地借家法\n### 第5条（更新）\n#### 第1項\n甲。\n#### 第2項\n乙。"


def test_a_corpus_comes_back_as_it_was_written(tmp_path):
    passages = [passage("1", aliases=("借借法",), source="a.xml"), passage("2", part=1)]
    manifest = write(passages, tmp_path / "corpus", sources={"files": 1, "skipped": ["b.xml: broken"]})
    assert list(read_passages(tmp_path / "corpus")) == passages
    assert read_manifest(tmp_path / "corpus") == manifest
    assert (manifest["laws"], manifest["passages"], manifest["duplicates"], manifest["files"]) == (1, 2, 0, 1)
    assert manifest["skipped"] == ["b.xml: broken"]


def test_a_second_passage_with_a_key_is_left_out_and_told(tmp_path):
    passages = [passage(text="先。"), passage("2", text=""), passage(text="先。"), passage(text="別。", source="b.xml"), passage("2", text="")]
    manifest = write(passages, tmp_path / "corpus")
    assert [p.text for p in read_passages(tmp_path / "corpus")] == ["先。", ""]
    assert (manifest["passages"], manifest["duplicates"]) == (2, 2)
    assert manifest["skipped"] == ["b.xml: 403AC0000000090/main/1/: a second passage with this key and another text"]


def test_no_passage_is_an_error_that_says_what_was_skipped(tmp_path):
    with pytest.raises(InputError, match="no passage was found") as error:
        write([], tmp_path / "corpus", sources={"skipped": ["b.xml: broken"]})
    assert error.value.problems == ["b.xml: broken"]
    assert not list(tmp_path.iterdir())


def test_an_existing_corpus_is_replaced_only_when_told(tmp_path):
    write([passage()], tmp_path / "corpus")
    with pytest.raises(InputError, match="--force"):
        write([passage("2")], tmp_path / "corpus")
    write([passage("2")], tmp_path / "corpus", force=True)
    assert [p.article for p in read_passages(tmp_path / "corpus")] == ["2"]


@pytest.mark.parametrize("line", ["{", "[]", '{"law": "x"}', '{"law_id": "a", "law": "b", "text": "c", "colour": "red"}'])
def test_a_line_that_is_no_passage_is_named(tmp_path, line):
    write([passage()], tmp_path / "corpus")
    with (tmp_path / "corpus/passages.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"passages\.jsonl:2: not a passage"):
        list(read_passages(tmp_path / "corpus"))


def test_a_folder_that_is_no_corpus(tmp_path):
    with pytest.raises(InputError, match="not a statutes corpus"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "data"}))
    with pytest.raises(InputError, match="not the manifest of a statutes corpus"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(("code", "expected"), [(errno.ENOSPC, InputError), (errno.EDQUOT, InputError), (errno.EIO, OSError)])
def test_a_full_disk_is_an_input_error_and_other_faults_are_not(tmp_path, code, expected):
    with pytest.raises(expected) as error, whole_folder(tmp_path / "corpus", force=False, mark="manifest.json", rename="--out") as folder:
        (folder / "half").write_text("half")
        raise OSError(code, "fault")
    assert isinstance(error.value, InputError) is (expected is InputError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "", "[]", '"a"', '{"kind": "statutes", "as_of": "", "sha256": ""}'])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    write([passage()], tmp_path / "corpus")
    (tmp_path / "corpus/manifest.json").write_text(text)
    with pytest.raises(InputError, match="lawft statutes --help"):
        list(read_passages(tmp_path / "corpus"))


def test_a_corpus_without_its_passages_is_refused(tmp_path):
    write([passage()], tmp_path / "corpus")
    (tmp_path / "corpus/passages.jsonl").unlink()
    with pytest.raises(InputError, match=r"not a whole corpus: no passages\.jsonl\n  - build it again"):
        read_manifest(tmp_path / "corpus")


def test_the_lead_that_parts_share_is_shown_once():
    parts = [passage("5", paragraph="1", part=part, text=f"次の者とする。\n一　甲\n{rest}") for part, rest in ((1, "イ　子"), (2, "ロ　丑"))]
    assert show_article(parts) == "## 借地借家法\n### 第5条\n#### 第1項\n次の者とする。\n一　甲\nイ　子\nロ　丑"
    other = passage("5", paragraph="2", part=1, text=parts[0].text)
    assert show_article([parts[0], other]).count("次の者とする。") == 2, "another paragraph keeps its own"


def test_several_articles_under_one_number_stand_in_their_place():
    passages = [passage("2"), passage("6:8", text="本文。"), passage("10")]
    assert sorted([*passages[1:], passages[0]], key=sort_key) == passages
    assert passages[1].heading == "借地借家法 第6条から第8条まで"
