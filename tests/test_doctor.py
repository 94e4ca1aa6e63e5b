"""The data doctor: for every finding rows that have the fault and rows that have not, and the state real files were found in."""

import json
import re
import shutil
import subprocess

import pytest
from conftest import ROOT, TINY_MODEL, first_rows, lawft_here, run_lawft
from foreign_rows import foreign_record, lawqa_questions, sample_questions, skewed, write_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from test_questions import question

from lawft_trl.data.questions import ORDERS
from lawft_trl.data.row_problems import record_problems
from lawft_trl.data.rows import Row
from lawft_trl.doctor.answer_checks import (
    contradiction_findings,
    diversity_findings,
    empty_reason_findings,
    letter_findings,
    position_findings,
    template_findings,
)
from lawft_trl.doctor.characters import find_characters, visible
from lawft_trl.doctor.data_files import examine_files, read_data
from lawft_trl.doctor.examine import (
    benchmark_findings,
    examine,
    id_findings,
    leakage_findings,
    near_duplicate_findings,
    refuse_unfit,
)
from lawft_trl.doctor.findings import example, with_strictness
from lawft_trl.doctor.personal import find_personal, mask_personal
from lawft_trl.doctor.prompt_checks import claim_findings, form_findings, frame_of, passage_findings, priming_findings
from lawft_trl.doctor.templates import distinct_ngrams, mask_template, reasoning_length
from lawft_trl.doctor.text_checks import character_findings, long_output_findings, markup_findings, personal_findings
from lawft_trl.errors import InputError
from lawft_trl.prices import read_prices
from lawft_trl.text_files import read_text


def row(prompt="問い", output="a", *, number=1, **meta) -> Row:
    return Row(prompt=({"role": "user", "content": prompt},), output=output, meta=meta, source=f"rows.jsonl:{number}")


def rows_of(records) -> list[Row]:
    return [row(record["input"], record["output"], number=number, **record["meta"]) for number, record in enumerate(records, start=1)]


def codes(findings) -> list[str]:
    return [found.code for found in findings]


def prompted(check, *rows):
    return check(rows, [frame_of(item) for item in rows])


# What stands in the answers ----------------------------------------------------------------------


def asked(answer, *, order="abcd", **more) -> Row:
    shown = question(answer=answer).in_order(order)
    return row(f"{shown.question}{order}", shown.answer, question=shown.question, choices=shown.choices, correct=shown.answer, **more)


def test_contradiction():
    (found,) = contradiction_findings([asked("b"), asked("c", order="bcda"), asked("b", order="cdab")])
    assert (found.code, found.severity, found.count) == ("contradiction", "error", 3)
    assert contradiction_findings([asked("b"), asked("b", order="bcda"), asked("b", order="dabc")]) == []
    statutes = [{"use_context": True, "statutes": [text]} for text in ("十日とする。", "二十日とする。")]
    assert contradiction_findings([asked("b", **statutes[0]), asked("c", **statutes[1])]) == [], "each is right by what it shows"
    unsaid = [asked("b", statutes=["十日とする。"]), asked("c", statutes=["二十日とする。"])]
    assert contradiction_findings(unsaid) == [], "old and new law, though use_context is not given"
    assert codes(contradiction_findings([unsaid[0], asked("c", statutes=["十日とする。"])])) == ["contradiction"]
    assert codes(contradiction_findings([asked("b", use_context=False, statutes=["甲"]), asked("c", use_context=False, statutes=["乙"])])) == ["contradiction"]
    assert codes(contradiction_findings([row("同じ問い", "a"), row("同じ問い", "d")])) == ["contradiction"]


@pytest.mark.parametrize(
    ("counts", "found"), [((23, 37, 48, 32), True), ((35, 35, 35, 35), False), ((3, 3, 3, 9), False), ((2600, 2500, 2450, 2450), False), ((9, 9, 15, 9), False)]
)
def test_letter_skew(counts, found):
    rows = [row(output=letter, number=n) for letter, count in zip("abcd", counts, strict=True) for n in range(count)]
    findings = letter_findings(rows, trained=True)
    assert codes(findings) == (["letter-skew"] if found else [])
    if found:
        assert "always c scores 34.3 %" in findings[0].message and findings[0].severity == "warning"
        assert letter_findings(rows, trained=False)[0].severity == "note"


def test_position_skew():
    moved = [asked("b", order=order, id="q") for order in ORDERS]
    assert position_findings(moved) == []
    stuck = [row(order, "b", id="q", question="問", choices=dict(zip("abcd", order, strict=True)), correct="b") for order in ("1x23", "2x31", "3x12", "3x21")]
    assert codes(position_findings(stuck)) == ["position-skew"]


REASONS = ["期間が違う", "主体が違う", "要件を欠く", "ただし書に当たる", "準用がない", "対象外である", "時期が早い", "届出で足りる", "許可を要する", "義務ではない", "裁量がある", "罰則による"]


def reasoned(count: int, text: str) -> list[Row]:
    return [row(f"問い{n}", text.format(letter="abcd"[n % 4], n=n, why=REASONS[n % len(REASONS)]), number=n, id=f"q{n}", mode="cot", correct="abcd"[n % 4]) for n in range(count)]


def test_cot_template():
    template = "Reasoning: 条文に基づき選択肢を検討した結果、選択肢{letter} が最も適切と判断。\nAnswer: {letter}"
    (found,) = template_findings(reasoned(140, template))
    assert (found.code, found.severity, found.count, found.total) == ("cot-template", "error", 140, 140)
    assert "140 reasoned outputs are 1 template (at least 10 are needed)" in found.message
    assert codes(template_findings(reasoned(30, "第{n}条の「語{n}」による。\n答え: {letter}"))) == ["cot-template"], "articles and quotations are filled in"
    assert template_findings(reasoned(120, "{why}からである。\n答え: {letter}")) == []
    assert template_findings(reasoned(3, template)) == [], "three answers say nothing about templates"
    one_in_two = reasoned(60, "{why}からである。\n答え: {letter}")[:30] + reasoned(60, "条文のとおりである。\n答え: {letter}")[30:]
    assert codes(template_findings(one_in_two)) == ["template-share"]
    pasted = [row(f"問{n}", f"正しいのは{text}である。\n答え: a", id=str(n), mode="cot", question=f"問{n}", choices={"a": text, "b": "乙甲", "c": "丙甲", "d": "丁甲"}, correct="a") for n, text in enumerate(REASONS)]
    assert codes(template_findings(pasted)) == ["cot-template"], "a choice that is pasted in is no reason"
    unsaid = [row(f"問{n}\n（a）{text}\nb 乙甲", f"正しいのは{text}である。\n答え: a", id=str(n), mode="cot", correct="a") for n, text in enumerate(REASONS)]
    assert codes(template_findings(unsaid)) == ["cot-template"], "nor is a line of the prompt, where no meta.choices says that it is one"


def test_templates_of_rows_that_are_never_trained_are_a_note(tmp_path):
    lines = [{"input": f"問い{n}", "output": f"条文のとおりである。\n答え: {'abcd'[n % 4]}", "meta": {"id": f"q{n}", "mode": "cot"}} for n in range(20)]
    (train, test) = examine_files([write_rows(tmp_path / f"{name}.jsonl", lines) for name in ("train", "test")], against={})
    found = [{item.code: item.severity for item in report.findings}["cot-template"] for report in (train, test)]
    assert found == ["error", "note"]


@pytest.mark.parametrize("output", ["答え: a", "a", "Reasoning:\nAnswer: a", "<think>\n\n</think>\n\n正解はaです。", "理由：\n最終的な答え: 選択肢a"])
def test_cot_empty(output):
    assert reasoning_length(output) < 6
    assert codes(empty_reason_findings([row(output=output, mode="cot", correct="a")])) == ["cot-empty"]
    assert empty_reason_findings([row(output=output, mode="cot", correct="a", scoring_only=True), row(output="a", mode="direct")]) == []
    assert empty_reason_findings([row(output=f"借地権は三十年とする。\n{output}", mode="cot", correct="a")]) == []


def test_refuse_unfit():
    with pytest.raises(InputError, match=r"recipes/x\.yaml: the training rows.*(?s:.*)cot-template: .*140"):
        refuse_unfit(reasoned(140, "条文のとおりである。\n答え: {letter}"), "recipes/x.yaml")
    with pytest.raises(InputError, match="contradiction: "):
        refuse_unfit([asked("b"), asked("c")], "x")
    refuse_unfit([asked("b"), *reasoned(24, "{why}からである。\n答え: {letter}")], "x")


@given(st.text())
def test_masking_a_template_twice_changes_nothing(text):
    assert mask_template(mask_template(text)) == mask_template(text)


def test_low_diversity():
    assert diversity_findings(rows_of([foreign_record(item, mode="direct") for item in sample_questions(400)])) == []
    assert codes(diversity_findings([row("期間は日か" * (n + 1), "a") for n in range(100)])) == ["low-diversity"]
    assert distinct_ngrams(["あいあい"], 2, characters=4) == pytest.approx(2 / 3)
    assert distinct_ngrams(["あい"], 2, characters=4) is None


# What stands in the prompts ----------------------------------------------------------------------

CONTRADICTING = [
    "以下の法令条文に基づいて答えてください。\n\n【法令条文】\n（法令条文が提供されていません）\n\n【質問】\n期間は。",
    "上記の法令条文の内容のみを根拠に、一つ選んでください。\n【質問】\n期間は。",
    "条文に照らして答えてください。\n\n期間は。",
    "次の条文を読み、答えてください。\n\n【条文】\nなし\n\n【問題】\n金融商品取引法第5条により、期間は。",
]
CONSISTENT = [
    "以下の法令条文に基づいて答えてください。\n\n【法令条文】\n借地借家法 第3条\n借地権の存続期間は、三十年とする。\n\n【質問】\n期間は。",
    "次の条文を読み、答えてください。\n\n" + "借地権の存続期間は三十年とし契約でこれより長い期間を定めたときはその期間とするものとされている。" * 2 + "\n\n期間は。",
    "次の法律問題を読み、最も適切な選択肢を一つ選んでください。\n\n【問題】\n次の規定のうち正しいものはどれか。",
    "あなたの知識に基づいて、次の質問に答えてください。",
]


@pytest.mark.parametrize("prompt", CONTRADICTING)
def test_statutes_not_shown(prompt):
    (found,) = prompted(claim_findings, row(prompt))
    assert (found.code, found.severity) == ("statutes-not-shown", "error")


@pytest.mark.parametrize("prompt", CONSISTENT)
def test_statutes_shown_or_not_spoken_of(prompt):
    assert prompted(claim_findings, row(prompt)) == []


def test_a_question_may_speak_of_statutes():
    text = "上記の条文のみに基づいて判断される事項はどれか。"
    assert prompted(claim_findings, row(f"問いに答えてください。\n{text}\na 甲", question=text, choices={"a": "甲"})) == []


def test_duplicate_passage():
    passage = "借地権の存続期間は、三十年とする。ただし、契約でこれより長い期間を定めたときは、その期間とする。"
    (found,) = prompted(passage_findings, row("\n\n".join([f"借地借家法 第3条\n{passage}"] * 3)), row(passage))
    assert (found.code, found.count, "up to 3×" in found.message) == ("duplicate-passage", 1, True)
    for key, listed in (("statutes", ["甲は、乙とする。"] * 2), ("passages", [{"text": "甲は、乙とする。"}] * 2)):
        assert codes(prompted(passage_findings, row("甲は、乙とする。", **{key: listed}))) == ["duplicate-passage"]
    assert prompted(passage_findings, row(f"{passage}\n{passage[:-3]}である。"), row("短い文。\n短い文。")) == []


def test_form_of_the_answer():
    assert codes(prompted(form_findings, row("…\n回答（1文字のみ）:", "Answer: a", correct="a"))) == ["letter-asked"]
    assert codes(prompted(form_findings, row("理由を述べ、最後に答えを書いてください。", "a"))) == ["reasons-asked"]
    fitting = [row("…\n回答（1文字のみ）:", "a"), row("理由を述べ、最後に記号一文字を書いてください。", "甲は乙だから。\n答え: a", correct="a"), row("理由を述べずに答えてください。", "a")]
    assert prompted(form_findings, *fitting, row("まず理由を述べてください。", "答え: a", correct="a", scoring_only=True)) == []


def test_primed_letter():
    assert codes(prompted(priming_findings, row("「Answer: a」の形で答えてください。"))) == ["primed-letter"]
    assert codes(prompted(priming_findings, row("例題\n回答: b\n\n本題"))) == ["primed-letter"]
    rotated = [row(f"例題\n回答: {letter}\n\n本題", number=n) for n, letter in enumerate("abcd")]
    assert prompted(priming_findings, *rotated) == []
    assert prompted(priming_findings, row("回答（1文字のみ）:"), row("答え:\na 甲\nb 乙"), row("回答: a, b, c, d のいずれか"), row("答え: a/b/c/d")) == []


# The texts as texts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("甲\u202e乙", "invisible-character"),
        ("甲\u200b乙", "invisible-character"),
        ("甲\ufeff乙", "invisible-character"),
        ("甲\ue000乙", "invisible-character"),
        ("甲\x07乙", "invisible-character"),
        ("か\u3099", "invisible-character"),
        ("甲\ufffd乙", "broken-text"),
        ("豕｡莉､ 縺薙ｌ縺ｯ縺昴ｌ縺ｧ縺吶", "broken-text"),
        ("これは".encode().decode("cp1252", errors="replace").replace("\ufffd", ""), "broken-text"),
        ("甲\ud800乙", "unencodable-character"),
    ],
)
def test_characters(text, code):
    (found,) = character_findings([row(text)])
    assert found.code == code
    found.examples[0].excerpt.encode()
    assert not list(find_characters(visible(text))) or code == "broken-text"


def test_normal_japanese_has_no_forbidden_characters():
    text = "第１条　「甲」は、乙（丙を除く。）とする。\n\t①　縺れた糸 café 👨‍👩‍👧 ❤️ 葛󠄀城市 ～―…ﾊﾝｶｸ\r\n"
    assert character_findings([row(text)]) == []


def test_turn_markup():
    assert codes(markup_findings([row("<USER>\n問い\n<ASSISTANT>")])) == ["turn-markup"]
    assert codes(markup_findings([row(output="a<|im_end|>")])) == ["turn-markup"]
    assert markup_findings([row("条文 < 10 かつ a|b >、<think>考え</think>、USER が")]) == []


MY_NUMBER, CORPORATE, CARD = "621498320257", "5835678256246", "4111111111111111"  # examples of python-stdnum's documentation and of card makers


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("03-1234-5678", "phone number"),
        ("０９０－１２３４－５６７８", "phone number"),
        ("09012345678", "phone number"),
        ("taro.yamada@corp.co.jp", "mail address"),
        ("〒100-0013 東京都千代田区霞が関1-2-3", "postal address"),
        ("東京都千代田区霞が関1-2-3", "postal address"),
        ("神奈川県横浜市中区日本大通１丁目２番３号", "postal address"),
        ("TEL:0312345678", "phone number"),
        ("電話番号：０３１２３４５６７８", "phone number"),
        (MY_NUMBER, "My Number"),
        ("6214 9832 0257", "My Number"),
        (CORPORATE, "corporate number"),
        ("4111 1111 1111 1111", "card number"),
    ],
)
def test_personal_data(text, kind):
    assert {found[0] for found in find_personal(f"甲の{text}である")} == {kind}
    (found,) = personal_findings([row(f"甲の{text}である")])
    assert (found.code, found.severity) == (("corporate-number", "note") if kind == "corporate number" else ("personal-data", "warning"))
    assert kind in found.examples[0].excerpt and text.removeprefix("TEL:").removeprefix("電話番号：") not in found.examples[0].excerpt


@pytest.mark.parametrize("text", ["621498320258", "000000000000", "4111111111111112", "x@example.com", "2024-10-11", "0312345678", "東京都千代田区の第1条", "都道府県知事又は市町村長は第1項から第3項まで", "第12条第3項", "令和5年法律第53号", "123-4567", "03-0000-0000", "403AC0000000090"])
def test_no_personal_data(text):
    assert list(find_personal(f"甲の {text} である")) == []


@given(st.text(), st.sampled_from(["03-1234-5678", "taro@corp.co.jp", MY_NUMBER, "4111 1111 1111 1111"]), st.text())
def test_personal_data_is_masked_wherever_it_stands(before, value, after):
    text = f"{before}　{value}　{after}"
    assert value not in mask_personal(text)
    assert value not in example("rows.jsonl:1", text, text).excerpt + example("rows.jsonl:1", text, text).id


def test_long_output():
    assert codes(long_output_findings([row(output="あ" * 11), row()], 10)) == ["long-output"]
    assert long_output_findings([row(output="あ" * 10)], 10) == []


# Between rows and files --------------------------------------------------------------------------


def test_near_duplicates():
    text = "係留索を取り替えた場合に、係留業者が新しい係留索の強度を庭園管理庁に報告すべき期限はどれか。"
    (found,) = near_duplicate_findings([row(text, number=1), row(text + "答えよ", number=2), row("別の、まったく異なる問いである。", number=3)])
    assert (found.code, found.count, found.examples[0].place) == ("near-duplicate", 1, "rows.jsonl:2")
    assert codes(near_duplicate_findings([row(text, number=1, id="x"), row(text, number=2, id="y")])) == ["near-duplicate"]
    permuted = [row(f"{text}\n" + "\n".join(f"{letter}. {choice}" for letter, choice in zip("abcd", order, strict=True)), number=n) for n, order in enumerate((["甲一", "乙二", "丙三", "丁四"], ["丁四", "甲一", "乙二", "丙三"]))]
    assert near_duplicate_findings(permuted) == [], "the choices in another order, though no id says so"
    assert near_duplicate_findings([row("話してください", f"{n}番目の、まったく違う話である。", number=n) for n in (1, 2)]) == [], "one request, two answers"


def test_leakage():
    held_out = [asked("b", id="q", number=1)]
    (found,) = leakage_findings([asked("b", id="q", order="bcda"), row("別の問いはどれか")], "data/x/test.jsonl", held_out)
    assert (found.code, found.severity, found.count, found.total) == ("leakage", "error", 1, 2)
    assert "data/x/test.jsonl" in found.message and "same id" in found.message
    (found,) = benchmark_findings([asked("b", id="q")], held_out)
    assert (found.code, found.severity) == ("benchmark-rows", "warning")
    assert leakage_findings([row("別の問いはどれか")], "t", held_out) == []


def test_one_article_is_not_one_question():
    benchmark = [asked("b", id="q", provisions=["借地借家法/main/3"])]
    derived = row("別の問いはどれか", provisions=["借地借家法/main/3"], id="derived-1", dataset="derived")
    assert benchmark_findings([derived], benchmark) == []
    assert codes(leakage_findings([derived], "t", benchmark)) == ["leakage"], "in a split of its own data it still leaks"
    copied = asked("b", id="mine", provisions=["借地借家法/main/3"])
    (found,) = benchmark_findings([derived, copied], benchmark)
    assert (found.count, found.examples[0].excerpt.startswith("same prompt")) == (1, True)


def test_reused_ids():
    other = question(question="まったく別の事項について、正しいものはどれか。")
    reused = row(other.question, "a", number=2, id="q", question=other.question, choices=other.choices)
    (found,) = id_findings([asked("b", id="q"), reused])
    assert (found.code, found.severity, found.count, found.total) == ("id-reused", "error", 1, 1)
    assert found.examples[0].place == "rows.jsonl:2" and "the id of line 1" in found.examples[0].excerpt
    assert id_findings([asked("b", id="q", order=order) for order in ORDERS]) == []
    assert id_findings([asked("b", id="q", dataset="x"), row("別", id="q", dataset="y"), asked("b"), row("別")]) == []
    frame = "次の問いに記号一文字で答えてください。\n{}\n答え:"
    texts = ["借地権の存続期間は何年か。", "取締役の任期は何年か。", "届出の期限はいつか。"]
    rows = [row(frame.format(text), number=n, id="q" if n < 2 else "r") for n, text in enumerate(texts)]
    assert codes(id_findings(rows)) == ["id-reused"], "no meta says what is the question"
    again = row(f"理由を述べてください。\n問い：{texts[0]}", id="q")
    assert id_findings([rows[0], again, rows[2]]) == [], "one question, asked in two ways"


def test_strict_makes_warnings_errors():
    findings = [*letter_findings([row(output="a", number=n) for n in range(30)], trained=True), *personal_findings([row(CORPORATE)])]
    assert [found.severity for found in with_strictness(findings, strict=True)] == ["error", "note"]
    assert with_strictness(findings, strict=False) == findings


def test_every_faulty_line_is_a_finding_and_the_others_are_examined(tmp_path):
    good = foreign_record(sample_questions(1)[0], mode="direct", top_k=1)
    lines = ["{", json.dumps(good, ensure_ascii=False), '{"input": "", "output": "a"}', '{"question": 1}', json.dumps(good, ensure_ascii=False), "[]", '{"messages": [{"role": "x", "content": "y"}]}']
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    rows, findings, role = read_data(path)
    assert (len(rows), role) == (1, "train")
    assert {found.code: (found.severity, found.count) for found in findings} == {"not-json": ("error", 1), "empty": ("error", 1), "exact-duplicate": ("error", 1), "format": ("error", 3)}
    assert findings[-1].examples[0].place == f"{path}:5"
    path.write_bytes("問い".encode("cp932"))
    assert codes(read_data(path)[1]) == ["encoding"]
    path.write_text(f"[{json.dumps(good)}]", encoding="utf-8")
    assert codes(read_data(path)[1]) == ["format"]
    path.write_text("", encoding="utf-8")
    assert codes(read_data(path)[1]) == ["empty"]
    with pytest.raises(InputError, match="cannot be found"):
        examine_files([tmp_path / "none.jsonl"], against={})


def test_what_a_reader_can_do_about_a_file_is_said(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"input": "問い"}'.encode("utf-16"))
    (found,) = read_data(path)[1]
    assert found.code == "encoding" and "iconv -f UTF-16 -t UTF-8" in found.message
    array = tmp_path / "rows.json"
    array.write_text('[{"input": "問い", "output": "a"}]', encoding="utf-8")
    (found,) = read_data(array)[1]
    assert found.code == "format" and f"jq -c '.[]' {array} > rows.jsonl" in found.message

    def refused(_):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.read_bytes", refused)  # the superuser may read every file
    with pytest.raises(InputError, match="no permission to read it"):
        read_text(path)


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"instruction": "期間は何年か。", "input": "借地権", "output": "三十年"}, ["`instruction`: unknown key", "jq -c '{input: "]),
        ({"instruction": "期間は何年か。", "input": "", "output": "三十年"}, ["`instruction`: unknown key"]),
        ({"conversations": [{"from": "human", "value": "問い"}, {"from": "gpt", "value": "答え"}]}, ["expected {", "jq -c '{messages: "]),
        ({"system": "法律家です。", "prompt": "問い", "completion": "答え"}, ["`system`: unknown key", "role system"]),
        ({"history": [["甲", "乙"]], "input": "問い", "output": "答え"}, ["`history`: unknown key", "earlier turns"]),
        ({"context": "条文", "input": "問い", "output": "答え"}, ["`context`: unknown key", "belongs into the prompt"]),
        ({"messages": [{"role": "user", "content": "問い"}, {"role": "assistant", "content": "答え"}], "output": "b"}, ["`output`: unknown key"]),
    ],
)
def test_no_part_of_a_row_is_left_out_in_silence(tmp_path, record, named):
    problems = "\n".join(record_problems(record))
    assert all(part in problems for part in named), problems
    rows, findings, _ = read_data(write_rows(tmp_path / "rows.jsonl", [record]))
    assert (rows, codes(findings)) == ([], ["format"])
    script = re.search(r"jq -c '(.*?)'", problems)
    if script and shutil.which("jq"):
        converted = json.loads(subprocess.run(["jq", "-c", script[1]], input=json.dumps(record), capture_output=True, text=True, check=True).stdout)
        assert record_problems(converted) == []
        said = list(record["conversations"][0].values()) if "conversations" in record else [record["instruction"], record["input"]]
        assert said[-1] in str(converted) and (said[0] == "human" or said[0] in str(converted))


def test_what_only_describes_a_row_may_stand_beside_it():
    assert record_problems({"input": "問い", "output": "a", "meta": None, "id": 7, "source": "x", "license": "PDL", "system": "", "history": []}) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(st.characters(), min_size=1), st.text(st.characters(), min_size=1), st.dictionaries(st.sampled_from(["id", "mode", "question", "passages", "statutes"]), st.text() | st.lists(st.text())))))
def test_the_doctor_never_fails_on_rows_it_can_read(texts):
    rows = [row(prompt, output, number=n, **meta) for n, (prompt, output, meta) in enumerate(texts)]
    for found in examine(rows, evaluation={"itself": rows[:2]}, max_output=3):
        assert found.severity in ("error", "warning", "note") and found.mend and found.count <= found.total
        for item in found.examples:
            (item.place + item.id + item.excerpt + found.message).encode()
            assert "\n" not in item.excerpt


# The command -------------------------------------------------------------------------------------


def foreign_faults(tmp_path, questions, against):
    """Findings of the two files as that project had them, per file."""
    rag = write_rows(tmp_path / "ft_cot_rag_top3.jsonl", [foreign_record(item) for item in questions])
    no_rag = write_rows(tmp_path / "ft_cot_norag.jsonl", [foreign_record(item, top_k=0) for item in questions])
    result = run_lawft("check", rag, no_rag, "--against", against, "--json", LAWFT_LAWQA_DIR="")
    assert result.returncode == 2, result.stderr
    assert re.search(r"\d+ errors, \d+ warnings(, \d+ notes)? found", result.stderr)
    return {report["file"]: {found["code"]: found for found in report["findings"]} for report in json.loads(result.stdout)["reports"]}.values()


def test_a_project_in_its_real_state(tmp_path):
    questions = sample_questions()
    held_out = write_rows(tmp_path / "held_out.jsonl", [foreign_record(item, mode="direct") for item in questions[::4]])
    rag, no_rag = foreign_faults(tmp_path, questions, held_out)
    assert rag["cot-template"]["severity"] == no_rag["cot-template"]["severity"] == "error"
    assert no_rag["statutes-not-shown"]["count"] == 140 and "statutes-not-shown" not in rag
    assert "up to 3×" in rag["duplicate-passage"]["message"] and "duplicate-passage" not in no_rag
    assert "always c scores 34.3 %" in rag["letter-skew"]["message"]
    assert "same id 35×" in rag["leakage"]["message"] and rag["leakage"]["severity"] == "error"
    assert "letter-asked" in rag and len(rag["leakage"]["examples"]) == 3


def test_that_project_on_real_lawqa(lawqa_dir, tmp_path):
    data = tmp_path / "lawqa"
    run_lawft("data", "lawqa", "--from", lawqa_dir, "--out", data, check=True)
    rag, no_rag = foreign_faults(tmp_path, lawqa_questions(lawqa_dir), data)
    held_out = len(json.loads((data / "manifest.json").read_text(encoding="utf-8"))["splits"]["test"]["ids"])
    for faults in (rag, no_rag):
        assert faults["leakage"]["count"] == held_out
        assert faults["cot-template"]["count"] == 140
        assert "always c scores 34.3 %" in faults["letter-skew"]["message"]
    assert rag["duplicate-passage"]["count"] > 130 and no_rag["statutes-not-shown"]["count"] == 140


@pytest.mark.parametrize("source", ["sample", "lawqa"])
def test_what_lawft_data_writes_has_no_errors_and_no_warnings(request, tmp_path, source):
    out = tmp_path / source
    if source == "sample":
        out = request.getfixturevalue("sample_data")
    else:
        run_lawft("data", "lawqa", "--from", request.getfixturevalue("lawqa_dir"), "--out", out, check=True)
    result = run_lawft("check", out, "--strict", "--json", check=True)
    reports = json.loads(result.stdout)["reports"]
    assert len(reports) >= 6
    assert {found["severity"] for report in reports for found in report["findings"]} <= {"note"}


def test_check_of_data_prints_tables_and_counts_tokens(tmp_path):
    path = write_rows(tmp_path / "train.jsonl", [foreign_record(item, mode="direct", top_k=1) for item in skewed(sample_questions(40), (10, 10, 10, 10))])
    prices = tmp_path / "prices.yaml"
    prices.write_text(f"date: 2026-01-31\ncurrency: JPY\nmodels: {{{TINY_MODEL}: {{training: 1000}}}}\n", encoding="utf-8")
    plain = run_lawft("check", path, COLUMNS="80", LAWFT_LAWQA_DIR="", check=True)
    assert "40 rows, 40 questions, answers a/b/c/d 10/10/10/10" in plain.stdout
    assert not re.search("error|warning", plain.stdout) and max(map(len, plain.stdout.splitlines())) <= 80 + len(str(path))
    shown = run_lawft("check", path, "--tokenizer", TINY_MODEL, "--epochs", "3", "--prices", prices, LAWFT_LAWQA_DIR="", check=True).stdout
    tokens, cost = int(re.search(r"(\d+) tokens × 3 epochs", shown)[1]), float(re.search(r"([\d.,]+) JPY \(prices of 2026-01-31\)", shown)[1].replace(",", ""))
    assert cost == pytest.approx(tokens * 3 * 1000 / 1e6, abs=0.01)
    unpriced = run_lawft("check", path, "--tokenizer", TINY_MODEL, LAWFT_LAWQA_DIR="", check=True).stdout
    assert "no price (--prices FILE)" in unpriced


def test_what_is_neither_data_nor_a_recipe_is_named_as_both(tmp_path):
    table = tmp_path / "foo.csv"
    table.write_text("a,b\n", encoding="utf-8")
    for name, data in (("nodir", "as data: no such file or folder"), (str(table), "as data: neither a .jsonl or .json file nor a folder")):
        result = run_lawft("check", name)
        assert result.returncode == 2 and f"{name}: no data and no recipe" in result.stderr
        assert data in result.stderr and "as a recipe: " in result.stderr and "no such recipe" in result.stderr


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    path = tmp_path / "empty.jsonl"
    path.write_text("", encoding="utf-8")
    result = run_lawft("check", path, LAWFT_LAWQA_DIR="")
    assert (result.returncode, "the file is empty" in result.stdout, "0 of 0" in result.stdout) == (2, True, False)


def test_prices_are_dated_and_whole(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text("date: soon\nmodels: {m: {training: -1}}\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_prices(path, "m", ("training",))
    assert all(word in str(caught.value) for word in ("3 error(s)", "`date`", "`currency`", "`models.m.training`"))


def test_strict_and_the_json_file(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [foreign_record(item, mode="direct", top_k=1) for item in sample_questions()])
    assert run_lawft("check", path, LAWFT_LAWQA_DIR="").returncode == 0
    report = tmp_path / "report.json"
    strict = run_lawft("check", path, "--strict", "--json", report, LAWFT_LAWQA_DIR="")
    assert (strict.returncode, "1 error" in strict.stderr) == (2, True)
    assert json.loads(report.read_text(encoding="utf-8"))["reports"][0]["findings"][0]["code"] == "letter-skew"
    before = path.read_bytes()
    refused = run_lawft("check", "--json", path, report)
    assert (refused.returncode, "not overwritten" in refused.stderr, path.read_bytes()) == (2, True, before)


def test_check_of_a_recipe_adds_the_findings(sample_data, tmp_path):
    (train,), (dev,), (test,) = (sorted((sample_data / "direct_gold").glob(f"{name}*.jsonl")) for name in ("train", "dev", "test"))
    files = [f"data.dev={first_rows(dev, 8, tmp_path)}", f"data.test={first_rows(test, 12, tmp_path)}", f"training.output_dir={tmp_path / 'run'}"]
    lines = train.read_text(encoding="utf-8").splitlines()[::4]
    skewed_rows = [line for line in lines if json.loads(line)["output"] in "ab"][:60]
    mine = tmp_path / "mine.jsonl"
    mine.write_text("\n".join(skewed_rows), encoding="utf-8")
    shown = run_lawft("check", "tiny_direct_gold", f"data.train={mine}", *files, LAWFT_LAWQA_DIR="", check=True).stdout
    assert "letter-skew" in shown and "keep the supervision contract" in shown
    strict = lawft_here("check", "tiny_direct_gold", f"data.train={mine}", *files, "--strict", LAWFT_LAWQA_DIR="")
    assert (strict.returncode, "1 error" in strict.stderr) == (2, True)


def test_the_manual_names_every_finding():
    codes_in_code = set(re.findall(r'code="([a-z-]+)"', "".join(path.read_text(encoding="utf-8") for path in (ROOT / "lawft_trl" / "doctor").glob("*.py"))))
    codes_in_code |= {"unencodable-character", "broken-text", "invisible-character", "letter-asked", "reasons-asked", "not-json", "exact-duplicate"}
    headings = set(re.findall(r"^\| `([a-z][a-z-]+)` \|", (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert headings == codes_in_code
