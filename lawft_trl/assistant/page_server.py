"""Serving the page: who may reach it, and where its uploads lie for the moments that they exist."""

import contextlib
import importlib.util
import ipaddress
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lawft_trl.assistant.desk import Desk
from lawft_trl.assistant.raw_text import MAX_BYTES
from lawft_trl.errors import InputError

_SHORTEST_PASSWORD = 12
_LEFT_BEHIND = 60  # seconds without a change after which an upload that nobody read is removed
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


@dataclass(frozen=True, kw_only=True)
class PageAccess:
    """Who may reach the page.

    Attributes:
        host: the address it listens on.
        port: its port.
        users: names and passwords; empty where none are asked for.
    """

    host: str
    port: int
    users: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return _is_loopback(self.host)


def page_access(host: str, port: int, users: Sequence[str]) -> PageAccess:
    """Reads who may reach the page.

    Args:
        host: the address to listen on; another than a loopback one only with users.
        port: 1 to 65535.
        users: `USER:VARIABLE`, the variable of the environment holding the password.

    Raises:
        InputError: with everything that is wrong, and where gradio is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise InputError("the page needs gradio, which is not installed", ["pip install 'lawft-trl[ui]'", "or leave --web out: the terminal does the same four tasks"])
    problems, known = [], []
    for each in users:
        name, _, variable = each.partition(":")
        password = os.environ.get(variable, "")
        if not name or not variable:
            problems.append("--auth: expected USER:VARIABLE, the name of an environment variable with the password, not the password itself")
        elif not password:
            problems.append(f"--auth: for {name} an environment variable is named that is not set")
        elif len(password) < _SHORTEST_PASSWORD:
            problems.append(f"--auth: the password of {name} is shorter than {_SHORTEST_PASSWORD} characters")
        known.append((name, password))
    if len({name for name, _ in known}) < len(known):
        problems.append("--auth: a user stands twice")
    if not _is_loopback(host) and not users:
        problems.append(f"--host {host}: others could reach the page; it needs --auth USER:VARIABLE then (and TLS in front of it, docs/assistant_page.md)")
    if not 1 <= port <= 65535:
        problems.append(f"--port {port}: expected 1 to 65535")
    elif not problems:
        problems += _port_problem(host, port)
    if problems:
        raise InputError(f"{len(problems)} problem(s) with how the page is to be reached", problems)
    return PageAccess(host=host, port=port, users=tuple(known))


def serve_page(desk: Desk, access: PageAccess) -> None:
    """Serves the page until Ctrl-C or SIGTERM; its uploads and the server have gone when this returns.

    Args:
        desk: what the assistant works with.
        access: who may reach it.
    """
    heard: list[int] = []
    before = {number: signal.signal(number, lambda *caught: heard.append(caught[0])) for number in (signal.SIGINT, signal.SIGTERM)}
    folder = Path(tempfile.mkdtemp(prefix="lawft-page-"))  # for this user's eyes only
    try:
        page = _launch(desk, access, folder)
        print(f"http://{access.host}:{access.port}  (Ctrl-C で終了)", flush=True)  # noqa: T201
        while not heard:
            time.sleep(0.5)
            _sweep(folder, older_than=_LEFT_BEHIND)
        page.close(verbose=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)


def _launch(desk: Desk, access: PageAccess, folder: Path) -> Any:
    """Gradio reads its environment when it is imported and when it is launched: nothing of the user's may loosen the page."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder), "HF_HUB_DISABLE_TELEMETRY": "1"}
    import gradio as gr
    from starlette.middleware import Middleware

    from lawft_trl.assistant.page_guard import PageGuard
    from lawft_trl.assistant.page_text import FONTS, MONOSPACE, STYLE
    from lawft_trl.assistant.webapp import build_page

    page = build_page(desk)
    page.launch(
        server_name=access.host,
        server_port=access.port,
        auth=list(access.users) or None,
        auth_message="法務アシスタント",
        share=False,
        quiet=True,
        show_error=False,
        prevent_thread_lock=True,
        inbrowser=False,
        max_file_size=MAX_BYTES,
        allowed_paths=[],
        footer_links=[],
        run_history=False,  # else every run is kept in the browser's storage
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        strict_cors=True,
        state_session_capacity=200,
        theme=gr.themes.Default(font=FONTS, font_mono=MONOSPACE),
        css=STYLE,
        app_kwargs={"middleware": [Middleware(PageGuard, hosts=_LOOPBACK if access.is_local else frozenset(), uploads=folder)]},
    )
    return page


def _sweep(folder: Path, *, older_than: float) -> None:
    """Removes uploads that were broken off, were too large, or that no page asked to read; gradio leaves those."""
    with contextlib.suppress(OSError):  # of the walk: a folder that went while it was listed; the next sweep comes soon
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > older_than:
                    path.rmdir() if path.is_dir() else path.unlink()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _port_problem(host: str, port: int) -> list[str]:
    try:
        with socket.create_server((host, port)):
            return []
    except OSError as error:
        return [f"--host {host} --port {port}: {error.strerror}; give another --port"]
