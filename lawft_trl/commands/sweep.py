"""`lawft sweep`: some settings in every combination, one table and one picture."""

import argparse
from pathlib import Path
from typing import Any

from lawft_trl.commands.recipe import recipe_path


def add(verbs: Any) -> None:
    """Declares the verb."""
    verb = verbs.add_parser(
        "sweep",
        help="train every combination of some settings and compare them on the dev questions",
        description="Trains every combination of the settings with several values, scores each on the dev questions, and says which differ by more "
        "than chance. The held-out questions are not asked. Begun again after an interruption it goes on where it was.",
        epilog="Exit code: 0; 1 when a run failed; 2 for what cannot be swept.",
    )
    verb.add_argument("recipe", help="a YAML file, or its name in recipes/")
    verb.add_argument("settings", nargs="*", metavar="section.key=value[,value...]",
                      help="e.g. training.learning_rate=1e-5,5e-5,2e-4 lora.r=8,16; commas inside brackets belong to a value")  # fmt: skip
    verb.add_argument("--out", type=Path, metavar="FOLDER", help="for the runs and the report (default: runs/sweep/RECIPE)")
    verb.add_argument("--config_file", type=Path, metavar="YAML", help="of accelerate launch, e.g. accelerate_configs/single_gpu.yaml")
    verb.add_argument("--rehearse", action="store_true", help="the whole way on the bundled tiny model, on the CPU")
    verb.add_argument("--force", action="store_true", help="train runs again that were trained with another recipe or other data")
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from lawft_trl.training.sweep import sweep
    from lawft_trl.training.sweep_report import brief_table

    result = sweep(
        recipe_path(options.recipe),
        options.settings,
        out=options.out,
        config_file=options.config_file,
        rehearse=options.rehearse,
        force=options.force,
    )
    console = Console()
    header, *rows = brief_table(result)
    table = Table(title=f"{result['recipe']}: {result['questions']} dev questions", title_justify="left")
    for name in header:
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)
    for sentence in result["verdict"]:
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    for warning in result["warnings"]:
        console.print(f"NOTE: {warning}", highlight=False, markup=False, soft_wrap=True)
    for title, why in result["failed"].items():
        console.print(f"FAILED: {title}: {why}", highlight=False, markup=False, soft_wrap=True)
    report = Path(result["report"])
    console.print(f"Table:   {report}\nPicture: {report.with_suffix('.png')}", highlight=False, markup=False, soft_wrap=True)
    if not result["rehearsal"]:
        console.print(f"Next, once, for the run you choose: {result['next']}", highlight=False, markup=False, soft_wrap=True)
    return 1 if result["failed"] else 0
