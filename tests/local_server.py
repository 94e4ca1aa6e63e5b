"""A real HTTP server on this machine for tests of what is fetched."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

# What a request is answered with: status, headers, body.
Reply = tuple[int, dict[str, str], bytes]


@contextlib.contextmanager
def serving(answer: Callable[[str, dict[str, str]], Reply]) -> Iterator[SimpleNamespace]:
    """Serves `answer(path, query)`; yields `url`, and `requests` as they come: path, query, headers, time, connection."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self):
            with contextlib.suppress(ConnectionError):  # the client may have run out of patience
                super().handle()

        def do_GET(self):
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query))
            requests.append(
                SimpleNamespace(
                    path=parts.path, query=query, headers=self.headers, time=time.monotonic(), connection=self.client_address
                )
            )
            status, headers, body = answer(parts.path, query)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", requests=requests)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
