"""A talk with a finished run's model: in a terminal, or line by line through a pipe. docs/chat.md says what the user sees."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lawft_trl.console import input_lines, write
from lawft_trl.data.chat import encode, load_tokenizer, prompt_text
from lawft_trl.errors import InputError
from lawft_trl.evaluation.generation import end_tokens, plain_defaults
from lawft_trl.evaluation.loading import is_adapter, load_base, load_tuned
from lawft_trl.run_dir import FinishedRun

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Write = Callable[[str], Any]

_MAX_NEW_TOKENS = 512
_COMMANDS = {
    "/base": "what the untuned model answers to the last turn, beside the tuned one's answer",
    "/reset": "forget the conversation",
    "/help": "this list",
    "/quit": "leave; so do Ctrl-D, and Ctrl-C while nothing is being answered (else it stops the answer)",
}


@dataclass
class ChatSession:
    """A model and what was said.

    Attributes:
        run: the run.
        model: the tuned model.
        tokenizer: the run's.
        system: the system message, `None` for none.
        temperature: 0 takes the most probable token.
        max_new_tokens: the greatest length of an answer.
        history: the turns, without the system message; ends with the model's.
        base: the untuned model of a run that trained all weights, once it was asked for; an adapter's is in `model`.
    """

    run: FinishedRun
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    system: str | None
    temperature: float
    max_new_tokens: int
    history: list[dict[str, str]] = field(default_factory=list)
    base: "PreTrainedModel | None" = None

    def answer(self, text: str, write: Write, note: Write) -> str:
        """Answers a turn of the user. What was written before Ctrl-C counts as the answer.

        Args:
            text: the user's turn.
            write: is given the answer piece by piece, and a line's end.
            note: is given sentences about it.

        Returns:
            How the answer ended: `"ended"`, `"cut"` at its greatest length, or `"stopped"` by Ctrl-C.

        Raises:
            InputError: for a turn that alone is too long for the model.
        """
        asked = [*self.history, {"role": "user", "content": text}]
        input_ids, left_out = self._prompt(asked)
        self.history = asked[left_out:]
        if left_out:
            note(f"the oldest {left_out} turns no longer fit the model's context and are forgotten")
        reply, how = self._generate(self.model, input_ids, write)
        write("\n")
        if how == "stopped" and not reply:
            self.history.pop()
        else:
            self.history.append({"role": "assistant", "content": reply})
        if how == "stopped":
            note("stopped; Ctrl-C once more leaves")
        elif how == "cut":
            note(f"cut off after {self.max_new_tokens} tokens; --max-new-tokens allows more")
        elif not reply:
            note("the model ended its answer at once")
        return how

    def answer_of_base(self, write: Write) -> str:
        """What the untuned model answers to the last turn of the user, after the same history."""
        input_ids, _ = self._prompt(self.history[:-1])
        if is_adapter(self.run):
            with self.model.disable_adapter():
                return self._generate(self.model, input_ids, write)[0]
        if self.base is None:
            self.base = load_base(self.run).eval()
        return self._generate(self.base, input_ids, write)[0]

    def _prompt(self, asked: Sequence[dict[str, str]]) -> tuple[list[int], int]:
        """The tokens of the latest turns that leave room for an answer, and how many turns were left out."""
        room = context_length(self.model)
        opening = [{"role": "system", "content": self.system}] if self.system else []
        for left_out in range(0, len(asked), 2):  # in pairs, so that it begins with the user
            text = prompt_text(self.tokenizer, [*opening, *asked[left_out:]], self.run.recipe.pattern.chat_template_kwargs)
            input_ids = encode(self.tokenizer, text)
            if room is None or len(input_ids) + self.max_new_tokens <= room:
                return input_ids, left_out
        raise InputError(
            f"this turn alone has {len(input_ids)} tokens with its prompt, and the model's context holds {room}, of which "
            f"{self.max_new_tokens} are kept for the answer",
            ["say it shorter, or start with a lower --max-new-tokens"],
        )

    def _generate(self, model: "PreTrainedModel", input_ids: list[int], write: Write) -> tuple[str, str]:
        """The answer, and how it ended."""
        import torch
        from transformers import GenerationConfig

        ends = end_tokens(model, self.tokenizer, self.run.recipe.pattern.chat_template_kwargs)
        sampling = {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": 1.0} if self.temperature else {"do_sample": False}
        config = GenerationConfig(max_new_tokens=self.max_new_tokens, eos_token_id=ends, pad_token_id=ends[0], use_cache=True, **sampling)
        written, ids = _Streamer(self.tokenizer, write), torch.tensor([input_ids], device=model.device)
        how = "stopped"
        with contextlib.suppress(KeyboardInterrupt), plain_defaults(model), torch.inference_mode():
            model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config, streamer=written)
            how = "ended" if written.tokens[-1] in ends else "cut"
        return written.finish(), how


class _Streamer:
    """Hands on text as soon as its characters are whole. transformers' `TextStreamer` waits for a space, of which Japanese has none."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", write: Write) -> None:
        self.tokenizer, self.write = tokenizer, write
        self.tokens: list[int] = []
        self.shown = ""
        self.in_prompt = True

    def put(self, tokens: "torch.Tensor") -> None:
        """Takes the prompt, which `generate` gives first, and then token after token."""
        if self.in_prompt:
            self.in_prompt = False
            return
        self.tokens += tokens.tolist()
        self._show(self._text().rstrip("\ufffd"))  # of a character in several tokens the last ones are still to come

    def end(self) -> None:
        """`generate` calls it."""

    def finish(self) -> str:
        """Hands on the rest; returns the whole text."""
        self._show(self._text())
        return self.shown.strip()

    def _text(self) -> str:
        return self.tokenizer.decode(self.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _show(self, text: str) -> None:
        new, self.shown = text[len(self.shown) :], text  # first: Ctrl-C may come while it is written
        if new:
            self.write(new)


def context_length(model: "PreTrainedModel") -> int | None:
    """How many tokens the model was made for; `None` where it does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def open_session(run: FinishedRun, *, system: str | None, temperature: float, max_new_tokens: int | None) -> ChatSession:
    """Loads a finished run's model, after what can be refused without it.

    Args:
        run: the run.
        system: the system message; `None` for that of the run's recipe, `""` for none.
        temperature: 0 or more.
        max_new_tokens: the greatest length of an answer; `None` for 512, or half the model's context where that is less.

    Raises:
        InputError: when the model's chat template knows no system message and there is one, or its context has no room.
    """
    if temperature < 0 or (max_new_tokens is not None and max_new_tokens < 1):
        raise InputError(f"lawft chat: --temperature is 0 or more, --max-new-tokens 1 or more; here they are {temperature:g} and {max_new_tokens}")
    tokenizer = load_tokenizer(str(run.path))
    system = (run.recipe.pattern.system if system is None else system) or None
    if system:
        _require_system_role(run, tokenizer)
    model = load_tuned(run)
    room = context_length(model)
    if max_new_tokens is None:
        max_new_tokens = _MAX_NEW_TOKENS if room is None else min(_MAX_NEW_TOKENS, room // 2)
    if room is not None and max_new_tokens >= room:
        raise InputError(f"{run.path}: the model's context holds {room} tokens; --max-new-tokens {max_new_tokens} leaves no room for a question")
    return ChatSession(run, model, tokenizer, system, temperature, max_new_tokens)


def _require_system_role(run: FinishedRun, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Some templates raise an error at a system message, others leave it out without a word."""
    probe, kwargs = "指示の見本", run.recipe.pattern.chat_template_kwargs
    messages = [{"role": "system", "content": probe}, {"role": "user", "content": "問い"}]
    try:
        known = probe in prompt_text(tokenizer, messages, kwargs)
    except InputError:
        prompt_text(tokenizer, messages[1:], kwargs)  # whatever else is wrong with it
        known = False
    if not known:
        raise InputError(
            f"{run.path}: the model's chat template knows no system message (Gemma's does not)",
            ["leave --system out, or give --system '' where the recipe has pattern.system; put the instruction into the first turn instead"],
        )


def converse(session: ChatSession) -> None:
    """Reads turns from standard input until it ends or `/quit`: answers go to standard output, all else to standard error.

    Raises:
        KeyboardInterrupt: at Ctrl-C where nobody is at a terminal.
    """
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    note(
        f"{session.run.path}: tuned from {session.run.recipe.model.name_or_path}, for trying out. What it says may be wrong and is no legal advice. "
        "/help lists the commands."
    )
    for line in input_lines("> ", interactive=interactive):
        text = line.strip()
        if text == "/quit":
            return
        try:
            if text.startswith("/"):
                _obey(session, text, interactive)
            elif text and session.answer(text, write, note) == "stopped" and not interactive:
                raise KeyboardInterrupt
        except InputError as error:
            note(str(error))


def _obey(session: ChatSession, text: str, interactive: bool) -> None:
    """Does what a command says."""
    if text == "/reset":
        session.history.clear()
        note("forgotten")
    elif text == "/base" and not session.history:
        note("nothing was asked yet")
    elif text == "/base":
        note("the untuned model is answering")
        base = session.answer_of_base(lambda piece: None)
        _show_both(base, session.history[-1]["content"], interactive)
    else:
        known = [f"  {command:7} {what}" for command, what in _COMMANDS.items()]
        note("\n".join([*([] if text == "/help" else [f"{text}: no such command"]), *known]))


def _show_both(base: str, tuned: str, interactive: bool) -> None:
    """Side by side on a terminal, else one behind the other."""
    if not interactive:
        write(f"base: {base}\ntuned: {tuned}\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("base", "tuned", expand=True)
    for column in table.columns:
        column.ratio = 1
    table.add_row(Text(base), Text(tuned))  # as it is: a model may write what rich takes for markup
    Console().print(table)


def note(text: str) -> None:
    """A sentence that is not the model's."""
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n" if "\n" in text else f"[{text}]\n")
    sys.stderr.flush()
