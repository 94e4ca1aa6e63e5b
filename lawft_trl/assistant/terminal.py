"""The assistant in a terminal, or line by line through a pipe: answers go to standard output, all else to standard error."""

import contextlib
import dataclasses
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from lawft_trl.assistant.desk import EXPORTS, SIDES, Desk, Order, Side, carry_out, exported
from lawft_trl.assistant.documents import Document, read_document
from lawft_trl.assistant.exports import to_markdown
from lawft_trl.assistant.failures import ModelError
from lawft_trl.assistant.first_use import PURPOSES, accept, accepted
from lawft_trl.assistant.notices import FIRST_USE, FIRST_USE_ACCEPT
from lawft_trl.assistant.raw_text import DocumentProblem
from lawft_trl.assistant.report import Report
from lawft_trl.console import input_lines, write
from lawft_trl.errors import InputError
from lawft_trl.folders import write_bytes

_HELP = """\
そのまま書くと、法的質問になります。
  /契約書レビュー FILE [ひな形のFILE]   /review でも同じ。読める形式は .pdf .docx .txt .md
  /リスク分析 FILE                       /risks
  /文書作成 ひな形のFILE 事実のFILE      /draft  事実は1行に「名前：値」か、自由な文章
  /モデル 学習後｜学習前｜両方           /model  どのモデルに答えさせるか
  /保存 FILE.md｜FILE.docx               /save   直前の結果を書き出す（同名のファイルは上書きしない）
  /消去                                  /clear  この場の結果を忘れる
  /終了                                  /quit   Ctrl-D でも終わる。回答中の Ctrl-C は回答だけを止める"""
_ENGLISH = {"/review": "/契約書レビュー", "/risks": "/リスク分析", "/draft": "/文書作成", "/model": "/モデル", "/save": "/保存", "/clear": "/消去", "/quit": "/終了", "/help": "/ヘルプ"}
_ALL_SIDES = {"学習後": ["tuned"], "学習前": ["base"], "両方": ["tuned", "base"]}


def require_acceptance(purpose: str | None) -> None:
    """The gate before the first use: shows the notice and asks, unless the user has agreed to it before or does so now.

    Args:
        purpose: one of `PURPOSES` for an agreement given on the command line.

    Raises:
        InputError: when nobody is there to ask, or the user does not agree.
    """
    if purpose:
        accept(purpose)
    if accepted():
        return
    note(FIRST_USE)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError("not agreed to yet: the notice above", [f"read it, then: --accept {'|'.join(PURPOSES)} (as what you use it); it is remembered"])
    names = list(PURPOSES)
    note("\n".join(f"  {number} {PURPOSES[name]}" for number, name in enumerate(names, start=1)))
    note(FIRST_USE_ACCEPT)
    answer = ""
    with contextlib.suppress(EOFError):
        answer = input("番号で選ぶと同意したことになります（同意しない場合は Enter）: ").strip()
    if answer not in [str(number) for number in range(1, len(names) + 1)]:
        raise InputError("not agreed to; nothing was asked of a model")
    accept(names[int(answer) - 1])


def once(desk: Desk, order: Order, side: Side, out: Path | None) -> int:
    """One order; the result to standard output or into a file. Returns the exit code: 1 where the model gave no answer."""
    try:
        report = _answer(desk, order, side, quiet=out is not None)
    except (ModelError, DocumentProblem) as error:
        note(str(error))
        return 1
    if out:
        try:
            write_bytes(out, exported(report, out.suffix.lower()))
        except OSError as error:
            write(to_markdown(report) + "\n")
            note(f"{out} に書き出せませんでした（{error.strerror}）。結果は標準出力に示しました。")
            return 1
        for warning in report.warnings:
            note(f"注意：{warning}")
        note(f"{out} に書き出しました。")
    return 0


def warn(desk: Desk) -> None:
    """Says before one task what a dialogue's opening and the page say too."""
    for warning in desk.warnings:
        note(warning)


def check_out(out: Path, *, force: bool) -> None:
    """Refuses a file that cannot be written, before a model is asked.

    Raises:
        InputError: for another kind of file, a missing folder, or a file that is there already without `force`.
    """
    if out.suffix.lower() not in EXPORTS:
        raise InputError(f"{out}: 名前の終わりは {' か '.join(EXPORTS)} にしてください。")
    if not out.parent.is_dir():
        raise InputError(f"{out}: フォルダー {out.parent} がありません。")
    if out.is_dir() or (out.exists() and not force):
        raise InputError(f"{out}: 同じ名前のものが既にあります。別の名前にしてください（--out は --force で上書きできます）。")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise InputError(f"{out}: フォルダー {out.parent} に書き込めません（{error.strerror}）。") from None


def open_document(path: Path) -> Document:
    """Reads a document of the user's.

    Raises:
        InputError: when it cannot be read; the reason is Japanese where the document itself is it.
    """
    try:
        return read_document(path.name, path.read_bytes())
    except DocumentProblem as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: ファイルを開けません（{error.strerror}）。") from None


def talk(desk: Desk) -> int:
    """Reads orders from standard input until it ends or `/終了`. Returns the exit code: 1 where orders came through a pipe and none could be obeyed."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    session, obeyed, failed = _Session(desk), 0, 0
    note(_opening(desk))
    for line in input_lines("法務> ", interactive=interactive):
        text = line.strip()
        if text.startswith("／"):
            text = f"/{text[1:]}"
        if _ENGLISH.get(text, text) == "/終了":
            break
        try:
            session.obey(text)
            obeyed += bool(text)
        except (InputError, ModelError, DocumentProblem) as error:
            note(str(error))
            failed += 1
        except KeyboardInterrupt:
            if not interactive:
                raise
            note("止めました。")
    return int(failed > 0 and not obeyed and not interactive)


class _Session:
    """Whom to ask, and the results of the last order."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.sides, self.reports = desk, ["tuned"], {}

    def obey(self, text: str) -> None:
        if not text.startswith("/"):
            if text:
                self._carry_out(Order(task="question_answer", text=text))
            return
        try:
            command, *words = shlex.split(text.replace("\u3000", " "))
        except ValueError:
            raise InputError("引用符が閉じていません。") from None
        command = _ENGLISH.get(command, command)
        actions: dict[str, tuple[Callable[..., None], tuple[int, ...], str]] = {
            "/契約書レビュー": (self._review, (1, 2), "FILE [ひな形のFILE]"),
            "/リスク分析": (self._risks, (1,), "FILE"),
            "/文書作成": (self._draft, (2,), "ひな形のFILE 事実のFILE"),
            "/モデル": (self._choose, (1,), "学習後｜学習前｜両方"),
            "/保存": (self._save, (1,), "FILE.md｜FILE.docx"),
            "/消去": (self._forget, (0,), ""),
            "/ヘルプ": (lambda: note(_HELP), (0,), ""),
        }
        if command not in actions:
            raise InputError(f"{command} という命令はありません。\n{_HELP}")
        action, counts, form = actions[command]
        if len(words) not in counts:
            raise InputError(f"使い方: {command} {form}".rstrip() + "（空白を含む名前は引用符で囲みます）")
        action(*words)

    def _review(self, file: str, template: str | None = None) -> None:
        compared = open_document(Path(template)) if template else None
        self._carry_out(Order(task="contract_review", document=open_document(Path(file)), template=compared))

    def _risks(self, file: str) -> None:
        self._carry_out(Order(task="risk_analysis", document=open_document(Path(file))))

    def _draft(self, template: str, facts: str) -> None:
        self._carry_out(Order(task="drafting", document=open_document(Path(template)), text=open_document(Path(facts)).text))

    def _choose(self, name: str) -> None:
        if name not in _ALL_SIDES:
            raise InputError(f"{name} は選べません。学習後、学習前、両方のどれかです。")
        if not set(_ALL_SIDES[name]) <= set(self.desk.models):
            raise InputError("学習前のモデルが指定されていません（--base NAME か、モデルの一覧の base_model）。")
        self.sides = _ALL_SIDES[name]

    def _save(self, name: str) -> None:
        if not self.reports:
            raise InputError("書き出す結果がまだありません。")
        files = {side: Path(name) if len(self.reports) == 1 else Path(name).with_stem(f"{Path(name).stem}_{SIDES[side]}") for side in self.reports}
        for file in files.values():
            check_out(file, force=False)
        for side, file in files.items():
            write_bytes(file, exported(self.reports[side], file.suffix.lower()))
            note(f"{file} に書き出しました。")

    def _forget(self) -> None:
        self.reports = {}
        note("消去しました。")

    def _carry_out(self, order: Order) -> None:
        self.reports = {}
        for side in self.sides:
            if len(self.sides) > 1:
                write(f"\n━━ {SIDES[side]}のモデル ━━\n\n")
            self.reports[side] = _answer(self.desk, order, side)


def _answer(desk: Desk, order: Order, side: Side, *, quiet: bool = False) -> Report:
    """Does what was ordered and, unless `quiet`, writes it; a question's answer as it comes."""
    shown = _Growing()
    on_text = None if quiet else shown.write
    report = carry_out(desk, order, side, on_text=on_text, progress=_progress)
    if quiet:
        return report
    if shown.written and shown.finish(report.body):
        report_below = dataclasses.replace(report, body="")
        write("\n\n" + to_markdown(report_below, leaves=False).partition("\n")[2].lstrip() + "\n")
    else:
        write(to_markdown(report, leaves=False) + "\n")
    return report


class _Growing:
    """Writes a growing text as far as its last whole sentence: a sentence that foretells an outcome is taken out when it is whole."""

    def __init__(self) -> None:
        self.written = ""

    def write(self, text: str) -> None:
        end = max(text.rfind(mark) for mark in "。！？\n") + 1
        if text[:end].startswith(self.written):
            self._put(text[:end])

    def finish(self, text: str) -> bool:
        """Writes the rest. Says whether what was written is the text: what came later may have changed how its beginning is read."""
        if not text.startswith(self.written):
            write("\n\n（表示した回答は整形の途中のものでした。整形後の回答を示します。）\n\n")
            return False
        self._put(text)
        return True

    def _put(self, text: str) -> None:
        write(text[len(self.written) :])
        self.written = text


def _progress(done: int, total: int, label: str) -> None:
    if done < total:
        note(f"{label or '前文'} を検討しています（{done + 1}/{total}）")


def _opening(desk: Desk) -> str:
    lines = [f"モデル：{'、'.join(f'{SIDES[side]} {entry.alias}' for side, entry in desk.models.items())}"]
    lines += desk.warnings
    if desk.remote_hosts:
        lines.append(f"入力は外部のサーバー（{'、'.join(desk.remote_hosts)}）へ送られます。見つかった氏名や番号は記号に置き換えます（見落としがあり得ます）。")
    if not desk.corpus:
        lines.append("法令集が指定されていないため、引用はすべて未検証になります（--corpus FOLDER）。")
    return "\n".join([*lines, "使い方は /ヘルプ、終わりは /終了"])


def note(text: str) -> None:
    """A line that is not part of a result."""
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
