"""`lawft compare`: evaluations side by side, paired with the first of them."""

import argparse
import contextlib
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError


def add(verbs: Any) -> None:
    """Declares the verb."""
    compare = verbs.add_parser(
        "compare",
        help="pair the models of several evaluations, with a verdict on each",
        description="Compares every model with the first, question by question, or the style of dialogues conversation by conversation; refuses what was not asked the same.",
        epilog="Exit code: 0; 1 with --gate unless every verdict is better; 2 for what cannot be compared.",
    )
    compare.add_argument("evaluations", nargs="+", metavar="PATH[:MODEL]",
                         help="a run, an evaluation folder or a cross-validation; MODEL is tuned unless named")  # fmt: skip
    compare.add_argument("--model", metavar="NAME", help="the model where PATH names none, e.g. base")
    compare.add_argument("--across-prompts", action="store_true", help="pair by question where the prompts differ on purpose")
    compare.add_argument("--out", type=Path, metavar="FOLDER", help="write comparison.json and comparison.md there")
    compare.add_argument("--force", action="store_true", help="replace the FOLDER of --out")
    compare.add_argument("--gate", action="store_true", help="exit 1 unless every verdict is better, uncontaminated and no rehearsal")
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    if options.force and options.out is None:
        raise InputError("--force replaces the folder of --out; name it, or leave --force out")
    from lawft_trl.evaluation.compare_evaluations import compare_evaluations, gate_failures
    from lawft_trl.evaluation.compare_styles import are_styles, compare_styles, style_comparison_lines
    from lawft_trl.evaluation.comparison_report import terminal_lines, write_comparison
    from lawft_trl.folders import refuse_existing

    if options.out is not None:
        refuse_existing(options.out, force=options.force, mark="comparison.json", rename="--out")
    styles = are_styles(options.evaluations)
    if styles and options.across_prompts:
        raise InputError("--across-prompts pairs four-choice questions; dialogues are compared turn by turn, with one history")
    if styles:
        result = compare_styles(options.evaluations, model=options.model)
    else:
        result = compare_evaluations(options.evaluations, model=options.model, across_prompts=options.across_prompts)
    if options.out is not None:
        write_comparison(result, options.out, force=options.force)
    failures = gate_failures(result) if options.gate else []
    # A gate closes whether or not its output is read to the end (`| head`).
    with contextlib.suppress(BrokenPipeError):
        print("\n".join(style_comparison_lines(result) if styles else terminal_lines(result)))
        if options.out is not None:
            print(f"Report: {options.out / 'comparison.md'}")
        if options.gate:
            print("\n".join(["gate: closed", *(f"  - {text}" for text in failures)]) if failures else "gate: passed")
    return 1 if failures else 0
