"""`lawft ladder`: base and tuned without statutes, with retrieved and with deciding ones, asked in several ways."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUTES = ("none", "retrieved", "gold", "shuffled")
_ANSWERS = ("direct", "cot")
_PROMPTINGS = ("plain", "system", "few-shot")


def add(verbs: Any) -> None:
    """Declares the verb."""
    ladder = verbs.add_parser("ladder", help="no statutes / retrieved / gold × forms of answer × prompting, base and tuned, paired")
    ladder.add_argument("path", type=Path, metavar="RUN", help="a finished run, e.g. runs/direct_rag")
    ladder.add_argument("--statutes", type=_some_of(_STATUTES), default=_STATUTES, metavar="KIND,...",
                        help=f"what the prompts show, of {', '.join(_STATUTES)} (default: all); shuffled: another question's")  # fmt: skip
    ladder.add_argument("--answers", type=_some_of(_ANSWERS), default=("direct",), metavar="FORM,...",
                        help="direct, cot or both (default direct); reasoned answers are generated, which takes long")  # fmt: skip
    ladder.add_argument("--promptings", type=_some_of(_PROMPTINGS), default=("plain",), metavar="WAY,...",
                        help=f"what stands before the question, of {', '.join(_PROMPTINGS)} (default plain)")  # fmt: skip
    ladder.add_argument("--system", metavar="TEXT", help="the system message of the prompting `system`")
    ladder.add_argument("--data", type=Path, metavar="FOLDER", help="the data set's folder (default: that of the run's held-out rows)")
    ladder.add_argument("--limit", type=int, metavar="N", help="the first N questions only")
    ladder.add_argument("--name", default="ladder", help="the folder's name in RUN/ladders (default ladder)")
    ladder.add_argument("--force", action="store_true", help="replace an existing one")
    ladder.set_defaults(run=_run)


def _some_of(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
        if set(names) - set(known):
            raise argparse.ArgumentTypeError(f"{text!r}: expected some of {','.join(known)}")
        return names

    return parse


def _run(options: argparse.Namespace) -> None:
    from lawft_trl.evaluation.ladder import SYSTEM, climb

    ladder = climb(
        options.path,
        statutes=options.statutes,
        answers=options.answers,
        promptings=options.promptings,
        system=options.system or SYSTEM,
        data=options.data,
        limit=options.limit,
        name=options.name,
        force=options.force,
    )
    if ladder["contaminated"]:
        print(ladder["contaminated"])
    for warning in ladder["warnings"]:
        print(f"WARNING: {warning}")
    width = max(len(rung["name"]) for rung in ladder["rungs"])
    for rung in ladder["rungs"]:
        shown = "  ".join(f"{side} {100 * rung[side]['accuracy']:5.1f} %" for side in ("base", "tuned"))
        print(f"{rung['name']:{width}}  {shown}{'  (as trained)' if rung['trained'] else ''}")
    for test in ladder["tests"]:
        if test["question"] in ("tuning", "reading"):
            print(f"{test['second']} - {test['first']}: {100 * test['difference']:+.1f} points, p = {test['p_value']:.2g}, Holm {test['holm_p']:.2g}")
    print(f"Report: {ladder['report']}")
