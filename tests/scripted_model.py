"""An OpenAI-compatible endpoint over real HTTP that answers by script, for the assistant's faces: it streams, and fills in forms."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lawft_trl.statutes.headed_text import read_headed
from lawft_trl.statutes.passages import sort_key, write_corpus
from lawft_trl.statutes.search import build_index

STATUTES = """
## 民法
### 第91条（任意規定と異なる意思表示）
法律行為の当事者が法令中の公の秩序に関しない規定と異なる意思を表示したときは、その意思に従う。
### 第415条（債務不履行による損害賠償）
#### 第1項
債務者がその債務の本旨に従った履行をしないとき又は債務の履行が不能であるときは、債権者は、これによって生じた損害の賠償を請求することができる。
#### 第2項
前項の規定により損害賠償の請求をすることができる場合において、債権者は、次に掲げるときは、債務の履行に代わる損害賠償の請求をすることができる。
### 第420条（賠償額の予定）
#### 第1項
当事者は、債務の不履行について損害賠償の額を予定することができる。
## 不正競争防止法
### 第2条（定義）
#### 第6項
この法律において「営業秘密」とは、秘密として管理されている生産方法、販売方法その他の事業活動に有用な技術上又は営業上の情報であって、公然と知られていないものをいう。
"""
CONTRACT = """秘密保持契約書

株式会社甲野商事（以下「甲」という。）と株式会社乙山製作所（以下「乙」という。）は、次のとおり契約を締結する。

第1条（目的）
甲及び乙は、新製品の共同検討のため、相互に秘密情報を開示する。

第2条（秘密保持義務）
乙は、甲の秘密情報を第三者に開示してはならない。

第3条（損害賠償）
乙が本契約に違反したときは、乙は甲に生じた一切の損害を賠償する。

第4条（有効期間）
本契約の有効期間は、締結の日から1年とする。
"""
TEMPLATE = """第1条（目的）
甲（{{甲の名称}}）及び乙（{{乙の名称}}）は、【検討の対象】のため、相互に秘密情報を開示する。

第2条（期間）
本契約の有効期間は、締結の日から●●年とする。
"""
FACTS = "甲の名称：株式会社甲野商事\n乙の名称：株式会社乙山製作所\n検討の対象：新製品の共同開発\n期間：2年"
QUESTION = "秘密保持契約が終わった後も、秘密保持義務を残すことはできますか。"
ANSWER = """**結論**：契約の終了後も秘密保持義務を残す条項は、原則として有効です。

**理由**：民法第91条により、公の秩序に関しない規定と異なる合意は、その意思に従います。終了後に情報が漏れて損害が生じたときは、民法第415条第1項による賠償が問題になります。営業秘密にあたる情報であれば、不正競争防止法第2条第6項も確認してください。なお、民法第1999条も参照してください。

**確認すべき事実**：存続期間の長さ、対象となる情報の範囲、相手方が個人か事業者か。"""
BASE_ANSWER = "場合によります。専門家に相談してください。"

_REVIEW = {
    "第2条": [("義務を負うのが乙だけで、甲が乙から受け取る情報が守られません。", "高", "「甲及び乙は、相手方の秘密情報を」と双方の義務に改める。", ["不正競争防止法第2条第6項"])],
    "第3条": [("「一切の損害」の範囲がはっきりせず、賠償の上限もありません。", "中", "通常生ずべき損害に限るか、額の予定を置くことを検討する。", ["民法第415条第1項", "民法第420条第1項"])],
    "第4条": [("終了後の秘密保持義務の定めがありません。", "高", "終了後も3年間は存続する旨を加える。", ["民法第1999条"])],
}
_RISKS = [
    ("乙だけが義務を負うため、甲が受け取った情報について争いになり得ます。", "高", "相互の義務にするか、理由を確認する。", ["不正競争防止法第2条第6項"]),
    ("損害の範囲がはっきりせず、額の立証で争いになり得ます。", "中", "賠償額の予定を検討する。", ["民法第420条第1項"]),
]


class ScriptedModel:
    """A server on a free port of 127.0.0.1.

    Attributes:
        url: its base URL.
        asked: the requests' bodies.
        pause: seconds between the pieces of a stream.
        hold: while it is cleared, streams wait after their first pieces.
        also: is added to every answer to a question.
    """

    def __init__(self, pause: float = 0.0):
        self.asked: list[dict] = []
        self.pause, self.hold, self.also = pause, threading.Event(), ""
        self.hold.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body)
                outer._answer(self, body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler, body) -> None:
        text = _says(body["messages"][-1]["content"], base=body["model"] == "base")
        text += self.also if body.get("stream") else ""
        handler.send_response(200)
        if not body.get("stream"):
            answer = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}}
            content = json.dumps(answer | {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}]}).encode()
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            time.sleep(self.pause)
            handler.wfile.write(content)
            return
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for number, piece in enumerate([*re.findall(r".{1,6}", text, re.DOTALL), None]):
            choice = {"index": 0, "delta": {"content": piece} if piece else {}, "finish_reason": None if piece else "stop"}
            chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": body["model"], "choices": [choice]}
            handler.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            handler.wfile.flush()
            time.sleep(self.pause)
            if number == 5:
                self.hold.wait(20)
        handler.wfile.write(b"data: [DONE]\n\n")


def _says(asked: str, *, base: bool) -> str:
    """The answer to a prompt, by what form it asks for."""
    form = next((name for name in ("ReviewedClause", "FoundRisks", "DraftedClause") if f'"{name}"' in asked), None)
    if form is None:
        return BASE_ANSWER if base else ANSWER
    (*_, fenced) = re.findall(r"^〈[^〉]* [0-9a-f]{16}〉\n(.*?)\n〈[^〉]*おわり ", asked, re.DOTALL | re.MULTILINE)  # the document's part comes last
    if form == "ReviewedClause":
        points = next((points for clause, points in _REVIEW.items() if fenced.startswith(clause)), [])
        return json.dumps({"points": [] if base else _points(points)}, ensure_ascii=False)
    if form == "FoundRisks":
        return json.dumps({"risks": _points(_RISKS)}, ensure_ascii=False)
    return json.dumps({"text": fenced.strip().replace("●●年", "2年"), "notes": []}, ensure_ascii=False)


def _points(points) -> list[dict]:
    return [{"issue": issue, "priority": priority, "suggestion": suggestion, "citations": citations} for issue, priority, suggestion, citations in points]


def small_corpus(folder: Path, more: str = "") -> Path:
    """An indexed corpus of a few articles, and `more` in the same form."""
    write_corpus(sorted(read_headed(STATUTES + more, source="test"), key=sort_key), folder, as_of="", attribution="made for a test", sources={}, force=True)
    build_index(folder)
    return folder
