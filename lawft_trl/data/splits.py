"""Splits that hold: whole groups, every law in each part, the same for the same seed."""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from lawft_trl.data.near_duplicates import ngrams, plain, text_index
from lawft_trl.data.questions import Question, shared_passage_groups
from lawft_trl.errors import InputError


class Grouped(Protocol):
    """What can be split: a question, a conversation."""

    id: str
    group: str


Item = TypeVar("Item", bound=Grouped)


def split_questions(
    questions: Sequence[Item], shares: Mapping[str, float], seed: int, *, stratum: str = "law", unit: str = "questions"
) -> dict[str, list[Item]]:
    """Divides questions into parts so that no group is in two of them.

    Law by law the groups are shuffled with the seed and dealt to the parts until each holds its share of the questions
    seen so far, so that what one law was too small or its groups too large for is made up by the next. A group that
    would overfill a part is passed over. What is left is `"train"`.

    Args:
        questions: in any order; the result does not depend on it.
        shares: part name -> share of the questions, e.g. `{"test": 0.2, "dev": 0.1}`; they sum to less than 1.
        seed: seed of the shuffle.
        stratum: the attribute that every part has its share of, if it is not the law.
        unit: what the questions are called in an error, if they are something else.

    Returns:
        `{"train": [...], **parts}`, each part sorted by question id.

    Raises:
        InputError: for impossible shares, or when a part with a share above 0 would stay empty.
    """
    if any(not 0 <= share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
        raise InputError(f"split shares {dict(shares)}: each must be at least 0 and they must sum to less than 1")
    by_law = _groups_by_law(questions, stratum)

    parts: dict[str, list[Item]] = {"train": [], **{name: [] for name in shares}}
    seen = 0
    for law in sorted(by_law):
        waiting = by_law[law]
        random.Random(f"{seed}:{law}").shuffle(waiting)
        seen += sum(map(len, waiting))
        for name, share in shares.items():
            room, passed = round(share * seen) - len(parts[name]), []
            for members in waiting:
                if len(members) <= room:
                    parts[name] += members
                    room -= len(members)
                else:
                    passed.append(members)
            waiting = passed
        parts["train"] += [question for members in waiting for question in members]
    empty = [name for name, members in parts.items() if not members and shares.get(name, 1) > 0]
    if empty:
        raise InputError(
            f"split: {', '.join(empty)} would be empty: {len(questions)} {unit} in {sum(map(len, by_law.values()))} groups are too few "
            f"for the shares {', '.join(f'{name} {share:g}' for name, share in shares.items())}",
            ["take other shares: --test-share, --dev-share (0 leaves a split out)"],
        )
    return {name: sorted(members, key=lambda question: question.id) for name, members in parts.items()}


def join_near_duplicates(questions: Sequence[Question]) -> list[Question]:
    """The questions with the groups of near-duplicates joined, so that no split divides them.

    Nine tenths of the character 5-grams of question and choices in common (Jaccard index) make a near-duplicate; laws
    that follow one another, and questions made by rule, have many.
    """
    texts = [(plain(question.question), *map(plain, question.choices.values())) for question in questions]
    grams = [ngrams(text) for text in texts]
    index = text_index(grams, [True] * len(grams), [True])
    keys = []
    for position, question in enumerate(questions):
        near = (other for other in index.similar(grams[position], True) if other != position)
        pairs = [(min(position, other), max(position, other)) for other in near]
        keys.append([("group", question.group) if question.group else ("alone", question.id), *pairs])
    names = shared_passage_groups(keys, "near")
    first = {}
    for name, question in zip(names, questions, strict=True):
        first.setdefault(name, question.group)
    return [replace(question, group=first[name] or name) for name, question in zip(names, questions, strict=True)]


def fold_questions(questions: Sequence[Question], folds: int, seed: int) -> list[list[Question]]:
    """Divides questions into `folds` parts of nearly equal size for grouped cross-validation; no group is in two parts.

    Law by law the groups are shuffled with the seed and the largest first given to the part that has the fewest
    questions of that law, and among those the fewest in all.

    Args:
        questions: in any order; the result does not depend on it.
        folds: number of parts, at least 2.
        seed: seed of the shuffle.

    Returns:
        The parts, each sorted by question id; every question is in exactly one.

    Raises:
        InputError: when there are fewer groups than folds.
    """
    by_law = _groups_by_law(questions, "law")
    groups = sum(map(len, by_law.values()))
    if not 2 <= folds <= groups:
        raise InputError(f"--folds {folds}: expected at least 2 and at most {groups}, the number of groups")
    parts: list[list[Question]] = [[] for _ in range(folds)]
    for law in sorted(by_law):
        waiting = by_law[law]
        random.Random(f"{seed}:{law}").shuffle(waiting)
        of_law = [0] * folds
        for members in sorted(waiting, key=len, reverse=True):
            fold = min(range(folds), key=lambda index: (of_law[index], len(parts[index])))
            parts[fold] += members
            of_law[fold] += len(members)
    if not all(parts):
        raise InputError(f"--folds {folds}: {sum(not part for part in parts)} of the folds would be empty; take fewer")
    return [sorted(part, key=lambda question: question.id) for part in parts]


def split_hash(parts: Mapping[str, Sequence[Question]]) -> str:
    """SHA-256 of which question is in which part; equal splits have equal hashes."""
    lines = sorted(f"{name}\t{question.id}" for name, members in parts.items() for question in members)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _groups_by_law(questions: Sequence[Item], stratum: str) -> dict[str, list[list[Item]]]:
    """The groups of each law (or other stratum); a group of several laws counts as one of the law most of its questions are on."""
    groups = defaultdict(list)
    for question in sorted(questions, key=lambda question: question.id):
        groups[question.group or f"alone:{question.id}"].append(question)
    by_law = defaultdict(list)
    for members in groups.values():
        by_law[Counter(getattr(question, stratum) for question in members).most_common(1)[0][0]].append(members)
    return by_law
