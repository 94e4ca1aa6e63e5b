"""`lawft improve`: an assessment's weaknesses become a work list and a new training file."""

import argparse
from pathlib import Path
from typing import Any


def add(verbs: Any) -> None:
    """Declares the verb."""
    verb = verbs.add_parser(
        "improve",
        help="from an assessment to a work list and more training rows (docs/assess.md)",
        description="Lists which kinds, articles and points the tuned model is weak in and which training rows to mend, and writes a training file with more rows of "
        "the weak kinds and, from a statutes corpus, rows that quote articles. No held-out pair is ever in it.",
    )
    verb.add_argument("assessment", type=Path, metavar="ASSESSMENT", help="a folder of lawft assess")
    verb.add_argument("--pairs", type=Path, required=True, metavar="TRAIN_FILE", help="the rows that the model was trained on")
    verb.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the folder to make")
    verb.add_argument("--strategy", metavar="NAME", help="whose answers count (default: the headline's)")
    verb.add_argument("--factor", type=float, default=2.0, metavar="N", help="how often rows of weak kinds are in the new file (default 2; 1 adds none)")
    verb.add_argument("--corpus", type=Path, metavar="FOLDER", help="statutes corpus to derive rows from and to look citations up in")
    verb.add_argument("--derive", type=int, default=20, metavar="N", help="at most so many derived rows (default 20; needs --corpus)")
    verb.add_argument("--add", type=Path, metavar="FILE", help="pairs that you wrote since, for instance of the weak kinds; they go into the new file")
    verb.add_argument("--seed", type=int, default=0, help="of the rows that a broken factor repeats (default 0)")
    verb.add_argument("--force", action="store_true", help="replace the folder")
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from lawft_trl.assistant.improve import improve

    found = improve(
        options.assessment,
        options.pairs,
        options.out,
        strategy=options.strategy,
        factor=options.factor,
        corpus=options.corpus,
        derive=options.derive,
        seed=options.seed,
        add=options.add,
        force=options.force,
    )
    if found["contaminated"]:
        print(found["contaminated"])
    for kind in found["kinds"]:
        low, high = kind["interval"]
        note = " (weak)" if kind["clear"] else " (weak, or chance)" if kind["weak"] else ""
        print(f"{kind['kind']}: {kind['mean']:.2f} [{low:.2f}, {high:.2f}] of {kind['pairs']} held-out pairs, {kind['train_rows']} training rows{note}")
    print(f"articles missed {len(found['missed_articles'])}, that do not exist {len(found['invented_articles'])}; pairs with points not made {len(found['missed_points'])}; rows to mend {len(found['rows_to_mend'])}")
    print(f"{options.out}: worklist.md, {found['file']} ({found['train']['rows']} rows, {found['copies']} copies, {found['derived']} derived, {found['added']} added), openai_train.jsonl")
    print("next:")
    for command in found["next"]:
        print(f"  {command}")
