"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, whatever went wrong and wherever."""

import contextlib
import errno
import logging
import sqlite3
import traceback

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

_log = logging.getLogger("lawft.jobs")


class ApiError(Exception):
    """What a client did that cannot be done, or what the server could not do.

    Args:
        status: the HTTP status.
        message: what was found, what is allowed, what to do instead.
        param: the field that is meant, if it is one.
        code: for programs.
        kind: OpenAI's `type`.
        headers: of the response, e.g. `Retry-After`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        self.headers = headers

    def response(self) -> JSONResponse:
        """The HTTP response."""
        return JSONResponse(self.body, self.status, self.headers)


def handle_errors(app: FastAPI) -> None:
    """Gives every error of an app that shape; what went wrong in the server is logged without what the client sent."""

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)  # routes and methods that there are none of
    async def not_there(request: Request, error: HTTPException) -> JSONResponse:
        said = {404: "there is no such URL here", 405: "this URL does not know that method"}.get(error.status_code, str(error.detail))
        return ApiError(error.status_code, f"{request.method} {request.url.path}: {said}", code="unknown_url", headers=error.headers).response()

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, ClientDisconnect):  # nobody hears the answer, and nothing went wrong here
            return ApiError(400, "the client has gone", code="client_disconnected").response()
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or (isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL):
            return ApiError(507, "the server's disk is full", code="disk_full", kind="server_error").response()
        places = ", ".join(f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-3:])
        _log.error("%s %s: %s at %s", request.method, request.url.path, type(error).__name__, places)
        return ApiError(500, f"the server met an error of its own ({type(error).__name__})", code="internal_error", kind="server_error").response()


def without_tracebacks(app: ASGIApp) -> ASGIApp:
    """The app, whose errors have been answered and logged: what starlette raises again would be logged with the client's words in it."""

    async def quiet(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        with contextlib.suppress(Exception):
            await app(scope, receive, send)

    return quiet
