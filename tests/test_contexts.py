"""What prompts show: the shares of training contexts, hits and misses said plainly, folds, own reasons."""

import json
from collections import Counter

import pytest
from conftest import run_lawft
from hypothesis import given
from hypothesis import strategies as st
from test_questions import question

from lawft_trl.data.build import parse_mix
from lawft_trl.data.contexts import KINDS, assign_kinds, gold_context, retrieved_context, training_context
from lawft_trl.data.prompts import answer_text
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.data.rows import question_to_record, read_rows, row_question, with_fewer_statutes
from lawft_trl.errors import InputError
from lawft_trl.evaluation.asking import unique_questions
from lawft_trl.reasons.held_out import known_splits
from lawft_trl.statutes.passages import Passage
from lawft_trl.statutes.search import Hit

GOLD = "## 甲法\n### 第1条\n期間は、一日とする。"


def asked(**changes):
    reasons = {letter: f"第1条は「期間は、一日とする」と定める。この記述は『{n}日』とする。" for letter, n in zip(LETTERS, "一二三四", strict=True)}
    return question(**{"statutes": (GOLD,), "provisions": ("甲法/main/1",), "reasons": reasons, "answer": "a", **changes})


def hits(*articles):
    found = []
    for rank, article in enumerate(articles, start=1):
        passage = Passage(law_id="1", law="甲法", article=str(article), text=f"{article}号文", as_of="2026-04-01")
        found.append(Hit(article_key=passage.article_key, rank=rank, score=9.0 - rank, passages=(passage,), text=f"第{article}条 {article}号文", via="bm25s"))
    return found


@given(st.lists(st.integers(0, 999), unique=True, min_size=1, max_size=60), st.integers(0, 4), st.integers(0, 10), st.integers(0, 10))
def test_kinds_have_their_shares(numbers, seed, inserted, distractors):
    mix = {"gold_inserted": inserted / 20, "distractors": distractors / 20, "retrieved": 1 - (inserted + distractors) / 20}
    questions = [question(id=f"q{number}") for number in numbers]
    kinds = assign_kinds(questions, mix, seed)
    assert set(kinds) == {q.id for q in questions}
    counts = Counter(kinds.values())
    assert all(abs(counts[kind] - mix[kind] * len(numbers)) <= 1 for kind in KINDS)
    assert assign_kinds(reversed(questions), mix, seed) == kinds


@pytest.mark.parametrize("text", ["retrieved=0.5", "retrieved=nan", "retrieved=1,retrieved=1", "gold=1", "retrieved=-1,distractors=2", "retrieved", "retrieved=x", ""])
def test_impossible_mixes_are_refused(text):
    with pytest.raises(InputError, match="--mix") as caught:
        assign_kinds([question()], parse_mix(text), 0)
    assert "retrieved=0.6,gold_inserted=0.2,distractors=0.2" in str(caught.value)


@pytest.mark.parametrize("seed", range(6))
def test_gold_is_inserted_once_among_the_best_others(seed):
    shown = training_context(asked(), hits(7, 1, 8, 9), "gold_inserted", top_k=3, retriever="bm25s", seed=seed)
    assert sorted(shown.statutes) == sorted([GOLD, "第7条 7号文", "第8条 8号文"])
    assert shown.gold_shown and not shown.missing
    assert {p["article"]: (p["rank"], p["gold"]) for p in shown.passages} == {
        "甲法/main/1": (0, True), "甲法/main/7": (1, False), "甲法/main/8": (3, False)
    }  # fmt: skip


def test_what_the_question_came_with_is_not_shown_again():
    both = asked(statutes=(GOLD, "## 甲法\n### 第7条\n7号文"))
    shown = training_context(both, hits(7, 8, 9), "gold_inserted", top_k=3, retriever="bm25s", seed=0)
    assert sorted(p["article"] for p in shown.passages) == ["甲法/main/1", "甲法/main/7", "甲法/main/8"]


def test_the_gold_passage_has_no_favourite_place():
    places = Counter(
        training_context(asked(id=f"q{n}"), hits(7, 8, 9), "gold_inserted", top_k=3, retriever="bm25s", seed=0).statutes.index(GOLD)
        for n in range(90)
    )
    assert min(places[place] for place in range(3)) > 15


def test_distractors_never_hold_the_deciding_article():
    shown = training_context(asked(), hits(1, 7, 8, 9), "distractors", top_k=3, retriever="bm25s", seed=0)
    assert [p["article"] for p in shown.passages] == ["甲法/main/7", "甲法/main/8", "甲法/main/9"]
    assert not shown.gold_shown and shown.missing == ("甲法/main/1",)


def test_a_miss_is_shown_as_it_is_and_the_answer_says_so():
    hit, miss = (retrieved_context(asked(), found, top_k=2, retriever="bm25s") for found in (hits(7, 1), hits(7, 8, 1)))
    assert (hit.gold_shown, miss.gold_shown) == (True, False)
    options = {"dataset": "d", "source_file": "q.jsonl"}
    records = {}
    for name, context in (("hit", hit), ("miss", miss), ("gold", gold_context(asked()))):
        records[name] = question_to_record(asked(), answer="cot", context=context, **options)
        assert records[name]["output"].endswith("答え: a")
        assert question_to_record(asked(), answer="direct", context=context, **options)["output"] == "a"
    assert records["miss"]["output"].startswith("示された条文の中に、この問いを直接定める条文は見当たらない。")
    assert records["hit"]["output"] == records["gold"]["output"] != records["miss"]["output"]
    assert records["hit"]["meta"]["gold_shown"] is True and records["miss"]["meta"]["gold_shown"] is False
    assert records["hit"]["meta"]["law_as_of"] == "2026-04-01", "the date of the passages travels with the row"
    assert [p["rank"] for p in records["hit"]["meta"]["passages"]] == [1, 2]


def test_a_half_shown_basis_is_said_to_be_one():
    two = asked(provisions=("甲法/main/1", "甲法/main/2"))
    half = retrieved_context(two, hits(1, 7, 2), top_k=2, retriever="bm25s")
    assert half.gold_shown and half.missing == ("甲法/main/2",)
    record = question_to_record(two, answer="cot", context=half, dataset="d", source_file="q.jsonl")
    assert record["output"].startswith("示された条文だけでは、すべての選択肢を判断することはできない。")
    assert record["meta"]["gold_missing"] == ["甲法/main/2"]


@pytest.mark.parametrize("order", ORDERS)
def test_reasons_move_with_their_choices(order):
    shown = asked().in_order(order)
    lines = answer_text(shown, answer="cot").split("\n")
    assert lines[-1] == f"答え: {shown.answer}"
    by_choice = {asked().choices[letter]: asked().reasons[letter] for letter in LETTERS}
    assert lines[:4] == [f"{letter} {by_choice[shown.choices[letter]]}" for letter in LETTERS]


def test_rows_with_retrieved_statutes_give_their_question_back(tmp_path):
    context = retrieved_context(asked(), hits(7, 1), top_k=2, retriever="bm25s")
    path = tmp_path / "rows.jsonl"
    for answer in ("direct", "cot"):
        path.write_text(json.dumps(question_to_record(asked(), answer=answer, context=context, dataset="d", source_file="s")), encoding="utf-8")
        (row,) = read_rows(path)
        assert row_question(row).statutes == context.statutes


def test_lawft_data_writes_folds_and_mixes(tmp_path):
    things = ["庭園", "井戸", "灯籠", "時計", "巻物", "雪蔵", "気球", "水車", "鐘楼", "温室", "石畳", "渡船", "花火", "織物", "陶器", "蜂蜜", "果樹", "橋梁", "香炉", "楽譜", "帆船", "鉱石", "薬草", "燭台"]
    lines = []
    for n, thing in enumerate(things, start=1):
        choices = dict(zip(LETTERS, (f"{n}日", f"{n}月", f"{n}年", f"{n}時間"), strict=True))
        rule = f"{thing}を預かる者が{thing}を手元に置く期間は、{choices[LETTERS[n % 4]]}とする"
        reasons = {letter: f"{thing}については「{rule}」とあり、{thing}の期間を『{choices[letter]}』とする記述を{thing}の条文と比べる。" for letter in LETTERS}
        lines.append(json.dumps({
            "id": f"q{n}", "law": "甲法", "question": f"{thing}を預かる者が{thing}を手元に置く期間を選べ。", "choices": choices, "answer": LETTERS[n % 4],
            "statutes": [f"## 甲法\n### 第{n}条\n{rule}。"], "as_of": "2026-04-01", "reasons": reasons if n % 2 else {},
        }, ensure_ascii=False))  # fmt: skip
    source = tmp_path / "mine.jsonl"
    source.write_text("\n".join(lines), encoding="utf-8")
    mix = "retrieved=0.5,gold_inserted=0.25,distractors=0.25"
    out = tmp_path / "folds"
    result = run_lawft("data", "questions", source, "--out", out, "--folds", "3", "--mix", mix, check=True)
    assert "fold_3_of_3 test" in result.stdout
    held_out = []
    for fold in range(1, 4):
        folder = out / f"fold_{fold}_of_3"
        (test,) = (folder / "direct_rag").glob("test_*.jsonl")
        (train,) = (folder / "direct_rag").glob("train_*.jsonl")
        (reasoned,) = (folder / "cot_rag").glob("train_*.jsonl")
        held_out += [row.id for row in read_rows(test)]
        rows = read_rows(train)
        assert not {row.id for row in rows} & {row.id for row in read_rows(test)}
        assert {row.meta["context"] for row in rows} == set(KINDS)
        assert {row.meta["context"] for row in read_rows(test)} == {"retrieved"}, "held-out prompts are what a search finds"
        assert {row.meta["law_as_of"] for row in rows} == {"2026-04-01"}
        assert {int(row.id[1:]) % 2 for row in read_rows(reasoned)} == {1}, "only questions with reasons are trained in the reasoned form"
    assert sorted(held_out) == sorted(f"q{n}" for n in range(1, 25)), "every question is held out exactly once"
    card = (out / "data_card.md").read_text(encoding="utf-8")
    assert "Law as of: 2026-04-01." in card and "gold_inserted 25 %" in card
    assert len(list((out / "statutes").glob("passages.jsonl"))) == 1
    named = json.loads(lines[0])
    named["reasons"]["a"] = "選択肢bとは違い、" + named["reasons"]["a"]
    (tmp_path / "named.jsonl").write_text("\n".join([json.dumps(named, ensure_ascii=False), *lines[1:]]), encoding="utf-8")
    refused = run_lawft("data", "questions", tmp_path / "named.jsonl", "--out", tmp_path / "no")
    assert (refused.returncode, "q1: letter: a:" in refused.stderr, (tmp_path / "no").exists()) == (2, True, False), refused.stderr
    for arguments, message in ((["--folds", "99"], "at most 24"), (["--mix", "gold=1"], "--mix gold=1"), (["--top-k", "0"], "--top-k 0")):
        refused = run_lawft("data", "questions", source, "--out", tmp_path / "no", *arguments)
        assert (refused.returncode, message in refused.stderr, (tmp_path / "no").exists()) == (2, True, False), refused.stderr


def test_another_data_set_on_the_same_article_gives_the_test_away(tmp_path):
    """Questions derived from an article and a benchmark's question on it are not the same text, and still leak."""
    rows = {}
    for dataset, words in (("derived", "第1条の期間を選べ。"), ("benchmark", "次のうち、最も適切なものを選んでください。")):
        record = question_to_record(asked(id=dataset, question=words), answer="direct", context=gold_context(asked()), dataset=dataset, source_file="s")
        (tmp_path / dataset).write_text(json.dumps(record), encoding="utf-8")
        rows[dataset] = read_rows(tmp_path / dataset)
    assert [overlap.reason for overlap in find_overlaps(rows["derived"], rows["benchmark"])] == ["same article"]
    rows["derived"][0].meta["provisions"] = ["甲法/main/2"]
    assert find_overlaps(rows["derived"], rows["benchmark"]) == []


def test_gold_that_the_question_does_not_bring_is_taken_from_the_search():
    bare = asked(statutes=())
    shown = training_context(bare, hits(7, 1, 8, 9), "gold_inserted", top_k=3, retriever="bm25s", seed=0)
    assert shown.gold_shown and not shown.missing and len(shown.statutes) == 3
    unfound = training_context(bare, hits(7, 8, 9), "gold_inserted", top_k=3, retriever="bm25s", seed=0)
    assert unfound.gold_shown is False and unfound.missing == ("甲法/main/1",), "what is not shown is not said to be"


def test_where_nobody_knows_what_decides_nothing_is_said_of_it():
    unknown = asked(provisions=(), statutes=())
    for kind in KINDS:
        shown = training_context(unknown, hits(1, 7, 8), kind, top_k=2, retriever="bm25s", seed=0)
        assert (shown.kind, shown.gold_shown, shown.missing) == ("retrieved", None, ())


@pytest.mark.parametrize("mode", ["cot", "direct"])
def test_trimming_keeps_the_deciding_passage_and_what_is_said_of_it_true(tmp_path, mode):
    two = asked(provisions=("甲法/main/1", "甲法/main/2"))
    context = retrieved_context(two, hits(7, 1, 8, 2), top_k=4, retriever="bm25s")
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(question_to_record(two, answer=mode, context=context, dataset="d", source_file="s")), encoding="utf-8")
    (row,) = read_rows(path)
    shorter = list(with_fewer_statutes(row))
    assert [[p["article"][-1] for p in r.meta["passages"]] for r in shorter] == [["7", "1", "2"], ["1", "2"], ["1"]]
    assert [r.meta["gold_missing"] for r in shorter] == [[], [], ["甲法/main/2"]]
    for r in shorter:
        assert row_question(r).statutes == tuple(r.meta["statutes"])
        caveat = "示された条文だけでは、すべての選択肢を判断することはできない。"
        assert r.output.startswith(caveat) == (mode == "cot" and bool(r.meta["gold_missing"]))
    assert [p["article"][-1] for p in row.meta["passages"]] == ["7", "1", "8", "2"], "the row itself stays"


def test_questions_on_the_law_of_different_days_need_a_corpus(tmp_path):
    lines = [
        json.dumps({
            "id": f"q{n}", "law": "甲法", "question": f"第{n}条の{'甲乙丙丁戊己庚辛'[n] * 12}の期間を選べ。", "choices": dict(zip(LETTERS, "一二三四", strict=True)),
            "answer": "a", "statutes": [f"## 甲法\n### 第{n}条\n期間は、{n}とする。"], "as_of": f"202{n % 2}-04-01",
        })
        for n in range(8)
    ]  # fmt: skip
    (tmp_path / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    result = run_lawft("data", "questions", tmp_path / "mine.jsonl", "--out", tmp_path / "out", "--dev-share", "0", check=True)
    assert "*_rag were not written: the questions are about the law of different days" in result.stdout
    assert not (tmp_path / "out" / "direct_rag").exists() and (tmp_path / "out" / "direct_gold").exists()


def test_impossible_places_are_refused_without_a_traceback(tmp_path):
    (tmp_path / "afile").write_text("x", encoding="utf-8")
    for out in (tmp_path / "afile" / "x", "/proc/nowhere/x"):
        refused = run_lawft("data", "sample", "--out", out)
        assert (refused.returncode, "no folder can be made there" in refused.stderr) == (2, True), refused.stderr


def test_a_damaged_manifest_holds_out_nobody_knows_what(tmp_path):
    (tmp_path / "q.jsonl").write_text("{}", encoding="utf-8")
    for text, message in (("{", "not JSON"), ('{"splits": ["train"]}', "not a manifest that `lawft data` wrote")):
        (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            known_splits(tmp_path / "q.jsonl")


def test_one_id_for_two_questions_is_refused_where_one_would_be_lost(tmp_path):
    path = tmp_path / "rows.jsonl"
    records = [
        question_to_record(asked(question=words), answer="direct", context=gold_context(asked()), dataset="d", source_file="s")
        for words in ("第1条の期間を選べ。", "第2条の期間を選べ。")
    ]
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    with pytest.raises(InputError, match="1 rows have the id of another question"):
        unique_questions(read_rows(path))
