"""The verbs of `lawft`: each parses its arguments, calls one function and prints what came of it."""

import argparse
import json
import os
import sys
from pathlib import Path

from lawft_trl import __version__
from lawft_trl.errors import InputError
from lawft_trl.quiet import quiet_libraries

SAMPLE = Path(__file__).parent / "assets" / "sample" / "questions.jsonl"
_SAMPLE_ATTRIBUTION = "lawft-trl sample set: fictional statutes and questions made by scripts/make_sample_data.py, Apache-2.0."


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code: 0, or 2 for input that cannot be used."""
    options = _parser().parse_args(arguments)
    quiet_libraries()
    try:
        options.run(options)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _data(options: argparse.Namespace) -> None:
    from lawft_trl.data.build import build_rows
    from lawft_trl.data.lawqa import ATTRIBUTION, find_lawqa, read_lawqa
    from lawft_trl.data.questions import read_questions

    if options.source == "lawqa":
        if options.folder is None:
            raise InputError(
                "lawft data lawqa: where lawqa_jp lies is not known",
                ["give --from FOLDER or set LAWFT_LAWQA_DIR; it is at https://github.com/digital-go-jp/lawqa_jp"],
            )
        file = find_lawqa(options.folder)
        questions, dataset, attribution = read_lawqa(file), "lawqa_jp", ATTRIBUTION
    elif options.source == "sample":
        file, dataset, attribution = SAMPLE, "sample", _SAMPLE_ATTRIBUTION
        questions = read_questions(file)
    else:
        file, dataset, attribution = options.file, options.file.stem, f"From {options.file.name}."
        questions = read_questions(file)
    out = options.out or Path("data") / dataset
    shares = {"test": options.test_share, "dev": options.dev_share}
    manifest = build_rows(
        questions,
        out,
        dataset=dataset,
        source_file=file,
        shares=shares,
        seed=options.seed,
        attribution=attribution,
        force=options.force,
    )
    for name, split in manifest["splits"].items():
        print(f"{name:5} {split['questions']:4} questions in {split['groups']:3} groups, answers {split['answers']}")
    without = sum(not question.statutes for question in questions)
    if without:
        print(f"direct_gold was not written: {without} of {len(questions)} questions show no statutes")
    print(f"{out}: {', '.join(manifest['files'])}, manifest.json (split {manifest['split_sha256'][:12]})")


def _recipe_show(options: argparse.Namespace) -> None:
    from lawft_trl.recipe import load_recipe
    from lawft_trl.recipe_views import resolved_yaml

    print(resolved_yaml(load_recipe(_recipe_path(options.recipe), options.overrides), origins=True), end="")


def _recipe_schema(options: argparse.Namespace) -> None:
    from lawft_trl.recipe_views import json_schema

    print(json.dumps(json_schema(), ensure_ascii=False, indent=2))


def _check(options: argparse.Namespace) -> None:
    from lawft_trl.recipe import load_recipe

    recipe = load_recipe(_recipe_path(options.recipe), options.overrides)
    from rich.console import Console

    from lawft_trl.training.check import check_recipe, print_check

    print_check(check_recipe(recipe), Console(), processes=options.processes)


def _eval(options: argparse.Namespace) -> None:
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


def _recipe_path(name: str) -> Path:
    """A recipe by its path, or by its name in `recipes/`."""
    path = Path(name)
    return path if path.suffix in (".yaml", ".yml") else Path("recipes") / f"{name}.yaml"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lawft",
        description="Fine-tuning open LLMs for Japanese legal work, and proving whether it helped.",
        epilog="Training: accelerate launch lawft_trl/sft.py recipes/NAME.yaml [section.key=value ...]",
    )
    parser.add_argument("--version", action="version", version=f"lawft-trl {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    data = verbs.add_parser("data", help="questions and statutes -> checked, split rows for every pattern")
    sources = data.add_subparsers(required=True, metavar="SOURCE", dest="source")
    lawqa = sources.add_parser("lawqa", help="lawqa_jp of the Digital Agency")
    folder = os.environ.get("LAWFT_LAWQA_DIR")
    lawqa.add_argument("--from", dest="folder", type=Path, default=Path(folder) if folder else None, metavar="FOLDER",
                       help="a clone of lawqa_jp, or one of its JSON files (default: $LAWFT_LAWQA_DIR)")  # fmt: skip
    sources.add_parser("sample", help="the shipped questions on fictional statutes")
    own = sources.add_parser("questions", help="your own questions, one JSON object a line (docs/data.md)")
    own.add_argument("file", type=Path)
    for source in sources.choices.values():
        source.add_argument("--out", type=Path, help="the folder to make (default: data/<data set>)")
        source.add_argument("--test-share", type=float, default=0.3, help="share of held-out questions (default 0.3)")
        source.add_argument("--dev-share", type=float, default=0.1, help="share of dev questions (default 0.1)")
        source.add_argument("--seed", type=int, default=0, help="seed of the split (default 0)")
        source.add_argument("--force", action="store_true", help="replace the folder")
    data.set_defaults(run=_data)

    recipe = verbs.add_parser("recipe", help="look at recipes").add_subparsers(required=True, metavar="VERB")
    show = recipe.add_parser("show", help="the resolved recipe, and where each value comes from")
    show.set_defaults(run=_recipe_show)
    recipe.add_parser("schema", help="a JSON schema of recipes, for editors").set_defaults(run=_recipe_schema)

    check = verbs.add_parser("check", help="everything that can be known about a run before it: rows, tokens, leakage, steps")
    check.add_argument("--processes", type=int, default=1, help="how many processes will train (default 1)")
    check.set_defaults(run=_check)
    for verb in (show, check):
        verb.add_argument("recipe", help="a YAML file, or its name in recipes/")
        verb.add_argument("overrides", nargs="*", metavar="section.key=value")

    evaluate = verbs.add_parser("eval", help="score base and tuned on the held-out questions")
    evaluate.add_argument("path", type=Path, metavar="RUN", help="a finished run, e.g. runs/direct_norag")
    evaluate.add_argument("--test", type=Path, metavar="FILE", help="other rows than the recipe's data.test")
    evaluate.add_argument("--name", help="the evaluation's folder in RUN/eval (default: the test file's name)")
    evaluate.add_argument("--force", action="store_true", help="replace an existing evaluation")
    evaluate.set_defaults(run=_eval)
    return parser


if __name__ == "__main__":
    sys.exit(main())
