"""What stands before the page: only the routes it needs, only its own hosts, nothing too large, nothing from elsewhere.

Gradio answers many routes besides those that a page uses: one fetches any public URL on request, others keep runs or edit the
program. Here a route that is not listed does not exist, also those of later versions. And wherever a file may stand in an order,
Gradio takes a URL as well and fetches it: an order that names another file than an upload is refused before Gradio reads it.
"""

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from lawft_trl.assistant.raw_text import MAX_BYTES

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_ROUTES = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/login/?|/logout|/(?:assets|static|svelte)/[\w./@+-]+"
    r"|/gradio_api/(?:info/?|login_check/?|user/?|token/?|app_id/?|startup-events|theme\.css|queue/join|queue/data|upload|upload_progress|cancel|reset/?|heartbeat/\w+)"
)
_ORDERS = "/gradio_api/queue/join"
_BODY = MAX_BYTES + 1024 * 1024  # a document and the form around it

# The page's own scripts are inline and compiled in the browser; what is shown, fetched or sent to is of this origin only.
_HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class PageGuard:
    """ASGI middleware.

    Args:
        app: what it guards.
        hosts: names under which the page may be asked for, so that no foreign page reaches it under a name of its own (DNS
            rebinding); empty for any.
        uploads: the folder in which every file of an order lies.
    """

    def __init__(self, app: Any, *, hosts: frozenset[str], uploads: Path) -> None:
        self.app, self.hosts, self.uploads = app, hosts, uploads.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        status = self._refusal(scope, headers)
        if not status and scope["path"] == _ORDERS and scope["method"] == "POST":
            body = await _body(receive)
            status = None if self._names_uploads_only(body) else 400
            receive = _again(body, receive)
        if status:
            await _answer(send, status)
            return

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name.decode("latin-1").lower() not in _HEADERS]
                message["headers"] = [*kept, *_encoded(_HEADERS)]
            await send(message)

        await self.app(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> int | None:
        host = re.sub(r":\d+\Z", "", headers.get("host", "")).lower()
        if self.hosts and host not in self.hosts:
            return 421
        if not _ROUTES.fullmatch(scope["path"]) or ".." in scope["path"]:
            return 404
        if scope["method"] in ("GET", "HEAD"):
            return None
        length = headers.get("content-length", "")
        if not length.isdecimal() or "transfer-encoding" in headers:  # chunks go on for as long as the sender likes, whatever the length says
            return 411
        return 413 if int(length) > _BODY else None

    def _names_uploads_only(self, body: bytes) -> bool:
        """Whether an order can be read and every `path` in it, at any depth and also one of two, is that of an upload."""
        paths: list[object] = []

        def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            paths.extend(value for key, value in pairs if key == "path")
            return dict(pairs)

        try:
            json.loads(body, object_pairs_hook=note)
            return all(isinstance(path, str) and self.uploads in Path(path).resolve().parents for path in paths)
        except (ValueError, RecursionError, OSError):
            return False


async def _body(receive: Receive) -> bytes:
    """The whole body; what has come of it where the sender has gone."""
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for the next reader; after it what the server says."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Any:
        return waiting.pop() if waiting else await receive()

    return again


async def _answer(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": _encoded({**_HEADERS, "content-type": "text/plain"})})
    await send({"type": "http.response.body", "body": str(status).encode()})


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
