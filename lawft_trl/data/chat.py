"""How a tokenizer's chat template turns messages into tokens, and the fingerprint of that."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.data.prompts import build_messages
from lawft_trl.data.questions import LETTERS, Question
from lawft_trl.errors import InputError
from lawft_trl.text_files import read_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, str]]

# A question of nobody's data set: rendering it shows every part of the prompt, so its tokens identify the prompt.
_PROBE = Question(
    id="probe", law="試験法", question="期間を選べ。", choices=dict(zip(LETTERS, ("一日", "二日", "三日", "四日"), strict=True)), answer="a"
)
_PROBE_STATUTE = "## 試験法\n### 第1条\n期間は、一日とする。"


def prompt_text(tokenizer: "PreTrainedTokenizerBase", messages: Messages, template_kwargs: Mapping[str, Any]) -> str:
    """The text up to and including the opening of the assistant's turn.

    Raises:
        InputError: when the tokenizer has no chat template or the template refuses the messages.
    """
    return _render(tokenizer, messages, template_kwargs, add_generation_prompt=True)


def _render(
    tokenizer: "PreTrainedTokenizerBase", messages: Messages, template_kwargs: Mapping[str, Any], *, add_generation_prompt: bool
) -> str:
    """`apply_chat_template` whose refusals are `InputError`s."""
    template = tokenizer.chat_template
    if not template:
        raise InputError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template, so the prompt cannot be rendered",
            ["use the instruction-tuned model, or set training.chat_template_path to a .jinja file"],
        )
    if "strftime_now" in str(template) and "date_string" not in template_kwargs:
        raise InputError(
            f"{tokenizer.name_or_path}: the chat template writes today's date into the prompt, so tomorrow's is another prompt",
            ["fix it: pattern.chat_template_kwargs={enable_thinking: false, date_string: 26 Jul 2024}"],
        )
    try:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=add_generation_prompt, **template_kwargs
        )
    except Exception as error:  # templates refuse in their own words, through jinja2's TemplateError
        roles = ", ".join(message["role"] for message in messages)
        raise InputError(
            f"{tokenizer.name_or_path}: the chat template refused messages with the roles {roles}: {error}",
            ["if it knows no system role, set pattern.system=null"],
        ) from error


def encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of a rendered text; the template has already written the special tokens."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def end_of_turn(tokenizer: "PreTrainedTokenizerBase", template_kwargs: Mapping[str, Any]) -> str:
    """The token with which the template closes an assistant's turn, e.g. `<|im_end|>`; the EOS token if it writes none.

    It is read off the template, not off `tokenizer.eos_token`: in Qwen2 the two differ, and a model trained to write
    the wrong one never stops.
    """
    marker = "答えはここです"
    messages = [{"role": "user", "content": "問い"}, {"role": "assistant", "content": marker}]
    text = _render(tokenizer, messages, template_kwargs, add_generation_prompt=False)
    tail = text.rpartition(marker)[2].lstrip()
    special = [token for token in tokenizer.all_special_tokens + list(tokenizer.get_added_vocab()) if tail.startswith(token)]
    token = max(special, key=len, default=tokenizer.eos_token)
    if token is None:
        raise InputError(f"{tokenizer.name_or_path}: neither the chat template nor the tokenizer has an end-of-turn token")
    return token


def prompt_fingerprint(
    tokenizer: "PreTrainedTokenizerBase", *, system: str | None, template_kwargs: Mapping[str, Any]
) -> str:
    """SHA-256 over the token ids of a probe question in every form, and of the token that ends a turn.

    Whatever changes what a model is asked changes it: the sentences of `prompts.py`, the system message, the chat
    template, its arguments, the tokenizer. Two equal fingerprints ask the same question in the same tokens.
    """
    forms = [
        encode(tokenizer, prompt_text(tokenizer, build_messages(_PROBE, answer=answer, statutes=statutes, system=system), template_kwargs))
        for answer in ("direct", "cot")
        for statutes in ((), (_PROBE_STATUTE,), (_PROBE_STATUTE, _PROBE_STATUTE))
    ]
    forms.append(encode(tokenizer, end_of_turn(tokenizer, template_kwargs)))
    return hashlib.sha256(json.dumps(forms).encode()).hexdigest()


def load_tokenizer(name_or_path: str, *, template: Path | None = None, **kwargs: Any) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model, with another chat template if one is given.

    Args:
        name_or_path: a model id or a folder.
        template: a `.jinja` file that replaces the tokenizer's chat template.
        kwargs: passed to `AutoTokenizer.from_pretrained` (`revision`, `local_files_only`, `trust_remote_code`).

    Raises:
        InputError: when it cannot be had.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, **kwargs)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name_or_path}: no tokenizer could be loaded: {str(error).strip().splitlines()[0]}",
            [
                "check the name, the network and `hf auth login`; for a local folder, that it exists and holds tokenizer.json",
                "without a network: training with --rehearse, or lawft check with model.name_or_path=lawft_trl/assets/tiny_model",
            ],
        ) from error
    if template is not None:
        tokenizer.chat_template = read_text(template)
    return tokenizer
