"""Makes the pictures of the assistant's page for the manual, and a recording of a visit.

    python scripts/picture_assistant.py [--out docs/images] [--recording demo.webp]

Needs gradio, playwright and a chromium. The model behind the page is the tests' script (tests/scripted_model.py), so that the
pictures are the same each time; they show the page, not what a model can do. The recording is an animated WebP, which browsers play.
"""

import argparse
import base64
import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from scripted_model import CONTRACT, FACTS, QUESTION, TEMPLATE, ScriptedModel, small_corpus  # noqa: E402

SIZE = {"width": 1280, "height": 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures (default docs/images)")
    parser.add_argument("--recording", type=Path, metavar="FILE", help="record the visit too, e.g. demo.webp; keep it out of git")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    from playwright.sync_api import sync_playwright

    model = ScriptedModel(pause=0.05)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        for name, text in (("秘密保持契約書.txt", CONTRACT), ("ひな形.txt", TEMPLATE)):
            (folder / name).write_text(text, encoding="utf-8")
        server, url = start_page(model, small_corpus(folder / "法令集"))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox"])
        try:
            page = browser.new_page(locale="ja-JP", viewport=SIZE)
            page.set_default_timeout(120_000)
            recorder = Recorder(page) if options.recording else None
            visit(page, url, folder, options.out, pause=5.0 if recorder else 1.5)
            if recorder:
                recorder.write(options.recording)
        finally:
            browser.close()
            server.send_signal(signal.SIGTERM)
            server.wait(60)
            model.close()


def start_page(model: ScriptedModel, corpus: Path) -> tuple[subprocess.Popen, str]:
    """`lawft assistant --web` on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lawft_trl.cli", "assistant", "--base-url", model.url, "--model", "houmu", "--base", "base", "--corpus", corpus, "--web", "--port", port]
    server = subprocess.Popen([str(word) for word in command], cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline().startswith("http"), "the page did not start"
    return server, f"http://127.0.0.1:{port}"


def visit(page: Any, url: str, folder: Path, out: Path, *, pause: float) -> None:
    """All four modes, one after the other, with a picture of each after `pause` seconds."""
    from PIL import Image

    def picture(name: str) -> None:
        page.mouse.move(0, 0)
        page.wait_for_timeout(pause * 1000)
        file = out / f"assistant_{name}.png"
        Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(128).save(file, optimize=True)
        print(f"{file}: {file.stat().st_size / 1000:.0f} kB", flush=True)
        assert file.stat().st_size < 200_000, "too large for the repository"

    page.goto(url)
    page.wait_for_selector("#start")
    picture("first_use")
    page.get_by_label("学習・研究").check()
    page.get_by_label("弁護士・弁護士の監督下").check()
    page.click("#start")

    page.wait_for_selector("#run-contract_review")
    page.set_input_files("#upload-contract input[type=file]", folder / "秘密保持契約書.txt")
    page.locator("#note-contract").get_by_text("読み込みました").wait_for()
    page.click("#run-contract_review")
    page.locator("#citations .badge").first.wait_for()
    page.locator("#citations details summary").nth(1).click()
    picture("review")

    page.get_by_role("tab", name="法的質問").click()
    page.get_by_label("両方を並べる").check()
    page.fill("#text-question textarea", QUESTION)
    page.click("#run-question_answer")
    page.locator("#citations h3").nth(1).wait_for()
    picture("question")

    page.get_by_label("学習後").check()
    page.get_by_role("tab", name="リスク分析").click()
    page.fill("#text-risks textarea", CONTRACT)
    page.click("#run-risk_analysis")
    page.locator("#chat-tuned .bot.message").last.get_by_text("損害の範囲がはっきりせず").wait_for()
    picture("risks")

    page.get_by_role("tab", name="文書作成").click()
    page.set_input_files("#upload-template input[type=file]", folder / "ひな形.txt")
    page.locator("#note-template").get_by_text("読み込みました").wait_for()
    page.fill("#text-facts textarea", FACTS)
    page.click("#run-drafting")
    page.locator("#chat-tuned .bot.message").last.get_by_text("ひな形との差分").wait_for()
    picture("draft")


class Recorder:
    """What the browser shows, frame by frame as it changes. (playwright's own recording wants an ffmpeg of its own.)"""

    def __init__(self, page: Any) -> None:
        self.frames: list[tuple[float, bytes]] = []
        self.session = page.context.new_cdp_session(page)
        self.session.on("Page.screencastFrame", self._keep)
        self.session.send("Page.startScreencast", {"format": "jpeg", "quality": 70, "maxWidth": 960, "maxHeight": 750, "everyNthFrame": 2})

    def _keep(self, frame: dict[str, Any]) -> None:
        self.frames.append((time.monotonic(), base64.b64decode(frame["data"])))
        with contextlib.suppress(Exception):  # the last frames come when nobody listens any more
            self.session.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})

    def write(self, file: Path) -> None:
        """Writes the frames with their times."""
        from PIL import Image

        self.session.send("Page.stopScreencast")
        self.session.detach()
        images = [Image.open(io.BytesIO(content)) for _, content in self.frames]
        times = [moment for moment, _ in self.frames]
        durations = [max(20, int((later - moment) * 1000)) for moment, later in zip(times, [*times[1:], times[-1] + 2], strict=True)]
        images[0].save(file, save_all=True, append_images=images[1:], duration=durations, quality=60)
        print(f"{file}: {len(images)} frames, {sum(durations) / 1000:.0f} s, {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
