"""What stands before the page: only the routes it needs, only its own hosts, nothing too large, nothing from elsewhere.

Gradio answers many routes besides those that a page uses: one fetches any public URL on request, others keep runs or edit the
program. Here a route that is not listed does not exist, also those of later versions.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lawft_trl.assistant.raw_text import MAX_BYTES

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_ROUTES = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/login/?|/logout|/(?:assets|static|svelte)/[\w./@+-]+"
    r"|/gradio_api/(?:info/?|login_check/?|user/?|token/?|app_id/?|startup-events|theme\.css|queue/join|queue/data|upload|upload_progress|cancel|reset/?|heartbeat/\w+)"
)
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
    """

    def __init__(self, app: Any, *, hosts: frozenset[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        status = self._refusal(scope, headers)
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
        if not length.isdecimal():
            return 411
        return 413 if int(length) > _BODY else None


async def _answer(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": _encoded({**_HEADERS, "content-type": "text/plain"})})
    await send({"type": "http.response.body", "body": str(status).encode()})


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
