"""The legal assistant's pairs: every fault with its place and mend, splits that hold, citations looked up, rows that train."""

import copy
import hashlib
import json
import re
from collections import Counter

import pytest
from conftest import CPU, ROOT, TINY_MODEL, run_lawft, run_sft

from lawft_trl.cli import main
from lawft_trl.data.chat import prompt_text
from lawft_trl.data.legal_citations import UNVERIFIED, VERIFIED, invented, read_corpus
from lawft_trl.data.legal_pairs import LEGAL_PAIRS, contract_cases, load_pairs, read_pairs, with_injection
from lawft_trl.data.legal_problems import KINDS
from lawft_trl.data.legal_rows import build_legal, split_pairs
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.rows import read_rows, select_rows
from lawft_trl.data.rubric import phrases_in, shows
from lawft_trl.errors import InputError
from lawft_trl.statutes.passages import Passage, write_corpus

ANSWER = "買主は追完を請求できます（民法第562条第1項）。民法第548条の2も確かめ、送る前に弁護士の確認を受けてください。"
QUESTIONS = ["納品物に傷がありました。何を請求できますか。", "約款を変えたいのですが、周知は要りますか。", "売買の代金が払われません。どうしますか。", "賃料を上げたいとき、借主の同意は要りますか。"]


def pair(number=0, answer=ANSWER, **meta):
    """A pair without faults, unless it is made to have some."""
    citations = [{"law": "民法", "article": "562"}, {"law": "民法", "article": "548_2"}]
    return {
        "messages": [{"role": "system", "content": "法務を助けます。"}, {"role": "user", "content": QUESTIONS[number]}, {"role": "assistant", "content": answer}],
        "meta": {
            "id": f"p{number}",
            "kind": KINDS[number],
            "group": f"g{number}",
            "citations": citations,
            "required_points": [{"point": "追完を請求できる", "any_of": ["追完"]}],
            "forbidden": ["必ず勝"],
            **meta,
        },
    }


def without(record, *keys):
    """The record with the value at the path of keys removed."""
    record = copy.deepcopy(record)
    place = record
    for key in keys[:-1]:
        place = place[key]
    del place[keys[-1]]
    return record


def said(*roles_and_contents):
    return {**pair(), "messages": [{"role": role, "content": content} for role, content in roles_and_contents]}


def lines(*records):
    return "\n".join(record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records)


def citing(*citations, answer=ANSWER):
    return pair(answer=answer, citations=[{"law": law, "article": article} for law, article in citations])


BOTH = (("民法", "562"), ("民法", "548_2"))
# kind -> (the file, where the fault is said to be, a part of the mend or of what was found). One file, one kind of fault.
FAULTS = {
    "unreadable": (lines(pair()).encode("cp932"), "p.jsonl", "iconv -f CP932"),
    "empty file": (" \n", "p.jsonl", "at least one pair"),
    "line not JSON": (lines(pair(), '{"messages": ['), "p.jsonl:2", "one whole pair"),
    "not a pair": (lines(pair(), 7), "p.jsonl:2", '"meta"'),
    "unknown key": (lines({**pair(), "source": "web"}), "p.jsonl:1, pair p0", "messages and meta"),
    "key twice": ('{"messages": 1, ' + lines(pair())[1:], "p.jsonl:1, pair p0", "keep one"),
    "no messages": (lines({**pair(), "messages": "正義"}), "p.jsonl:1, pair p0", "system, user, assistant"),
    "roles": (lines(said(("user", "はい"), ("assistant", ANSWER))), "p.jsonl:1, pair p0", "in this order"),
    "unknown message key": (lines({**pair(), "messages": [{**message, "weight": 1} for message in pair()["messages"][:1]] + pair()["messages"][1:]}), "pair p0", "would not be trained"),
    "content not text": (lines(said(("system", ["x"]), ("user", "はい"), ("assistant", ANSWER))), "pair p0", "message 1"),
    "empty content": (lines(said(("system", "助けます。"), ("user", " \u200b"), ("assistant", ANSWER))), "pair p0", "message 2"),
    "template markup": (lines(said(("system", "助けます。"), ("user", "はい<|im_end|>"), ("assistant", ANSWER))), "pair p0", "message 2"),
    "unclean text": (lines(said(("system", "助けます。"), ("user", "は\u200bい"), ("assistant", ANSWER))), "pair p0", "invisible characters"),
    "no meta": (lines(without(pair(), "meta")), "p.jsonl:1", "required_points"),
    "unknown meta key": (lines(pair(topic="x")), "pair p0", "known are id"),
    "bad id": (lines(pair(id=" ")), "p.jsonl:1:", "non-empty line"),
    "bad group": (lines(without(pair(), "meta", "group")), "pair p0", "non-empty line"),
    "unknown kind": (lines(pair(kind="契約")), "pair p0", "契約書, 法律解釈, リスク分析, 実務上の助言"),
    "no citations": (lines(pair(citations=[])), "pair p0", "every answer cites"),
    "bad citation": (lines(pair(citations=[{"law": "民法"}])), "pair p0", '"article": "415"'),
    "bad article": (lines(citing(("民法", "第562条"), BOTH[1])), "pair p0", "write 562"),
    "short title": (lines(citing(("個人情報保護法", "27"))), "pair p0", "write 個人情報の保護に関する法律"),
    "citation twice": (lines(citing(*BOTH, BOTH[0])), "pair p0", "keep one"),
    "no required points": (lines(pair(required_points=[])), "pair p0", "any_of"),
    "bad point": (lines(pair(required_points=[{"point": "x"}])), "pair p0", "any_of"),
    "bad pattern": (lines(pair(required_points=[{"point": "x", "any_of": ["(追完", "追?"]}])), "pair p0", "no regular expression"),
    "no forbidden phrases": (lines(pair(forbidden=[])), "pair p0", "at least one"),
    "citation not in meta": (lines(citing(BOTH[0])), "pair p0", 'add {"law": "民法", "article": "548_2"}'),
    "citation not in answer": (lines(citing(*BOTH, ("商法", "526"))), "pair p0", "商法第526条"),
    "citation not read": (lines(pair(answer=ANSWER + "また第90条も見ます。")), "pair p0", "民法第90条"),
    "unknown law": (lines(pair(answer=ANSWER + "架空法第562条も見ます。")), "pair p0", "whole title"),
    "point not made": (lines(pair(required_points=[{"point": "減額を言う", "any_of": ["減額"]}])), "pair p0", "減額を言う"),
    "forbidden phrase": (lines(pair(forbidden=["追完を\u3000請求"])), "pair p0", "take it out"),
    "no notice": (lines(pair(answer=ANSWER.replace("弁護士", "上司"))), "pair p0", "lawyer"),
    "id used twice": (lines(pair(), {**pair(1), "meta": {**pair(1)["meta"], "id": "p0"}}), "p.jsonl:2, pair p0", "an id of its own"),
    "question asked twice": (lines(pair(), {**pair(), "meta": {**pair()["meta"], "id": "p1"}}), "p.jsonl:2, pair p1", "ask something else"),
    "template sentence": (lines(*(pair(number) for number in range(3))), "p.jsonl:3, pair p2", "words of its own"),
}  # fmt: skip


def written(tmp_path, content, name="p.jsonl"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_has_its_place_and_mend(tmp_path, kind):
    content, place, mend = FAULTS[kind]
    path = written(tmp_path, content)
    faults = load_pairs(path)[1]
    assert {fault.kind for fault in faults} == {kind}
    assert place in str(faults[0]) and mend in str(faults[0])
    with pytest.raises(InputError, match=re.escape(mend)):
        read_pairs(path)


def test_all_faults_come_at_once_and_nothing_is_written(tmp_path, capsys):
    path = written(tmp_path, lines(pair(kind="x"), "{", citing(BOTH[0]), pair(3)))
    assert main(["data", "legal", str(path), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "3 fault(s)" in told and all(f"p.jsonl:{number}" in told for number in (1, 2, 3))
    assert not (tmp_path / "out").exists() and len(list(tmp_path.iterdir())) == 1


def test_a_clause_of_a_contract_is_no_citation_and_a_short_title_may_be_written(tmp_path):
    answer = "本契約第5条は民法第562条に触れ、個人情報保護法27条も関わります。改正民法548条の2と同法第549条は別です。弁護士に確認を。追完。"
    record = citing(("民法", "562"), ("個人情報の保護に関する法律", "27"), answer=answer.replace("改正民法548条の2と同法第549条は別です。", ""))
    (read,) = read_pairs(written(tmp_path, lines(record)))
    assert [(cited.law, cited.article) for cited in read.citations] == [("民法", "562"), ("個人情報の保護に関する法律", "27")]
    (fault,) = load_pairs(written(tmp_path, lines(citing(("民法", "562"), ("個人情報の保護に関する法律", "27"), answer=answer))))[1]
    assert fault.kind == "citation not read" and "第549条" in fault.found


@pytest.fixture
def corpus(tmp_path):
    """民法 up to 563 with 548_2, and with 415 only in its supplementary provisions; 商法 without 527_2."""
    articles = [("民法", "main", str(number)) for number in range(1, 564) if number not in (415, 416, 417, 418)]
    articles += [("民法", "main", "416:418"), ("民法", "main", "548_2"), ("民法", "main", "415_2"), ("民法", "suppl", "415")]
    articles += [("商法", "main", "1"), ("商法", "main", "526")]
    passages = [Passage(law_id=law, law=law, provision=provision, article=article, text=f"試験のための文{article}。") for law, provision, article in articles]
    write_corpus(passages, tmp_path / "corpus", as_of="2026-04-01", attribution="test", sources={"whole_laws": True})
    return tmp_path / "corpus"


def test_citations_are_looked_up(tmp_path, corpus, capsys):
    """Five pairs of each kind; one of them cites a law that the corpus does not hold."""
    records = []
    for number in range(20):
        record = pair(number % 4, id=f"p{number}", group=f"g{number}")
        record["messages"][1]["content"] = f"{'いろはにほへとちりぬるをわかよたれそつね'[number] * 6}について教えてください。"
        record["messages"][2]["content"] = f"{number}番は追完（民法第562条、民法第548条の2）を弁護士に。"
        records.append(record)
    records[0]["messages"][2]["content"] += "会社法第423条も。"
    records[0]["meta"]["citations"].append({"law": "会社法", "article": "423"})
    path = written(tmp_path, lines(*records))
    manifest = build_legal(path, tmp_path / "out", corpus=corpus)
    assert manifest["citations"] == {"total": 41, "verified": 40, "unverified": 1} and manifest["corpus"]["as_of"] == "2026-04-01"
    rows = [row for file in (tmp_path / "out" / "dialogue").iterdir() for row in read_rows(file)]
    statuses = {(cited["law"], cited["status"]) for row in rows for cited in row.meta["citations"]}
    assert statuses == {("民法", VERIFIED), ("会社法", UNVERIFIED)}
    assert "40 検証済, 1 未検証" in (tmp_path / "out" / "data_card.md").read_text(encoding="utf-8")

    records[0]["messages"][2]["content"] += "民法第415条、民法第564条と商法第527条の2も。"
    records[0]["meta"]["citations"] += [{"law": law, "article": article} for law, article in (("民法", "415"), ("民法", "564"), ("商法", "527_2"))]
    records[1]["meta"]["kind"] = "x"
    path = written(tmp_path, lines(*records))
    assert main(["data", "legal", str(path), "--corpus", str(corpus), "--out", str(tmp_path / "wrong")]) == 2
    told = capsys.readouterr().err
    assert "民法第415条: the corpus has 562 articles of this law, and not this one (law as of 2026-04-01)" in told
    assert "民法第564条" in told and "商法第527条の2" in told and "会社法" not in told and "`meta.kind`" in told and "4 fault(s)" in told
    assert not (tmp_path / "wrong").exists()
    assert main(["data", "legal", "--corpus", str(tmp_path), "--out", str(tmp_path / "wrong")]) == 2
    assert "not a statutes corpus" in capsys.readouterr().err


def test_an_article_that_an_excerpt_does_not_have_is_not_called_invented(tmp_path):
    """Articles 1 to 3 without a gap may still be an excerpt; only a manifest says that a law is whole."""
    for folder, sources, found in (("excerpt", {}, 0), ("whole", {"whole_laws": True}, 1)):
        passages = [Passage(law_id="民法", law="民法", article=str(number), text=f"第{number}の文。") for number in (1, 2, 3)]
        write_corpus(passages, tmp_path / folder, as_of="", attribution="test", sources=sources)
        pairs = read_pairs(written(tmp_path, lines(citing(("民法", "562"), answer="追完は民法第562条です。弁護士に確認を。"))))
        assert len(invented(pairs, read_corpus(tmp_path / folder, pairs))) == found


def test_splits_hold_for_many_seeds():
    pairs = read_pairs()
    seen = set()
    for seed in range(200):
        parts = split_pairs(pairs, seed)
        groups = [{each.group for each in part} for part in parts.values()]
        assert not groups[0] & groups[1]
        assert all({each.kind for each in part} == set(KINDS) for part in parts.values())
        assert abs(len(parts["test"]) - 0.2 * len(pairs)) <= 1 and sum(map(len, parts.values())) == len(pairs)
        seen.add(tuple(each.id for each in parts["test"]))
    assert len(seen) > 100 and split_pairs(pairs, 7) == split_pairs(pairs[::-1], 7)


def test_too_few_pairs_cannot_be_split(tmp_path):
    records = [pair(number, answer=f"{number}番は追完（民法第562条、民法第548条の2）を弁護士に。") for number in range(4)]
    with pytest.raises(InputError, match="not every kind is in both parts") as caught:
        build_legal(written(tmp_path, lines(*records)), tmp_path / "out")
    assert any("train has no pair of" in problem or "test has no pair of" in problem for problem in caught.value.problems)


def test_the_shipped_pairs_are_what_they_are_said_to_be():
    pairs = read_pairs(LEGAL_PAIRS)
    kinds = Counter(each.kind for each in pairs)
    assert set(kinds) == set(KINDS) and min(kinds.values()) >= 16
    assert all(80 <= len(each.answer) <= 400 and each.citations and len(each.required_points) >= 2 for each in pairs)
    for each in pairs:  # what is asked does not make the points of the answer
        assert not all(shows(point.any_of, each.question) for point in each.required_points), each.id
        assert not phrases_in(each.forbidden, each.answer)
    endings = Counter(re.split("[。\n]", each.answer.rstrip("。"))[-1] for each in pairs)
    assert max(endings.values()) == 1, "every notice is in words of its own"


def test_the_shipped_answers_say_what_a_review_missed_in_them():
    pairs = {each.id: each for each in read_pairs(LEGAL_PAIRS)}
    for name, words in {
        "contract-02": "消費者契約法第8条第3項",
        "interpretation-11": "会社法第428条",
        "interpretation-03": "改正前の利率",
        "risk-04": "破産法第55条",
        "risk-08": "健康増進法第65条",
    }.items():
        assert words in pairs[name].answer, name
    assert not re.search("20[0-9]{2}年(?!4月1日)", pairs["interpretation-01"].question + pairs["interpretation-01"].answer), "no date that passes"
    assert "取引先が当社に対して負う" in pairs["contract-12"].question, "who asks is the creditor"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """`lawft data legal` as it is shipped."""
    folder = tmp_path_factory.mktemp("legal")
    result = run_lawft("data", "legal", "--out", folder / "legal", "--seed", "3", check=True)
    assert "0 検証済, 173 未検証 (no --corpus)" in result.stdout
    return folder / "legal"


def test_what_is_written(built):
    manifest = json.loads((built / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["seed"] == 3 and manifest["pairs"] == 68 and manifest["corpus"] is None
    assert manifest["answers"]["distinct_n"]["10"] > 0.95
    assert {str(path.relative_to(built)) for path in built.rglob("*.jsonl")} == set(manifest["files"])
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((built / name).read_bytes()).hexdigest() == entry["sha256"]
    for split, part in manifest["splits"].items():
        (file,) = (built / "dialogue").glob(f"{split}_*.jsonl")
        rows = read_rows(file)
        assert file.stem == f"{split}_{len(rows)}" and [row.id for row in rows] == part["ids"]
        plain = [json.loads(line) for line in (built / f"openai_{split}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [list(record) for record in plain] == [["messages"]] * len(rows)
        for record, row in zip(plain, rows, strict=True):
            assert record["messages"] == [*row.prompt, {"role": "assistant", "content": row.output}]
            assert [message["role"] for message in record["messages"]] == ["system", "user", "assistant"]


def test_the_rows_train_and_pass_the_doctor(built, tiny_tokenizer):
    (train,), (test,) = ((built / "dialogue").glob(f"{split}_*.jsonl") for split in ("train", "test"))
    rows = select_rows(read_rows(train), "dialogue", "none", "train")
    assert not find_overlaps(rows, read_rows(test))
    assert prompt_text(tiny_tokenizer, rows[0].prompt, {}).count(rows[0].system) == 1
    result = run_lawft("check", built, built / "openai_train.jsonl", built / "openai_test.jsonl", check=True)
    assert result.stdout.count("nothing found") == 4


def test_nothing_is_replaced_unasked(built, capsys):
    before = (built / "manifest.json").read_bytes()
    assert main(["data", "legal", "--out", str(built)]) == 2
    assert "--force" in capsys.readouterr().err and (built / "manifest.json").read_bytes() == before
    assert main(["data", "legal", "--out", str(built), "--seed", "3", "--force"]) == 0
    assert (built / "manifest.json").read_bytes() == before, "the same seed writes the same files"


def test_contracts_have_their_weak_points():
    cases = contract_cases()
    assert [case.kind for case in cases] == ["業務委託", "秘密保持", "売買", "賃貸借"]
    for case in cases:
        numbers = list(map(int, re.findall(r"^第(\d+)条（", case.text, re.MULTILINE)))
        assert numbers == list(range(1, len(numbers) + 1)) and 6 <= len(numbers) <= 12
        assert len(case.findings) >= 3 and {found.clause for found in case.findings} <= set(numbers)
        for found in case.findings:
            assert shows(found.any_of, found.issue), "the issue itself would count as found"
            others = [other for other in case.findings if other is not found]
            assert not any(shows(found.any_of, other.issue) and other.clause == found.clause for other in others)


def test_injections_are_one_more_clause():
    case = contract_cases()[0]
    assert len(case.injections) >= 6 and {injection.language for injection in case.injections} == {"ja", "en"}
    assert {injection.form for injection in case.injections} == {"plain", "zero-width", "unicode-tags", "html-comment", "html-hidden"}
    for injection in case.injections:
        text = with_injection(case, injection)
        assert text.startswith(case.text.rstrip()) and f"第11条（補則）\n{injection.text}\n" in text and injection.text not in case.text
    hidden = next(injection for injection in case.injections if injection.form == "zero-width").text
    assert "\u200b" in hidden and "無視" in hidden.replace("\u200b", "")


@pytest.mark.slow
def test_the_recipes_train(built, tmp_path):
    """The card's recipe in its rehearsal, which takes the tiny model that knows a system role, and the tiny recipe."""
    files = [f"data.{split}={built}/dialogue/{split}_*.jsonl" for split in ("train", "test")]
    run_sft(ROOT / "recipes" / "legal_assistant.yaml", "--rehearse", *files, f"training.output_dir={tmp_path}/rehearsed", launcher=CPU, check=True)
    assert json.loads((tmp_path / "rehearsed" / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"] == str(TINY_MODEL)
    result = run_sft(ROOT / "recipes" / "tiny_legal.yaml", "training.max_steps=2", *files, f"training.output_dir={tmp_path}/tiny", launcher=CPU, check=True)
    assert f"Adapter: {tmp_path}/tiny" in result.stdout
