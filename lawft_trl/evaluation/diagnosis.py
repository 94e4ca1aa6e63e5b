"""Why a tuned model is what it is, in words, and what to try next. No torch.

Every finding has a threshold of size and, where chance could make it, a test; a small set yields none. Names, thresholds
and their reasons: docs/evaluation.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lawft_trl.evaluation.answer_findings import Finding, Pair, answer_findings, finding
from lawft_trl.evaluation.metrics import Prediction, content_answers, content_gold, question_groups, share_right
from lawft_trl.evaluation.paired import mcnemar
from lawft_trl.evaluation.report import interval, share
from lawft_trl.evaluation.weak_spots import lowest_part, question_type

_SIGNIFICANT = 0.05
_LEAST_QUESTIONS, _LEAST_GROUPS = 20, 10  # with fewer, no interval over groups can be trusted: nothing is said
_UNCHANGED = 0.05  # of the questions with any change at all
_NEARLY_ALL = 0.95  # right: there was nothing left to learn
_FELL = 0.9  # of the first loss; above it the loss did not fall
_FEW_STEPS = 100  # optimiser steps; the fine-tunes that learned nothing had 6 and 33
_MORE_STEPS = f"Train at least {_FEW_STEPS} steps: training.max_steps where the recipe sets it, else training.num_train_epochs higher, or training.gradient_accumulation_steps lower."
_GAP = 0.10  # between two shares that a test tells apart
_READ = 0.75  # of the questions whose deciding articles are shown; published models answer 81 to 95 % of lawqa_jp then
_LEAST_SHOWN = 30


@dataclass(frozen=True, kw_only=True)
class TrainEvidence:
    """What is known of the training.

    Attributes:
        contaminated: the sentence of a report whose questions touch the training.
        steps: optimiser steps.
        first_loss: the first loss that was logged.
        last_loss: the last one.
        check: the tuned model on a sample of its training questions, asked as the held-out ones: `questions`,
            `correct`, `accuracy`, `interval`.
    """

    contaminated: str | None = None
    steps: int | None = None
    first_loss: float | None = None
    last_loss: float | None = None
    check: Mapping[str, Any] | None = None


def diagnose(
    models: Mapping[str, Mapping[str, Any]],
    predictions: Mapping[str, Sequence[Prediction]],
    questions: Mapping[str, Mapping[str, Any]],
    *,
    train: TrainEvidence | None = None,
    answer: str = "direct",
    statutes: str = "none",
) -> list[Finding]:
    """What is wrong with the last of the models, by what it did and what the first did on the same prompts.

    Args:
        models: name -> `describe_model` of its predictions.
        predictions: name -> predictions; every model was asked the same.
        questions: id -> `describe_question` of its row.
        train: what is known of the training.
        answer: the form of answer that was asked for.
        statutes: what the prompts showed, as in the recipe's pattern.

    Returns:
        Findings `{"name", "says", "try_next"}`, the most important first.
    """
    train = train or TrainEvidence()
    first, last = next(iter(models)), list(models)[-1]
    paired = first != last
    pair = Pair(models[last], predictions[last], models[first] if paired else None, predictions[first] if paired else None)
    found = _contaminated(train)
    groups = question_groups(pair.answers)
    if len(groups) < _LEAST_QUESTIONS or len(set(groups.values())) < _LEAST_GROUPS:
        return found
    broken = answer_findings(pair, answer)
    found += broken
    found += [*_nothing_learned(pair, train), *(_few_steps(pair, train) if not broken else []), *_over_fitting(pair, train)]
    found += [*_retrieval(pair, questions), *(_reading(pair, questions, statutes, train) if not broken else [])]
    return found + _weakest(pair, questions)


def retrieval_figures(
    predictions: Mapping[str, Sequence[Prediction]], questions: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]] | None:
    """Accuracy where a deciding article was among the statutes shown, and where none was.

    Args:
        predictions: name -> predictions of that model.
        questions: id -> `describe_question`, whose `gold_shown` says which it was.

    Returns:
        `hit` and `miss`, each with `questions` and for every model what `share_right` says; `None` where the rows do
        not say what was retrieved.
    """
    shown = {question: record.get("gold_shown") for question, record in questions.items()}
    rights = {name: _right(answers) for name, answers in predictions.items()}
    parts = {}
    for part, wanted in (("hit", True), ("miss", False)):
        ids = [question for question in next(iter(rights.values())) if shown.get(question) is wanted]
        if ids:
            parts[part] = {"questions": len(ids), **{name: share_right([right[question] for question in ids]) for name, right in rights.items()}}
    return parts or None


def _contaminated(train: TrainEvidence) -> list[Finding]:
    if not train.contaminated:
        return []
    return [finding("contaminated", train.contaminated, "Evaluate on rows the training never touched: `lawft eval RUN --test FILE`; splits of `lawft data` share no article.")]


def _nothing_learned(pair: Pair, train: TrainEvidence) -> list[Finding]:
    """The same answers as before."""
    if pair.base is None or pair.base["accuracy"] >= _NEARLY_ALL:
        return []
    before = {(p.id, p.order): p.letter for p in pair.base_answers}
    chosen, now = content_answers(pair.base_answers), content_answers(pair.answers)
    changed = {p.id for p in pair.answers if before[p.id, p.order] != p.letter} | {question for question in now if now[question] != chosen[question]}
    if len(changed) > _UNCHANGED * len(now):
        return []
    says, mend = f"The answers to {len(now) - len(changed)} of {len(now)} questions are those of the base, in every order asked", ""
    if train.steps is not None and train.steps < _FEW_STEPS:
        says += f"; the training had {train.steps} optimiser steps"
        mend = _MORE_STEPS
    if train.first_loss is not None and train.last_loss is not None:
        fell = train.last_loss <= _FELL * train.first_loss
        says += f"; the loss went from {train.first_loss:.3g} to {train.last_loss:.3g}"
        mend = mend or ("The training rows may teach what the base answers already: add others (`lawft data derive`)." if fell else "")
    return [finding("nothing-learned", f"{says}.", mend or "Raise training.learning_rate (2e-4 is usual for LoRA), with lora.target_modules: all-linear.")]


def _few_steps(pair: Pair, train: TrainEvidence) -> list[Finding]:
    """Hardly trained, and not better for it."""
    if pair.base is None or train.steps is None or train.steps >= _FEW_STEPS:
        return []
    before, now = _right(pair.base_answers), _right(pair.answers)
    gained, lost = sum(now[q] > before[q] for q in now), sum(now[q] < before[q] for q in now)
    if gained > lost and mcnemar(gained, lost) < _SIGNIFICANT:
        return []
    return [
        finding(
            "few-steps",
            f"The training had {train.steps} optimiser steps, and these questions do not show that it helped.",
            _MORE_STEPS,
        )
    ]


def _over_fitting(pair: Pair, train: TrainEvidence) -> list[Finding]:
    check, held_out = train.check, pair.model
    if check is None or check["questions"] < _LEAST_QUESTIONS or not _clearly_above(check, held_out):
        return []
    return [
        finding(
            "over-fitting",
            f"{_figures(check)} of the training questions are answered right, of the held-out ones {_figures(held_out)}.",
            "Train fewer epochs, or stop by the dev questions (training.eval_strategy: steps, training.load_best_model_at_end: true and evaluation.early_stopping_patience: 3); "
            "raise lora.lora_dropout; above all add questions (`lawft data derive`).",
        )
    ]


def _retrieval(pair: Pair, questions: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """The search decides what is answered right."""
    parts = retrieval_figures({"model": pair.answers}, questions) or {}
    if len(parts) < 2 or min(part["questions"] for part in parts.values()) < _LEAST_QUESTIONS:
        return []
    hit, miss = parts["hit"]["model"], parts["miss"]["model"]
    if not _clearly_above(hit, miss):
        return []
    return [
        finding(
            "retrieval",
            f"With a deciding article among those retrieved {_figures(hit)} are right, without {_figures(miss)}: the search limits the model.",
            "Measure the search alone (`lawft statutes eval CORPUS`) and show more articles (`lawft data lawqa --top-k`).",
        )
    ]


def _reading(pair: Pair, questions: Mapping[str, Mapping[str, Any]], statutes: str, train: TrainEvidence) -> list[Finding]:
    """The text that decides is there, and does not help enough."""
    right = _right(pair.answers)
    hits = [right[q] for q in right if (questions[q].get("gold_shown") is True if statutes == "retrieved" else statutes == "gold")]
    if len(hits) < _LEAST_SHOWN:
        return []
    figures = share_right(hits)
    if figures["interval"][1] >= _READ:
        return []
    return [
        finding(
            "reading",
            f"Although a deciding article is shown, only {_figures(figures)} are right: the model does not read out of it what decides.",
            (f"{train.steps} optimiser steps are few: {_MORE_STEPS[0].lower()}{_MORE_STEPS[1:]} Then see" if train.steps is not None and train.steps < _FEW_STEPS else "See")
            + " whether the text helps at all: `lawft ladder RUN --statutes none,gold,shuffled`. Then train with gold statutes, if they were not "
            "(pattern.statutes: gold), or with reasons (pattern.answer: cot), or take a larger model (model.name_or_path).",
        )
    ]


def _weakest(pair: Pair, questions: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    right = _right(pair.answers)
    laws = {question: str(questions[question].get("law") or "") for question in right}
    types = {question: question_type(str(questions[question].get("question") or "")) for question in right}
    found = []
    for name, kind, parts in (("lowest-law", "laws", laws), ("lowest-question-type", "types of question", types)):
        lowest = lowest_part(parts, right)
        if lowest is None:
            continue
        before = ""
        if pair.base is not None:
            base = _right(pair.base_answers)
            before = f"; base: {share(np.mean([base[q] for q in base if parts[q] == lowest['part']]))}"
        found.append(
            finding(
                name,
                f"Lowest of {lowest['parts']} {kind} with ten questions or more: {lowest['part']}, {_figures(lowest)}; all others {share(lowest['others'])}"
                f"{before}. Wrong for example: {', '.join(f'`{question}`' for question in lowest['wrong'])}.",
                "Read the wrong answers in questions.jsonl and predictions.jsonl, then add training questions of this kind "
                "(`lawft data derive` for a law, `lawft data questions` for your own).",
            )
        )
    return found


def _figures(part: Mapping[str, Any]) -> str:
    return f"{share(part['accuracy'])} ({part['correct']}/{part['questions']}, 95 % interval {interval(part)})"


def _right(predictions: Sequence[Prediction]) -> dict[str, bool]:
    answers, gold = content_answers(predictions), content_gold(predictions)
    return {question: answers[question] == gold[question] for question in gold}


def _clearly_above(high: Mapping[str, Any], low: Mapping[str, Any]) -> bool:
    """Whether a share of other questions is above one by ten points and by Fisher's exact test."""
    from scipy.stats import fisher_exact  # a second to import, which each start of a training would pay

    table = [[part["correct"], part["questions"] - part["correct"]] for part in (high, low)]
    return high["accuracy"] - low["accuracy"] >= _GAP and fisher_exact(table).pvalue < _SIGNIFICANT


