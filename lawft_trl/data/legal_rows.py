"""Rows of the legal assistant's pairs: split by group, every kind in each part, and the same in pure OpenAI chat format."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lawft_trl import __version__
from lawft_trl.data.dialogue_rows import FOLDER
from lawft_trl.data.legal_card import render_legal_card
from lawft_trl.data.legal_citations import VERIFIED, Corpus, invented, read_corpus, status
from lawft_trl.data.legal_pairs import LegalPair, load_pairs, refuse
from lawft_trl.data.legal_problems import KINDS
from lawft_trl.data.splits import split_hash, split_questions
from lawft_trl.errors import InputError
from lawft_trl.folders import refuse_existing, whole_folder, write_json, write_text
from lawft_trl.text_files import file_sha256

DATASET = "legal"
TEST_SHARE = 0.2


def build_legal(file: Path, out: Path, *, corpus: Path | None = None, seed: int = 0, force: bool = False) -> dict[str, Any]:
    """Checks pairs, splits them, and writes `OUT/dialogue/train_54.jsonl` and `test_14.jsonl` (named after the pairs in them),
    `OUT/openai_train.jsonl` and `openai_test.jsonl`, the manifest and the card.

    A fifth of the pairs is held out, by group and kind by kind.

    Args:
        file: pairs, see `read_pairs`.
        out: the folder to make; it appears whole or not at all.
        corpus: a statutes corpus to look the cited articles up in; without one every citation is 未検証.
        seed: seed of the split.
        force: replace an existing `out`.

    Returns:
        The manifest.

    Raises:
        InputError: with every fault of the pairs, articles that the corpus' law does not have among them.
    """
    refuse_existing(out, force=force, mark="manifest.json", rename="--out")
    pairs, faults = load_pairs(file)
    looked_up = read_corpus(corpus, pairs) if corpus else None
    if looked_up:
        faults += invented(pairs, looked_up)
    refuse(faults, file)
    parts = split_pairs(pairs, seed)
    statuses = [status(cited, looked_up) for pair in pairs for cited in pair.citations]
    manifest: dict[str, Any] = {
        "dataset": DATASET,
        "made_with": f"lawft-trl {__version__}",
        "attribution": f"From {file.name}.",
        "source": {"file": file.name, "sha256": file_sha256(file)},
        "seed": seed,
        "test_share": TEST_SHARE,
        "pairs": len(pairs),
        "citations": {"total": len(statuses), "verified": statuses.count(VERIFIED), "unverified": len(statuses) - statuses.count(VERIFIED)},
        "corpus": looked_up.about if looked_up else None,
        "answers": _answer_figures(pairs),
        "split_sha256": split_hash(parts),
        "splits": {name: _describe(part) for name, part in parts.items()},
        "files": {},
    }
    with whole_folder(out, force=force, mark="manifest.json", rename="--out") as folder:
        (folder / FOLDER).mkdir()
        for name, part in parts.items():
            records = [pair_record(pair, looked_up, source_file=file.name) for pair in part]
            written = {
                f"{FOLDER}/{name}_{len(part)}.jsonl": records,
                f"openai_{name}.jsonl": [{"messages": record["messages"]} for record in records],
            }
            for relative, lines in written.items():
                write_text(folder / relative, _lines(lines))
                manifest["files"][relative] = {"pairs": len(part), "sha256": file_sha256(folder / relative)}
        write_json(folder / "manifest.json", manifest)
        write_text(folder / "ATTRIBUTION.txt", manifest["attribution"] + "\n")
        write_text(folder / "data_card.md", render_legal_card(manifest))
    return manifest


def split_pairs(pairs: Sequence[LegalPair], seed: int) -> dict[str, list[LegalPair]]:
    """`{"train": [...], "test": [...]}`: whole groups, a fifth of the pairs for test, every kind in both.

    Raises:
        InputError: when there are too few pairs or groups for that.
    """
    parts = split_questions(pairs, {"test": TEST_SHARE}, seed, stratum="kind", unit="pairs")
    problems = []
    for name, part in parts.items():
        for kind in sorted({pair.kind for pair in pairs} - {pair.kind for pair in part}, key=KINDS.index):
            groups = len({pair.group for pair in pairs if pair.kind == kind})
            problems.append(f"{name} has no pair of {kind}: there are {sum(pair.kind == kind for pair in pairs)} in {groups} group(s)")
    if problems:
        raise InputError(f"split with --seed {seed}: not every kind is in both parts", [*problems, "write more groups of pairs of these kinds, or take another --seed"])
    return parts


def pair_record(pair: LegalPair, corpus: Corpus | None, *, source_file: str) -> dict[str, Any]:
    """A pair as a row record, in the form `{"messages", "meta"}` that `read_rows` reads."""
    texts = {"system": pair.system, "user": pair.question, "assistant": pair.answer}
    return {
        "messages": [{"role": role, "content": content} for role, content in texts.items()],
        "meta": {
            "id": pair.id,
            "dataset": DATASET,
            "mode": FOLDER,
            "group": pair.group,
            "kind": pair.kind,
            "citations": [{"law": cited.law, "article": cited.article, "status": status(cited, corpus)} for cited in pair.citations],
            "required_points": [{"point": each.point, "any_of": list(each.any_of)} for each in pair.required_points],
            "forbidden": list(pair.forbidden),
            "source_file": source_file,
        },
    }


def _lines(records: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _describe(part: Sequence[LegalPair]) -> dict[str, Any]:
    kinds = Counter(pair.kind for pair in part)
    return {
        "pairs": len(part),
        "groups": len({pair.group for pair in part}),
        "kinds": {kind: kinds[kind] for kind in KINDS if kinds[kind]},
        "ids": [pair.id for pair in part],
    }


def _answer_figures(pairs: Sequence[LegalPair]) -> dict[str, Any]:
    """Characters of the answers, and which share of the runs of 1, 2, 3 and 10 characters in them is different from all others."""
    lengths = sorted(len(pair.answer) for pair in pairs)
    runs = {size: [pair.answer[start : start + size] for pair in pairs for start in range(len(pair.answer) - size + 1)] for size in (1, 2, 3, 10)}
    distinct = {str(size): round(len(set(found)) / len(found), 4) if found else None for size, found in runs.items()}
    return {"characters": {"shortest": lengths[0], "median": lengths[len(lengths) // 2], "longest": lengths[-1]}, "distinct_n": distinct}
