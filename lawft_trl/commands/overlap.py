"""`lawft data overlap`: whether two sets of rows or questions share anything."""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError

_SHOWN = 5


def add(sources: Any) -> argparse.ArgumentParser:
    """Declares the verb under `lawft data`."""
    overlap = sources.add_parser(
        "overlap",
        help="how many rows of one set are in another",
        description="Says how many rows of A are in B: the same id or group (within a data set), the same prompt or article, or nearly the same question "
        "and choices in any order. Ends with 0 if there is none, with 2 if there are.",
    )
    overlap.add_argument("a", type=Path, metavar="A", help="JSONL of rows or questions, lawqa_jp, or a folder of `lawft data` (all its splits)")
    overlap.add_argument("b", type=Path, metavar="B", help="the same, or a folder of `lawft data` (its test split)")
    overlap.set_defaults(run=_overlap)
    return overlap


def _overlap(options: argparse.Namespace) -> None:
    from lawft_trl.data.quality import find_overlaps
    from lawft_trl.doctor.data_files import evaluation_rows
    from lawft_trl.doctor.findings import example

    mine, theirs = evaluation_rows(options.a, splits=("",)), evaluation_rows(options.b)
    overlaps = find_overlaps(mine, theirs)
    if not overlaps:
        print(f"none of the {len(mine)} rows of {options.a} is in the {len(theirs)} rows of {options.b}")
        return
    reasons = Counter(overlap.reason for overlap in overlaps)
    for reason, count in reasons.most_common():
        print(f"{reason}: {count} rows")
        for overlap in [overlap for overlap in overlaps if overlap.reason == reason][:_SHOWN]:
            question = overlap.train.meta.get("question") or overlap.train.prompt[-1]["content"]
            found = example(overlap.train.source, overlap.train.meta.get("id"), str(question))
            print(f"  {found.place} = {example(overlap.test.source, None, '').place}\n    {found.excerpt}")
    questions = len({overlap.test.id for overlap in overlaps})
    raise InputError(
        f"{len(overlaps)} of the {len(mine)} rows of {options.a} are in {options.b} ({questions} of its {len({row.id for row in theirs})} questions)"
    )
