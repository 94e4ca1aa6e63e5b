"""`lawft data dialogues`: conversations become checked, cleaned, split rows, one for every turn of the tutor."""

import argparse
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError

SAMPLE = Path(__file__).parents[1] / "assets" / "dialogues" / "socratic.jsonl"


def add(sources: Any) -> None:
    """Declares the verb under `lawft data`."""
    dialogues = sources.add_parser(
        "dialogues",
        help="conversations of a user and a tutor (JSON, JSONL, CSV; docs/dialogues.md)",
        description="Lists every fault of the files at once. Without one, cleans the texts, counts what was cleaned, splits by conversation, and writes "
        "one row for every turn of the tutor.",
    )
    dialogues.add_argument("files", nargs="*", type=Path, metavar="FILE", help=".json (a list), .jsonl (one conversation a line) or .csv (one turn a line)")
    dialogues.add_argument("--sample", action="store_true", help="the shipped Socratic dialogues; no FILE then")
    dialogues.add_argument("--out", type=Path, help="the folder to make (default: data/<name of the first file>)")
    dialogues.add_argument("--test-share", type=float, default=0.1, help="share of held-out conversations (default 0.1)")
    dialogues.add_argument("--dev-share", type=float, default=0.1, help="share of dev conversations (default 0.1)")
    dialogues.add_argument("--seed", type=int, default=0, help="seed of the split (default 0)")
    dialogues.add_argument("--max-turns", type=int, metavar="N", help="a row shows the last N turns, that of the tutor included (default: all)")
    dialogues.add_argument("--max-tokens", type=int, metavar="N", help="leave out the oldest turns of a row until it has N tokens; needs --tokenizer")
    dialogues.add_argument("--tokenizer", metavar="NAME_OR_PATH", help="count lengths in its tokens, with its chat template")
    dialogues.add_argument("--force", action="store_true", help="replace the folder")
    dialogues.set_defaults(run=_dialogues)


def _dialogues(options: argparse.Namespace) -> None:
    from lawft_trl.data.dialogue_rows import build_dialogues

    if options.sample == bool(options.files):
        raise InputError("lawft data dialogues: expected FILE... or --sample, one of them", ["lawft data dialogues --sample --out data/socratic"])
    files = [SAMPLE] if options.sample else options.files
    out = options.out or Path("data") / files[0].stem
    manifest = build_dialogues(
        files,
        out,
        shares={"test": options.test_share, "dev": options.dev_share},
        seed=options.seed,
        max_turns=options.max_turns,
        max_tokens=options.max_tokens,
        tokenizer=options.tokenizer,
        force=options.force,
    )
    for rule, count in sorted(manifest["cleaned"].items()):
        print(f"cleaned: {rule}, {count}")
    for line in manifest["dropped"]:
        print(f"left out: {line}")
    for (name, split), entry in zip(manifest["splits"].items(), manifest["files"].values(), strict=True):
        rows = f"{entry['rows']:4} rows" + (f", {entry['shortened']} with a shortened history" if entry["shortened"] else "")
        print(f"{name:5} {split['conversations']:4} conversations in {split['groups']:3} groups, {rows}")
    print(f"{out}: {', '.join(manifest['files'])}; manifest.json, data_card.md, conversations.jsonl")
