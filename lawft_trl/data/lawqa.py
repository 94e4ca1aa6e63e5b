"""lawqa_jp, the Digital Agency's four-choice questions on Japanese law (PDL 1.0), as `Question` records."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lawft_trl.data.questions import LETTERS, Question, choice_problems, content, shared_passage_groups
from lawft_trl.errors import InputError
from lawft_trl.statutes.headed_text import article_keys
from lawft_trl.text_files import read_text

ATTRIBUTION = (
    "出典：デジタル庁「日本の法令に関する多肢選択式QAデータセット」（lawqa_jp、https://github.com/digital-go-jp/lawqa_jp）、"
    "公共データ利用規約（第1.0版）（https://www.digital.go.jp/resources/open_data/public_data_license_v1.0）。本ファイルはこれを加工して作成。"
)

# Seven questions that the data set's authors name as faulty (Uematsu & Osugi, NLP2025 Q6-3), by chapter and number. Three
# of the numbers are given to two questions of their chapter (関連法令, 根拠条文), and then both are flagged.
_KNOWN_ISSUES = {
    ("金商法_第6章", "73"), ("金商法_第6章", "27"), ("金商法_第2章", "34"), ("薬機法_第5章", "38"), ("薬機法_第5章", "46"),
    ("薬機法_第15章", "19"), ("借地借家法_第3章", "19"),
}  # fmt: skip

_TEXT_KEYS = ("ファイル名", "コンテキスト", "問題文", "選択肢", "output")


def read_lawqa(path: Path) -> list[Question]:
    """Reads `selection.json` (140 questions) or a `*_randomized.json` (the same in four orders, 560 rows).

    Rows of one question in several orders become one question, in the order of its first row; that they are the same
    question with the same answer is checked.

    Args:
        path: one of the JSON files in the repository's `data/`.

    Returns:
        The questions in file order. `law` is what the file name begins with; `group` joins the questions that rest on
        the same article.

    Raises:
        InputError: with every faulty row.
    """
    samples = _load_samples(path)
    first: dict[str, tuple[int, Question]] = {}
    problems, orders = [], Counter()
    for number, sample in enumerate(samples, start=1):
        faults, question = _read_sample(sample)
        order = sample.get("回答オーダーマップ番号", "") if isinstance(sample, dict) else ""
        if question is not None:
            orders[question.id, order] += 1
            if orders[question.id, order] > 1:
                faults.append(f"ファイル名: {question.id!r} occurs twice" + (f" in the order {order}" if order else ""))
            number_0, question_0 = first.setdefault(question.id, (number, question))
            if content(question) != content(question_0):
                faults.append(f"differs in more than the order of the choices from row {number_0} with the same ファイル名")
        problems += [f"{path}: samples[{number - 1}]: {fault}" for fault in faults]
    if problems:
        raise InputError(f"{path}: {len(problems)} error(s) in the questions", problems)
    questions = [question for _, question in first.values()]
    groups = shared_passage_groups([question.provisions for question in questions], "lawqa-g")
    return [replace(question, group=group) for question, group in zip(questions, groups, strict=True)]


def known_issues(questions: Iterable[Question]) -> frozenset[str]:
    """Ids of the questions that the data set's authors named as faulty."""
    return frozenset(
        question.id
        for question in questions
        if ("_".join(question.id.split("_")[:2]), question.id.rpartition("問題番号")[2]) in _KNOWN_ISSUES
    )


def find_lawqa(folder: Path) -> Path:
    """`selection.json` in a folder that holds lawqa_jp, or its `data/`.

    Raises:
        InputError: when neither has it.
    """
    if folder.is_file():
        return folder
    for candidate in (folder / "selection.json", folder / "data" / "selection.json"):
        if candidate.is_file():
            return candidate
    raise InputError(
        f"{folder}: no selection.json here or in its data/",
        ["clone https://github.com/digital-go-jp/lawqa_jp and name its folder with --from or LAWFT_LAWQA_DIR"],
    )


def _load_samples(path: Path) -> list[Any]:
    try:
        document = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg} at column {error.colno}") from None
    samples = document.get("samples") if isinstance(document, dict) else None
    if not isinstance(samples, list) or not samples:
        raise InputError(f'{path}: expected {{"samples": [...]}} with at least one question')
    return samples


def _read_sample(sample: object) -> tuple[list[str], Question | None]:
    """The faults of one row, and its question when there are none."""
    if not isinstance(sample, dict):
        return [f"expected an object, found {type(sample).__name__}"], None
    faults = [
        f"{key}: expected a non-empty string, found {sample.get(key)!r:.60}"
        for key in _TEXT_KEYS
        if not isinstance(sample.get(key), str) or not sample[key].strip()
    ]
    if faults:
        return faults, None
    choices, faults = parse_choices(sample["選択肢"])
    answer = sample["output"].strip()
    faults = faults or choice_problems(choices, answer)
    references = sample.get("references", [])
    if not isinstance(references, list) or not all(isinstance(item, str) for item in references):
        faults.append("references: expected a list of strings")
    if faults:
        return faults, None
    name = sample["ファイル名"].strip()
    return [], Question(
        id=name,
        law=name.split("_")[0],
        question=sample["問題文"].strip(),
        choices=choices,
        answer=answer,
        statutes=tuple(passages(sample["コンテキスト"])),
        references=tuple(references),
        provisions=article_keys(sample["コンテキスト"]),
    )


def parse_choices(text: str) -> tuple[dict[str, str], list[str]]:
    """Reads `"a …\\nb …\\nc …\\nd …"`; a line that starts with no letter goes on with the choice above it.

    Returns:
        The choices, and what is wrong with the text.
    """
    choices: dict[str, str] = {}
    for line in text.strip().split("\n"):
        start = re.match(r"\s*([a-zａ-ｚ])[ \u3000.．:：)）]\s*(.*)", line)
        letter = unicodedata.normalize("NFKC", start[1]) if start else ""
        if start and letter == "abcdefghijklmnopqrstuvwxyz"[len(choices)]:
            choices[letter] = start[2].strip()
        elif choices:
            choices[list(choices)[-1]] += "\n" + line.strip()
        else:
            return {}, [f"選択肢: expected a line that starts with `a `, found {line[:40]!r}"]
    if tuple(choices) != LETTERS:
        return {}, [f"選択肢: expected the four choices a, b, c, d, found {', '.join(choices)}"]
    return choices, []


def passages(context: str) -> list[str]:
    """Divides a context into passages, one per article (`###`) under its law's heading (`##`).

    Text that stands under no article is a passage of its own, so that nothing is lost.
    """
    found: list[list[str]] = []
    law, has_article = "", False
    for line in context.strip().split("\n"):
        if re.match(r"##\s", line) or not found:
            law = line if re.match(r"##\s", line) else ""
            found.append([line])
            has_article = bool(re.match(r"###\s", line))
        elif re.match(r"###\s", line) and has_article:
            found.append([law, line] if law else [line])
        else:
            has_article = has_article or bool(re.match(r"###\s", line))
            found[-1].append(line)
    return ["\n".join(lines).strip() for lines in found]
