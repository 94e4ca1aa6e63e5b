"""`lawft eval`: base and tuned on the held-out questions, or what a set of questions can show."""

import argparse
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError


def add(verbs: Any) -> None:
    """Declares the verb."""
    evaluate = verbs.add_parser("eval", help="score base and tuned on the held-out questions")
    evaluate.add_argument("path", type=Path, metavar="RUN", nargs="?", help="a finished run, e.g. runs/direct_norag")
    evaluate.add_argument("--test", type=Path, metavar="FILE", help="other rows than the recipe's data.test")
    evaluate.add_argument("--name", help="the evaluation's folder in RUN/eval (default: the test file's name)")
    evaluate.add_argument("--force", action="store_true", help="replace an existing evaluation")
    evaluate.add_argument("--power", type=Path, metavar="FILE", help="no RUN: what the questions or rows in FILE can show, before training")
    evaluate.set_defaults(run=_eval)


def _eval(options: argparse.Namespace) -> None:
    if options.power is not None:
        _power(options)
        return
    if options.path is None:
        raise InputError("name a finished run (lawft eval RUN), or questions to plan with (lawft eval --power FILE)")
    from lawft_trl.evaluation.evaluate import evaluate_run

    metrics = evaluate_run(options.path, test=options.test, name=options.name, force=options.force)
    base, tuned, paired = metrics["base"], metrics["tuned"], metrics["comparison"]
    low, high = (100 * bound for bound in paired["interval"])
    for warning in metrics["warnings"]:
        print(f"WARNING: {warning}")
    print(f"base   {base['correct']}/{base['questions']} ({100 * base['accuracy']:.1f} %)")
    print(f"tuned  {tuned['correct']}/{tuned['questions']} ({100 * tuned['accuracy']:.1f} %)")
    print(
        f"{paired['verdict']}: {100 * paired['difference']:+.1f} points [{low:+.1f}, {high:+.1f}], gained "
        f"{len(paired['gained'])}, lost {len(paired['lost'])}, p = {paired['p_value']:.2g} ({paired['reason']})"
    )
    print(f"Report: {metrics['report']}")


def _power(options: argparse.Namespace) -> None:
    others = [name for name, value in [("RUN", options.path), ("--test", options.test), ("--name", options.name), ("--force", options.force)] if value]
    if others:
        raise InputError(f"--power evaluates no run; leave out {', '.join(others)}")
    from lawft_trl.evaluation.plan import plan_set, render_plan

    print(render_plan(plan_set(options.power)))
