"""`lawft data legal`: question-answer pairs for the legal assistant become checked, split rows."""

import argparse
from pathlib import Path
from typing import Any


def add(sources: Any) -> None:
    """Declares the verb under `lawft data`."""
    legal = sources.add_parser(
        "legal",
        help="question-answer pairs of the legal assistant (docs/legal_data.md)",
        description="Lists every fault of the pairs at once. Without one, holds out a fifth of them by group, every kind in both parts, and writes rows and "
        "the same in OpenAI's chat format. A statutes corpus tells articles that do not exist.",
    )
    legal.add_argument("file", nargs="?", type=Path, metavar="FILE", help="pairs, one JSON object a line (default: the shipped ones)")
    legal.add_argument("--out", type=Path, default=Path("data/legal"), help="the folder to make (default: data/legal)")
    legal.add_argument("--corpus", type=Path, help="statutes corpus to look the cited articles up in (default: none, and all are 未検証)")
    legal.add_argument("--seed", type=int, default=0, help="seed of the split (default 0)")
    legal.add_argument("--force", action="store_true", help="replace the folder")
    legal.set_defaults(run=_legal)


def _legal(options: argparse.Namespace) -> None:
    from lawft_trl.data.legal_pairs import LEGAL_PAIRS
    from lawft_trl.data.legal_rows import build_legal

    manifest = build_legal(options.file or LEGAL_PAIRS, options.out, corpus=options.corpus, seed=options.seed, force=options.force)
    for name, split in manifest["splits"].items():
        kinds = ", ".join(f"{kind} {count}" for kind, count in split["kinds"].items())
        print(f"{name:5} {split['pairs']:4} pairs in {split['groups']:3} groups: {kinds}")
    cited = manifest["citations"]
    print(f"{cited['total']} citations: {cited['verified']} 検証済, {cited['unverified']} 未検証" + ("" if manifest["corpus"] else " (no --corpus)"))
    print(f"{options.out}: {', '.join(manifest['files'])}; manifest.json, data_card.md")
