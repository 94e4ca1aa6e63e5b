"""What is put to a model: the held-out questions as prompts, each in several orders of its choices."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from lawft_trl.data.chat import encode, prompt_text
from lawft_trl.data.prompts import Answer, build_messages
from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.data.rows import Row, row_question, with_fewer_statutes
from lawft_trl.errors import InputError
from lawft_trl.evaluation.metrics import Prediction

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


_QUIET_SECONDS = 3  # a progress bar comes only for what takes longer
_ANSWER_TOKENS = 2  # the letter and the end of the turn


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One prompt that is put to the models, and what is needed to read the answer.

    Attributes:
        row: the row it was made from.
        order: which choice stands at which letter.
        gold: the gold letter in this order.
        choices: letter -> text of the choice in this order; `None` where the row names none.
        messages: the prompt as chat messages.
        input_ids: its tokens; `[]` where none were asked for.
        label_ids: the token of each letter right after the prompt; `None` unless letters are to be scored.
    """

    row: Row
    order: str
    gold: str
    choices: Mapping[str, str] | None
    messages: Sequence[Mapping[str, str]]
    input_ids: list[int]
    label_ids: list[int] | None

    @property
    def prompt_sha256(self) -> str:
        """Hash of the messages: the same for two models that are asked the same, whatever their tokens."""
        return hashlib.sha256(json.dumps(list(self.messages), ensure_ascii=False, sort_keys=True).encode()).hexdigest()

    def prediction(self, **answer: Any) -> Prediction:
        """The prediction that `answer` (`letter`, `letter_logprobs`, `outputs`, `cut`) makes of this prompt."""
        return Prediction(
            id=self.row.id,
            group=str(self.row.meta.get("group") or self.row.id),
            order=self.order,
            prompt_sha256=self.prompt_sha256,
            gold=self.gold,
            known_issue=self.row.meta.get("known_issue") is True,
            **answer,
        )


def ask(
    rows: Sequence[Row],
    tokenizer: "PreTrainedTokenizerBase | None",
    template_kwargs: Mapping[str, Any],
    *,
    answer: Answer = "direct",
    letters: bool = True,
    orders: Sequence[str] = ORDERS,
    examples: Sequence[Mapping[str, str]] = (),
    trim_to: int | None = None,
) -> list[Asked]:
    """Prompts of every row in several orders of its choices.

    A row that this project did not render cannot be rendered otherwise: it is asked as it is, in one order.

    Args:
        rows: one row per question.
        tokenizer: the run's tokenizer; `None` makes the messages alone, for whom tokens do not matter.
        template_kwargs: arguments of its chat template.
        answer: the form of answer that is asked for, whatever form the row asks for.
        letters: the answers will be read off the four letters' probabilities, so that each must be one token.
        orders: which choice stands at which letter, one prompt each.
        examples: turns of user and assistant that stand before the question, after the system message.
        trim_to: leave out statute passages, as the training rows did, until prompt and answer have at most so many
            tokens; `None` leaves the prompts whole.

    Raises:
        InputError: for rows without a gold letter, rows that ask for another form of answer and cannot be rendered
            again, or when the letters are not four single tokens after the prompt.
    """
    _require_askable(rows, answer)
    settings = {"answer": answer, "letters": letters, "orders": orders, "examples": list(examples)}
    asked = []
    for row in tqdm(rows, desc="rendering", unit="question", delay=_QUIET_SECONDS):
        whole = items = _ask(row, tokenizer, template_kwargs, **settings)
        shorter = with_fewer_statutes(row)
        while trim_to is not None and max(len(item.input_ids) for item in items) + _ANSWER_TOKENS > trim_to:
            fewer = next(shorter, None)
            if fewer is None:
                items = whole
                break
            items = _ask(fewer, tokenizer, template_kwargs, **settings)
        asked += items
    return asked


def _require_askable(rows: Sequence[Row], answer: Answer) -> None:
    without = [row for row in rows if row.gold is None]
    if without:
        raise InputError(
            f"{len(without)} of {len(rows)} rows cannot be scored: they have no gold letter",
            [f"{row.source}: set meta.correct to a, b, c or d" for row in without],
        )
    other = [row for row in rows if row.meta.get("mode") not in (None, answer) and row_question(row) is None]
    if other:
        raise InputError(
            f"{len(other)} of {len(rows)} rows ask for another form of answer than {answer!r} and cannot be rendered again",
            [f"{row.source}: meta.mode is {row.meta['mode']!r}" for row in other],
        )


def _ask(
    row: Row,
    tokenizer: "PreTrainedTokenizerBase | None",
    template_kwargs: Mapping[str, Any],
    *,
    answer: Answer,
    letters: bool,
    orders: Sequence[str],
    examples: list[Mapping[str, str]],
) -> list[Asked]:
    question = row_question(row)
    asked = []
    for order in orders if question else ORDERS[:1]:
        messages, gold, choices = list(row.prompt), row.gold, row.meta.get("choices")
        if question:
            shown = question.in_order(order)
            messages = build_messages(shown, answer=answer, statutes=question.statutes, system=row.system)
            gold, choices = shown.answer, shown.choices
        messages = messages[:-1] + examples + messages[-1:]
        input_ids, label_ids = [], None
        if tokenizer is not None:
            text = prompt_text(tokenizer, messages, template_kwargs)
            input_ids = encode(tokenizer, text)
            label_ids = _label_ids(tokenizer, text, input_ids) if letters else None
        asked.append(
            Asked(row=row, order=order, gold=gold, choices=choices, messages=messages, input_ids=input_ids, label_ids=label_ids)
        )
    return asked


def _label_ids(tokenizer: "PreTrainedTokenizerBase", text: str, input_ids: list[int]) -> list[int]:
    """The token of each letter after the prompt `text`, checked to be one token each, four different ones."""
    label_ids = []
    for letter in LETTERS:
        ids = encode(tokenizer, text + letter)
        if ids[:-1] != input_ids:
            raise InputError(
                f"{tokenizer.name_or_path}: the letter {letter!r} is not a single token right after the prompt "
                f"{text[-20:]!r}, so letters cannot be scored with this tokenizer and chat template"
            )
        label_ids.append(ids[-1])
    if len(set(label_ids)) < len(LETTERS):
        raise InputError(f"{tokenizer.name_or_path}: two of the letters a, b, c, d are the same token")
    return label_ids


def require_room(model: "PreTrainedModel", asked: Sequence[Asked], max_new_tokens: int) -> None:
    """Finds prompts that would reach beyond what the model was made for, where it answers anything.

    Raises:
        InputError: naming them and their lengths.
    """
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if room is None:
        return
    longest: dict[str, int] = {}
    for item in asked:
        longest[item.row.source] = max(longest.get(item.row.source, 0), len(item.input_ids))
    problems = [
        f"{source}: {length} tokens of prompt and up to {max_new_tokens} of answer"
        for source, length in longest.items()
        if length + max_new_tokens > room
    ]
    if problems:
        raise InputError(
            f"{len(problems)} of {len(longest)} questions do not fit the model's context window of {room} tokens",
            [*problems, "set evaluation.max_new_tokens (--max-new-tokens) lower, or show fewer statutes: data.overlong=trim_statutes, or shorter histories: "
            "lawft data dialogues --max-tokens"],
        )


def unique_questions(rows: Sequence[Row]) -> list[Row]:
    """The rows with the first of every question's orders only; the other orders are made again when it is asked.

    Raises:
        InputError: when two data sets use one id, under which their answers could not be told apart.
    """
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.id, row)
    mixed = [row for row in rows if row.meta.get("dataset") != first[row.id].meta.get("dataset")]
    if mixed:
        raise InputError(
            f"{len(mixed)} rows have the id of a question of another data set; give every question its own id",
            [f"{row.source} and {first[row.id].source}: id {row.id}" for row in mixed],
        )
    other = [row for row in rows if row.meta.get("question") != first[row.id].meta.get("question")]
    if other:
        raise InputError(
            f"{len(other)} rows have the id of another question, which would be asked in their place; give every question its own id",
            [f"{row.source} and {first[row.id].source}: id {row.id}" for row in other],
        )
    return list(first.values())
