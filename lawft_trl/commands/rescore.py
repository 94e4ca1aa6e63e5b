"""`lawft rescore`: stored answers read again by the parser of today."""

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError

_AROUND = 40  # characters of an output shown on either side of the words that decided


def add(verbs: Any) -> None:
    """Declares the verb."""
    rescore = verbs.add_parser(
        "rescore",
        help="read stored answers again with the present parser, and show what moved",
        description="Reads the raw outputs of an evaluation whose answers were generated, or a JSONL file of outputs with their right letters.",
    )
    rescore.add_argument("path", type=Path, metavar="PATH",
                         help="a run, an evaluation folder, or FILE.jsonl with output, gold and, where known, choices")  # fmt: skip
    rescore.add_argument("--write", action="store_true", help="write the evaluation as it is read now beside the stored one")
    rescore.set_defaults(run=_rescore)


def _rescore(options: argparse.Namespace) -> None:
    from lawft_trl.evaluation.answers import PARSER_VERSION
    from lawft_trl.evaluation.rescore import rescore, score_outputs, write_rescored

    if options.path.is_file():
        if options.write:
            raise InputError("--write makes an evaluation folder of an evaluation folder; a file of outputs is only read")
        _print_outputs(score_outputs(options.path), PARSER_VERSION)
        return
    rescored = rescore(options.path)
    metrics = rescored.evaluation.metrics
    if metrics.get("contaminated"):
        print(metrics["contaminated"])
    if metrics.get("rehearsal"):
        print("REHEARSAL: the figures and the verdict mean nothing")
    stored = metrics.get("parser_version")
    print(f"{rescored.evaluation.path}: stored as read by parser {stored}, now read by parser {PARSER_VERSION}")
    total = sum(map(len, rescored.predictions.values()))
    print(f"{len(rescored.moved)} of {total} answers moved" if rescored.moved else f"unchanged: none of {total} answers moved")
    for record in rescored.moved:
        _print_moved(record)
    for (model, old, new), count in sorted(Counter((one["model"], _letter(one["old"]), _letter(one["new"])) for one in rescored.moved).items()):
        print(f"{model}: {count} from {old} to {new}")
    for model, before in rescored.before["models"].items():
        after = rescored.after["models"][model]
        print(f"{model}: {_right(before)} -> {_right(after)}, without a letter {before['unparsed']} -> {after['unparsed']}")
    if comparison := rescored.after.get("comparison"):
        print(f"verdict: {_verdict(rescored.before['comparison'])} -> {_verdict(comparison)}")
    if options.write:
        written = write_rescored(rescored)
        print(f"Report: {written / 'report.md'}" if written else "nothing written: this is how the stored evaluation was read")


def _print_moved(record: Mapping[str, Any]) -> None:
    print(f"  {record['model']} {record['id']} {record['order']}: {_letter(record['old'])} -> {_letter(record['new'])} (right: {record['gold']})")
    for output in record["outputs"]:
        found = f"{_letter(output['letter'])} by {output['rule']} {output['words']!r:.60}"
        print(f"    {found} in {_excerpt(output['text'], output['span'])!r}")


def _excerpt(text: str, span: tuple[int, int]) -> str:
    """The output around the words that decided; its beginning where none did."""
    start, end = max(0, span[0] - _AROUND), min(len(text), span[0] + 2 * _AROUND)
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _print_outputs(scored: Mapping[str, Any], version: str) -> None:
    low, high = (100 * bound for bound in scored["interval"])
    print(f"parser {version}: {_right(scored)}, 95 % interval {low:.1f} to {high:.1f} (Wilson); {scored['unparsed']} without a letter")
    for one in scored["wrong"]:
        print(f"  line {one['line']}: {_letter(one['letter'])} by {one['rule']} {one['words']!r:.60} (right: {_letter(one['gold'])})")


def _right(figures: Mapping[str, Any]) -> str:
    return f"{figures['correct']}/{figures['questions']} ({100 * figures['accuracy']:.1f} %)"


def _verdict(comparison: Mapping[str, Any]) -> str:
    return f"{comparison['verdict']} ({100 * comparison['difference']:+.1f} points, p = {comparison['p_value']:.2g})"


def _letter(letter: str | None) -> str:
    return letter or "none"
