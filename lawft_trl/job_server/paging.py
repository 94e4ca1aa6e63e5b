"""Lists, a page at a time, as OpenAI's clients go through them."""

import re
from collections.abc import Callable
from typing import Any

from fastapi import Request

from lawft_trl.job_server.api_errors import ApiError


def limit(request: Request, default: int, most: int) -> int:
    """How many objects a page is to have. Raises `ApiError` for none that is allowed."""
    text = request.query_params.get("limit", str(default))
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= most:
        raise ApiError(400, f"limit: expected a number from 1 to {most}", param="limit", code="invalid_value")
    return int(text)


def choice(request: Request, name: str, choices: tuple[str, ...]) -> str:
    """A parameter of the query, the first choice where it is not given. Raises `ApiError` for another."""
    value = request.query_params.get(name, choices[0])
    if value not in choices:
        raise ApiError(400, f"{name}: expected {' or '.join(choices)}", param=name, code="invalid_value")
    return value


_NO_ENDS = object()


def page(find: Callable[[], tuple[list[dict[str, Any]], bool]], *, ends: Any = _NO_ENDS) -> dict[str, Any]:
    """A list object.

    Args:
        find: gives a page's objects, and whether there are more; its `KeyError` is an unknown `after`.
        ends: if given, `first_id` and `last_id` are told, and this is what they are where the list is empty.
    """
    try:
        found, more = find()
    except KeyError as error:
        raise unknown_cursor(str(error.args[0])) from None
    page = {"object": "list", "data": found, "has_more": more}
    if ends is not _NO_ENDS:
        page |= {"first_id": found[0]["id"] if found else ends, "last_id": found[-1]["id"] if found else ends}
    return page


def unknown_cursor(after: str) -> ApiError:
    """The refusal of an `after` that is not in the list."""
    return ApiError(400, f"after: there is no {after[:64]!r} in this list", param="after", code="invalid_value")
