"""What one visitor of the page does, in the memory of the server only: no file, no log holds any of it."""

import base64
import contextlib
import datetime
import json
import logging
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lawft_trl.assistant.answer_text import clean_answer
from lawft_trl.assistant.desk import EXPORTS, SIDES, TASKS, Desk, Order, Side, carry_out, exported
from lawft_trl.assistant.documents import Document, document_from_text, read_document
from lawft_trl.assistant.failures import ModelError
from lawft_trl.assistant.first_use import PURPOSES
from lawft_trl.assistant.page_text import answer_text, read_note
from lawft_trl.assistant.raw_text import DocumentProblem
from lawft_trl.assistant.report import Report, Task
from lawft_trl.errors import InputError

_TICK = 1.0  # seconds after which the time that has passed is shown again
_UNEXPECTED = "処理の途中で問題が起きました。入力を変えてもう一度お試しください。続く場合は、管理者にサーバーの記録を確認してもらってください。"

logger = logging.getLogger(__name__)


class NotNow(Exception):
    """The order cannot be carried out as things are; its `str` is Japanese."""


class _Stopped(Exception):
    """Nobody waits for the answer any more."""


@dataclass
class Session:
    """A visitor's state.

    Attributes:
        purpose: as what the visitor agreed to the notice; `None` before that.
        documents: what was uploaded, by the name of its place on the page.
        turns: for each model the dialogue as shown.
        reports: the results of the last order.
        busy: an order is being carried out.
        stopping: it is to end before it is done.
    """

    purpose: str | None = None
    documents: dict[str, Document] = field(default_factory=dict, repr=False)
    turns: dict[Side, list[dict[str, str]]] = field(default_factory=lambda: {"tuned": [], "base": []}, repr=False)
    reports: dict[Side, Report] = field(default_factory=dict, repr=False)
    busy: bool = False
    stopping: bool = False

    def agree(self, purpose: str | None, agreed: bool) -> None:
        """The gate of the first use.

        Raises:
            NotNow: without a purpose or the agreement.
        """
        if purpose not in PURPOSES.values() or agreed is not True:
            raise NotNow("利用の目的を選び、内容を理解したことにチェックを入れてください。")
        self.purpose = purpose

    def upload(self, place: str, uploaded: Any) -> str:
        """Reads a file that was uploaded and removes it, also when it cannot be read. Returns what to tell the visitor."""
        if not uploaded:
            return ""
        path, name = Path(uploaded["path"]), str(uploaded.get("orig_name") or Path(uploaded["path"]).name)
        self.documents.pop(place, None)
        try:
            self._require_agreement()
            self.documents[place] = read_document(name, path.read_bytes())
            return read_note(self.documents[place])
        except (DocumentProblem, NotNow) as error:
            return f"⚠ {error}"
        except Exception as error:
            _log(error)
            return f"⚠ {_UNEXPECTED}"
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()

    def order(self, task: Task, *, text: str = "", typed: str = "", place: str = "", template: str = "") -> Order:
        """What the visitor filled in, as an order.

        Args:
            task: which.
            text: a question, or facts.
            typed: a document typed in instead of uploaded; it goes before an upload.
            place: where the document was uploaded.
            template: where a template to compare with was uploaded.

        Raises:
            NotNow: before the agreement, while another order is being carried out, or when something is missing.
            DocumentProblem: for text that is too long.
        """
        self._require_agreement()
        if self.busy:
            raise NotNow("前の依頼がまだ終わっていません。終わるのを待つか、中止してください。")
        document = document_from_text("入力された文章", typed) if typed.strip() else self.documents.get(place)
        if place and document is None:
            raise NotNow("先に文書を選ぶか、文章を入力してください。")
        if task in ("question_answer", "drafting") and not text.strip():
            raise NotNow("質問を入力してください。" if task == "question_answer" else "盛り込む事実を入力してください。")
        return Order(task=task, document=document, text=text, template=self.documents.get(template))

    def carry_out(self, desk: Desk, order: Order, sides: list[Side]) -> Iterator[None]:
        """Does what was ordered, one model after the other; `turns` and `reports` are ahead of every step."""
        self.busy, self.stopping, self.reports = True, False, {}
        asked = clean_answer(order.text) if order.task == "question_answer" else clean_answer(order.document.name)
        try:
            for side in sides:
                if self.stopping:
                    return
                turn = {"role": "assistant", "content": "⏳ モデルに尋ねています…"}
                self.turns[side] += [{"role": "user", "content": f"**{TASKS[order.task]}**\n\n{asked}"}, turn]
                yield from self._answer(desk, order, side, turn)
        finally:
            self.busy = False

    def _answer(self, desk: Desk, order: Order, side: Side, turn: dict[str, str]) -> Iterator[None]:
        started, doing, text = time.monotonic(), "モデルに尋ねています", ""
        try:
            for kind, value in _in_thread(lambda tell: carry_out(desk, order, side, **tell)):
                if self.stopping:  # also when the report has just come: after clearing nothing is kept
                    turn["content"] = f"{text}\n\n（中止しました。引用の確認は済んでいません。）".strip()
                    return
                if kind == "report":
                    self.reports[side] = value
                    turn["content"] = answer_text(value)
                    yield
                    return
                doing, text = (value, text) if kind == "part" else (doing, value or text)
                turn["content"] = text or f"⏳ {doing}…（{time.monotonic() - started:.0f}秒）"
                yield
        except (ModelError, DocumentProblem, InputError) as error:
            turn["content"] = f"⚠ {error}"
        except Exception as error:
            _log(error)
            turn["content"] = f"⚠ {_UNEXPECTED}"
        yield

    def stop(self) -> None:
        """Ends the order that is being carried out."""
        self.stopping = True

    def clear(self) -> None:
        """Forgets documents, dialogue and results, and ends what is being carried out; the agreement stays."""
        self.stop()
        fresh = Session()
        self.documents, self.turns, self.reports = fresh.documents, fresh.turns, fresh.reports

    def export(self, suffix: str) -> str:
        """The last results as files, for the page's script: a JSON list of name, media type and content in base 64.

        Raises:
            NotNow: when there are none.
        """
        self._require_agreement()
        if not self.reports or suffix not in EXPORTS:
            raise NotNow("書き出す結果がまだありません。")
        made = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        files = []
        for side, report in self.reports.items():
            which = f"_{SIDES[side]}" if len(self.reports) > 1 else ""
            content = base64.b64encode(exported(report, suffix)).decode()
            files.append({"name": f"{TASKS[report.task]}{which}_{made}{suffix}", "type": EXPORTS[suffix], "content": content})
        return json.dumps(files)

    def _require_agreement(self) -> None:
        if self.purpose is None:
            raise NotNow("最初の注意書きに同意してからお使いください（ページを読み込み直すと表示されます）。")


def _in_thread(work: Callable[[dict[str, Any]], Report]) -> Iterator[tuple[str, Any]]:
    """Runs a task in a thread, so that its news come out one by one.

    Yields:
        `("text", answer so far)`, `("part", what is being looked at)`, `("tick", None)` while nothing comes, `("report", report)`.
    """
    news: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    stopped = threading.Event()

    def tell(kind: str, value: Any) -> None:
        if stopped.is_set():
            raise _Stopped
        news.put((kind, value))

    def part(done: int, total: int, label: str) -> None:
        tell("part", f"{label or '前文'} を検討しています（{done + 1}/{total}）" if done < total else "まとめています")

    def run() -> None:
        try:
            news.put(("report", work({"on_text": lambda text: tell("text", text), "progress": part})))
        except _Stopped:
            pass
        except BaseException as error:
            news.put(("error", error))

    threading.Thread(target=run, daemon=True).start()
    try:
        while True:
            kind, value = _newest(news)
            if kind == "error":
                raise value
            yield kind, value
            if kind == "report":
                return
    finally:
        stopped.set()


def _newest(news: "queue.SimpleQueue[tuple[str, Any]]") -> tuple[str, Any]:
    """The next news; of several that wait the last, for each holds what the ones before it said."""
    try:
        latest = news.get(timeout=_TICK)
        while latest[0] not in ("report", "error") and not news.empty():
            latest = news.get_nowait()
    except queue.Empty:
        return "tick", None
    return latest


def _log(error: Exception) -> None:
    """What happened and where, without the error's own words: they may quote the document."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    logger.error("%s at %s:%s", type(error).__name__, last.filename, last.lineno)
