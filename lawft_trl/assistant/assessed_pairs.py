"""Rows of question-answer pairs as `lawft data legal` writes them, or the pairs themselves, read with what they are scored by."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lawft_trl.data.legal_pairs import CitedArticle, LegalPair, Point
from lawft_trl.data.rows import Row, read_rows
from lawft_trl.errors import InputError
from lawft_trl.statutes.citations import SHORT_TITLES


def read_assessed(path: Path) -> tuple[list[Row], list[LegalPair]]:
    """Rows and, in the same order, the pairs that they are.

    Args:
        path: JSONL of `{"messages", "meta"}`; `meta` has `id`, `kind`, `group`, `citations`, `required_points` and `forbidden`
            (docs/legal_data.md).

    Raises:
        InputError: with every row that cannot be scored.
    """
    rows = read_rows(path)
    problems = [f"{row.source}: {fault}" for row in rows for fault in _faults(row)]
    first: dict[str, str] = {}
    for row in rows:
        if row.meta.get("id") is not None and first.setdefault(row.id, row.source) != row.source:
            problems.append(f"{row.source}: the id {row.id} is that of {first[row.id]}; give each pair one of its own")
    if problems:
        raise InputError(f"{path}: {len(problems)} error(s) in the pairs (docs/legal_data.md says what a pair holds)", problems)
    return rows, [_pair(row) for row in rows]


def _pair(row: Row) -> LegalPair:
    meta = row.meta
    return LegalPair(
        id=row.id,
        kind=meta["kind"],
        group=str(meta["group"]),
        system=row.system or "",
        question=row.prompt[-1]["content"],
        answer=row.output,
        citations=tuple(CitedArticle(SHORT_TITLES.get(cited["law"], cited["law"]), cited["article"]) for cited in meta["citations"]),
        required_points=tuple(Point(each["point"], tuple(each["any_of"])) for each in meta["required_points"]),
        forbidden=tuple(meta["forbidden"]),
        source=row.source,
    )


def _faults(row: Row) -> Iterator[str]:
    meta = row.meta
    if any(message["role"] == "assistant" for message in row.prompt):
        yield "a conversation of several turns; a pair is one question and one answer"
    for key in ("id", "kind", "group"):
        if not isinstance(meta.get(key), str) or not meta[key].strip():
            yield f"`meta.{key}`: expected a text, found {meta.get(key)!r:.60}"
    for cited in _dicts(meta.get("citations")):
        if not _are_texts([cited.get("law"), cited.get("article")]):
            yield f'`meta.citations`: expected {{"law": "民法", "article": "415"}}, found {cited!r:.80}'
    for point in _dicts(meta.get("required_points")):
        patterns = point.get("any_of")
        if not _are_texts([point.get("point")]) or not isinstance(patterns, list) or not patterns or not _are_texts(patterns):
            yield f'`meta.required_points`: expected {{"point": "…", "any_of": ["…"]}}, found {point!r:.80}'
            continue
        yield from (f"`meta.required_points`: {pattern!r} is no regular expression" for pattern in patterns if not _compiles(pattern))
    for key in ("citations", "required_points"):
        if not isinstance(meta.get(key), list) or not meta[key]:
            yield f"`meta.{key}`: expected a list, found {meta.get(key)!r:.60}; without it an answer cannot be scored"
    if not isinstance(meta.get("forbidden"), list) or not _are_texts(meta["forbidden"]):
        yield f"`meta.forbidden`: expected a list of texts, found {meta.get('forbidden')!r:.60}"


def _dicts(values: object) -> list[Mapping[str, Any]]:
    return [value if isinstance(value, dict) else {"": value} for value in values] if isinstance(values, list) else []


def _are_texts(values: Sequence[object]) -> bool:
    return all(isinstance(value, str) and value.strip() for value in values)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
