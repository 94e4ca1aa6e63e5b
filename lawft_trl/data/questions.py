"""The `Question` record: one four-choice legal question, whatever its source."""

import dataclasses
import json
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lawft_trl.errors import InputError
from lawft_trl.statutes.headed_text import article_keys
from lawft_trl.text_files import read_jsonl

LETTERS = ("a", "b", "c", "d")

# A Latin square: over the four orders every choice stands once at every letter, so a preference of the model for a
# letter adds the same amount to every choice and cancels in the mean. `"bcda"`: the choice called b is shown at a.
ORDERS = ("abcd", "bcda", "cdab", "dabc")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One four-choice question.

    Attributes:
        id: unique within its data set.
        law: what the split is stratified by, e.g. `"借地借家法"`.
        question: the question alone, without choices or instructions.
        choices: the text of each choice under its letter `a`..`d`.
        answer: the gold letter.
        statutes: the passages that decide the question, each with its own headings.
        provisions: keys of the articles that decide it (`statutes.passages.article_key`); read off the headings of
            `statutes` where a file does not give them.
        reasons: for each letter why its choice is or is not the answer, in words that name no letter; empty where
            there are none.
        as_of: ISO date of the law the question is about, `""` where its source does not say.
        references: addresses or identifiers of the sources.
        group: equal for questions that share statute text; a group is never divided between two splits.
    """

    id: str
    law: str
    question: str
    choices: dict[str, str]
    answer: str
    statutes: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    provisions: tuple[str, ...] = ()
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    as_of: str = ""
    group: str = ""

    def in_order(self, order: str) -> "Question":
        """The same question with its choices moved; `order[i]` is the choice shown at the i-th letter."""
        choices = {letter: self.choices[shown] for letter, shown in zip(LETTERS, order, strict=True)}
        reasons = {letter: self.reasons[shown] for letter, shown in zip(LETTERS, order, strict=True)} if self.reasons else {}
        return dataclasses.replace(self, choices=choices, reasons=reasons, answer=LETTERS[order.index(self.answer)])


def question_problems(record: object) -> list[str]:
    """What keeps a parsed JSON value from being a question; an empty list when nothing does."""
    if not isinstance(record, dict):
        return [f"expected an object, found {type(record).__name__}"]
    problems = []
    for key in ("id", "law", "question", "answer"):
        value = record.get(key)
        if not isinstance(value, str) or not value.strip():
            problems.append(f"`{key}`: expected a non-empty string, found {_shown(value)}")
    problems += choice_problems(record.get("choices"), record.get("answer"))
    problems += _reason_problems(record.get("reasons", {}))
    for key in ("statutes", "references", "provisions"):
        value = record.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            problems.append(f"`{key}`: expected a list of non-empty strings, found {_shown(value)}")
    problems += [
        f"`{key}`: expected a string, found {_shown(record[key])}" for key in ("group", "as_of") if not isinstance(record.get(key, ""), str)
    ]
    known = {field.name for field in dataclasses.fields(Question)}
    problems += [f"`{key}`: unknown key; a question has {', '.join(sorted(known))}" for key in sorted(set(record) - known)]
    return problems


def _reason_problems(reasons: object) -> list[str]:
    """Faults of the reasons: none at all, or one in words for each of the four choices."""
    if reasons == {}:
        return []
    if not isinstance(reasons, dict) or set(reasons) != set(LETTERS):
        found = ", ".join(map(str, reasons)) if isinstance(reasons, dict) else _shown(reasons)
        return [f"`reasons`: expected one for each of the letters a, b, c, d, or none at all; found {found}"]
    return [
        f"`reasons.{letter}`: expected a non-empty string without line breaks, found {_shown(reasons[letter])}"
        for letter in LETTERS
        if not isinstance(reasons[letter], str) or not reasons[letter].strip() or "\n" in reasons[letter]
    ]


def choice_problems(choices: object, answer: object) -> list[str]:
    """Faults of the four choices and the gold letter."""
    if not isinstance(choices, dict) or set(choices) != set(LETTERS):
        found = ", ".join(map(str, choices)) if isinstance(choices, dict) else _shown(choices)
        return [f"`choices`: expected exactly the letters a, b, c, d, found {found}"]
    problems = [
        f"`choices.{letter}`: expected a non-empty string, found {_shown(choices[letter])}"
        for letter in LETTERS
        if not isinstance(choices[letter], str) or not choices[letter].strip()
    ]
    if not problems and len({choices[letter].strip() for letter in LETTERS}) < len(LETTERS):
        problems.append("`choices`: two choices have the same text, so the answer is not unique")
    if answer not in LETTERS:
        problems.append(f"`answer`: expected one of a, b, c, d, found {_shown(answer)}")
    return problems


def read_questions(path: Path) -> list[Question]:
    """Reads and validates JSONL, one question a line.

    Raises:
        InputError: with every faulty line.
    """
    questions, problems, first_line = [], [], {}
    for number, record in read_jsonl(path):
        faults = question_problems(record)
        if not faults and record["id"] in first_line:
            faults = [f"`id`: {record['id']!r} was already used on line {first_line[record['id']]}"]
        if faults:
            problems += [f"{path}:{number}: {fault}" for fault in faults]
            continue
        first_line[record["id"]] = number
        lists = {key: tuple(record.get(key, ())) for key in ("statutes", "references", "provisions")}
        lists["provisions"] = lists["provisions"] or _shown_articles(lists["statutes"])
        questions.append(Question(**{**record, **lists}))
    if problems:
        raise InputError(f"{path}: {len(problems)} error(s) in the questions", problems)
    return _with_groups(questions)


def _shown_articles(statutes: Sequence[str]) -> tuple[str, ...]:
    """The articles that passages show; a passage without headings is an article of its own."""
    return tuple(dict.fromkeys(key for statute in statutes for key in article_keys(statute)))


def _with_groups(questions: Sequence[Question]) -> list[Question]:
    """Joins the groups of questions that show the same statute text or rest on the same article, and groups those that name no group."""
    keys = [
        [*question.statutes, *question.provisions, *([("group", question.group)] if question.group else [])]
        for question in questions
    ]
    joined = shared_passage_groups(keys, "g")
    given: dict[str, str] = {}
    for name, question in zip(joined, questions, strict=True):
        if question.group:
            given.setdefault(name, question.group)
    return [
        dataclasses.replace(question, group=given.get(name, name)) for name, question in zip(joined, questions, strict=True)
    ]


def content(question: Question) -> tuple[object, ...]:
    """What stays the same when the choices are shown in another order."""
    return (question.question, question.statutes, sorted(question.choices.values()), question.choices[question.answer])


def with_reasons(questions: Iterable[Question], reasoned: Iterable[Question], file: Path) -> list[Question]:
    """The questions with the reasons that a file has for some of them; its choices may stand in another order.

    Raises:
        InputError: when a reasoned question is not one of these or differs from it.
    """
    by_id = {question.id: question for question in questions}
    problems = []
    for other in reasoned:
        mine = by_id.get(other.id)
        if mine is None or content(mine) != content(other) or not other.reasons:
            problems.append(f"{file}: {other.id}: " + ("no such question" if mine is None else "other text or no reasons"))
            continue
        by_choice = {other.choices[letter]: other.reasons[letter] for letter in LETTERS}
        by_id[other.id] = dataclasses.replace(mine, reasons={letter: by_choice[mine.choices[letter]] for letter in LETTERS})
    if problems:
        raise InputError(f"{file}: {len(problems)} question(s) do not belong to this data set", problems)
    return list(by_id.values())


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Writes questions as JSONL, the form `read_questions` reads."""
    lines = [json.dumps(dataclasses.asdict(question), ensure_ascii=False) for question in questions]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def shared_passage_groups(statutes: Sequence[Iterable[Hashable]], prefix: str) -> list[str]:
    """Names a group for every question so that two questions with a key in common have the same group.

    Args:
        statutes: for every question the keys of what it rests on (an article, a passage text). A question without
            keys is a group of its own.
        prefix: what group names start with.

    Returns:
        One group name per question, numbered in the order of first appearance.
    """
    parent = list(range(len(statutes)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first_with = {}
    for index, keys in enumerate(statutes):
        for key in keys:
            parent[root(index)] = root(first_with.setdefault(key, index))
    names = {}
    return [names.setdefault(root(index), f"{prefix}{len(names) + 1:03d}") for index in range(len(statutes))]


def _shown(value: object) -> str:
    """A value as an error message shows it: its JSON, cut to one short line."""
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
