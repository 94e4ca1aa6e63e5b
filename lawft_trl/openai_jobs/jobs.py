"""Fine-tuning jobs at a server: upload, create, watch, cancel."""

import datetime
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lawft_trl.errors import InputError
from lawft_trl.openai_jobs.connection import Server, asked_pause, asking, expect, is_passing

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

WAITING = ("validating_files", "queued", "running", "paused")  # `paused` has calls of its own but is no state in the description
ENDED = ("succeeded", "failed", "cancelled")
_UPLOAD_SECONDS = 300.0  # until an uploaded file is processed
_STEP = re.compile(r"\bstep\s+(\d+)\s*/\s*(\d+)", re.IGNORECASE)
_PAGE = 100


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What a supervised fine-tuning is made of; `None` leaves a value to the server.

    Attributes:
        training_file: the id of an uploaded file.
        model: the model to tune.
        validation_file: the id of another one.
        suffix: part of the tuned model's name, 1 to 64 characters.
        seed: 0 to 2^31 - 1.
        n_epochs: 1 to 50, or `"auto"`.
        batch_size: 1 to 256, or `"auto"`.
        learning_rate_multiplier: above 0, or `"auto"`.
        metadata: up to 16 pairs; keys of up to 64 and values of up to 512 characters.
    """

    training_file: str
    model: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int | None = None
    n_epochs: int | Literal["auto"] | None = None
    batch_size: int | Literal["auto"] | None = None
    learning_rate_multiplier: float | Literal["auto"] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def require_usable(self) -> None:
        """Raises `InputError` with everything that OpenAI's description of the API does not allow."""
        problems = []
        for name, value in (("TRAINING_FILE_ID", self.training_file), ("--validation-file", self.validation_file)):
            if value is not None and (value.endswith(".jsonl") or not value.strip() or "/" in value):
                problems.append(f"{name} {value}: expected the id of an uploaded file; lawft openai upload FILE prints it")
        if self.validation_file == self.training_file:
            problems.append("--validation-file: it is the training file; the same data must not be in both")
        if not self.model.strip():
            problems.append("--model: empty; name the model to tune")
        for name, value, least, most in (("n-epochs", self.n_epochs, 1, 50), ("batch-size", self.batch_size, 1, 256), ("seed", self.seed, 0, 2**31 - 1)):
            if isinstance(value, int) and not least <= value <= most:
                problems.append(f"--{name} {value}: expected {least} to {most}")
        rate = self.learning_rate_multiplier
        if isinstance(rate, float) and not 0 < rate < float("inf"):
            problems.append(f"--learning-rate-multiplier {rate:g}: expected above 0")
        if self.suffix is not None and not 1 <= len(self.suffix) <= 64:
            problems.append(f"--suffix: expected 1 to 64 characters, found {len(self.suffix)}")
        if len(self.metadata) > 16:
            problems.append(f"--metadata: expected up to 16 pairs, found {len(self.metadata)}")
        problems += [f"--metadata {key:.70}: a key has 1 to 64 characters, a value up to 512" for key, value in self.metadata.items() if not 1 <= len(key) <= 64 or len(value) > 512]
        if problems:
            raise InputError(f"lawft openai create: {len(problems)} value(s) cannot be used; nothing was sent", problems)

    def parameters(self) -> dict[str, Any]:
        """The request's body."""
        chosen = {"n_epochs": self.n_epochs, "batch_size": self.batch_size, "learning_rate_multiplier": self.learning_rate_multiplier}
        hyperparameters = {name: value for name, value in chosen.items() if value is not None}
        optional = {"validation_file": self.validation_file, "suffix": self.suffix, "seed": self.seed, "metadata": dict(self.metadata) or None}
        return {
            "training_file": self.training_file,
            "model": self.model,
            "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
            **{name: value for name, value in optional.items() if value is not None},
        }


@dataclass(frozen=True, kw_only=True)
class Update:
    """Something that happened to a job.

    Attributes:
        kind: `"state"`, `"message"` (an event), `"metrics"` (an event with figures) or `"trouble"` (the server did not answer).
        text: on one line, safe to print.
        level: of an event, `"info"`, `"warn"` or `"error"`.
        step: of `total`, where an event says so.
        total: how many steps there are.
        metrics: name -> figure.
    """

    kind: Literal["state", "message", "metrics", "trouble"]
    text: str
    level: str = "info"
    step: int | None = None
    total: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def upload_file(server: Server, path: Path) -> str:
    """Uploads a training file and waits until the server has processed it; returns its id.

    Raises:
        InputError: when the server refuses it.
    """
    from openai.types import FileObject

    with asking(server, f"upload {path}"):
        with path.open("rb") as content:
            sent = expect(server.client.files.create(file=(path.name, content), purpose="fine-tune"), FileObject)
        # The state of a file is deprecated: who does not give one is not waited for, and a job waits for its files itself.
        patient_until = time.monotonic() + _UPLOAD_SECONDS
        while sent.status == "uploaded" and time.monotonic() < patient_until:
            time.sleep(1.0)
            sent = expect(server.client.files.retrieve(sent.id), FileObject)
    if sent.status == "error":
        raise InputError(f"{server.address}: {path} was uploaded as {server.told(sent.id)}, and refused: {server.told(sent.status_details or 'no reason given')}")
    return sent.id


def create_job(server: Server, request: JobRequest) -> "FineTuningJob":
    """Creates a job; it is asked once, so that a lost answer does not make two jobs that are both paid.

    Raises:
        InputError: with everything in the request that is not allowed, or when the server refuses it.
    """
    from openai.types.fine_tuning import FineTuningJob

    request.require_usable()
    with asking(server, "create the job (lawft openai watch lists the jobs there are)"):
        return expect(server.client.with_options(max_retries=0).fine_tuning.jobs.create(**request.parameters()), FineTuningJob)


def list_jobs(server: Server, limit: int = 20) -> "Sequence[FineTuningJob]":
    """The server's newest jobs, newest first."""
    with asking(server, "list the jobs"):
        return list(server.client.fine_tuning.jobs.list(limit=limit).data or [])


def get_job(server: Server, job_id: str) -> "FineTuningJob":
    """A job as it is now."""
    from openai.types.fine_tuning import FineTuningJob

    with asking(server, f"read the job {job_id}"):
        return expect(server.client.fine_tuning.jobs.retrieve(job_id), FineTuningJob)


def cancel_job(server: Server, job_id: str) -> "FineTuningJob":
    """Cancels a job that has not ended."""
    from openai.types.fine_tuning import FineTuningJob

    with asking(server, f"cancel the job {job_id}"):
        return expect(server.client.fine_tuning.jobs.cancel(job_id), FineTuningJob)


def has_ended(job: "FineTuningJob") -> bool:
    """Whether nothing more will come: by its state, and in a state that is not known by the mark of its end."""
    return job.status in ENDED or (job.status not in WAITING and bool(job.finished_at or failure(job)))


def failure(job: "FineTuningJob") -> str:
    """Why a job failed, in the server's words; `""` where it says nothing. OpenAI gives an empty error to every job."""
    parts = (getattr(job.error, name, None) for name in ("code", "message", "param"))
    return ": ".join(str(part) for part in parts if part)


def watch_job(
    server: Server,
    job_id: str,
    *,
    show: Callable[[Update], None],
    deadline: float,
    interval: float = 5.0,
    patience: float = 300.0,
) -> "FineTuningJob":
    """Follows a job to its end, from its first event on, whenever it was begun.

    Args:
        server: where it is.
        job_id: which.
        show: called with everything that happens.
        deadline: seconds after which it is no longer waited for; the job goes on.
        interval: seconds between two looks.
        patience: seconds of no answer, or of errors that may pass, that end it. The first answer must come at once.

    Returns:
        The job as it was last seen; `has_ended` says whether it has.

    Raises:
        InputError: when the server does not know the job, refuses, or has not answered for too long.
    """
    start = time.monotonic()
    answered, state, seen = None, None, set()
    while True:
        pause = interval
        try:
            job = get_job(server, job_id)
            events = new_events(server, job_id, seen)  # after the job: of one that has ended, these are all
            answered = time.monotonic()
        except InputError as error:
            if answered is None or not is_passing(error.__cause__) or time.monotonic() - answered > patience:
                raise
            show(Update(kind="trouble", text=f"{error.heading}; trying again"))
            pause = max(interval, asked_pause(error.__cause__))
        else:
            changed = [Update(kind="state", text=_state_text(server, job))] if job.status != state else []
            happened = [_event_update(server, event) for event in events]
            for update in [*happened, *changed] if has_ended(job) else [*changed, *happened]:
                show(update)
            if has_ended(job):
                return job
            state = job.status
            seen.update(event.id for event in events)
        left = start + deadline - time.monotonic()
        if left <= 0 and answered is not None:
            return job
        time.sleep(max(0.0, min(pause, left)))


def new_events(server: Server, job_id: str, seen: "set[str]") -> "list[FineTuningJobEvent]":
    """The events that are not among those seen, oldest first. The server gives the newest first, page by page."""
    events: dict[str, FineTuningJobEvent] = {}
    with asking(server, f"read the events of {job_id}"):
        for event in server.client.fine_tuning.jobs.list_events(job_id, limit=_PAGE):
            if event.id in seen or event.id in events:  # the same one again: a server that does not turn the page
                break
            events[event.id] = event
    return list(events.values())[::-1]


def event_metrics(event: "FineTuningJobEvent") -> dict[str, float]:
    """The figures of an event: those of its data that are numbers."""
    data = event.data if isinstance(event.data, dict) else {}
    return {str(name): value for name, value in data.items() if isinstance(value, int | float) and not isinstance(value, bool)}


def shutdown_warnings(server: Server, models: Sequence[str], today: datetime.date) -> list[str]:
    """What the server's list of models says against some of them: not there, or to be shut down.

    A server that does not list its models says nothing.
    """
    try:
        with asking(server, "list the models"):
            listed = {model.id: getattr(model, "shutdown_date", None) for model in server.client.models.list()}
    except InputError as error:
        return [f"{error.heading}; whether the model stays is not known"]
    warnings = []
    for model in models:
        date = listed.get(model)
        if model not in listed:
            warnings.append(f"{server.told(model)} is not among the {len(listed)} models that {server.address} lists; it may refuse it")
        elif date:
            warnings.append(f"{server.told(model)} {_shutdown_text(server.told(str(date)), today)}")
    return warnings


def _shutdown_text(date: str, today: datetime.date) -> str:
    try:
        days = (datetime.date.fromisoformat(date[:10]) - today).days
    except ValueError:
        return f"will be shut down: {date}"
    return f"will be shut down on {date[:10]}, in {days} days; so will what is tuned from it" if days > 0 else f"was to be shut down on {date[:10]}"


def _state_text(server: Server, job: "FineTuningJob") -> str:
    state = server.told(str(job.status))
    if job.status in (*WAITING, *ENDED):
        return state
    return f"{state} (a state this program does not know; it is {'an end, by finished_at or error' if has_ended(job) else 'waited on'})"


def _event_update(server: Server, event: "FineTuningJobEvent") -> Update:
    metrics = {server.told(name): value for name, value in event_metrics(event).items()}
    text = server.told(str(event.message))
    named = _STEP.search(text)
    step, total = (int(named[1]), int(named[2])) if named else (None, None)
    step, total = _whole(metrics.get("step")) or step, _whole(metrics.get("total_steps")) or total
    kind = "metrics" if event.type == "metrics" or (event.type is None and metrics) else "message"
    return Update(kind=kind, text=text, level=server.told(str(event.level)), step=step, total=total, metrics={name: value for name, value in metrics.items() if name not in ("step", "total_steps")})


def _whole(value: float | None) -> int | None:
    return int(value) if value is not None and math.isfinite(value) and value > 0 else None
