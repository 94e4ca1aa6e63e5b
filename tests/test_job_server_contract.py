"""The job server before OpenAI's own description of its API: Prism stands between client and server and objects to either.

Skipped, loudly, where LAWFT_PRISM (the `prism` program) and LAWFT_OPENAPI (openapi.yaml of openai/openai-openapi) name nothing;
docs/serve_jobs.md says how to get them.
"""

import os
import subprocess

import httpx
import pytest
from job_server import KEY, Server, examples, free_port, wait

pytestmark = pytest.mark.contract


@pytest.fixture
def proxied(tmp_path):
    """A client of a server that it reaches through Prism."""
    missing = [name for name in ("LAWFT_PRISM", "LAWFT_OPENAPI") if not os.environ.get(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not set: OpenAI's description of the API was NOT asked")
    server, port = Server(tmp_path / "jobs"), free_port()
    command = [os.environ["LAWFT_PRISM"], "proxy", os.environ["LAWFT_OPENAPI"], f"{server.url}/v1", "--errors", "-h", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "prism.log").open("wb") as log:
        prism = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait(lambda: prism.poll() is not None or b"listening" in (tmp_path / "prism.log").read_bytes(), "Prism to start", 180)
        yield server.client().with_options(base_url=f"http://127.0.0.1:{port}")
    finally:
        prism.terminate()
        prism.wait()
        server.end()


def test_requests_and_answers_are_as_openai_describes_them(proxied):
    assert [model.id for model in proxied.models.list()] == ["tiny"]
    file = proxied.files.create(file=("train.jsonl", examples(12)), purpose="fine-tune")
    assert [each.id for each in proxied.files.list()] == [file.id] and proxied.files.retrieve(file.id) == file
    settings = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 4, "learning_rate_multiplier": 1.0}}}
    job = proxied.fine_tuning.jobs.create(model="tiny", training_file=file.id, suffix="houmu", seed=1, method=settings, metadata={"a": "b"})
    wait(lambda: proxied.fine_tuning.jobs.retrieve(job.id).status in ("succeeded", "failed"), "the job to end")
    assert proxied.fine_tuning.jobs.retrieve(job.id).status == "succeeded"
    assert [each.id for each in proxied.fine_tuning.jobs.list(limit=1)] == [job.id]
    assert len(proxied.fine_tuning.jobs.list_events(job.id, limit=100).data) > 5
    assert len(proxied.fine_tuning.jobs.checkpoints.list(job.id).data) == 1
    answer = proxied.chat.completions.create(model=job.model, messages=[{"role": "user", "content": "問い"}], max_tokens=5)
    assert answer.choices[0].message.role == "assistant"
    assert proxied.files.delete(file.id).deleted


def test_the_judge_is_awake(proxied):
    """It refuses what the server would refuse as well, by itself."""
    answer = httpx.post(f"{str(proxied.base_url).rstrip('/')}/fine_tuning/jobs", headers={"Authorization": f"Bearer {KEY}"}, json={"training_file": "x"})
    assert answer.status_code == 422, answer.text
