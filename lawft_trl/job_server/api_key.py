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


def api_key(folder: Path) -> tuple[str, str]:
    """The key, and where it is from, in words without it: the environment, or a file only its owner may read.

    Args:
        folder: the server's; its file `api_key` is made at the first start without the variable.

    Raises:
        InputError: when the variable's value is no usable key.
    """
    given = os.environ.get(VARIABLE)
    if given is not None:
        if not re.fullmatch(rf"[!-~]{{{_SHORTEST},512}}", given):
            raise InputError(f"{VARIABLE}: expected {_SHORTEST} to 512 printable ASCII characters without spaces", ["python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"])
        return given, f"the environment variable {VARIABLE}"
    file = folder / "api_key"
    if not file.exists():
        temporary = file.with_name(".api_key.unfinished")
        temporary.unlink(missing_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
            stream.write(f"lawft-{secrets.token_urlsafe(32)}\n")
        temporary.replace(file)
    return file.read_text(encoding="ascii").strip(), f"the file {file}"


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
        message = "no API key was sent: Authorization: Bearer KEY" if not sent else "the API key is not this server's"
        refusal = ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer", "Connection": "close"})
        await refusal.response()(scope, receive, send)
