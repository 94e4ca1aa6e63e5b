"""`lawft style`: how far replies are in a style, the Socratic one unless a recipe names another, and whether people find so, too."""

import argparse
from pathlib import Path
from typing import Any


def add(verbs: Any) -> None:
    """Declares the verb."""
    patterns = argparse.ArgumentParser(add_help=False)
    patterns.add_argument("--recipe", metavar="RECIPE", help="a YAML file, or its name in recipes/: the patterns of its evaluation.style instead of the Socratic ones")
    style = verbs.add_parser("style", help="score the style of replies, and compare the score with people's ratings (docs/style.md)")
    kinds = style.add_subparsers(required=True, metavar="WHAT")
    score = kinds.add_parser("score", parents=[patterns], help="the style of the replies in a file, with the figures that show when it was had too cheaply")
    score.add_argument("file", type=Path, metavar="FILE.jsonl", help='one reply a line: a string, {"reply": …}, or a row, whose outputs are meant')
    score.add_argument("--each", action="store_true", help="print every reply with its score as well")
    score.set_defaults(run=_score)
    agreement = kinds.add_parser("agree", parents=[patterns], help="rank correlation of the score with people's ratings")
    agreement.add_argument("file", type=Path, metavar="RATINGS.csv", help="the columns reply and rating, and id and rater where there are such")
    agreement.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default 0)")
    agreement.set_defaults(run=_agree)


def _patterns(recipe: str | None) -> Any:
    """What is looked for; `InputError` for a recipe that says nothing of it."""
    from lawft_trl.commands.recipe import recipe_path
    from lawft_trl.errors import InputError
    from lawft_trl.recipe import load_recipe
    from lawft_trl.recipe_style import SOCRATIC, style_patterns

    if recipe is None:
        return SOCRATIC
    style = load_recipe(recipe_path(recipe)).evaluation.style
    if style is None:
        raise InputError(f"{recipe}: no evaluation.style there; {{}} is the Socratic one, which is taken without --recipe")
    return style_patterns(style, str(recipe))


def _score(options: argparse.Namespace) -> None:
    from lawft_trl.evaluation.style import describe_style, score_reply
    from lawft_trl.evaluation.style_files import read_replies

    replies, patterns = read_replies(options.file), _patterns(options.recipe)
    if options.each:
        for reply in replies:
            print(f"{score_reply(reply, patterns):.2f}  {' '.join(reply.split())}")
    figures = describe_style(replies, patterns)
    print(f"style {figures.pop('style'):.3f}, mean of {figures.pop('replies')} replies (0: not Socratic, 1: every sentence wholly)")
    for name, value in figures.items():
        print(f"  {name.replace('_', ' '):18} {value:.3f}" if name not in ("sentences", "characters") else f"  {name:18} {value:.1f} per reply")


def _agree(options: argparse.Namespace) -> None:
    from lawft_trl.evaluation.style_agreement import agree
    from lawft_trl.evaluation.style_files import read_ratings

    found = agree(read_ratings(options.file), _patterns(options.recipe), seed=options.seed)
    print(f"{found['replies']} replies, {found['ratings']} ratings by {found['raters']} rater(s)")
    for name, label in (("spearman", "Spearman's rho"), ("kendall", "Kendall's tau-b")):
        value, low, high = found[name]
        print(f"{label:16} {value:+.3f}, 95 % interval {low:+.3f} to {high:+.3f} (bootstrap over replies)")
    if found["undefined"]:
        print(f"{100 * found['undefined']:.1f} % of the draws were left out: all their scores, or ratings, were equal")
    low, high = found["spearman"][1:]
    if low <= 0 <= high:
        print("The interval holds 0: these ratings are no evidence that the metric measures what people see.")
