"""`lawft assistant` in the terminal: the user's own command in a process, the model behind it a script over real HTTP."""

import dataclasses
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, run_lawft
from scripted_model import ANSWER, BASE_ANSWER, CONTRACT, FACTS, QUESTION, TEMPLATE, ScriptedModel, small_corpus

from lawft_trl.assistant import notices
from lawft_trl.assistant.desk import Order, open_desk
from lawft_trl.assistant.models import entry_from_url
from lawft_trl.assistant.page_text import about
from lawft_trl.assistant.terminal import _Growing, once, warn

SECRET = "極秘案件コードネーム白鷺"


@pytest.fixture(scope="module")
def model():
    model = ScriptedModel()
    yield model
    model.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("terminal")
    small_corpus(folder / "corpus")
    for name, text in (("契約書.txt", CONTRACT), ("ひな形.txt", TEMPLATE), ("事実.txt", FACTS)):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


class Assistant:
    """The command with its model and corpus, the notice agreed to unless said otherwise."""

    def __init__(self, model: ScriptedModel, folder: Path, state: Path):
        self.arguments = ["assistant", "--base-url", model.url, "--model", "houmu", "--base", "base", "--corpus", folder / "corpus"]
        self.folder, self.state = folder, state

    def run(self, *more: object, said: str = "", agreed: bool = True) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "lawft_trl.cli", *self.arguments, *(["--accept", "study"] if agreed else []), *more]
        environment = os.environ | {"XDG_STATE_HOME": str(self.state)}
        return subprocess.run([str(word) for word in command], input=said, capture_output=True, text=True, timeout=300, cwd=self.folder, env=environment | {"PYTHONPATH": str(ROOT)})


@pytest.fixture
def assistant(model, folder, tmp_path) -> Assistant:
    return Assistant(model, folder, tmp_path / "state")


def test_a_dialogue(assistant, folder):
    said = "\n".join([
        QUESTION, "/契約書レビュー 契約書.txt", "/保存 結果.docx", "/保存 結果.docx", "/review", "/なに", "/risks 契約書.txt", "/文書作成 ひな形.txt 事実.txt",
        "/モデル 両方", QUESTION, "/save 比べる.md", "/消去", "/保存 もう一度.md", "/契約書レビュー ない.pdf", '/review "閉じない', "/終了", "ここは読まれない",
    ])  # fmt: skip
    result = assistant.run(said=said)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    out, err = result.stdout, result.stderr
    assert out.startswith(ANSWER), "the answer comes first, as it was streamed"
    assert "- 民法第91条 **検証済**" in out and "- 民法第1999条 **未検証**：法令集に見当たりません" in out
    assert out.count(notices.ANSWER) == 6
    assert "義務を負うのが乙だけで" in out and "第3条（損害賠償） を検討しています（4/5）" in err
    assert "甲（株式会社甲野商事）及び乙（株式会社乙山製作所）" in out and notices.DRAFT_NOTICE in out
    assert "━━ 学習前のモデル ━━" in out and BASE_ANSWER in out
    assert "同じ名前のものが既にあります" in err and "使い方: /契約書レビュー FILE" in err and "/なに という命令はありません" in err
    assert "書き出す結果がまだありません" in err and "ない.pdf: ファイルを開けません" in err and "引用符が閉じていません" in err
    assert (folder / "結果.docx").stat().st_size > 10_000
    assert notices.EXPORT in (folder / "比べる_学習前.md").read_text(encoding="utf-8") and (folder / "比べる_学習後.md").exists()
    assert not (folder / "もう一度.md").exists()


def test_one_task_into_a_file(assistant, folder, tmp_path):
    result = assistant.run("--review", "契約書.txt", "--template", "ひな形.txt", "--out", tmp_path / "review.md")
    assert (result.returncode, result.stdout) == (0, "")
    written = (tmp_path / "review.md").read_text(encoding="utf-8")
    assert notices.EXPORT in written and "民法第420条第1項（検証済）" in written and "ひな形の「第2条（期間）」" in written
    again = assistant.run("--ask", QUESTION, "--out", tmp_path / "review.md")
    assert again.returncode == 2 and "--force" in again.stderr
    assert (tmp_path / "review.md").read_text(encoding="utf-8") == written
    assert assistant.run("--ask", QUESTION, "--side", "base", "--out", tmp_path / "review.md", "--force").returncode == 0
    assert BASE_ANSWER in (tmp_path / "review.md").read_text(encoding="utf-8")


def test_what_cannot_be_done_is_said_before_the_model_works(assistant, model, tmp_path):
    before = len(model.asked)
    assert assistant.run("--ask", "　").returncode == 2
    assert assistant.run("--ask", QUESTION, "--corpus", tmp_path).returncode == 2
    assistant.state = tmp_path / "file"
    assistant.state.write_text("", encoding="utf-8")
    refused = assistant.run("--ask", QUESTION)
    assert refused.returncode == 2 and "XDG_STATE_HOME" in refused.stderr and "Traceback" not in refused.stderr
    assert len(model.asked) == before


def test_full_width_orders_and_the_exit_code_of_a_pipe(assistant):
    done = assistant.run(said="／リスク分析　契約書.txt\n/なに\n")
    assert (done.returncode, "契約" in done.stdout) == (0, True), done.stderr
    assert assistant.run(said="/なに\n／保存　x.md\n").returncode == 1
    assert assistant.run(said="").returncode == 0


def test_a_report_that_cannot_be_written_is_shown(model, folder, tmp_path, capsys):
    """The folder goes while the model works."""
    gone = tmp_path / "gone"
    assert once(open_desk(entry_from_url(model.url, "houmu")), Order(task="question_answer", text=QUESTION), "tuned", gone / "x.md") == 1
    said = capsys.readouterr()
    assert "原則として有効" in said.out and "書き出せませんでした" in said.err


def test_the_notice_comes_first(assistant, model):
    before = len(model.asked)
    refused = assistant.run("--ask", QUESTION, agreed=False)
    assert refused.returncode == 2 and "弁護士法第72条" in refused.stderr and "--accept attorney|in-house|study" in refused.stderr
    assert len(model.asked) == before
    assert assistant.run("--ask", QUESTION).returncode == 0
    assert assistant.run("--ask", QUESTION, agreed=False).returncode == 0, "an agreement is remembered"
    record = assistant.state / "lawft" / "assistant.json"
    record.write_text(record.read_text(encoding="utf-8").replace('"notice_sha256": "', '"notice_sha256": "0'), encoding="utf-8")
    assert assistant.run("--ask", QUESTION, agreed=False).returncode == 2, "another text is asked anew"


def test_the_notice_at_a_terminal(assistant):
    """Enter alone is no agreement; a number is."""
    assert "not agreed to" in _typed(assistant, b"\n")
    shown = _typed(assistant, b"3\n/quit\n")
    assert "学習・研究" in shown and "使い方は /ヘルプ" in shown and "not agreed" not in shown


def _typed(assistant: Assistant, keys: bytes) -> str:
    mine, theirs = pty.openpty()
    command = [sys.executable, "-m", "lawft_trl.cli", *map(str, assistant.arguments)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=assistant.folder, env=os.environ | {"XDG_STATE_HOME": str(assistant.state), "PYTHONPATH": str(ROOT)})
    os.close(theirs)
    shown, deadline, lines = b"", time.monotonic() + 120, keys.splitlines(keepends=True)
    while time.monotonic() < deadline:
        try:
            shown += os.read(mine, 4096)
        except OSError:  # it has ended
            break
        if lines and shown.decode(errors="ignore").rstrip().endswith(("Enter）:", "法務>")):
            os.write(mine, lines.pop(0))
            shown += b"\n"
    process.wait(30)
    os.close(mine)
    return shown.decode(errors="replace")


def test_a_remote_model_needs_consent(assistant):
    assistant.arguments[2] = "http://models.example/v1"
    refused = assistant.run("--ask", SECRET)
    assert refused.returncode == 2 and "models.example" in refused.stderr and "--allow-remote" in refused.stderr
    assert SECRET not in refused.stderr


def test_a_model_that_is_not_there(assistant):
    assistant.arguments[2] = "http://127.0.0.1:9/v1"
    result = assistant.run("--ask", SECRET)
    assert result.returncode == 1 and "サーバーに接続できない" in result.stderr
    assert SECRET not in result.stderr


def test_options_that_do_not_go_together(tmp_path):
    result = run_lawft("assistant", tmp_path, "--models", "m.yaml", "--base", "b", "--web", "--ask", "x", "--facts", "f", "--auth", "u:V")
    assert result.returncode == 2
    for said in ("give one of RUN", "--model NAME goes with", "--base goes with", "--web and --ask", "--draft TEMPLATE and --facts"):
        assert said in result.stderr
    assert run_lawft("assistant", "--base-url", "http://127.0.0.1:9/v1", "--model", "m", "--out", tmp_path / "x.md").returncode == 2


def test_warnings_of_models_are_shown_everywhere(model, capsys):
    desk = open_desk(dataclasses.replace(entry_from_url(model.url, "houmu"), shutdown_date="2020-01-01"))
    warn(desk)
    assert "提供が終了しています" in capsys.readouterr().err and "提供が終了しています" in about(desk)
    assert "このアドレスの先は確かめていません" in about(desk)


def test_a_growing_answer_is_written_by_sentences(capsys):
    growing = _Growing()
    for text in ("結論", "結論です。理由", "結論です。理由は。", "結論です。（除きました。）次"):
        growing.write(text)
    assert capsys.readouterr().out == "結論です。理由は。"
    assert not growing.finish("結論です。（除きました。）次"), "what was shown is not the answer: it is shown again"
    growing = _Growing()
    growing.write("結論です。理由")
    assert growing.finish("結論です。理由は次のとおり")
    assert capsys.readouterr().out.endswith("結論です。理由は次のとおり")


@pytest.mark.slow
def test_a_run_is_served_for_as_long_as_it_is_asked(trained, folder, tmp_path):
    """`transformers serve` of the real tiny model, tuned and untuned; nothing of it is left afterwards."""
    (tmp_path / "tmp").mkdir()
    environment = {"XDG_STATE_HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-m", "lawft_trl.cli", "assistant", trained, "--with-base", "--accept", "study"]
    result = subprocess.run(list(map(str, command)), input=f"/モデル 両方\n{QUESTION}\n", capture_output=True, text=True, timeout=300, cwd=ROOT, env=os.environ | environment)
    assert result.returncode == 0, result.stderr
    assert f"モデル：{trained.name}" in result.stdout and f"モデル：{trained.name}-base" in result.stdout
    assert list((tmp_path / "tmp").glob("lawft-*")) == []
