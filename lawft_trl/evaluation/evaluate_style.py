"""`lawft eval RUN` of a run on dialogues: base and tuned take the tutor's turns of the held-out ones, and their style is compared."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.data.rows import read_rows, select_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation.figure_look import to_png
from lawft_trl.evaluation.generation import Generation
from lawft_trl.evaluation.held_out import changed_settings, check_overlap, held_out_file, run_tokenizer, with_evaluation
from lawft_trl.evaluation.loading import ask_base, ask_base_and_tuned
from lawft_trl.evaluation.replies import Reply, Turn, dialogue_turns, perplexity, write_replies
from lawft_trl.evaluation.style import score_reply
from lawft_trl.evaluation.style_comparison import ScoredReply, compare_replies, describe_replies, find_gaming
from lawft_trl.evaluation.style_report import PICTURE, draw_styles, render_style_report
from lawft_trl.evaluation.wandb_log import log_style, require_login
from lawft_trl.experiment_log import write_experiment
from lawft_trl.folders import refuse_existing, whole_folder, write_json, write_text
from lawft_trl.model_card import write_model_card
from lawft_trl.recipe import Recipe
from lawft_trl.recipe_style import SOCRATIC, StylePatterns, style_patterns
from lawft_trl.run_dir import FinishedRun, now
from lawft_trl.text_files import file_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_FOR_DIALOGUES = ("max_new_tokens", "batch_size")  # settings that mean something here


def evaluate_style(
    run: FinishedRun,
    *,
    test: Path | None = None,
    name: str | None = None,
    force: bool = False,
    limit: int | None = None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Scores the style of base and tuned and writes `RUN/eval/NAME/`: `metrics.json`, `predictions.jsonl`, `turns.jsonl`,
    `report.md` and `style.png`.

    Args:
        run: a finished run whose recipe has `pattern.answer: dialogue`.
        test: rows to take instead of the recipe's `data.test`.
        name: the evaluation's folder; the test file's name without its ending where none is given.
        force: replace an existing evaluation of that name.
        limit: take the first so many turns only; the warnings then say so.
        settings: keys of the recipe's section `evaluation` with other values; `None` keeps the recipe's.

    Returns:
        The metrics, also written as `metrics.json`: `models` with the figures of `describe_replies` and `perplexity` (of the
        base on the replies), `tutor` with those of the true turns, `comparison` of `compare_replies`, `diagnosis`; under
        `report` where the report is, and under `wandb` where W&B logged it, if it did.

    Raises:
        InputError: when the run, the rows or the options do not fit together.
    """
    settings = _usable(settings)
    recipe = with_evaluation(run.recipe, **settings)
    file = test or held_out_file(run)
    out = run.path / "eval" / (name or "-".join([file.stem, *changed_settings(run.recipe, settings)]))
    refuse_existing(out, force=force, mark="metrics.json", rename="--name")
    if "wandb" in run.recipe.report_to:
        require_login(run.recipe.monitor)
    tokenizer = run_tokenizer(run)
    turns, checked = _held_out_turns(run, recipe, file, tokenizer, limit)
    facts = _facts(run, recipe, file, turns, checked)
    started, started_at = time.monotonic(), now()
    scored, perplexities = _take_turns(run, recipe, turns, tokenizer)
    taken = {"command": sys.argv, "started": started_at, "seconds": round(time.monotonic() - started, 1)}
    metrics = {**facts, **taken, **_figures(scored, perplexities, recipe)}
    replies = {side: scored[side] for side in ("base", "tuned")}
    picture = to_png(draw_styles(metrics, scored))
    _write(out, metrics, turns, replies, picture, force=force)
    write_experiment(run.path)
    write_model_card(run.path)
    logged = {}
    if "wandb" in run.recipe.report_to:
        logged["wandb"] = log_style(metrics, replies, picture, run.recipe.monitor, folder=out)
    return {**metrics, **logged, "report": str(out / "report.md")}


def _held_out_turns(
    run: FinishedRun, recipe: Recipe, file: Path, tokenizer: "PreTrainedTokenizerBase", limit: int | None
) -> tuple[list[Turn], dict[str, Any]]:
    """The tutor's turns of the held-out dialogues, and what the metrics say of their overlap with the training, with warnings."""
    rows = select_rows(read_rows(file, system=recipe.pattern.system), "dialogue", recipe.pattern.statutes, str(file))
    overlap, contaminated, warnings = check_overlap(run, rows)
    if limit is not None and limit < len(rows):
        warnings.append(f"Only the first {limit} of {len(rows)} held-out turns were taken.")
        rows = rows[:limit]
    if run.record.get("rehearsal"):
        warnings.insert(0, "REHEARSAL on the tiny model: the way works; the figures and the verdict mean nothing.")
    turns = dialogue_turns(rows, tokenizer, recipe.pattern.chat_template_kwargs)
    return turns, {"overlap": overlap, "contaminated": contaminated, "warnings": warnings}


def _facts(run: FinishedRun, recipe: Recipe, file: Path, turns: Sequence[Turn], checked: Mapping[str, Any]) -> dict[str, Any]:
    """What the metrics say of what was asked, and how; `checked` is what `_held_out_turns` found."""
    return {
        "run": run.path.name,
        "model": recipe.model.name_or_path,
        "scorer": "style",
        "answer": "dialogue",
        "generation": asdict(Generation.of(recipe.evaluation, "dialogue")),
        "patterns": asdict(_patterns(recipe)),
        "patterns_from": "the recipe's patterns" if recipe.evaluation.style else "the Socratic patterns",
        "statutes": recipe.pattern.statutes,
        "prompt_fingerprint": run.record["identity"]["prompt_fingerprint"],
        "overlap": checked["overlap"],
        "contaminated": checked["contaminated"],
        "rehearsal": bool(run.record.get("rehearsal")),
        "warnings": checked["warnings"],
        "test_file": str(file),
        "test_sha256": file_sha256(file),
        "asked": f"{len(turns)} turns of {len({turn.conversation for turn in turns})} conversations",
    }


def _patterns(recipe: Recipe) -> StylePatterns:
    return SOCRATIC if recipe.evaluation.style is None else style_patterns(recipe.evaluation.style, str(recipe.path))


def _take_turns(
    run: FinishedRun, recipe: Recipe, turns: Sequence[Turn], tokenizer: "PreTrainedTokenizerBase"
) -> tuple[dict[str, list[ScoredReply]], dict[str, float | None]]:
    """What base, tuned model and tutor (`"base"`, `"tuned"`, `"tutor"`) say, scored; and the base's perplexity on it."""
    most = Generation.of(recipe.evaluation, "dialogue").max_new_tokens
    asking = {"template_kwargs": recipe.pattern.chat_template_kwargs, "batch_size": recipe.evaluation.batch_size}

    def take_turns(model: "PreTrainedModel", side: str) -> list[Reply]:
        return write_replies(model, tokenizer, turns, max_new_tokens=most, progress=side, **asking)

    base, tuned = ask_base_and_tuned(run, take_turns)
    said = {"base": base, "tuned": tuned, "tutor": [_true_reply(turn) for turn in turns]}

    def surprise(model: "PreTrainedModel", _: str) -> dict[str, float | None]:
        return {side: perplexity(model, turns, replies, progress=f"perplexity of {side}") for side, replies in said.items()}

    perplexities, patterns = ask_base(run, surprise), _patterns(recipe)
    return {side: _score(turns, replies, patterns) for side, replies in said.items()}, perplexities


def _figures(scored: Mapping[str, Sequence[ScoredReply]], perplexities: Mapping[str, float | None], recipe: Recipe) -> dict[str, Any]:
    """The metrics' `models`, `tutor`, `comparison` and `diagnosis`."""
    patterns, seed = _patterns(recipe), recipe.evaluation.seed
    models = {side: {**describe_replies(replies, patterns, seed=seed), "perplexity": perplexities[side]} for side, replies in scored.items()}
    tutor = models.pop("tutor")
    return {
        "models": models,
        "tutor": tutor,
        "comparison": compare_replies(scored["base"], scored["tuned"], seed=seed),
        "diagnosis": find_gaming(models["base"], models["tuned"], tutor),
    }


def _usable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are given; raises `InputError` for those of four-choice questions."""
    given = {key: value for key, value in settings.items() if value is not None}
    others = [f"--{key.replace('_', '-')}" for key in given if key not in _FOR_DIALOGUES]
    if others:
        raise InputError(f"{', '.join(others)}: of four-choice questions, and this run was trained on dialogues, whose replies are greedy and scored by their style")
    return given


def _true_reply(turn: Turn) -> Reply:
    """What the tutor said, without the end of the turn."""
    return Reply(text=turn.row.output, tokens=turn.output_ids[:-1], cut=False)


def _score(turns: Sequence[Turn], replies: Sequence[Reply], patterns: StylePatterns) -> list[ScoredReply]:
    return [
        ScoredReply(
            id=turn.row.id,
            conversation=turn.conversation,
            group=turn.group,
            prompt_sha256=turn.prompt_sha256,
            reply=reply.text,
            cut=reply.cut,
            style=score_reply(reply.text, patterns),
        )
        for turn, reply in zip(turns, replies, strict=True)
    ]


def _write(out: Path, metrics: Mapping[str, Any], turns: Sequence[Turn], replies: Mapping[str, Sequence[ScoredReply]], picture: bytes, *, force: bool) -> None:
    """Writes the folder, all of it or nothing."""
    asked = [{"id": turn.row.id, "conversation": turn.conversation, "prompt": list(turn.row.prompt), "tutor": turn.row.output} for turn in turns]
    with whole_folder(out, force=force, mark="metrics.json", rename="--name") as folder:
        write_text(folder / "predictions.jsonl", _lines([{"model": side, **asdict(reply)} for side, said in replies.items() for reply in said]))
        write_text(folder / "turns.jsonl", _lines(asked))
        write_text(folder / "report.md", render_style_report(metrics, asked, replies))
        (folder / PICTURE).write_bytes(picture)
        write_json(folder / "metrics.json", metrics)


def _lines(records: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
