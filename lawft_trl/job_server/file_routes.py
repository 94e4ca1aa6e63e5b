"""`/v1/files`: uploads come, are listed, read and deleted."""

import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response

from lawft_trl.errors import InputError
from lawft_trl.job_server.api_errors import ApiError
from lawft_trl.job_server.paging import choice, limit, page
from lawft_trl.job_server.places import Places
from lawft_trl.job_server.store import ACTIVE, Store, new_id
from lawft_trl.job_server.uploads import TooLarge, check_examples, limited

_FORM = 64 * 1024  # bytes of a form beside the file


def add_files(app: FastAPI, store: Store, places: Places, max_upload: int) -> None:
    """Adds the routes of `/v1/files` to an app; uploads may have `max_upload` bytes."""

    @app.post("/v1/files")
    async def upload(request: Request) -> dict[str, Any]:
        return await receive_file(request, store, places, max_upload)

    @app.get("/v1/files")
    async def list_files(request: Request) -> dict[str, Any]:
        order = choice(request, "order", ("desc", "asc"))
        purpose = request.query_params.get("purpose")
        return page(lambda: store.files(after=request.query_params.get("after"), limit=limit(request, 10_000, 10_000), newest_first=order == "desc", purpose=purpose), ends="")

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
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ud800-\udfff]", "", last)[:255] or "upload.jsonl"


async def _drain(body: AsyncIterator[bytes], most: int = 256 * 1024 * 1024) -> None:
    """Reads on for a while, so that a client that is still sending comes to hear the answer."""
    async for chunk in body:
        most -= len(chunk)
        if most < 0:
            return


def _file(store: Store, identifier: str) -> dict[str, Any]:
    record = store.file(identifier)
    if record is None:
        raise ApiError(404, f"No such File object: {identifier[:64]}", param="file_id", code="file_not_found")
    return record
