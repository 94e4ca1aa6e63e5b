"""The options of verbs that ask an OpenAI-compatible endpoint."""

import argparse
import json
import os
from typing import Any

_NOT_PARAMETERS = ("model", "messages", "stream", "n")
_KEY = "OPENAI_API_KEY"


def add_endpoint_options(verb: argparse.ArgumentParser) -> None:
    """Declares everything but `--endpoint` itself."""
    verb.add_argument("--api-key-env", metavar="VARIABLE", default=_KEY,
                      help=f"environment variable that holds the key (default {_KEY}; a local endpoint needs none)")  # fmt: skip
    verb.add_argument("--body", type=_json_object, default={}, metavar="JSON",
                      help="more parameters of the request; null leaves one out: '{\"seed\": null, \"top_p\": 0.9}'")  # fmt: skip
    verb.add_argument("--concurrency", type=int, default=8, metavar="N", help="requests under way at a time (default 8)")
    verb.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="for one attempt (default 300)")
    verb.add_argument("--retries", type=int, default=5, metavar="N", help="further attempts after 429, 5xx or a timeout (default 5)")


def endpoint_problems(options: argparse.Namespace) -> list[str]:
    """What keeps these options from being used."""
    problems = [f"--body: {name!r} is not a parameter that can be set" for name in _NOT_PARAMETERS if name in options.body]
    if not isinstance(options.body.get("seed") or 0, int):
        problems.append(f"--body: `seed`: expected a whole number or null, found {options.body['seed']!r}")
    if not options.endpoint.startswith(("http://", "https://")):
        problems.append(f"--endpoint {options.endpoint}: expected http://… or https://…, e.g. http://localhost:8000/v1")
    if options.concurrency < 1:
        problems.append(f"--concurrency {options.concurrency}: expected at least 1")
    if not 0 < options.timeout < float("inf"):
        problems.append(f"--timeout {options.timeout:g}: expected above 0")
    if options.retries < 0:
        problems.append(f"--retries {options.retries}: expected 0 or more")
    if options.api_key_env != _KEY and options.api_key_env not in os.environ:
        problems.append(f"--api-key-env {options.api_key_env}: this environment variable is not set")
    return problems


def make_endpoint(options: argparse.Namespace) -> Any:
    """The `lawft_trl.reasons.endpoint.Endpoint` of these options."""
    from lawft_trl.reasons.endpoint import Endpoint

    return Endpoint(
        url=options.endpoint,
        api_key=os.environ.get(options.api_key_env),
        concurrency=options.concurrency,
        timeout=options.timeout,
        retries=options.retries,
    )


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error.msg}: {text!r}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected an object, found {text!r}")
    return value
