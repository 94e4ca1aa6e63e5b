"""The server that keeps the fine-tuning jobs: where it is, with which key, and its errors in plain words."""

import contextlib
import ipaddress
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lawft_trl.doctor.characters import visible
from lawft_trl.errors import InputError

if TYPE_CHECKING:
    from openai import APIError, APIStatusError, OpenAI

OPENAI_URL = "https://api.openai.com/v1"
# Read in 2026-11 in several secondary sources that agree; OpenAI's own page was seen as a stored copy without the dates.
CLOSING = (
    "OpenAI's self-serve fine-tuning ends: organisations that had never used it are refused since 2026-05-07, those that had not used a tuned "
    "model for 60 days since 2026-07-02, everyone from 2027-01-06; the tunable models and their tuned versions go on 2027-01-14 "
    "(as far as this project could find, secondary sources)"
)
LOCAL = "the same commands train on your own machine: lawft serve-jobs, then --base-url with its address"
_NO_KEY = "none"  # the client insists on a key


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that speaks OpenAI's fine-tuning API.

    Attributes:
        client: the SDK's client.
        address: its URL without what may be secret in it.
        api_key: stands in no message, whatever the server answers.
        is_local: whether it runs on this machine.
    """

    client: "OpenAI" = field(repr=False)
    address: str
    api_key: str = field(repr=False)
    is_local: bool

    @property
    def is_openai(self) -> bool:
        """Whether it is OpenAI's own."""
        return (urlsplit(self.address).hostname or "").endswith("openai.com")

    def without_key(self, value: Any) -> Any:
        """A text, or JSON with all texts in it, without the key."""
        if isinstance(value, dict):
            return {self.without_key(name): self.without_key(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.without_key(item) for item in value]
        if isinstance(value, str) and len(self.api_key) > len(_NO_KEY):  # nobody's secret is shorter, and every word would have it in it
            return value.replace(self.api_key, "(the key)")
        return value

    def told(self, text: str) -> str:
        """What the server said, on one line, without the key and safe to print."""
        return visible(" ".join(self.without_key(text).split()))[:400]


def connect(base_url: str | None = None, *, timeout: float = 60.0) -> Server:
    """The server of a base URL; nothing is sent.

    Args:
        base_url: e.g. `"http://127.0.0.1:8080/v1"`; `None` for `$OPENAI_BASE_URL`, and without that OpenAI's own. The key is
            `$OPENAI_API_KEY`; a server on this machine may do without.
        timeout: seconds for one attempt; there are three.

    Raises:
        InputError: when the URL or the key cannot be used.
    """
    url = (base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).strip()
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    problems = []
    if not usable:
        problems.append("--base-url (or OPENAI_BASE_URL): expected http://… or https://…, e.g. http://127.0.0.1:8080/v1")
    local = usable and _is_loopback(str(parts.hostname))
    key = (os.environ.get("OPENAI_API_KEY") or "").strip()
    if not key and usable and not local:
        problems.append("OPENAI_API_KEY is not set; a key from a file: set -a; . ./.env; set +a")
    if not key.isascii() or any(not "!" <= character <= "~" for character in key):
        problems.append("OPENAI_API_KEY holds white space or characters that are in no key; copy it again (it is not shown here)")
    if not 0 < timeout < float("inf"):
        problems.append(f"--timeout {timeout:g}: expected above 0")
    if problems:
        raise InputError("the server of the fine-tuning jobs cannot be asked", problems)
    import openai

    # A proxy is for the way out; what is on this machine is asked directly.
    http_client = openai.DefaultHttpxClient(trust_env=False) if local else None
    client = openai.OpenAI(base_url=url, api_key=key or _NO_KEY, timeout=timeout, max_retries=2, http_client=http_client)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return Server(client=client, address=address, api_key=key or _NO_KEY, is_local=local)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@contextlib.contextmanager
def asking(server: Server, doing: str) -> Iterator[None]:
    """Turns whatever goes wrong within it into an `InputError` that says what to do.

    Args:
        server: which is asked.
        doing: what is being done, `"create the job"`.
    """
    import openai

    try:
        yield
    except InputError:
        raise
    except openai.OpenAIError as error:
        what, mends = _explained(server, error)
        raise InputError(f"{server.address}: could not {doing}: {what}", mends) from error
    except (ValueError, AttributeError, TypeError, RuntimeError) as error:
        # A body that is no JSON, or JSON of another form: the client does not hold a server to it.
        mend = f"is --base-url right? It usually ends in /v1 ({server.told(f'{type(error).__name__}: {error}')[:120]})"
        raise InputError(f"{server.address}: could not {doing}: its answer is not one of this API", [mend]) from error


def is_passing(error: BaseException | None) -> bool:
    """Whether an error may be over in a minute: no connection, a timeout, a rate limit, the server's own fault."""
    import openai

    if isinstance(error, openai.RateLimitError):
        return not _is_quota(error)
    return isinstance(error, openai.APIConnectionError | openai.InternalServerError)


def asked_pause(error: BaseException | None) -> float:
    """Seconds that the server wants to be left alone, by its Retry-After; 0 where it does not say."""
    try:
        seconds = float(error.response.headers.get("retry-after", 0))  # type: ignore[union-attr]
    except (AttributeError, ValueError):  # no response, or a date
        return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0


def expect(answer: Any, kind: type) -> Any:
    """The answer, if it is what it should be and has an id: of a page in HTML the client makes a string, of `{}` an object without.

    Raises:
        TypeError: when it could not; `asking` explains it.
    """
    if not isinstance(answer, kind) or not isinstance(answer.id, str):
        raise TypeError(f"expected {kind.__name__}, found {answer!r:.80}")
    return answer


def _is_quota(error: "APIError") -> bool:
    return "insufficient_quota" in (error.code, error.type)


def _explained(server: Server, error: Exception) -> tuple[str, list[str]]:
    """What went wrong, and what to do."""
    import openai

    said = _said(server, error)
    if isinstance(error, openai.APITimeoutError):
        return "no answer in time", ["try again, or with a longer --timeout SECONDS"]
    if isinstance(error, openai.APIConnectionError):
        start = "is it running? lawft serve-jobs starts it" if server.is_local else "check the network, the address and the proxy (HTTPS_PROXY)"
        return f"no connection ({server.told(str(error.__cause__ or error))})", [start]
    if isinstance(error, openai.AuthenticationError):
        return f"the key is not accepted{said}", ["set OPENAI_API_KEY to a key of this server (of lawft serve-jobs: LAWFT_JOBS_API_KEY, or what the file api_key in its folder holds)"]
    if isinstance(error, openai.PermissionDeniedError):
        return f"not permitted{said}", [f"at OpenAI this may be the closed door. {CLOSING}", LOCAL, "otherwise the key may lack the right to fine-tune: see its permissions"]
    if isinstance(error, openai.RateLimitError):
        if _is_quota(error):
            return f"the account's quota is used up{said}", ["waiting does not help: see the plan and the billing of the account"]
        return f"too many requests{said}", ["wait a minute and try again"]
    if isinstance(error, openai.NotFoundError):
        return f"not found{said}", ["check the id and the model's name; is it the server they are from (--base-url, usually ending in /v1), and the key's project?"]
    if isinstance(error, openai.ConflictError):
        return f"something else is under way{said}", ["try again when it is done"]
    if isinstance(error, openai.InternalServerError):
        return f"the server failed, status {error.status_code}{said}", ["try again in a minute; the log of a server of your own says why"]
    if isinstance(error, openai.APIStatusError):
        return f"refused, status {error.status_code}{said}", [_parameter(error) or "change what the message names, and try again"]
    return f"{type(error).__name__}{said}", ["is --base-url right? It usually ends in /v1"]


def _said(server: Server, error: Exception) -> str:
    """The server's own words, in whatever form they come, after a colon; `""` where there are none."""
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        words = body.get("message") or body.get("detail") or body.get("error") or body
        text = words if isinstance(words, str) else json.dumps(words, ensure_ascii=False, default=str)
    elif isinstance(body, str):
        text = "a page in HTML, not an answer of this API" if body.lstrip().startswith("<") else body
    else:
        text = "" if getattr(error, "response", None) is not None else str(error)
    text = server.told(text)
    return f": {text}" if text else ""


def _parameter(error: "APIStatusError") -> str:
    return f"the parameter is {error.param}" if isinstance(error.param, str) and error.param else ""
