"""`lawft data derive`: questions made from statutes by rule."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.errors import InputError

if TYPE_CHECKING:
    from lawft_trl.data.questions import Question


def add(sources: Any) -> argparse.ArgumentParser:
    """Declares the verb under `lawft data`."""
    parser = sources.add_parser(
        "derive",
        help="questions made from a statutes corpus by rule, with reasons",
        description="Makes four-choice questions from statutes without a model: an element of a rule is changed, so that what is wrong with "
        "a choice, and why, is known (docs/derived_questions.md).",
    )
    parser.add_argument("--statutes", type=Path, required=True, metavar="CORPUS", help="a corpus folder (lawft statutes)")
    parser.add_argument("--exclude", type=Path, action="extend", nargs="+", default=[], metavar="FILE",
                        help="an evaluation set (questions, rows, lawqa_jp): its articles are neither asked about nor shown")  # fmt: skip
    parser.add_argument("--limit", type=int, metavar="N", help="how many questions at most (default: all)")
    return parser


def derive(options: argparse.Namespace) -> tuple[list["Question"], frozenset[str]]:
    """The questions that the options ask for, and the articles that must not be shown with them; says how many there are.

    Args:
        options: what `add` declares, and `seed`.
    """
    from lawft_trl.derive.exclusion import excluded_articles
    from lawft_trl.derive.questions import derive_questions
    from lawft_trl.doctor.data_files import evaluation_rows
    from lawft_trl.statutes.passages import read_passages
    from lawft_trl.statutes.search import open_index

    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit {options.limit}: expected at least 1")
    open_index(options.statutes)  # the rows are made with it afterwards: what it lacks is said before the work
    passages = list(read_passages(options.statutes))
    exclude: set[str] = set()
    for file in options.exclude:
        touched = excluded_articles(evaluation_rows(file), passages)
        present = {passage.article_key for passage in passages} & touched
        print(f"{file}: {len(present)} articles of the corpus are in it and left out")
        if not present:
            print(f"WARNING: {file} touches no article of {options.statutes}: is it the set that will be held out?")
        exclude |= touched
    questions = derive_questions(passages, seed=options.seed, limit=options.limit, exclude=exclude)
    print(f"{len(questions)} questions derived from {len({key for question in questions for key in question.provisions})} articles")
    return questions, frozenset(exclude)
