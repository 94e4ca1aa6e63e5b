"""`lawft cv`: every question answered by an adapter that never saw its statute group."""

import argparse
from pathlib import Path
from typing import Any

from lawft_trl.commands.recipe import add_recipe_arguments, recipe_path


def add(verbs: Any) -> None:
    """Declares the verb."""
    cv = verbs.add_parser(
        "cv",
        help="grouped cross-validation: one adapter per fold, one report on all questions",
        description="Trains one adapter per fold, scores each on the questions it never saw, and reports on all of them. "
        "Begun again after an interruption it goes on where it was.",
    )
    add_recipe_arguments(cv)
    cv.add_argument("--folds", type=int, metavar="K", help="how many folds (default: as many as the data has)")
    cv.add_argument("--seeds", type=int, default=1, metavar="N",
                    help="train every fold with N seeds, counted up from training.seed (default 1)")  # fmt: skip
    cv.add_argument("--data", type=Path, metavar="FOLDER", help="what `lawft data … --folds K` wrote (default: DATA_K_folds beside the recipe's data set)")
    cv.add_argument("--out", type=Path, metavar="FOLDER", help="for the runs and the report (default: runs/cv/RECIPE)")
    cv.add_argument("--config_file", type=Path, metavar="YAML", help="of accelerate launch, e.g. accelerate_configs/single_gpu.yaml")
    cv.add_argument("--rehearse", action="store_true", help="the whole way on the bundled tiny model, on the CPU")
    cv.add_argument("--force", action="store_true", help="train folds again that were trained with another recipe or other data")
    cv.set_defaults(run=_cv)


def _cv(options: argparse.Namespace) -> None:
    from lawft_trl.training.cross_validation import cross_validate

    metrics = cross_validate(
        recipe_path(options.recipe),
        options.overrides,
        folds=options.folds,
        seeds=options.seeds,
        data=options.data,
        out=options.out,
        config_file=options.config_file,
        rehearse=options.rehearse,
        force=options.force,
    )
    validation, base = metrics["cross_validation"], metrics["models"]["base"]
    for warning in filter(None, [metrics["contaminated"], *metrics["warnings"]]):
        print(f"WARNING: {warning}")
    for fold in validation["per_fold"]:
        print(f"seed {fold['seed']} fold {fold['fold']}: {fold['questions']} questions, base {100 * fold['base']:.1f} %, tuned {100 * fold['tuned']:.1f} %")
    print(f"base   {base['correct']}/{base['questions']} ({100 * base['accuracy']:.1f} %)")
    for result in validation["per_seed"]:
        print(f"tuned  seed {result['seed']}: {_line(result)}")
    if validation["mean"]:
        print(f"mean   of {len(validation['seeds'])} seeds: {_line(validation['mean'])}, standard deviation {100 * validation['spread']:.1f} points")
    print(f"Report: {metrics['report']}")


def _line(result: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in result["interval"])
    return (
        f"{100 * result['accuracy']:.1f} %, {result['verdict']}: {100 * result['difference']:+.1f} points "
        f"[{low:+.1f}, {high:+.1f}], p = {result['p_value']:.2g}"
    )
