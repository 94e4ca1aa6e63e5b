"""`lawft openai`: training files, tokens and cost, and jobs at a real HTTP server that answers as scripted."""

import base64
import datetime
import fcntl
import inspect
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from conftest import ROOT, TINY_MODEL, run_lawft
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug import Response

from lawft_trl import cli
from lawft_trl.errors import InputError
from lawft_trl.openai_jobs.connection import asking, connect
from lawft_trl.openai_jobs.jobs import JobRequest, has_ended, watch_job
from lawft_trl.openai_jobs.token_counts import (
    base_model,
    count_example,
    count_examples,
    estimate_tokens,
    example_limit,
    vocabulary_of,
)
from lawft_trl.openai_jobs.training_file import check_training_file, read_training_file

KEY = "sk-test-do-not-print-0123456789"
PRICES = "date: 2026-11-22\ncurrency: USD\nsource: a test\nmodels:\n  gpt-4o-mini-2024-07-18: {training: 3.0}\n"
TOPICS = ("解除", "損害賠償", "秘密保持", "競業避止", "知的財産", "検収", "支払遅延", "再委託", "個人情報", "管轄", "準拠法", "不可抗力")


def example(number: int, **changes) -> dict:
    """A sound example on another topic for every number."""
    topic = TOPICS[number % len(TOPICS)]
    messages = [
        {"role": "system", "content": "あなたは法務の助手です。"},
        {"role": "user", "content": f"{topic}の条項で見るべき点は何ですか。（{number}）"},
        {"role": "assistant", "content": f"{topic}については、まず要件を定める条文を読み、次に効果を確かめます。{number}番目の要点は{topic * 2}です。"},
    ]
    return {"messages": messages, **changes}


def said(*turns: tuple) -> dict:
    """An example of `(role, content[, more keys])`."""
    return {"messages": [{"role": role, "content": content, **dict(*more)} for role, content, *more in turns]}


def write(path, records) -> object:
    lines = [record if isinstance(record, bytes) else (record if isinstance(record, str) else json.dumps(record, ensure_ascii=False)).encode() for record in records]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "train.jsonl", map(example, range(12)))


def codes(path, **options) -> dict[str, list[str]]:
    """code -> places of everything found in a file."""
    return {found.code: [item.place.rpartition(":")[2] for item in found.examples] for found in check_training_file(path, **options)[0].findings}


# The training file.

U, A = ("user", "問い"), ("assistant", "答え")
BAD_LINES = {
    "data_type": ["[1, 2]", '"text"', "null", "3"],
    "missing_messages_list": ["{}", '{"messages": []}', '{"messages": {"role": "user"}}', '{"prompt": "a", "completion": "b"}'],
    "message_missing_key": ['{"messages": [{"role": "user"}, {"role": "assistant", "content": "a"}]}', '{"messages": [{"content": "a"}, {"role": "assistant", "content": "a"}]}', '{"messages": ["問い", {"role": "assistant", "content": "a"}]}'],
    "message_unrecognized_key": [said(U, (*A, {"wieght": 0}))],
    "unrecognized_role": [said(("human", "問い"), A), said(([], "問い"), A)],
    "missing_content": [said(("user", ""), A), said(("user", " \n"), A), said(("user", None), A), said(("user", [{"type": "text", "text": "問い"}]), A)],
    "example_missing_assistant_message": [said(("system", "前提"), U)],
    "last_message_not_assistant": [said(U, A, U)],
    "bad_weight": [said(U, (*A, {"weight": 2})), said(U, (*A, {"weight": True})), said(U, (*A, {"weight": 0.5})), said((*U, {"weight": 0}), A), said(U, (*A, {"weight": None}))],
    "nothing_trained": [said(U, (*A, {"weight": 0}))],
    "not_json": ["{'messages': []}", "{", "[" * 100_000, "1" * 5000, "ただの文"],
    "not_utf8": ["契約".encode("cp932"), b'\xff\xfe{\x00'],
}  # fmt: skip


@pytest.mark.parametrize("code", BAD_LINES)
def test_a_bad_line_is_found_where_it_stands_and_the_others_stay(tmp_path, code):
    bad = BAD_LINES[code]
    path = write(tmp_path / "x.jsonl", [*map(example, range(10)), *bad])
    read = read_training_file(path)
    found = {finding.code: finding for finding in read.findings}
    assert [item.place for item in found[code].examples] == [f"{path}:{11 + place}" for place in range(len(bad))]
    assert found[code].severity == "error" and found[code].mend and len(read.examples) == 10


def test_many_bad_lines_are_reported_in_one_go(tmp_path, capsys):
    """All kinds of bad lines in one file: every place in the output, exit code 2 as for `lawft check`."""
    bad = [line for lines in BAD_LINES.values() for line in lines]
    path = write(tmp_path / "x.jsonl", bad)
    assert len(bad) >= 30
    assert cli.main(["openai", "check", str(path), "--json"]) == 2
    captured = capsys.readouterr()
    (report,) = json.loads(captured.out)["reports"]
    places = {int(item["place"].rpartition(":")[2]) for found in report["findings"] if found["severity"] == "error" for item in found["examples"] if item["place"] != str(path)}
    assert places == set(range(1, len(bad) + 1))
    assert set(BAD_LINES) <= {found["code"] for found in report["findings"]}
    assert report["examples"] == 0 and "errors" in captured.err


BAD_FILES = {
    "empty": (b"", "empty_file"),
    "blank": (b"\n\n  \n", "empty_file"),
    "nine": (b"\n".join(json.dumps(example(n)).encode() for n in range(9)), "too_few_examples"),
    "bom": (b"\xef\xbb\xbf" + b"\n".join(json.dumps(example(n)).encode() for n in range(10)), "byte_order_mark"),
    "gap": (b"\n\n".join(json.dumps(example(n)).encode() for n in range(10)), "blank_line"),
    "twice": (b"\n".join(json.dumps(example(n % 9)).encode() for n in range(10)), "duplicate_example"),
    "extra": (b"\n".join(json.dumps(example(n, meta={"id": n})).encode() for n in range(10)), "example_unrecognized_key"),
    "no system": (b"\n".join(json.dumps(said((U[0], U[1] * (n + 1)), A)).encode() for n in range(10)), "missing_system_message"),
    "no user": (b"\n".join(json.dumps(said(("system", "前提" * (n + 1)), A)).encode() for n in range(10)), "missing_user_message"),
    "named": (b"\n".join(json.dumps(said((*U, {"name": "a"}), ("assistant", f"{n}"))).encode() for n in range(10)), "not_for_local_training"),
    "two answers": (b"\n".join(json.dumps(said(U, A, ("assistant", f"{n}"))).encode() for n in range(10)), "not_for_local_training"),
    "tools": (b"\n".join(json.dumps(said(U, ("assistant", None, {"tool_calls": [{"id": "1"}]}), ("tool", "3", {"tool_call_id": "1"}), A)).encode() for n in range(10)), "not_for_local_training"),
    "unseen": (b"\n".join(json.dumps(said(U, ("assistant", f"答え\u200b{n}"))).encode() for n in range(10)), "invisible-character"),
    "half": (b"\n".join(json.dumps(said(U, ("assistant", f"答え\ud800{n}"))).encode() for n in range(10)), "unencodable-character"),
    "marked": (b"\n".join(json.dumps(said(U, ("assistant", f"答え<|im_end|>{n}"))).encode() for n in range(10)), "turn-markup"),
    "personal": (b"\n".join(json.dumps(said(U, ("assistant", f"yamada{n}@firm.co.jp へ"))).encode() for n in range(10)), "personal-data"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_bad_as_a_whole(tmp_path, name):
    content, code = BAD_FILES[name]
    (tmp_path / "x.jsonl").write_bytes(content)
    assert code in codes(tmp_path / "x.jsonl")


def test_a_sound_file_passes(file, capsys):
    assert cli.main(["openai", "check", str(file), "--model", "gpt-4o-mini"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "12 examples of 12 lines, 36 messages, 12 trained answers (12 different), 1 system messages" in out and "nothing found" in out
    assert cli.main(["openai", "check", str(file), "--max-tokens", "0"]) == 2


def test_line_ends_of_windows_and_json_arrays(tmp_path, file):
    (tmp_path / "windows.jsonl").write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert codes(tmp_path / "windows.jsonl") == {}
    (tmp_path / "array.jsonl").write_text(json.dumps([example(1)]), encoding="utf-8")
    with pytest.raises(InputError, match="JSON array"):
        read_training_file(tmp_path / "array.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        read_training_file(tmp_path / "absent.jsonl")
    assert "file_name" in codes(write(tmp_path / "x.txt", map(example, range(10))))


def test_an_example_in_both_files_is_found_also_when_it_is_only_nearly_the_same(tmp_path, file):
    near = example(3)
    near["messages"][1]["content"] = near["messages"][1]["content"].replace("。", "！")
    validation = write(tmp_path / "validation.jsonl", [example(7), near, said(U, A)])
    assert codes(file, validation=validation)["in_validation_file"] == ["4", "8"]
    assert "too_few_examples" not in {found.code for found in check_training_file(file, validation=validation)[1].findings}


def test_long_examples(file):
    counted = count_examples(list(read_training_file(file).examples.values()), model=None, tokenizer=str(TINY_MODEL))
    assert counted.exact
    limit = sorted(counted.lengths)[-3]
    longer = [str(line) for line, length in enumerate(counted.lengths, start=1) if length > limit]
    assert longer and codes(file, tokenizer=str(TINY_MODEL), max_tokens=limit)["example_too_long"] == longer
    (found,) = check_training_file(file, max_tokens=3)[0].findings
    assert (found.code, found.severity, found.count) == ("example_too_long", "warning", 12)  # an estimate is no proof
    assert example_limit("ft:gpt-4o-mini-2024-07-18:x:y:z") == 65_536 and example_limit("gpt-4.1") is None


def test_personal_data_is_not_shown(tmp_path, capsys):
    path = write(tmp_path / "x.jsonl", [*map(example, range(10)), said(U, ("assistant", "yamada@firm.co.jp の件")), said(("u", "yamada@firm.co.jp"), A)])
    cli.main(["openai", "check", str(path)])
    out = capsys.readouterr().out
    assert "personal-data" in out and "yamada" not in out


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["user", "assistant", "system", "tool"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["messages", "role", "content", "weight", "name", "tools", "tool_calls", "meta", "x"]), inner, max_size=5),
    max_leaves=12,
)
messages = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "tool", "x"]), "content": st.none() | st.text(max_size=12)}, optional={"weight": json_values, "name": json_values, "tool_calls": json_values}), max_size=4)  # fmt: skip
lines = json_values.map(json.dumps).map(str.encode) | st.binary(max_size=20) | st.fixed_dictionaries({"messages": messages}, optional={"tools": json_values, "meta": json_values}).map(json.dumps).map(str.encode)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines, max_size=6))
def test_the_checker_survives_arbitrary_lines(tmp_path, content):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(content))
    try:
        report = check_training_file(path, validation=path, model="gpt-4o")[0]
    except InputError:  # one JSON array
        return
    assert report.figures["examples"] <= report.figures["lines"] <= len(path.read_bytes().split(b"\n"))
    assert report.figures["examples"] < 10 and any(found.severity == "error" for found in report.findings)


# Tokens and cost.


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(["o200k_base", "cl100k_base", None]))
def test_the_estimate_is_monotone(text, more, vocabulary):
    few, many = (count_example({"messages": [{"role": "user", "content": content}]}, lambda part: estimate_tokens(part, vocabulary)) for content in (text, text + more))
    assert 0 < few <= many
    assert estimate_tokens(text, vocabulary) + estimate_tokens(more, vocabulary) >= estimate_tokens(text + more, vocabulary)
    assert len(text) <= 10 * estimate_tokens(text, vocabulary)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 12), st.floats(0.1, 50), st.floats(0, 20))
def test_the_cost_is_monotone(tmp_path, examples, epochs, more):
    from lawft_trl.openai_jobs.cost import estimate_cost

    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")
    costs = []
    for count, times in ((examples, epochs), (examples + 1, epochs), (examples, epochs + more)):
        path = write(tmp_path / "x.jsonl", map(example, range(count)))
        costs.append(estimate_cost(path, model="ft:gpt-4o-mini-2024-07-18:a:b:c", epochs=times, prices=tmp_path / "prices.yaml", gpu_hour_rate=2, tokens_per_second=100))
    assert costs[0].price < costs[1].price and costs[0].price <= costs[2].price and costs[0].gpu_price <= costs[2].gpu_price
    assert costs[0].price == pytest.approx(costs[0].trained_tokens * 3 / 1e6)


def test_vocabularies_of_tuned_models_are_those_of_their_bases():
    """tiktoken itself says cl100k_base for a tuned gpt-4.1."""
    tiktoken = pytest.importorskip("tiktoken")
    for name in ("gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-4.1", "gpt-4.1-mini-2025-04-14", "gpt-4.1-nano-2025-04-14", "gpt-4", "gpt-4-0613", "gpt-3.5-turbo-0125", "gpt-5-mini", "o3", "babbage-002"):  # fmt: skip
        assert vocabulary_of(name) == vocabulary_of(f"ft:{name}:org::id") == tiktoken.model.encoding_name_for_model(name)
    assert base_model("ft:gpt-4.1-mini-2025-04-14:org:suffix:id") == "gpt-4.1-mini-2025-04-14" and base_model("org/model:tag") == "org/model:tag"
    assert [vocabulary_of(name) for name in ("gpt-4oracle", "Qwen/Qwen3-8B", "", None)] == [None] * 4


def test_no_vocabulary_is_fetched(file, tmp_path, monkeypatch):
    """An empty cache, and one whose file is another: an estimate that says so, no download, and the file stays."""
    tiktoken_load = pytest.importorskip("tiktoken.load")
    monkeypatch.setattr(tiktoken_load, "read_file", lambda path: pytest.fail(f"fetched {path}"))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    records = list(read_training_file(file).examples.values())
    assert not count_examples(records, model="gpt-4o").exact
    stale = tmp_path / "fb374d419588a4632f3f557e76b4b70aebbca790"
    stale.write_text("something else")
    counted = count_examples(records, model="gpt-4o")
    assert not counted.exact and "ESTIMATE" in counted.counted_by and "TIKTOKEN_CACHE_DIR" in counted.counted_by and stale.exists()


def test_the_pinned_vocabularies_are_those_that_tiktoken_wants():
    public = pytest.importorskip("tiktoken_ext.openai_public")
    from lawft_trl.openai_jobs import token_counts

    for name, sha256 in token_counts._SHA256.items():
        source = inspect.getsource(getattr(public, name))
        assert sha256 in source and token_counts._SOURCE.format(name) in source


def test_the_real_vocabulary_where_there_is_a_cache(file):
    records = list(read_training_file(file).examples.values())
    counted = count_examples(records, model="ft:gpt-4.1-mini-2025-04-14:org:s:id")
    if not counted.exact:
        pytest.skip("no TIKTOKEN_CACHE_DIR with o200k_base: the exact count was NOT tested")
    estimated = [count_example(record, lambda text: estimate_tokens(text, "o200k_base")) for record in records]
    assert counted.counted_by == "o200k_base" and 0.7 < sum(estimated) / sum(counted.lengths) < 1.4
    (with_special,) = count_examples([said(U, ("assistant", "<|endoftext|>"))], model="gpt-4o").lengths  # text, not the end
    assert with_special > count_examples([said(U, ("assistant", "答"))], model="gpt-4o").lengths[0] + 3


def test_cost_as_it_is_printed(file, tmp_path, capsys):
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES, encoding="utf-8")
    arguments = ["openai", "cost", str(file), "--model", "ft:gpt-4o-mini-2024-07-18:org::id"]
    assert cli.main([*arguments, "--epochs", "2", "--prices", str(prices)]) == 0
    assert "USD (prices of 2026-11-22, 3 per million)" in capsys.readouterr().out
    assert cli.main([*arguments, "--tokenizer", str(TINY_MODEL), "--gpu-hour-rate", "2", "--tokens-per-second", "10"]) == 0
    out = capsys.readouterr().out
    assert "GPU hours at 10 tokens/s" in out and "ESTIMATE" not in out and "USD" not in out
    assert cli.main(arguments) == 0
    assert "no price" in capsys.readouterr().out
    for wrong in (["--tokenizer", "Qwen/Qwen3-8B"], ["--epochs", "0"], ["--gpu-hour-rate", "1"], ["--tokens-per-second", "nan"], ["--prices", "absent.yaml"]):
        assert cli.main([*arguments, *wrong]) == 2
    assert cli.main(["openai", "cost", str(file), "--prices", str(prices)]) == 2
    prices.write_text(PRICES.replace("date: 2026-11-22\n", ""), encoding="utf-8")
    assert cli.main([*arguments, "--prices", str(prices)]) == 2  # no money without a date
    assert "`date`" in capsys.readouterr().err
    assert cli.main(["openai", "cost", str(write(tmp_path / "bad.jsonl", ["{}"]))]) == 2


# Jobs.

JOB = {"id": "ftjob-1", "object": "fine_tuning.job", "created_at": 1_790_000_000, "finished_at": None, "model": "tiny", "fine_tuned_model": None, "organization_id": "org",
       "status": "running", "hyperparameters": {"n_epochs": 2}, "training_file": "file-1", "validation_file": None, "result_files": [], "seed": 7, "trained_tokens": None, "error": {}}  # fmt: skip
DONE = {**JOB, "status": "succeeded", "fine_tuned_model": "ft:tiny:org:houmu:1", "finished_at": 1_790_000_100, "trained_tokens": 1234, "result_files": ["file-r", "file-gone"]}
FILE = {"id": "file-1", "object": "file", "bytes": 10, "created_at": 1, "filename": "train.jsonl", "purpose": "fine-tune", "status": "processed"}


def event(number: int, message: str, **more) -> dict:
    return {"id": f"ev-{number}", "object": "fine_tuning.job.event", "created_at": 1_790_000_000 + number, "level": "info", "message": message, "type": "message", **more}


EVENTS = [
    event(1, "Validating training file"),
    event(2, "Step 1/4: training loss=2.0", type="metrics", data={"step": 1, "total_steps": 4, "train_loss": 2.0}),
    event(3, "Step 2/4", type="metrics", data={"step": 2, "total_steps": 4, "train_loss": 1.5}),
    event(4, "careful \x1b[31mnow", level="warn"),
    event(5, "Step 4/4", type="metrics", data={"step": 4, "total_steps": 4, "train_loss": 1.25, "train_mean_token_accuracy": 0.5}),
    event(6, "The job has successfully completed"),
]
QUOTA = {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota", "param": None}}


def reply(body, status: int = 200, **headers: str) -> Response:
    return Response(json.dumps(body), status, headers, content_type="application/json")


def page(items: list, more: bool = False) -> dict:
    return {"object": "list", "data": items, "has_more": more, "first_id": None, "last_id": None}


class Api:
    """The fine-tuning API, answering a job's state as scripted: a state, or a whole response; the last one stays."""

    def __init__(self, server, states=("running",)):
        self.server, self.states, self.bodies, self.keys = server, list(states), [], []
        self.url = server.url_for("/v1")
        self.events = EVENTS
        for path, handler in {
            "/v1/files": lambda request: reply({**FILE, "status": "uploaded"}),
            "/v1/files/file-1": lambda request: reply(FILE),
            "/v1/files/file-r": lambda request: reply({**FILE, "id": "file-r", "filename": "../../steps.csv"}),
            "/v1/files/file-gone": lambda request: reply({"error": {"message": "No such file"}}, 404),
            "/v1/files/file-r/content": lambda request: Response(base64.b64encode(b"step,train_loss\n1,2.0\n"), content_type="application/octet-stream"),
            "/v1/models": lambda request: reply(page([{"id": "tiny", "object": "model", "created": 1, "owned_by": "x", "shutdown_date": "2027-01-14"}])),
            "/v1/fine_tuning/jobs": self.jobs,
            "/v1/fine_tuning/jobs/ftjob-1": self.state,
            "/v1/fine_tuning/jobs/ftjob-1/events": self.list_events,
            "/v1/fine_tuning/jobs/ftjob-1/cancel": lambda request: reply({**JOB, "status": "cancelled"}),
            "/v1/fine_tuning/jobs/ftjob-1/checkpoints": lambda request: reply(page([{"id": f"ckpt-{step}", "object": "fine_tuning.job.checkpoint", "created_at": 1, "fine_tuned_model_checkpoint": f"ft:tiny:step-{step}", "fine_tuning_job_id": "ftjob-1", "metrics": {"step": step, "train_loss": 1 / step}, "step_number": step} for step in (4, 2)])),
        }.items():  # fmt: skip
            server.expect_request(path).respond_with_handler(lambda request, handler=handler: self.seen(request) or handler(request))

    def seen(self, request):
        self.keys.append(request.headers.get("Authorization"))

    def jobs(self, request):
        if request.method == "GET":
            return reply(page([DONE, JOB]))
        self.bodies.append(request.json)
        return reply({**JOB, "status": "validating_files", "model": request.json["model"]})

    def state(self, request):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return state if isinstance(state, Response) else reply(DONE if state == "succeeded" else {**JOB, **(state if isinstance(state, dict) else {"status": state})})

    def list_events(self, request):
        """Two to a page, newest first, as many as the states that have passed."""
        known = self.events if len(self.states) == 1 else self.events[: max(1, len(self.events) - len(self.states))]
        newest = known[::-1]
        start = next((place for place, item in enumerate(newest, start=1) if item["id"] == request.args.get("after")), 0)
        return reply(page(newest[start : start + 2], more=start + 2 < len(newest)))


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_LOG"):
        monkeypatch.delenv(name, raising=False)


def lawft(api, *arguments) -> int:
    return cli.main(["openai", *map(str, arguments), "--base-url", api.url])


def test_the_whole_way_as_a_user_walks_it(httpserver, file, tmp_path, key):
    """upload, create, watch through a 429, a 503 and an unknown state, pull: with no key in sight."""
    busy = reply({"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}, 429, **{"retry-after-ms": "20"})
    api = Api(httpserver, ["validating_files", busy, "queued", "dreaming", reply({}, 503, **{"retry-after-ms": "10"}), "running", "succeeded"])
    outputs = []

    def step(*arguments) -> str:
        result = run_lawft("openai", *arguments, check=True, cwd=tmp_path, OPENAI_BASE_URL=api.url, OPENAI_LOG="debug")
        outputs.extend([result.stdout, result.stderr])
        return result.stdout.strip(), result.stderr

    assert step("upload", file)[0] == "file-1"
    job, told = step("create", "file-1", "--model", "tiny", "--n-epochs", "2", "--learning-rate-multiplier", "auto", "--suffix", "houmu", "--seed", "7", "--metadata", "set=a=b")
    assert job == "ftjob-1" and "tiny will be shut down on 2027-01-14" in told
    assert api.bodies == [{"training_file": "file-1", "model": "tiny", "suffix": "houmu", "seed": 7, "metadata": {"set": "a=b"},
                           "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": "auto"}}}}]  # fmt: skip
    model, told = step("watch", job, "--interval", "0.01")
    lines = [line for line in told.splitlines() if not line.startswith(("[20", "Next"))]
    assert model == "ft:tiny:org:houmu:1"
    assert [line for line in lines if not line.startswith("==")] == ["Validating training file", "step 1/4  train_loss 2", "step 2/4  train_loss 1.5", "warn: careful ‹U+001B›[31mnow", "step 4/4  train_loss 1.25  train_mean_token_accuracy 0.5", "The job has successfully completed"]  # fmt: skip
    assert [line for line in lines if line.startswith("==")] == ["== validating_files", "== queued", "== dreaming (a state this program does not know; it is waited on)", "== running", "== succeeded"]
    assert lines[-1] == "== succeeded"
    assert step("pull", job, "--out", "job.json")[0] == model
    record = json.loads((tmp_path / "job.json").read_text(encoding="utf-8"))
    assert record["tuned_model"] == model and record["final_metrics"]["train_loss"] == 1.25 and record["trained_tokens"] == 1234
    assert [checkpoint["step"] for checkpoint in record["checkpoints"]] == [2, 4] and len(record["events"]) == 6 and record["error"] is None
    assert record["result_files"][0]["text"] == "step,train_loss\n1,2.0\n" and "error" in record["result_files"][1]
    assert len(record["warnings"]) == 2 and "is not among the 1 models" in record["warnings"][0]
    assert set(api.keys) == {f"Bearer {KEY}"}
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("DEBUG" in text for text in outputs)  # the SDK's own log was on, and holds no key
    assert not any(KEY in text for text in outputs) and not any(KEY.encode() in content for content in written)


def test_a_server_that_repeats_the_key_or_sends_control_characters(httpserver, file, key, capsys, tmp_path):
    """In every text it gives: the record has no key in it, what is printed neither that nor an escape, nor the URL's password."""
    odd = f"\x1b[2Jx {KEY}"
    named = {"id": "ftjob-1\x1b[2J", "model": odd, "fine_tuned_model": odd, "error": {"code": "x", "message": odd}, "finished_at": 1, "result_files": [f"r-{KEY}\x1b[2J"]}
    httpserver.expect_request("/v1/files").respond_with_json({**FILE, "id": odd})  # the first that fits is taken
    httpserver.expect_request("/v1/files/file-r/content").respond_with_data(f"Authorization: Bearer {KEY}")
    api = Api(httpserver, [{**named, "status": "succeeded"}])
    api.events = [event(1, odd, level=odd, type="metrics", data={odd: 1.5})]
    api.url = api.url.replace("http://", "http://someone:geheim@")
    for state, arguments in (("succeeded", ("watch", "ftjob-1")), (odd, ("watch", "ftjob-1")), ("succeeded", ("pull", "ftjob-1", "--out", tmp_path / "a.json")), ("succeeded", ("cancel", "ftjob-1")), ("succeeded", ("upload", file)), ("succeeded", ("create", "file-1", "--model", "tiny"))):
        api.states = [{**named, "status": state}]
        lawft(api, *arguments)
        printed = "".join(capsys.readouterr())
        assert printed and "\x1b" not in printed and KEY not in printed and "geheim" not in printed, (arguments, printed)
    assert KEY not in (tmp_path / "a.json").read_text(encoding="utf-8")
    api.states = [{**named, "status": "succeeded", "result_files": ["file-r"]}]
    assert lawft(api, "pull", "ftjob-1", "--out", tmp_path / "b.json") == 0
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))["result_files"][0]["text"] == "Authorization: Bearer (the key)"


def test_a_success_without_a_model_is_none(httpserver, key, capsys):
    api = Api(httpserver, [{"status": "succeeded", "finished_at": 1}])
    assert lawft(api, "watch", "ftjob-1") == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "names no tuned model" in printed.err


def test_watch_ends(httpserver, key, capsys):
    api = Api(httpserver, ["succeeded"])
    assert lawft(api, "watch", "ftjob-1") == 0 and capsys.readouterr().out == "ft:tiny:org:houmu:1\n"  # long after its end
    api.states = [{"status": "failed", "error": {"code": "invalid_file", "message": "line 3 is bad"}, "finished_at": 1}]
    assert lawft(api, "watch", "ftjob-1") == 1 and "ended: failed: invalid_file: line 3 is bad" in capsys.readouterr().err
    api.states = ["running", "cancelled"]
    assert lawft(api, "watch", "ftjob-1", "--interval", 0.01) == 1
    api.states = [{"status": "expired", "finished_at": 5}]
    assert lawft(api, "watch", "ftjob-1") == 1 and "does not know; it is an end" in capsys.readouterr().err
    api.states = ["paused"]
    assert lawft(api, "watch", "ftjob-1", "--deadline", 0.05, "--interval", 0.02) == 3
    err = capsys.readouterr().err
    assert "still paused after 0.05 seconds" in err and f"lawft openai watch ftjob-1 --base-url {api.url}" in err
    assert lawft(api, "watch", "ftjob-1", "--deadline", 0) == 2
    assert lawft(api, "pull", "ftjob-1", "--out", "x.json") == 2 and "has not ended" in capsys.readouterr().err
    assert lawft(api, "watch") == 0 and capsys.readouterr().out.splitlines() == ["ftjob-1  succeeded  tiny  ft:tiny:org:houmu:1", "ftjob-1  running  tiny"]
    assert lawft(api, "cancel", "ftjob-1") == 0 and "ftjob-1 is cancelled" in capsys.readouterr().err


def test_a_server_that_comes_back_is_waited_for_and_one_that_does_not_is_left(httpserver, key, monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    down = [reply({"detail": "restarting"}, 503) for _ in range(3)]  # one look: the first attempt and its two repetitions
    api, updates = Api(httpserver, ["running", *down, "succeeded"]), []
    job = watch_job(connect(api.url), "ftjob-1", show=updates.append, deadline=60, interval=0.01)
    assert has_ended(job) and [update.text for update in updates if update.kind == "trouble"] == [f"{api.url}: could not read the job ftjob-1: the server failed, status 503: restarting; trying again"]
    api.states = ["running", reply({"detail": "dead"}, 500)]
    with pytest.raises(InputError, match="status 500: dead"):
        watch_job(connect(api.url), "ftjob-1", show=updates.append, deadline=60, interval=0.01, patience=0.05)
    for body, status in ((QUOTA, 429), ({"detail": "no"}, 401)):
        api.states = ["running", reply(body, status)]
        with pytest.raises(InputError):
            watch_job(connect(api.url), "ftjob-1", show=updates.append, deadline=60, interval=0.01)


def test_a_server_that_asks_for_a_long_pause_gets_it(httpserver, key, monkeypatch):
    """Longer than the SDK itself waits."""
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    api = Api(httpserver, ["running", reply({}, 429, **{"retry-after": "600"})])
    monkeypatch.setattr("lawft_trl.openai_jobs.jobs.time.sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        watch_job(connect(api.url), "ftjob-1", show=lambda update: None, deadline=86_400, interval=0.01)
    assert pauses == [0.01, 600]


ANSWERS = {
    "key": (reply({"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}, 401), ["the key is not accepted: Incorrect API key provided: (the key)", "OPENAI_API_KEY"]),
    "closed": (reply({"error": {"message": "not available to new users", "code": "permission_denied"}}, 403), ["not available to new users", "2027-01-06", "secondary sources", "lawft serve-jobs"]),
    "quota": (reply(QUOTA, 429), ["quota is used up", "billing"]),
    "rate": (reply({"error": {"message": "slow", "code": "rate_limit_exceeded"}}, 429), ["too many requests: slow", "wait"]),
    "absent": (reply({"error": {"message": "No such job", "code": "job_not_found"}}, 404), ["not found: No such job", "/v1"]),
    "request": (reply({"error": {"message": "n_epochs is too large", "param": "method.supervised", "code": "x"}}, 400), ["status 400: n_epochs is too large", "method.supervised"]),
    "fastapi": (reply({"detail": [{"loc": ["body", "model"], "msg": "field required"}]}, 422), ["status 422", "field required"]),
    "conflict": (reply({"error": {"message": "already cancelled"}}, 409), ["already cancelled"]),
    "server": (reply({"error": {"message": "oops"}}, 500), ["status 500: oops", "try again"]),
    "gateway": (Response("<html><body>Bad Gateway</body></html>", 502, content_type="text/html"), ["status 502: a page in HTML"]),
    "portal": (Response("<html>Log in</html>", 200, content_type="text/html"), ["not one of this API", "/v1"]),
    "cut off": (Response('{"id": "ftj', 200, content_type="application/json"), ["not one of this API"]),
    "list": (reply([1, 2]), ["not one of this API"]),
    "text": (Response("plain words", 400, content_type="text/plain"), ["status 400: plain words"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_errors_in_plain_words(httpserver, key, capsys, monkeypatch, name):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    answer, expected = ANSWERS[name]
    httpserver.expect_request("/v1/fine_tuning/jobs/ftjob-1").respond_with_response(answer)
    httpserver.expect_request("/v1/fine_tuning/jobs").respond_with_response(answer)
    for arguments in (["watch", "ftjob-1"], ["watch"], ["create", "file-1", "--model", "tiny"]):
        assert cli.main(["openai", *arguments, "--base-url", httpserver.url_for("/v1")]) == 2
        err = capsys.readouterr().err
        assert all(words in err for words in expected) and KEY not in err and "Traceback" not in err, err


ODD_BODIES = {"page": Response("<html>Log in</html>", 200, content_type="text/html"), "null": reply(None), "items": reply({"data": [None, 3, {"id": None}], "has_more": True})}


@pytest.mark.parametrize("name", ODD_BODIES)
@pytest.mark.parametrize(("path", "arguments", "code"), [
    ("/v1/files", ("upload", "FILE"), 2),
    ("/v1/models", ("create", "file-1", "--model", "tiny"), 0),
    ("/v1/fine_tuning/jobs/ftjob-1/events", ("watch", "ftjob-1"), 2),
    ("/v1/fine_tuning/jobs/ftjob-1/checkpoints", ("pull", "ftjob-1", "--out", "OUT"), 2),
])  # fmt: skip
def test_answers_of_another_form(httpserver, file, key, capsys, tmp_path, name, path, arguments, code):
    httpserver.expect_request(path).respond_with_response(ODD_BODIES[name])  # the first that fits is taken
    api = Api(httpserver, ["succeeded"])
    out = tmp_path / "job.json"
    assert lawft(api, *({"FILE": file, "OUT": out}.get(argument, argument) for argument in arguments)) == code
    assert "its answer is not one of this API" in capsys.readouterr().err and not out.exists()


def test_a_file_without_a_state_is_not_waited_for(httpserver, file, key, capsys):
    httpserver.expect_request("/v1/files").respond_with_json({"id": "file-9", "object": "file"})
    assert cli.main(["openai", "upload", str(file), "--base-url", httpserver.url_for("/v1")]) == 0
    assert capsys.readouterr().out == "file-9\n" and len(httpserver.log) == 1


def test_a_job_is_created_once_whatever_the_server_answers(httpserver, key, capsys):
    """The SDK repeats a POST after a 500; two jobs would both be paid."""
    posts = []
    httpserver.expect_request("/v1/fine_tuning/jobs").respond_with_handler(lambda request: posts.append(1) or reply({}, 500))
    assert cli.main(["openai", "create", "file-1", "--model", "tiny", "--base-url", httpserver.url_for("/v1")]) == 2
    assert len(posts) == 1 and "lawft openai watch lists the jobs" in capsys.readouterr().err


def test_no_server_and_a_slow_one(httpserver, key, capsys, monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    url = httpserver.url_for("/v1")
    httpserver.expect_request("/v1/fine_tuning/jobs/ftjob-1/cancel").respond_with_handler(lambda request: time.sleep(0.4) or reply(JOB))
    assert cli.main(["openai", "cancel", "ftjob-1", "--base-url", url, "--timeout", "0.05"]) == 2
    assert "no answer in time" in capsys.readouterr().err
    assert cli.main(["openai", "cancel", "ftjob-1", "--base-url", "http://127.0.0.1:9/v1"]) == 2
    assert "no connection" in capsys.readouterr().err


def test_an_upload_that_is_refused(httpserver, file, key, capsys, tmp_path):
    httpserver.expect_request("/v1/files").respond_with_json({**FILE, "status": "error", "status_details": "line 4 is not JSON"})
    httpserver.expect_request("/v1/files/file-1").respond_with_json({**FILE, "status": "error", "status_details": "line 4 is not JSON"})
    url = httpserver.url_for("/v1")
    assert cli.main(["openai", "upload", str(file), "--base-url", url]) == 2 and "refused: line 4 is not JSON" in capsys.readouterr().err
    sent = len(httpserver.log)
    assert cli.main(["openai", "upload", str(write(tmp_path / "bad.jsonl", ["{}"])), "--base-url", url]) == 2
    assert "nothing was uploaded" in capsys.readouterr().err and len(httpserver.log) == sent


def test_requests_that_the_description_does_not_allow(key, capsys):
    wrong = ["create", "train.jsonl", "--model", " ", "--validation-file", "train.jsonl", "--n-epochs", "51", "--batch-size", "0", "--learning-rate-multiplier", "0", "--suffix", "x" * 65, "--seed", "-1", *(part for n in range(17) for part in ("--metadata", f"k{n}=v")), "--metadata", f"long={'v' * 513}"]  # fmt: skip
    assert cli.main(["openai", *wrong, "--base-url", "http://127.0.0.1:9/v1"]) == 2
    err = capsys.readouterr().err
    for words in ("TRAINING_FILE_ID", "it is the training file", "--model", "--n-epochs 51: expected 1 to 50", "--batch-size 0", "multiplier 0", "found 65", "--seed -1", "found 18", "--metadata long"):
        assert words in err
    JobRequest(training_file="file-1", model="tiny", n_epochs=50, batch_size=256, learning_rate_multiplier=0.1, suffix="x", seed=2**31 - 1).require_usable()
    for argument in ("1.5", "none"):
        with pytest.raises(SystemExit):
            cli.main(["openai", "create", "file-1", "--model", "tiny", "--n-epochs", argument])


@pytest.mark.parametrize(("url", "key", "words"), [
    ("ftp://x/v1", KEY, "--base-url"),
    ("127.0.0.1:8000", KEY, "--base-url"),
    ("http://[::1", KEY, "--base-url"),
    (None, "", "OPENAI_API_KEY is not set"),
    ("https://api.example.com/v1", "", "OPENAI_API_KEY is not set"),
    (None, "sk-秘密", "characters that are in no key"),
    (None, "sk-secret\nsk-other", "white space"),
])  # fmt: skip
def test_a_server_that_cannot_be_asked(monkeypatch, url, key, words):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InputError, match=words) as raised:
        connect(url)
    assert not key or key not in str(raised.value)


def test_this_machine_needs_no_key_and_no_proxy(httpserver, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    api = Api(httpserver)
    server = connect(api.url.replace("http://", "http://someone:pass@"))
    assert server.is_local and not server.is_openai and "pass" not in server.address + repr(server)
    with asking(server, "list"):
        assert server.client.models.list().data[0].id == "tiny"
    assert connect("http://localhost:8/v1").is_local and connect("http://[::1]:8/v1").is_local


def test_where_data_goes_is_said(file, monkeypatch, capsys, tmp_path):
    """An address that is not this machine: unencrypted, with personal data; nothing answers there."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    path = write(tmp_path / "x.jsonl", [said(U, ("assistant", "yamada@firm.co.jp へ"))])
    assert cli.main(["openai", "upload", str(path), "--base-url", "http://lawft.invalid/v1", "--timeout", "2"]) == 2
    err = capsys.readouterr().err
    assert "unencrypted" in err and "personal-data" in err and "they leave this machine" in err and "yamada" not in err
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert connect().is_openai and connect().address == "https://api.openai.com/v1"


def start_watch(api, tmp_path, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "lawft_trl.cli", "openai", "watch", "ftjob-1", "--base-url", api.url, "--interval", "0.05"]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OPENAI_API_KEY": KEY}, stdout=subprocess.PIPE, **options)


def test_ctrl_c_says_how_to_go_on(httpserver, tmp_path):
    api = Api(httpserver, ["running"])
    api.events = EVENTS[:1]
    with start_watch(api, tmp_path, stderr=subprocess.PIPE, text=True) as watch:
        assert watch.stderr.readline() == "== running\n"
        watch.send_signal(signal.SIGINT)
        err = watch.communicate(timeout=60)[1]
    assert watch.returncode == 130 and f"to go on watching: lawft openai watch ftjob-1 --base-url {api.url}" in err and "Traceback" not in err


def test_a_terminal_has_a_progress_bar(httpserver, tmp_path):
    api = Api(httpserver, ["running", "running", "succeeded"])
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 160, 0, 0))  # a new terminal has no columns
    with start_watch(api, tmp_path, stderr=theirs) as watch:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
        assert watch.wait(60) == 0
    os.close(ours)
    text = shown.decode()
    assert "4/4" in text and "train_loss=1.25" in text and "== succeeded" in text and "warn: careful" in text


def test_shutdown_dates_in_every_form():
    from lawft_trl.openai_jobs.jobs import _shutdown_text

    today = datetime.date(2026, 11, 23)
    assert "in 52 days" in _shutdown_text("2027-01-14T00:00:00Z", today)
    assert _shutdown_text("2026-10-23", today) == "was to be shut down on 2026-10-23"
    assert _shutdown_text("soon", today) == "will be shut down: soon"
