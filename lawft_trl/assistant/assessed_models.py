"""The models of an assessment: from a models file, at an address, or a run and its base served on this machine for as long as it takes."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lawft_trl.assistant.client import LegalClient
from lawft_trl.assistant.desk import refuse_same_model, untuned_entry
from lawft_trl.assistant.models import ModelEntry, entry_from_url, read_models
from lawft_trl.assistant.own_server import served_run
from lawft_trl.errors import InputError


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
            entries = _from_file(models, model, base, judge, run)
        elif base_url:
            entries = _from_url(base_url, model, base, judge, api_key_env, run)
        else:
            tuned, untuned = stack.enter_context(served_run(run, with_base=True))
            entries = {"tuned": tuned, "base": replace(untuned, run=None)}
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


def _from_file(models: Path, model: str, base: str | None, judge: str | None, run: Path | None) -> dict[str, ModelEntry]:
    entries = read_models(models)
    problems = [f"{option} {name}: not in {models}; there are {', '.join(entries)}" for option, name in (("--model", model), ("--judge", judge)) if name and name not in entries]
    if problems:
        raise InputError(f"{models}: {len(problems)} model(s) are not there", problems)
    tuned = entries[model]
    if run and tuned.run and run.resolve() != Path(tuned.run).resolve():
        raise InputError(f"{run}: {models} says that {model} is of another run, {tuned.run}", ["leave RUN out, or mend `run:`; the pairs are compared with what the model was trained on"])
    if not base and not tuned.base_model:
        raise InputError(f"{models}: {model} names no base_model; name the untuned model with --base")
    # `base_model` is an id, as models.py says; --base may be an alias too.
    untuned = entries[base] if base in entries else untuned_entry(tuned, base or tuned.base_model)
    refuse_same_model(tuned, untuned)
    found = {"tuned": tuned, "base": untuned}
    return found | ({"judge": entries[judge]} if judge else {})


def _from_url(base_url: str, model: str, base: str, judge: str | None, api_key_env: str | None, run: Path | None) -> dict[str, ModelEntry]:
    tuned = entry_from_url(base_url, model, base_model=base, api_key_env=api_key_env, run=run)
    return {"tuned": tuned, "base": untuned_entry(tuned, base)} | ({"judge": entry_from_url(base_url, judge, api_key_env=api_key_env)} if judge else {})
