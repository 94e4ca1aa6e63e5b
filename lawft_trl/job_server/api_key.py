"""Who may talk to the server: one key, compared in constant time before anything else of a request is looked at."""

import hmac
import os
import re
import secrets
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from lawft_trl.errors import InputError
from lawft_trl.job_server.api_errors import ApiError

VARIABLE = "LAWFT_JOBS_API_KEY"
_SHORTEST = 16
_HEARD_OUT = 64 * 1024 * 1024  # bytes


def api_key(folder: Path) -> tuple[str, str]:
    """The key, and where it is from, in words without it: the environment, or a file only its owner may read.

    Args:
        folder: the server's; its file `api_key` is made at the first start without the variable.

    Raises:
        InputError: when what stands there is no usable key.
    """
    file = folder / "api_key"
    if VARIABLE in os.environ:
        return _usable(os.environ[VARIABLE], VARIABLE), f"the environment variable {VARIABLE}"
    if not file.exists():
        temporary = file.with_name(".api_key.unfinished")
        temporary.unlink(missing_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
            stream.write(f"lawft-{secrets.token_urlsafe(32)}\n")
        temporary.replace(file)
    return _usable(file.read_text(encoding="utf-8").strip(), str(file)), f"the file {file}"


def _usable(key: str, where: str) -> str:
    if not re.fullmatch(rf"[!-~]{{{_SHORTEST},512}}", key):
        raise InputError(f"{where}: expected {_SHORTEST} to 512 printable ASCII characters without spaces", ["python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"])
    return key


class RequireKey:
    """ASGI middleware that lets nothing pass without `Authorization: Bearer KEY`.

    Args:
        app: what is behind it.
        key: the key.
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self.expected = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no web sockets here
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(sent) == 1 and hmac.compare_digest(sent[0], self.expected):
            await self.app(scope, receive, send)
            return
        await _hear_out(receive)
        message = "no API key was sent: Authorization: Bearer KEY" if not sent else "the API key is not this server's"
        refusal = ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer", "Connection": "close"})
        await refusal.response()(scope, receive, send)


async def _hear_out(receive: Receive) -> None:
    """Reads what a refused client is still sending, up to a limit: it might not read the answer before."""
    heard, more = 0, True
    while more and heard < _HEARD_OUT:
        message = await receive()
        heard += len(message.get("body", b""))
        more = message.get("more_body", False)
