"""A finished job as one JSON record: the tuned model's name, its figures, its checkpoints and its result files."""

import base64
import binascii
import contextlib
import datetime
import hashlib
from typing import TYPE_CHECKING, Any

from lawft_trl.errors import InputError
from lawft_trl.openai_jobs.connection import Server, asking
from lawft_trl.openai_jobs.jobs import event_metrics, get_job, has_ended, new_events

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob


def job_record(server: Server, job_id: str) -> dict[str, Any]:
    """Everything a server says of a job that has ended, without the API key, wherever it may repeat that.

    Raises:
        InputError: when the job is not there or has not ended.
    """
    job = get_job(server, job_id)
    if not has_ended(job):
        raise InputError(f"{server.address}: {job_id} has not ended, it is {server.told(str(job.status))}", [f"lawft openai watch {job_id}"])
    events = new_events(server, job_id, set())
    checkpoints = _checkpoints(server, job_id)
    metrics = [event_metrics(event) for event in events if event_metrics(event)]
    record = {
        "job": job.id,
        "server": server.address,
        "state": job.status,
        "base_model": job.model,
        "tuned_model": job.fine_tuned_model,
        "error": _plain(job.error) or None,
        "method": _plain(job.method),
        "hyperparameters": _plain(job.hyperparameters),
        "seed": job.seed,
        "metadata": _plain(job.metadata),
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "trained_tokens": job.trained_tokens,
        "created_at": _time(job.created_at),
        "finished_at": _time(job.finished_at),
        "final_metrics": metrics[-1] if metrics else checkpoints[-1]["metrics"] if checkpoints else {},
        "metrics": metrics,
        "events": [{"at": _time(event.created_at), "level": event.level, "message": event.message} for event in events],
        "checkpoints": checkpoints,
        "result_files": [_result_file(server, name) for name in _results(job)],
    }
    return server.without_key(record)


def _results(job: "FineTuningJob") -> list[str]:
    return [name for name in job.result_files or [] if isinstance(name, str) and name]


def _checkpoints(server: Server, job_id: str) -> list[dict[str, Any]]:
    """Checkpoints by step, the last one last."""
    found: dict[str, dict[str, Any]] = {}
    with asking(server, f"list the checkpoints of {job_id}"):
        for checkpoint in server.client.fine_tuning.jobs.checkpoints.list(job_id, limit=100):
            if checkpoint.id in found:
                break
            found[checkpoint.id] = {"model": checkpoint.fine_tuned_model_checkpoint, "step": checkpoint.step_number, "metrics": _plain(checkpoint.metrics)}
    return sorted(found.values(), key=lambda checkpoint: checkpoint["step"] or 0)


def _result_file(server: Server, file_id: str) -> dict[str, Any]:
    """One result file with its text; where the server does not give it, the reason."""
    try:
        with asking(server, f"read the result file {server.told(file_id)}"):
            name = server.client.files.retrieve(file_id).filename
            content = server.client.files.content(file_id).read()
    except InputError as error:
        return {"id": file_id, "error": error.heading}
    return {"id": file_id, "name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "text": _text(content)}


def _text(content: bytes) -> str:
    """The text of a result file, which OpenAI gives in Base64."""
    with contextlib.suppress(binascii.Error):
        content = base64.b64decode(content, validate=True)
    return content.decode(errors="replace")


def _plain(value: Any) -> dict[str, Any]:
    """A part of an answer as JSON, without what the server did not say."""
    value = value.to_dict() if hasattr(value, "to_dict") else value
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else {}


def _time(seconds: Any) -> str | None:
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return None
