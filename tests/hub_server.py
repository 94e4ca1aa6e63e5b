"""The part of the Hugging Face hub's HTTP interface that a push needs, on this machine."""

import base64
import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

from local_server import listening

TOKEN = "hf_of_this_test"


@contextlib.contextmanager
def serving_hub(*, refuse_commits: bool = False) -> Iterator[SimpleNamespace]:
    """Serves user `someone` with no repositories; yields `url`, `created` (bodies) and `files` (name -> content) as they come."""
    hub = SimpleNamespace(created=[], files={}, requests=[])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            hub.requests.append(f"GET {self.path}")
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.reply(401, {"error": "Invalid credentials in Authorization header"})
            elif self.path == "/api/whoami-v2":
                self.reply(200, {"type": "user", "name": "someone", "auth": {"accessToken": {"role": "write"}}})
            else:
                self.reply(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})

        def do_POST(self):
            hub.requests.append(f"POST {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            repository = f"{hub.url}/someone/{hub.created[0]['name']}" if hub.created else ""
            if self.path == "/api/repos/create":
                hub.created.append(json.loads(body))
                self.reply(200, {"url": f"{hub.url}/someone/{hub.created[0]['name']}", "name": f"someone/{hub.created[0]['name']}"})
            elif self.path == "/api/validate-yaml":  # of the model card
                self.reply(200, {"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
                self.reply(200, {"files": files})
            elif "/commit/" in self.path and not refuse_commits:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                self.reply(200, {"success": True, "commitOid": "0" * 40, "commitUrl": f"{repository}/commit/{'0' * 40}", "hookOutput": ""})
            else:
                self.reply(403, {"error": "no room left for this user"})

        def reply(self, status, value, headers=None):
            body = json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with listening(Handler) as hub.url:
        yield hub
