"""Reasons from a teacher: a real HTTP server that speaks /v1/chat/completions, the real command, and a model in process."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import ROOT, TINY_MODEL

from lawft_trl import cli
from lawft_trl.data.prompts import answer_text
from lawft_trl.data.questions import LETTERS, Question, read_questions, write_questions
from lawft_trl.errors import InputError
from lawft_trl.reasons.cache import Request, Response, open_cache
from lawft_trl.reasons.in_process import InProcess
from lawft_trl.reasons.teacher import teacher_messages

RULES = (
    ("登録", "観測業者の登録の有効期間は、登録の日から起算して五年とする。", ("五年", "三年", "十年", "七年"), "登録が効力を保つ長さ"),
    ("届出", "事業を廃止した者は、廃止の日から三十日以内に知事へ届け出なければならない。", ("三十日以内", "十日以内", "直ちに", "六十日以内"), "廃止後に届け出る期限"),
    ("保証金", "主たる営業所ごとに千万円の営業保証金を供託するものとする。", ("千万円", "五百万円", "二千万円", "百万円"), "供託すべき額"),
    ("年齢", "満二十歳に達しない者は、潜水技士の免許を受けることができない。", ("満二十歳", "満十六歳", "満十八歳", "満二十五歳"), "免許を受けられる下限の歳"),
    ("罰則", "前条の規定に違反した者は、一年以下の拘禁刑に処する。", ("一年以下", "三年以下", "六月以下", "五年以下"), "違反した者に科される刑の重さ"),
    ("帳簿", "管理者は帳簿を備え付け、閉鎖の後二年間これを保存しなければならない。", ("二年間", "四年間", "六年間", "八年間"), "閉じた書類を残す間"),
)


def question(number: int, gold: int = 0, **changes) -> Question:
    name, rule, values, _ = RULES[number]
    choices = dict(zip(LETTERS, (*values[4 - gold :], *values[: 4 - gold]), strict=True))
    record = {"id": f"{name}-{number}", "law": f"架空{name}法", "question": f"{name}について、条文の定めるものはどれか。", "choices": choices}
    statutes = (f"## 架空{name}法\n### 第{number + 1}条\n{rule}",)
    return Question(**{**record, "answer": LETTERS[gold], "statutes": statutes, "group": f"g{number}", **changes})


QUESTIONS = [question(number, number % 4) for number in range(len(RULES))]


def answer(asked: Question, **changes: str) -> str:
    """A sound answer; `changes` replace the reasons of letters."""
    _, rule, values, about = RULES[int(asked.id.split("-")[1])]
    reasons = {
        letter: f"条文は「{rule}」と定め、{about}は『{choice}』"
        + ("と示されているとおりである。" if choice == values[0] else f"ではないから、{choice}は合わない。")
        for letter, choice in asked.choices.items()
    }
    return answer_text(dataclasses.replace(asked, reasons=reasons | changes), answer="cot")


def completion(text: str, usage=(100, 50), finish="stop") -> dict:
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "teacher-2026-01"}
    body["choices"] = [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}]
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return body


class Server:
    """Answers with `reply(question, attempt, request)`: a status and a body (or bytes), and perhaps headers."""

    def __init__(self):
        self.reply = lambda asked, attempt, request: (200, completion(answer(asked)))
        self.seen: list[dict] = []  # the bodies, with the question's id and the headers
        self.lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = next(q for q in QUESTIONS if q.question in request["messages"][-1]["content"])
                with owner.lock:
                    attempt = sum(seen["question"] == asked.id for seen in owner.seen)
                    owner.seen.append({**request, "question": asked.id, "path": self.path, "key": self.headers["Authorization"]})
                status, body, *headers = owner.reply(asked, attempt, request)
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                try:
                    self.send_response(status)
                    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **dict(*headers)}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client gave up, which is what some tests are about

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def asked(self) -> list[str]:
        return [seen["question"] for seen in self.seen]


@pytest.fixture
def server():
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    """The questions, in a folder where no evaluation split is known."""
    monkeypatch.chdir(tmp_path)
    for variable in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    write_questions(tmp_path / "q.jsonl", QUESTIONS)
    return tmp_path / "q.jsonl"


def arguments(server, file, *more) -> list[str]:
    fixed = ["--model", "teacher", "--endpoint", server.url, "--out", file.parent / "out.jsonl", "--allow-held-out"]
    return list(map(str, ["data", "reasons", file, *fixed, *more]))


def run(server, file, *more) -> int:
    return cli.main(arguments(server, file, *more))


def summary(file) -> dict:
    return json.loads((file.parent / "out.summary.json").read_text(encoding="utf-8"))


def cached(file) -> int:
    return len((file.parent / "out.cache" / "responses.jsonl").read_bytes().splitlines())


def test_good_answers_are_kept_and_every_question_is_asked_once(server, file, capsys):
    assert run(server, file) == 0
    kept = read_questions(file.parent / "out.jsonl")
    assert [q.id for q in kept] == [q.id for q in QUESTIONS]
    for q, original in zip(kept, read_questions(file), strict=True):
        assert dataclasses.replace(q, reasons={}) == original
        assert "「" + RULES[int(q.id.split("-")[1])][1] + "」" in q.reasons["a"]
    assert sorted(server.asked()) == sorted(q.id for q in QUESTIONS)
    assert summary(file)["kept"] == 6 and summary(file)["tokens"] == {"prompt": 600, "completion": 300}
    assert summary(file)["cost"] is None
    assert {(seen["path"], seen["temperature"], seen["seed"]) for seen in server.seen} == {("/v1/chat/completions", 0.7, 0)}
    out = capsys.readouterr().out
    assert "asked 6: 6 kept, 0 with every answer rejected, 0 failed, 0 unfinished" in out
    assert "600 + 300" in out
    assert {path.name for path in file.parent.iterdir()} == {"q.jsonl", "out.jsonl", "out.summary.json", "out.cache"}


def test_the_prompt_shows_the_statutes_and_not_the_answer():
    for q in QUESTIONS:
        [message] = teacher_messages(q)
        assert q.statutes[0] in message["content"] and q.question in message["content"]
        for other in LETTERS:
            assert teacher_messages(dataclasses.replace(q, answer=other)) == [message]
    bare = teacher_messages(dataclasses.replace(QUESTIONS[0], statutes=()))[0]["content"]
    assert "条文は示されていない" in bare and "【条文】" not in bare


def broken(asked: Question) -> dict[str, str]:
    good = answer(asked)
    other = LETTERS[(LETTERS.index(asked.answer) + 1) % 4]
    return {
        "wrong answer": good[:-1] + other,
        "quotation": answer(asked, c="条文は「三十年を超えない範囲で政令の定める期間」としており、これには当たらない。"),
        "missing": "\n".join(line for line in good.split("\n") if not line.startswith("d ")),
        "letter": answer(asked, c="条文の言葉と食い違うことは、選択肢ａの場合と同じであるといえる。"),
        "form": "条文によれば明らかです。",
        "cut": good,
    }


def test_what_is_wrong_is_rejected_by_kind_and_asked_again(server, file):
    kinds = ("wrong answer", "quotation", "missing", "letter", "form", "cut")

    def reply(asked, attempt, request):
        kind = kinds[QUESTIONS.index(asked)]
        bad = attempt < 2 if kind != "form" else True
        return 200, completion(broken(asked)[kind] if bad else answer(asked), finish="length" if bad and kind == "cut" else "stop")

    server.reply = reply
    assert run(server, file, "--samples", 3, "--seed", 7) == 0
    result = summary(file)
    assert result["samples_rejected"] == {kind: 3 if kind == "form" else 2 for kind in result["samples_rejected"]}
    assert set(result["samples_rejected"]) == set(kinds)
    assert result["exhausted"] == [QUESTIONS[4].id]
    assert result["sample_of"] == {q.id: 2 for q in QUESTIONS if q is not QUESTIONS[4]}
    assert [q.id for q in read_questions(file.parent / "out.jsonl")] == [q.id for q in QUESTIONS if q is not QUESTIONS[4]]
    assert sorted(seen["seed"] for seen in server.seen if seen["question"] == QUESTIONS[0].id) == [7, 8, 9]


def test_the_first_passing_sample_is_taken_and_no_further_one_is_paid_for(server, file):
    server.reply = lambda asked, attempt, _: (200, completion(answer(asked) if attempt else "？"))
    assert run(server, file, "--samples", 5) == 0
    assert set(summary(file)["sample_of"].values()) == {1}
    assert len(server.seen) == 12


def test_reasons_that_say_the_same_are_kept_once(server, file):
    """The later of the two in the file's order, whichever answer came first."""
    first = question(1, id="同-1", question=QUESTIONS[1].question)
    later = dataclasses.replace(first, id="同x-1", choices={letter: text.replace("十日", "二十日") for letter, text in first.choices.items()},
                                statutes=(first.statutes[0].replace("三十日", "三二十日"),))  # fmt: skip
    write_questions(file, [first, later])

    def reply(_, attempt, request):
        is_later = "三二十日" in request["messages"][-1]["content"]
        if not is_later:
            time.sleep(0.3)
        return 200, completion(answer(first).replace("十日", "二十日") if is_later else answer(first))

    server.reply = reply
    assert run(server, file, "--samples", 1) == 0
    assert [q.id for q in read_questions(file.parent / "out.jsonl")] == ["同-1"]
    assert summary(file)["samples_rejected"] == {"near-identical": 1}


def test_nothing_kept_writes_nothing(server, file, capsys):
    server.reply = lambda asked, attempt, _: (200, completion(broken(asked)["wrong answer"]))
    assert run(server, file, "--samples", 2) == 2
    captured = capsys.readouterr()
    assert "not written, no answer passed" in captured.err and "12 × wrong answer" in captured.err
    assert not (file.parent / "out.jsonl").exists() and not (file.parent / "out.summary.json").exists()


def test_too_many_requests_is_waited_for(server, file):
    server.reply = lambda asked, attempt, _: (200, completion(answer(asked))) if attempt else (429, {"error": {"message": "slow down"}}, {"Retry-After": "0.2"})
    assert run(server, file) == 0
    assert len(server.seen) == 12 and summary(file)["kept"] == 6 and cached(file) == 6


def test_a_server_that_keeps_failing_ends_the_run_clearly_and_the_answers_stay(server, file, capsys):
    server.reply = lambda asked, attempt, _: (200, completion(answer(asked))) if asked is QUESTIONS[0] else (500, {"error": {"message": "broken disk"}})
    assert run(server, file, "--retries", 0) == 0
    result = summary(file)
    assert result["kept"] == 1 and sorted(result["failed"]) == sorted(q.id for q in QUESTIONS[1:])
    assert "InternalServerError: Error code: 500" in result["failed"][QUESTIONS[1].id] and "broken disk" in capsys.readouterr().err
    server.reply = lambda *_: (500, {"error": {"message": "broken disk"}})
    (file.parent / "out.jsonl").unlink(), (file.parent / "out.summary.json").unlink()
    assert cached(file) == 1, "what was answered is kept"
    write_questions(file, QUESTIONS[1:])
    assert run(server, file, "--retries", 0) == 2
    err = capsys.readouterr().err
    assert "no question was answered" in err and "broken disk" in err and "the answers so far are kept" in err
    assert not (file.parent / "out.jsonl").exists()


def test_a_run_gives_up_after_ten_failures_in_a_row(server, file, capsys):
    many = [question(n % 6, id=f"n{i}-{n % 6}", choices=dict(zip(LETTERS, (f"{i}甲", f"{i}乙", f"{i}丙", f"{i}丁"), strict=True)))
            for i, n in enumerate(range(60))]  # fmt: skip
    write_questions(file, many)
    server.reply = lambda *_: (503, {"detail": "loading"})
    assert run(server, file, "--retries", 0, "--concurrency", 4) == 2
    assert "the endpoint failed 10 times in a row" in capsys.readouterr().err
    assert 10 <= len(server.seen) <= 14


def test_a_refused_key_ends_the_run_at_once(server, file, capsys, monkeypatch):
    server.reply = lambda *_: (401, {"error": {"message": "no such key"}})
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    assert run(server, file, "--concurrency", 1) == 2
    err = capsys.readouterr().err
    assert "the endpoint refuses" in err and "no such key" in err and "--api-key-env" in err
    assert [seen["key"] for seen in server.seen] == ["Bearer sk-secret-123"]
    server.reply = lambda asked, *_: (200, completion(answer(asked)))
    assert run(server, file) == 0
    for path in file.parent.rglob("*.json*"):
        assert "sk-secret" not in path.read_text(encoding="utf-8")


def test_an_endpoint_without_a_key_needs_none(server, file):
    assert run(server, file) == 0
    assert {seen["key"] for seen in server.seen} == {"Bearer none"}


MALFORMED = {
    "cut JSON": (b'{"choices": [{"mess', {}),
    "HTML": (b"<html>gateway</html>", {"Content-Type": "text/html"}),
    "no choices": (json.dumps({"object": "chat.completion", "choices": []}).encode(), {}),
    "null choices": (json.dumps({"choices": None}).encode(), {}),
    "a list": (b"[1, 2]", {}),
    "no message": (json.dumps({"choices": [{"index": 0}]}).encode(), {}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_an_answer_that_is_no_completion_is_a_failure_of_its_question(server, file, capsys, name):
    body, headers = MALFORMED[name]
    server.reply = lambda asked, *_: (200, body, headers) if asked is QUESTIONS[2] else (200, completion(answer(asked)))
    assert run(server, file, "--retries", 0) == 0
    result = summary(file)
    assert result["kept"] == 5 and list(result["failed"]) == [QUESTIONS[2].id]
    assert f"failed: {QUESTIONS[2].id}: " in capsys.readouterr().err
    assert cached(file) == 5, "a failure is asked again, so it is not kept"


def test_an_empty_answer_is_rejected_not_failed(server, file):
    server.reply = lambda asked, *_: (200, completion(None if asked is QUESTIONS[2] else answer(asked)))
    assert run(server, file, "--samples", 1) == 0
    assert summary(file)["samples_rejected"] == {"form": 1}


def test_a_timeout_is_retried_and_then_a_failure(server, file):
    def reply(asked, attempt, request):
        if asked is QUESTIONS[3] or (asked is QUESTIONS[4] and not attempt):
            time.sleep(1.2)
        return 200, completion(answer(asked))

    server.reply = reply
    assert run(server, file, "--retries", 1, "--timeout", 0.5) == 0
    assert list(summary(file)["failed"]) == [QUESTIONS[3].id] and "APITimeoutError" in summary(file)["failed"][QUESTIONS[3].id]
    assert server.asked().count(QUESTIONS[4].id) == 2


def test_nobody_there(file, capsys):
    command = ["data", "reasons", str(file), "--model", "t", "--endpoint", "http://127.0.0.1:9/v1", "--allow-held-out", "--retries", "0"]
    assert cli.main(command) == 2
    err = capsys.readouterr().err
    assert "http://127.0.0.1:9/v1: no question was answered" in err and "APIConnectionError" in err
    assert "are kept" not in err, "there is nothing to keep"


def test_ctrl_c_then_the_same_command_sends_only_the_rest(server, file):
    """SIGINT to the real command in the middle; the answers before it are kept and nothing half-written is left."""
    release = threading.Event()

    def reply(asked, attempt, request):
        if asked in QUESTIONS[3:]:
            release.wait(20)
        return 200, completion(answer(asked))

    server.reply = reply
    command = [sys.executable, "-m", "lawft_trl.cli", *arguments(server, file, "--concurrency", 1)]
    process = subprocess.Popen(command, cwd=file.parent, env=os.environ | {"PYTHONPATH": _path()}, stderr=subprocess.PIPE, text=True)
    until(lambda: len(server.seen) == 4)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert "the answers so far are kept; the same command asks only for the rest" in err and "Traceback" not in err
    assert {path.name for path in file.parent.iterdir()} == {"q.jsonl", "out.cache"}
    assert cached(file) == 3
    release.set()
    server.seen.clear()
    assert run(server, file) == 0
    assert sorted(server.asked()) == sorted(q.id for q in QUESTIONS[3:])
    assert summary(file)["kept"] == 6 and summary(file)["samples_from_cache"] == 3
    assert summary(file)["tokens"] == {"prompt": 300, "completion": 150}, "tokens of this run alone"


def test_a_full_disk_is_told_and_what_was_written_before_is_used(server, file):
    """A limit on the size of files stands for the disk; the line that did not fit is dropped by the next run."""
    code = f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, -1)); from lawft_trl import cli; sys.exit(cli.main({arguments(server, file)!r}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=file.parent, env=os.environ | {"PYTHONPATH": _path()}, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert "responses.jsonl: cannot be written: " in result.stderr and "the answers so far are kept" in result.stderr
    assert {path.name for path in file.parent.iterdir()} == {"q.jsonl", "out.cache"}
    whole = (file.parent / "out.cache" / "responses.jsonl").read_bytes().count(b"\n")
    assert 0 < whole < 6
    server.seen.clear()
    assert run(server, file) == 0
    assert len(server.seen) == 6 - whole and summary(file)["kept"] == 6


def test_no_more_requests_are_under_way_than_allowed(server, file):
    under_way, most = [], []

    def reply(asked, attempt, request):
        under_way.append(asked.id)
        most.append(len(under_way))
        time.sleep(0.15)
        under_way.remove(asked.id)
        return 200, completion(answer(asked))

    server.reply = reply
    assert run(server, file, "--concurrency", 2) == 0
    assert max(most) == 2


def test_a_second_run_sends_nothing_and_gives_the_same(server, file, capsys):
    assert run(server, file) == 0
    first, count = (file.parent / "out.jsonl").read_bytes(), len(server.seen)
    assert run(server, file) == 2
    assert "already there; give another --out, or --force" in capsys.readouterr().err
    assert run(server, file, "--force", "--concurrency", 1) == 0
    assert len(server.seen) == count and (file.parent / "out.jsonl").read_bytes() == first
    assert run(server, file, "--force", "--temperature", 0.2) == 0
    assert len(server.seen) == 2 * count, "other sampling parameters are another question"


def test_a_torn_last_line_is_repaired(server, file):
    assert run(server, file) == 0
    path = file.parent / "out.cache" / "responses.jsonl"
    whole = path.read_bytes()
    torn = whole[: whole.rstrip(b"\n").rfind(b"\n") + 40]
    path.write_bytes(torn)
    server.seen.clear()
    assert run(server, file, "--force") == 0
    assert len(server.seen) == 1 and cached(file) == 6
    assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_a_damaged_line_is_named(server, file, capsys):
    assert run(server, file) == 0
    path = file.parent / "out.cache" / "responses.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b'{"key": "x"}\n', *lines[1:]]))
    assert run(server, file, "--force") == 2
    assert f"{path}:2: not a response: KeyError('response'); delete the line" in capsys.readouterr().err


def test_two_runs_do_not_share_a_cache(tmp_path):
    with open_cache(tmp_path), pytest.raises(InputError, match="another lawft data reasons is using it"), open_cache(tmp_path):
        pass


def test_the_key_depends_on_all_that_decides_the_answer():
    base = {"question": "q", "model": "m", "messages": [{"role": "user", "content": "x"}], "parameters": {"seed": 0}, "sample": 0}
    changes = ({}, {"model": "n"}, {"messages": [{"role": "user", "content": "y"}]}, {"parameters": {"seed": 1}}, {"sample": 1})
    assert len({Request(**base | change).key for change in changes}) == len(changes)
    assert Request(**base).key == Request(**base | {"question": "other"}).key


PRICES = "date: 2026-11-01\ncurrency: USD\nmodels:\n  teacher: {input: 1000, output: 4000}\n"


def test_cost_and_limits(server, file, capsys):
    prices = file.parent / "prices.yaml"
    prices.write_text(PRICES, encoding="utf-8")
    assert run(server, file, "--prices", prices, "--max-cost", 0.5, "--concurrency", 1) == 0
    # One answer is 100 tokens at 1000 and 50 at 4000 per million: 0.3; the second reaches the limit.
    assert len(server.seen) == 2 and summary(file)["cost"] == {"amount": 0.6, "currency": "USD", "prices_of": "2026-11-01"}
    assert summary(file)["kept"] == 2 and len(summary(file)["unfinished"]) == 4 and summary(file)["stopped"] == "--max-cost 0.5"
    out = capsys.readouterr().out
    assert "0.6 USD (prices of 2026-11-01)" in out and "stopped at --max-cost 0.5; the same command with --force goes on" in out
    assert run(server, file, "--max-tokens", 300, "--concurrency", 1, "--force") == 0
    assert len(server.seen) == 4 and summary(file)["kept"] == 4 and summary(file)["samples_from_cache"] == 2
    assert run(server, file, "--force") == 0
    assert len(server.seen) == 6 and summary(file)["kept"] == 6 and summary(file)["stopped"] == ""


def test_a_limit_needs_an_endpoint_that_counts(server, file, capsys):
    server.reply = lambda asked, *_: (200, completion(answer(asked), usage=None))
    assert run(server, file, "--max-tokens", 300) == 2
    assert "reports no token usage" in capsys.readouterr().err
    assert run(server, file) == 0


BROKEN_PRICES = {
    "no date": (PRICES.replace("2026-11-01", "soon"), "`date`: expected the day of the price list, YYYY-MM-DD, found 'soon'"),
    "other model": (PRICES.replace("teacher", "other"), "`models`: 'teacher' is not among them; there are other"),
    "no number": (PRICES.replace("4000", "cheap"), "`models.teacher.output`: expected a price per million tokens, found 'cheap'"),
    "negative": (PRICES.replace("4000", "-1"), "`models.teacher.output`: expected a price"),
    "no currency": (PRICES.replace("currency: USD\n", ""), "`currency`: expected a name such as USD, found None"),
    "no mapping": ("[1]", "expected date: 2026-01-31"),
    "no YAML": ("a: [", "not YAML"),
}


@pytest.mark.parametrize("name", BROKEN_PRICES)
def test_broken_prices_are_explained_before_anything_is_sent(server, file, capsys, name):
    text, expected = BROKEN_PRICES[name]
    (file.parent / "prices.yaml").write_text(text, encoding="utf-8")
    assert run(server, file, "--prices", file.parent / "prices.yaml") == 2
    assert expected in capsys.readouterr().err
    assert server.seen == [] and not (file.parent / "out.cache").exists()


def data_folder(folder: Path, *, test: list[str], dataset="d", folds=False) -> Path:
    folder.mkdir(parents=True)
    write_questions(folder / "questions.jsonl", QUESTIONS)
    splits = {"splits": {"train": {"ids": [q.id for q in QUESTIONS if q.id not in test]}, "test": {"ids": test}}}
    manifest = {"dataset": dataset, **({"folds": {"fold_1": splits}} if folds else splits)}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def careful(server, file, *more) -> int:
    return cli.main([argument for argument in arguments(server, file, *more) if argument != "--allow-held-out"])


@pytest.mark.parametrize("folds", [False, True])
def test_the_test_split_beside_the_file_is_never_sent(server, file, capsys, folds):
    folder = data_folder(file.parent / "elsewhere", test=[QUESTIONS[1].id, QUESTIONS[2].id], folds=folds)
    assert careful(server, folder / "questions.jsonl") == 0
    assert set(server.asked()) == {q.id for q in QUESTIONS} - {QUESTIONS[1].id, QUESTIONS[2].id}
    assert "held out, not asked: 2 of 6 questions" in capsys.readouterr().out
    assert set(summary(folder / "x")["held_out"]) == {QUESTIONS[1].id, QUESTIONS[2].id}


def test_a_copy_under_another_id_is_known_by_its_text(server, file, capsys):
    """By the data folders in data/, by a file of rows, and by a file of questions; nothing is sent."""
    copies = [dataclasses.replace(q.in_order("cdab"), id=f"copy-{q.id}") for q in QUESTIONS]
    write_questions(file, copies)
    data_folder(file.parent / "data" / "d", test=[q.id for q in QUESTIONS])
    assert careful(server, file) == 2
    err = capsys.readouterr().err
    assert "no question is left to ask: 6 of 6 are held out" in err
    assert f"copy-{QUESTIONS[0].id}: near-duplicate text as data/d (test): {QUESTIONS[0].id}" in err
    (file.parent / "data" / "d" / "manifest.json").unlink()
    held = file.parent / "held.jsonl"
    write_questions(held, QUESTIONS)
    assert careful(server, file, "--held-out", held) == 2
    rows = [{"input": q.question, "output": q.answer, "meta": {"question": q.question, "choices": q.choices, "correct": q.answer}} for q in QUESTIONS]
    held.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    assert careful(server, file, "--held-out", held) == 2
    assert server.seen == []
    assert run(server, file, "--held-out", held) in (0, 2) and server.seen, "--allow-held-out sends them"


def test_without_a_known_split_nothing_is_sent(server, file, capsys):
    assert careful(server, file) == 2
    err = capsys.readouterr().err
    assert "no evaluation split is known" in err and "--held-out FILE_OR_FOLDER" in err and "--allow-held-out" in err
    assert careful(server, file, "--held-out", file.parent) == 2
    assert "not a data folder" in capsys.readouterr().err
    assert server.seen == []


def test_questions_that_have_reasons_are_not_asked(server, file, capsys):
    reasons = dict(zip(LETTERS, ("一", "二", "三", "四"), strict=True))
    write_questions(file, [dataclasses.replace(QUESTIONS[0], reasons=reasons), *QUESTIONS[1:]])
    assert run(server, file) == 0
    assert QUESTIONS[0].id not in server.asked()
    assert "not asked, they have reasons: 1" in capsys.readouterr().out


def test_the_output_is_never_the_input(server, file, capsys):
    assert run(server, file, "--out", file, "--force") == 2
    assert "this is the file of questions" in capsys.readouterr().err


def test_parameters_of_the_request_can_be_changed(server, file):
    body = {"max_tokens": None, "max_completion_tokens": 99, "seed": None, "chat_template_kwargs": {"enable_thinking": False}}
    assert run(server, file, "--body", json.dumps(body)) == 0
    sent = server.seen[0]
    assert "max_tokens" not in sent and "seed" not in sent and sent["max_completion_tokens"] == 99
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}


def test_all_faults_of_the_options_are_told_at_once(server, file, capsys, monkeypatch):
    assert cli.main(["data", "reasons", str(file), "--endpoint", "localhost:1", "--samples", "0", "--max-cost", "1", "--temperature", "-1",
                     "--timeout", "nan", "--api-key-env", "NO_SUCH", "--body", '{"stream": true, "seed": "x"}']) == 2  # fmt: skip
    err = capsys.readouterr().err
    for expected in ("--model: name the teacher", "--samples 0: expected at least 1", "--temperature -1.0", "--timeout nan", "needs --prices FILE",
                     "expected http://", "--api-key-env NO_SUCH", "'stream' is not a sampling parameter", "`seed`: expected a whole number"):  # fmt: skip
        assert expected in err
    with pytest.raises(SystemExit):
        cli.main(["data", "reasons", str(file), "--model", "m", "--body", "{"])
    assert "not JSON" in capsys.readouterr().err


def test_verify_prints_every_problem_with_its_line(file, capsys):
    good = [dataclasses.replace(q, reasons=_reasons(q)) for q in QUESTIONS]
    write_questions(file, good)
    assert cli.main(["data", "reasons", str(file), "--verify"]) == 0
    assert f"{file}: the reasons of 6 questions pass" in capsys.readouterr().out
    write_questions(file, [*good[:2], dataclasses.replace(good[2], reasons=good[2].reasons | {"b": "「存在しない条文の言葉」による。条文のとおりである。"})])
    assert cli.main(["data", "reasons", str(file), "--verify"]) == 2
    assert f"{file}:3: {good[2].id}: quotation: b: 「存在しない条文の言葉」 is not in the statutes shown" in capsys.readouterr().err


def test_the_tiny_model_in_process_writes_rubbish_and_nothing_is_kept(file, capsys):
    write_questions(file, QUESTIONS[:3])
    command = ["data", "reasons", str(file), "--model", str(TINY_MODEL), "--allow-held-out", "--samples", "2", "--answer-tokens", "8",
               "--batch-size", "2", "--out", str(file.parent / "out.jsonl")]  # fmt: skip
    assert cli.main(command) == 2
    captured = capsys.readouterr()
    assert "asked 3: 0 kept, 3 with every answer rejected, 0 failed, 0 unfinished" in captured.out
    assert "answers: 6, 0 of them from the cache" in captured.out
    counts = re.findall(r"- (\d+) × ([a-z ]+)", captured.err)
    assert sum(int(count) for count, _ in counts) == 6 and {kind for _, kind in counts} <= {"cut", "form", "wrong answer"}
    lines = [json.loads(line) for line in (file.parent / "out.cache" / "responses.jsonl").read_bytes().splitlines()]
    assert sorted(line["parameters"]["seed"] for line in lines) == [0, 0, 0, 1, 1, 1]
    assert all(0 < line["response"]["completion_tokens"] <= 8 < line["response"]["prompt_tokens"] for line in lines)
    assert cli.main(command) == 2
    assert "6 of them from the cache" in capsys.readouterr().out


def test_a_model_in_process_gives_the_same_answers_for_the_same_seed():
    teacher = InProcess(str(TINY_MODEL), batch_size=2)

    def ask(seed, temperature=5.0):
        parameters = {"seed": seed, "temperature": temperature, "max_tokens": 6}
        requests = [Request(question=q.id, model="m", messages=teacher_messages(q), parameters=parameters, sample=0) for q in QUESTIONS[:3]]
        answers = {}
        assert teacher.send(requests, lambda request, response: answers.update({request.question: response}) is None) == {}
        return answers

    assert ask(1) == ask(1) != ask(2)
    assert ask(1, temperature=0) == ask(2, temperature=0)
    assert len(ask(1)) == 3
    stopped = []
    teacher.send([Request(question=str(i), model="m", messages=teacher_messages(QUESTIONS[0]), parameters={"seed": 0, "temperature": 0, "max_tokens": 2},
                          sample=0) for i in range(6)], lambda request, _: stopped.append(request.question))  # fmt: skip
    assert stopped == ["0", "1"], "a batch is kept whole, and no further one begun"
    long = Request(question="q", model="m", messages=teacher_messages(QUESTIONS[0]), parameters={"max_tokens": 100_000}, sample=0)
    [(key, error)] = teacher.send([long], lambda *_: pytest.fail("it was asked")).items()
    assert key == long.key and re.search(r"\d+ tokens of prompt and 100000 of answer exceed the model's \d+", error)


def test_a_response_is_kept_as_it_is(tmp_path):
    request = Request(question="q", model="m", messages=[{"role": "user", "content": "問い"}], parameters={"seed": 3}, sample=1)
    response = Response(text="改行\nと\u2028", finish_reason="stop", prompt_tokens=1, completion_tokens=None, teacher="t")
    with open_cache(tmp_path) as cache:
        cache.add(request, response)
    with open_cache(tmp_path) as cache:
        assert cache.get(request.key) == response


def _reasons(asked: Question) -> dict[str, str]:
    return {line[0]: line[2:] for line in answer(asked).split("\n")[:4]}


def _path() -> str:
    return os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])


def until(happened, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
