"""A real `lawft serve-jobs` in a process of its own, and what clients send it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
from conftest import ROOT

KEY = "sk-jobs-0123456789-abcdefghijk"
MAX_UPLOAD = 200_000
RECIPE = ROOT / "recipes" / "parents" / "jobs_tiny.yaml"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`lawft serve-jobs` on a folder; may be started again after it has ended."""

    def __init__(self, folder: Path, *more: str, base: str = "tiny") -> None:
        self.folder, self.more, self.base = folder, more, base
        self.port = free_port()
        self.log = folder.with_suffix(".log")
        self.http = httpx.Client(timeout=30, trust_env=False)  # one for all: each makes its TLS context anew
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "lawft_trl.cli", "serve-jobs", "--folder", self.folder, "--port", self.port, "--base", f"{self.base}={RECIPE}", "--max-upload", MAX_UPLOAD, *self.more]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(list(map(str, command)), cwd=ROOT, env={**os.environ, "LAWFT_JOBS_API_KEY": KEY}, stdout=log, stderr=log)
        wait(lambda: self.process.poll() is not None or self.answers(), "the server to start")
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")[-3000:]

    def answers(self) -> bool:
        try:
            return self.http.get(f"{self.url}/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
        except httpx.HTTPError:
            return False

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(timeout=300)

    def orphans(self) -> list[psutil.Process]:
        """Whatever runs with this folder's mark or its name in the command line, the server aside."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = str(self.folder) in " ".join(process.cmdline()) or process.environ().get("LAWFT_JOBS_FOLDER") == str(self.folder.resolve())
                if mine and process.pid != self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def client(self):
        import openai

        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=300, _strict_response_validation=True)


def wait(ready, what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


def example(number: int, **answer) -> dict:
    """An example in OpenAI's form, as the exercise writes them: system, user, assistant."""
    return {
        "messages": [
            {"role": "system", "content": "あなたは法務の助手です。"},
            {"role": "user", "content": f"契約書の第{number + 1}条について教えてください。項目{number * 7}の意味は何ですか。"},
            {"role": "assistant", "content": f"第{number + 1}条は、当事者の義務を定めるものです。番号は{number}です。", **answer},
        ]
    }


def jsonl(*records) -> bytes:
    return "\n".join(json.dumps(record, ensure_ascii=False) for record in records).encode()


def examples(count: int) -> bytes:
    return jsonl(*map(example, range(count)))
