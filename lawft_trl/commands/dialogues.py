"""`lawft data dialogues`: conversations become checked, cleaned, split rows, one for every turn of the tutor."""

import argparse
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError

SAMPLE = Path(__file__).parents[1] / "assets" / "dialogues" / "socratic.jsonl"
_SAMPLE_ATTRIBUTION = "lawft-trl sample dialogues: conversations in the manner of Socrates, written for lawft-trl, Apache-2.0 as the rest of it."
_RECIPE = "tiny_socratic"
_ITS_FOLDER = Path("data/socratic")


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
        attribution=_SAMPLE_ATTRIBUTION if options.sample else None,
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
    values = "" if out == _ITS_FOLDER else " " + " ".join(map(shlex.quote, _overrides(out, manifest["splits"])))
    print(f"Next:    lawft check {_RECIPE}{values}")
    print(f"         accelerate launch lawft_trl/sft.py recipes/{_RECIPE}.yaml{values}")
    print("         (the tiny model, on the CPU; with a GPU recipes/socratic.yaml or recipes/socratic_bf16.yaml)")


def _overrides(out: Path, splits: Iterable[str]) -> list[str]:
    """What makes a recipe of dialogues read a folder; without dev rows there is nothing to evaluate and to choose by."""
    files = [f"data.{split}={out}/dialogue/{split}_*.jsonl" if split in splits else f"data.{split}=null" for split in ("train", "dev", "test")]
    return files if "dev" in splits else [*files, "training.eval_strategy=no", "training.load_best_model_at_end=false"]
