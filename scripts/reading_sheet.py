"""Draws questions for a human reading: a sheet with statutes and questions only, and a key that is opened afterwards.

    python scripts/reading_sheet.py data/derived/questions.jsonl --out reading -n 100 --seed 1

The protocol is in docs/derived_questions.md.
"""

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the script also runs where the package is not installed

from lawft_trl.data.prompts import answer_text
from lawft_trl.data.questions import LETTERS, Question, read_questions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path, help="JSONL of questions")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write sheet.md and key.md into")
    parser.add_argument("-n", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default 0)")
    options = parser.parse_args()
    questions = sorted(read_questions(options.questions), key=lambda question: question.id)
    drawn = random.Random(options.seed).sample(questions, min(options.n, len(questions)))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "sheet.md").write_text("\n\n".join(_asked(number, question) for number, question in enumerate(drawn, 1)), encoding="utf-8")
    (options.out / "key.md").write_text("\n\n".join(_answered(number, question) for number, question in enumerate(drawn, 1)), encoding="utf-8")
    print(f"{options.out}: {len(drawn)} of {len(questions)} questions; read sheet.md first, then key.md")


def _asked(number: int, question: Question) -> str:
    statutes = "\n\n".join(statute.replace("\n#", "\n##").replace("##", "###", 1) for statute in question.statutes)
    choices = "\n".join(f"- {letter} {question.choices[letter]}" for letter in LETTERS)
    return f"# {number}. {question.id}\n\n{statutes}\n\n**{question.question}**\n\n{choices}"


def _answered(number: int, question: Question) -> str:
    return f"# {number}. {question.id}\n\n" + "\n\n".join(answer_text(question, answer="cot").split("\n"))


if __name__ == "__main__":
    main()
