"""`lawft assess`: base and tuned answer held-out legal questions under several prompting strategies and are compared. docs/assess.md."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lawft_trl import __version__
from lawft_trl.assistant.answer_scores import NOTHING_KNOWN, KnownArticles, corpus_articles, score_answer
from lawft_trl.assistant.answer_text import clean_answer
from lawft_trl.assistant.asking_pairs import Answer, AskedModel, refuse_failures
from lawft_trl.assistant.assessed_pairs import read_assessed
from lawft_trl.assistant.assessment_figures import (
    add_verdicts,
    compare_answers,
    describe_answers,
    find_signs,
    what_it_can_show,
)
from lawft_trl.assistant.assessment_plan import Plan, prepare
from lawft_trl.assistant.client import LegalClient, Messages
from lawft_trl.assistant.failures import ModelError
from lawft_trl.assistant.prompting import answer_part, build_prompt, choose_examples
from lawft_trl.data.legal_pairs import LegalPair
from lawft_trl.data.rows import Row
from lawft_trl.errors import InputError
from lawft_trl.folders import refuse_existing, whole_folder, write_bytes, write_json, write_text
from lawft_trl.text_files import read_jsonl

SIDES = ("base", "tuned")
MARK = "metrics.json"
PICTURE = "assessment.png"
_KIND = "legal assessment"


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
        judge: a model that compares the answers pair by pair; it is tried once before they are asked for.
        force: replace an existing assessment.

    Raises:
        InputError: for input that cannot be used, pairs that the model was trained on, or a model that does not answer.
    """
    from lawft_trl.assistant.assessment_report import draw_assessment, render_assessment
    from lawft_trl.assistant.judge import require_judge
    from lawft_trl.evaluation.figure_look import to_png

    refuse_existing(out, force=force, mark=MARK, rename="--out")
    rows, pairs, examples, facts = prepare(plan)
    prompts = {side: _prompts(plan, pairs, examples, client) for side, (client, _) in clients.items()}
    old = read_assessment(plan.against) if plan.against else None
    if old:
        _require_comparable(old, rows, prompts["tuned"], facts["generation"])
    if judge:
        require_judge(judge, pairs[0])
    answers = _ask(plan, pairs, prompts, clients)
    predictions = _score(answers, corpus_articles(plan.corpus, [answer.text for _, _, _, answer, _ in answers]))
    by_side = {(side, strategy): [line for line in predictions if (line["model"], line["strategy"]) == (side, strategy)] for side in SIDES for strategy in plan.strategies}
    comparisons = [{"strategy": name, **each} for name in plan.strategies for each in compare_answers(by_side["base", name], by_side["tuned", name], seed=plan.seed)]
    prompting = [
        {"strategy": name, **each}
        for name in plan.strategies
        if name != "plain" and "plain" in plan.strategies
        for each in compare_answers(by_side["tuned", "plain"], by_side["tuned", name], seed=plan.seed)
    ]
    sides = {name: {side: describe_answers(by_side[side, name], seed=plan.seed) for side in SIDES} for name in plan.strategies}
    judged = add_verdicts(comparisons)
    metrics = {
        "kind": _KIND,
        "made_with": f"lawft-trl {__version__}",
        **facts,
        "models": {side: {"name": model, "base_url": client.entry.base_url, "backend": client.entry.backend} for side, (client, model) in clients.items()},
        "sides": sides,
        "comparisons": judged,
        "signs": {name: find_signs(sides[name], [each for each in judged if each["strategy"] == name]) for name in plan.strategies},
        "prompting": add_verdicts(prompting),
        "judge": _unless_it_fails("judge", lambda: _judge(judge, plan, pairs, by_side, clients), facts["warnings"]) if judge else None,
        "injections": _unless_it_fails("review of hidden orders", lambda: _injections(plan, clients), facts["warnings"]) if plan.injection_pairs else None,
        "against": _compare_with(old, by_side, pairs, plan) if old else None,
        "can_show": what_it_can_show([pair.group for pair in pairs], len(comparisons)),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(out, force=force, mark=MARK, rename="--out") as folder:
        write_json(folder / MARK, metrics)
        write_text(folder / "predictions.jsonl", _lines(predictions))
        write_text(folder / "pairs.jsonl", _lines(_record(row) for row in rows))
        write_text(folder / "report.md", render_assessment(metrics, predictions, {pair.id: pair for pair in pairs}))
        write_bytes(folder / PICTURE, to_png(draw_assessment(metrics)))
    return Assessment(out, metrics, predictions)


def read_assessment(path: Path) -> Assessment:
    """Reads an assessment folder.

    Raises:
        InputError: when there is none or it is damaged.
    """
    try:
        metrics = json.loads((path / MARK).read_text(encoding="utf-8"))
        if metrics["kind"] != _KIND:
            raise ValueError(f"it is of the kind {metrics['kind']}")
        metrics["strategies"], metrics["generation"].items(), metrics["models"]["tuned"]["name"]
        predictions = [line for _, line in read_jsonl(path / "predictions.jsonl")]
        for line in predictions:
            line["id"], line["model"], line["strategy"], line["group"], line["prompt_sha256"], line["answer"], line["cut"], line["failed"], line["scores"].items()
    except FileNotFoundError:
        raise InputError(f"{path}: no assessment there (no {MARK}); lawft assess --out {path} makes one") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no assessment of lawft assess, or a damaged one: {error}") from None
    return Assessment(path, metrics, predictions)


def _prompts(plan: Plan, pairs: Sequence[LegalPair], examples: Sequence[LegalPair], client: LegalClient) -> dict[tuple[str, str], Messages]:
    """What a model is asked: `(strategy, pair)` -> the messages."""
    system = client.entry.system or ""
    return {
        (strategy, pair.id): build_prompt(replace(pair, system=pair.system or system), strategy, choose_examples(pair, examples, plan.shots) if examples else ())
        for strategy in plan.strategies
        for pair in pairs
    }


def _ask(
    plan: Plan, pairs: Sequence[LegalPair], prompts: Mapping[str, Mapping[tuple[str, str], Messages]], clients: Mapping[str, tuple[LegalClient, str]]
) -> list[tuple[str, str, LegalPair, Answer, tuple[str, bool]]]:
    """`(side, strategy, pair, answer, (prompt_sha256, marked))`; the answer's text is cleaned and without the thinking before it."""
    from tqdm.auto import tqdm

    found = []
    with tqdm(total=len(clients) * len(plan.strategies) * len(pairs), desc="asking", unit="answer", disable=None) as bar:
        for side, (client, model) in clients.items():
            asked = AskedModel(client=client, model=model, max_tokens=plan.max_tokens, seed=plan.seed)
            for strategy in plan.strategies:
                answers = []
                for pair in pairs:
                    prompt = prompts[side][strategy, pair.id]
                    answer = asked.ask(prompt)
                    text, marked = answer_part(clean_answer(answer.text), strategy)
                    answers.append(replace(answer, text=text))
                    found.append((side, strategy, pair, answers[-1], (_sha256(prompt), marked)))
                    refuse_failures(answers, f"{model}, strategy {strategy}")
                    bar.update()
                refuse_failures(answers, f"{model}, strategy {strategy}", whole=True)
    return found


def _score(answers: Sequence[tuple[str, str, LegalPair, Answer, tuple[str, bool]]], known: KnownArticles) -> list[dict[str, Any]]:
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


def _unless_it_fails(what: str, work: Callable[[], dict[str, Any]], warnings: list[str]) -> dict[str, Any] | None:
    """What comes after the answers; `None`, and a warning, where it cannot be done: the answers and their scores are not lost with it."""
    try:
        return work()
    except ModelError as error:
        warnings.append(f"No {what}, it was broken off: {type(error).__name__}, {error}")
        return None


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


def _compare_with(old: Assessment, by_side: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]], pairs: Sequence[LegalPair], plan: Plan) -> dict[str, Any]:
    """The tuned model now against the tuned model then, under the strategies of both; the old answers are scored anew, so that both
    are by the rubric and the rules of now."""
    named = {pair.id: pair for pair in pairs}
    shared = [name for name in plan.strategies if name in old.metrics["strategies"]]
    comparisons = []
    for name in shared:
        then = [
            {**line, "group": named[line["id"]].group, **score_answer(named[line["id"]], line["answer"], cut=line["cut"], known=NOTHING_KNOWN)} for line in old.answers("tuned", name)
        ]
        comparisons += [{"strategy": name, **each} for each in compare_answers(then, by_side["tuned", name], seed=plan.seed)]
    return {"path": str(old.path), "model": old.metrics["models"]["tuned"]["name"], "comparisons": add_verdicts(comparisons)}


def _require_comparable(old: Assessment, rows: Sequence[Row], prompts: Mapping[tuple[str, str], Messages], generation: Mapping[str, Any]) -> None:
    """Raises `InputError` when an earlier assessment asked the tuned model something else, or in another way."""
    own = old.path / "pairs.jsonl"
    theirs, ours = ({(row.id, row.prompt[-1]["content"]) for row in side} for side in (read_assessed(own)[0], rows))
    strategies = dict.fromkeys(name for name, _ in prompts)
    shared = [name for name in strategies if name in old.metrics["strategies"]]
    problems = []
    if theirs != ours:
        problems.append(f"it asked other pairs: {len(theirs - ours)} of its are not among these, {len(ours - theirs)} of these not among its; its own: --pairs {own}")
    if not shared:
        problems.append(f"it asked under {', '.join(old.metrics['strategies'])}; name one of them with --strategy")
    then = old.metrics["generation"]
    problems += [f"{key} was {then.get(key)} and is {value}; the same: --{key.replace('_', '-')} {then.get(key)}" for key, value in generation.items() if then.get(key) != value]
    for name in shared if theirs == ours else ():
        other = [line["id"] for line in old.answers("tuned", name) if line["prompt_sha256"] != _sha256(prompts[name, line["id"]])]
        if other:
            problems.append(f"strategy {name}: {len(other)} of {len(ours)} prompts were others: another system message, or other --examples or --shots; its own: --pairs {own}")
    if problems:
        raise InputError(f"--against {old.path}: cannot be compared", problems)


def _record(row: Row) -> dict[str, Any]:
    return {"messages": [*row.prompt, {"role": "assistant", "content": row.output}], "meta": row.meta}


def _lines(records: Any) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _sha256(prompt: Sequence[Mapping[str, str]]) -> str:
    return hashlib.sha256(json.dumps(prompt, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
