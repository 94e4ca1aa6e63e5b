"""`lawft data reasons`: reasons for the choices, asked of a teacher or written by hand, each verified."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError

_NOT_SAMPLING = ("model", "messages", "stream", "n")


def add(data_sources: Any) -> None:
    """Declares the verb."""
    verb = data_sources.add_parser("reasons", help="reasons for every choice, from a teacher model or by hand, verified")
    verb.add_argument("file", type=Path, help="questions, one JSON object a line")
    verb.add_argument("--verify", action="store_true", help="ask nobody; check the reasons that the file has")
    verb.add_argument("--model", metavar="NAME", help="the teacher: the endpoint's name for it, or a hub id or folder")
    verb.add_argument("--endpoint", metavar="URL", default=os.environ.get("OPENAI_BASE_URL"),
                      help="OpenAI-compatible base URL (default: $OPENAI_BASE_URL; without one the model runs here)")  # fmt: skip
    verb.add_argument("--api-key-env", metavar="VARIABLE", default="OPENAI_API_KEY",
                      help="environment variable that holds the key (default OPENAI_API_KEY; a local endpoint needs none)")  # fmt: skip
    verb.add_argument("--out", type=Path, help="the file to write (default: FILE with .reasons.jsonl)")
    verb.add_argument("--samples", type=int, default=4, help="ask a question again, up to so often, until an answer passes (default 4)")
    verb.add_argument("--temperature", type=float, default=0.7, help="of sampling (default 0.7)")
    verb.add_argument("--seed", type=int, default=0, help="of the first sample; the next has the next (default 0)")
    verb.add_argument("--answer-tokens", type=int, default=2048, help="greatest length of an answer (default 2048)")
    verb.add_argument("--body", type=_json_object, default={}, metavar="JSON",
                      help="more parameters of the request; null leaves one out: '{\"seed\": null, \"top_p\": 0.9}'")  # fmt: skip
    verb.add_argument("--concurrency", type=int, default=8, help="requests under way at a time (default 8)")
    verb.add_argument("--timeout", type=float, default=300.0, help="seconds for one attempt (default 300)")
    verb.add_argument("--retries", type=int, default=5, help="further attempts after 429, 5xx or a timeout (default 5)")
    verb.add_argument("--batch-size", type=int, default=8, help="prompts at a time of a model that runs here (default 8)")
    verb.add_argument("--prices", type=Path, metavar="FILE", help="dated prices per million tokens, YAML or JSON")
    verb.add_argument("--max-cost", type=float, metavar="AMOUNT", help="send nothing more after this run has cost so much")
    verb.add_argument("--max-tokens", type=int, metavar="N", help="send nothing more after this run has used so many tokens")
    verb.add_argument("--held-out", type=Path, action="append", default=[], metavar="PATH",
                      help="evaluation rows, questions or data folder, never sent; the FILE's own folder and data/* are known")  # fmt: skip
    verb.add_argument("--allow-held-out", action="store_true", help="send evaluation questions too")
    verb.add_argument("--cache", type=Path, metavar="FOLDER", help="where responses are kept (default: OUT with .cache)")
    verb.add_argument("--force", action="store_true", help="replace OUT")
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.verify:
        _verify(options.file)
        return
    from lawft_trl.prices import read_prices
    from lawft_trl.reasons.collect import collect_reasons, summary_file
    from lawft_trl.reasons.teacher import Asking

    _require_usable(options)
    out = options.out or options.file.with_suffix(".reasons.jsonl")
    cache = options.cache or out.with_suffix(".cache")
    parameters = {"temperature": options.temperature, "max_tokens": options.answer_tokens, "seed": options.seed} | options.body
    asking = Asking(
        model=options.model,
        parameters={name: value for name, value in parameters.items() if value is not None},
        samples=options.samples,
        price=read_prices(options.prices, options.model, ("input", "output")) if options.prices else None,
        max_tokens=options.max_tokens,
        max_cost=options.max_cost,
    )
    try:
        summary = collect_reasons(
            options.file,
            out,
            make_teacher=lambda: _teacher(options),
            asking=asking,
            where=options.endpoint or "in process",
            cache=cache,
            held_out=options.held_out,
            allow_held_out=options.allow_held_out,
            force=options.force,
        )
    except (InputError, KeyboardInterrupt):
        responses = cache / "responses.jsonl"
        if responses.is_file() and responses.stat().st_size:
            print(f"{cache}: the answers so far are kept; the same command asks only for the rest", file=sys.stderr)
        raise
    _print(summary)
    if not summary["kept"]:
        raise InputError(f"{out}: not written, no answer passed", [f"{count} × {kind}" for kind, count in summary["samples_rejected"].items()])
    print(f"{out}: {summary['kept']} questions with reasons; {summary_file(out)}")


def _verify(file: Path) -> None:
    from lawft_trl.reasons.verify import file_problems

    checked, problems = file_problems(file)
    if problems:
        raise InputError(f"{file}: {len(problems)} problem(s) in the reasons of {checked} questions", problems)
    print(f"{file}: the reasons of {checked} questions pass")


def _teacher(options: argparse.Namespace) -> Any:
    if options.endpoint is None:
        from lawft_trl.reasons.in_process import InProcess

        return InProcess(options.model, batch_size=options.batch_size)
    from lawft_trl.reasons.endpoint import Endpoint

    return Endpoint(
        url=options.endpoint,
        api_key=os.environ.get(options.api_key_env),
        concurrency=options.concurrency,
        timeout=options.timeout,
        retries=options.retries,
    )


def _require_usable(options: argparse.Namespace) -> None:
    """Raises `InputError` with everything that is wrong with the options."""
    problems = []
    if not options.model:
        problems.append("--model: name the teacher, or check reasons that are there with --verify")
    for name in ("samples", "answer_tokens", "concurrency", "batch_size", "max_tokens"):
        value = getattr(options, name)
        if value is not None and value < 1:
            problems.append(f"--{name.replace('_', '-')} {value}: expected at least 1")
    for name in ("temperature", "timeout", "retries", "max_cost"):
        value = getattr(options, name)
        if value is not None and not 0 <= value < float("inf"):
            problems.append(f"--{name.replace('_', '-')} {value}: expected 0 or more")
    if options.max_cost is not None and options.prices is None:
        problems.append("--max-cost: needs --prices FILE; no prices are built in")
    problems += [f"--body: {key!r} is not a sampling parameter" for key in _NOT_SAMPLING if key in options.body]
    if not isinstance(options.body.get("seed") or 0, int):
        problems.append(f"--body: `seed`: expected a whole number or null, found {options.body['seed']!r}")
    if options.endpoint is None:
        if options.body:
            problems.append("--body: only for an --endpoint; a model that runs here has --temperature, --seed and --answer-tokens")
    elif not options.endpoint.startswith(("http://", "https://")):
        problems.append(f"--endpoint {options.endpoint}: expected http://… or https://…, e.g. http://localhost:8000/v1")
    if options.api_key_env != "OPENAI_API_KEY" and options.api_key_env not in os.environ:
        problems.append(f"--api-key-env {options.api_key_env}: this environment variable is not set")
    if problems:
        raise InputError(f"lawft data reasons: {len(problems)} option(s) cannot be used", problems)


def _print(summary: dict[str, Any]) -> None:
    splits = ", ".join(summary["evaluation_splits"])
    print(f"held out, not asked: {len(summary['held_out'])} of {summary['questions']} questions "
          + (f"(evaluation splits of {splits})" if splits else "(--allow-held-out)"))  # fmt: skip
    if summary["with_reasons"]:
        print(f"not asked, they have reasons: {len(summary['with_reasons'])}")
    print(f"asked {summary['asked']}: {summary['kept']} kept, {len(summary['exhausted'])} with every answer rejected, "
          f"{len(summary['failed'])} failed, {len(summary['unfinished'])} unfinished")  # fmt: skip
    if summary["samples_rejected"]:
        print("rejected answers: " + ", ".join(f"{kind} {count}" for kind, count in summary["samples_rejected"].items()))
    cost = f", {summary['cost']['amount']} {summary['cost']['currency']} (prices of {summary['cost']['prices_of']})" if summary["cost"] else ""
    print(f"answers: {summary['samples']}, {summary['samples_from_cache']} of them from the cache; "
          f"tokens of this run: {summary['tokens']['prompt']} + {summary['tokens']['completion']}{cost}")  # fmt: skip
    if summary["stopped"]:
        print(f"stopped at {summary['stopped']}; the same command with --force goes on")
    for question, error in summary["failed"].items():
        print(f"failed: {question}: {error}", file=sys.stderr)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error.msg}: {text!r}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected an object, found {text!r}")
    return value
