"""Dialogues: every kind of fault with its place and mend, the cleaning and its counts, windows, splits, and rows that train."""

import csv
import dataclasses
import io
import json

import pytest
from conftest import QUICKSTART, run_lawft
from hypothesis import given
from hypothesis import strategies as st

from lawft_trl.data.chat import end_of_turn, prompt_text
from lawft_trl.data.dialogue_problems import RULES, clean_text
from lawft_trl.data.dialogue_rows import build_dialogues, windows
from lawft_trl.data.dialogues import Conversation, clean, load_conversations, validate_dataset
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.rows import read_rows, select_rows
from lawft_trl.doctor.examine import examine, refuse_unfit
from lawft_trl.errors import InputError
from lawft_trl.training.supervision import encode_rows

SHARES = {"test": 0.1, "dev": 0.1}


def talk(*texts, **more):
    """A conversation of alternating turns, the user's first."""
    return {**more, "messages": [{"role": ("user", "model")[turn % 2], "content": text} for turn, text in enumerate(texts)]}


def turn(role="user", content="正義とは何ですか。", **more):
    return {"role": role, "content": content, **more}


GOOD = talk("正義とは何ですか。", "君は正義を何だと思うのかね？", id="c1")
ANSWER = turn("model", "では、君はどう思うのかね？")


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def lines(*records):
    return "\n".join(json.dumps(record, ensure_ascii=False) for record in records)


def one(*messages, **more):
    return lines({**more, "messages": list(messages)})


# kind -> (file name, content, where the fault is said to be, a part of the mend). One file, one fault.
FAULTS = {
    "file type": ("d.txt", "x", "d.txt", "name it .json, .jsonl, .csv"),
    "unreadable": ("d.jsonl", lines(GOOD).encode("cp932"), "d.jsonl", "iconv -f CP932"),
    "empty file": ("d.jsonl", " \n", "d.jsonl", "at least one conversation"),
    "not JSON": ("d.json", '[{"messages": []},\n ]', "d.json:2", "mend the JSON there"),
    "line not JSON": ("d.jsonl", lines(GOOD) + '\n{"messages": [', "d.jsonl:2", "one whole conversation"),
    "not a list": ("d.json", json.dumps(GOOD), "d.json", "put it into [ ]"),
    "one bare conversation": ("d.json", json.dumps(GOOD["messages"]), "d.json", "[ ] once more"),
    "mixed forms": ("d.json", json.dumps([GOOD, talk("徳は。", "君は何を徳と呼ぶのかね？")["messages"]]), "d.json", "write all as"),
    "not a conversation": ("d.jsonl", lines(GOOD, 7), "d.jsonl:2, conversation d:2", '"messages": [...]'),
    "unknown key": ("d.jsonl", lines({**GOOD, "speaker": "x"}), "d.jsonl:1, conversation c1", "known are id, topic, group, messages"),
    "bad id": ("d.jsonl", lines({**GOOD, "id": ""}), "d.jsonl:1, conversation d:1", "non-empty line"),
    "bad topic": ("d.jsonl", lines({**GOOD, "topic": 3}), "d.jsonl:1, conversation c1", "leave it out"),
    "bad group": ("d.jsonl", lines({**GOOD, "group": " "}), "d.jsonl:1, conversation c1", "leave it out"),
    "no messages": ("d.jsonl", lines({"id": "c1"}), "d.jsonl:1, conversation c1", 'write "messages"'),
    "messages not a list": ("d.jsonl", lines({"messages": "正義"}), "d.jsonl:1, conversation d:1", "one object for every turn"),
    "not a message": ("d.jsonl", one(turn(), "はい", ANSWER), "d.jsonl:1, conversation d:1, turn 2", 'write {"role"'),
    "unknown message key": ("d.jsonl", one(turn(name="太郎"), ANSWER), "conversation d:1, turn 1", "would not be trained"),
    "no role": ("d.jsonl", one({"content": "はい"}, ANSWER), "conversation d:1, turn 1", "write user or model"),
    "system role": ("d.jsonl", one(turn("system"), turn(), ANSWER), "conversation d:1, turn 1", "the first turn of the user"),
    "unknown role": ("d.jsonl", one(turn("human"), ANSWER), "conversation d:1, turn 1", "write user"),
    "no content": ("d.jsonl", one({"role": "user"}, ANSWER), "conversation d:1, turn 1", "write the turn's text"),
    "content not text": ("d.jsonl", one(turn(content=["正義"]), ANSWER), "conversation d:1, turn 1", "the text alone"),
    "empty content": ("d.jsonl", one(turn(content=" \u200b\n"), ANSWER), "conversation d:1, turn 1", "write the turn's text"),
    "half a character": ("d.jsonl", '{"messages": [{"role": "user", "content": "\\ud83d"}, {"role": "model", "content": "何かね"}]}', "turn 1", "whole character"),
    "lost characters": ("d.jsonl", one(turn(content="正\ufffd"), ANSWER), "conversation d:1, turn 1", "iconv"),
    "template markup": ("d.jsonl", one(turn(), turn("model", "何かね<end_of_turn>")), "conversation d:1, turn 2", "remove it"),
    "key twice": ("d.jsonl", '{"messages": [{"role": "user", "content": "一", "content": "二"}, {"role": "model", "content": "何かね"}]}', "turn 1", "keep one"),
    "tutor begins": ("d.jsonl", one(ANSWER, turn(), ANSWER), "conversation d:1, turn 1", "begin with a turn of the user"),
    "roles do not alternate": ("d.jsonl", one(turn(), turn(), ANSWER), "conversation d:1, turn 2", "join them into one"),
    "user ends": ("d.jsonl", one(turn(), ANSWER, turn()), "conversation d:1, turn 3", "write the tutor's turn"),
    "id used twice": ("d.jsonl", lines(GOOD, talk("徳は。", "何かね。", id="c1")), "d.jsonl:2, conversation c1", "an id of its own"),
    "duplicate conversation": ("d.jsonl", lines(GOOD, {**GOOD, "id": "c2"}), "d.jsonl:2, conversation c2", "leaves it out"),
    "columns": ("d.csv", "id,role,content\nc1,user,正義は\n", "d.csv:1", "conversation_id, role, content"),
    "not CSV": ("d.csv", 'conversation_id,role,content\nc1,user,"正義は', "d.csv:2", 'written ""'),
    "cells": ("d.csv", "conversation_id,role,content\nc1,user,はい\nc1,model\nc1,model,何かね\n", "d.csv:3", "empty cell"),
    "no conversation_id": ("d.csv", "conversation_id,role,content\nc1,user,はい\n,user,はい\nc1,model,何かね\n", "d.csv:3", "every line"),
    "lines apart": (
        "d.csv",
        "conversation_id,role,content\nc1,user,はい\nc2,user,徳は\nc2,model,何かね\nc1,model,何かね\n",
        "d.csv:5, conversation c1, turn 2",
        "sort the lines",
    ),
    "turn number": (
        "d.csv",
        "conversation_id,turn,role,content\nc1,1,user,はい\nc1,3,model,何かね\n",
        "d.csv:3, conversation c1, turn 2",
        "write 2",
    ),
    "two of topic": (
        "d.csv",
        "conversation_id,topic,role,content\nc1,法,user,はい\nc1,徳,model,何かね\n",
        "d.csv:3, conversation c1, turn 2",
        "the same on every line",
    ),
    "newlines": ("d.jsonl", one(turn(content="はい\r\n二行"), ANSWER), "conversation d:1, turn 1", "the cleaning mends it"),
    "invisible characters": ("d.jsonl", one(turn(content="は\ufeffい"), ANSWER), "conversation d:1, turn 1", "the cleaning mends it"),
    "control characters": ("d.jsonl", one(turn(content="は\u0007い"), ANSWER), "conversation d:1, turn 1", "the cleaning mends it"),
    "half-width kana": ("d.jsonl", one(turn(content="ｿｸﾗﾃｽです"), ANSWER), "conversation d:1, turn 1", "the cleaning mends it"),
    "composed letters": ("d.jsonl", one(turn(content="て\u3099は"), ANSWER), "conversation d:1, turn 1", "the cleaning mends it"),
    "space at line ends": ("d.jsonl", one(turn(content="はい \n二行"), ANSWER), "conversation d:1, turn 1", "the cleaning mends it"),
    "long white space": ("d.jsonl", one(turn(content="はい　　　二"), ANSWER), "conversation d:1, turn 1", "the cleaning mends it"),
    "outer white space": ("d.jsonl", one(turn(content=" はい"), ANSWER), "conversation d:1, turn 1", "the cleaning mends it"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_of_fault_has_its_place_and_mend(tmp_path, kind):
    name, content, place, mend = FAULTS[kind]
    path = written(tmp_path, name, content)
    (fault,) = validate_dataset(path)
    assert fault.kind == kind
    assert place in str(fault) and mend in str(fault), str(fault)
    if fault.cleaned:
        assert clean(load_conversations(path)).counts == {kind: 1}
    else:
        with pytest.raises(InputError, match=kind):
            load_conversations(path)


def test_all_faults_of_all_files_are_said_at_once(tmp_path):
    paths = []
    for number, (kind, (name, content, _, _)) in enumerate(FAULTS.items()):
        (tmp_path / str(number)).mkdir()
        paths.append(written(tmp_path / str(number), name, content))
        assert kind in {fault.kind for fault in validate_dataset(paths)}
    assert {fault.kind for fault in validate_dataset(paths)} == set(FAULTS)
    result = run_lawft("data", "dialogues", *paths, "--out", tmp_path / "out")
    assert (result.returncode, (tmp_path / "out").exists(), "Traceback" in result.stderr) == (2, False, False)
    said = [str(fault) for fault in validate_dataset(paths) if not fault.cleaned]
    assert len(said) > 30 and all(f"  - {fault}\n" in result.stderr for fault in said)


words = st.sampled_from(["id", "topic", "group", "messages", "role", "content", "user", "model", "system", "はい", "", " ", "\ud800", "\n", "\0"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | words | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=15,
)
messages = st.lists(st.fixed_dictionaries({"role": words, "content": words}), max_size=4)

talks = st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=3).map(lambda pairs: talk(*(text for pair in pairs for text in pair)))


@given(st.lists(talks, max_size=3) | st.lists(values | messages | st.fixed_dictionaries({"messages": messages}, optional={"id": values, "topic": values}), max_size=5), st.text())
def test_whatever_a_file_holds_it_is_read_or_its_faults_are_named(tmp_path_factory, records, text):
    folder = tmp_path_factory.mktemp("any")
    for name, content in (("d.jsonl", "\n".join(map(json.dumps, records))), ("d.json", json.dumps(records)), ("d.csv", f"conversation_id,role,content\n{text}")):
        path = written(folder, name, content)
        faults = validate_dataset(path)
        assert all(str(fault).encode("utf-8") and fault.kind for fault in faults)
        if all(fault.cleaned for fault in faults):
            cleaned = clean(load_conversations(path)).conversations
            assert cleaned and validate_dataset(written(folder, "again.jsonl", lines(*({"id": item.id, "messages": list(item.messages)} for item in cleaned)))) == []


def test_a_conversation_without_faults_has_none(tmp_path):
    path = written(tmp_path, "d.jsonl", "\ufeff" + lines(GOOD, talk("徳は。", "何かね。", "善です。", "善とは何かね？", topic="徳", id=2)))
    assert validate_dataset(path) == []
    first, second = load_conversations(path)
    assert (first.id, first.group, first.topic, first.source) == ("c1", "c1", "", f"{path}:1")
    assert (second.id, second.topic, len(second.messages)) == ("2", "徳", 4)
    assert [message["role"] for message in first.messages] == ["user", "assistant"]


def test_the_three_forms_say_the_same(tmp_path):
    records = [talk("正義とは、\n何ですか。", 'それを"正義"と呼ぶ君は、何を知るのかね？', id="c1", topic="法"), talk("徳は。", "何かね。", id="c2", topic="徳")]
    text = io.StringIO()
    out = csv.writer(text)
    out.writerow(["conversation_id", "topic", "turn", "role", "content"])
    for record in records:
        for number, message in enumerate(record["messages"], start=1):
            out.writerow([record["id"], record["topic"], number, {"model": "assistant"}.get(message["role"], message["role"]), message["content"]])
    paths = [
        written(tmp_path, "d.json", json.dumps(records)),
        written(tmp_path, "d.jsonl", lines(*records)),
        written(tmp_path, "d.csv", "\ufeff" + text.getvalue()),
    ]
    found = [[dataclasses.replace(item, source="") for item in load_conversations(path)] for path in paths]
    assert found[0] == found[1] == found[2]
    bare = load_conversations(written(tmp_path, "bare.jsonl", lines(*(record["messages"] for record in records))))
    assert [item.messages for item in bare] == [item.messages for item in found[0]]
    assert [item.id for item in bare] == ["bare:1", "bare:2"]


def test_conversations_without_ids_are_named_apart(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    texts = [lines(talk(f"{number}とは。", "何かね。")["messages"]) for number in range(4)]
    first, second = written(tmp_path / "a", "chat.jsonl", texts[0]), written(tmp_path / "b", "chat.jsonl", texts[1])
    third, fourth = written(tmp_path / "a", "chat.json", f"[{texts[2]}]"), written(tmp_path / "a", "other.jsonl", texts[3])
    named = {(first, third): ["chat.jsonl:1", "chat.json:1"], (first, second): ["a/chat.jsonl:1", "b/chat.jsonl:1"], (first, fourth): ["chat:1", "other:1"]}
    for paths, names in named.items():
        assert [item.id for item in load_conversations(paths)] == names
    assert [item.id for item in load_conversations([first, first])] == ["chat:1"] * 2, "a file that is named twice is a duplicate, which the cleaning mends"


@given(st.text(alphabet=st.sampled_from(" 　\t\r\n\x0b\x00\u200b\ufeffて\u3099か゛ｶﾞ｡？?君！ａ１③é")))
def test_cleaning_again_changes_nothing(text):
    once, _ = clean_text(text)
    assert clean_text(once) == (once, [])


def test_cleaning_leaves_the_marks_of_style_alone():
    text = "では、君は③を「２」と呼ぶのかね？！…ＡＢＣ①㈱"
    assert clean_text(text) == (text, [])
    assert set(RULES) <= set(FAULTS), "every rule is named among the kinds"


def test_duplicates_are_left_out_and_named(tmp_path):
    path = written(tmp_path, "d.jsonl", lines(GOOD, talk("正義とは何ですか。 ", "君は正義を何だと思うのかね？", id="c2"), GOOD))
    cleaned = clean(load_conversations(path))
    assert [item.id for item in cleaned.conversations] == ["c1"]
    assert cleaned.counts == {"outer white space": 1, "duplicate conversation": 2}
    assert cleaned.dropped == [f"c2 ({path}:2) = c1 ({path}:1)", f"c1 ({path}:3) = c1 ({path}:1)"]


def test_the_group_of_a_duplicate_is_not_lost(tmp_path):
    """a and b say the same, so d, which is of b's group, stays with a though b is left out."""
    same = ("正義とは何ですか。", "君は正義を何だと思うのかね？")
    others = {id: talk(f"{id}は徳ですか。", "何かね。", id=id) for id in ("d", "e", "z")}
    path = written(
        tmp_path,
        "d.jsonl",
        lines({**others["z"], "group": "g3"}, {**talk(*same, id="a"), "group": "g1"}, {**talk(f"{same[0]} ", same[1], id="b"), "group": "g2"})
        + "\n"
        + lines({**others["d"], "group": "g2"}, others["e"]),
    )
    assert {item.id: item.group for item in clean(load_conversations(path)).conversations} == {"z": "g3", "a": "g1", "d": "g1", "e": "e"}


def conversation(turns, id="c1"):
    messages = tuple({"role": ("user", "assistant")[place % 2], "content": f"{id}の{place}。"} for place in range(turns))
    return Conversation(id=id, group=id, messages=messages, source="d.jsonl:1")


@given(st.integers(1, 8).map(lambda pairs: 2 * pairs), st.none() | st.integers(2, 12), st.none() | st.integers(1, 40))
def test_windows(turns, max_turns, max_tokens):
    whole = conversation(turns)

    def count(prompt, output):
        return sum(len(message["content"]) for message in prompt) + len(output)

    found = list(windows(whole, max_turns=max_turns, max_tokens=max_tokens, count=count))
    assert [window.turn for window in found] == list(range(2, turns + 1, 2)), "one for every turn of the tutor"
    for window in found:
        assert window.prompt == whole.messages[window.left_out : window.turn - 1], "what is left out is at the beginning"
        assert window.output == whole.messages[window.turn - 1]["content"]
        assert window.prompt[0]["role"] == window.prompt[-1]["role"] == "user"
        assert max_turns is None or len(window.prompt) + 1 <= max_turns
        assert window.tokens == count(window.prompt, window.output)
        if max_tokens is not None and window.tokens > max_tokens:
            assert len(window.prompt) == 1, "nothing is left that could be left out"
        longer = whole.messages[max(0, window.left_out - 2) : window.turn - 1]
        if window.left_out:  # no more was left out than had to be
            assert (max_turns and len(longer) + 1 > max_turns) or (max_tokens and count(longer, window.output) > max_tokens)


TOPICS = {"正義": "国の掟に背くこと", "学び": "数の理を知ること", "友情": "友の秘密を守ること", "勇気": "海の嵐に向かうこと"}


def many(number=60):
    """Conversations that ask different things, and three traps: the same opening, nearly the same, and one group in two."""
    records = []
    for place in range(number):
        topic = list(TOPICS)[place % 4]
        said = "".join(chr(0x4E00 + (place * 97 + step * 31) % 5000) for step in range(30))
        turns = [f"{said}は{topic}ですか。", f"では、君は{topic}を何だと思うのかね？"]
        turns += ["はい、そう思います。", f"{TOPICS[topic]}は、どうだろうか。"] * (place % 3)
        records.append(talk(*turns, id=f"c{place:02d}", topic=topic))
    opening, long = records[0]["messages"][0]["content"], "".join(chr(0x6000 + step) for step in range(60))
    return [
        *records,
        talk(opening, "別の問いだが、君の望みは何かね？", id="same-opening", topic="学び"),
        talk(f"{long}ですか。", "何かね。", id="near-1", topic="勇気"),
        talk(f"{long}でしょうか。", "何だろうか。", id="near-2", topic="友情"),
        talk("甲の話です。一つ目です。", "何かね。", id="group-1", topic="正義", group="甲"),
        talk("乙も丙も丁もいません。", "何かね。", id="group-2", topic="学び", group="甲"),
    ]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_splits_share_nothing(tmp_path, seed):
    path = written(tmp_path, "talks.jsonl", lines(*many()))
    manifest = build_dialogues([path], tmp_path / "out", shares=SHARES, seed=seed)
    rows = {name.split("/")[1].split("_")[0]: read_rows(tmp_path / "out" / name) for name in manifest["files"]}
    assert sum(len(found) for found in rows.values()) == sum(len(record["messages"]) // 2 for record in many())
    assert {name: split["conversations"] for name, split in manifest["splits"].items()} == {"train": 53, "test": 6, "dev": 6}
    for first, second in (("train", "test"), ("train", "dev"), ("dev", "test")):
        assert find_overlaps(rows[first], rows[second]) == []
    assert sum(split["groups"] for split in manifest["splits"].values()) == 65 - 3, "the three pairs and nothing else are joined"
    side = {id: name for name, split in manifest["splits"].items() for id in split["ids"]}
    for one_id, other in (("c00", "same-opening"), ("near-1", "near-2"), ("group-1", "group-2")):
        assert side[one_id] == side[other]
    again = build_dialogues([path], tmp_path / "again", shares=SHARES, seed=seed)
    assert again["split_sha256"] == manifest["split_sha256"]


def test_an_overlap_is_found_by_the_history_not_by_the_last_turn(tmp_path):
    (yes, other) = (talk(*head, "はい。", "何かね。", id=head[0]) for head in (("正義は掟に従うことです。", "何かね。"), ("徳は海を渡ることです。", "何かね。")))
    rows = [read_rows(written(tmp_path, f"{name}.jsonl", lines(record))) for name, record in (("a", as_rows(yes)), ("b", as_rows(other)))]
    assert find_overlaps(*rows) == []
    assert find_overlaps([dataclasses.replace(row, meta={}) for row in rows[0]], rows[1]) == [], "nor without meta"
    assert [found.reason for found in find_overlaps(rows[0], [dataclasses.replace(row, meta={"mode": "dialogue"}) for row in rows[0]])] == ["same prompt"]


def test_an_overlap_is_found_in_whatever_form_the_other_file_is(tmp_path):
    """The same conversations as `lawft data dialogues` writes them, as plain messages, and as prompts without meta."""
    path = written(tmp_path, "talks.jsonl", lines(*many(12)))
    build_dialogues([path], tmp_path / "out", shares=SHARES, seed=0)
    forms = {"dialogue": [row for file in (tmp_path / "out" / "dialogue").iterdir() for row in read_rows(file)]}
    said = [{"messages": [{**message, "role": {"model": "assistant"}.get(message["role"], message["role"])} for message in record["messages"]]} for record in many(12)]
    forms["messages"] = read_rows(written(tmp_path, "messages.jsonl", lines(*said)))
    forms["prompts"] = [dataclasses.replace(row, meta={}) for row in forms["dialogue"]]
    assert max(len(row.prompt) for row in forms["messages"]) == 5
    for train in forms.values():
        for test in forms.values():
            assert len(find_overlaps(train, test)) == len(train)
    longest = {name: [row for row in rows if len(row.prompt) == 5] for name, rows in forms.items()}
    assert {found.reason for found in find_overlaps(longest["dialogue"], longest["messages"])} == {"same prompt"}


def as_rows(record):
    (*prompt, answer) = [{"role": ("user", "assistant")[place % 2], "content": message["content"]} for place, message in enumerate(record["messages"])]
    return {"prompt": prompt, "completion": [answer], "meta": {"mode": "dialogue", "id": record["id"], "group": record["id"]}}


def test_the_verb_writes_rows_that_say_what_they_are(tmp_path):
    path = written(tmp_path, "talks.jsonl", lines(*many(), talk(" 一つ。", "何かね。", id="white")))
    shown = run_lawft("data", "dialogues", path, "--out", tmp_path / "out", "--max-turns", 4, check=True).stdout
    assert f"lawft check tiny_socratic 'data.train={tmp_path}/out/dialogue/train_*.jsonl' 'data.dev=" in shown
    assert "cleaned: outer white space, 1" in shown and "with a shortened history" in shown
    (train,) = (tmp_path / "out" / "dialogue").glob("train_*.jsonl")
    rows = select_rows(read_rows(train), "dialogue", "none", str(train))
    assert all(len(row.prompt) <= 3 and row.prompt[0]["role"] == "user" for row in rows)
    assert {row.meta["mode"] for row in rows} == {"dialogue"} and {row.gold for row in rows} == {None}
    assert len({row.id for row in rows}) == len(rows)
    refuse_unfit(rows, "here")
    assert [found.code for found in examine(rows) if found.severity == "error"] == []
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["cleaned"] == {"outer white space": 1}
    assert f"| `dialogue/{train.name}` |" in (tmp_path / "out" / "data_card.md").read_text(encoding="utf-8")
    assert validate_dataset(tmp_path / "out" / "conversations.jsonl") == [], "what was cleaned can be read again"
    with pytest.raises(InputError, match="pattern.answer is 'direct' but every row has meta.mode"):
        select_rows(rows, "direct", "none", str(train))
    refused = run_lawft("data", "dialogues", path, "--out", tmp_path / "out")
    assert (refused.returncode, "--force" in refused.stderr) == (2, True)


# Gemma's form: no system role, and the tutor's turns are called `model`; written for this test.
GEMMA_LIKE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n{{ message.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@pytest.fixture
def gemma_like():
    from conftest import TINY_MODEL

    from lawft_trl.data.chat import load_tokenizer

    tokenizer = load_tokenizer(str(TINY_MODEL))
    tokenizer.add_special_tokens({"bos_token": "<bos>", "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    tokenizer.chat_template = GEMMA_LIKE
    return tokenizer


def test_rows_are_encoded_under_a_template_like_gemmas(tmp_path, gemma_like):
    path = written(tmp_path, "talks.jsonl", lines(*many()))
    build_dialogues([path], tmp_path / "out", shares=SHARES, seed=0)
    (train,) = (tmp_path / "out" / "dialogue").glob("train_*.jsonl")
    kwargs = {"enable_thinking": False}
    rows = read_rows(train)
    encoded = encode_rows(rows, gemma_like, template_kwargs=kwargs, max_length=None)  # proves every row
    assert end_of_turn(gemma_like, kwargs) == "<end_of_turn>"
    row = next(item for item in encoded if len(item.row.prompt) == 3)
    said = [message["content"] for message in row.row.prompt]
    assert gemma_like.decode(row.input_ids) == (
        f"<bos><start_of_turn>user\n{said[0]}<end_of_turn>\n<start_of_turn>model\n{said[1]}<end_of_turn>\n"
        f"<start_of_turn>user\n{said[2]}<end_of_turn>\n<start_of_turn>model\n{row.row.output}<end_of_turn>"
    )
    assert sum(row.columns["completion_mask"]) == len(row.input_ids) - row.prompt_length > 0
    with pytest.raises(InputError, match=r"set pattern\.system=null"):
        prompt_text(gemma_like, [{"role": "system", "content": "簡潔に。"}, *row.row.prompt], kwargs)


def test_a_recipe_of_dialogues_reads_and_encodes_its_rows(tmp_path, tiny_tokenizer):
    from lawft_trl.recipe import load_recipe
    from lawft_trl.training.preflight import encode_role, read_roles, refuse_overlap, require_scorable

    path = written(tmp_path, "talks.jsonl", lines(*many()))
    build_dialogues([path], tmp_path / "out", shares=SHARES, seed=0)
    files = [f"data.{role}={tmp_path}/out/dialogue/{role}_*.jsonl" for role in ("train", "dev", "test")]
    recipe = load_recipe(QUICKSTART, ["pattern.answer=dialogue", "pattern.statutes=none", "training.max_length=2048", *files])
    rows = read_roles(recipe)
    assert refuse_overlap(recipe, rows) == "none"
    require_scorable(recipe, rows["test"], tiny_tokenizer)  # there are no letters to be scored
    assert [item.row.output for item in encode_role(recipe, rows["train"], tiny_tokenizer)] == [row.output for row in rows["train"]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_turns": 1}, "--max-turns 1: expected at least 2"),
        ({"max_tokens": 10}, "--max-tokens needs --tokenizer"),
        ({"shares": {"test": 0.01}}, "conversations in"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, settings, said):
    path = written(tmp_path, "talks.jsonl", lines(*many(8)))
    with pytest.raises(InputError, match=said):
        build_dialogues([path], tmp_path / "out", **{"shares": SHARES, "seed": 0, **settings})
    assert not (tmp_path / "out").exists()


def test_tokens_are_counted_as_they_are_trained(tmp_path, tiny_tokenizer):
    from conftest import TINY_MODEL

    path = written(tmp_path, "talks.jsonl", lines(*many()))
    manifest = build_dialogues([path], tmp_path / "out", shares=SHARES, seed=0, tokenizer=str(TINY_MODEL), max_tokens=150)
    (train,) = (tmp_path / "out" / "dialogue").glob("train_*.jsonl")
    lengths = [len(item.input_ids) for item in encode_rows(read_rows(train), tiny_tokenizer, template_kwargs={"enable_thinking": False}, max_length=150)]
    entry = manifest["files"][f"dialogue/{train.name}"]
    assert entry["shortened"] > 0 and entry["lengths"]["longest"] == max(lengths)
    with pytest.raises(InputError, match=r"nothing is cut within a turn: set --max-tokens \d+"):
        build_dialogues([path], tmp_path / "short", shares=SHARES, seed=0, tokenizer=str(TINY_MODEL), max_tokens=30)


def test_the_turns_of_a_long_dialogue_are_no_near_duplicates(tmp_path):
    """The history before the tenth turn of the tutor is nearly that before the ninth."""
    long = talk(*("".join(chr(0x5000 + place * 40 + step) for step in range(30)) + "。" for place in range(24)), id="long")
    build_dialogues([written(tmp_path, "talks.jsonl", lines(*many(20), long))], tmp_path / "out", shares={"test": 0.1, "dev": 0.1}, seed=0)
    rows = [row for path in (tmp_path / "out" / "dialogue").iterdir() for row in read_rows(path)]
    turns = [row for row in rows if row.meta["conversation"] == "long"]
    assert len(turns) == 12
    assert "near-duplicate" not in {found.code for found in examine(turns)}
    bare = [dataclasses.replace(row, meta={}) for row in turns]
    assert "near-duplicate" not in {found.code for found in examine(bare)}, "each grows out of the one before, whatever the rows say"
    apart = [dataclasses.replace(row, output="何かね。") for row in bare]
    assert "near-duplicate" in {found.code for found in examine(apart)}, "as rows of different dialogues they would be"


def test_the_model_card_shows_no_choices(tmp_path):
    from test_experiment_log import make_run

    from lawft_trl.model_card import render_model_card

    text = render_model_card(make_run(tmp_path, overrides=("pattern.answer=dialogue", "pattern.statutes=none")))
    assert "for dialogues in Japanese" in text and "max_new_tokens=256" in text
    assert "選択肢" not in text and "letter" not in text.split("## Results")[0]
