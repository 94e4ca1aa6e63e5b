"""`lawft serve`: a run's model, or its base, behind `transformers serve` on this machine."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lawft_trl.errors import InputError
from lawft_trl.export.base_model import base_config, base_folder, stopping_config
from lawft_trl.export.bound_child import bound
from lawft_trl.export.serve_folder import base_files, export_serve_folder, place, serve_words
from lawft_trl.folders import whole_folder, write_json
from lawft_trl.recipe import Recipe
from lawft_trl.run_dir import FinishedRun, read_run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NEEDED = ("fastapi", "uvicorn", "openai")  # what `transformers serve` itself imports
_SECONDS_TO_END = 15
_TRANSFORMERS = ("-m", "transformers.cli.transformers")


def require_port(host: str, port: int) -> None:
    """Refuses an address that cannot be listened on, before anything is loaded.

    Raises:
        InputError: saying why not.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise InputError(f"{host}, --port {port}: cannot be listened on: {error}", ["another server may be there; give another --port"]) from None


def require_serving() -> None:
    """Refuses to begin where what `transformers serve` needs is not installed.

    Raises:
        InputError: naming it.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"`transformers serve` needs {', '.join(missing)}, which is not installed", ["pip install 'lawft-trl[serve]'"])


def tuned_folder(path: Path, out: Path, checkpoint: Path | None = None) -> None:
    """Makes a folder in which a run's model can be served, with links to the weights.

    Args:
        path: a finished run.
        out: the folder to make.
        checkpoint: one of the run's, instead of its last state.

    Raises:
        InputError: as `lawft_trl.export.serve_folder.export_serve_folder`.
    """
    if (path / "adapter_config.json").is_file():
        export_serve_folder(path, out, checkpoint=checkpoint, proof=False)
    else:  # all weights were trained: the run is a model's folder, or its checkpoint is
        read_run(path)
        _link(checkpoint or path, out)
    _let_sample(out)


def untuned_folder(recipe: Recipe, tokenizer: "PreTrainedTokenizerBase", out: Path) -> None:
    """Makes a folder in which a recipe's base model is asked in the same prompts as the models tuned on it.

    Args:
        recipe: the recipe.
        tokenizer: the base's, with the recipe's chat template.
        out: the folder to make.

    Raises:
        InputError: when the base cannot be had.
    """
    run = FinishedRun(path=recipe.path, recipe=recipe, record={})  # none has been trained; only the recipe is looked at
    with whole_folder(out, force=False, mark="export.json", rename="--out") as folder:
        for file in base_files(base_folder(run)):
            place(file, folder / file.name)
        tokenizer.save_pretrained(folder)
        stopping_config(run, tokenizer, base_config(run)).save_pretrained(folder)
        write_json(folder / "export.json", {"kind": "untuned", "base": recipe.model.name_or_path, "revision": recipe.model.revision})
    _let_sample(out)


def serving_command(recipe: Recipe, model: str, port: int) -> list[str]:
    """The command that serves a folder of `tuned_folder` or `untuned_folder`; to be run where `model` leads to it."""
    device = ["--device", "cpu"] if recipe.training("use_cpu") else []
    return [sys.executable, *_TRANSFORMERS, *serve_words(recipe, model, port=port), *device]


def serving_environment() -> Mapping[str, str]:
    """The variables of that command's: all is on disk by now, so that nothing is asked of the hub."""
    return {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **os.environ}


def serve_run(path: Path, *, port: int, name: str | None, say: Callable[[str], None]) -> int:
    """Serves a finished run until Ctrl-C or SIGTERM; its process has ended when this returns.

    Args:
        path: the run.
        port: on 127.0.0.1.
        name: under which clients ask for it; the run's by default.
        say: is given the address in a sentence, when questions are answered there.

    Returns:
        The exit code of the server, 0 when it was told to end.

    Raises:
        InputError: for what cannot be served.
    """
    require_serving()
    require_port("127.0.0.1", port)
    run = read_run(path)
    name = name or path.resolve().name
    if not re.fullmatch(r"\w[\w.-]{0,63}", name):
        raise InputError(f"--name {name}: expected up to 64 letters, digits and . _ -, beginning with a letter or digit")
    # The server knows a model by the words it was started with: a folder of that name, in a folder of its own.
    with tempfile.TemporaryDirectory(prefix="lawft-serve-") as temporary:
        tuned_folder(path, Path(temporary) / name)
        heard: list[int] = []
        before = {number: signal.signal(number, lambda *caught: heard.append(caught[0])) for number in (signal.SIGINT, signal.SIGTERM)}
        command = bound(serving_command(run.recipe, name, port), signal.SIGKILL)
        child = subprocess.Popen(command, cwd=temporary, env=serving_environment(), start_new_session=True)
        ready = False
        try:
            while not heard:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return child.wait(timeout=0.5)
                if not ready and (ready := _is_healthy(port)):
                    say(f"base_url http://127.0.0.1:{port}/v1, model {name}; Ctrl-C ends it")
            return 0
        finally:
            end_server(child)
            for number, handler in before.items():
                signal.signal(number, handler)


def end_server(child: subprocess.Popen) -> None:
    """Ends the server with all it started."""
    for number, seconds in ((signal.SIGTERM, _SECONDS_TO_END), (signal.SIGKILL, _SECONDS_TO_END)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=seconds)
            return


def _is_healthy(port: int) -> bool:
    """Whether `transformers serve` has begun to answer."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine, whatever proxy there is
    try:
        with direct.open(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _link(model: Path, out: Path) -> None:
    out.mkdir(parents=True)
    for file in sorted(model.iterdir()):
        if file.is_file() and file.name != "generation_config.json":
            place(file, out / file.name)
    if (model / "generation_config.json").is_file():
        shutil.copyfile(model / "generation_config.json", out / "generation_config.json")


def _let_sample(folder: Path) -> None:
    """Lets a request's temperature count: `transformers serve` reads it, and samples only if the model's own file says so.

    A request with temperature 0 is answered greedily, one without by the file's own temperature, or 1.
    """
    file = folder / "generation_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    write_json(file, {**settings, "do_sample": True})
