"""GET requests that do not burden a public server: one at a time, slowly, and again only where that helps."""

import email.utils
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from lawft_trl.errors import InputError

TRIES = 5
LONGEST_WAIT = 300.0  # seconds; a server that asks for more is not waited for

# Sends one GET to a path with these parameters and returns the body.
Ask = Callable[[str, Mapping[str, str]], str]


def polite_get(client: Any, base_url: str, *, pause: float, backoff: float) -> Ask:
    """A function that sends GETs to one server slowly, and again where that may help.

    Args:
        client: an `httpx.Client`.
        base_url: what the paths are added to.
        pause: least number of seconds from the start of one request to the start of the next.
        backoff: seconds before the second try, doubled with every further one; `Retry-After` goes before it.

    Returns:
        A function of path and parameters that returns the body, UTF-8. It raises `httpx.HTTPError` for a status that is
        no success and a connection that failed, `InputError` for another encoding.
    """
    import httpx
    import tenacity

    last = -pause

    def helps(error: BaseException) -> bool:
        waits = (_retry_after(error) or 0.0) <= LONGEST_WAIT
        return may_pass(error) and waits and not isinstance(error, httpx.ConnectError)  # no network: say so at once

    def wait(state: tenacity.RetryCallState) -> float:
        asked = _retry_after(state.outcome.exception())
        return backoff * 2 ** (state.attempt_number - 1) if asked is None else asked

    @tenacity.retry(retry=tenacity.retry_if_exception(helps), stop=tenacity.stop_after_attempt(TRIES), wait=wait, reraise=True)
    def ask(path: str, parameters: Mapping[str, str]) -> str:
        nonlocal last
        time.sleep(max(0.0, last + pause - time.monotonic()))
        last = time.monotonic()
        response = client.get(base_url + path, params=parameters)
        response.raise_for_status()
        try:
            return response.content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{response.url}: the answer is not UTF-8: {error}") from None

    return ask


def may_pass(error: BaseException | None) -> bool:
    """Whether the same request may well succeed later."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (429, 500, 502, 503, 504)
    return isinstance(error, httpx.TimeoutException | httpx.NetworkError | httpx.RemoteProtocolError)


def _retry_after(error: BaseException | None) -> float | None:
    """Seconds the server asks to wait, from `Retry-After` in either of its forms (RFC 9110, section 10.2.3)."""
    import httpx

    value = error.response.headers.get("Retry-After", "") if isinstance(error, httpx.HTTPStatusError) else ""
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def describe(error: Any) -> str:
    """One line on a failed request, with the API's own words: its errors are `{"code": ..., "message": ...}`."""
    import httpx

    if not isinstance(error, httpx.HTTPStatusError):
        return f"{type(error).__name__}: {error} ({error.request.url})"
    response = error.response
    try:
        answer = json.loads(response.content)
        said = f"{answer['code']} {answer['message']}"
    except (ValueError, TypeError, KeyError):
        said = " ".join(response.text.split())[:120] or response.reason_phrase
    asked = _retry_after(error) or 0.0
    if asked > LONGEST_WAIT:
        said += f"; it asks to wait {asked:.0f} s, so run the same again then"
    elif may_pass(error):
        said += f" ({TRIES} tries)"
    return f"HTTP {response.status_code}: {said} ({response.url})"
