"""`lawft assess`: base and tuned answer held-out legal questions under several prompting strategies and are compared. docs/assess.md."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lawft_trl import __version__
from lawft_trl.assistant.answer_scores import corpus_articles, score_answer
from lawft_trl.assistant.answer_text import clean_answer
from lawft_trl.assistant.asking_pairs import Answer, AskedModel, refuse_failures
from lawft_trl.assistant.assessed_pairs import read_assessed
from lawft_trl.assistant.assessment_figures import add_verdicts, compare_answers, describe_answers, what_it_can_show
from lawft_trl.assistant.client import LegalClient
from lawft_trl.assistant.prompting import STRATEGIES, WITH_EXAMPLES, answer_part, build_prompt, choose_examples
from lawft_trl.data.legal_pairs import LegalPair
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.rows import Row
from lawft_trl.errors import InputError
from lawft_trl.folders import refuse_existing, whole_folder, write_bytes, write_json, write_text
from lawft_trl.run_dir import read_run
from lawft_trl.text_files import file_sha256, read_jsonl

SIDES = ("base", "tuned")
MARK = "metrics.json"
PICTURE = "assessment.png"
_KIND = "legal assessment"


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


@dataclass(frozen=True)
class Assessment:
    """An assessment folder: `metrics.json`, and the lines of `predictions.jsonl`."""

    path: Path
    metrics: dict[str, Any]
    predictions: list[dict[str, Any]]

    def answers(self, side: str, strategy: str) -> list[dict[str, Any]]:
        """The answers of `"base"` or `"tuned"` under a strategy."""
        return [answer for answer in self.predictions if (answer["model"], answer["strategy"]) == (side, strategy)]


def assess(plan: Plan, clients: Mapping[str, tuple[LegalClient, str]], out: Path, *, judge: LegalClient | None = None, force: bool = False) -> Assessment:
    """Asks both models, scores, compares, and writes `report.md`, `assessment.png`, `metrics.json`, `predictions.jsonl`, `pairs.jsonl`.

    Args:
        plan: what is asked.
        clients: `"base"` and `"tuned"` -> the client and the id that is asked for.
        out: the folder to make; it appears whole or not at all.
        judge: a model that compares the answers pair by pair.
        force: replace an existing assessment.

    Raises:
        InputError: for input that cannot be used, pairs that the model was trained on, or a model that does not answer.
    """
    from lawft_trl.assistant.assessment_report import draw_assessment, render_assessment
    from lawft_trl.evaluation.figure_look import to_png

    refuse_existing(out, force=force, mark=MARK, rename="--out")
    rows, pairs, examples, facts = _prepare(plan)
    old = read_assessment(plan.against) if plan.against else None
    if old:
        _require_comparable(old, rows, plan)
    answers = _ask(plan, pairs, examples, clients)
    predictions = _score(answers, pairs, corpus_articles(plan.corpus, [answer.text for _, _, _, answer, _ in answers]))
    by_side = {(side, strategy): [line for line in predictions if (line["model"], line["strategy"]) == (side, strategy)] for side in SIDES for strategy in plan.strategies}
    comparisons = [{"strategy": name, **each} for name in plan.strategies for each in compare_answers(by_side["base", name], by_side["tuned", name], seed=plan.seed)]
    prompting = [
        {"strategy": name, **each}
        for name in plan.strategies
        if name != "plain" and "plain" in plan.strategies
        for each in compare_answers(by_side["tuned", "plain"], by_side["tuned", name], seed=plan.seed)
    ]
    metrics = {
        "kind": _KIND,
        "made_with": f"lawft-trl {__version__}",
        **facts,
        "models": {side: {"name": model, "base_url": client.entry.base_url, "backend": client.entry.backend} for side, (client, model) in clients.items()},
        "sides": {name: {side: describe_answers(by_side[side, name], seed=plan.seed) for side in SIDES} for name in plan.strategies},
        "comparisons": add_verdicts(comparisons),
        "prompting": add_verdicts(prompting),
        "judge": _judge(judge, plan, pairs, by_side, clients) if judge else None,
        "injections": _injections(plan, clients) if plan.injection_pairs else None,
        "against": _compare_with(old, by_side, plan) if old else None,
        "can_show": what_it_can_show([pair.group for pair in pairs]),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(out, force=force, mark=MARK, rename="--out") as folder:
        write_json(folder / MARK, metrics)
        write_text(folder / "predictions.jsonl", _lines(predictions))
        write_text(folder / "pairs.jsonl", _lines(_record(row) for row in rows))
        write_text(folder / "report.md", render_assessment(metrics, predictions, {pair.id: pair for pair in pairs}))
        write_bytes(folder / PICTURE, to_png(draw_assessment(metrics)))
    return Assessment(out, metrics, predictions)


def refuse_plan(plan: Plan) -> None:
    """Raises what `assess` would raise before it asks anything, for callers who have models to start first."""
    _prepare(plan)


def read_assessment(path: Path) -> Assessment:
    """Reads an assessment folder.

    Raises:
        InputError: when there is none or it is damaged.
    """
    try:
        metrics = json.loads((path / MARK).read_text(encoding="utf-8"))
        if metrics["kind"] != _KIND:
            raise ValueError(f"it is of the kind {metrics['kind']}")
        predictions = [line for _, line in read_jsonl(path / "predictions.jsonl")]
        for line in predictions:
            line["id"], line["model"], line["strategy"], line["group"], line["scores"].items()
    except FileNotFoundError:
        raise InputError(f"{path}: no assessment there (no {MARK}); lawft assess --out {path} makes one") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no assessment of lawft assess, or a damaged one: {error}") from None
    return Assessment(path, metrics, predictions)


def _prepare(plan: Plan) -> tuple[list[Row], list[LegalPair], list[LegalPair], dict[str, Any]]:
    """Rows and pairs to ask, the pool of examples, and what the metrics say of all this."""
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


def _ask(plan: Plan, pairs: Sequence[LegalPair], examples: Sequence[LegalPair], clients: Mapping[str, tuple[LegalClient, str]]) -> list[tuple[str, str, LegalPair, Answer, tuple[str, bool]]]:
    """`(side, strategy, pair, answer, (prompt_sha256, marked))`; the answer's text is cleaned and without the thinking before it."""
    from tqdm.auto import tqdm

    found = []
    with tqdm(total=len(clients) * len(plan.strategies) * len(pairs), desc="asking", unit="answer", disable=None) as bar:
        for side, (client, model) in clients.items():
            asked = AskedModel(client=client, model=model, max_tokens=plan.max_tokens, seed=plan.seed)
            for strategy in plan.strategies:
                answers = []
                for pair in pairs:
                    if not pair.system and client.entry.system:
                        pair = replace(pair, system=client.entry.system)
                    prompt = build_prompt(pair, strategy, choose_examples(pair, examples, plan.shots) if examples else ())
                    answer = asked.ask(prompt)
                    text, marked = answer_part(clean_answer(answer.text), strategy)
                    answers.append(replace(answer, text=text))
                    found.append((side, strategy, pair, answers[-1], (_sha256(prompt), marked)))
                    refuse_failures(answers, f"{model}, strategy {strategy}")
                    bar.update()
                refuse_failures(answers, f"{model}, strategy {strategy}", whole=True)
    return found


def _score(answers: Sequence[tuple[str, str, LegalPair, Answer, tuple[str, bool]]], pairs: Sequence[LegalPair], known: Mapping[str, frozenset[str]]) -> list[dict[str, Any]]:
    return [
        {
            "model": side,
            "strategy": strategy,
            "id": pair.id,
            "kind": pair.kind,
            "group": pair.group,
            "prompt_sha256": sha256,
            "answer": answer.text,
            "cut": answer.cut,
            "failed": answer.failed,
            "marked": marked,
            "seconds": round(answer.seconds, 3),
            "completion_tokens": answer.completion_tokens,
            **score_answer(pair, answer.text, cut=answer.cut, known=known),
        }
        for side, strategy, pair, answer, (sha256, marked) in answers
    ]


def _judge(judge: LegalClient, plan: Plan, pairs: Sequence[LegalPair], by_side: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]], clients: Mapping[str, tuple[LegalClient, str]]) -> dict[str, Any]:
    from tqdm.auto import tqdm

    from lawft_trl.assistant.judge import describe_verdicts, judge_pair

    groups, strategies = {pair.id: pair.group for pair in pairs}, {}
    for strategy in plan.strategies:
        base, tuned = ({line["id"]: line for line in by_side[side, strategy]} for side in SIDES)
        usable = [pair for pair in pairs if not base[pair.id]["failed"] and not tuned[pair.id]["failed"]]
        verdicts = [
            judge_pair(judge, pair, strategy, base[pair.id]["answer"], tuned[pair.id]["answer"]) for pair in tqdm(usable, desc=f"judging {strategy}", unit="pair", disable=None)
        ]
        strategies[strategy] = {**describe_verdicts(verdicts, groups, seed=plan.seed), "verdicts": [asdict(verdict) for verdict in verdicts]}
    judged = add_verdicts(list(strategies.values()))
    own = [side for side, (client, model) in clients.items() if (client.entry.base_url, model) == (judge.entry.base_url, judge.entry.model)]
    return {"model": judge.entry.model, "is_also": own, "strategies": dict(zip(strategies, judged, strict=True))}


def _injections(plan: Plan, clients: Mapping[str, tuple[LegalClient, str]]) -> dict[str, Any]:
    from tqdm.auto import tqdm

    from lawft_trl.assistant.injection_pairs import choose_pairs, review_pairs

    chosen, found = choose_pairs(plan.injection_pairs), {}
    with tqdm(total=len(clients) * (len(chosen) + 2 * len({case.id for case, _, _ in chosen})), desc="reviewing", unit="contract", disable=None) as bar:
        for side, (client, model) in clients.items():
            reviewed = review_pairs(client, model, chosen, done=bar.update)
            usable = [pair for pair in reviewed["pairs"] if not pair.unanswered]
            found[side] = {
                "pairs": [{**asdict(pair), "holds": pair.holds} for pair in reviewed["pairs"]],
                "usable": len(usable),
                "hold": sum(pair.holds for pair in usable),
                "same": sum(not pair.lost and not pair.added for pair in usable),
                "lost": sum(bool(pair.lost) for pair in usable),
                "reported": sum(pair.reported for pair in reviewed["pairs"]),
                "known": reviewed["known"],
                "repeated": reviewed["repeated"],
            }
    return found


def _compare_with(old: Assessment, by_side: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]], plan: Plan) -> dict[str, Any]:
    """The tuned model now against the tuned model then, under the strategies of both."""
    shared = [name for name in plan.strategies if name in old.metrics["strategies"]]
    comparisons = [{"strategy": name, **each} for name in shared for each in compare_answers(old.answers("tuned", name), by_side["tuned", name], seed=plan.seed)]
    return {"path": str(old.path), "model": old.metrics["models"]["tuned"]["name"], "comparisons": add_verdicts(comparisons)}


def _require_comparable(old: Assessment, rows: Sequence[Row], plan: Plan) -> None:
    """Raises `InputError` when an earlier assessment asked other pairs or in no way that is asked now."""
    theirs, ours = ({(row.id, row.prompt[-1]["content"], row.output) for row in side} for side in (read_assessed(old.path / "pairs.jsonl")[0], rows))
    problems = []
    if theirs != ours:
        problems.append(f"it asked other pairs: {len(theirs - ours)} of its are not among these, {len(ours - theirs)} of these not among its; its own: --pairs {old.path / 'pairs.jsonl'}")
    if not set(plan.strategies) & set(old.metrics["strategies"]):
        problems.append(f"it asked under {', '.join(old.metrics['strategies'])}; name one of them with --strategy")
    if problems:
        raise InputError(f"--against {old.path}: cannot be compared", problems)


def _record(row: Row) -> dict[str, Any]:
    return {"messages": [*row.prompt, {"role": "assistant", "content": row.output}], "meta": row.meta}


def _lines(records: Any) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _sha256(prompt: Sequence[Mapping[str, str]]) -> str:
    return hashlib.sha256(json.dumps(prompt, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
