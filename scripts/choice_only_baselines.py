"""How many questions of a set can be answered from the choices alone, by rules that read no question and no statute.

    python scripts/choice_only_baselines.py data/derived/questions.jsonl

By chance each rule hits 25 %. What is well above can be learned without the law: see docs/derived_questions.md.
"""

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the script also runs where the package is not installed

from lawft_trl.data.questions import LETTERS, Question, read_questions
from lawft_trl.derive.choice_only import guesses, hits

WRONG = r"誤っている|誤り|一致しない|適切でない|正しくない|不適切"  # what is asked for is the choice that is not so


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path, help="JSONL of questions")
    parser.add_argument("--form", action="append", default=[], metavar="PATTERN", help="count questions with this wording apart; may be repeated")
    options = parser.parse_args()
    questions = read_questions(options.questions)
    print_table(groups(questions, options.form))


def groups(questions: list[Question], patterns: list[str]) -> dict[str, list[Question]]:
    """The questions under the names they are counted by: all, those that ask for what is so and what is not, one for each wording."""
    wrong = [question for question in questions if re.search(WRONG, question.question)]
    right = [question for question in questions if not re.search(WRONG, question.question)]
    return {
        "all": questions,
        "asks for what is so": right,
        "asks for what is not": wrong,
        **{pattern: [question for question in questions if re.search(pattern, question.question)] for pattern in patterns},
    }


def hit_rates(questions: list[Question]) -> dict[str, tuple[float, int]]:
    """Rule -> share of the questions it guesses right, and how many it can be applied to."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for question in questions:
        for rule, hit in hits([question.choices[letter] for letter in LETTERS], LETTERS.index(question.answer)).items():
            found[rule].append(hit)
    return {rule: (sum(values) / len(values), len(values)) for rule, values in found.items()}


def print_table(named: dict[str, list[Question]]) -> None:
    rules = dict.fromkeys(rule for rule in guesses(("一円", "二円", "三円", "四円")))
    print("\t".join(["questions", "n", *rules]))
    for name, questions in named.items():
        rates = hit_rates(questions)
        cells = [f"{rates[rule][0]:.0%}" + (f" of {rates[rule][1]}" if rates[rule][1] < len(questions) else "") if rule in rates else "-" for rule in rules]
        print("\t".join([name, str(len(questions)), *cells]))


if __name__ == "__main__":
    main()
