"""The models that answer: `transformers serve` for each of the few that were asked for last, started when first asked for."""

import asyncio
import contextlib
import hashlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from lawft_trl.folders import write_text
from lawft_trl.job_server.api_errors import ApiError
from lawft_trl.job_server.children import end_children, start_child
from lawft_trl.recipe import Recipe
from lawft_trl.recipe_views import resolved_yaml

_SECONDS_TO_START = 1800  # a large model is read from disk
_SECONDS_TO_END = 15


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

    @property
    def mark(self) -> str:
        """By which its process is found."""
        return f"model {self.folder.name}"


@dataclass(kw_only=True)
class _Served:
    model: Model
    process: subprocess.Popen
    url: str
    ready: bool = False
    leaving: bool = False  # no further request is given to it
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    used: float = 0.0


class ServedModels:
    """Has a few models served; the one that was used longest ago goes for another. To be used in one event loop.

    Args:
        folder: the server's.
        most: how many at once; two answer base against tuned without a start for every question.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder = folder
        self.most = most
        self.turn = asyncio.Lock()  # to start and to end, in the order of the requests
        self.served: dict[Path, _Served] = {}

    @contextlib.asynccontextmanager
    async def url_of(self, model: Model) -> AsyncIterator[str]:
        """Has a model served as long as the block lasts; yields its server's URL.

        Raises:
            ApiError: 503 when it cannot be served.
        """
        served = self._usable(model)
        if served is None:
            async with self.turn:
                served = self._usable(model) or await self._start(model)
                served.users += 1
        else:
            served.users += 1
        served.idle.clear()
        try:
            yield served.url
        finally:
            served.users -= 1
            served.used = time.monotonic()
            if not served.users:
                served.idle.set()

    def give_up(self, model: Model, url: str) -> None:
        """Kills a model's server that does not come to an end with a request; the next one starts it anew."""
        served = self.served.get(model.folder)
        if served and served.url == url:
            served.leaving = True
            served.process.kill()

    async def stop(self) -> None:
        """Ends all of them."""
        await asyncio.gather(*map(self._end, list(self.served.values())))

    def _usable(self, model: Model) -> _Served | None:
        served = self.served.get(model.folder)
        return served if served and served.ready and not served.leaving and served.process.poll() is None else None

    async def _start(self, model: Model) -> _Served:
        if model.folder in self.served:  # it has died
            await self._end(self.served[model.folder])
        while len(self.served) >= self.most:
            oldest = min(self.served.values(), key=lambda each: (each.users > 0, each.used))
            oldest.leaving = True
            await oldest.idle.wait()
            await self._end(oldest)
        log = self.folder / "served" / f"{model.folder.name}.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        kind, source = "tuned", model.source
        if isinstance(model.source, Recipe):
            kind, source = "untuned", log.with_suffix(".yaml")
            write_text(source, resolved_yaml(model.source))
        command = [sys.executable, "-m", "lawft_trl.job_server.serve_model", kind, str(source), str(model.checkpoint or "-"), str(model.folder), str(port)]
        with log.open("wb") as output:
            process = start_child(command, folder=self.folder, mark=model.mark, output=output, death=signal.SIGKILL)
        served = self.served[model.folder] = _Served(model=model, process=process, url=f"http://127.0.0.1:{port}")
        served.idle.set()
        try:
            await self._until_ready(served)
        except BaseException:
            await self._end(served)
            raise
        served.ready = True
        return served

    async def _end(self, served: _Served) -> None:
        self.served.pop(served.model.folder, None)
        await asyncio.to_thread(end_children, self.folder, served.model.mark, seconds=_SECONDS_TO_END)
        served.process.wait()

    async def _until_ready(self, served: _Served) -> None:
        deadline = time.monotonic() + _SECONDS_TO_START
        async with httpx.AsyncClient(trust_env=False) as client:
            while served.process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"{served.url}/health")).status_code == 200:
                        return
                await asyncio.sleep(0.3)
        said = f"the model {served.model.name} could not be served; why, is in the server's served/{served.model.folder.name}.log"
        raise ApiError(503, said, param="model", code="model_unavailable", kind="server_error")


def base_folder_name(recipe: Recipe) -> str:
    """A folder's name for a base model, another one where its recipe loads or asks it otherwise."""
    asked = {section: recipe.values.get(section) for section in ("model", "quantization", "pattern")}
    template = recipe.values["training"].get("chat_template_path")
    text = Path(template).read_text(encoding="utf-8") if template else ""
    return f"base-{hashlib.sha256(f'{asked} {text}'.encode()).hexdigest()[:16]}"
