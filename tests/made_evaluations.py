"""Evaluation folders of made answers: no model, the real files."""

import argparse
import json
import math
import random
import sys
from pathlib import Path

from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.errors import InputError
from lawft_trl.evaluation.metrics import Prediction, compare, describe_model
from lawft_trl.folders import write_json


def made_questions(gold, groups=None) -> list[dict]:
    """One record of `questions.jsonl` for every right letter in `gold`."""
    return [
        {
            "id": f"q{index:03}",
            "group": groups[index] if groups else f"g{index}",
            "law": "借地借家法",
            "question": f"第{index}問。正しいものはどれか。",
            "choices": {letter: f"第{index}問の選択肢{letter}の文" for letter in LETTERS},
            "answer": answer,
            "known_issue": False,
            "statutes": 0,
            "gold_shown": None,
            "source": f"rows.jsonl:{index + 1}",
        }
        for index, answer in enumerate(gold)
    ]


def _answered(questions, contents, orders, prompt, read) -> list[Prediction]:
    made = []
    for question, content in zip(questions, contents, strict=True):
        for order in orders:
            made.append(
                Prediction(
                    id=question["id"],
                    group=question["group"],
                    order=order,
                    prompt_sha256=f"{prompt} {question['id']} {order}",
                    gold=LETTERS[order.index(question["answer"])],
                    **read(LETTERS[order.index(content)] if content else None),
                )
            )
    return made


def scored(questions, contents, *, orders=ORDERS, prompt="none", mass=0.99) -> list[Prediction]:
    """Letters scored: for each question the choice, by its letter in the question's own order, that the model prefers."""

    def read(letter):
        probs = {other: mass * (0.91 if other == letter else 0.03) for other in LETTERS}
        return {"letter": letter, "letter_logprobs": {other: math.log(value) for other, value in probs.items()}}

    return _answered(questions, contents, orders, prompt, read)


def written(questions, contents, *, orders=ORDERS, prompt="none", form="答えは{}です。") -> list[Prediction]:
    """Answers generated: the choice in words; `None` is an output without a letter."""
    return _answered(
        questions,
        contents,
        orders,
        prompt,
        lambda letter: {"letter": letter, "outputs": (form.format(letter) if letter else "わかりません。",)},
    )


def some_right(gold, right, seed=0) -> list[str]:
    """Answers of which those at the places in `right` are right, the others another letter."""
    rng = random.Random(seed)
    return [answer if place in right else rng.choice([letter for letter in LETTERS if letter != answer]) for place, answer in enumerate(gold)]


def save(out: Path, questions, predictions: dict, **metrics) -> Path:
    """Writes the evaluation folder `out` as `lawft eval` does, all but the reports drawn from it."""
    models = list(predictions.values())
    figures = {
        "run": "direct_norag",
        "model": "tiny",
        "scorer": "letters" if models[0][0].letter_logprobs else "generate",
        "answer": "direct",
        "parser_version": None if models[0][0].letter_logprobs else "1",
        "statutes": "none",
        "law_as_of": [""],
        "test_file": "test.jsonl",
        "test_sha256": "0" * 64,
        "asked": f"{len(questions)} questions in four orders each",
        "groups": len({question["group"] for question in questions}),
        "prompt_fingerprint": "f" * 64,
        "overlap": "none",
        "contaminated": None,
        "rehearsal": False,
        "warnings": [],
        "seconds": 1.0,
        "retrieval": None,
        "diagnosis": [],
        "models": {name: describe_model(answers) for name, answers in predictions.items()},
    }
    if len(models) == 2:
        figures["comparison"] = compare(*models, seed=0)
    out.mkdir(parents=True)
    answers = [{"model": name, **answer.to_record()} for name, of_model in predictions.items() for answer in of_model]
    for file, records in (("predictions.jsonl", answers), ("questions.jsonl", questions)):
        (out / file).write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    write_json(out / "metrics.json", figures | metrics)
    return out


def verb(module, *arguments) -> int:
    """Runs the verb of a module of `lawft_trl.commands` as `lawft` does: its exit code, 2 for an `InputError`."""
    parser = argparse.ArgumentParser()
    module.add(parser.add_subparsers(required=True))
    options = parser.parse_args([module.__name__.rpartition(".")[2], *map(str, arguments)])
    try:
        return options.run(options) or 0
    except InputError as error:
        sys.stdout.write(f"{error}\n")
        return 2
