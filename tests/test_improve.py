"""`lawft improve`: planted weaknesses are on the work list, the new rows can be trained on, and no held-out pair is among them."""

import json
import re
import shlex

import pytest
from legal_endpoint import BAD, Endpoint, knows

from lawft_trl.assistant.answer_scores import NOTHING_KNOWN, score_answer
from lawft_trl.assistant.assessed_pairs import read_assessed
from lawft_trl.assistant.assessment import assess, read_assessment
from lawft_trl.assistant.assessment_plan import Plan
from lawft_trl.assistant.improve import improve, oversample
from lawft_trl.assistant.mending import rows_to_mend
from lawft_trl.cli import main
from lawft_trl.data.legal_pairs import LEGAL_PAIRS
from lawft_trl.data.legal_rows import build_legal
from lawft_trl.data.quality import find_overlaps
from lawft_trl.errors import InputError
from lawft_trl.statutes.passages import Passage, write_corpus

WEAK = "リスク分析"
ALL = read_assessed(LEGAL_PAIRS)[1]


@pytest.fixture(scope="module")
def legal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("legal") / "legal"
    build_legal(LEGAL_PAIRS, folder)
    return next(folder.glob("dialogue/train_*.jsonl")), next(folder.glob("dialogue/test_*.jsonl"))


@pytest.fixture
def assessed(legal, httpserver, tmp_path):
    """An assessment whose tuned model knows all but one kind, and invents an article in it."""
    kinds, right = {pair.question: pair.kind for pair in ALL}, knows(ALL)

    def answer(model, messages):
        if model == "tuned" and kinds[messages[-1]["content"]] == WEAK:
            return "民法第8888条によります。弁護士に確認してください。"
        return right(messages) if model == "tuned" else BAD

    corpus = write_articles(tmp_path / "corpus")
    assess(Plan(pairs=legal[1], corpus=corpus), Endpoint(httpserver, answer).clients(), tmp_path / "assessment")
    return tmp_path / "assessment"


def write_articles(folder):
    """A corpus with every article of 民法 that the pairs cite; one is too long to be quoted."""
    cited = sorted({each.article for pair in ALL for each in pair.citations if each.law == "民法"}, key=lambda each: list(map(int, each.split("_"))))
    passages = [
        Passage(law_id="129AC0000000089", law="民法", provision="main", article=article, paragraph="1", part=0, caption="", text=f"第{article}の本文として、{'当事者は、' * (200 if article == '415' else 3)}この条の定めに従う。", as_of="2026-01-01")
        for article in cited
    ]
    write_corpus(passages, folder, as_of="2026-01-01", sources={"whole_laws": True}, attribution="test")
    return folder


def test_weaknesses_become_a_work_list_and_rows(legal, assessed, tmp_path, capsys):
    out, corpus = tmp_path / "improved", tmp_path / "corpus"
    words = ["improve", str(assessed), "--pairs", str(legal[0]), "--out", str(out), "--corpus", str(corpus), "--derive", "5", "--factor", "1.5"]
    assert main(words) == 0
    assert "(weak)" in capsys.readouterr().out
    found = json.loads((out / "improve.json").read_text(encoding="utf-8"))
    assert [kind["kind"] for kind in found["kinds"] if kind["weak"]] == [WEAK]
    assert found["kinds"][0]["clear"]
    assert found["invented_articles"] == [{"law": "民法", "article": "8888", "times": found["kinds"][0]["pairs"]}]
    held_out = {pair.id: pair for pair in read_assessed(legal[1])[1]}
    assert {each["id"] for each in found["missed_points"]} == {name for name, pair in held_out.items() if pair.kind == WEAK}
    train, _ = read_assessed(legal[0])
    rows, pairs = read_assessed(out / found["file"])
    weak = sum(row.meta["kind"] == WEAK for row in train)
    copies = [row for row in rows if row.meta.get("copy_of")]
    assert len(copies) == found["copies"] == round(weak / 2)
    assert {row.meta["kind"] for row in copies} == {WEAK}
    assert len(rows) == len(train) + found["copies"] + found["derived"]
    assert not find_overlaps(rows, read_assessed(legal[1])[0])
    derived = [(row, pair) for row, pair in zip(rows, pairs, strict=True) if row.meta.get("derived_from")]
    assert len(derived) == 5
    for row, pair in derived:
        text = re.search("「(.*)」", row.output, re.DOTALL)[1]
        assert text in (corpus / "passages.jsonl").read_text(encoding="utf-8"), "the corpus' own words"
        assert score_answer(pair, row.output, cut=False, known=NOTHING_KNOWN)["scores"]["expertise"] == 1
        assert row.meta["derived_from"] != "民法/main/415", "too long to be quoted whole"
    worklist = (out / "worklist.md").read_text(encoding="utf-8")
    assert "民法第8888条" in worklist
    assert f"--against {assessed}" in worklist
    assert main(words) == 2, "nothing is overwritten"
    again = improve(assessed, out / found["file"], tmp_path / "again", corpus=corpus, derive=100, factor=1.5)
    assert (again["train"]["rows"], again["copies"]) == (len(train) + 5, found["copies"]), "copies are not copied again"
    wanted = {(each.law, each.article) for pair in read_assessed(legal[0])[1] if pair.kind == WEAK for each in pair.citations}
    quoted = {(each.law, each.article) for pair in read_assessed(tmp_path / "again" / again["file"])[1] if pair.id.startswith("article-") for each in pair.citations}
    assert len(quoted) > 5
    assert quoted <= wanted, "only what training rows of the weak kind cite"
    question, held = derived[0][1].question, (assessed / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    asked = json.loads(held[0])
    asked["messages"][1]["content"] = question
    (assessed / "pairs.jsonl").write_text("\n".join([json.dumps(asked, ensure_ascii=False), *held[1:]]), encoding="utf-8")
    third = improve(assessed, legal[0], tmp_path / "third", corpus=corpus, derive=5)
    assert (third["derived"], third["derived_dropped"]) == (4, 1)
    assert question not in {pair.question for pair in read_assessed(tmp_path / "third" / third["file"])[1]}


def test_written_pairs_are_added_unless_they_are_held_out(legal, assessed, tmp_path):
    train, test = (path.read_text(encoding="utf-8").splitlines() for path in legal)
    written = json.loads(train[0])
    written["messages"][1]["content"] = "倉庫に預けた在庫が水に濡れて売れなくなりました。保管料の請求書が届いていますが、どう考えますか。"
    written["meta"] |= {"id": "written-01", "group": "倉庫の在庫"}
    file = tmp_path / "written.jsonl"
    file.write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    found = improve(assessed, legal[0], tmp_path / "out", factor=1, add=file)
    assert found["added"] == 1
    rows, _ = read_assessed(tmp_path / "out" / found["file"])
    assert [row.id for row in rows][-1] == "written-01" and len(rows) == len(train) + 1
    uploaded = [json.loads(line) for line in (tmp_path / "out" / "openai_train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert uploaded == [{"messages": [*row.prompt, {"role": "assistant", "content": row.output}]} for row in rows]
    for line, told in ((test[0], "held-out"), (train[0], "already")):
        file.write_text(line, encoding="utf-8")
        with pytest.raises(InputError, match=told):
            improve(assessed, legal[0], tmp_path / "other", add=file)
    assert not (tmp_path / "other").exists()


def test_the_next_command_asks_the_same(legal, httpserver, tmp_path):
    """What it prints is typed as it is, and would be compared with this assessment."""
    endpoint = Endpoint(httpserver, lambda *_: BAD)
    folder = tmp_path / "with space"
    plan = Plan(pairs=legal[1], strategies=("plain", "few_shot"), examples=legal[0], shots=1, limit=6, max_tokens=64, seed=5, corpus=write_articles(tmp_path / "corpus"))
    assess(plan, endpoint.clients(), folder / "first")
    _, line = improve(folder / "first", legal[0], tmp_path / "new", strategy="few_shot")["next"]
    words = shlex.split(line)
    assert words[:3] == ["lawft", "assess", "runs/improved"]
    assert main(["assess", *words[3:], "--base-url", endpoint.url, "--model", "tuned", "--base", "base"]) == 0
    second = read_assessment(folder / "first-improved").metrics
    assert second["strategies"] == ["few_shot", "plain"]
    assert second["corpus"] == str(tmp_path / "corpus")
    assert second["against"]["comparisons"]


def test_no_kind_is_weak_where_all_are_alike(legal, httpserver, tmp_path):
    assess(Plan(pairs=legal[1]), Endpoint(httpserver, lambda *_: BAD).clients(), tmp_path / "assessment")
    found = improve(tmp_path / "assessment", legal[0], tmp_path / "out")
    assert not any(kind["weak"] for kind in found["kinds"])
    assert found["copies"] == 0
    assert found["rows_unverified"] == found["train"]["rows"]


def test_held_out_pairs_are_never_trained_on(legal, assessed, tmp_path):
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(legal[0].read_text(encoding="utf-8") + legal[1].read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="never trained on"):
        improve(assessed, mixed, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError) as error:
        improve(assessed, legal[0], tmp_path / "out", strategy="cot", factor=0, derive=-1)
    assert len(error.value.problems) == 3
    with pytest.raises(InputError, match="no assessment there"):
        improve(tmp_path, legal[0], tmp_path / "out")


@pytest.mark.parametrize(("factor", "copies"), [(1, 0), (1.5, 6), (2, 12), (3, 24)])
def test_the_factor(legal, factor, copies):
    rows = [row for row in read_assessed(legal[0])[0] if row.meta["kind"] == WEAK][:12]
    made = oversample(rows, [WEAK], factor, seed=3)
    assert len(made) == copies
    assert len({row.id for row in [*rows, *made]}) == len(rows) + copies
    assert [row.id for row in made] == [row.id for row in oversample(rows, [WEAK], factor, seed=3)]
    assert oversample(rows, ["契約書"], factor, seed=3) == []


def test_rows_to_mend(legal, tmp_path):
    """Each planted fault is found in its row, and the shipped rows have none of them."""
    lines = [json.loads(line) for line in legal[0].read_text(encoding="utf-8").splitlines()[:8]]
    for line in lines:
        line["meta"]["citations"] = [{key: cited[key] for key in ("law", "article")} for cited in line["meta"]["citations"]]
    clean, planted = tmp_path / "clean.jsonl", tmp_path / "planted.jsonl"
    clean.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    assert not [fault for fault in rows_to_mend(*read_assessed(clean), None) if "characters" not in fault["found"]]
    lines[0]["messages"][-1]["content"] += "民法第7777条も同じです。"
    lines[1]["messages"][-1]["content"] = lines[1]["messages"][-1]["content"].replace("弁護士", "専門家")
    lines[2]["messages"][-1]["content"] = "責任を負う。契約は無効である。"
    lines[4]["messages"][1]["content"] = lines[3]["messages"][1]["content"] + "。"
    planted.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    found = {}
    for fault in rows_to_mend(*read_assessed(planted), write_articles(tmp_path / "corpus")):
        found.setdefault(fault["id"], []).append(fault["found"])
    ids = [line["meta"]["id"] for line in lines]
    assert any("民法第7777条" in each and "does not have" in each for each in found[ids[0]])
    assert "names no lawyer" in found[ids[1]]
    assert any("です・ます" in each for each in found[ids[2]])
    assert any("required points" in each for each in found[ids[2]])
    assert any("nearly that of" in each for each in found[ids[4]])
