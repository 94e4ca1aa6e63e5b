"""The models of an assessment: from a models file, at an address, or a run and its base served on this machine for as long as it takes."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lawft_trl.assistant.client import LegalClient
from lawft_trl.assistant.models import ModelEntry, entry_from_url, read_models
from lawft_trl.errors import InputError
from lawft_trl.recipe import Recipe
from lawft_trl.run_dir import read_run

_SECONDS_TO_START = 1800  # a large model is read from disk
_SECONDS_TO_END = 15


@dataclass(frozen=True)
class AssessedModels:
    """Who is asked.

    Attributes:
        clients: `"base"` and `"tuned"` -> the client and the id that is asked for.
        judge: `None` where there is none.
        run: the tuned model's run, as named or as the models file says.
    """

    clients: Mapping[str, tuple[LegalClient, str]]
    judge: LegalClient | None
    run: Path | None


@contextlib.contextmanager
def assessed_models(
    *, run: Path | None, models: Path | None, base_url: str | None, model: str | None, base: str | None, judge: str | None, api_key_env: str | None, timeout: float
) -> Iterator[AssessedModels]:
    """Has the models of an assessment at hand; `lawft_trl.commands.assess` says what may be given together.

    Raises:
        InputError: with everything that does not fit together, or when a run cannot be served.
    """
    problems = _problems(run, models, base_url, model, base, judge, api_key_env)
    if problems:
        raise InputError(f"{len(problems)} problem(s) with which models are asked", problems)
    with contextlib.ExitStack() as stack:
        if models:
            entries = _from_file(models, model, base, judge)
        elif base_url:
            entries = _from_url(base_url, model, base, judge, api_key_env, run)
        else:
            entries = _from_run(run, stack)
        made = {name: stack.enter_context(contextlib.closing(LegalClient(entry, timeout=timeout))) for name, entry in entries.items()}
        clients = {side: (made[side], entries[side].model) for side in ("base", "tuned")}
        known = entries["tuned"].run
        yield AssessedModels(clients, made.get("judge"), run or (Path(known) if known else None))


def _problems(run: Path | None, models: Path | None, base_url: str | None, model: str | None, base: str | None, judge: str | None, api_key_env: str | None) -> list[str]:
    problems = []
    if models and base_url:
        problems.append("--models and --base-url: give one of them")
    if (models or base_url) and not model:
        problems.append("--model: name the tuned model")
    if base_url and not base:
        problems.append("--base: name the untuned model at the URL")
    if model and model == base:
        problems.append(f"--base {base}: that is the tuned model; name the one it was tuned from")
    if api_key_env and not base_url:
        problems.append("--api-key-env: only with --base-url; a models file says it itself")
    if not models and not base_url:
        if run is None:
            problems.append("no model: give a RUN, or --models FILE --model ALIAS, or --base-url URL --model NAME --base NAME")
        problems += [f"{option}: only with --models or --base-url" for option, value in (("--model", model), ("--base", base), ("--judge", judge)) if value]
    return problems


def _from_file(models: Path, model: str, base: str | None, judge: str | None) -> dict[str, ModelEntry]:
    entries = read_models(models)
    problems = [f"{option} {name}: not in {models}; there are {', '.join(entries)}" for option, name in (("--model", model), ("--judge", judge)) if name and name not in entries]
    if problems:
        raise InputError(f"{models}: {len(problems)} model(s) are not there", problems)
    tuned = entries[model]
    base = base or tuned.base_model
    if base is None:
        raise InputError(f"{models}: {model} names no base_model; name the untuned model with --base")
    found = {"tuned": tuned, "base": entries.get(base) or _untuned(tuned, base)}
    return found | ({"judge": entries[judge]} if judge else {})


def _from_url(base_url: str, model: str, base: str, judge: str | None, api_key_env: str | None, run: Path | None) -> dict[str, ModelEntry]:
    tuned = entry_from_url(base_url, model, base_model=base, api_key_env=api_key_env, run=run)
    return {"tuned": tuned, "base": _untuned(tuned, base)} | ({"judge": entry_from_url(base_url, judge, api_key_env=api_key_env)} if judge else {})


def _untuned(tuned: ModelEntry, base: str) -> ModelEntry:
    """The base at the tuned model's address, asked as that one is: the same chat template arguments, the same system message."""
    return replace(tuned, alias=base, model=base, base_model=None, adapter_sha256=None, run=None)


def _from_run(path: Path, stack: contextlib.ExitStack) -> dict[str, ModelEntry]:
    """Serves a run and its base, each by its own `transformers serve`; there must be memory for both."""
    from lawft_trl.evaluation.held_out import run_tokenizer
    from lawft_trl.export.serving import require_serving, tuned_folder, untuned_folder

    require_serving()
    run = read_run(path)
    temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lawft-assess-")))
    tuned_folder(path, temporary / "tuned")
    untuned_folder(run.recipe, run_tokenizer(run), temporary / "base")
    urls = {name: stack.enter_context(_served(run.recipe, temporary, name)) for name in ("tuned", "base")}
    tuned = entry_from_url(urls["tuned"], "tuned", backend="transformers", run=path)
    return {"tuned": tuned, "base": replace(_untuned(tuned, "base"), base_url=urls["base"])}


@contextlib.contextmanager
def _served(recipe: Recipe, temporary: Path, name: str) -> Iterator[str]:
    """One `transformers serve` on a free port; yields its base URL once it answers."""
    from lawft_trl.export.serving import serving_command, serving_environment

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = temporary / f"{name}.log"
    with log.open("wb") as output:
        child = subprocess.Popen(serving_command(recipe, name, port), cwd=temporary, env=serving_environment(), start_new_session=True, stdout=output, stderr=subprocess.STDOUT)
        try:
            _until_ready(child, port, name, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=_SECONDS_TO_END)


def _until_ready(child: subprocess.Popen, port: int, name: str, log: Path) -> None:
    direct, deadline = urllib.request.build_opener(urllib.request.ProxyHandler({})), time.monotonic() + _SECONDS_TO_START
    while child.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), direct.open(f"http://127.0.0.1:{port}/health", timeout=5):
            return
        time.sleep(0.3)
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    raise InputError(f"the {name} model could not be served", [*tail, "serve it yourself (docs/serving.md) and give --base-url"])
