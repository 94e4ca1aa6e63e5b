"""Answers over HTTP: a real `transformers serve` with the tuned tiny model, and a server whose troubles are dictated."""

import contextlib
import importlib.util
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import QUICKSTART, ROOT, TINY_MODEL, rows_file, settings, sft_here
from local_server import transformers_serve

from lawft_trl import cli
from lawft_trl.data.rows import read_rows
from lawft_trl.evaluation.folder import read_evaluation
from lawft_trl.evaluation.generation import Generation
from lawft_trl.evaluation.served import Service
from lawft_trl.reasons.endpoint import Endpoint

KEY = "sk-secret-0123456789"
QUESTIONS = 6


def pick(messages: list[dict]) -> str:
    """What the dictated server answers: the letter of the choice that comes first in the order of characters."""
    choices = re.findall(r"^([abcd]) (.+)$", messages[-1]["content"], flags=re.MULTILINE)
    return min(choices, key=lambda choice: choice[1])[0]


def completion(text: str | None, *, finish="stop", model="served", prompt_tokens=None) -> dict:
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": model}
    body["choices"] = [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}]
    if prompt_tokens is not None:
        body["usage"] = {"prompt_tokens": prompt_tokens, "completion_tokens": 2, "total_tokens": prompt_tokens + 2}
    return body


class Server:
    """Answers with `reply(request, attempt)`: status, body (or bytes), and perhaps headers."""

    def __init__(self):
        self.reply = self.well
        self.seen: list[dict] = []  # bodies, with the key they came with
        self.lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with owner.lock:
                    attempt = sum(seen["messages"] == request["messages"] and seen.get("seed") == request.get("seed") for seen in owner.seen)
                    owner.seen.append({**request, "key": self.headers["Authorization"], "path": self.path})
                status, body, *headers = owner.reply(request, attempt)
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                with contextlib.suppress(ConnectionError):  # the client may have been stopped
                    self.send_response(status)
                    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **dict(*headers)}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @staticmethod
    def well(request: dict, attempt: int):
        return 200, completion(pick(request["messages"]), model=request["model"])


@pytest.fixture
def server():
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def rows(sample_data, tmp_path, monkeypatch) -> Path:
    """A few questions in a folder of their own, with a key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    lines = rows_file(sample_data, "test").read_text(encoding="utf-8").splitlines()[::40][:QUESTIONS]
    (tmp_path / "few.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "few.jsonl"


def alone(server: Server, rows: Path, *more) -> list[str]:
    fixed = ["--endpoint", server.url, "--model", "some/model", "--test", rows, "--out", rows.parent / "out"]
    return list(map(str, ["eval", *fixed, *more]))


def written(rows: Path) -> set[str]:
    return {path.name for path in rows.parent.iterdir()} - {"few.jsonl"}


def test_a_served_model_alone(server, rows, capsys):
    assert cli.main(alone(server, rows)) == 0
    evaluation = read_evaluation(rows.parent / "out")
    assert written(rows) == {"out"}, "the answers are in the evaluation; what was kept on the way is gone"
    metrics, answers = evaluation.metrics, evaluation.predictions["some/model"]
    assert list(metrics["models"]) == ["some/model"] and "comparison" not in metrics
    assert metrics["models"]["some/model"]["questions"] == QUESTIONS and len(answers) == 4 * QUESTIONS
    assert metrics["statutes"] == "gold" and "not checked" in metrics["overlap"]
    asked = {json.dumps(seen["messages"], ensure_ascii=False): seen for seen in server.seen}
    assert len(asked) == len(server.seen) == 4 * QUESTIONS, "every prompt once"
    assert Counter(answer.letter for answer in answers) == Counter(pick(seen["messages"]) for seen in server.seen)
    assert all(answer.outputs == (answer.letter,) and answer.letter_logprobs is None for answer in answers)
    [sent] = {json.dumps({k: v for k, v in seen.items() if k != "messages"}, sort_keys=True) for seen in server.seen}
    assert json.loads(sent) == {"model": "some/model", "temperature": 0, "seed": 0, "max_tokens": 16, "key": f"Bearer {KEY}", "path": "/v1/chat/completions"}
    text = capsys.readouterr().out
    assert "some/model  " in text and "no evidence" not in text and "Report: " in text
    assert (rows.parent / "out" / "report.md").read_text(encoding="utf-8").startswith("# Evaluation of some/model")
    assert cli.main(alone(server, rows)) == 2 and "--force" in capsys.readouterr().err
    assert cli.main(alone(server, rows, "--force", "--orders", 1, "--max-new-tokens", 3)) == 0
    assert len(server.seen) == 5 * QUESTIONS and server.seen[-1]["max_tokens"] == 3


def test_reasoned_answers_of_rows_that_ask_for_letters(server, rows):
    server.reply = lambda request, _: (200, completion(f"条文の定めるところによる。\n答え: {pick(request['messages'])}"))
    assert cli.main(alone(server, rows, "--answer", "cot")) == 0
    assert {seen["max_tokens"] for seen in server.seen} == {1024}
    assert all("まず理由を述べ" in seen["messages"][-1]["content"] for seen in server.seen)
    evaluation = read_evaluation(rows.parent / "out")
    assert None not in {answer.letter for answer in evaluation.predictions["some/model"]}
    assert evaluation.metrics["answer"] == "cot"


def test_samples_have_seeds_of_their_own_and_the_majority_counts(server, rows):
    """Of three samples two say `b`; in half of the prompts the third is cut and the other two differ: no answer."""

    def reply(request, _):
        text, finish = {0: ("b", "stop"), 1: ("b", "stop"), 2: ("c", "stop")}[request["seed"] - 7], "stop"
        if pick(request["messages"]) in "ab":
            text = {7: ("a", "stop"), 8: ("d", "stop"), 9: ("それは", "length")}[request["seed"]]
        text, finish = text
        return 200, completion(text, finish=finish)

    server.reply = reply
    assert cli.main(alone(server, rows, "--samples", 3, "--temperature", 0.9, "--body", '{"seed": 7, "min_p": 0.1}')) == 0
    assert Counter(seen["seed"] for seen in server.seen) == {7: 4 * QUESTIONS, 8: 4 * QUESTIONS, 9: 4 * QUESTIONS}
    assert {(seen["temperature"], seen["top_p"], seen["min_p"]) for seen in server.seen} == {(0.9, 1, 0.1)}
    answers = read_evaluation(rows.parent / "out").predictions["some/model"]
    assert {(answer.outputs, answer.cut, answer.letter) for answer in answers} == {(("b", "b", "c"), 0, "b"), (("a", "d", "それは"), 1, None)}


def test_a_busy_and_a_stumbling_server_are_waited_for(server, rows):
    def reply(request, attempt):
        if attempt == 0:
            return (429, {"error": {"message": "slow down"}}, {"Retry-After": "0.1"}) if pick(request["messages"]) in "ab" else (500, {"error": "x"})
        return Server.well(request, attempt)

    server.reply = reply
    assert cli.main(alone(server, rows, "--orders", 1)) == 0
    assert len(server.seen) == 2 * QUESTIONS
    assert read_evaluation(rows.parent / "out").metrics["models"]["some/model"]["unparsed"] == 0


@pytest.mark.parametrize("trouble", [(400, {"error": {"message": "too long"}}), (200, b"<html>proxy</html>"), (200, {"choices": []}), (500, {"error": "x"})])
def test_failed_requests_are_no_wrong_answers(server, rows, capsys, trouble):
    """Nothing is written; the same command then asks only for what failed, and gives what an untroubled one gives."""
    question = read_rows(rows)[1].meta["question"]
    server.reply = lambda request, attempt: trouble if question in request["messages"][-1]["content"] else Server.well(request, attempt)
    failing = sum(question in row.prompt[-1]["content"] for row in read_rows(rows))
    assert cli.main(alone(server, rows, "--orders", 1, "--retries", 0)) == 2
    error = capsys.readouterr().err
    assert f"{failing} of {QUESTIONS} requests failed; no evaluation was written, and none of them counts as a wrong answer" in error
    assert f"the {QUESTIONS - failing} answers so far are kept in {rows.parent / 'out.cache'}: the same command asks only for the rest" in error
    assert f"{read_rows(rows)[1].id} (abcd): " in error and KEY not in error
    assert written(rows) == {"out.cache"}
    server.reply, server.seen[:] = Server.well, []
    assert cli.main(alone(server, rows, "--orders", 1)) == 0
    assert len(server.seen) == failing
    assert f"{QUESTIONS - failing} answers are from an earlier try" in capsys.readouterr().out
    resumed = read_evaluation(rows.parent / "out")
    assert resumed.metrics["served"]["answers_from_an_earlier_try"] == QUESTIONS - failing
    assert cli.main(alone(server, rows, "--orders", 1, "--force")) == 0
    assert len(server.seen) == failing + QUESTIONS, "--force asks anew"
    assert read_evaluation(rows.parent / "out").predictions == resumed.predictions


def test_an_endpoint_that_is_not_there_ends_the_run(rows, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://user:pass@127.0.0.1:{free.getsockname()[1]}/v1"
    arguments = ["eval", "--endpoint", url, "--model", "m", "--test", str(rows), "--out", str(rows.parent / "out"), "--retries", "0"]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert "the endpoint failed" in error and "APIConnectionError" in error and "user:pass" not in error
    assert "out" not in written(rows)


def test_a_wrong_key_is_said_at_once_and_stands_nowhere(server, rows, capsys):
    server.reply = lambda request, _: (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
    assert cli.main(alone(server, rows)) == 2
    captured = capsys.readouterr()
    assert "the endpoint refuses" in captured.err and "(the key)" in captured.err and "--api-key-env" in captured.err
    assert len(server.seen) <= 8, "no more than were under way"
    server.reply = Server.well
    assert cli.main(alone(server, rows)) == 0
    files = [path for path in rows.parent.rglob("*") if path.is_file()]
    assert files and not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in captured.out + captured.err + repr(Endpoint(url="http://x", api_key=KEY))


def test_stopped_midway_it_goes_on_where_it_was(server, rows):
    def slow(request, attempt):
        time.sleep(0.25)
        return Server.well(request, attempt)

    server.reply = slow
    command = [sys.executable, "-m", "lawft_trl.cli", *alone(server, rows, "--concurrency", 2)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cache = rows.parent / "out.cache" / "responses.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (cache.is_file() and cache.read_bytes().count(b"\n") >= 5):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command asks only for the rest" in error and "Traceback" not in error
    assert written(rows) == {"out.cache"}
    kept = cache.read_bytes().count(b"\n")
    assert 5 <= kept < 4 * QUESTIONS
    server.reply, server.seen[:] = Server.well, []
    assert cli.main(alone(server, rows)) == 0
    assert len(server.seen) == 4 * QUESTIONS - kept


def test_ends_that_are_neither_are_said(server, rows):
    server.reply = lambda request, _: (200, completion(None, finish="content_filter"))
    assert cli.main(alone(server, rows, "--orders", 1)) == 0
    metrics = read_evaluation(rows.parent / "out").metrics
    assert f"{QUESTIONS} × content_filter" in metrics["warnings"][0] and metrics["models"]["some/model"]["unparsed"] == QUESTIONS


def test_what_openai_does_not_know_is_not_sent_to_it():
    generation, kwargs = Generation(max_new_tokens=9), {"enable_thinking": False}

    def parameters(url, **body):
        return Service(endpoint=Endpoint(url=url, api_key=None), body=body).parameters(generation, kwargs, "<|im_end|>")

    usual = {"temperature": 0, "seed": 0, "max_tokens": 9, "chat_template_kwargs": kwargs, "stop": ["<|im_end|>"]}
    assert parameters("http://localhost:8000/v1") == parameters("https://notapi.openai.com.example/v1") == usual
    strict = {"temperature": 0, "seed": 0, "max_completion_tokens": 9}
    assert parameters("https://api.openai.com/v1") == parameters("https://me.openai.azure.com/openai/v1") == strict
    assert parameters("https://api.openai.com/v1", temperature=None, reasoning_effort="low") == {"seed": 0, "max_completion_tokens": 9, "reasoning_effort": "low"}


def test_options_that_cannot_be_used_are_all_named(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert cli.main(["eval", "--endpoint", "localhost:8000", "--scorer", "letters", "--samples", "0", "--temperature", "0", "--batch-size", "4", "--tuned", "x",
                     "--name", "y", "--concurrency", "0", "--timeout", "0", "--retries", "-1", "--api-key-env", "NO_SUCH_KEY",
                     "--body", '{"messages": [], "seed": "x"}']) == 2  # fmt: skip
    error = capsys.readouterr().err
    for problem in ("--scorer letters: an endpoint does not tell", "--samples 0", "--temperature 0", "--batch-size: only", "--tuned: not for a served model",
                    "--name: not for", "--concurrency 0", "--timeout 0", "--retries -1", "NO_SUCH_KEY: this environment", "--body: 'messages'", "--body: `seed`",
                    "--model: missing", "--test: missing", "--out: missing", "--endpoint localhost:8000: expected http"):  # fmt: skip
        assert problem in error, problem
    assert cli.main(["eval", str(tmp_path), "--endpoint", "http://x", "--model", "m"]) == 2
    error = capsys.readouterr().err
    assert "--tuned: missing; a RUN needs it" in error and "--model: not for a RUN" in error
    assert cli.main(["eval", str(tmp_path), "--endpoint", "http://x", "--base", "m", "--tuned", "m"]) == 2
    assert "--base and --tuned are both 'm'" in capsys.readouterr().err
    assert cli.main(["eval", str(tmp_path), "--base", "x", "--body", '{"top_p": 1}', "--max-new-tokens", "0"]) == 2
    error = capsys.readouterr().err
    assert "--base: only for models that are served" in error and "--body: only" in error and "--max-new-tokens 0" in error
    assert cli.main(["eval"]) == 2 and "--endpoint URL --model NAME" in capsys.readouterr().err


@pytest.fixture(scope="module")
def run(sample_data, tmp_path_factory) -> Path:
    """A few large steps: enough for other answers than the base model's."""
    run = tmp_path_factory.mktemp("served") / "run"
    large = ("training.max_steps=8", "training.learning_rate=3e-3", "training.warmup_steps=0", "evaluation.orders=4")
    sft_here(QUICKSTART, *settings(sample_data, run, *large), check=True)
    return run


def test_the_models_of_a_run(server, rows, run, capsys):
    assert cli.main(list(map(str, ["eval", run, "--test", rows, "--endpoint", server.url, "--base", "B", "--tuned", "T"]))) == 0
    out = run / "eval" / "few-direct-served"
    evaluation = read_evaluation(out)
    assert list(evaluation.predictions) == ["base", "tuned"] and evaluation.metrics["comparison"]["verdict"] == "no evidence"
    assert Counter(seen["model"] for seen in server.seen) == {"B": 4 * QUESTIONS, "T": 4 * QUESTIONS}
    assert {json.dumps(seen["chat_template_kwargs"]) for seen in server.seen} == {'{"enable_thinking": false}'}
    assert {tuple(seen["stop"]) for seen in server.seen} == {("<|im_end|>",)}
    assert evaluation.metrics["served"]["models"] == {"base": "B", "tuned": "T"}
    assert not out.with_name("few-direct-served.cache").exists()
    assert "WARNING" not in capsys.readouterr().out

    server.reply = lambda request, _: (200, completion("a", model="one", prompt_tokens=3))
    more = ["--name", "odd", "--orders", "1", "--body", '{"stop": null}']
    assert cli.main(list(map(str, ["eval", run, "--test", rows, "--endpoint", server.url, "--base", "B", "--tuned", "T", *more]))) == 0
    printed = capsys.readouterr().out
    assert "calls base and tuned by one name, one" in printed
    assert f"{2 * QUESTIONS} of {2 * QUESTIONS} prompts have another length on the endpoint (the first: 3 tokens" in printed
    assert "stop" not in server.seen[-1]

    assert cli.main(list(map(str, ["eval", run, "--test", rows, "--endpoint", server.url, "--tuned", "T", "--name", "tuned-alone"]))) == 0
    lone = read_evaluation(run / "eval" / "tuned-alone")
    assert list(lone.predictions) == ["tuned"] and "comparison" not in lone.metrics


def test_transformers_serve_gives_the_answers_of_the_model_in_process(sample_data, run, tmp_path, capsys):
    missing = [name for name in ("fastapi", "uvicorn", "openai", "pydantic") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: a real `transformers serve` was NOT evaluated")
    lines = rows_file(sample_data, "test").read_text(encoding="utf-8").splitlines()[::24]
    (tmp_path / "some.jsonl").write_text("\n".join(lines), encoding="utf-8")
    tuned = tmp_path / "tuned"  # a model's folder with an adapter in it: what `transformers serve` takes for a tuned model
    shutil.copytree(TINY_MODEL, tuned)
    for name in ("adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(run / name, tuned / name)
    here = ["eval", run, "--test", tmp_path / "some.jsonl", "--scorer", "generate", "--name", "here"]
    assert cli.main(list(map(str, here))) == 0
    with transformers_serve() as url:
        there = ["eval", run, "--test", tmp_path / "some.jsonl", "--endpoint", url, "--base", TINY_MODEL, "--tuned", tuned, "--name", "there"]
        assert cli.main(list(map(str, there))) == 0
    printed = capsys.readouterr().out
    assert "WARNING" not in printed, "the same prompts, to the token"
    local, served = read_evaluation(run / "eval" / "here"), read_evaluation(run / "eval" / "there")
    assert served.predictions == local.predictions, "the same outputs, row by row"
    assert served.metrics["comparison"] == local.metrics["comparison"] and served.metrics["models"] == local.metrics["models"]
    base, after = (Counter(answer.letter for answer in local.predictions[side]) for side in ("base", "tuned"))
    assert base != after and len(after) > 1 and len(local.predictions["tuned"]) == 4 * len(lines)
