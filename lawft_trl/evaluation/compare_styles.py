"""`lawft compare` of evaluations of dialogues: the style of several models' replies to the same turns, paired with the first. No torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.evaluation.folder import find_evaluation
from lawft_trl.evaluation.paired import holm
from lawft_trl.evaluation.style_comparison import (
    ScoredReply,
    compare_replies,
    describe_replies,
    find_gaming,
    judge_style,
)
from lawft_trl.evaluation.style_report import FIGURES, figure_text
from lawft_trl.recipe_style import style_patterns
from lawft_trl.text_files import read_jsonl

SEED = 0  # of the bootstrap and the sign flips
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class StyleSide:
    """One model of one evaluation: as the user named it, the evaluation's folder and metrics, and the model's replies.

    `figures` are of these replies; `diagnosis` are the signs that their style was had too cheaply, beside base and tutor of the
    same evaluation.
    """

    name: str
    model: str
    path: Path
    metrics: dict[str, Any]
    replies: list[ScoredReply]
    figures: dict[str, Any]
    diagnosis: list[dict[str, str]]


def are_styles(names: Sequence[str]) -> bool:
    """Whether what is named are evaluations of dialogues: one at least, and none of anything else that can be read."""
    found = [_is_style(name) for name in names]
    return True in found and False not in found


def _is_style(name: str) -> bool | None:
    """`None` where there is nothing to read, or too much."""
    try:
        metrics = json.loads((find_evaluation(_split(name)[0]) / "metrics.json").read_bytes())
    except (InputError, OSError, ValueError):
        return None
    return isinstance(metrics, dict) and metrics.get("answer") == "dialogue"


def _split(name: str) -> tuple[Path, str]:
    """Path and model of `PATH:MODEL`; the model empty where none is named."""
    path, colon, model = name.rpartition(":")
    return (Path(path), model) if colon and not Path(name).exists() else (Path(name), "")


def read_style_side(name: str, model: str | None = None, *, seed: int = SEED) -> StyleSide:
    """The model that `PATH` or `PATH:MODEL` names; `model`, else the tuned one, where it names none.

    Args:
        name: what the user typed.
        model: of the evaluation, where `name` names none.
        seed: of the bootstrap.

    Raises:
        InputError: when there is no such evaluation of dialogues, it is damaged, or it has no such model.
    """
    path, picked = _split(name)
    folder, wanted = find_evaluation(path), picked or model or "tuned"
    replies: dict[str, list[ScoredReply]] = {}
    try:
        metrics = json.loads((folder / "metrics.json").read_bytes())
        for _, line in read_jsonl(folder / "predictions.jsonl"):
            replies.setdefault(line.pop("model"), []).append(ScoredReply(**line))
        if metrics["answer"] != "dialogue" or set(replies) != set(metrics["models"]):
            raise ValueError("metrics.json and predictions.jsonl are not about the same models")
        patterns = style_patterns(metrics["patterns"], str(folder))
        # The perplexity is the evaluation's own, of the base it was made with
        figures = {each: {**describe_replies(said, patterns, seed=seed), "perplexity": metrics["models"][each]["perplexity"]} for each, said in replies.items()}
        signs = {each: find_gaming(figures["base"], found, metrics["tutor"]) for each, found in figures.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: not an evaluation of dialogues of this version: {error!r:.100}; evaluate again with --force") from error
    if wanted not in replies:
        raise InputError(f"{folder}: no model {wanted!r} there; there is {', '.join(f'{path}:{other}' for other in replies)}")
    return StyleSide(
        name=f"{path}:{wanted}", model=wanted, path=folder, metrics=metrics, replies=replies[wanted], figures=figures[wanted], diagnosis=signs[wanted]
    )


def compare_styles(names: Sequence[str], *, model: str | None = None, seed: int = SEED) -> dict[str, Any]:
    """Compares the style of every model with that of the first, paired by conversation.

    Args:
        names: two or more of what `read_style_side` takes; the first is the reference.
        model: see `read_style_side`.
        seed: of bootstrap and sign flips.

    Returns:
        As `compare_evaluations`: `answer` (`"dialogue"`), `contaminated`, `rehearsal`, `warnings`, `patterns`, `replies`, and `sides`
        with `name`, `path`, `model`, `figures`, `diagnosis` (of `find_gaming`, beside the base and the tutor of its own evaluation),
        and all but the first `comparison`: what `compare_replies` returns, with `holm_p_value`, adjusted for all comparisons made
        here, by which the verdict is made.

    Raises:
        InputError: when they cannot be compared; every difference is named.
    """
    if len(names) < 2:
        raise InputError("name at least two evaluations to compare; two models of one are PATH:base and PATH:tuned")
    sides, problems = [], []
    for name in names:
        try:
            sides.append(read_style_side(name, model, seed=seed))
        except InputError as error:
            problems += [error.heading, *error.problems]
    if problems:
        raise InputError("not everything named can be compared", problems)
    _refuse_different(sides)
    first, *others = sides
    found = [compare_replies(first.replies, other.replies, seed=seed) for other in others]
    for comparison, p_value in zip(found, holm([each["p_value"] for each in found]), strict=True):
        verdict, reason = judge_style(*comparison["interval"], p_value)
        comparison |= {"holm_p_value": p_value, "verdict": verdict, "reason": reason}
    evaluations = {side.path: side.metrics for side in sides}
    return {
        "answer": "dialogue",
        "contaminated": [f"{metrics['contaminated']} ({path})" for path, metrics in evaluations.items() if metrics.get("contaminated")],
        "rehearsal": [f"REHEARSAL: the figures and the verdict mean nothing ({path})" for path, metrics in evaluations.items() if metrics.get("rehearsal")],
        "warnings": [f"{text} ({path})" for path, metrics in evaluations.items() for text in metrics.get("warnings", ()) if not text.startswith("REHEARSAL")],
        "patterns": first.metrics["patterns"],
        "replies": len(first.replies),
        "sides": [
            {"name": side.name, "path": str(side.path), "model": side.model, "figures": side.figures, "diagnosis": side.diagnosis}
            | ({"comparison": comparison} if comparison else {})
            for side, comparison in zip(sides, [None, *found], strict=True)
        ],
    }


def _refuse_different(sides: Sequence[StyleSide]) -> None:
    first, *others = sides
    problems = []
    for other in others:
        here, there = ({reply.id: reply for reply in side.replies} for side in (first, other))
        for side, only in ((first, here.keys() - there.keys()), (other, there.keys() - here.keys())):
            if only:
                problems.append(f"{other.name}: {len(only)} of {len(here.keys() | there.keys())} turns are only in {side.name}: {_some(only)}")
        common = here.keys() & there.keys()
        for what, key in (("another history", "prompt_sha256"), ("another conversation", "conversation"), ("another group", "group")):
            if different := {name for name in common if getattr(here[name], key) != getattr(there[name], key)}:
                problems.append(f"{other.name}: {len(different)} of {len(common)} turns have {what}: {_some(different)}")
        if other.metrics["patterns"] != first.metrics["patterns"]:
            changed = [key for key, value in first.metrics["patterns"].items() if other.metrics["patterns"].get(key) != value]
            problems.append(f"{other.name}: scored by other patterns: {', '.join(changed)}")
    if problems:
        raise InputError(
            f"{first.name} was not asked or scored the same as what is compared with it", [*problems, "take both the same turns: lawft eval RUN --test FILE, with one FILE"]
        )


def _some(names: Any) -> str:
    return ", ".join(sorted(names)[:_NAMED]) + (" …" if len(names) > _NAMED else "")


def style_comparison_lines(result: Mapping[str, Any]) -> list[str]:
    """The comparison for the terminal.

    Args:
        result: what `compare_styles` returned.
    """
    lines = [*result["contaminated"], *result["rehearsal"], *(f"WARNING: {text}" for text in result["warnings"])]
    for number, side in enumerate(result["sides"], start=1):
        figures = side["figures"]
        low, high = figures["interval"]
        lines.append(
            f"{number}  {side['name']}: style {figures['style']:.3f} [{low:.3f}, {high:.3f}], only questions {figures['only_questions']:.0%}, "
            f"same reply {figures['same_reply']:.0%}, distinct-2 {figures['distinct_2']:.2f}"
        )
    for number, side in enumerate(result["sides"], start=1):
        lines += [f"{number}  {_verdict(result, side['comparison'])}"] if "comparison" in side else []
        lines += [f"{number}  {found['name']}: {found['says']}" for found in side["diagnosis"]]
    return [*lines, _how(result)]


def render_style_comparison(result: Mapping[str, Any]) -> str:
    """The comparison as Markdown; its first line says so where an evaluation is contaminated or rehearsed.

    Args:
        result: what `compare_styles` returned.
    """
    sides = result["sides"]
    lines = [f"**{text}**\n" for text in (*result["contaminated"], *result["rehearsal"])]
    lines += [f"# Style, compared with {sides[0]['name']}", "", *(f"> **{text}**\n" for text in result["warnings"])]
    lines += [*(f"{number}. `{side['name']}`" for number, side in enumerate(sides, start=1)), ""]
    lines += [f"| | {' | '.join(str(number) for number in range(1, len(sides) + 1))} |", "|---" * (len(sides) + 1) + "|"]
    lines.append(f"| **style** | {' | '.join(format(side['figures']['style'], '.3f') for side in sides)} |")
    lines += [f"| {name} | {' | '.join(figure_text(key, side['figures'][key]) for side in sides)} |" for key, name in FIGURES.items()]
    lines += ["", *(f"{number}. {_verdict(result, side['comparison'])}" for number, side in enumerate(sides[1:], start=2)), ""]
    if signs := [(number, found) for number, side in enumerate(sides, start=1) for found in side["diagnosis"]]:
        lines += ["## It may be worth less than it seems", "", *(f"- {number}, **{found['name']}**: {found['says']}\n  Next: {found['try_next']}" for number, found in signs), ""]
    lines += [_how(result), ""]
    return "\n".join(lines)


def _verdict(result: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    prefix = "no verdict, the figures alone would say " if result["contaminated"] or result["rehearsal"] else ""
    adjusted = f", Holm p = {found['holm_p_value']:.2g}" if len(result["sides"]) > 2 else ""
    return (
        f"{prefix}{found['verdict']}: {found['difference']:+.3f} [{low:+.3f}, {high:+.3f}], rose in {found['rose']} of {found['conversations']} conversations, "
        f"fell in {found['fell']}, p = {found['p_value']:.2g}{adjusted} ({found['reason']})"
    )


def _how(result: Mapping[str, Any]) -> str:
    found = result["sides"][1]["comparison"]
    return (
        f"{result['replies']} replies in {found['conversations']} conversations of {found['groups']} groups. Style: mean over conversations of the mean over turns; "
        "difference from 1, bootstrap over groups; p: signs of whole groups flipped."
    )
