"""From questions to files of rows: one folder per pattern, each split a file, and a manifest of what is in them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lawft_trl import __version__
from lawft_trl.data.questions import LETTERS, ORDERS, Question
from lawft_trl.data.rows import question_to_record
from lawft_trl.data.splits import split_hash, split_questions
from lawft_trl.folders import whole_folder, write_json
from lawft_trl.text_files import file_sha256

# Folder name -> whether the prompts show the statutes that decide the question.
PATTERNS = {"direct_norag": False, "direct_gold": True}


def build_rows(
    questions: Sequence[Question],
    out: Path,
    *,
    dataset: str,
    source_file: Path,
    shares: Mapping[str, float],
    seed: int,
    attribution: str,
    force: bool = False,
) -> dict[str, Any]:
    """Splits questions and writes `OUT/<pattern>/<split>.jsonl` for every pattern, and `OUT/manifest.json`.

    Training questions are written in all four orders of their choices, so that every letter is the answer equally
    often; the other splits in their original order (evaluation makes the orders itself).

    Args:
        questions: all questions of the data set.
        out: the folder to make; it appears whole or not at all.
        dataset: what `meta.dataset` says.
        source_file: where the questions were read; its name is `meta.source_file`, its hash is in the manifest.
        shares: share of the questions per held-out split, e.g. `{"test": 0.2, "dev": 0.1}`.
        seed: seed of the split.
        attribution: the data's source and licence, kept beside the rows.
        force: replace an existing `out`.

    Returns:
        The manifest.
    """
    parts = {name: members for name, members in split_questions(questions, shares, seed).items() if members}
    manifest = {
        "dataset": dataset,
        "made_with": f"lawft-trl {__version__}",
        "attribution": attribution,
        "source": {"file": source_file.name, "sha256": file_sha256(source_file)},
        "seed": seed,
        "shares": dict(shares),
        "split_sha256": split_hash(parts),
        "splits": {name: _describe(members) for name, members in parts.items()},
        "files": {},
    }
    with whole_folder(out, force=force, mark="manifest.json", rename="--out") as folder:
        for pattern, use_context in PATTERNS.items():
            if use_context and not all(question.statutes for question in questions):
                continue
            (folder / pattern).mkdir()
            for name, members in parts.items():
                path = folder / pattern / f"{name}.jsonl"
                records = [
                    question_to_record(
                        question, answer="direct", use_context=use_context, dataset=dataset, source_file=source_file.name, order=order
                    )
                    for question in members
                    for order in (ORDERS if name == "train" else ORDERS[:1])
                ]
                path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
                manifest["files"][f"{pattern}/{name}.jsonl"] = {
                    "rows": len(records),
                    "sha256": file_sha256(path),
                    "answers": _letters(record["meta"]["correct"] for record in records),
                }
        write_json(folder / "manifest.json", manifest)
        (folder / "ATTRIBUTION.txt").write_text(attribution + "\n", encoding="utf-8")
    return manifest


def _describe(members: Sequence[Question]) -> dict[str, Any]:
    return {
        "questions": len(members),
        "groups": len({question.group or question.id for question in members}),
        "laws": dict(sorted(Counter(question.law for question in members).items())),
        "answers": _letters(question.answer for question in members),
        "ids": [question.id for question in members],
    }


def _letters(answers) -> dict[str, int]:
    counts = Counter(answers)
    return {letter: counts[letter] for letter in LETTERS}
