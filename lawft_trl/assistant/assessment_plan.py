"""What an assessment asks: the pairs, the strategies, the examples, and that none of it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawft_trl.assistant.assessed_pairs import read_assessed
from lawft_trl.assistant.prompting import STRATEGIES, WITH_EXAMPLES
from lawft_trl.data.legal_pairs import LegalPair
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.rows import Row
from lawft_trl.errors import InputError
from lawft_trl.run_dir import read_run
from lawft_trl.text_files import file_sha256


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be asked and how.

    Attributes:
        pairs: held-out pairs (`read_assessed`).
        strategies: of `prompting.STRATEGIES`.
        run: the tuned model's run, whose training rows the pairs must not touch.
        allow_overlap: go on where they do, and say so.
        corpus: statutes corpus that cited articles are looked up in.
        examples: pairs that the strategies with examples show.
        shots: how many.
        limit: only so many pairs, the first.
        injection_pairs: how many contracts are reviewed with an injection; 0 for none.
        max_tokens: of an answer.
        seed: sent with every question, and of bootstrap and sign flips.
        against: an earlier assessment of the same pairs to compare the tuned model with.
    """

    pairs: Path
    strategies: Sequence[str] = ("plain",)
    run: Path | None = None
    allow_overlap: bool = False
    corpus: Path | None = None
    examples: Path | None = None
    shots: int = 2
    limit: int | None = None
    injection_pairs: int = 0
    max_tokens: int = 1024
    seed: int = 0
    against: Path | None = None


def prepare(plan: Plan) -> tuple[list[Row], list[LegalPair], list[LegalPair], dict[str, Any]]:
    """Rows and pairs to ask, the pool of examples, and what the metrics say of all this.

    Raises:
        InputError: for what cannot be asked, and for pairs that the model was trained on.
    """
    unknown = [name for name in plan.strategies if name not in STRATEGIES]
    problems = [f"--strategy {name}: there are {', '.join(STRATEGIES)}" for name in unknown]
    if not plan.strategies:
        problems.append(f"--strategy: name one of {', '.join(STRATEGIES)}")
    if len(set(plan.strategies)) < len(plan.strategies):
        problems.append("--strategy: one is named twice")
    problems += [f"--{name} {value}: expected {least} or more" for name, value, least in (("limit", plan.limit, 1), ("shots", plan.shots, 1), ("injection-pairs", plan.injection_pairs, 0), ("max-tokens", plan.max_tokens, 1)) if value is not None and value < least]
    if set(plan.strategies) & set(WITH_EXAMPLES) and plan.examples is None:
        problems.append(f"--strategy {', '.join(WITH_EXAMPLES)}: name the pairs that may be shown with --examples FILE, the training rows for instance")
    if problems:
        raise InputError(f"{len(problems)} problem(s) with what is to be assessed", problems)
    rows, pairs = read_assessed(plan.pairs)
    overlap, contaminated, warnings = _overlap(plan, rows)
    examples = _examples(plan, rows)
    if plan.limit is not None and plan.limit < len(pairs):
        warnings.append(f"Only the first {plan.limit} of {len(pairs)} held-out pairs were asked.")
        rows, pairs = rows[: plan.limit], pairs[: plan.limit]
    if plan.corpus is None:
        warnings.append("No --corpus: whether cited articles exist was not looked up; all are 未検証.")
    facts = {
        "run": str(plan.run) if plan.run else None,
        "pairs_file": str(plan.pairs),
        "pairs_sha256": file_sha256(plan.pairs),
        "pairs": len(pairs),
        "groups": len({pair.group for pair in pairs}),
        "strategies": list(plan.strategies),
        "shots": plan.shots if examples else 0,
        "examples_file": str(plan.examples) if examples else None,
        "generation": {"temperature": 0.0, "max_tokens": plan.max_tokens, "seed": plan.seed},
        "corpus": str(plan.corpus) if plan.corpus else None,
        "overlap": overlap,
        "contaminated": contaminated,
        "warnings": warnings,
    }
    return rows, pairs, examples, facts


def _overlap(plan: Plan, rows: Sequence[Row]) -> tuple[str, str | None, list[str]]:
    """What is known of the pairs and the training; see `check_overlap`."""
    from lawft_trl.evaluation.held_out import check_overlap

    if plan.run is None:
        return "not checked: no RUN was named", None, ["No RUN was named: whether the tuned model was trained on these pairs was not checked."]
    run = read_run(plan.run)
    try:
        overlap, contaminated, warnings = check_overlap(run, rows)
    except InputError as error:
        if not plan.allow_overlap:
            raise InputError(error.heading, [*error.problems, "take pairs that were held out; --allow-overlap goes on all the same, and the report says so"]) from None
        overlap, contaminated, warnings = error.heading, f"CONTAMINATED: {error.heading.partition(': ')[2]}", []
    if run.record.get("rehearsal"):
        warnings.insert(0, "REHEARSAL on the tiny model: the way works; the figures and the verdicts mean nothing.")
    return overlap, contaminated, warnings


def _examples(plan: Plan, rows: Sequence[Row]) -> list[LegalPair]:
    """The pool of worked examples; none of them may be a held-out pair."""
    if plan.examples is None or not set(plan.strategies) & set(WITH_EXAMPLES):
        return []
    shown, pool = read_assessed(plan.examples)
    leaks = find_overlaps(shown, rows)
    if leaks:
        raise InputError(f"{plan.examples}: {len(leaks)} example(s) are held-out pairs, and would be shown with their answers", [f"{leak.train.source}: {leak.reason} as {leak.test.source}" for leak in leaks])
    return pool
