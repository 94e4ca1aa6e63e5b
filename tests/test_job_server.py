"""`lawft serve-jobs`: what clients get wrong, and the parts behind the routes. The whole way: tests/test_job_server_way.py."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading

import httpx
import psutil
import pytest
from conftest import ROOT
from job_server import KEY, MAX_UPLOAD, RECIPE, Server, example, examples, free_port, jsonl, wait

from lawft_trl import cli

HEADERS = {"Authorization": f"Bearer {KEY}"}
JSON = {**HEADERS, "Content-Type": "application/json"}
SECRET = "極秘の契約条項"  # in every upload that is refused for what it says; never in a log


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "jobs")
    yield server
    server.end()
    assert server.orphans() == []
    log = server.log.read_text(encoding="utf-8")
    assert KEY not in log and SECRET not in log and "Traceback" not in log


@pytest.fixture(scope="module")
def things(server) -> dict[str, str]:
    """Ids that bad requests may name: a file of three examples, one of twelve, a job that has failed."""
    files = {name: server.http.post(f"{server.url}/v1/files", headers=HEADERS, data={"purpose": "fine-tune"}, files={"file": ("t.jsonl", examples(count))}).json()["id"] for name, count in (("few", 3), ("file", 12))}
    job = server.http.post(f"{server.url}/v1/fine_tuning/jobs", headers=JSON, json={"model": "tiny", "training_file": files["few"]}).json()["id"]
    wait(lambda: server.http.get(f"{server.url}/v1/fine_tuning/jobs/{job}", headers=HEADERS).json()["status"] == "failed", "a job of three examples to fail")
    return {**files, "job": job}


def upload(content: bytes, **more):
    fields = {"data": {"purpose": "fine-tune"}, "files": {"file": ("train.jsonl", content)}, **more}
    return ("POST", "/v1/files", {key: value for key, value in fields.items() if value is not None})


def job(**values):
    return ("POST", "/v1/fine_tuning/jobs", {"json": {"model": "tiny", "training_file": "{file}", **values}})


def tuned(**values):
    return job(method={"type": "supervised", "supervised": {"hyperparameters": values}})


def chat(**values):
    return ("POST", "/v1/chat/completions", {"json": {"model": "tiny", "messages": [{"role": "user", "content": "問い"}], **values}})


def raw(path: str, content: bytes, kind: str = "application/json"):
    return ("POST", path, {"content": content, "headers": {**HEADERS, "Content-Type": kind}})


def get(path: str, **more):
    return ("GET", path, more)


def said(*messages, **more) -> bytes:
    return jsonl({"messages": list(messages), **more})


def chunks(size: int):
    """A body that is sent in chunks, without its length."""
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    for _ in range(size // 1000):
        yield b"x" * 1000


USER, BOT = {"role": "user", "content": SECRET}, {"role": "assistant", "content": SECRET}
MULTIPART = "multipart/form-data; boundary=b"
JOBS, CHAT = "/v1/fine_tuning/jobs", "/v1/chat/completions"

BAD = {
    # who asks
    "no key": (401, "invalid_api_key", get("/v1/models", headers={})),
    "wrong key": (401, "invalid_api_key", get("/v1/models", headers={"Authorization": f"Bearer {KEY[:-1]}x"})),
    "a part of the key": (401, "invalid_api_key", get("/v1/models", headers={"Authorization": f"Bearer {KEY[:-1]}"})),
    "empty key": (401, "invalid_api_key", get("/v1/models", headers={"Authorization": "Bearer"})),
    "another scheme": (401, "invalid_api_key", get("/v1/models", headers={"Authorization": f"Basic {KEY}"})),
    "key in the query": (401, "invalid_api_key", get(f"/v1/models?api_key={KEY[:5]}", headers={})),
    "two keys": (401, "invalid_api_key", get("/v1/models", headers=[("Authorization", f"Bearer {KEY}"), ("Authorization", "Bearer x")])),
    "key of bytes": (401, "invalid_api_key", get("/v1/models", headers={"Authorization": b"Bearer \xff\xfe"})),
    "long key": (401, "invalid_api_key", get("/v1/models", headers={"Authorization": "Bearer " + "x" * 30000})),
    "no key, no such page": (401, "invalid_api_key", get("/nothing", headers={})),
    "no key, an upload": (401, "invalid_api_key", upload(examples(12), headers={})),
    # where
    "no such page": (404, "unknown_url", get("/v1/nothing")),
    "root": (404, "unknown_url", get("/")),
    "documentation": (404, "unknown_url", get("/docs")),
    "description": (404, "unknown_url", get("/openapi.json")),
    "slash behind": (404, "unknown_url", get("/v1/files/")),
    "pause": (404, "unknown_url", ("POST", JOBS + "/{job}/pause", {})),
    "put files": (405, "unknown_url", ("PUT", "/v1/files", {})),
    "delete models": (405, "unknown_url", ("DELETE", "/v1/models", {})),
    "patch job": (405, "unknown_url", ("PATCH", JOBS + "/{job}", {})),
    "get chat": (405, "unknown_url", get(CHAT)),
    # uploads: the form
    "no body": (415, "unsupported_content_type", ("POST", "/v1/files", {})),
    "JSON for a form": (415, "unsupported_content_type", ("POST", "/v1/files", {"json": {"file": "x"}})),
    "no boundary": (400, "invalid_multipart", raw("/v1/files", b"--b\r\n", "multipart/form-data")),
    "another boundary": (400, "invalid_multipart", raw("/v1/files", b"--c\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx\r\n--c--", MULTIPART)),
    "no form at all": (400, "invalid_multipart", raw("/v1/files", b"\x00\x01\x02" * 100, MULTIPART)),
    "headers without a name": (400, "invalid_multipart", raw("/v1/files", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", MULTIPART)),
    "cut off": (400, "missing_required_parameter", raw("/v1/files", b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{"messages"', MULTIPART)),
    "no file": (400, "missing_required_parameter", upload(b"", files={"purpose": (None, "fine-tune")}, data=None)),
    "file as text": (400, "missing_required_parameter", upload(b"", files={"purpose": (None, "fine-tune"), "file": (None, "{}")}, data=None)),
    "no purpose": (400, "missing_required_parameter", upload(examples(12), data=None)),
    "purpose as a file": (400, "missing_required_parameter", upload(b"", files={"purpose": ("p", b"fine-tune")}, data=None)),
    "another purpose": (400, "invalid_value", upload(examples(12), data={"purpose": "assistants"})),
    "purpose of results": (400, "invalid_value", upload(examples(12), data={"purpose": "fine-tune-results"})),
    "two files": (400, "invalid_multipart", upload(b"", files=[("file", ("a", b"{}")), ("file", ("b", b"{}"))])),
    "too many fields": (400, "invalid_multipart", upload(b"{}", data={"purpose": "fine-tune", **{f"f{i}": "x" for i in range(9)}})),
    "a long field": (400, "invalid_multipart", upload(b"{}", data={"purpose": "x" * 5000})),
    "an end of its life": (400, "unknown_parameter", upload(examples(12), data={"purpose": "fine-tune", "expires_after[anchor]": "created_at"})),
    "too large": (413, "file_too_large", upload(b"x" * (MAX_UPLOAD + 1))),
    "far too large": (413, "file_too_large", upload(b"x" * (20 * MAX_UPLOAD))),
    "too large, in chunks": (413, "file_too_large", ("POST", "/v1/files", {"content": chunks, "headers": {**HEADERS, "Content-Type": MULTIPART}})),
    # uploads: what is in them
    "empty": (400, "invalid_file_format", upload(b"")),
    "blank lines": (400, "invalid_file_format", upload(b"\n\n \n")),
    "bytes": (400, "invalid_file_format", upload(os.urandom(2000))),
    "UTF-16": (400, "invalid_file_format", upload(examples(12).decode().encode("utf-16"))),
    "Shift-JIS": (400, "invalid_file_format", upload(examples(12).decode().encode("cp932"))),
    "an array": (400, "invalid_file_format", upload(json.dumps([example(1)]).encode())),
    "no JSON": (400, "invalid_file_format", upload(SECRET.encode())),
    "deep": (400, "invalid_file_format", upload(b"[" * 100_000)),
    "half a character": (400, "invalid_file_format", upload(b'{"messages": [{"role": "user", "content": "\\ud800"}]}')),
    "another form": (400, "invalid_file_format", upload(jsonl({"prompt": SECRET, "completion": "y"}))),
    "no answer": (400, "invalid_file_format", upload(said(USER))),
    "ends with the user": (400, "invalid_file_format", upload(said(USER, BOT, USER))),
    "no such role": (400, "invalid_file_format", upload(said({"role": "doctor", "content": SECRET}, BOT))),
    "role of a list": (400, "invalid_file_format", upload(said({"role": [], "content": SECRET}, BOT))),
    "a tool": (400, "invalid_file_format", upload(said(USER, {"role": "tool", "content": SECRET}, BOT))),
    "tools": (400, "invalid_file_format", upload(said(USER, BOT, tools=[{}]))),
    "content of a number": (400, "invalid_file_format", upload(said({"role": "user", "content": 5}, BOT))),
    "empty answer": (400, "invalid_file_format", upload(said(USER, {"role": "assistant", "content": " "}))),
    "late system": (400, "invalid_file_format", upload(said(USER, {"role": "system", "content": SECRET}, BOT))),
    "half a weight": (400, "invalid_file_format", upload(said(USER, {**BOT, "weight": 0.5}))),
    "true as a weight": (400, "invalid_file_format", upload(said(USER, {**BOT, "weight": True}))),
    "weight of the user": (400, "invalid_file_format", upload(said({**USER, "weight": 1}, BOT))),
    "nothing weighs": (400, "invalid_file_format", upload(said(USER, {**BOT, "weight": 0}))),
    "unknown key": (400, "invalid_file_format", upload(said(USER, BOT, label="x"))),
    "a name": (400, "invalid_file_format", upload(said({**USER, "name": "太郎"}, BOT))),
    # files
    "no such file": (404, "file_not_found", get("/v1/files/file-none")),
    "content of no file": (404, "file_not_found", get("/v1/files/file-none/content")),
    "delete no file": (404, "file_not_found", ("DELETE", "/v1/files/file-none", {})),
    "file by a path": (404, "file_not_found", get("/v1/files/.lawft-jobs")),
    "file by a way up": (404, "unknown_url", get("/v1/files/..%2f..%2fapi_key/content")),
    "file by dots": (404, "file_not_found", get("/v1/files/%2e%2e/content")),
    "limit 0": (400, "invalid_value", get("/v1/files?limit=0")),
    "limit of words": (400, "invalid_value", get("/v1/files?limit=ten")),
    "limit of full-width digits": (400, "invalid_value", get("/v1/files?limit=１")),
    "limit beyond": (400, "invalid_value", get("/v1/files?limit=10001")),
    "no such order": (400, "invalid_value", get("/v1/files?order=sideways")),
    "after no file": (400, "invalid_value", get("/v1/files?after=file-none")),
    # jobs
    "job of no JSON": (400, "invalid_json", raw(JOBS, b"{model: tiny}")),
    "job of nothing": (400, "invalid_json", raw(JOBS, b"")),
    "job of a list": (400, "invalid_value", raw(JOBS, b"[]")),
    "job of bytes": (400, "invalid_json", raw(JOBS, b'{"model": "\xff"}')),
    "deep job": (400, "invalid_json", raw(JOBS, b'{"model": ' + b"[" * 30_000)),
    "huge job": (413, "request_too_large", raw(JOBS, b'{"model": "' + b"x" * 70_000 + b'"}')),
    "job as text": (415, "unsupported_content_type", raw(JOBS, b"{}", "text/plain")),
    "no model": (400, "missing_required_parameter", ("POST", JOBS, {"json": {"training_file": "{file}"}})),
    "no training file": (400, "missing_required_parameter", ("POST", JOBS, {"json": {"model": "tiny"}})),
    "unknown model": (400, "model_not_available", job(model="gpt-3.5-turbo")),
    "model of a number": (400, "invalid_value", job(model=5)),
    "model as a path": (400, "model_not_available", job(model="../../recipes/socratic.yaml")),
    "unknown file": (400, "file_not_found", job(training_file="file-none")),
    "file as a path": (400, "file_not_found", job(training_file="../../../../etc/passwd")),
    "file of a list": (400, "invalid_value", job(training_file=["{file}"])),
    "unknown validation file": (400, "file_not_found", job(validation_file="file-none")),
    "validated by itself": (400, "invalid_file", job(validation_file="{file}")),
    "n_epochs 99": (400, "invalid_value", tuned(n_epochs=99)),
    "n_epochs 0": (400, "invalid_value", tuned(n_epochs=0)),
    "n_epochs 1.5": (400, "invalid_value", tuned(n_epochs=1.5)),
    "n_epochs in words": (400, "invalid_value", tuned(n_epochs="3")),
    "n_epochs true": (400, "invalid_value", tuned(n_epochs=True)),
    "n_epochs 99, the old way": (400, "invalid_value", job(hyperparameters={"n_epochs": 99})),
    "batch_size 257": (400, "invalid_value", tuned(batch_size=257)),
    "no learning": (400, "invalid_value", tuned(learning_rate_multiplier=0)),
    "endless learning": (400, "invalid_value", raw(JOBS, b'{"model": "tiny", "training_file": "x", "hyperparameters": {"learning_rate_multiplier": 1e999}}')),
    "unknown hyperparameter": (400, "unknown_parameter", tuned(warmup=3)),
    "both places": (400, "invalid_value", job(hyperparameters={}, method={"type": "supervised"})),
    "dpo": (400, "invalid_value", job(method={"type": "dpo"})),
    "long suffix": (400, "invalid_value", job(suffix="x" * 65)),
    "suffix with colons": (400, "invalid_value", job(suffix="a:b")),
    "suffix of a path": (400, "invalid_value", job(suffix="../x")),
    "seed -1": (400, "invalid_value", job(seed=-1)),
    "seed too great": (400, "invalid_value", job(seed=2**31)),
    "metadata of 17": (400, "invalid_value", job(metadata={str(i): "x" for i in range(17)})),
    "long metadata": (400, "invalid_value", job(metadata={"k": "x" * 513})),
    "metadata of numbers": (400, "invalid_value", job(metadata={"k": 1})),
    "integrations": (400, "invalid_value", job(integrations=[{"type": "wandb", "wandb": {"project": "x"}}])),
    "unknown parameter": (400, "unknown_parameter", job(shell="rm")),
    "no such job": (404, "fine_tune_not_found", get(JOBS + "/ftjob-none")),
    "cancel no job": (404, "fine_tune_not_found", ("POST", JOBS + "/ftjob-none/cancel", {})),
    "cancel what has ended": (400, "job_has_ended", ("POST", JOBS + "/{job}/cancel", {})),
    "events of no job": (404, "fine_tune_not_found", get(JOBS + "/ftjob-none/events")),
    "checkpoints of no job": (404, "fine_tune_not_found", get(JOBS + "/ftjob-none/checkpoints")),
    "events after none": (400, "invalid_value", get(JOBS + "/{job}/events?after=ftevent-none")),
    "events, limit -1": (400, "invalid_value", get(JOBS + "/{job}/events?limit=-1")),
    "checkpoints after none": (400, "invalid_value", get(JOBS + "/{job}/checkpoints?after=x")),
    "jobs after none": (400, "invalid_value", get(JOBS + "?after=x")),
    # answers
    "no such model": (404, "model_not_found", chat(model="gpt-4o")),
    "no such tuned model": (404, "model_not_found", chat(model="ft:tiny:lawft::00000000")),
    "no such checkpoint": (404, "model_not_found", chat(model="ft:tiny:lawft::00000000:ckpt-step-1")),
    "model by a path": (404, "model_not_found", chat(model="../../../etc")),
    "describe no model": (404, "model_not_found", get("/v1/models/gpt-4o")),
    "no messages": (400, "missing_required_parameter", ("POST", CHAT, {"json": {"model": "tiny"}})),
    "empty messages": (400, "invalid_value", chat(messages=[])),
    "message of no role": (400, "missing_required_parameter", chat(messages=[{"content": "x"}])),
    "message of a tool": (400, "invalid_value", chat(messages=[{"role": "tool", "content": "x"}])),
    "message of a number": (400, "invalid_value", chat(messages=[{"role": "user", "content": 5}])),
    "message of nothing": (400, "invalid_value", chat(messages=[{"role": "user", "content": ""}])),
    "message without content": (400, "invalid_value", chat(messages=[{"role": "user"}])),
    "message of null": (400, "invalid_value", chat(messages=[{"role": "system", "content": None}])),
    "message of no parts": (400, "invalid_value", chat(messages=[{"role": "user", "content": []}])),
    "a call of a tool": (400, "invalid_value", chat(messages=[{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}])),
    "an image": (400, "invalid_value", chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}])),
    "temperature 3": (400, "invalid_value", chat(temperature=3)),
    "temperature of nothing": (400, "invalid_value", raw(CHAT, b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}')),
    "no tokens": (400, "invalid_value", chat(max_tokens=0)),
    "two answers": (400, "invalid_value", chat(n=2)),
    "a template of one's own": (400, "invalid_value", chat(chat_template_kwargs={"chat_template": "{% for i in range(9**9) %}{% endfor %}"})),
    "tools by a back door": (400, "invalid_value", chat(chat_template_kwargs={"enable_thinking": False, "tools": [{}]})),
    "tools to call": (400, "invalid_value", chat(tools=[{"type": "function"}])),
    "a schema": (400, "invalid_value", chat(response_format={"type": "json_object"})),
    "probabilities": (400, "invalid_value", chat(logprobs=True)),
    "stream in words": (400, "invalid_value", chat(stream="yes")),
    "unknown field": (400, "unknown_parameter", chat(shell="rm")),
    "huge question": (413, "request_too_large", chat(messages=[{"role": "user", "content": "x" * (8 * 1024 * 1024)}])),
}


def filled(value, things):
    """A request with the ids of real things in it."""
    if isinstance(value, str):
        for name, identifier in things.items():
            value = value.replace(f"{{{name}}}", identifier)
        return value
    if isinstance(value, dict):
        return {key: filled(item, things) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, things) for item in value]
    return value


@pytest.mark.parametrize("name", BAD)
def test_bad_input(server, things, name):
    status, code, (method, path, more) = BAD[name]
    more = {"headers": HEADERS, **(more if "content" in more else filled(more, things))}
    if callable(more.get("content")):
        more["content"] = more["content"](3 * MAX_UPLOAD)
    answer = server.http.request(method, server.url + filled(path, things), **more)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"} and set(answer.json()["error"]) == {"message", "type", "param", "code"}
    error = answer.json()["error"]
    assert error["code"] == code and error["message"] and error["type"] == "invalid_request_error", error
    assert SECRET not in answer.text and KEY not in answer.text
    assert server.answers()
    assert {path.name for path in (server.folder / "files").iterdir()} == {things["few"], things["file"]}, "nothing is left of what was refused"


def test_there_are_sixty_bad_inputs():
    assert len(BAD) >= 60


NAMES = {"../../../../tmp/x.jsonl": "x.jsonl", "C:\\data\\契約.jsonl": "契約.jsonl", "/etc/passwd": "passwd", "..": "..", "a\u202elnosj.": "alnosj.", "a\u2066b\u2069.": "ab.", "x" * 300: "x" * 255, "": None}


@pytest.mark.parametrize("name", NAMES)
def test_file_names_are_shown_and_never_used(server, things, name):
    before = set(server.folder.parent.rglob("*"))
    answer = server.http.post(f"{server.url}/v1/files", headers=HEADERS, data={"purpose": "fine-tune"}, files={"file": (name, examples(1))})
    if NAMES[name] is None:  # a part without a file name is a field, not a file
        assert answer.status_code == 400
        return
    record = answer.json()
    assert record["filename"] == NAMES[name]
    assert set(server.folder.parent.rglob("*")) - before - set(server.folder.glob("jobs.sqlite3*")) == {server.folder / "files" / record["id"]}
    assert server.http.get(f"{server.url}/v1/files/{record['id']}/content", headers=HEADERS).content == examples(1)
    assert server.http.delete(f"{server.url}/v1/files/{record['id']}", headers=HEADERS).json() == {"id": record["id"], "object": "file", "deleted": True}


def test_jobs_created_at_once_are_all_there(server, things):
    """Twenty threads; three examples are too few, which each job says by itself."""
    client, made = server.client(), []

    def create(number: int) -> None:
        made.append(client.fine_tuning.jobs.create(model="tiny", training_file=things["few"], metadata={"thread": str(number), "what": "at once"}))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.id for job in made}) == 20
    listed = client.fine_tuning.jobs.list(limit=7, metadata={"what": "at once"})
    pages = [page.data for page in listed.iter_pages()]
    assert [len(page) for page in pages] == [7, 7, 6] and {job.id for page in pages for job in page} == {job.id for job in made}
    wait(lambda: all(client.fine_tuning.jobs.retrieve(job.id).status == "failed" for job in made), "all of them to fail")
    error = client.fine_tuning.jobs.retrieve(made[0].id).error
    assert error.param == "training_file" and "must have at least 10" in error.message
    events = [event.message for event in client.fine_tuning.jobs.list_events(made[0].id, limit=1)]
    assert events[0].startswith("The job failed") and events[-1].startswith("Created fine-tuning job")


def test_raw_bytes_do_not_end_the_server(server):
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/files HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"A" * 100_000):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(sent)
    assert server.answers()


def test_one_server_for_a_folder(server, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.main(["serve-jobs", "--folder", str(server.folder), "--base", f"tiny={RECIPE}", "--port", str(free_port())]) == 2
    assert "another `lawft serve-jobs` is at work there" in capsys.readouterr().err


def test_what_the_command_refuses(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("LAWFT_JOBS_API_KEY", raising=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    base = ["--base", f"tiny={RECIPE}"]
    for words, expected in (
        (["--folder", tmp_path / "new"], "name at least one"),
        (["--folder", tmp_path / "new", "--base", "tiny"], "expected NAME=RECIPE"),
        (["--folder", tmp_path / "new", "--base", f"a:b={RECIPE}"], "as the name of a base model"),
        (["--folder", tmp_path / "new", "--base", "tiny=nothing.yaml"], "no such recipe"),
        (["--folder", tmp_path / "other", *base], "something else"),
        (["--folder", tmp_path / "new", *base, "--host", "0.0.0.0"], "LAWFT_JOBS_API_KEY"),
        (["--folder", tmp_path / "new", *base, "--max-upload", "5²"], "--max-upload 5²"),
        (["--folder", tmp_path / "new", *base, "--max-upload", "²"], "--max-upload ²"),
        (["--folder", tmp_path / "new", *base, "--max-upload", "much", "--port", "0", "--served", "0"], "3 option(s)"),
    ):
        assert cli.main(["serve-jobs", *map(str, words)]) == 2
        assert expected in capsys.readouterr().err
    assert not (tmp_path / "new").exists(), "nothing was begun"
    monkeypatch.setenv("LAWFT_JOBS_API_KEY", "feeble")
    assert cli.main(["serve-jobs", "--folder", str(tmp_path / "new"), *base]) == 2
    printed = capsys.readouterr()
    assert "16 to 512" in printed.err and "feeble" not in printed.err + printed.out


def test_the_key_that_is_made_is_a_file_of_its_owner(tmp_path):
    folder, port = tmp_path / "jobs", free_port()
    environment = {name: value for name, value in os.environ.items() if name != "LAWFT_JOBS_API_KEY"}
    command = [sys.executable, "-m", "lawft_trl.cli", "serve-jobs", "--folder", str(folder), "--base", f"tiny={RECIPE}", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait(lambda: (folder / "jobs.sqlite3").exists(), "the server to start")
        key = (folder / "api_key").read_text(encoding="ascii").strip()

        with httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {key}"}, transport=httpx.HTTPTransport(retries=8)) as client:
            assert client.get(f"http://127.0.0.1:{port}/v1/models").status_code == 200
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(timeout=60)[0]
    assert str(folder / "api_key") in printed and key not in printed and len(key) > 40
    assert stat.S_IMODE((folder / "api_key").stat().st_mode) == 0o600 and stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_was_there_is_kept_from_others(tmp_path):
    folder = tmp_path / "jobs"
    folder.mkdir()
    folder.chmod(0o755)
    server = Server(folder)
    try:
        uploaded = server.http.post(f"{server.url}/v1/files", headers=HEADERS, data={"purpose": "fine-tune"}, files={"file": ("t.jsonl", examples(3))}).json()["id"]
        job = server.http.post(f"{server.url}/v1/fine_tuning/jobs", headers=JSON, json={"model": "tiny", "training_file": uploaded}).json()["id"]
        wait(lambda: server.http.get(f"{server.url}/v1/fine_tuning/jobs/{job}", headers=HEADERS).json()["status"] == "failed", "a job of three examples to fail")
        assert {path.name for path in folder.rglob("*")} >= {uploaded, "train.jsonl", "jobs.sqlite3"}
        assert [str(path) for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077] == []
    finally:
        server.end()


def test_what_lawft_serve_refuses(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert cli.main(["serve", str(tmp_path / "run"), "--port", str(taken.getsockname()[1])]) == 2
        printed = capsys.readouterr()
        assert "cannot be listened on" in printed.err and not printed.out, "no address is told before questions are answered there"
    for words, expected in ((["--port", "99999"], "1 to 65535"), (["--port", str(free_port())], "no finished run here"), (["--vllm", "--name", "x"], "--lora-modules")):
        assert cli.main(["serve", str(tmp_path / "run"), *words]) == 2
        assert expected in capsys.readouterr().err


# The parts


def test_a_child_ends_with_its_parent_however_that_ends(tmp_path):
    child = f"import subprocess, time; from lawft_trl.export.bound_child import bound; print(subprocess.Popen(bound([{sys.executable!r}, '-c', 'import time; time.sleep(600)'], 9)).pid, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        process = psutil.Process(int(parent.stdout.readline()))
        wait(lambda: "sleep(600)" in process.cmdline()[-1], "the child to have become what it is for")
        parent.kill()
    assert not psutil.wait_procs([process], timeout=30)[1]


def test_processes_are_found_and_ended_by_their_mark(tmp_path, monkeypatch):
    """Also one in a session of its own that ignores SIGTERM, whose parent has gone."""
    from lawft_trl.job_server.children import end_children, marked, start_child

    monkeypatch.setenv("LAWFT_JOBS_API_KEY", KEY)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {stubborn!r}], start_new_session=True)"
    with (tmp_path / "log").open("wb") as output:
        start_child([sys.executable, "-c", code], folder=tmp_path, mark="job a", output=output, death=signal.SIGTERM).wait()
    wait(lambda: b"deaf" in (tmp_path / "log").read_bytes(), "the grandchild")
    assert marked(tmp_path, "job b") == [] == marked(tmp_path / "other") and len(marked(tmp_path, "job a")) == 1
    assert KEY not in str(marked(tmp_path)[0].environ())
    assert end_children(tmp_path, seconds=0.5) == 1 and marked(tmp_path) == []

def test_turns_of_weight_0_are_context_and_no_rows(tmp_path):
    from lawft_trl.data.rows import read_rows
    from lawft_trl.job_server.uploads import check_examples, write_rows

    upload = tmp_path / "upload"
    two = [*example(0, weight=0)["messages"], {"role": "user", "content": "続き"}, {"role": "assistant", "content": "終わり", "weight": 1}]
    upload.write_bytes(b"\xef\xbb\xbf" + jsonl({"messages": two}, {"messages": [{**two[0], "role": "developer"}, *two[1:2], two[4]]}) + b"\n\n")
    assert check_examples(upload) == 2
    assert write_rows(upload, tmp_path / "rows.jsonl", dataset="file-x") == (2, 2, 1)
    first, second = read_rows(tmp_path / "rows.jsonl")
    assert [message["role"] for message in first.prompt] == ["system", "user", "assistant", "user"] and first.output == "終わり"
    assert second.system == "あなたは法務の助手です。" and second.id == "line 2, message 3" and second.meta["mode"] == "dialogue"


def test_hyperparameters_become_a_recipe(tmp_path, monkeypatch):
    from lawft_trl.job_server.job_recipes import job_recipe, read_bases, resolved

    monkeypatch.chdir(ROOT)
    base = read_bases({"tiny": RECIPE})["tiny"]
    places = {"train": tmp_path / "train.jsonl", "dev": tmp_path / "dev.jsonl", "run": tmp_path / "run"}
    given = {"n_epochs": 5, "batch_size": 6, "learning_rate_multiplier": 0.5}
    training = job_recipe(base, given, **places, seed=7, processes=1).values["training"]
    assert (training["num_train_epochs"], training["max_steps"], training["seed"]) == (5, -1, 7)
    assert (training["per_device_train_batch_size"], training["gradient_accumulation_steps"]) == (3, 2), "four fit at once, and six are wanted"
    assert training["learning_rate"] == pytest.approx(2e-3) and training["eval_strategy"] == "epoch" == training["save_strategy"]
    auto = dict.fromkeys(given, "auto")
    recipe = job_recipe(base, auto, **(places | {"dev": None}), seed=None, processes=2)
    assert recipe.values["training"]["eval_strategy"] == "no" and recipe.training("seed") == 42
    assert resolved(recipe, auto, 2) == {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0}


def test_shipped_recipes_can_be_bases(monkeypatch):
    from lawft_trl.job_server.job_recipes import read_bases

    monkeypatch.chdir(ROOT)
    shipped = sorted((ROOT / "recipes").glob("*.yaml"))
    bases = read_bases({path.stem: path for path in shipped})
    assert len(bases) == len(shipped) > 3 and {base.recipe.pattern.answer for base in bases.values()} == {"dialogue"}


def test_the_trainings_lines_become_events():
    from lawft_trl.job_server.training_log import as_event

    line = "step 3/9 | 0:00 elapsed, 0:01 left | epoch 1.00 | loss 3.9297 | lr 3.11e-03 | 2,295 tokens/s | peak 0.69 GiB host"
    assert as_event(line) == ("Step 3/9: training loss=3.9297", {"step": 3, "total_steps": 9, "train_loss": 3.9297, "learning_rate": 3.11e-3})
    dev = as_event("step 4/4 | dev loss 7.7631 | dev tokens right 10.5% | took 0:01")
    assert dev == ("Step 4/4: validation loss=7.7631", {"step": 4, "total_steps": 4, "valid_loss": 7.7631, "valid_mean_token_accuracy": 0.105})
    assert as_event("第1条は、当事者の義務を定める。") is None


def test_a_job_that_was_cancelled_stays_cancelled(tmp_path):
    from lawft_trl.job_server.store import Store

    store = Store(tmp_path / "jobs.sqlite3")
    store.add_job({"id": "a", "status": "running", "metadata": {}}, {})
    assert store.change("a", {"status": "cancelled"}) and not store.change("a", {"status": "succeeded"})
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.add_event("a", "never seen")
        raise ZeroDivisionError
    store.close()
    store = Store(tmp_path / "jobs.sqlite3")
    assert store.job("a")["status"] == "cancelled" and store.events("a", after=None, limit=5) == ([], False)


def test_arguments_of_a_chat_template_are_none_of_what_renders_it():
    import inspect

    from lawft_trl.job_server.job_requests import _NOT_OF_A_TEMPLATE, ChatRequest

    for module, name in (("tokenization_utils_base", "PreTrainedTokenizerBase"), ("processing_utils", "ProcessorMixin")):
        kind = getattr(pytest.importorskip(f"transformers.{module}"), name)
        assert set(inspect.signature(kind.apply_chat_template).parameters) <= _NOT_OF_A_TEMPLATE
    asked = {"model": "x", "messages": [{"role": "user", "content": "問い"}], "chat_template_kwargs": {"enable_thinking": False}}
    assert ChatRequest.model_validate_json(json.dumps(asked)).forwarded("x")["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_does_not_come_to_an_end_is_ended(tmp_path, monkeypatch, stream):
    """The server behind it takes the request and says nothing, or no more after the head of its answer."""
    import asyncio

    from lawft_trl.job_server import chat_relay
    from lawft_trl.job_server.api_errors import ApiError
    from lawft_trl.job_server.job_requests import ChatRequest
    from lawft_trl.job_server.served_models import Model, ServedModels, _Served

    async def ask() -> str:
        async def silent(reader, writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if stream:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                await writer.drain()

        listening = await asyncio.start_server(silent, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        models, model = ServedModels(tmp_path, 1), Model(name="x", folder=tmp_path / "x", source=tmp_path)
        models.served[model.folder] = _Served(model=model, process=process, url=url, ready=True)
        request = ChatRequest.model_validate_json(json.dumps({"model": "x", "messages": [{"role": "user", "content": "問い"}], "stream": stream}))
        said = []

        async def hear(message) -> None:
            said.append(message.get("body", b"").decode())

        try:
            answer = await chat_relay.relay(models, model, request)
            await answer({"type": "http", "asgi": {"spec_version": "2.4"}}, None, hear)
        except ApiError as error:
            said.append(f"{error.status} {error}")
        assert models._usable(model) is None and not models.served[model.folder].users
        listening.close()
        return "".join(said)

    monkeypatch.setattr(chat_relay, "_TIMEOUT", httpx.Timeout(0.3))
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        try:
            assert "the next request starts it anew" in asyncio.run(ask())
            assert process.wait(30) == -signal.SIGKILL
        finally:
            process.kill()


@pytest.mark.parametrize("said", ["はい。", ""])
def test_an_answer_is_taken_back_as_the_next_turns_past(said):
    """What the stock client sends of `messages.append(answer.choices[0].message)`, also of an answer that was cut off at once."""
    from openai.types.chat import ChatCompletion

    from lawft_trl.job_server.chat_relay import _completion
    from lawft_trl.job_server.job_requests import ChatRequest

    served = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
    answer = ChatCompletion.model_validate(_completion(served, "tiny")).choices[0].message.to_dict()
    for more in ({}, {"audio": None, "tool_calls": None, "function_call": None, "refusal": ""}, {"content": said or None, "tool_calls": []}):
        turns = [{"role": "user", "content": "問い"}, {**answer, **more}, {"role": "user", "content": "続き"}]
        asked = ChatRequest.model_validate_json(json.dumps({"model": "tiny", "messages": turns}))
        assert [turn["content"] for turn in asked.forwarded("x")["messages"]] == ["問い", said, "続き"]


def test_a_training_ends_with_the_store_and_its_job_goes_on_when_that_writes_again(tmp_path, monkeypatch):
    """The store fails once while a job runs: the next training begins when the first has ended, in the same job."""
    import sqlite3

    from lawft_trl.job_server import worker as module
    from lawft_trl.job_server.children import end_children, marked
    from lawft_trl.job_server.places import Places
    from lawft_trl.job_server.store import Store

    (tmp_path / "jobs" / "ftjob-a").mkdir(parents=True)
    training = f"""
import pathlib, time
first = pathlib.Path({str(tmp_path / "first")!r})
if first.exists(): raise SystemExit("the second training")
first.touch()
for step in range(1, 600): print(f"step {{step}}/600 | loss 1.0 | lr 0.1", flush=True); time.sleep(0.2)
"""
    monkeypatch.setattr(module, "launch_command", lambda recipe, config: [sys.executable, "-c", training])
    monkeypatch.setattr(module, "_SECONDS_TO_RECOVER", 0.1)
    store = Store(tmp_path / "jobs.sqlite3")
    store.add_job({"id": "ftjob-a", "status": "queued", "fine_tuned_model": None, "metadata": {}, "error": None}, {})
    worker, write, running = module.Worker(store, Places(folder=tmp_path), {}, None), store._write, []

    def write_or_fail(*statement):
        if (tmp_path / "first").exists() and not running:
            running.extend(marked(tmp_path, "job ftjob-a"))
            raise sqlite3.OperationalError("database or disk is full")
        write(*statement)

    monkeypatch.setattr(store, "_write", write_or_fail)
    worker.start()
    try:
        wait(lambda: store.job("ftjob-a")["status"] == "failed", "the second training to fail", 60)
        assert running and not any(process.is_running() for process in running)
        assert "the second training" in store.job("ftjob-a")["error"]["message"], store.job("ftjob-a")
        assert any("could not write to its disk" in event["message"] for event in store.events("ftjob-a", after=None, limit=99)[0])
    finally:
        worker.stop()
        end_children(tmp_path, seconds=1)
        store.close()


def test_what_a_killed_server_left_is_waited_for_by_the_training_alone(tmp_path, monkeypatch):
    """The worker begins at once, stops at once, and leaves the other's children in peace until their time is over."""
    from lawft_trl.job_server import children
    from lawft_trl.job_server.places import Places
    from lawft_trl.job_server.store import Store
    from lawft_trl.job_server.worker import Worker

    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with (tmp_path / "log").open("wb") as output, monkeypatch.context() as earlier:
        earlier.setattr(children, "_THIS", "earlier")
        children.start_child(command, folder=tmp_path, mark="job a", output=output, death=signal.SIGTERM)
        wait(lambda: len(children.marked(tmp_path)) == 1, "the child")
    with (tmp_path / "log").open("wb") as output:
        children.start_child(command, folder=tmp_path, mark="model x", output=output, death=signal.SIGTERM)
    store = Store(tmp_path / "jobs.sqlite3")
    store.add_job({"id": "a", "status": "running", "metadata": {}}, {})
    worker = Worker(store, Places(folder=tmp_path), {}, None)
    worker.start()
    worker.stop()
    try:
        assert store.job("a")["status"] == "running" and len(children.marked(tmp_path)) == 2, "the next server's to wait for"
        children.end_leftovers(tmp_path, seconds=0, stopping=threading.Event())
        assert [process.environ()["LAWFT_JOBS_CHILD"] for process in children.marked(tmp_path)] == ["model x"]
    finally:
        children.end_children(tmp_path, seconds=1)
        store.close()


def test_a_job_that_was_done_is_not_failed_for_the_servers_deaths(tmp_path):
    from lawft_trl.job_server.places import Places
    from lawft_trl.job_server.store import Store
    from lawft_trl.job_server.worker import Worker

    store = Store(tmp_path / "jobs.sqlite3")
    worker = Worker(store, Places(folder=tmp_path), {}, None)
    for name in ("done", "not"):
        store.add_job({"id": name, "status": "running", "metadata": {}}, {"interruptions": 3})
    (tmp_path / "runs" / "done").mkdir(parents=True)
    (tmp_path / "runs" / "done" / "run.json").touch()
    worker._recover("done")
    worker._recover("not")
    assert [store.job(name)["status"] for name in ("done", "not")] == ["queued", "failed"]
    store.close()


def test_a_full_database_is_a_full_disk_and_a_client_that_went_no_error(tmp_path, caplog):
    import asyncio

    from fastapi import FastAPI
    from starlette.requests import ClientDisconnect

    from lawft_trl.job_server.api_errors import handle_errors, without_tracebacks
    from lawft_trl.job_server.store import Store

    app, store = FastAPI(), Store(tmp_path / "jobs.sqlite3")
    handle_errors(app)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to be full

    @app.get("/full")
    async def full():
        store.add_job({"id": "a", "text": "x" * 100_000}, {})

    @app.get("/gone")
    async def gone():
        raise ClientDisconnect

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=without_tracebacks(app)), base_url="http://x") as client:
            answer = await client.get("/full")
            await client.get("/gone")
            return answer

    answer = asyncio.run(ask())
    assert answer.status_code == 507 and answer.json()["error"]["code"] == "disk_full"
    assert "ClientDisconnect" not in caplog.text
    store.close()


def test_checkpoints_are_those_that_can_be_asked(tmp_path):
    """A job that was cancelled has some in its unfinished run; nobody answers under their names."""
    from lawft_trl.job_server.job_results import checkpoints

    for status in ("running", "cancelled", "failed"):
        assert checkpoints({"id": "ftjob-a", "status": status, "model": "tiny"}, None, tmp_path / "a", 1) == []


def test_an_error_of_the_servers_own_tells_nothing_of_the_request(caplog):
    import asyncio

    from fastapi import FastAPI

    from lawft_trl.job_server.api_errors import handle_errors, without_tracebacks

    app = FastAPI()
    handle_errors(app)

    @app.get("/")
    async def broken():
        raise ValueError(SECRET)

    async def ask():
        transport = httpx.ASGITransport(app=without_tracebacks(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/")

    answer = asyncio.run(ask())
    assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
    assert SECRET not in answer.text + caplog.text and "ValueError" in caplog.text
