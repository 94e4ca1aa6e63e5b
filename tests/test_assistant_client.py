"""The assistant's client over real HTTP: what is sent, what comes back, and every way in which it does not."""

import datetime
import hashlib
import json
import logging
import socket
import threading

import pytest
from conftest import QUICKSTART
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from werkzeug import Response

from lawft_trl.assistant import failures
from lawft_trl.assistant.answer_forms import read_form
from lawft_trl.assistant.circuit import Circuit
from lawft_trl.assistant.client import LegalClient
from lawft_trl.assistant.conversation import Conversation, count_with, estimate_tokens, fit
from lawft_trl.assistant.models import BACKENDS, ModelEntry, entry_from_url, entry_warnings, read_models
from lawft_trl.errors import InputError
from lawft_trl.recipe import load_recipe
from lawft_trl.run_dir import begin, finish, unfinished

KEY = "sk-proj-0123456789abcdefSECRET"
QUESTION = "当社と山田商店との秘密保持契約の第三条は有効ですか。"
ANSWER = "有効と考えられますが、弁護士に確認してください。"
MESSAGES = [{"role": "user", "content": QUESTION}]
PATH = "/v1/chat/completions"


class Finding(BaseModel):
    clause: int
    issue: str = Field(min_length=1)


GOOD = '{"clause": 3, "issue": "期間の定めがない"}'


def completion(text=ANSWER, finish="stop", usage=(20, 10)) -> dict:
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "served@main"}
    body["choices"] = [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}]
    return body | ({"usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}} if usage else {})


def chunk(text=None, finish=None, **more) -> str:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return "data: " + json.dumps({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "served", "choices": [choice], **more}) + "\n\n"


class Server:
    """Answers what it is told, request after request, the last thing for ever; keeps what was sent."""

    def __init__(self, httpserver):
        self.url, self.sent, self.answers = httpserver.url_for("/v1"), [], [completion()]
        httpserver.expect_request(PATH).respond_with_handler(self._answer)

    def _answer(self, request) -> Response:
        self.sent.append({"key": request.headers["Authorization"], **request.get_json()})
        answer = self.answers[min(len(self.sent), len(self.answers)) - 1]
        if isinstance(answer, Response):
            return answer
        return answer() if callable(answer) else Response(json.dumps(answer), content_type="application/json")


@pytest.fixture
def server(httpserver) -> Server:
    return Server(httpserver)


def client_of(server: Server, *, retries=0, circuit=None, timeout=20.0, **changes) -> LegalClient:
    entry = ModelEntry(**{"alias": "houmu", "backend": "vllm", "base_url": server.url, "model": "houmu", **changes})
    return LegalClient(entry, retries=retries, circuit=circuit, timeout=timeout)


def refusal(status: int, body: object, **headers: str) -> Response:
    return Response(body if isinstance(body, str) else json.dumps(body), status=status, content_type="application/json", headers={name.replace("_", "-"): value for name, value in headers.items()})


def events(*lines: str, **headers: str) -> Response:
    return Response(iter(lines), content_type="text/event-stream", headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_an_answer_with_its_usage(server):
    client = client_of(server)
    reply = client.ask(MESSAGES)
    assert (reply.text, reply.model, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == (ANSWER, "served@main", "stop", 20, 10)
    assert reply.seconds > 0 and not reply.cut and reply.unsent == ()
    assert server.sent == [{"key": "Bearer none", "model": "houmu", "messages": MESSAGES}], "a local server needs no key, and nothing is sent that was not asked for"
    server.answers = [completion(None, finish="length", usage=None)]
    reply = client.ask(MESSAGES, model="base")
    assert reply.cut and (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("", None, None)
    assert server.sent[-1]["model"] == "base"
    client.close()


# What each kind of server is sent when everything is asked for; see BACKENDS.
SENT = {
    "openai": {"max_completion_tokens", "response_format", "stream_options"},
    "vllm": {"max_tokens", "response_format", "stream_options", "chat_template_kwargs"},
    "transformers": {"max_tokens", "chat_template_kwargs"},
    "lawft": {"max_tokens", "chat_template_kwargs"},
    "other": {"max_tokens", "chat_template_kwargs"},
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_sent_to_which_backend(server, backend, monkeypatch):
    monkeypatch.setenv("THE_KEY", f" {KEY}\n")
    client = client_of(server, backend=backend, api_key_env="THE_KEY", chat_template_kwargs={"enable_thinking": False})
    options = {"temperature": 0, "max_tokens": 64, "seed": 7, "stop": ["。"]}
    server.answers = [completion(GOOD), events(chunk("はい"), chunk(finish="stop"))]
    client.ask_json(MESSAGES, Finding, **options)
    assert list(client.stream(MESSAGES, **options)) == ["はい"]
    asked, streamed = server.sent
    assert asked["key"] == f"Bearer {KEY}"
    for sent in (asked, streamed):
        assert (sent["temperature"], sent["seed"], sent["stop"], sent.get("max_tokens", sent.get("max_completion_tokens"))) == (0, 7, ["。"], 64)
    always = {"key", "model", "messages", "temperature", "seed", "stop", "stream"}
    assert (set(asked) | set(streamed)) - always == SENT[backend]
    assert asked.get("response_format", {}).get("json_schema", {}).get("schema") in (None, Finding.model_json_schema())
    assert streamed.get("stream_options") in (None, {"include_usage": True})
    assert asked.get("chat_template_kwargs") in (None, {"enable_thinking": False})


def test_what_a_model_does_not_take_is_left_out_and_said(server):
    client = client_of(server, unsupported=("temperature", "stream_options"))
    assert client.ask(MESSAGES, temperature=0, seed=1).unsent == ("temperature",)
    server.answers = [events(chunk("は"), chunk(finish="stop"))]
    list(client.stream(MESSAGES, temperature=0))
    assert client.last.unsent == ("temperature",)
    assert all("temperature" not in sent and "stream_options" not in sent for sent in server.sent)


def openai_body(code: str | None, message="", **more) -> dict:
    return {"error": {"message": f"{message} {KEY} {QUESTION}", "type": "x", "param": None, "code": code, **more}}


FAILURES = [
    (401, openai_body("invalid_api_key"), failures.AuthFailed, "THE_KEY"),
    (401, {"detail": "Unauthorized"}, failures.AuthFailed, "THE_KEY"),
    (403, openai_body(None), failures.NotPermitted, "権限"),
    (402, "payment", failures.QuotaExceeded, "利用枠"),
    (429, openai_body("insufficient_quota"), failures.QuotaExceeded, "利用枠"),
    (429, openai_body("rate_limit_exceeded"), failures.RateLimited, "時間をおいて"),
    (429, "slow down", failures.RateLimited, "時間をおいて"),
    (404, openai_body("model_not_found"), failures.ModelMissing, "2027-01-14"),
    (404, {"detail": "Not Found"}, failures.ModelMissing, "/v1"),
    (400, {"detail": "Server is pinned to 'x'"}, failures.ModelMissing, "base_url"),
    (400, {"error": "model 'houmu' not found"}, failures.ModelMissing, "base_url"),
    (400, openai_body("context_length_exceeded"), failures.TooLong, "長すぎ"),
    (400, {"object": "error", "message": "This model's maximum context length is 4096 tokens", "code": 400}, failures.TooLong, "長すぎ"),
    (413, "<html>too large</html>", failures.TooLong, "長すぎ"),
    (400, openai_body("unsupported_value", param="temperature"), failures.Refused, "unsupported に temperature"),
    (400, openai_body("unsupported_parameter", param="max_completion_tokens"), failures.Refused, "unsupported に max_tokens"),
    (422, {"detail": [{"loc": ["body"], "msg": KEY}]}, failures.Refused, "HTTP 422"),
    (418, "", failures.Refused, "HTTP 418"),
    (408, "", failures.TimedOut, "時間内"),
    (500, "null", failures.ServerFailed, "サーバー側"),
    (503, [KEY, QUESTION], failures.ServerFailed, "サーバー側"),
    (200, "<html>proxy</html>", failures.ServerFailed, "形では"),
    (200, '{"choices": []}', failures.ServerFailed, "形では"),
    (200, '{"choices": [{"message": {"content": [1]}}]}', failures.ServerFailed, "形では"),
    (200, "[1, 2]", failures.ServerFailed, "形では"),
    (200, "{broken " + KEY, failures.ServerFailed, "形では"),
]


@pytest.mark.parametrize(("status", "body", "kind", "says"), FAILURES)
def test_every_failure_is_of_its_kind_and_tells_no_secret(server, status, body, kind, says, monkeypatch):
    monkeypatch.setenv("THE_KEY", KEY)
    client = client_of(server, backend="openai", api_key_env="THE_KEY", shutdown_date="2027-01-14")
    server.answers = [lambda: refusal(status, body)]
    with pytest.raises(failures.ModelError) as raised:
        client.ask(MESSAGES)
    error = raised.value
    assert type(error) is kind and says in str(error) and "\n" not in str(error) and "houmu" in str(error)
    assert error.status == (None if status == 200 else status)
    assert error.__cause__ is None and error.__context__ is None, "the SDK's error repeats what the server wrote"
    assert KEY not in repr(error) + str(vars(error)) and QUESTION not in repr(error) + str(vars(error))
    with pytest.raises(failures.ModelError) as raised:
        list(client.stream(MESSAGES))
    assert type(raised.value) is kind and raised.value.__context__ is None
    assert client.last.finish_reason is None and client.last.text == ""


def test_a_server_that_is_not_there_or_does_not_answer(server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = client_of(server, base_url=f"http://127.0.0.1:{free.getsockname()[1]}/v1")
    with pytest.raises(failures.Unreachable, match="base_url"):
        nobody.ask(MESSAGES)
    done = threading.Event()
    server.answers = [lambda: done.wait(10) and refusal(500, "")]
    try:
        with pytest.raises(failures.TimedOut, match="時間内"):
            client_of(server, timeout=0.2).ask(MESSAGES)
    finally:
        done.set()


def test_what_cannot_be_sent_is_the_requests_fault(server):
    with pytest.raises(failures.Refused, match="サロゲート") as raised:
        client_of(server).ask([{"role": "user", "content": f"{QUESTION}\ud800"}])
    assert raised.value.__context__ is None and not server.sent


def test_what_is_meant_for_this_machine_stays_here(server, httpserver, monkeypatch):
    """Neither through a proxy of the environment nor after a redirect; nor does OpenAI's organization go to others."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    client = client_of(server)
    assert client.ask(MESSAGES).text == ANSWER
    [(request, _)] = httpserver.log
    assert KEY not in str(request.headers) and "org-secret" not in str(request.headers)
    httpserver.expect_request("/elsewhere").respond_with_json(completion("転送先"))
    server.answers = [Response(status=307, headers={"Location": httpserver.url_for("/elsewhere")})]
    with pytest.raises(failures.Refused, match="転送"):
        client.ask(MESSAGES)
    assert all(request.path == PATH for request, _ in httpserver.log)


def test_retry_after_is_honoured(server, caplog):
    server.answers = [refusal(429, openai_body(None), Retry_After="0.02"), refusal(503, "", Retry_After="0.03"), completion()]
    with caplog.at_level(logging.INFO, logger="openai"):
        assert client_of(server, retries=2).ask(MESSAGES).text == ANSWER
    assert [record.getMessage().split(" (")[0] for record in caplog.records if "Retrying" in record.getMessage()] == [
        "Retrying request in 0.020000 seconds", "Retrying request in 0.030000 seconds"]  # fmt: skip
    assert len(server.sent) == 3


def test_a_long_retry_after_is_not_waited_for_and_nothing_is_sent_before_it(server):
    clock = [1000.0]
    client = client_of(server, retries=2, circuit=Circuit(clock=lambda: clock[0]))
    server.answers = [refusal(429, openai_body(None), Retry_After="600"), completion()]
    with pytest.raises(failures.RateLimited, match="600秒後") as raised:
        client.ask(MESSAGES)
    assert raised.value.retry_after == 600 and len(server.sent) == 1
    clock[0] += 599
    with pytest.raises(failures.CircuitOpen, match="約1秒後"):
        client.ask(MESSAGES)
    assert len(server.sent) == 1
    clock[0] += 1
    assert client.ask(MESSAGES).text == ANSWER


def test_a_retry_after_may_be_a_date(server):
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1800)
    server.answers = [refusal(429, "", Retry_After=soon.strftime("%a, %d %b %Y %H:%M:%S GMT"))]
    with pytest.raises(failures.RateLimited) as raised:
        client_of(server).ask(MESSAGES)
    assert 1000 < raised.value.retry_after <= 1800


def test_the_circuit_stops_hammering(server):
    clock = [0.0]
    circuit = Circuit(failures=3, cool_down=60, clock=lambda: clock[0])
    first, second = client_of(server, circuit=circuit), client_of(server, circuit=circuit)
    server.answers = [refusal(500, ""), refusal(400, "{}"), *[refusal(500, "") for _ in range(4)], completion(), refusal(500, "")]

    def kinds(*clients):
        for client in clients:
            try:
                yield client.ask(MESSAGES).text
            except failures.ModelError as error:
                yield type(error).__name__

    assert list(kinds(first, first)) == ["ServerFailed", "Refused"], "a server that refuses is not down"
    assert list(kinds(first, second, first)) == ["ServerFailed"] * 3
    assert list(kinds(first, second)) == ["CircuitOpen"] * 2 and len(server.sent) == 5
    with pytest.raises(failures.CircuitOpen, match="約60秒後"):
        list(second.stream(MESSAGES))
    clock[0] = 60.0
    assert list(kinds(first, second)) == ["ServerFailed", "CircuitOpen"], "one trial"
    clock[0] = 120.0
    assert list(kinds(second, first, first)) == [ANSWER, "ServerFailed", "ServerFailed"], "an answer forgets all"
    assert len(server.sent) == 9


def test_a_stream_with_its_usage(server):
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    last = "data: " + json.dumps({"id": "x", "model": "served", "choices": [], "usage": usage}) + "\n\n"
    server.answers = [events(chunk(""), chunk("有効"), chunk("です"), chunk(finish="length"), last, "data: [DONE]\n\n")]
    client = client_of(server)
    assert list(client.stream(MESSAGES)) == ["有効", "です"]
    assert (client.last.text, client.last.finish_reason, client.last.cut) == ("有効です", "length", True)
    assert (client.last.prompt_tokens, client.last.completion_tokens, client.last.model) == (9, 3, "served") and client.last.seconds > 0


BROKEN = {
    "the connection closes": (lambda: events(chunk("有効"), chunk("です"), Content_Length="100000"), failures.Unreachable),
    "it ends without an end": (lambda: events(chunk("有効"), chunk("です")), failures.ServerFailed),
    "an error in it": (lambda: events(chunk("有効"), chunk("です"), f'data: {json.dumps({"error": {"message": KEY, "code": 500}})}\n\n'), failures.ServerFailed),
    "a quota's end in it": (lambda: events(chunk("有効"), chunk("です"), f"data: {json.dumps(openai_body('insufficient_quota'))}\n\n"), failures.QuotaExceeded),
    "not JSON": (lambda: events(chunk("有効"), chunk("です"), f"data: {{{KEY}\n\n"), failures.ServerFailed),
}


@pytest.mark.parametrize("trouble", BROKEN)
def test_a_stream_that_breaks_keeps_what_came(server, trouble):
    answer, kind = BROKEN[trouble]
    server.answers = [answer]
    client, pieces = client_of(server), []
    with pytest.raises(failures.ModelError) as raised:
        for piece in client.stream(MESSAGES):
            pieces.append(piece)
    assert "".join(pieces) == raised.value.text == client.last.text == "有効です" and client.last.finish_reason is None
    assert type(raised.value) is kind and raised.value.__context__ is None
    assert "有効です" not in repr(raised.value) and KEY not in repr(raised.value) and "有効です" not in repr(client.last)


def test_odd_streams(server):
    """A server that answers a stream with JSON, one whose chunks are of other forms, and a reader who leaves."""
    client = client_of(server)
    server.answers = [completion()]
    with pytest.raises(failures.ServerFailed, match="ストリーム形式"):
        list(client.stream(MESSAGES))
    server.answers = [events("data: 7\n\n", 'data: {"choices": {}}\n\n', 'data: {"choices": [{"delta": {"content": [1]}}]}\n\n', chunk("はい", "stop"))]
    assert list(client.stream(MESSAGES)) == ["はい"]
    server.answers = [events(chunk("有効"), chunk("です"), chunk(finish="stop"))]
    pieces = client.stream(MESSAGES)
    next(pieces)
    pieces.close()
    assert (client.last.text, client.last.finish_reason) == ("有効", None)


@pytest.mark.parametrize(
    "answer",
    [GOOD, f"```json\n{GOOD}\n```", f"結果は次のとおりです。\n\n```json\n{GOOD}\n```\n以上です。", f"結果: {GOOD} 以上", f"<think>{{迷う}}</think>\n{GOOD}", f"```json\n{GOOD}"],
)
def test_json_is_read_where_it_stands(server, answer):
    server.answers = [completion(answer)]
    value, reply = client_of(server).ask_json(MESSAGES, Finding)
    assert value == Finding(clause=3, issue="期間の定めがない") and reply.text == answer and len(server.sent) == 1
    [sent] = server.sent[0]["messages"]
    assert sent["content"].startswith(QUESTION) and json.dumps(Finding.model_json_schema(), ensure_ascii=False) in sent["content"]
    assert MESSAGES == [{"role": "user", "content": QUESTION}], "the caller's messages stay as they are"


def test_json_that_does_not_fit_is_repaired_once(server):
    server.answers = [completion('{"clause": "第三条", "issue": ""}', finish="length"), completion(GOOD)]
    value, reply = client_of(server).ask_json(MESSAGES, Finding, seed=3)
    assert value.clause == 3 and (reply.prompt_tokens, reply.completion_tokens) == (40, 20), "the tokens of both"
    first, second = server.sent
    assert second["messages"][:1] == first["messages"] and second["seed"] == 3 and second["response_format"] == first["response_format"]
    assert second["messages"][1] == {"role": "assistant", "content": '{"clause": "第三条", "issue": ""}'}
    told = second["messages"][2]
    assert told["role"] == "user" and "clause: " in told["content"] and "issue: " in told["content"] and "途切れ" in told["content"]


def test_json_that_cannot_be_repaired(server):
    secret = '{"clause": "山田商店"}'
    server.answers = [completion("わかりません", usage=None), completion(secret, finish="length")]
    with pytest.raises(failures.UnreadableAnswer, match="途切れ") as raised:
        client_of(server).ask_json([{"role": "system", "content": "JSON で"}], Finding)
    assert raised.value.text == secret and "山田商店" not in str(raised.value) and len(server.sent) == 2
    assert [message["role"] for message in server.sent[0]["messages"]] == ["system", "user"]


def test_two_different_answers_are_none():
    other = GOOD.replace("3", "4")
    assert read_form(f"```json\n{GOOD}\n```\n```json\n{other}\n```", Finding)[0] is None
    assert read_form(f"例\n```json\n{{}}\n```\n```json\n{GOOD}\n```", Finding)[0] == Finding.model_validate_json(GOOD)
    assert read_form("", Finding)[1] and read_form("}{", Finding)[1] and read_form("[" * 5000, Finding)[1]


def test_no_key_and_no_text_in_any_log(server, caplog, monkeypatch):
    monkeypatch.setenv("THE_KEY", KEY)
    client = client_of(server, api_key_env="THE_KEY", retries=1)
    server.answers = [refusal(500, openai_body(None)), completion(), events(chunk(ANSWER), chunk(finish="stop")), refusal(401, openai_body(None))]
    with caplog.at_level(logging.DEBUG):
        client.ask(MESSAGES)
        list(client.stream(MESSAGES))
        with pytest.raises(failures.AuthFailed):
            client.ask(MESSAGES)
    logged = caplog.text + "".join(repr(vars(record)) for record in caplog.records)
    assert {"openai._base_client", "httpx2"} <= {record.name for record in caplog.records}, "the loggers that might tell were on"
    for secret in (KEY, QUESTION, ANSWER, *(json.dumps(text)[1:-1] for text in (QUESTION, ANSWER))):
        assert secret not in logged
    assert KEY not in repr(client) + repr(client.entry) + repr(client.last)


# --- conversations


def test_a_conversation_is_what_was_answered(server):
    client = client_of(server, system="あなたは法務の助手です。")
    talk = Conversation(client, token_budget=10_000)
    assert talk.estimated and talk.say("一つ目", temperature=0).text == ANSWER
    server.answers = [refusal(500, "")]
    with pytest.raises(failures.ServerFailed):
        talk.say("届かない")
    server.answers = [events(chunk("二つ"), chunk("目へ"), chunk(finish="stop"))]
    assert "".join(talk.stream("二つ目")) == "二つ目へ"
    turns = [("system", "あなたは法務の助手です。"), ("user", "一つ目"), ("assistant", ANSWER), ("user", "二つ目")]
    assert [(message["role"], message["content"]) for message in server.sent[-1]["messages"]] == turns
    server.answers = [events(chunk("途中"), chunk("まで"), chunk(finish="stop"))]
    leaving = talk.stream("三つ目")
    next(leaving)
    leaving.close()
    assert talk.history[-2:] == [{"role": "user", "content": "三つ目"}, {"role": "assistant", "content": "途中"}]
    talk.clear()
    assert talk.history == []
    assert Conversation(client, system="", token_budget=99).system is None


def test_the_oldest_turns_go_and_the_newest_never(server):
    talk = Conversation(client_of(server), system="方針", token_budget=300, count_tokens=lambda messages: sum(len(message["content"]) for message in messages))
    server.answers = [completion("答" * 50)]
    for turn in range(4):
        talk.say(f"{turn}" * 50)
    assert talk.left_out == 2 and not talk.estimated
    assert [message["content"][0] for message in server.sent[-1]["messages"]] == ["方", "1", "答", "2", "答", "3"]
    assert talk.history[0]["content"][0] == "1" and talk.history[-2]["content"][0] == "3"
    assert "20 トークン" in talk.warning and "（手元では 252）" in talk.warning, "the server's prompt is another one"
    server.answers = [completion("答", usage=(6, 1))]
    talk.clear()
    talk.say("同じ長さ")
    assert talk.warning is None
    before, sent = list(talk.history), len(server.sent)
    with pytest.raises(failures.TooLong, match="300 トークン"):
        talk.say("長" * 299)
    assert talk.history == before and len(server.sent) == sent


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(0, 60), st.none() | st.integers(1, 30), st.integers(0, 300))
def test_what_is_kept_fits_and_is_as_much_as_fits(earlier, newest, system, budget):
    contents = ["約 clause "[place % 9] * length for place, length in enumerate([*earlier[: len(earlier) // 2 * 2], newest])]
    system = system and "法" * system
    turns = [{"role": ("user", "assistant")[place % 2], "content": content} for place, content in enumerate(contents)]
    messages, left_out = fit(system, turns, budget, estimate_tokens)
    opening = [{"role": "system", "content": system}] if system else []
    if messages is None:
        assert estimate_tokens([*opening, turns[-1]]) > budget
        return
    assert messages == [*opening, *turns[left_out:]] and left_out % 2 == 0 and messages[-1] == turns[-1]
    assert estimate_tokens(messages) <= budget
    assert not left_out or estimate_tokens([*opening, *turns[left_out - 2 :]]) > budget


def test_counting_with_the_models_own_tokenizer(tiny_tokenizer):
    count = count_with(tiny_tokenizer, {"enable_thinking": False})
    rendered = tiny_tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, enable_thinking=False)
    assert count(MESSAGES) == len(rendered["input_ids"])


# --- the models file


def models_file(tmp_path, text: str):
    (tmp_path / "models.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "models.yaml"


def finished_run(folder):
    target = folder / "runs" / "houmu"
    begin(target, load_recipe(QUICKSTART, ["pattern.system=あなたは法務の助手です。"]), {})
    (unfinished(target) / "adapter_model.safetensors").write_bytes(b"weights")
    finish(unfinished(target), target, {})
    return target


def test_a_models_file(tmp_path):
    finished_run(tmp_path)
    path = models_file(
        tmp_path,
        """\
houmu:
  backend: vllm
  base_url: http://127.0.0.1:8000/v1
  model: houmu
  base_model: Qwen/Qwen3-8B
  run: runs/houmu
gpt:
  backend: openai
  base_url: https://api.openai.com/v1
  model: gpt-4.1-mini
  api_key_env: OPENAI_API_KEY
  shutdown_date: 2027-01-14
  unsupported: [temperature]
""",
    )
    houmu, gpt = read_models(path).values()
    assert (houmu.alias, houmu.base_model, houmu.is_local, gpt.is_local) == ("houmu", "Qwen/Qwen3-8B", True, False)
    assert houmu.adapter_sha256 == hashlib.sha256(b"weights").hexdigest()
    assert houmu.system == "あなたは法務の助手です。" and houmu.chat_template_kwargs == {"enable_thinking": False}, "what it was trained with"
    assert (gpt.shutdown_date, gpt.unsupported, gpt.sends("temperature"), gpt.sends("seed")) == ("2027-01-14", ("temperature",), False, True)
    assert entry_warnings(houmu, datetime.date(2027, 1, 1)) == []
    for day, says in ((datetime.date(2026, 11, 1), None), (datetime.date(2026, 11, 23), "あと52日"), (datetime.date(2027, 1, 15), "終了しています")):
        warnings = entry_warnings(gpt, day)
        assert len(warnings) == (says is not None) and all(says in warning for warning in warnings)
    assert isinstance(hash(houmu), int)


def test_every_mistake_of_a_models_file_at_once(tmp_path):
    finished_run(tmp_path)
    path = models_file(
        tmp_path,
        f"""\
one:
  backend: vlm
  base_urll: http://127.0.0.1:8000/v1
  api_key: {KEY}
  model: 7
two:
  backend: openai
  base_url: https://user:{KEY}@api.openai.com/v1
  model: m
three:
  backend: other
  base_url: http://gpu:8000/v1/chat/completions
  model: m
  api_key_env: {KEY}
  shutdown_date: soon
  adapter_sha256: abc
  unsupported: [temprature]
  chat_template_kwargs: 3
four: vllm
five:
  backend: vllm
  base_url: http://127.0.0.1:8000/v1?key={KEY}
  model: m
  run: runs/houmu
  system: 別の指示
  adapter_sha256: {"f" * 64}
six: {{backend: vllm, base_url: 'http://127.0.0.1\\@example.com/v1', model: m, run: runs/none}}
""",
    )
    with pytest.raises(InputError) as raised:
        read_models(path)
    text = str(raised.value)
    for says in (
        f"{path}:2: one: backend: expected openai, vllm, transformers, lawft, other, found 'vlm'; did you mean vllm?",
        f"{path}:3: one: base_urll: unknown; did you mean base_url?",
        f"{path}:4: one: api_key: a key never stands in this file; write `api_key_env: NAME`",
        f"{path}:5: one: model: expected a text, found int",
        f"{path}:1: one: base_url: missing",
        f"{path}:8: two: base_url: user, password or key never stand in the URL",
        f"{path}:6: two: api_key_env: missing; OpenAI wants a key: api_key_env: OPENAI_API_KEY",
        f"{path}:12: three: base_url: leave /chat/completions out",
        f"{path}:14: three: api_key_env: expected the name of an environment variable",
        f"{path}:15: three: shutdown_date: expected a day, YYYY-MM-DD, found 'soon'",
        f"{path}:16: three: adapter_sha256: expected 64 hexadecimal digits",
        f"{path}:17: three: unsupported: expected a list of temperature",
        f"{path}:19: four: expected `key: value` lines",
        f"{path}:22: five: base_url: expected http://HOST:PORT/v1 or https://HOST/v1, without what follows ? or #",
        f"{path}:25: five: system: left out where there is a run",
        f"{path}:26: five: adapter_sha256: not that of",
        f"{path}:27: six: base_url: user, password or key never",
        f"{path}:18: three: chat_template_kwargs: expected `name: value` lines",
        f"{path}:27: six: run: ",
    ):
        assert says in text, says
    assert len(raised.value.problems) == 19 and KEY not in text


@pytest.mark.parametrize("text", ["", "- a\n- b\n", f"a: {{key: {KEY}, key: 1}}\n", "a:\n\t- x\n", f"a: '{KEY}\n", "3: {backend: other}\n", "{}\n"])
def test_a_file_that_is_no_models_file(tmp_path, text):
    with pytest.raises(InputError) as raised:
        read_models(models_file(tmp_path, text))
    assert "models.yaml" in str(raised.value) and KEY not in str(raised.value)


def test_a_model_from_the_command_line():
    assert entry_from_url("https://api.openai.com/v1", "gpt-4.1-mini").api_key_env == "OPENAI_API_KEY"
    local = entry_from_url("http://[::1]:8000/v1", "m", backend="transformers")
    assert (local.is_local, local.backend, local.api_key_env, local.alias) == (True, "transformers", None, "m")
    for url, is_local in (("http://localhost:1/v1", True), ("http://127.9.9.9/v1", True), ("http://0.0.0.0:1/v1", False), ("http://localhost.example.com/v1", False), ("http://10.0.0.5/v1", False)):
        entry = entry_from_url(url, "m")
        assert entry.is_local is is_local and len(entry_warnings(entry, datetime.date(2026, 1, 1))) == (not is_local), "remote and not encrypted"
    for url in ("localhost:8000", "ftp://x/v1", "http:///v1", "http://[::1/v1", "http://127.0.0.1:99999/v1", "http://ｌocalhost/v1", "http://a b/v1"):
        with pytest.raises(InputError, match="base_url: expected http://HOST:PORT/v1"):
            entry_from_url(url, "m")


@pytest.mark.parametrize("value", [None, "", "  ", "鍵" + KEY, f"{KEY}\n{KEY}"])
def test_a_key_that_is_none(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("THE_KEY", raising=False)
    else:
        monkeypatch.setenv("THE_KEY", value)
    with pytest.raises(InputError, match="THE_KEY") as raised:
        LegalClient(entry_from_url("http://127.0.0.1:9/v1", "m", api_key_env="THE_KEY"))
    assert KEY not in str(raised.value)
