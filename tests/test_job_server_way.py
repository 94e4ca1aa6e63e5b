"""`lawft serve-jobs` and `lawft serve` the whole way: a real training behind OpenAI's own client, and what interrupts it.

Minutes long: the trainings and the `transformers serve` processes are real ones.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from job_server import KEY, RECIPE, Server, example, examples, free_port, jsonl, wait

pytestmark = pytest.mark.slow

END = ("succeeded", "failed", "cancelled")
ASKED = example(2)["messages"][:2]


def steps(client, job) -> list[int]:
    return [event.data["step"] for event in client.fine_tuning.jobs.list_events(job, limit=100) if event.type == "metrics"]


def told(client, job) -> list[str]:
    """The messages of a job's events, oldest first."""
    return [event.message for event in client.fine_tuning.jobs.list_events(job, limit=100)][::-1]


def hyperparameters(**values) -> dict:
    return {"type": "supervised", "supervised": {"hyperparameters": values}}


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "jobs")
    yield server
    server.end()
    wait(lambda: server.orphans() == [], "the server's children to end", 30)
    assert KEY not in server.log.read_text(encoding="utf-8") and "義務" not in server.log.read_text(encoding="utf-8")


def test_from_an_upload_to_an_answer(server):
    client = server.client()
    file = client.files.create(file=("train.jsonl", examples(12)), purpose="fine-tune")
    assert client.files.wait_for_processing(file.id).status == "processed"
    pairs = [{"messages": [{"role": "user", "content": f"秘密保持の期間は{term}ですか。"}, {"role": "assistant", "content": f"はい、{term}です。"}]} for term in ("三年間", "無期限という定め")]
    validation = client.files.create(file=("valid.jsonl", jsonl(*pairs)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file.id,
        validation_file=validation.id,
        suffix="houmu",
        seed=7,
        method=hyperparameters(n_epochs=8, batch_size=6, learning_rate_multiplier=2.0),
        metadata={"exercise": "2-1"},
    )
    seen = [job.status]
    while seen[-1] not in END:
        time.sleep(0.1)
        if (status := client.fine_tuning.jobs.retrieve(job.id).status) != seen[-1]:
            seen.append(status)
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert seen == ["validating_files", "queued", "running", "succeeded"] or (seen[0], seen[-1]) == ("validating_files", "succeeded"), (seen, job.error)
    assert job.fine_tuned_model == f"ft:tiny:lawft:houmu:{job.id[6:14]}" and job.trained_tokens > 1000 and job.metadata == {"exercise": "2-1"}
    messages = "\n".join(told(client, job.id))
    assert "tokens are in the loss" in messages and "<end_of_turn>" in messages and "2 validation rows" in messages
    figures = [event.data for event in client.fine_tuning.jobs.list_events(job.id, limit=100) if event.type == "metrics"][::-1]
    losses = [figure["train_loss"] for figure in figures if "train_loss" in figure]
    assert len(losses) == 16 and losses[-1] < losses[0] / 2, "it learns"
    assert sum("valid_loss" in figure for figure in figures) == 8

    paged = client.fine_tuning.jobs.list_events(job.id, limit=4)
    assert [len(page.data) for page in paged.iter_pages()][:2] == [4, 4]
    saved = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert [checkpoint.step_number for checkpoint in saved] == [16, 14, 12] and saved[0].metrics.train_loss == pytest.approx(losses[-1], abs=1e-3)
    results = client.files.content(job.result_files[0]).text.splitlines()
    assert results[0].startswith("step,train_loss") and len(results) == 17

    names = [model.id for model in client.models.list()]
    assert names == ["tiny", job.fine_tuned_model] and client.models.retrieve(job.fine_tuned_model).owned_by == "org-lawft"
    asked = {"messages": ASKED, "temperature": 0, "max_tokens": 40}
    answers = {name: client.chat.completions.create(model=name, **asked) for name in (job.fine_tuned_model, "tiny", saved[-1].fine_tuned_model_checkpoint)}
    texts = {name: answer.choices[0].message.content for name, answer in answers.items()}
    assert all(answer.model == name and answer.choices[0].finish_reason in ("stop", "length") for name, answer in answers.items())
    assert texts[job.fine_tuned_model] != texts["tiny"] and "第" in texts[job.fine_tuned_model], texts
    assert answers["tiny"].usage.prompt_tokens == answers[job.fine_tuned_model].usage.prompt_tokens, "asked in the same prompt"

    turns = [*ASKED, answers["tiny"].choices[0].message, {"role": "user", "content": "続けてください。"}]
    assert client.chat.completions.create(model="tiny", messages=turns, max_tokens=5, temperature=0).usage.prompt_tokens > answers["tiny"].usage.prompt_tokens

    stream = list(client.chat.completions.create(model=job.fine_tuned_model, stream=True, stream_options={"include_usage": True}, **asked))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == texts[job.fine_tuned_model]
    assert len(stream) > 4 and stream[-1].choices == [] and stream[-1].usage.completion_tokens == answers[job.fine_tuned_model].usage.completion_tokens
    sampled = {client.chat.completions.create(model=job.fine_tuned_model, messages=ASKED, temperature=1.5, seed=seed, max_tokens=40).choices[0].message.content for seed in (1, 2, 3)}
    assert len(sampled) > 1, "the temperature counts"

    assert client.files.delete(file.id).deleted and (server.folder / "runs" / job.id / "adapter_model.safetensors").is_file()
    server.end()
    assert server.orphans() == []
    server.start()
    assert [model.id for model in client.models.list()] == names and client.fine_tuning.jobs.retrieve(job.id) == job, "nothing is lost"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_dies_goes_on_with_its_job(server, number):
    client = server.client()
    file = client.files.create(file=("train.jsonl", examples(12)), purpose="fine-tune").id
    first = client.fine_tuning.jobs.create(model="tiny", training_file=file, method=hyperparameters(n_epochs=30)).id
    second = client.fine_tuning.jobs.create(model="tiny", training_file=file).id
    wait(lambda: len(steps(client, first)) > 8, "some steps")
    server.end(number)
    wait(lambda: server.orphans() == [], "the training to end with the server", 60)
    assert (server.folder / "runs" / f"{first}.unfinished").is_dir()
    server.start()
    assert client.fine_tuning.jobs.cancel(second).status == "cancelled", "it was still waiting"
    wait(lambda: client.fine_tuning.jobs.retrieve(first).status in END, "the job to end")
    assert client.fine_tuning.jobs.retrieve(first).status == "succeeded", told(client, first)
    messages = told(client, first)
    assert any(message.startswith("Fine-tuning goes on from checkpoint-") for message in messages), messages
    assert any(message.startswith("The server was") for message in messages), messages
    assert max(steps(client, first)) == 90
    results = client.files.content(client.fine_tuning.jobs.retrieve(first).result_files[0]).text.splitlines()
    assert len(results) == 91, "every step is told of once"


def test_a_job_is_cancelled_and_the_next_one_fails_by_itself(server):
    client = server.client()
    file = client.files.create(file=("train.jsonl", examples(12)), purpose="fine-tune").id
    leaked = client.files.create(file=("valid.jsonl", examples(2)), purpose="fine-tune").id
    first = client.fine_tuning.jobs.create(model="tiny", training_file=file, method=hyperparameters(n_epochs=50)).id
    waiting = client.fine_tuning.jobs.create(model="tiny", training_file=file).id
    leaking = client.fine_tuning.jobs.create(model="tiny", training_file=file, validation_file=leaked).id
    wait(lambda: len(steps(client, first)) > 2, "some steps")
    assert client.fine_tuning.jobs.cancel(waiting).status == "cancelled"
    cancelled = client.fine_tuning.jobs.cancel(first)
    assert cancelled.status == "cancelled" and cancelled.finished_at and cancelled.fine_tuned_model is None
    wait(lambda: "The training's processes have ended" in told(client, first), "the training to end", 60)
    assert not any("sft.py" in " ".join(process.cmdline()) for process in server.orphans())
    wait(lambda: client.fine_tuning.jobs.retrieve(leaking).status in END, "the leaking job to fail")
    error = client.fine_tuning.jobs.retrieve(leaking).error
    assert error.code == "invalid_file" and error.param == "validation_file" and "leakage" in error.message, error
    assert client.fine_tuning.jobs.retrieve(first).status == "cancelled" and steps(client, waiting) == []


def test_lawft_serve_answers_under_a_name_and_ends_whole(tmp_path):
    import openai
    import psutil
    from conftest import CPU, run_sft

    from lawft_trl.job_server.uploads import write_rows

    (tmp_path / "upload").write_bytes(examples(12))
    write_rows(tmp_path / "upload", tmp_path / "train.jsonl", dataset="x")
    words = ["pattern.answer=dialogue", f"data.train={tmp_path / 'train.jsonl'}", f"training.output_dir={tmp_path / 'run'}", "training.num_train_epochs=1", "training.report_to=none"]
    run_sft(RECIPE, *words, launcher=CPU, check=True)
    port = free_port()
    command = [sys.executable, "-m", "lawft_trl.cli", "serve", tmp_path / "run", "--port", port, "--name", "houmu-1"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(list(map(str, command)), cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=log, stderr=log)
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=60, timeout=120)
    answer = client.chat.completions.create(model="houmu-1", messages=ASKED, temperature=0, max_tokens=20)
    assert answer.choices[0].message.content
    wait(lambda: f"base_url http://127.0.0.1:{port}/v1, model houmu-1" in (tmp_path / "log").read_text(encoding="utf-8"), "the address to be told")
    children = psutil.Process(process.pid).children(recursive=True)
    assert children and list(Path(tmp_path).glob("lawft-serve-*"))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    assert psutil.wait_procs(children, timeout=10)[1] == [] and not list(Path(tmp_path).glob("lawft-serve-*"))
