"""`lawft data reasons FILE`: from a file of questions to a file of questions with verified reasons."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lawft_trl import __version__
from lawft_trl.data.questions import read_questions, write_questions
from lawft_trl.errors import InputError
from lawft_trl.folders import write_json
from lawft_trl.reasons.cache import open_cache
from lawft_trl.reasons.held_out import held_out_questions, known_splits
from lawft_trl.reasons.teacher import Asking, Outcome, Teacher, ask_teacher, teacher_messages
from lawft_trl.text_files import file_sha256


def summary_file(out: Path) -> Path:
    """Where the summary of `out` is written."""
    return out.with_name(f"{out.stem}.summary.json")


def collect_reasons(
    file: Path,
    out: Path,
    *,
    make_teacher: Callable[[], Teacher],
    asking: Asking,
    where: str,
    cache: Path,
    held_out: Sequence[Path] = (),
    allow_held_out: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Asks a teacher for the reasons of the questions in a file, and writes those that are kept and a summary.

    Questions of an evaluation split are left out before anything is sent, and so are those that have reasons already.

    Args:
        file: questions, JSONL.
        out: the file to write; only when at least one question is kept. The summary is `summary_file(out)`.
        make_teacher: gives the teacher; called when there is something to ask.
        asking: model, parameters and limits.
        where: the endpoint, for the summary.
        cache: folder of the responses.
        held_out: evaluation splits besides those that `held_out.known_splits` finds.
        allow_held_out: ask evaluation questions too.
        force: replace `out` and its summary.

    Returns:
        The summary.

    Raises:
        InputError: when nothing may or can be asked, or the teacher never answered.
    """
    _refuse_existing(file, out, force=force)
    questions = read_questions(file)
    splits = [] if allow_held_out else _evaluation_splits(file, held_out)
    kept_back = held_out_questions(questions, file, splits)
    have_reasons = [question.id for question in questions if question.reasons and question.id not in kept_back]
    asked = [question for question in questions if question.id not in kept_back and not question.reasons]
    if not asked:
        raise InputError(
            f"{file}: no question is left to ask: {len(kept_back)} of {len(questions)} are held out, {len(have_reasons)} have reasons",
            [f"{question}: {reason}" for question, reason in kept_back.items()],
        )
    with open_cache(cache) as responses:
        outcome = ask_teacher(asked, make_teacher(), responses, asking)
    if not outcome.samples and outcome.failed:
        raise InputError(f"{where}: no question was answered; every request failed", list(dict.fromkeys(outcome.failed.values())))
    summary = {
        "file": str(file),
        "sha256": file_sha256(file),
        "made_with": f"lawft-trl {__version__}",
        "teacher": asking.model,
        "endpoint": where,
        "parameters": dict(asking.parameters),
        "samples_per_question": asking.samples,
        "prompts_sha256": hashlib.sha256(json.dumps([teacher_messages(question) for question in asked]).encode()).hexdigest(),
        "questions": len(questions),
        "evaluation_splits": [str(split) for split in splits],
        "held_out": kept_back,
        "with_reasons": have_reasons,
        "asked": len(asked),
        **_counts(outcome, asking),
    }
    if outcome.kept:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f".{out.name}.unfinished")
        try:
            write_questions(temporary, outcome.kept)
            write_json(summary_file(out), summary)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        temporary.replace(out)
    return summary


def _counts(outcome: Outcome, asking: Asking) -> dict[str, Any]:
    price = asking.price
    return {
        "kept": len(outcome.kept),
        "exhausted": outcome.exhausted,
        "failed": outcome.failed,
        "unfinished": outcome.unfinished,
        "stopped": outcome.stopped,
        "samples": outcome.samples,
        "samples_from_cache": outcome.cached,
        "samples_rejected": dict(outcome.rejected.most_common()),
        "sample_of": outcome.sample_of,
        "tokens": {"prompt": outcome.prompt_tokens, "completion": outcome.completion_tokens},
        "cost": price and {
            "amount": round(price.of(input=outcome.prompt_tokens, output=outcome.completion_tokens), 6),
            "currency": price.currency,
            "prices_of": price.date,
        },
    }


def _evaluation_splits(file: Path, named: Sequence[Path]) -> list[Path]:
    sources = list(dict.fromkeys([*known_splits(file), *named]))
    if not sources:
        raise InputError(
            f"{file}: no evaluation split is known, so nobody can say whether these questions are in one",
            [
                f"looked for manifest.json in {file.parent} and in data/*",
                "name the held-out questions with --held-out FILE_OR_FOLDER, or ask them all with --allow-held-out",
            ],
        )
    return sources


def _refuse_existing(file: Path, out: Path, *, force: bool) -> None:
    if out.resolve() == file.resolve():
        raise InputError(f"{out}: this is the file of questions; give another --out")
    there = [path for path in (out, summary_file(out)) if path.exists()]
    if there and not force:
        raise InputError(f"{' and '.join(map(str, there))}: already there; give another --out, or --force to replace it")
