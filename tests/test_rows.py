"""Rows: every accepted form, every fault, the round trip to questions, prompts, and leakage."""

import json
from collections import Counter

import pytest
from conftest import run_lawft
from hypothesis import given
from hypothesis import strategies as st
from test_questions import GOOD, question

from lawft_trl.data.build import PATTERNS
from lawft_trl.data.contexts import Context, gold_context
from lawft_trl.data.prompts import build_messages
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.questions import ORDERS
from lawft_trl.data.rows import question_to_record, read_rows, row_question, select_rows
from lawft_trl.errors import InputError


def record(*, order="abcd", use_context=True, **changes):
    asked = question(**changes)
    context = gold_context(asked) if use_context else Context()
    return question_to_record(
        asked, answer="direct", context=context, dataset="d", source_file="q.jsonl", order=order
    )


def rows_of(tmp_path, *records, name="rows.jsonl", **options):
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(item, ensure_ascii=False) for item in records), encoding="utf-8")
    return read_rows(path, **options)


def test_prompts_are_what_they_were():
    """A changed prompt makes every adapter trained before it unusable: change this on purpose or not at all."""
    assert build_messages(question(), answer="direct", statutes=question().statutes)[0]["content"] == (
        "次の条文と法律問題を読み、条文に照らして、問いに対する答えとして最も適切な選択肢を一つ選んでください。\n\n"
        "【条文】\n## 架空法\n### 第1条\n期間は、二日とする。\n\n"
        "【問題】\n期間は。\n\n"
        "【選択肢】\na 一日\nb 二日\nc 三日\nd 四日\n\n"
        "【答え方】\n選択肢の記号一文字だけを答えてください。"
    )
    assert build_messages(question(), answer="cot", system="簡潔に。") == [
        {"role": "system", "content": "簡潔に。"},
        {
            "role": "user",
            "content": "次の法律問題を読み、問いに対する答えとして最も適切な選択肢を一つ選んでください。\n\n"
            "【問題】\n期間は。\n\n【選択肢】\na 一日\nb 二日\nc 三日\nd 四日\n\n"
            "【答え方】\nまず理由を述べ、最後の行に「答え:」に続けて選択肢の記号一文字を書いてください。",
        },
    ]


@given(st.sampled_from(["direct", "cot"]), st.booleans())
def test_a_prompt_without_statutes_does_not_speak_of_them(answer, system):
    asked = question(statutes=["## 架空法\n### 第1条\n…"])
    messages = build_messages(asked, answer=answer, statutes=(), system="法律の専門家です。" if system else None)
    text = "".join(message["content"] for message in messages)
    assert not any(word in text for word in ("条文", "法令", "上記", "根拠"))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("use_context", [True, False])
@pytest.mark.parametrize("system", [None, "簡潔に。"])
def test_a_row_of_ours_gives_its_question_back(tmp_path, order, use_context, system):
    (row,) = rows_of(tmp_path, record(order=order, use_context=use_context), system=system)
    found = row_question(row)
    shown = question().in_order(order)
    assert (found.choices, found.answer, found.question) == (shown.choices, shown.answer, shown.question)
    assert row.gold == row.output == shown.answer
    assert row.meta["order"] == order


def test_meta_has_what_the_contract_names():
    needed = {"id", "dataset", "mode", "correct", "use_context", "top_k", "retriever_type", "question", "choices", "source_file"}
    assert needed <= set(record()["meta"])


def test_a_row_of_others_is_not_rendered_again(tmp_path):
    theirs = record() | {"input": "別の書き方"}
    (row,) = rows_of(tmp_path, theirs)
    assert row_question(row) is None
    assert row.gold == "b"


def test_rows_that_others_wrote_are_accepted(tmp_path):
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u1"},
        {"role": "assistant", "content": "a1"},
        {"role": "user", "content": "u2"},
        {"role": "assistant", "content": "a2"},
    ]
    rows = rows_of(
        tmp_path,
        {"input": "i", "output": "o", "meta": {"mode": "cot", "note": 1}},
        {"prompt": "p", "completion": "c"},
        {"prompt": messages[:2], "completion": [{"role": "assistant", "content": "c2"}]},
        {"messages": messages},
        system="S",
    )
    assert [row.output for row in rows] == ["o", "c", "c2", "a1", "a2"]
    assert rows[0].prompt == ({"role": "system", "content": "S"}, {"role": "user", "content": "i"})
    assert rows[2].prompt == tuple(messages[:2]), "a system message of its own is kept"
    assert rows[4].prompt == tuple(messages[:4])
    assert rows[4].source.endswith("rows.jsonl:4")


BROKEN_ROWS = {
    "no known keys": ({"question": "x"}, "expected {\"input\""),
    "empty output": ({"input": "x", "output": ""}, "`output`: expected a non-empty string"),
    "missing output": ({"input": "x"}, "`output`: expected a non-empty string, found None"),
    "meta not an object": ({"input": "x", "output": "y", "meta": 1}, "`meta`: expected an object"),
    "wrong gold letter": ({"input": "x", "output": "a", "meta": {"correct": "e"}}, "`meta.correct`"),
    "output against gold": (
        {"input": "x", "output": "a", "meta": {"correct": "b", "mode": "direct"}},
        "`output` is 'a' but `meta.correct` is 'b'",
    ),
    "five choices": ({"input": "x", "output": "a", "meta": {"choices": GOOD["choices"] | {"e": "5"}}}, "meta.`choices`"),
    "unknown role": ({"messages": [{"role": "human", "content": "x"}]}, "expected a role among"),
    "no assistant": ({"messages": [{"role": "user", "content": "x"}]}, "no message has the role assistant"),
    "assistant first": ({"messages": [{"role": "assistant", "content": "x"}]}, "must follow a user's"),
    "late system": (
        {"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}, {"role": "assistant", "content": "z"}]},
        "only at the beginning",
    ),
    "prompt that ends with the answer": (
        {"prompt": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "completion": "z"},
        "must end with the role user",
    ),
    "completion by the user": ({"prompt": "x", "completion": [{"role": "user", "content": "y"}]}, "the role assistant"),
    "a number": (1, "expected an object"),
    "assistant twice": (
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, {"role": "assistant", "content": "z"}]},
        "must follow a user's",
    ),
    "meta of messages": ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "meta": "m"}, "`meta`: expected an object"),
    "group that is a list": ({"input": "x", "output": "y", "meta": {"group": ["g"]}}, "`meta.group`: expected str"),
    "mode that is a list": ({"input": "x", "output": "y", "meta": {"mode": ["cot"]}}, "`meta.mode`: expected str"),
}


@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_broken_row_is_explained(tmp_path, name):
    broken, expected = BROKEN_ROWS[name]
    with pytest.raises(InputError) as caught:
        rows_of(tmp_path, {"input": "fine", "output": "fine"}, broken)
    assert expected in str(caught.value)
    assert "rows.jsonl:2" in str(caught.value)


def test_rows_that_stand_there_twice_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"rows\.jsonl:2: the same row as .*rows\.jsonl:1"):
        rows_of(tmp_path, record(), record())
    assert len(rows_of(tmp_path, record(), record(order="bcda"))) == 2
    unnamed = [{**item, "meta": {k: v for k, v in item["meta"].items() if k != "order"}} for item in (record(), record(order="bcda"))]
    assert len(rows_of(tmp_path, *unnamed)) == 2, "permuted rows of others, who do not name the order"
    greeting = [{"role": "user", "content": "こんにちは"}, {"role": "assistant", "content": "どうしました"}]
    talks = [{"messages": [*greeting, {"role": "user", "content": q}, {"role": "assistant", "content": "さて"}]} for q in ("徳とは", "法とは")]
    assert len(rows_of(tmp_path, *talks)) == 4


def test_null_meta_is_no_meta(tmp_path):
    (row,) = rows_of(tmp_path, {"input": "x", "output": "a", "meta": None})
    assert row.meta == {} and row.gold == "a" and row.id == row.source
    (row,) = rows_of(tmp_path, {"input": "x", "output": "a", "meta": {"statutes": [{"text": "y"}], "correct": None}})
    assert row_question(row) is None


def test_rows_are_chosen_by_mode(tmp_path):
    rows = rows_of(
        tmp_path,
        {"input": "1", "output": "a", "meta": {"mode": "direct"}},
        {"input": "2", "output": "理由。\n答え: a", "meta": {"mode": "cot"}},
        {"input": "3", "output": "a"},
    )
    chosen = {answer: [row.prompt[-1]["content"] for row in select_rows(rows, answer, "none", "f")] for answer in ("direct", "cot", "auto")}
    assert chosen == {"direct": ["1", "3"], "cot": ["2", "3"], "auto": ["1", "2", "3"]}
    with pytest.raises(InputError, match=r"every row has meta\.mode"):
        select_rows(rows[1:2], "direct", "none", "f")


def test_rows_of_the_other_statutes_setting_are_refused(tmp_path):
    rows = rows_of(tmp_path, record())
    assert select_rows(rows, "direct", "gold", "f") == rows
    with pytest.raises(InputError, match="set pattern.statutes: gold"):
        select_rows(rows, "direct", "none", "f")


def test_overlaps_are_found_by_id_group_and_text(tmp_path):
    test = rows_of(tmp_path, record(), name="test.jsonl")

    def reason(**changes):
        changed = record() | {"meta": record()["meta"] | changes}
        changed |= {"output": changed["meta"]["correct"], "input": "別の前書き。" + changed["input"]}
        (row,) = rows_of(tmp_path, changed, name="train.jsonl")
        return [overlap.reason for overlap in find_overlaps([row], test)]

    other = {"question": "届出の期間は何日か、次のうちから選びなさい。", "choices": {"a": "五年", "b": "六年", "c": "七年", "d": "八年"}}
    assert reason(order="bcda") == ["same id"]
    assert reason(id="q9", **other) == ["same group"]
    assert reason(id="q9", group="g9") == ["near-duplicate text"]
    assert reason(id="q9", group="g9", **other) == []
    moved = question().in_order("cdab")
    assert reason(id="q9", group="g9", choices=moved.choices, correct=moved.answer) == ["near-duplicate text"]


@pytest.mark.parametrize("use_context", [True, False])
def test_the_same_prompt_is_found_whatever_the_form_of_the_row(tmp_path, use_context):
    text = {"question": "届出をしなければならない期間は、次のうちどれか。", "choices": {"a": "十日以内", "b": "二十日以内", "c": "三十日以内", "d": "六十日以内"}}
    held_out = record(use_context=use_context, **text)
    messages = [{"role": "user", "content": held_out["input"]}, {"role": "assistant", "content": "b"}]
    plain = [{"prompt": held_out["input"], "completion": "b"}, {"messages": messages}, {"input": held_out["input"], "output": "b"}]
    wrapped = {"prompt": f"質問です。{text['question']} 選択肢: {' '.join(text['choices'].values())} どれ？", "completion": "b"}
    ours = rows_of(tmp_path, held_out, name="ours.jsonl")
    for item, reason in [*((item, "same prompt") for item in plain), (wrapped, "near-duplicate text")]:
        theirs = rows_of(tmp_path, item, name="theirs.jsonl")
        assert [overlap.reason for overlap in find_overlaps(theirs, ours)] == [reason]
        assert [overlap.reason for overlap in find_overlaps(ours, theirs)] == [reason]


def test_ids_count_within_a_data_set_or_where_one_row_names_none(tmp_path):
    other = {"question": "届出の期間は何日か、次のうちから選びなさい。", "choices": {"a": "五年", "b": "六年", "c": "七年", "d": "八年"}, "group": "x"}
    held_out = rows_of(tmp_path, record(), name="test.jsonl")
    for dataset, expected in (("d", ["same id"]), (None, ["same id"]), ("another", [])):
        item = record(**other)
        item["meta"]["dataset"] = dataset
        assert [o.reason for o in find_overlaps(rows_of(tmp_path, item, name="train.jsonl"), held_out)] == expected


def test_near_duplicates_do_not_hide_behind_width_and_spaces(tmp_path):
    text = "金融商品取引業者は、内閣総理大臣の登録を受けた者でなければ、業として行うことができない。第１２条"
    test = rows_of(tmp_path, {"input": text, "output": "a"}, name="test.jsonl")
    train = rows_of(tmp_path, {"input": text.replace("、", " , ").replace("１２", "12"), "output": "b"}, name="train.jsonl")
    assert [overlap.reason for overlap in find_overlaps(train, test)] == ["same prompt"]
    train = rows_of(tmp_path, {"input": text + "による。", "output": "b"}, name="train.jsonl")
    assert [overlap.reason for overlap in find_overlaps(train, test)] == ["near-duplicate text"]
    train = rows_of(tmp_path, {"input": text[:20] + "は、届け出なければならない。", "output": "b"}, name="train.jsonl")
    assert find_overlaps(train, test) == []


def test_lawft_data_writes_everything_or_nothing(tmp_path):
    out = tmp_path / "sample"
    first = run_lawft("data", "sample", "--out", out, check=True)
    assert "manifest.json" in first.stdout
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    for name, entry in manifest["files"].items():
        lines = (out / name).read_text(encoding="utf-8").splitlines()
        assert len(lines) == entry["rows"]
        assert name.rpartition("_")[2] == f"{entry['questions']}.jsonl", "a file is named after what is in it"
        if "/train_" in name:
            assert len(set(entry["answers"].values())) == 1, "four orders balance the letters"
    ids = {name: set(split["ids"]) for name, split in manifest["splits"].items()}
    assert not ids["train"] & ids["test"] and not ids["train"] & ids["dev"] and not ids["dev"] & ids["test"]
    assert len(ids["test"]) >= 100

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    refused = run_lawft("data", "sample", "--out", tmp_path / "mine", "--force")
    assert (refused.returncode, "never replaced" in refused.stderr) == (2, True)
    assert (tmp_path / "mine" / "thesis.txt").exists()
    (tmp_path / "mine" / "thesis.txt").unlink()
    (tmp_path / "mine").rmdir()

    again = run_lawft("data", "sample", "--out", out)
    assert (again.returncode, "--force" in again.stderr) == (2, True)
    forced = run_lawft("data", "sample", "--out", out, "--force", check=True)
    assert forced.stdout == first.stdout, "the same seed gives the same split"
    (tmp_path / "bad.jsonl").write_text('{"id": "x"}\n', encoding="utf-8")
    broken = run_lawft("data", "questions", tmp_path / "bad.jsonl", "--out", tmp_path / "bad")
    assert broken.returncode == 2
    assert "Traceback" not in broken.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "sample"]


def test_lawft_data_on_real_lawqa(lawqa_dir, tmp_path):
    out = tmp_path / "lawqa"
    run_lawft("data", "lawqa", "--from", "selection.json", "--out", out, cwd=lawqa_dir / "data", check=True)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert sum(split["questions"] for split in manifest["splits"].values()) == 140
    assert "デジタル庁" in (out / "ATTRIBUTION.txt").read_text(encoding="utf-8")
    files = {pattern: {path.name.split("_")[0]: path for path in (out / pattern).iterdir()} for pattern in PATTERNS}
    assert {pattern: set(splits) for pattern, splits in files.items()} == {
        pattern: {"test"} if pattern.startswith("cot") else {"train", "dev", "test"} for pattern in PATTERNS
    }
    for splits in files.values():
        for split, path in splits.items():
            rows = read_rows(path)
            assert all(row_question(row) is not None for row in rows)
            assert path.stem == f"{split}_{len({row.id for row in rows})}"
            for row in rows:
                shown = row.meta["statutes"]
                assert len(shown) == len(set(shown)) == row.meta["top_k"], "no passage twice in a prompt"
            if split == "train":
                assert Counter(row.gold for row in rows) == dict.fromkeys("abcd", len(rows) // 4)
    train, test = (read_rows(files["direct_norag"][split]) for split in ("train", "test"))
    assert find_overlaps(train, test) == []
    assert len(manifest["known_issues"]) == 10
    assert {row.id for row in train + test if row.meta.get("known_issue")} <= set(manifest["known_issues"])
    assert (out / "LICENSE.md").is_file()
    card = (out / "data_card.md").read_text(encoding="utf-8")
    for part in ("デジタル庁", "金商法", "in doubt", "Law as of: not stated", "for scoring only", "articles, query = question and choices"):
        assert part in card


def test_lawft_data_without_a_folder_says_where_lawqa_is():
    result = run_lawft("data", "lawqa", LAWFT_LAWQA_DIR="")
    assert result.returncode == 2
    assert "digital-go-jp/lawqa_jp" in result.stderr
