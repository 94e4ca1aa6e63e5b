"""Rows as a project wrote them that knew no better: each of its faults, on lawqa_jp or on the fictional sample questions."""

import json
from pathlib import Path

from conftest import SAMPLE

from lawft_trl.data.lawqa import find_lawqa, read_lawqa
from lawft_trl.data.questions import LETTERS, Question, read_questions

_RAG = "あなたは日本の法律の専門家です。以下の法令条文に基づいて、質問に答えてください。\n\n【法令条文】\n{passages}\n"
_NO_RAG = "あなたは日本の法律の専門家です。以下の法令条文に基づいて、質問に答えてください。\n\n【法令条文】\n（法令条文が提供されていません）\n"
_QUESTION = "\n【質問】\n{question}\n\n【選択肢】\n{choices}\n\n上記の法令条文の内容のみを根拠に、最も適切な選択肢を1つ選んでください。\n回答（1文字のみ）:"


def foreign_record(question: Question, *, mode: str = "cot", top_k: int = 3, priming: str = "") -> dict:
    """One row in that form: the first statute `top_k` times, or a prompt without statutes that speaks of them."""
    passage = question.statutes[0].replace("\n\n", "\n") if top_k else ""
    head = _RAG.format(passages="\n\n".join([passage] * top_k)) if top_k else _NO_RAG
    choices = "\n".join(f"{letter}. {question.choices[letter]}" for letter in LETTERS)
    reasoned = f"Reasoning: 条文に基づき選択肢を検討した結果、選択肢{question.answer} が最も適切と判断。\nAnswer: {question.answer}"
    meta = {
        "id": question.id,
        "dataset": "lawqa_jp",
        "mode": mode,
        "correct": question.answer,
        "use_context": bool(top_k),
        "top_k": top_k,
        "retriever_type": "mmr" if top_k else "none",
        "question": question.question,
        "choices": question.choices,
        "source_file": "selection.json",
    }
    return {
        "input": head + priming + _QUESTION.format(question=question.question, choices=choices),
        "output": reasoned if mode == "cot" else question.answer,
        "meta": meta,
    }


def skewed(questions: list[Question], counts: tuple[int, ...]) -> list[Question]:
    """Questions whose gold letters a, b, c, d have these counts: choices are moved, as a careless author leaves them."""
    letters = [letter for letter, count in zip(LETTERS, counts, strict=True) for _ in range(count)]
    moved = []
    for question, letter in zip(questions, letters, strict=False):
        shift = (LETTERS.index(question.answer) - LETTERS.index(letter)) % 4
        moved.append(question.in_order("".join((LETTERS * 2)[shift : shift + 4])))
    return moved


def sample_questions(count: int = 140) -> list[Question]:
    return skewed(read_questions(SAMPLE)[:count], (23, 37, 48, 32))


def lawqa_questions(folder: Path) -> list[Question]:
    return read_lawqa(find_lawqa(folder))


def write_rows(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path
