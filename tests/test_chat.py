"""`lawft chat`: the user's command through a pipe and on a terminal, and what is asked, remembered, cut and stopped."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import QUICKSTART, ROOT, adapter, run_sft, settings
from safetensors.torch import save_file

from lawft_trl.data.chat import encode, prompt_text
from lawft_trl.errors import InputError
from lawft_trl.evaluation.chat_session import ChatSession, _Streamer, open_session
from lawft_trl.run_dir import read_run

COMMAND = [sys.executable, "-m", "lawft_trl.cli", "chat"]


@pytest.fixture(scope="module")
def loud(trained, tmp_path_factory) -> Path:
    """The trained run with its adapter made so strong that it babbles, where the base writes a letter and ends."""
    run = tmp_path_factory.mktemp("chat") / "loud"
    shutil.copytree(trained, run)
    weights = {name: tensor * (1000 if "lora_B" in name else 1) for name, tensor in adapter(run).items()}
    save_file(weights, run / "adapter_model.safetensors", metadata={"format": "pt"})
    return run


@pytest.fixture(scope="module")
def session(loud) -> ChatSession:
    return open_session(read_run(loud), system="短く答える。", temperature=0.0, max_new_tokens=12)


@pytest.fixture
def talk(session):
    """The same with nothing said yet, and what it wrote and noted."""
    session.history.clear()
    session.written, session.notes = [], []
    session.say = lambda text, write=session.written.append: session.answer(text, write, session.notes.append)
    return session


def by_hand(session: ChatSession, messages: list[dict[str, str]], *, tuned: bool) -> str:
    """The greedy answer by the library's own `generate`."""
    ids = encode(session.tokenizer, prompt_text(session.tokenizer, messages, session.run.recipe.pattern.chat_template_kwargs))
    model = session.model
    with torch.inference_mode():
        given = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long), "max_new_tokens": 8, "do_sample": False}
        if tuned:
            output = model.generate(**given)
        else:
            with model.disable_adapter():
                output = model.generate(**given)
    return session.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True).strip()


def test_through_a_pipe_each_line_is_a_turn(loud, session):
    first = {"role": "user", "content": "酒税法の期間はどれか。"}
    turns = [first["content"], "", "/base", first["content"], "/nonsense", "/reset", "/base", first["content"], "/quit", "もう聞かない。"]
    command = [*COMMAND, str(loud), "--max-new-tokens", "8"]
    done = subprocess.run(command, input="\n".join(turns), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    reply, base = by_hand(session, [first], tuned=True), by_hand(session, [first], tuned=False)
    again = by_hand(session, [first, {"role": "assistant", "content": reply}, first], tuned=True)
    assert reply not in (base, again)
    assert done.stdout == f"{reply}\nbase: {base}\ntuned: {reply}\n{again}\n{reply}\n"
    assert "no legal advice" in done.stderr and "/nonsense: no such command" in done.stderr and "nothing was asked yet" in done.stderr


@pytest.mark.slow
def test_on_a_terminal_the_answers_stand_side_by_side(loud):
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = [*COMMAND, str(loud), "--max-new-tokens", "8", "--temperature", "0.7"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    os.write(ours, "これは何か。\n/base\n/quit\n".encode())
    shown, deadline = b"", time.monotonic() + 240
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 1)[0]:
            continue
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
    if time.monotonic() > deadline:
        process.kill()
    os.close(ours)
    assert process.wait(60) == 0, shown.decode(errors="replace")
    (heading,) = (line for line in shown.decode(errors="replace").splitlines() if "base" in line and "tuned" in line and "tuned from" not in line)
    assert heading.index("tuned") > 40, "two columns"


def test_it_streams_and_remembers(talk):
    assert talk.say("一つ目") in ("ended", "cut")
    assert "".join(talk.written).strip() == talk.history[1]["content"]
    talk.say("二つ目")
    roles = [message["role"] for message in talk.history]
    assert roles == ["user", "assistant", "user", "assistant"]
    assert len(talk.written) > 2
    text = talk.tokenizer.decode(talk._prompt(talk.history[:-1])[0])
    assert text.index("短く答える。") < text.index("一つ目") < text.index("二つ目")


def test_a_character_in_several_tokens_is_shown_whole(talk):
    text, pieces = "𠮷野家の鰻🐍、龘。", []
    tokens = talk.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(tokens) > len(text), "some characters are several tokens"
    streamer = _Streamer(talk.tokenizer, pieces.append)
    streamer.put(torch.tensor([[1, 2]]))
    for token in tokens:
        streamer.put(torch.tensor([token]))
    assert len(pieces) > 3 and not any("\ufffd" in piece for piece in pieces)
    assert streamer.finish() == text == "".join(pieces)


def test_ctrl_c_stops_the_answer_and_what_was_written_stays(talk):
    pieces = []

    def press(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 2:
            raise KeyboardInterrupt

    assert talk.say("問い", press) == "stopped"
    assert talk.history == [{"role": "user", "content": "問い"}, {"role": "assistant", "content": "".join(pieces).strip()}]
    assert pieces[-1] == "\n" and len(pieces) == 3
    assert talk.notes == ["stopped; Ctrl-C once more leaves"]
    assert talk.say("次の問い") in ("ended", "cut"), "it goes on"


def test_the_oldest_turns_leave_when_the_context_is_full(talk):
    long = "長い話を聞かせよう。" * 60
    talk.history = [{"role": role, "content": f"{number}番。{long}"} for number in range(8) for role in ("user", "assistant")]
    talk.say("最後の問い")
    prompt, left_out = talk._prompt(talk.history[:-1])
    assert left_out == 0, "what was forgotten is not carried on"
    text = talk.tokenizer.decode(prompt)
    assert "短く答える。" in text and "最後の問い" in text and "7番" in text and "0番" not in text
    assert len(prompt) + talk.max_new_tokens <= 4096
    assert "no longer fit the model's context" in talk.notes[0]
    before = list(talk.history)
    with pytest.raises(InputError, match="this turn alone has"):
        talk.say(long * 10)
    assert talk.history == before


@pytest.mark.parametrize("refusal", ["{{ raise_exception('System role not supported') }}", ""], ids=["raises", "is silent"])
def test_a_model_without_a_system_role_is_not_given_one(trained, tmp_path, refusal):
    """As Gemma's template does it, and as one that leaves it out without a word."""
    shutil.copytree(trained, tmp_path / "run")
    template = "{% for m in messages %}{% if m.role == 'system' %}" + refusal + "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    (tmp_path / "run" / "chat_template.jinja").write_text(template, encoding="utf-8")
    run = read_run(tmp_path / "run")
    with pytest.raises(InputError, match="knows no system message"):
        open_session(run, system="短く", temperature=0.0, max_new_tokens=4)
    assert open_session(run, system="", temperature=0.0, max_new_tokens=4).system is None


@pytest.mark.slow
def test_where_all_weights_were_trained_the_base_is_loaded_beside(small_data, tmp_path):
    run = tmp_path / "run"
    run_sft(QUICKSTART, *settings(small_data, run, "lora=null", "training.max_steps=2", "training.learning_rate=1e-3"), check=True)
    session = open_session(read_run(run), system=None, temperature=0.0, max_new_tokens=8)
    session.answer("これは何か。", lambda piece: None, lambda text: None)
    assert isinstance(session.answer_of_base(lambda piece: None), str)
    base, tuned = dict(session.base.named_parameters()), dict(session.model.named_parameters())
    assert any(not torch.equal(base[name], tuned[name]) for name in tuned)
    assert Path(session.base.config._name_or_path).name == "tiny_model"
