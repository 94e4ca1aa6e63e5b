"""Rows: what a model is trained and scored on, one JSON object a line."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lawft_trl.data.contexts import Context
from lawft_trl.data.prompts import PARTLY_SUPPORTED, UNSUPPORTED, Answer, answer_text, build_messages
from lawft_trl.data.questions import LETTERS, Question, choice_problems
from lawft_trl.data.row_problems import record_problems
from lawft_trl.errors import InputError
from lawft_trl.text_files import read_jsonl


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt and the output that is to be learned.

    Attributes:
        prompt: chat messages up to the assistant's turn, with the system message if there is one.
        output: the assistant's turn.
        meta: what the file says about the row; `{}` where it says nothing.
        source: where it was read, `"train.jsonl:12"`.
    """

    prompt: tuple[dict[str, str], ...]
    output: str
    meta: dict[str, Any] = field(default_factory=dict)
    source: str

    @property
    def id(self) -> str:
        """The question's id (equal for its permuted copies), or the place of a row that has none."""
        return str(self.source if self.meta.get("id") is None else self.meta["id"])

    @property
    def system(self) -> str | None:
        """The text of the system message, `None` where the prompt has none."""
        return self.prompt[0]["content"] if self.prompt[0]["role"] == "system" else None

    @property
    def gold(self) -> str | None:
        """The gold letter, from `meta.correct` or from an output that is just a letter."""
        letter = self.meta.get("correct") or self.output.strip()
        return letter if letter in LETTERS else None


def question_to_record(
    question: Question, *, answer: Answer, context: Context, dataset: str, source_file: str, order: str = "abcd"
) -> dict[str, Any]:
    """A question as a row record.

    Args:
        question: with `reasons` if `answer` is `"cot"`; without them the output is the last line alone, and the record
            says `scoring_only`: such a row is asked, never trained on.
        answer: the form of the answer.
        context: the statutes the prompt shows.
        dataset: what `meta.dataset` says.
        source_file: what `meta.source_file` says.
        order: which choice stands at which letter.
    """
    shown = question.in_order(order)
    messages = build_messages(shown, answer=answer, statutes=context.statutes)
    record = {
        "input": messages[-1]["content"],
        "output": answer_text(shown, answer=answer, caveat=_caveat(context)),
        "meta": {
            "id": question.id,
            "dataset": dataset,
            "mode": answer,
            "correct": shown.answer,
            "use_context": bool(context.statutes),
            "top_k": len(context.statutes),
            "retriever_type": context.retriever,
            "question": question.question,
            "choices": shown.choices,
            "source_file": source_file,
            "law": question.law,
            "law_as_of": context.as_of or question.as_of,
            "group": question.group,
            "provisions": list(question.provisions),
            "order": order,
            "statutes": list(context.statutes),
        },
    }
    if context.passages:
        record["meta"] |= {"context": context.kind, "passages": list(context.passages), "gold_shown": context.gold_shown, "gold_missing": list(context.missing)}
    if answer == "cot" and not question.reasons:
        record["meta"]["scoring_only"] = True
    return record


def _caveat(context: Context) -> str:
    return _caveat_of(bool(context.passages) and bool(context.missing), context.gold_shown)


def _caveat_of(missing: bool, gold_shown: bool | None) -> str:
    """What a reasoned answer begins with when deciding articles are missing among the statutes shown."""
    if not missing:
        return ""
    return PARTLY_SUPPORTED if gold_shown else UNSUPPORTED


def row_question(row: Row) -> Question | None:
    """The question a row was rendered from, if rendering it again gives the row's prompt to the letter; else `None`.

    Only such a row may be shown with its choices in another order or with fewer statutes.
    """
    meta = row.meta
    needed = (meta.get("question"), meta.get("choices"), meta.get("statutes") or [])
    if not isinstance(needed[0], str) or choice_problems(needed[1], row.gold):
        return None
    if not isinstance(needed[2], list) or not all(isinstance(statute, str) for statute in needed[2]):
        return None
    question = Question(
        id=row.id,
        law=str(meta.get("law", "")),
        question=needed[0],
        choices={letter: needed[1][letter] for letter in LETTERS},
        answer=row.gold,
        statutes=tuple(needed[2]),
        group=str(meta.get("group", "")),
    )
    mode = meta.get("mode") or "direct"
    if mode not in ("direct", "cot"):
        return None
    rendered = build_messages(question, answer=mode, statutes=question.statutes, system=row.system)
    return question if rendered == list(row.prompt) else None


def with_fewer_statutes(row: Row) -> Iterator[Row]:
    """The row with one statute passage less, then with two less, and so on; one passage always stays.

    The last passage goes first; where the row says which passages decide the question, the last of the others. What the
    row says of its passages, and what a reasoned answer says of them, follows. Nothing comes of a row that cannot be
    rendered again, or that shows one passage or none.
    """
    question = row_question(row)
    if question is None:
        return
    passages = row.meta.get("passages")
    if not isinstance(passages, list) or len(passages) != len(question.statutes) or not all(isinstance(item, dict) for item in passages):
        passages = [{} for _ in question.statutes]
    order = sorted(range(len(passages)), key=lambda place: (not passages[place].get("gold"), place))  # the last goes first
    for kept in range(len(order) - 1, 0, -1):
        yield _with_statutes(row, question, passages, sorted(order[:kept]))


def _with_statutes(row: Row, question: Question, passages: Sequence[dict[str, Any]], places: Sequence[int]) -> Row:
    """The row with those of its statute passages that stand at `places`."""
    statutes = [question.statutes[place] for place in places]
    prompt = build_messages(question, answer=row.meta.get("mode") or "direct", statutes=statutes, system=row.system)
    meta = {**row.meta, "statutes": statutes, "top_k": len(statutes)}
    if "passages" not in row.meta:
        return replace(row, prompt=tuple(prompt), meta=meta)
    shown = [passages[place] for place in places]
    articles = {article for passage in shown for article in str(passage.get("article", "")).split(", ")}
    provisions = row.meta.get("provisions") or []
    missing = [article for article in provisions if article not in articles]
    gold_shown = any(passage.get("gold") for passage in shown) if provisions else None
    meta |= {"passages": shown, "gold_shown": gold_shown, "gold_missing": missing}
    output = row.output
    if row.meta.get("mode") == "cot" and "\n" in output:
        lines = [line for line in output.split("\n") if line not in (UNSUPPORTED, PARTLY_SUPPORTED)]
        caveat = _caveat_of(bool(missing), gold_shown)
        output = "\n".join([*([caveat] if caveat else []), *lines])
    return replace(row, prompt=tuple(prompt), meta=meta, output=output)


def read_rows(path: Path, *, system: str | None = None) -> list[Row]:
    """Reads and validates a file of rows in any accepted form.

    Args:
        path: JSONL; a row of `messages` becomes one row per assistant turn.
        system: text of the system message for rows that have none of their own.

    Raises:
        InputError: with every faulty line.
    """
    rows, problems, first = [], [], {}
    for number, record in read_jsonl(path):
        source = f"{path}:{number}"
        faults = record_problems(record)
        if not faults:
            key = row_key(record)
            if key in first:
                faults = [f"the same row as {first[key]}"]
            first.setdefault(key, source)
        if faults:
            problems += [f"{source}: {fault}" for fault in faults]
            continue
        for prompt, output in row_turns(record):
            if system is not None and prompt[0]["role"] != "system":
                prompt = [{"role": "system", "content": system}, *prompt]
            rows.append(Row(prompt=tuple(prompt), output=output, meta=record.get("meta") or {}, source=source))
    if problems:
        raise InputError(f"{path}: {len(problems)} error(s) in the rows", problems)
    return rows


# Beside a form's own keys: what says where a row is from and changes nothing of what it means.


def row_key(record: dict[str, Any]) -> str:
    """What makes two records without faults the same row: prompt, answer and question.

    Equal first turns of two conversations do not.
    """
    meta = record.get("meta") or {}
    return json.dumps([list(row_turns(record)), meta.get("dataset"), meta.get("id")], ensure_ascii=False)


def row_turns(record: dict[str, Any]) -> Iterable[tuple[list[dict[str, str]], str]]:
    """`(prompt, output)` for every assistant turn of a record that has no faults."""
    if "messages" in record:
        messages = [{"role": message["role"], "content": message["content"]} for message in record["messages"]]
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                yield messages[:index], message["content"]
        return
    prompt = record.get("input", record.get("prompt"))
    output = record.get("output", record.get("completion"))
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    yield prompt, output if isinstance(output, str) else output[0]["content"]


def select_rows(rows: Sequence[Row], answer: Literal["direct", "cot", "auto", "dialogue"], statutes: str, where: str) -> list[Row]:
    """The rows of the recipe's pattern: by `meta.mode` where a row has one, all of them for `"auto"`.

    Raises:
        InputError: when none is left, or when a row shows other statutes than the pattern: none, the deciding ones, or
            what was retrieved.
    """
    modes = [row.meta.get("mode") for row in rows]
    chosen = [row for row, mode in zip(rows, modes, strict=True) if answer == "auto" or mode in (None, answer)]
    if not chosen:
        raise InputError(f"{where}: pattern.answer is {answer!r} but every row has meta.mode {sorted(set(map(str, modes)))}")
    wrong = [row for row in chosen if _statutes_shown(row) not in (None, statutes)]
    if wrong:
        kind = _statutes_shown(wrong[0])
        raise InputError(
            f"{where}: pattern.statutes is {statutes!r} but {len(wrong)} of {len(chosen)} rows show {_SHOWN[kind]} "
            "(meta.use_context, meta.retriever_type)",
            [f"first: {wrong[0].source}; set pattern.statutes: {kind}, or name the other rows"],
        )
    return chosen


_SHOWN = {"none": "no statutes", "gold": "the deciding statutes", "retrieved": "retrieved statutes"}


def _statutes_shown(row: Row) -> str | None:
    """Which pattern's statutes a row shows, by its `meta`; `None` where that does not say."""
    if row.meta.get("use_context") is False:
        return "none"
    if row.meta.get("use_context") and isinstance(row.meta.get("retriever_type"), str):
        return "gold" if row.meta["retriever_type"] == "gold" else "retrieved"
    return None
