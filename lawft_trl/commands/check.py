"""`lawft check`: everything that can be known about rows, or about a run, before it."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.commands.recipe import recipe_path
from lawft_trl.errors import InputError

if TYPE_CHECKING:
    from lawft_trl.doctor.data_files import Report
    from lawft_trl.doctor.findings import Finding


def add(verbs: Any) -> None:
    """Declares the verb."""
    check = verbs.add_parser(
        "check",
        help="what is wrong with rows; everything that can be known about a run before it",
        description="Checks data (JSONL of rows or questions, a folder of `lawft data`, lawqa_jp) or a recipe. "
        "Ends with 2 if there is an error. docs/doctor.md explains every finding.",
    )
    check.add_argument("target", metavar="DATA|RECIPE", help="a .jsonl or .json file or a folder; or a recipe: a YAML file, or its name in recipes/")
    check.add_argument("more", nargs="*", metavar="DATA|section.key=value", help="more files, or values that change the recipe")
    check.add_argument("--strict", action="store_true", help="treat warnings as errors")
    check.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write the findings as JSON, to FILE or instead of the tables")
    check.add_argument("--force", action="store_true", help="replace the FILE of --json")
    check.add_argument("--against", action="append", type=Path, default=[], metavar="DATA",
                       help="an evaluation set the rows must not be in: a file, lawqa_jp, or a folder of `lawft data` (its test split)")  # fmt: skip
    check.add_argument("--tokenizer", metavar="NAME_OR_PATH", help="count tokens with it (a recipe names its own)")
    check.add_argument("--epochs", type=float, default=1, help="epochs for the cost (default 1; a recipe names its own)")
    check.add_argument("--prices", type=Path, metavar="FILE", help="dated price list of training, for the cost (docs/doctor.md)")
    check.add_argument("--max-output", type=int, default=4000, metavar="N", help="characters from which an output is long (default 4000)")
    check.add_argument("--processes", type=int, default=1, help="how many processes will train a recipe (default 1)")
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> None:
    _refuse_report(options)
    if _is_data(options.target):
        _check_data(options)
    else:
        _check_recipe(options)


def _is_data(target: str) -> bool:
    """Whether a target is data: by its suffix, or a folder that is not also the name of a recipe."""
    return target.endswith((".jsonl", ".json")) or (Path(target).is_dir() and not recipe_path(target).is_file())


def _refuse_report(options: argparse.Namespace) -> None:
    if options.json in (None, "-") or options.force or not Path(options.json).exists():
        return
    mend = ["to check that file, put --json after it: lawft check FILE --json", "to replace it, add --force"]
    raise InputError(f"--json {options.json}: already there, and it is not overwritten", mend)


def _check_data(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.text import Text

    from lawft_trl.doctor.data_files import evaluation_rows, examine_files
    from lawft_trl.doctor.findings import findings_table, with_strictness

    wrong = [name for name in options.more if not _is_data(name)]
    if wrong:
        raise InputError(f"{', '.join(wrong)}: neither a .jsonl or .json file nor a folder", ["section.key=value is for recipes"])
    against = {str(path): evaluation_rows(path) for path in options.against}
    reports = examine_files([Path(name) for name in (options.target, *options.more)], against=against, max_output=options.max_output)
    tokens = _tokens(options, reports)
    findings = [with_strictness(report.findings, strict=options.strict) for report in reports]
    _write_json(options, [_report_record(report, found, tokens.get(report.file)) for report, found in zip(reports, findings, strict=True)])
    if options.json != "-":
        console = Console()
        for report, found in zip(reports, findings, strict=True):
            console.print(Text(str(report.file), style="bold"), soft_wrap=True)
            for line in _summary(report, tokens.get(report.file)):
                console.print(f"  {line}", highlight=False)
            console.print(findings_table(found, str(report.file)) if found else Text("  nothing found", style="green"))
    _end(", ".join(map(str, (report.file for report in reports))) if len(reports) < 3 else f"{len(reports)} files", [f for found in findings for f in found])


def _check_recipe(options: argparse.Namespace) -> None:
    from lawft_trl.recipe import load_recipe

    path = recipe_path(options.target)
    try:
        recipe = load_recipe(path, options.more)
    except InputError as error:
        if path.is_file() or path == Path(options.target):
            raise
        data = "neither a .jsonl or .json file nor a folder" if Path(options.target).exists() else f"no such file or folder (looked in {Path.cwd()})"
        raise InputError(f"{options.target}: no data and no recipe", [f"as data: {data}", f"as a recipe: {error.heading}"]) from None
    from rich.console import Console

    from lawft_trl.doctor.data_files import evaluation_rows
    from lawft_trl.doctor.findings import findings_table, with_strictness
    from lawft_trl.training.check import check_recipe, examine_recipe, print_check, trained_tokens
    from lawft_trl.training.preflight import read_roles

    console = Console(quiet=options.json == "-")
    rows = read_roles(recipe)
    against = {str(path): evaluation_rows(path) for path in options.against}
    findings = with_strictness(examine_recipe(recipe, rows, against, max_output=options.max_output), strict=options.strict)
    record = {"recipe": str(recipe.path), "findings": _finding_records(findings)}
    try:
        checked = check_recipe(recipe, rows)
    except InputError as error:
        # What stops the training may follow from what the rows are: both are shown.
        _write_json(options, [record | {"refused": str(error)}])
        if findings:
            console.print(findings_table(findings, ""))
        raise
    tokens, epochs = trained_tokens(checked)
    cost = _cost(options, recipe.model.name_or_path, tokens, epochs)
    _write_json(options, [record | {"tokens": tokens, "epochs": epochs, "cost": cost}])
    print_check(checked, console, processes=options.processes)
    if cost:
        console.print(f"{tokens} tokens × {epochs:g} epochs: {cost}", highlight=False)
    if findings:
        console.print(findings_table(findings, ""))
    _end(str(recipe.path), findings)


def _end(what: str, findings: "Sequence[Finding]") -> None:
    """Ends with 2 if there is an error; otherwise the check is passed."""
    from lawft_trl.doctor.findings import count_severities

    if any(found.severity == "error" for found in findings):
        raise InputError(f"{what}: {count_severities(findings)} found")


def _tokens(options: argparse.Namespace, reports: "Sequence[Report]") -> "Mapping[Path, dict[str, Any]]":
    """Tokens, their product with the epochs and its cost, per file; nothing where no tokenizer is given."""
    if options.prices and not options.tokenizer:
        raise InputError("--prices needs --tokenizer NAME_OR_PATH: money follows from tokens")
    if not options.tokenizer:
        return {}
    import statistics

    from lawft_trl.data.chat import load_tokenizer
    from lawft_trl.doctor.token_counts import count_tokens

    tokenizer = load_tokenizer(options.tokenizer)
    counted = {}
    for report in reports:
        lengths = count_tokens(report.rows, tokenizer, {"enable_thinking": False})
        if lengths:
            counted[report.file] = {
                "tokenizer": options.tokenizer,
                "min": min(lengths),
                "median": statistics.median(lengths),
                "max": max(lengths),
                "sum": sum(lengths),
                "epochs": options.epochs,
                "cost": _cost(options, options.tokenizer, sum(lengths), options.epochs),
            }
    return counted


def _cost(options: argparse.Namespace, model: str, tokens: int, epochs: float) -> str | None:
    if not options.prices:
        return None
    from lawft_trl.prices import read_prices

    prices = read_prices(options.prices, model, ("training",))
    return f"{prices.of(training=round(tokens * epochs)):,.2f} {prices.currency} (prices of {prices.date})"


def _summary(report: "Report", tokens: dict[str, Any] | None) -> list[str]:
    """What a file holds, in a line or two."""
    from lawft_trl.doctor.data_files import conversations

    figures = report.figures
    letters = "/".join(map(str, figures["letters"].values()))
    lines = [f"{figures['rows']} rows, {figures['questions']} questions, answers a/b/c/d {letters}"]
    if report.rows and all(row.meta.get("mode") == "dialogue" for row in report.rows):
        lines = [f"{conversations(report.rows)} conversations, {figures['rows']} turns"]
    if figures["reasoned_rows"]:
        lines.append(f"{figures['reasoned_rows']} reasoned rows in {figures['reason_templates']} templates")
    if figures["distinct_2"] is not None:
        lines.append(f"distinct-1 {figures['distinct_1']:.3f}, distinct-2 {figures['distinct_2']:.3f} (characters)")
    if tokens:
        lines.append(f"tokens per row, min / median / max: {tokens['min']} / {tokens['median']:g} / {tokens['max']}")
        lines.append(f"{tokens['sum']} tokens × {tokens['epochs']:g} epochs; {tokens['cost'] or 'no price (--prices FILE)'}")
    return lines


def _report_record(report: "Report", findings: "Sequence[Finding]", tokens: dict[str, Any] | None) -> dict[str, Any]:
    return {"file": str(report.file), "role": report.role, **report.figures, "tokens": tokens, "findings": _finding_records(findings)}


def _finding_records(findings: "Sequence[Finding]") -> list[dict[str, Any]]:
    from lawft_trl.doctor.findings import finding_record

    return [finding_record(found) for found in findings]


def _write_json(options: argparse.Namespace, reports: list[dict[str, Any]]) -> None:
    from lawft_trl.folders import write_json

    document = {"reports": reports}
    if options.json == "-":
        print(json.dumps(document, ensure_ascii=False, indent=2))
    elif options.json:
        write_json(Path(options.json), document)
