"""The models that answer: `transformers serve` of one at a time, started when it is first asked for, ended for another."""

import asyncio
import contextlib
import hashlib
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from lawft_trl.folders import write_text
from lawft_trl.job_server.api_errors import ApiError
from lawft_trl.job_server.children import end_children, start_child
from lawft_trl.recipe import Recipe
from lawft_trl.recipe_views import resolved_yaml

_SECONDS_TO_START = 1800  # a large model is read from disk
_SECONDS_TO_END = 15
_MARK = "model"

_log = logging.getLogger("lawft.jobs")


@dataclass(frozen=True, kw_only=True)
class Model:
    """What can be served.

    Attributes:
        name: what clients call it.
        folder: of links, in which it is served; made when first asked for.
        source: a finished run, or the recipe of a base model.
        checkpoint: one of the run's, instead of its last state.
    """

    name: str
    folder: Path
    source: Path | Recipe
    checkpoint: Path | None = None


@dataclass(frozen=True)
class _Served:
    model: Model
    process: subprocess.Popen
    url: str


class ServedModels:
    """Has one model served, that of the latest request; requests for another wait their turn. To be used in one event loop.

    Args:
        folder: the server's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.turn = asyncio.Lock()  # in the order of the requests
        self.idle = asyncio.Event()
        self.idle.set()
        self.users = 0
        self.served: _Served | None = None

    @contextlib.asynccontextmanager
    async def url_of(self, model: Model) -> AsyncIterator[tuple[str, str]]:
        """Has a model served as long as the block lasts.

        Yields:
            The server's URL, and its own name for the model.

        Raises:
            ApiError: 503 when it cannot be served.
        """
        async with self.turn:
            if self.served is None or self.served.model != model or self.served.process.poll() is not None:
                await self.idle.wait()
                await self._change(model)
            served = self.served
            self.users += 1
            self.idle.clear()
        try:
            yield served.url, str(model.folder)
        finally:
            self.users -= 1
            if not self.users:
                self.idle.set()

    async def stop(self) -> None:
        """Ends the server of the model."""
        if self.served:
            self.served = None
            await asyncio.to_thread(end_children, self.folder, _MARK, seconds=_SECONDS_TO_END)

    async def _change(self, model: Model) -> None:
        await self.stop()
        log = self.folder / "served" / f"{model.folder.name}.log"
        log.parent.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        kind, source = ("untuned", log.with_suffix(".yaml")) if isinstance(model.source, Recipe) else ("tuned", model.source)
        if isinstance(model.source, Recipe):
            write_text(source, resolved_yaml(model.source))
        command = [sys.executable, "-m", "lawft_trl.job_server.serve_model", kind, str(source), str(model.checkpoint or "-"), str(model.folder), str(port)]
        _log.info("serving %s", model.name)
        with log.open("ab") as output:
            process = start_child(command, folder=self.folder, mark=_MARK, output=output, death=signal.SIGKILL)
        self.served = _Served(model, process, f"http://127.0.0.1:{port}")
        try:
            await self._until_ready(self.served)
        except BaseException:
            await self.stop()
            raise

    async def _until_ready(self, served: _Served) -> None:
        deadline = time.monotonic() + _SECONDS_TO_START
        async with httpx.AsyncClient(trust_env=False) as client:
            while served.process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"{served.url}/health")).status_code == 200:
                        return
                await asyncio.sleep(0.3)
        said = f"the model {served.model.name} could not be served; its log on the server: {served.model.folder.name}.log"
        raise ApiError(503, said, param="model", code="model_unavailable", kind="server_error")


def base_folder_name(recipe: Recipe) -> str:
    """A folder's name for a base model, another one where its recipe loads or asks it otherwise."""
    asked = {section: recipe.values.get(section) for section in ("model", "quantization", "pattern")}
    template = recipe.values["training"].get("chat_template_path")
    text = Path(template).read_text(encoding="utf-8") if template else ""
    return f"base-{hashlib.sha256(f'{asked} {text}'.encode()).hexdigest()[:16]}"
