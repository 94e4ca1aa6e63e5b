"""Questions: loading, validation, orders, groups; lawqa_jp real and broken."""

import json
from collections import Counter

import pytest
from conftest import SAMPLE
from hypothesis import given
from hypothesis import strategies as st

from lawft_trl import cli
from lawft_trl.data.lawqa import find_lawqa, parse_choices, passages, read_lawqa
from lawft_trl.data.questions import LETTERS, ORDERS, Question, read_questions, shared_passage_groups, write_questions
from lawft_trl.errors import InputError

GOOD = {
    "id": "q1",
    "law": "架空法",
    "question": "期間は。",
    "choices": {"a": "一日", "b": "二日", "c": "三日", "d": "四日"},
    "answer": "b",
    "statutes": ["## 架空法\n### 第1条\n期間は、二日とする。"],
    "references": [],
    "group": "g1",
}


def question(**changes) -> Question:
    record = GOOD | changes
    return Question(**record | {"statutes": tuple(record["statutes"]), "references": tuple(record["references"])})


def test_the_four_orders_show_every_choice_once_at_every_letter():
    moved = [question().in_order(order) for order in ORDERS]
    assert all(q.choices[q.answer] == "二日" for q in moved)
    for letter in LETTERS:
        assert {q.choices[letter] for q in moved} == set(GOOD["choices"].values())
    assert sorted(q.answer for q in moved) == list(LETTERS)
    assert question().in_order("abcd") == question()


def test_questions_are_written_and_read_back(tmp_path):
    written = [question(provisions=("架空法/main/1",)), question(id="q2", statutes=[], group="g2")]
    write_questions(tmp_path / "q.jsonl", written)
    assert read_questions(tmp_path / "q.jsonl") == written


def test_the_shipped_sample_is_valid_and_grouped():
    sample = read_questions(SAMPLE)
    assert len(sample) >= 300
    assert len({q.law for q in sample}) >= 6
    assert all(len(q.statutes) == 1 for q in sample)
    assert max(Counter(q.answer for q in sample).values()) < 0.35 * len(sample)
    statutes_of = {q.group: {p.statutes for p in sample if p.group == q.group} for q in sample}
    assert all(len(statutes) == 2 for statutes in statutes_of.values()), "an article and its former version"


def test_questions_on_one_statute_are_in_one_group(tmp_path):
    """Also when their author named no group, or named two."""
    other = ["## 架空法\n### 第2条\n…"]
    written = [
        question(id="q1", group=""),
        question(id="q2", group=""),
        question(id="q3", group="mine", statutes=other),
        question(id="q4", group="", statutes=other),
        question(id="q5", group="", statutes=[]),
        question(id="q6", group="mine", statutes=[]),
    ]
    write_questions(tmp_path / "q.jsonl", written)
    groups = {q.id: q.group for q in read_questions(tmp_path / "q.jsonl")}
    assert groups["q1"] == groups["q2"]
    assert groups["q3"] == groups["q4"] == groups["q6"] == "mine"
    assert len(set(groups.values())) == 3


def line(**changes) -> bytes:
    return json.dumps(GOOD | changes, ensure_ascii=False).encode()


BROKEN_FILES = {
    "empty file": (b"", "the file is empty"),
    "a JSON array": (b"[\n" + line() + b"\n]", "this is one JSON array; write one object a line"),
    "truncated line": (line()[:40], "q.jsonl:1: not JSON"),
    "not an object": (b"1", "expected an object, found int"),
    "gold letter outside a-d": (line(answer="e"), "expected one of a, b, c, d, found \"e\""),
    "five choices": (line(choices=GOOD["choices"] | {"e": "五日"}), "exactly the letters a, b, c, d, found a, b, c, d, e"),
    "three choices": (line(choices={"a": "1", "b": "2", "c": "3"}), "exactly the letters a, b, c, d"),
    "two equal choices": (line(choices=GOOD["choices"] | {"c": "一日"}), "two choices have the same text"),
    "empty choice": (line(choices=GOOD["choices"] | {"c": " "}), "`choices.c`: expected a non-empty string"),
    "duplicate id": (line() + b"\n" + line(question="別の問い。"), "q.jsonl:2: `id`: 'q1' was already used on line 1"),
    "empty question": (line(question=""), "`question`: expected a non-empty string"),
    "misspelt key": (line(statute=["x"]), "`statute`: unknown key"),
    "Shift-JIS": (json.dumps(GOOD, ensure_ascii=False).encode("cp932"), "iconv -f CP932"),
    "statutes not a list": (line(statutes="x"), "`statutes`: expected a list"),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_broken_question_file_is_explained_with_exit_code_2(tmp_path, capsys, name):
    content, expected = BROKEN_FILES[name]
    file = tmp_path / "q.jsonl"
    file.write_bytes(content)
    assert cli.main(["data", "questions", str(file), "--out", str(tmp_path / "out")]) == 2
    assert expected in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file], "nothing is written"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_questions(tmp_path / "nowhere.jsonl")


@given(st.lists(st.lists(st.integers(0, 8), max_size=3), max_size=12))
def test_groups_join_exactly_what_is_connected(keys):
    names = shared_passage_groups(keys, "g")
    # Connectedness, the slow way: spread labels until nothing changes.
    labels = list(range(len(keys)))
    for _ in keys:
        for i, mine in enumerate(keys):
            for j, theirs in enumerate(keys):
                if set(mine) & set(theirs):
                    labels[i] = labels[j] = min(labels[i], labels[j])
    for i in range(len(keys)):
        for j in range(len(keys)):
            assert (names[i] == names[j]) == (labels[i] == labels[j])


SAMPLE_ROW = {
    "ファイル名": "金商法_第1章_問題番号1",
    "コンテキスト": "## 金融商品取引法\n### 第5条\n本文",
    "指示": "選べ",
    "問題文": "問い",
    "選択肢": "a 一\nb 二\nc 三\nd 四",
    "output": "c",
    "references": [],
}


def lawqa_file(tmp_path, *rows, raw=None):
    path = tmp_path / "selection.json"
    path.write_text(raw if raw is not None else json.dumps({"samples": rows}, ensure_ascii=False), encoding="utf-8")
    return path


BROKEN_LAWQA = {
    "five choices": ([SAMPLE_ROW | {"選択肢": "a 一\nb 二\nc 三\nd 四\ne 五"}], "samples[0]: 選択肢: expected the four choices"),
    "missing choice": ([SAMPLE_ROW | {"選択肢": "a 一\nb 二\nd 四"}], "選択肢: expected the four choices a, b, c, d, found a, b"),
    "no letters": ([SAMPLE_ROW | {"選択肢": "一\n二\n三\n四"}], "expected a line that starts with `a `"),
    "gold letter": ([SAMPLE_ROW | {"output": "x"}], "expected one of a, b, c, d"),
    "empty field": ([SAMPLE_ROW | {"問題文": ""}], "問題文: expected a non-empty string"),
    "duplicate": ([SAMPLE_ROW, SAMPLE_ROW], "samples[1]: ファイル名: '金商法_第1章_問題番号1' occurs twice"),
    "changed answer": (
        [SAMPLE_ROW | {"回答オーダーマップ番号": "1"}, SAMPLE_ROW | {"回答オーダーマップ番号": "2", "output": "a"}],
        "differs in more than the order of the choices from row 1",
    ),
}


@pytest.mark.parametrize("name", BROKEN_LAWQA)
def test_broken_lawqa_is_explained_with_exit_code_2(tmp_path, capsys, name):
    rows, expected = BROKEN_LAWQA[name]
    file = lawqa_file(tmp_path, *rows)
    assert cli.main(["data", "lawqa", "--from", str(file), "--out", str(tmp_path / "out")]) == 2
    assert expected in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file], "nothing is written"


def test_lawqa_that_is_no_lawqa(tmp_path):
    with pytest.raises(InputError, match="not JSON"):
        read_lawqa(lawqa_file(tmp_path, raw="{"))
    with pytest.raises(InputError, match="samples"):
        read_lawqa(lawqa_file(tmp_path, raw="[]"))
    (tmp_path / "selection.json").unlink()
    with pytest.raises(InputError, match=r"no selection\.json"):
        find_lawqa(tmp_path)


def test_a_choice_may_go_on_for_several_lines_and_begin_with_a_wide_letter():
    choices, faults = parse_choices("ａ　一\n続き\nb 二\nc 三\nd 四")
    assert not faults
    assert choices == {"a": "一\n続き", "b": "二", "c": "三", "d": "四"}


@given(st.lists(st.sampled_from(["## 法", "### 第1条", "### 第2条", "#### 第1項", "本文", ""]), min_size=1).map("\n".join))
def test_passages_lose_no_line(context):
    lines = [line for line in context.strip().split("\n") if line]
    found = [line for passage in passages(context) for line in passage.split("\n") if line]
    assert [line for line in found if line != "## 法"] == [line for line in lines if line != "## 法"]
    assert all(sum(line.startswith("### ") for line in passage.split("\n")) <= 1 for passage in passages(context))


def test_real_lawqa(lawqa_dir):
    plain = read_lawqa(find_lawqa(lawqa_dir))
    assert len(plain) == 140
    assert Counter(q.answer for q in plain) == {"c": 48, "b": 37, "d": 32, "a": 23}
    assert Counter(q.law for q in plain) == {"金商法": 80, "薬機法": 39, "借地借家法": 21}
    by_text = {}
    for q in plain:
        assert by_text.setdefault(q.statutes, q.group) == q.group, "identical statutes, different groups"
    assert len({q.group for q in plain}) < len(by_text) < 140
    shuffled = read_lawqa(find_lawqa(lawqa_dir).with_name("selection_randomized.json"))
    assert len(shuffled) == 140
    for one, other in zip(plain, shuffled, strict=True):
        assert (one.id, one.question, one.group, one.choices[one.answer]) == (
            other.id,
            other.question,
            other.group,
            other.choices[other.answer],
        )
