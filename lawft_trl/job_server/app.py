"""The routes. What they answer has the fields of OpenAI's objects, all of those that are required there."""

import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from lawft_trl.job_server.api_errors import ApiError, handle_errors
from lawft_trl.job_server.api_key import RequireKey
from lawft_trl.job_server.chat_relay import relay
from lawft_trl.job_server.file_routes import add_files
from lawft_trl.job_server.job_recipes import Base, can_divide
from lawft_trl.job_server.job_requests import CHAT_BODY, JOB_BODY, ChatRequest, JobRequest, read_body
from lawft_trl.job_server.job_results import ORGANIZATION, checkpoints, saved_steps
from lawft_trl.job_server.paging import limit, page, unknown_cursor
from lawft_trl.job_server.places import Places
from lawft_trl.job_server.served_models import Model, ServedModels, base_folder_name
from lawft_trl.job_server.store import Store, new_id
from lawft_trl.job_server.worker import Worker

_MOST_ACTIVE = 100  # jobs that have not come to an end
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
        await run_in_threadpool(worker.start)
        yield
        await models.stop()
        await run_in_threadpool(worker.stop)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(RequireKey, key=key)
    handle_errors(app)
    add_files(app, store, places, max_upload)
    _add_jobs(app, store, places, bases, worker)
    _add_models(app, store, places, bases, worker, models)
    return app


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
        return page(lambda: store.jobs(after=query.get("after"), limit=limit(request, 20, 1000), metadata=metadata))

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
        return page(lambda: store.events(job, after=request.query_params.get("after"), limit=limit(request, 20, 1000)))

    @app.get("/v1/fine_tuning/jobs/{identifier}/checkpoints")
    async def list_checkpoints(request: Request, identifier: str) -> dict[str, Any]:
        job = _job(store, identifier)
        found = await run_in_threadpool(checkpoints, job, store.asked(job["id"])["suffix"], places.run(job["id"]), worker.processes)
        after, most = request.query_params.get("after"), limit(request, 10, 1000)
        if after is not None:
            known = [checkpoint["id"] for checkpoint in found]
            if after not in known:
                raise unknown_cursor(after)
            found = found[known.index(after) + 1 :]
        return page(lambda: (found[:most], len(found) > most), ends=None)


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


def _job(store: Store, identifier: str) -> dict[str, Any]:
    job = store.job(identifier)
    if job is None:
        raise ApiError(404, f"Could not find fine tune: {identifier[:64]}", param="fine_tuning_job_id", code="fine_tune_not_found")
    return job
