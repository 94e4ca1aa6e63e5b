"""The routes. What they answer has the fields of OpenAI's objects, all of those that are required there."""

import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response

from lawft_trl.errors import InputError
from lawft_trl.job_server.api_errors import ApiError, handle_errors
from lawft_trl.job_server.api_key import RequireKey
from lawft_trl.job_server.chat_relay import relay
from lawft_trl.job_server.job_recipes import Base, can_divide
from lawft_trl.job_server.job_requests import CHAT_BODY, JOB_BODY, ChatRequest, JobRequest, read_body
from lawft_trl.job_server.job_results import ORGANIZATION, checkpoints, saved_steps
from lawft_trl.job_server.served_models import Model, ServedModels, base_folder_name
from lawft_trl.job_server.store import ACTIVE, Store, new_id
from lawft_trl.job_server.uploads import TooLarge, check_examples, limited
from lawft_trl.job_server.worker import Places, Worker

_MOST_ACTIVE = 100  # jobs that have not come to an end
_FORM = 64 * 1024  # bytes of a form beside the file
_CHECKPOINT = re.compile(r"(.+):ckpt-step-(\d{1,9})")


def build_app(store: Store, places: Places, bases: Mapping[str, Base], worker: Worker, *, key: str, max_upload: int, most_served: int) -> FastAPI:
    """The server's application.

    Args:
        store: what it knows.
        places: where the rest is.
        bases: the models that can be tuned.
        worker: works off the jobs; it is started and stopped with the application.
        key: without which nothing is answered.
        max_upload: bytes of a file.
        most_served: how many models answer at once.
    """
    models = ServedModels(places.folder, most_served)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await models.stop()
        await run_in_threadpool(worker.stop)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(RequireKey, key=key)
    handle_errors(app)
    _add_files(app, store, places, max_upload)
    _add_jobs(app, store, places, bases, worker)
    _add_models(app, store, places, bases, worker, models)
    return app


def _add_files(app: FastAPI, store: Store, places: Places, max_upload: int) -> None:
    @app.post("/v1/files")
    async def upload(request: Request) -> dict[str, Any]:
        return await receive_file(request, store, places, max_upload)

    @app.get("/v1/files")
    async def list_files(request: Request) -> dict[str, Any]:
        order = _choice(request, "order", ("desc", "asc"))
        purpose = request.query_params.get("purpose")
        return _page(lambda: store.files(after=request.query_params.get("after"), limit=_limit(request, 10_000, 10_000), newest_first=order == "desc", purpose=purpose), ends="")

    @app.get("/v1/files/{identifier}")
    async def retrieve_file(identifier: str) -> dict[str, Any]:
        return _file(store, identifier)

    @app.get("/v1/files/{identifier}/content")
    async def file_content(identifier: str) -> Response:
        return FileResponse(places.upload(_file(store, identifier)["id"]), media_type="application/octet-stream")

    @app.delete("/v1/files/{identifier}")
    async def delete_file(identifier: str) -> dict[str, Any]:
        record = _file(store, identifier)
        users = [job["id"] for job in store.jobs()[0] if job["status"] in ACTIVE and record["id"] in (job["training_file"], job["validation_file"])]
        if users:
            raise ApiError(409, f"{record['id']} is used by {', '.join(users)}; cancel the job, or wait until it has ended", param="file_id", code="file_in_use")
        store.delete_file(record["id"])
        places.upload(record["id"]).unlink(missing_ok=True)
        return {"id": record["id"], "object": "file", "deleted": True}


async def receive_file(request: Request, store: Store, places: Places, max_upload: int) -> dict[str, Any]:
    """`POST /v1/files`: an upload is streamed to disk, checked there, and becomes a file under a name of the server's own."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise ApiError(415, "expected Content-Type: multipart/form-data with the fields purpose and file", code="unsupported_content_type")
    body = request.stream()
    try:
        form = await MultiPartParser(request.headers, limited(body, max_upload + _FORM), max_files=1, max_fields=4, max_part_size=1024).parse()
    except TooLarge:
        await _drain(body)
        raise ApiError(413, f"the file is larger than the {max_upload} bytes this server takes (--max-upload)", param="file", code="file_too_large") from None
    except (MultiPartException, KeyError, ValueError) as error:
        raise ApiError(400, f"the body is no multipart form: {getattr(error, 'message', type(error).__name__)}", code="invalid_multipart") from None
    try:
        file, purpose = form.get("file"), form.get("purpose")
        extra = sorted({*form} - {"file", "purpose"})
        if extra:
            raise ApiError(400, f"{', '.join(extra)[:80]}: not supported here; files stay until they are deleted", param=extra[0][:40], code="unknown_parameter")
        if not isinstance(file, UploadFile):
            raise ApiError(400, "file: missing, or not sent as a file", param="file", code="missing_required_parameter")
        if not isinstance(purpose, str):
            raise ApiError(400, "purpose: missing; fine-tune", param="purpose", code="missing_required_parameter")
        if purpose != "fine-tune":
            raise ApiError(400, f"purpose {purpose[:40]!r}: only fine-tune is served here", param="purpose", code="invalid_value")
        if (file.size or 0) > max_upload:
            raise ApiError(413, f"the file is larger than the {max_upload} bytes this server takes (--max-upload)", param="file", code="file_too_large")
        record = {"id": new_id("file"), "object": "file", "bytes": file.size or 0, "created_at": int(time.time()), "filename": _shown_name(file.filename), "purpose": purpose, "status": "processed", "expires_at": None, "status_details": None}
        await run_in_threadpool(_keep, file, places.upload(record["id"]))
    finally:
        await form.close()
    store.add_file(record)
    return record


def _keep(file: UploadFile, path: Path) -> None:
    """Writes an upload's content to its place, and takes it away again where it is no training data."""
    temporary = path.with_name(f".{path.name}.unfinished")
    try:
        with temporary.open("wb") as stream:
            while chunk := file.file.read(1 << 20):
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        check_examples(temporary)
        temporary.replace(path)
    except InputError as error:
        raise ApiError(400, str(error), param="file", code="invalid_file_format") from None
    finally:
        temporary.unlink(missing_ok=True)


def _shown_name(name: str | None) -> str:
    """The last part of a client's file name, to be shown and never to be opened."""
    last = re.split(r"[/\\]", name or "")[-1]
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ud800-\udfff]", "", last)[:255] or "upload.jsonl"


async def _drain(body: AsyncIterator[bytes], most: int = 256 * 1024 * 1024) -> None:
    """Reads on for a while, so that a client that is still sending comes to hear the answer."""
    async for chunk in body:
        most -= len(chunk)
        if most < 0:
            return


def _add_jobs(app: FastAPI, store: Store, places: Places, bases: Mapping[str, Base], worker: Worker) -> None:
    @app.post("/v1/fine_tuning/jobs")
    async def create(request: Request) -> dict[str, Any]:
        asked = await read_body(request, JobRequest, JOB_BODY)
        _require_possible(asked, store, bases, worker)
        hyperparameters = asked.settings.model_dump()
        job = {
            "id": new_id("ftjob"),
            "object": "fine_tuning.job",
            "created_at": int(time.time()),
            "model": asked.model,
            "training_file": asked.training_file,
            "validation_file": asked.validation_file,
            "hyperparameters": hyperparameters,
            "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
            "seed": bases[asked.model].recipe.training("seed") if asked.seed is None else asked.seed,
            "metadata": asked.metadata or {},
            "integrations": [],
            "organization_id": f"org-{ORGANIZATION}",
            "status": "validating_files",
            "error": None,
            "fine_tuned_model": None,
            "finished_at": None,
            "estimated_finish": None,
            "result_files": [],
            "trained_tokens": None,
        }
        with store.transaction():
            store.add_job(job, {"suffix": asked.suffix, "seed": asked.seed})
            store.add_event(job["id"], f"Created fine-tuning job: {job['id']}")
        return job

    @app.get("/v1/fine_tuning/jobs")
    async def list_jobs(request: Request) -> dict[str, Any]:
        query = request.query_params
        metadata = {key[len("metadata[") : -1]: value for key, value in query.items() if key.startswith("metadata[") and key.endswith("]")}
        return _page(lambda: store.jobs(after=query.get("after"), limit=_limit(request, 20, 1000), metadata=metadata))

    @app.get("/v1/fine_tuning/jobs/{identifier}")
    async def retrieve(identifier: str) -> dict[str, Any]:
        return _job(store, identifier)

    @app.post("/v1/fine_tuning/jobs/{identifier}/cancel")
    async def cancel(identifier: str) -> dict[str, Any]:
        with store.transaction():
            job = _job(store, identifier)
            if not store.change(identifier, {"status": "cancelled", "finished_at": int(time.time()), "estimated_finish": None}):
                raise ApiError(400, f"{job['id']} has ended already: {job['status']}", param="fine_tuning_job_id", code="job_has_ended")
            store.add_event(identifier, "The job was cancelled", level="warn")
        return store.job(identifier)

    @app.get("/v1/fine_tuning/jobs/{identifier}/events")
    async def events(request: Request, identifier: str) -> dict[str, Any]:
        job = _job(store, identifier)["id"]
        return _page(lambda: store.events(job, after=request.query_params.get("after"), limit=_limit(request, 20, 1000)))

    @app.get("/v1/fine_tuning/jobs/{identifier}/checkpoints")
    async def list_checkpoints(request: Request, identifier: str) -> dict[str, Any]:
        job = _job(store, identifier)
        found = await run_in_threadpool(checkpoints, job, store.asked(job["id"])["suffix"], places.run(job["id"]), worker.processes)
        after, limit = request.query_params.get("after"), _limit(request, 10, 1000)
        if after is not None:
            known = [checkpoint["id"] for checkpoint in found]
            if after not in known:
                raise _unknown_cursor(after)
            found = found[known.index(after) + 1 :]
        return _page(lambda: (found[:limit], len(found) > limit), ends=None)


def _require_possible(asked: JobRequest, store: Store, bases: Mapping[str, Base], worker: Worker) -> None:
    """Refuses a job for another base model or for files that are not here, and one too many."""
    if asked.model not in bases:
        raise ApiError(400, f"model {asked.model!r}: cannot be tuned here; there is {', '.join(bases)}", param="model", code="model_not_available")
    for name in ("training_file", "validation_file"):
        identifier = getattr(asked, name)
        record = store.file(identifier) if identifier is not None else None
        if identifier is not None and record is None:
            raise ApiError(400, f"{name} {identifier!r}: there is no such file; upload it first", param=name, code="file_not_found")
        if record is not None and record["purpose"] != "fine-tune":
            raise ApiError(400, f"{name} {identifier!r}: its purpose is {record['purpose']}, not fine-tune", param=name, code="invalid_file")
    if asked.training_file == asked.validation_file:
        raise ApiError(400, "validation_file: the training file itself; what is trained on cannot validate", param="validation_file", code="invalid_file")
    if not can_divide(asked.settings.batch_size, worker.processes):
        raise ApiError(400, f"batch_size: expected a multiple of the {worker.processes} processes that train here", param="batch_size", code="invalid_value")
    if store.count_active() >= _MOST_ACTIVE:
        raise ApiError(429, f"{_MOST_ACTIVE} jobs are waiting; cancel some, or wait", code="rate_limit_exceeded", kind="rate_limit_error", headers={"Retry-After": "60"})


def _add_models(app: FastAPI, store: Store, places: Places, bases: Mapping[str, Base], worker: Worker, models: ServedModels) -> None:
    def described(name: str, created: int, owner: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": created, "owned_by": owner, "shutdown_date": None}

    def all_models() -> list[dict[str, Any]]:
        named = [described(base.name, int(base.path.stat().st_mtime) if base.path.exists() else 0, ORGANIZATION) for base in bases.values()]
        return named + [described(job["fine_tuned_model"], job["finished_at"], job["organization_id"]) for job in store.jobs()[0] if job["fine_tuned_model"]]

    def model(name: str) -> Model:
        if name in bases:
            recipe = bases[name].recipe
            return Model(name=name, folder=places.folder / "served" / base_folder_name(recipe), source=recipe)
        tuned, checkpoint = (match[1], int(match[2])) if (match := _CHECKPOINT.fullmatch(name)) else (name, None)
        job = store.tuned(tuned)
        run = places.run(job["id"]) if job else None
        saved = saved_steps(run, worker.processes) if checkpoint is not None and run else {}
        if run is None or (checkpoint is not None and checkpoint not in saved):
            raise ApiError(404, f"The model {name[:200]!r} does not exist here; GET /v1/models lists those that do", param="model", code="model_not_found")
        folder = f"{job['id']}{'' if checkpoint is None else f'-step-{checkpoint}'}"
        return Model(name=name, folder=places.folder / "served" / folder, source=run, checkpoint=saved.get(checkpoint))

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": all_models()}

    @app.get("/v1/models/{name:path}")
    async def retrieve_model(name: str) -> dict[str, Any]:
        found = next((each for each in all_models() if each["id"] == name), None)
        if found is None:
            found = described(name, store.tuned(model(name).name.partition(":ckpt-step-")[0])["finished_at"], f"org-{ORGANIZATION}")
        return found

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        asked = await read_body(request, ChatRequest, CHAT_BODY)
        return await relay(models, model(asked.model), asked)


def _file(store: Store, identifier: str) -> dict[str, Any]:
    record = store.file(identifier)
    if record is None:
        raise ApiError(404, f"No such File object: {identifier[:64]}", param="file_id", code="file_not_found")
    return record


def _job(store: Store, identifier: str) -> dict[str, Any]:
    job = store.job(identifier)
    if job is None:
        raise ApiError(404, f"Could not find fine tune: {identifier[:64]}", param="fine_tuning_job_id", code="fine_tune_not_found")
    return job


def _limit(request: Request, default: int, most: int) -> int:
    text = request.query_params.get("limit", str(default))
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= most:
        raise ApiError(400, f"limit: expected a number from 1 to {most}", param="limit", code="invalid_value")
    return int(text)


def _choice(request: Request, name: str, choices: tuple[str, ...]) -> str:
    value = request.query_params.get(name, choices[0])
    if value not in choices:
        raise ApiError(400, f"{name}: expected {' or '.join(choices)}", param=name, code="invalid_value")
    return value


_NO_ENDS = object()


def _page(find: Any, *, ends: Any = _NO_ENDS) -> dict[str, Any]:
    """A list object; with `ends`, what `first_id` and `last_id` are where it is empty."""
    try:
        found, more = find()
    except KeyError as error:
        raise _unknown_cursor(str(error.args[0])) from None
    page = {"object": "list", "data": found, "has_more": more}
    if ends is not _NO_ENDS:
        page |= {"first_id": found[0]["id"] if found else ends, "last_id": found[-1]["id"] if found else ends}
    return page


def _unknown_cursor(after: str) -> ApiError:
    return ApiError(400, f"after: there is no {after[:64]!r} in this list", param="after", code="invalid_value")
