"""The models file: which model answers under which name, where, and what is known of it. docs/client.md describes it."""

import datetime
import difflib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lawft_trl.errors import InputError
from lawft_trl.run_dir import read_run
from lawft_trl.text_files import file_sha256, read_text

# What the kinds of server understand beyond messages, temperature, seed and stop: whether a schema (`response_format`) and
# `stream_options` are read or refused or ignored without a word, and what the greatest length is called.
BACKENDS: dict[str, dict[str, Any]] = {
    "openai": {"response_format": True, "stream_options": True, "length": "max_completion_tokens", "chat_template_kwargs": False},
    "vllm": {"response_format": True, "stream_options": True, "length": "max_tokens", "chat_template_kwargs": True},
    "transformers": {"response_format": False, "stream_options": False, "length": "max_tokens", "chat_template_kwargs": True},
    "lawft": {"response_format": False, "stream_options": True, "length": "max_tokens", "chat_template_kwargs": True},
    "other": {"response_format": False, "stream_options": False, "length": "max_tokens", "chat_template_kwargs": True},
}
PARAMETERS = ("temperature", "seed", "stop", "max_tokens", "response_format", "stream_options", "chat_template_kwargs")

_ENDING_SOON = 60  # days
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")  # keys have small letters, so that one pasted here by mistake is no name
_SECRETS = re.compile(r"(?i)^(api_?)?key$|token|secret|password|^auth|bearer")


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A model behind an OpenAI-compatible endpoint.

    Attributes:
        alias: the name the user gives it.
        backend: what serves it, one of `BACKENDS`.
        base_url: e.g. `"http://127.0.0.1:8000/v1"`.
        model: the id that is sent.
        base_model: id of the untuned model at the same URL.
        api_key_env: name of the environment variable that holds the key; `None` for an endpoint that wants none.
        shutdown_date: ISO date from which on the provider no longer serves it.
        adapter_sha256: of the `adapter_model.safetensors` that is served.
        run: folder of the run that trained it.
        system: the system message it was trained with; read from the run's recipe where there is a run.
        chat_template_kwargs: arguments of the chat template it was trained with; likewise.
        unsupported: of `PARAMETERS` those that this model refuses although its backend knows them.
    """

    alias: str
    backend: str
    base_url: str
    model: str
    base_model: str | None = None
    api_key_env: str | None = None
    shutdown_date: str | None = None
    adapter_sha256: str | None = None
    run: str | None = None
    system: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    unsupported: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether what is sent stays on this machine: `localhost` or a loopback address."""
        return _is_loopback(urlsplit(self.base_url).hostname or "")

    def sends(self, parameter: str) -> bool:
        """Whether one of `PARAMETERS` is sent to this model."""
        return parameter not in self.unsupported and BACKENDS[self.backend].get(parameter, True)


_KEYS = [each.name for each in fields(ModelEntry) if each.name != "alias"]
_REQUIRED = ("backend", "base_url", "model")


def read_models(path: Path) -> dict[str, ModelEntry]:
    """Reads a models file: YAML, alias -> the fields of `ModelEntry`. A relative `run` counts from the file's folder.

    Raises:
        InputError: with every mistake: file, line, alias, key, what is allowed, the nearest known name. No value that may be
            a key is repeated.
    """
    from ruamel.yaml import YAML, YAMLError

    try:
        document = YAML().load(read_text(path))
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = "the same key stands twice" if "duplicate" in str(error) else "not YAML; aliases stand in the first column, their keys indented below"
        raise InputError(f"{path}{f':{mark.line + 1}' if mark else ''}: {problem}") from None  # its own words quote the file
    if not isinstance(document, dict) or not document:
        raise InputError(f"{path}: expected one model or more, each `ALIAS:` with the keys {', '.join(_REQUIRED)} below it")
    entries, problems = {}, []
    for alias, body in document.items():
        where = f"{path}:{document.lc.key(alias)[0] + 1}: {alias}"
        if not isinstance(alias, str) or not alias.strip():
            problems.append(f"{where}: expected a name; put it in quotation marks")
        elif not isinstance(body, dict):
            problems.append(f"{where}: expected `key: value` lines below it, with {', '.join(_REQUIRED)}")
        else:
            entry, faults = _read_entry(alias, {str(key): _plain(value) for key, value in body.items()}, path.parent)
            lines = {str(key): at[0] + 1 for key, at in (body.lc.data or {}).items()}
            problems += [f"{path}:{lines[key]}: {alias}: {key}: {fault}" if key in lines else f"{where}: {key}: {fault}" for key, fault in faults]
            entries[alias] = entry
    if problems:
        raise InputError(f"{path}: {len(problems)} error(s) in the models file", problems)
    return entries


def entry_from_url(
    base_url: str, model: str, *, backend: str | None = None, base_model: str | None = None, api_key_env: str | None = None, run: Path | None = None
) -> ModelEntry:
    """A model that stands in no file.

    Args:
        base_url: of the endpoint.
        model: the id that is sent, and the alias.
        backend: `None` for `openai` at api.openai.com and `other` elsewhere.
        base_model: id of the untuned model there.
        api_key_env: name of the environment variable with the key; `None` at api.openai.com for `OPENAI_API_KEY`.
        run: the run that trained it.

    Raises:
        InputError: with everything that is wrong.
    """
    hosted = re.match(r"https://api\.openai\.com(/|$)", base_url)
    given = {
        "backend": backend or ("openai" if hosted else "other"),
        "base_url": base_url,
        "model": model,
        "base_model": base_model,
        "api_key_env": api_key_env or ("OPENAI_API_KEY" if hosted else None),
        "run": str(run) if run else None,
    }
    entry, faults = _read_entry(model, given, Path())
    if faults:
        raise InputError(f"{len(faults)} error(s) in what is said of the model", [f"{key}: {fault}" for key, fault in faults])
    return entry


def entry_warnings(entry: ModelEntry, today: datetime.date) -> list[str]:
    """What the user should know of a model before asking it, in Japanese."""
    warnings = []
    if entry.shutdown_date:
        days = (datetime.date.fromisoformat(entry.shutdown_date) - today).days
        if days < 0:
            warnings.append(f"モデル「{entry.alias}」は {entry.shutdown_date} に提供が終了しています。別のモデルを選んでください。")
        elif days <= _ENDING_SOON:
            warnings.append(f"モデル「{entry.alias}」は {entry.shutdown_date} に提供が終了します（あと{days}日）。移行先を用意してください。")
    if not entry.is_local and entry.base_url.startswith("http://"):
        warnings.append(f"モデル「{entry.alias}」への通信は暗号化されません（http://）。文書と鍵が経路上で読まれるおそれがあります。https:// を使ってください。")
    return warnings


def _read_entry(alias: str, given: Mapping[str, Any], folder: Path) -> tuple[ModelEntry | None, list[tuple[str, str]]]:
    """The entry, and `(key, fault)` of everything that is wrong with it; `None` where something is."""
    faults = [(key, _unknown(key)) for key in given if key not in _KEYS]
    values = {key: value for key, value in given.items() if key in _KEYS and value is not None}
    faults += [(key, "missing") for key in _REQUIRED if key not in values]
    if isinstance(values.get("shutdown_date"), datetime.date):
        values["shutdown_date"] = values["shutdown_date"].isoformat()
    for key, value in values.items():
        fault = _fault(key, value)
        if fault:
            faults.append((key, fault))
    if values.get("backend") == "openai" and "api_key_env" not in values:
        faults.append(("api_key_env", "missing; OpenAI wants a key: api_key_env: OPENAI_API_KEY, and the key in that environment variable"))
    if "run" in values and isinstance(values["run"], str):
        faults += _add_run(values, folder)
    if faults:
        return None, faults
    values["unsupported"] = tuple(values.get("unsupported", ()))
    return ModelEntry(alias=alias, **values), []


def _unknown(key: str) -> str:
    if _SECRETS.search(key):
        return "a key never stands in this file; write `api_key_env: NAME` and put the key into the environment variable NAME"
    close = difflib.get_close_matches(key, _KEYS, n=1)
    return f"unknown; did you mean {close[0]}?" if close else f"unknown; there are {', '.join(_KEYS)}"


def _fault(key: str, value: Any) -> str | None:
    """What is wrong with a value."""
    if key == "chat_template_kwargs":
        return None if isinstance(value, dict) else "expected `name: value` lines, e.g. {enable_thinking: false}"
    if key == "unsupported":
        unknown = [str(name) for name in value if name not in PARAMETERS] if isinstance(value, list) else [""]
        return f"expected a list of {', '.join(PARAMETERS)}" if unknown else None
    if not isinstance(value, str) or not value.strip():
        return f"expected a text, found {type(value).__name__}; put it in quotation marks"
    if key == "backend" and value not in BACKENDS:
        close = difflib.get_close_matches(value, BACKENDS, n=1)
        return f"expected {', '.join(BACKENDS)}, found {value!r}" + (f"; did you mean {close[0]}?" if close else "")
    if key == "api_key_env" and not _VARIABLE.fullmatch(value):
        return "expected the name of an environment variable (capitals, digits, _), not the key itself; e.g. OPENAI_API_KEY"
    if key == "shutdown_date":
        return _date_fault(value)
    if key == "adapter_sha256" and not re.fullmatch(r"[0-9a-f]{64}", value):
        return "expected 64 hexadecimal digits in small letters (sha256sum adapter_model.safetensors)"
    return _url_fault(value) if key == "base_url" else None


def _date_fault(value: str) -> str | None:
    try:
        datetime.date.fromisoformat(value)
    except ValueError:
        return f"expected a day, YYYY-MM-DD, found {value!r}"
    return None


def _url_fault(url: str) -> str | None:
    """What is wrong with a base URL. Only plain ones pass: no two programs may disagree on which host it names."""
    form = "expected http://HOST:PORT/v1 or https://HOST/v1"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return form
    if "@" in parts.netloc:
        return "user, password or key never stand in the URL; write `api_key_env: NAME`"
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\\\s\x00-\x1f]|[^\x00-\x7f]", url):
        return form
    if parts.query or parts.fragment:
        return f"{form}, without what follows ? or #"
    if parts.path.rstrip("/").endswith("/chat/completions"):
        return "leave /chat/completions out; the client adds it"
    return None


def _add_run(values: dict[str, Any], folder: Path) -> list[tuple[str, str]]:
    """Adds what the run says of its model; what is wrong with it or contradicts it."""
    faults = [(key, "left out where there is a run: its recipe says it") for key in ("system", "chat_template_kwargs") if key in values]
    path = folder / values["run"]
    try:
        run = read_run(path)
    except InputError as error:
        return [*faults, ("run", error.heading)]
    adapter = path / "adapter_model.safetensors"
    actual = file_sha256(adapter) if adapter.is_file() else None
    if values.get("adapter_sha256") not in (None, actual):
        found = f"its adapter's is {actual}" if actual else "it has no adapter"
        faults.append(("adapter_sha256", f"not that of {path}: {found}; was it trained again since? Then serve the new one"))
    pattern = run.recipe.pattern
    values |= {"run": str(path), "system": pattern.system, "chat_template_kwargs": dict(pattern.chat_template_kwargs), "adapter_sha256": actual}
    return faults


def _plain(value: Any) -> Any:
    """ruamel's annotated values as plain ones."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), value)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
