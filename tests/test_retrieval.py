"""Queries from questions, and the figures of a search: by hand on four articles, by the command on real lawqa_jp."""

import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, run_lawft

from lawft_trl.data.questions import ORDERS, Question, write_questions
from lawft_trl.data.retrieval import evaluate_retrieval, gold_articles, is_boilerplate, question_query, write_retrieval
from lawft_trl.errors import InputError
from lawft_trl.statutes.headed_text import lawqa_passages, read_headed
from lawft_trl.statutes.passages import write_corpus
from lawft_trl.statutes.search import build_index, open_index

TEXT = """
## 甲法
### 第1条
登記の申請は、書面によってする。
### 第2条
納税の期限は、政令で定める。
### 第3条
測量の標識は、移転してはならない。
## 甲法施行令
### 第7条
法第二条の期限は、三月十五日とする。
"""


def question(name: str, text: str, choices: str, gold: tuple[str, ...], **more) -> Question:
    return Question(
        id=name, law="甲法", question=text, choices=dict(zip("abcd", choices.split(), strict=True)), answer="b", provisions=gold, **more
    )


QUESTIONS = [
    question("found", "登記の申請について正しいものはどれか。", "口頭 書面 電話 不要", ("甲法/main/1",)),
    question("half", "納税の期限について正しいものはどれか。", "一月 二月 三月 四月", ("甲法/main/2", "甲法/main/9")),
    question("choices", "次のうち、正しいものを教えてください。", "測量の標識 測量の旗 標識の移転 測量士", ("甲法/main/3",)),
    question("missed", "婚姻の届出について正しいものはどれか。", "甲 乙 丙 丁", ("民法/main/739",)),
    question("unknown", "何も示さない問題", "甲 乙 丙 丁", ()),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("retrieval") / "corpus"
    write_corpus(read_headed(TEXT, source="test"), folder, as_of="2025-04-01", attribution="made for a test", sources={})
    build_index(folder)
    return folder


@pytest.fixture(scope="module")
def result(corpus) -> dict:
    return evaluate_retrieval(open_index(corpus), QUESTIONS, ks=(1, 3))


def group(result: dict, query: str, name: str) -> dict:
    (found,) = (each for each in result["groups"] if (each["query"], each["group"]) == (query, name))
    return found


def test_the_query_is_the_question_and_its_choices_and_nothing_else():
    given = question("q", "問", "い ろ は に", ("答えの条",), statutes=("## 答えの法律\n### 第1条\n条文",), references=("https://example.jp",))
    assert sorted(question_query(given).split("\n")) == ["い", "に", "は", "ろ", "問"]
    assert question_query(given, "question") == "問"
    with_reasons = replace(given, reasons=dict.fromkeys("abcd", "理由"))
    assert question_query(with_reasons) == question_query(given)
    for answer in "abcd":
        assert question_query(replace(given, answer=answer)) == question_query(given)


def test_the_order_of_the_choices_changes_no_hit(corpus):
    index = open_index(corpus)
    given = question("q", "次のうち、正しいものを教えてください。", "甲法第3条の測量 甲法第2条の期限 登記 甲法第1条", ())
    expected = index.search(question_query(given), 4)
    assert len(expected) == 4
    for order in map("".join, itertools.permutations("abcd")):
        assert index.search(question_query(given.in_order(order)), 4) == expected


@pytest.mark.parametrize(
    ("text", "boilerplate"),
    [
        ("次のうち、正しいものを教えてください。", True),
        ("次のうち、誤っているものを教えてください。", True),
        ("次の選択肢のうち、正しいものを教えてください。", True),
        ("以下のうち、適切なものはどれか", True),
        ("次のうち、借地権について誤っているものを教えてください。", False),
        ("金商法第5条のうち、正しいものを教えてください。", False),
    ],
)
def test_what_is_boilerplate(text, boilerplate):
    assert is_boilerplate(question("q", text, "い ろ は に", ())) is boilerplate


def test_gold_articles_come_from_the_statutes_where_none_are_named():
    given = question("q", "問", "い ろ は に", (), statutes=("## 甲法\n### 第１条\n一", "## 甲法\n### 第二条の三\n二"))
    assert gold_articles(given) == ("甲法/main/1", "甲法/main/2_3")
    assert gold_articles(replace(given, provisions=("乙法/main/1",))) == ("乙法/main/1",)


def test_the_figures(result):
    assert (result["questions"], result["without_gold"], result["hops"]) == (4, 1, 0)
    everything = group(result, "question+choices", "all")
    assert everything["hit@1"]["share"] == 3 / 4
    assert everything["full@1"]["share"] == everything["full@3"]["share"] == 2 / 4
    assert everything["recall@3"] == (1 + 0.5 + 1 + 0) / 4
    assert everything["mrr"] == 3 / 4
    low, high = everything["hit@1"]["interval"]
    assert (round(low, 4), round(high, 4)) == (0.3006, 0.9544)  # Wilson, 3 of 4
    assert group(result, "question+choices", "boilerplate")["hit@1"]["share"] == 1
    assert group(result, "question", "boilerplate")["hit@3"]["share"] == 0
    assert group(result, "question", "all")["hit@3"]["share"] == 2 / 4


def test_the_question_alone_is_measured_alone_when_asked(corpus):
    result = evaluate_retrieval(open_index(corpus), QUESTIONS, ks=(1,), query="question")
    assert {each["query"] for each in result["groups"]} == {"question"}
    assert "choices" in {miss["id"] for miss in result["misses"]}


def test_hops_are_counted_and_so_is_what_they_cost(corpus):
    given = [question("q", "納税の期限について正しいものはどれか。", "甲 乙 丙 丁", ("甲法/main/2", "甲法施行令/main/7"))]
    plain, hopped = (evaluate_retrieval(open_index(corpus), given, ks=(1,), hops=hops)["groups"][0] for hops in (0, 1))
    assert (plain["full@1"]["share"], plain["shown@1"]) == (0, 1)
    assert (hopped["full@1"]["share"], hopped["shown@1"]) == (1, 2)


def test_the_misses_can_be_read(result, tmp_path):
    assert {miss["id"]: miss["kind"] for miss in result["misses"]} == {
        "half": f"not all of them in the first {len(result['misses'][0]['found'])}",
        "missed": "none of the deciding articles in the first 3",
    }
    write_retrieval(result, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "misses.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == result["misses"]
    text = (tmp_path / "out" / "misses.md").read_text(encoding="utf-8")
    assert "- not found: **甲法/main/9**" in text and "婚姻の届出" in text and "- b 乙" in text
    assert re.search(r"^1\. \*\*甲法/main/2\*\* \(bm25, ", text, re.MULTILINE)
    with pytest.raises(InputError, match="--force"):
        write_retrieval(result, tmp_path / "out")


def test_questions_that_name_no_article_cannot_be_measured(corpus):
    with pytest.raises(InputError, match="no question says which articles decide it"):
        evaluate_retrieval(open_index(corpus), QUESTIONS[-1:])


def test_the_command_line(corpus, tmp_path):
    write_questions(tmp_path / "questions.jsonl", QUESTIONS)
    arguments = ("statutes", "eval", corpus, "--questions", tmp_path / "questions.jsonl", "--out", tmp_path / "out")
    result = run_lawft(*arguments, check=True)
    assert "law as of: 2025-04-01" in result.stdout
    assert "1 question(s) name no deciding article and were left out" in result.stdout
    assert "| question+choices | all 4 | 75.0 [30.1, 95.4] |" in result.stdout
    assert (tmp_path / "out" / "misses.md").is_file()
    result = run_lawft(*arguments)
    assert result.returncode == 2 and "--force" in result.stderr
    result = run_lawft("statutes", "eval", corpus, LAWFT_LAWQA_DIR="")
    assert result.returncode == 2 and "--questions FILE or --lawqa FOLDER" in result.stderr


def test_real_lawqa(lawqa_dir: Path, tmp_path):
    """The figures that the project promises of retrieval, over the statutes that the questions show."""
    from lawft_trl.data.lawqa import find_lawqa, read_lawqa

    samples = json.loads((lawqa_dir / "data" / "selection.json").read_text(encoding="utf-8"))["samples"]
    passages = lawqa_passages([sample["コンテキスト"] for sample in samples])
    write_corpus(passages, tmp_path / "corpus", as_of="", attribution="lawqa_jp", sources={})
    build_index(tmp_path / "corpus")
    questions = read_lawqa(find_lawqa(lawqa_dir))
    index = open_index(tmp_path / "corpus")
    result = evaluate_retrieval(index, questions)
    assert group(result, "question+choices", "all")["hit@3"]["share"] >= 0.97
    boilerplate = group(result, "question+choices", "boilerplate")
    assert boilerplate["questions"] == 18
    assert boilerplate["hit@1"]["share"] >= 0.94
    assert group(result, "question", "boilerplate")["hit@3"]["share"] < 0.2, "the question alone says nothing: nothing else was searched"
    for given in questions[::20]:
        hits = [index.search(question_query(given.in_order(order)), 3) for order in ORDERS]
        assert hits[0] == hits[1] == hits[2] == hits[3]
        texts = [passage.text for hit in hits[0] for passage in hit.passages]
        assert len(set(texts)) == len(texts)


def test_the_bench_measures_every_engine():
    pytest.importorskip("rank_bm25", reason="rank-bm25 is not installed: the bench was NOT tested")
    command = [sys.executable, ROOT / "scripts" / "bench_retrieval.py", "--passages", "400", "--slice", "200", "--queries", "6"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^\| (bm25s|tantivy|rank-bm25) \|.*\| (\d+) of 6 \|$", printed, re.MULTILINE)
    assert [name for name, _ in rows] == ["bm25s", "tantivy", "rank-bm25", "bm25s", "tantivy"]
    assert all(int(found) == 6 for _, found in rows), printed
    assert printed.count("PROJECTION, not measured") == 2
