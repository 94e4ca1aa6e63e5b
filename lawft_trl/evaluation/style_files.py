"""Replies and people's ratings of them, as files give them. No torch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lawft_trl.data.row_problems import record_problems
from lawft_trl.data.rows import row_turns
from lawft_trl.errors import InputError
from lawft_trl.text_files import csv_lines, read_jsonl, read_text

_COLUMNS, _MORE_COLUMNS = ("reply", "rating"), ("id", "rater")


@dataclass(frozen=True, kw_only=True)
class Rating:
    """One person's rating of one reply.

    Attributes:
        id: the reply's; the reply itself where the file names none.
        reply: its text.
        rating: how Socratic the person finds it, on whatever scale, more is more.
        rater: who, `""` where the file does not say.
    """

    id: str
    reply: str
    rating: float
    rater: str = ""


def read_replies(path: Path) -> list[str]:
    """The replies of a JSONL file: strings, objects with `reply`, or rows, whose outputs are meant.

    Raises:
        InputError: with every line that is none of these.
    """
    replies, problems = [], []
    for number, record in read_jsonl(path):
        if isinstance(record, str):
            replies.append(record)
        elif isinstance(record, dict) and isinstance(record.get("reply"), str):
            replies.append(record["reply"])
        elif isinstance(record, dict) and "reply" not in record and not record_problems(record):
            replies += [output for _, output in row_turns(record)]
        else:
            problems.append(f'{path}:{number}: expected a string, an object with the string `reply`, or a row; found {record!r:.60}')
    if problems:
        raise InputError(f"{path}: {len(problems)} line(s) hold no reply", problems)
    return replies


def read_ratings(path: Path) -> list[Rating]:
    """Reads a CSV file with the columns reply and rating, and id and rater where there are such.

    Raises:
        InputError: with every faulty line.
    """
    lines, fault = csv_lines(read_text(path))
    if fault:
        raise InputError(f"{path}:{fault[0]}: {fault[1]}")
    if len(lines) < 2:
        raise InputError(f"{path}: no ratings; a header {','.join(_COLUMNS)} and one rating a line are expected")
    header = [name.strip() for name in lines[0][1]]
    if sorted(header) != sorted({*_COLUMNS, *(set(header) & set(_MORE_COLUMNS))}):
        raise InputError(
            f"{path}:{lines[0][0]}: the columns are {', '.join(header)}; expected {' and '.join(_COLUMNS)}, and {' and '.join(_MORE_COLUMNS)} where there are such"
        )
    ratings, problems = [], []
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            problems.append(f'{path}:{number}: {len(cells)} cells under {len(header)} columns; put a reply with commas into "…"')
            continue
        line = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        faults = list(_line_problems(line))
        problems += [f"{path}:{number}: {fault}" for fault in faults]
        if not faults:
            name = line.get("id") or line["reply"]
            ratings.append((number, Rating(id=name, reply=line["reply"], rating=float(line["rating"]), rater=line.get("rater", ""))))
    problems += [f"{path}:{number}: {fault}" for number, fault in _conflicts(ratings)]
    if problems:
        raise InputError(f"{path}: {len(problems)} error(s) in the ratings", problems)
    return [rating for _, rating in ratings]


def _line_problems(line: dict[str, str]) -> Iterator[str]:
    if not line["reply"]:
        yield "`reply` is empty; write the reply that was rated"
    try:
        finite = math.isfinite(float(line["rating"]))
    except ValueError:
        finite = False
    if not finite:
        yield f"`rating`: expected a number, found {line['rating']!r:.60}"


def _conflicts(ratings: list[tuple[int, Rating]]) -> Iterator[tuple[int, str]]:
    """Ids of two replies, and replies that one person rated twice."""
    replies: dict[str, tuple[int, str]] = {}
    rated: dict[tuple[str, str], int] = {}
    for number, rating in ratings:
        first, reply = replies.setdefault(rating.id, (number, rating.reply))
        if reply != rating.reply:
            yield number, f"the id {rating.id!r:.60} is that of another reply, on line {first}; give each an id of its own"
        earlier = rated.setdefault((rating.id, rating.rater), number)
        if earlier != number:
            who = f"{rating.rater} has" if rating.rater else "somebody has (there is no column rater)"
            yield number, f"{who} rated this reply already, on line {earlier}; keep one" + ("" if rating.rater else ", or say who it was")
