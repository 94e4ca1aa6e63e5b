"""How many questions of a set can be answered from the choices alone, by rules that read no question and no statute.

    python scripts/choice_only_baselines.py data/derived/questions.jsonl

By chance each rule hits 25 %. What is well above can be learned without the law: see docs/derived_questions.md.
`learned` is a rule too, but learned from the choices of other groups' questions: which runs of four characters stand in
right choices and which in wrong ones (naive Bayes, five folds of whole groups).
"""

import argparse
import math
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the script also runs where the package is not installed

from lawft_trl.data.questions import LETTERS, Question, read_questions
from lawft_trl.derive.choice_only import guesses, hits

WRONG = r"誤っている|誤り|一致しない|適切でない|正しくない|不適切"  # what is asked for is the choice that is not so
_FOLDS, _NGRAM = 5, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path, help="JSONL of questions")
    parser.add_argument("--form", action="append", default=[], metavar="PATTERN", help="count questions with this wording apart; may be repeated")
    options = parser.parse_args()
    questions = read_questions(options.questions)
    rules = [*guesses(("一円", "二円", "三円", "四円")), "learned"]
    print("\t".join(["questions", "n", *rules]))
    for name, members in by_form(questions, options.form).items():
        rates = hit_rates(members)
        cells = [f"{rates[rule][0]:.0%}" + (f" of {rates[rule][1]}" if rates[rule][1] < len(members) else "") if rule in rates else "-" for rule in rules]
        print("\t".join([name, str(len(members)), *cells]))


def by_form(questions: list[Question], patterns: list[str]) -> dict[str, list[Question]]:
    """The questions as they are counted: all, those that ask for what is so and for what is not, and one group for each wording."""
    return {
        "all": questions,
        "asks for what is so": [question for question in questions if not re.search(WRONG, question.question)],
        "asks for what is not": [question for question in questions if re.search(WRONG, question.question)],
        **{pattern: [question for question in questions if re.search(pattern, question.question)] for pattern in patterns},
    }


def hit_rates(questions: list[Question]) -> dict[str, tuple[float, int]]:
    """Rule -> share of the questions it guesses right, and how many it can be applied to."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for question in questions:
        for rule, hit in hits([question.choices[letter] for letter in LETTERS], LETTERS.index(question.answer)).items():
            found[rule].append(hit)
    if len({question.group for question in questions}) >= _FOLDS:
        found["learned"] = _learned_hits(questions)
    return {rule: (sum(values) / len(values), len(values)) for rule, values in found.items()}


def _learned_hits(questions: list[Question]) -> list[float]:
    groups = sorted({question.group for question in questions})
    fold = {group: number % _FOLDS for number, group in enumerate(groups)}
    counts = {(number, is_right): Counter() for number in range(_FOLDS) for is_right in (True, False)}
    for question in questions:
        for letter, text in question.choices.items():
            counts[fold[question.group], letter == question.answer].update(_grams(text))
    values = []
    for held_out in range(_FOLDS):
        right, wrong = (
            sum((counts[number, is_right] for number in range(_FOLDS) if number != held_out), Counter()) for is_right in (True, False)
        )
        for question in questions:
            if fold[question.group] == held_out:
                # 1 and 3 in place of 0: of four choices one is right
                odds = {
                    letter: round(sum(math.log((right[gram] + 1) / (wrong[gram] + 3)) - math.log(1 / 3) for gram in _grams(text)), 9)
                    for letter, text in question.choices.items()
                }
                best = [letter for letter, value in odds.items() if value == max(odds.values())]
                values.append((question.answer in best) / len(best))
    return values


def _grams(text: str) -> set[str]:
    text += "\n"
    return {text[start : start + _NGRAM] for start in range(max(1, len(text) - _NGRAM + 1))}


if __name__ == "__main__":
    main()
