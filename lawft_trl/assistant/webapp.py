"""The page: Gradio Blocks in Japanese over `page_session.py`. Only `page_server.py` imports this, after it has set Gradio's environment."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lawft_trl.assistant import notices
from lawft_trl.assistant.desk import EXPORTS, SIDES, TASKS, Desk, Order, Side
from lawft_trl.assistant.documents import SUFFIXES
from lawft_trl.assistant.first_use import PURPOSES
from lawft_trl.assistant.page_session import NotNow, Session
from lawft_trl.assistant.page_text import TITLE, about, citations_panel
from lawft_trl.assistant.raw_text import MAX_BYTES, MAX_CHARACTERS, DocumentProblem

_BOTH = "両方を並べる"
_KINDS = {".md": "Markdown", ".docx": "Word"}
# Files are made in the browser from what the server sends, so that none of them lies on the server's disk.
_SAVE = """(files) => { for (const file of JSON.parse(files || "[]")) {
  const bytes = Uint8Array.from(atob(file.content), (letter) => letter.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], {type: file.type}));
  link.download = file.name; document.body.append(link); link.click(); link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
} }"""
_LIMITS = f"{'、'.join(SUFFIXES)}、{MAX_BYTES // 1024**2} MBまで"
# To the beginning of the last answer; gradio's own scrolling goes to its end.
_SHOW_ANSWER = """() => setTimeout(() => { for (const chat of document.querySelectorAll("[id^=chat-] .bubble-wrap")) {
  const asked = [...chat.querySelectorAll(".message.user")].at(-1);
  if (asked) chat.scrollTop += asked.getBoundingClientRect().top - chat.getBoundingClientRect().top - 36;
} }, 800)"""
# Not for programs, and not preprocessed: what gradio does not take there it quotes in its log. Handlers get what the browser sent.
_PRIVATE = {"api_visibility": "private", "preprocess": False}


def build_page(desk: Desk) -> gr.Blocks:
    """The page for a desk. Launch it with `theme`, `css` and the rest as `page_server.py` does."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        session = gr.State(Session(), time_to_live=12 * 3600)
        gr.Markdown(f"# {TITLE}\n\n{about(desk)}")
        with gr.Column(elem_classes="gate") as gate:
            gr.Markdown(notices.FIRST_USE, line_breaks=True)
            purpose = gr.Radio(list(PURPOSES.values()), label="利用の目的")
            agreed = gr.Checkbox(label=notices.FIRST_USE_ACCEPT)
            start = gr.Button("同意して始める", variant="primary", elem_id="start")
        with gr.Row(visible=False) as work:
            with gr.Column(scale=3, min_width=520):
                forms = _add_forms(session)
                with gr.Row():
                    chats = {each: _add_chat(each, visible=each == "tuned") for each in SIDES}
                stop = gr.Button("回答を中止", size="sm", elem_id="stop")
            with gr.Column(scale=2, min_width=320):
                gr.Markdown(notices.ANSWER, elem_id="notice")
                choices = [SIDES["tuned"], *([SIDES["base"], _BOTH] if "base" in desk.models else [])]
                side = gr.Radio(choices, value=SIDES["tuned"], label="回答するモデル", visible=len(choices) > 1, elem_id="side")
                gr.Markdown("## 引用された法令")
                panel = gr.HTML(citations_panel({}), elem_id="citations")
                with gr.Row():
                    exports = {suffix: gr.Button(f"{_KINDS[suffix]}で書き出す", size="sm", elem_id=f"export-{suffix[1:]}") for suffix in EXPORTS}
                clear = gr.Button("履歴と文書を消去", variant="stop", size="sm", elem_id="clear")
                files = gr.Textbox(visible="hidden", container=False)

        start.click(_told(_agree), [session, purpose, agreed], [gate, work], **_PRIVATE)
        side.change(_show_chats, side, list(chats.values()), show_progress="hidden", **_PRIVATE)
        shown = [*chats.values(), panel]
        for form in forms:
            asked = form.button.click(_runner(desk, form), [session, side, *form.inputs], shown, concurrency_id="models", concurrency_limit=4, show_progress="hidden", **_PRIVATE)
            for event in (form.button.click, asked.success):
                event(None, js=_SHOW_ANSWER, **_PRIVATE)
        stop.click(lambda visitor: visitor.stop(), session, None, show_progress="hidden", **_PRIVATE)
        for suffix, button in exports.items():
            export = _told(lambda visitor, suffix=suffix: visitor.export(suffix))
            button.click(export, session, files, **_PRIVATE).success(None, files, None, js=_SAVE, **_PRIVATE).then(lambda: "", None, files, **_PRIVATE)
        inputs, notes = [each for form in forms for each in form.inputs], [each for form in forms for each in form.notes]
        emptied = [""] * len(inputs) + [_LIMITS] * len(notes)
        gr.on([clear.click, *(chat.clear for chat in chats.values())], lambda visitor: [*_cleared(visitor), *emptied], session, [*shown, *inputs, *notes], show_progress="hidden", **_PRIVATE)
    return page.queue(max_size=32, default_concurrency_limit=8, api_open=False)


@dataclass(frozen=True)
class _Form:
    """One of the four modes: its button, what is typed in, the notes under its uploads, and the order they make."""

    button: gr.Button
    inputs: tuple[gr.Textbox, ...]
    notes: tuple[gr.Markdown, ...]
    order: Callable[..., Order]


def _add_forms(session: gr.State) -> list[_Form]:
    with gr.Tabs():
        with gr.Tab(TASKS["contract_review"], id="contract_review"):
            with gr.Row():
                notes = (_add_upload(session, "contract", "契約書"), _add_upload(session, "own_template", "比べるひな形（任意）"))
            button = gr.Button("レビューする", variant="primary", elem_id="run-contract_review")
            review = _Form(button, (), notes, lambda visitor: visitor.order("contract_review", place="contract", template="own_template"))
        with gr.Tab(TASKS["question_answer"], id="question_answer"):
            question = _textbox("質問", "例：秘密保持契約の有効期間が終わった後も、秘密保持義務を残すことはできますか。", 4, "question")
            button = gr.Button("質問する", variant="primary", elem_id="run-question_answer")
            ask = _Form(button, (question,), (), lambda visitor, text: visitor.order("question_answer", text=text))
        with gr.Tab(TASKS["risk_analysis"], id="risk_analysis"):
            with gr.Row():
                notes = (_add_upload(session, "risks", "文書"),)
                typed = _textbox("または文章（書いてあれば、文書より先に使います）", "", 5, "risks")
            button = gr.Button("リスクを挙げる", variant="primary", elem_id="run-risk_analysis")
            risks = _Form(button, (typed,), notes, lambda visitor, typed: visitor.order("risk_analysis", typed=typed, place="risks"))
        with gr.Tab(TASKS["drafting"], id="drafting"):
            with gr.Row():
                notes = (_add_upload(session, "template", "ひな形"),)
                typed = _textbox("またはひな形の文章（書いてあれば、文書より先に使います）", "", 5, "template")
            facts = _textbox("盛り込む事実（1行に「名前：値」か、自由な文章）", "甲の名称：株式会社サンプル\n期間：契約締結の日から2年", 3, "facts")
            button = gr.Button("案を作る", variant="primary", elem_id="run-drafting")
            draft = _Form(button, (typed, facts), notes, lambda visitor, typed, facts: visitor.order("drafting", text=facts, typed=typed, place="template"))
    return [review, ask, risks, draft]


def _textbox(label: str, placeholder: str, lines: int, name: str) -> gr.Textbox:
    return gr.Textbox(label=label, placeholder=placeholder, lines=lines, max_lines=lines + 8, max_length=MAX_CHARACTERS, elem_id=f"text-{name}")


def _add_upload(session: gr.State, place: str, label: str) -> gr.Markdown:
    """A place for a file; the note under it says what was read."""
    with gr.Column(min_width=220):
        file = gr.File(label=label, file_types=list(SUFFIXES), height=140, elem_id=f"upload-{place}")
        note = gr.Markdown(_LIMITS, elem_id=f"note-{place}", elem_classes="small")
    # Preprocessed, each upload would leave an empty file behind. That the path is one of an upload, gradio has checked before.
    file.upload(lambda visitor, uploaded: (None, visitor.upload(place, uploaded)), [session, file], [file, note], **_PRIVATE)
    return note


def _add_chat(side: Side, *, visible: bool) -> gr.Chatbot:
    return gr.Chatbot(
        show_label=False,
        visible=visible,
        height=600,
        autoscroll=False,
        buttons=["copy"],
        feedback_options=None,
        latex_delimiters=[],
        allow_tags=False,
        sanitize_html=True,
        allow_file_downloads=False,
        placeholder=f"{SIDES[side]}のモデルの回答が、ここに表示されます。",
        elem_id=f"chat-{side}",
    )


def _agree(visitor: Session, purpose: str | None, agreed: bool) -> tuple[Any, Any]:
    visitor.agree(purpose, agreed)
    return gr.update(visible=False), gr.update(visible=True)


def _sides(choice: str) -> list[Side]:
    return [side for side, name in SIDES.items() if choice in (name, _BOTH)]


def _show_chats(choice: str) -> list[Any]:
    return [gr.update(visible=side in _sides(choice)) for side in SIDES]


def _runner(desk: Desk, form: _Form) -> Callable[..., Iterator[list[Any]]]:
    def run(visitor: Session, choice: str, *typed: str) -> Iterator[list[Any]]:
        order = _told(form.order)(visitor, *map(str, typed))
        for _ in visitor.carry_out(desk, order, [side for side in _sides(choice) if side in desk.models]):
            yield _view(visitor)
        yield _view(visitor)

    return run


def _view(visitor: Session) -> list[Any]:
    return [*([dict(turn) for turn in visitor.turns[side]] for side in SIDES), citations_panel(visitor.reports)]


def _cleared(visitor: Session) -> list[Any]:
    visitor.clear()
    return _view(visitor)


def _told(action: Callable[..., Any]) -> Callable[..., Any]:
    """The action, telling the visitor why it is not done."""

    def told(*values: Any) -> Any:
        try:
            return action(*values)
        except (NotNow, DocumentProblem) as error:
            raise gr.Error(str(error), title="お知らせ", print_exception=False) from None

    return told
