"""The same questions with no statutes, with retrieved ones, with the deciding ones, asked in several ways: what helps?

A *rung* is one way of asking: which statutes the prompt shows, which form of answer it asks for, and what stands before
the question. Base and tuned climb every rung on the same questions, so that any two of them can be paired.
"""

import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lawft_trl.data.prompts import Answer, build_messages
from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.data.rows import Row, read_rows, row_question
from lawft_trl.errors import InputError
from lawft_trl.evaluation.asking import Asked, ask, unique_questions
from lawft_trl.evaluation.diagnosis import retrieval_figures
from lawft_trl.evaluation.evaluate import make_scorer
from lawft_trl.evaluation.figure_look import to_svg
from lawft_trl.evaluation.figures import draw_accuracies
from lawft_trl.evaluation.folder import describe_questions
from lawft_trl.evaluation.held_out import check_overlap, describe_held_out, held_out_file, how_to_ask, run_tokenizer
from lawft_trl.evaluation.ladder_report import render_ladder
from lawft_trl.evaluation.loading import ask_base_and_tuned
from lawft_trl.evaluation.metrics import Prediction, compare, describe_model, judge
from lawft_trl.evaluation.paired import holm
from lawft_trl.folders import refuse_existing, whole_folder, write_json
from lawft_trl.run_dir import read_run

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Statutes = Literal["none", "retrieved", "gold", "shuffled"]
Prompting = Literal["plain", "system", "few-shot"]

STATUTES: tuple[Statutes, ...] = ("none", "retrieved", "gold", "shuffled")
PROMPTINGS: tuple[Prompting, ...] = ("plain", "system", "few-shot")
SYSTEM = "あなたは日本の法令に精通した法律実務家です。条文の文言と要件を一つずつ確かめてから答えてください。"

_FOLDERS = {"none": "norag", "retrieved": "rag", "gold": "gold", "shuffled": "gold"}  # of the rows, behind `direct_` or `cot_`
_PASSAGE_KEYS = ("passages", "gold_shown", "gold_missing", "context", "provisions")


@dataclass(frozen=True)
class Rung:
    """One way of asking.

    Attributes:
        statutes: `"shuffled"` shows the deciding statutes of another question.
        answer: the form of answer.
        prompting: `"plain"` as the run was trained; `"system"` with a system message; `"few-shot"` after four solved
            training questions, one for each letter.
    """

    statutes: Statutes
    answer: Answer
    prompting: Prompting

    def __str__(self) -> str:
        return f"{self.statutes}, {self.answer}, {self.prompting}"


def climb(
    path: Path,
    *,
    statutes: Sequence[Statutes] = STATUTES,
    answers: Sequence[Answer] = ("direct",),
    promptings: Sequence[Prompting] = ("plain",),
    system: str = SYSTEM,
    data: Path | None = None,
    limit: int | None = None,
    name: str = "ladder",
    force: bool = False,
) -> dict[str, Any]:
    """Asks base and tuned every combination and writes `RUN/ladders/NAME/`.

    Args:
        path: a finished run.
        statutes: what the prompts show; the rows are those of the data set's `*_norag`, `*_rag` and `*_gold` folders.
        answers: forms of answer; reasoned ones are generated and parsed.
        promptings: what stands before the question.
        system: the system message of the prompting `"system"`.
        data: the data set's folder; by default the one the run's held-out rows lie in.
        limit: the first so many questions only.
        name: the folder's name.
        force: replace an existing one.

    Returns:
        What is in `ladder.json`: `rungs` (how, and each model's figures), `tests` (pairs with difference, interval, p
        and Holm-adjusted p among all of them), and under `report` where the report is.

    Raises:
        InputError: when rows for a rung are missing or the rungs do not ask the same questions.
    """
    run = read_run(path)
    out = run.path / "ladders" / name
    refuse_existing(out, force=force, mark="ladder.json", rename="--name")
    how_to_ask(run.recipe)  # refuses dialogues
    tokenizer, recipe = run_tokenizer(run), run.recipe
    data = data or held_out_file(run).parent.parent
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: expected at least 1")
    rungs = [Rung(*combination) for combination in itertools.product(statutes, answers, promptings)]
    rows = _rows(data, rungs, recipe.pattern.system, limit)
    file = Path(next(iter(rows.values()))[0].source.rpartition(":")[0])
    overlap, contaminated, warnings = check_overlap(run, next(iter(rows.values())))
    if limit is not None:
        warnings.append(f"Only the first {limit} held-out questions were asked.")
    if run.record.get("rehearsal"):
        warnings.insert(0, "REHEARSAL on the tiny model: the way works; the figures mean nothing.")
    asked = {rung: _ask(rung, rows[rung], tokenizer, recipe, data, system) for rung in rungs}

    scorers = {rung: make_scorer(recipe, tokenizer, how_to_ask(recipe, None, rung.answer)[0], rung.answer) for rung in rungs}

    def climb_all(model: "PreTrainedModel", side: str) -> dict[Rung, list[Prediction]]:
        return {rung: scorers[rung](model, asked[rung], f"{side}: {rung}") for rung in rungs}

    predictions: dict[str, dict[Rung, list[Prediction]]] = dict(zip(("base", "tuned"), ask_base_and_tuned(run, climb_all), strict=True))

    seed = recipe.evaluation.seed
    trained = Rung(recipe.pattern.statutes, how_to_ask(recipe)[1], "plain")
    ladder = {
        "run": path.name,
        "model": recipe.model.name_or_path,
        "trained": str(trained),
        "system": system if "system" in promptings else None,
        **describe_held_out(file, next(iter(rows.values())), next(iter(asked.values()))),
        "overlap": overlap,
        "contaminated": contaminated,
        "rehearsal": bool(run.record.get("rehearsal")),
        "warnings": warnings,
        "rungs": [
            {**vars(rung), "name": str(rung), "trained": rung == trained}
            | {side: describe_model(answers[rung], seed=seed) for side, answers in predictions.items()}
            | {"retrieval": _by_hit(asked[rung], {side: answers[rung] for side, answers in predictions.items()})}
            for rung in rungs
        ],
        "tests": _tests(predictions, rungs, trained, seed),
    }
    _write(out, ladder, predictions, force=force)
    return {**ladder, "report": str(out / "report.md")}


def _rows(data: Path, rungs: Sequence[Rung], system: str | None, limit: int | None) -> dict[Rung, list[Row]]:
    """The rows of every rung: the same questions in the same order.

    Raises:
        InputError: with every rung that has no rows, or other questions.
    """
    rows, problems = {}, []
    for rung in rungs:
        try:
            found = sorted(unique_questions(_read(data, rung, "test", system)), key=lambda row: row.id)[:limit]
            rows[rung] = _shuffled(found) if rung.statutes == "shuffled" else found
        except InputError as error:
            problems.append(str(error))
    asked = {rung: [row.id for row in found] for rung, found in rows.items()}
    problems += [
        f"{rung}: asks {len(ids)} questions, {rungs[0]} {len(asked[rungs[0]])}, and they are not the same; make the data set's folders with one command"
        for rung, ids in asked.items()
        if rungs[0] in asked and ids != asked[rungs[0]]
    ]
    if problems:
        raise InputError(f"{data}: not every rung can be asked", dict.fromkeys(problems))
    return rows


def _read(data: Path, rung: Rung, split: str, system: str | None, form: Answer | None = None) -> list[Row]:
    """The rows of a split with this rung's statutes; those of direct answers are rendered again where others are wanted."""
    forms = [form] if form else [rung.answer, "direct"]
    places = [data / f"{form}_{_FOLDERS[rung.statutes]}" for form in forms]
    for place in places:
        files = sorted(place.glob(f"{split}_*.jsonl"))
        if len(files) > 1:
            raise InputError(f"{place}: {len(files)} files match {split}_*.jsonl, expected one")
        if files:
            return read_rows(files[0], system=system)
    raise InputError(f"{rung}: no {split}_*.jsonl in {' or '.join(map(str, places))}; `lawft data` writes it, or leave it out (--statutes, --answers)")


def _shuffled(rows: Sequence[Row]) -> list[Row]:
    """The rows with the deciding statutes of another group's question, by a draw that is always the same."""
    places = list(range(len(rows)))
    random.Random("shuffled").shuffle(places)
    groups = [str(row.meta.get("group") or row.id) for row in rows]
    given = {}
    for index, place in enumerate(places):
        later = (places[(index + step) % len(places)] for step in range(1, len(places)))
        other = next((other for other in later if groups[other] != groups[place]), None)
        if other is None:
            raise InputError("shuffled: all questions are about the same statutes; leave it out (--statutes)")
        given[place] = _with_statutes(rows[place], rows[other].meta.get("statutes") or [])
    return [given[place] for place in range(len(rows))]


def _with_statutes(row: Row, statutes: Sequence[str]) -> Row:
    question = row_question(row)
    if question is None:
        raise InputError(f"{row.source}: cannot be shown with other statutes, because lawft data did not render it")
    prompt = build_messages(question, answer=row.meta.get("mode") or "direct", statutes=statutes, system=row.system)
    meta = {key: value for key, value in row.meta.items() if key not in _PASSAGE_KEYS} | {"statutes": list(statutes)}
    return replace(row, prompt=tuple(prompt), meta=meta)


def _ask(rung: Rung, rows: Sequence[Row], tokenizer: Any, recipe: Any, data: Path, system: str) -> list[Asked]:
    examples = []
    if rung.prompting == "system":
        rows = [_with_system(row, system) for row in rows]
    elif rung.prompting == "few-shot":
        examples = _examples(data, rung, {str(row.meta.get("group") or row.id) for row in rows})
    return ask(
        rows,
        tokenizer,
        recipe.pattern.chat_template_kwargs,
        answer=rung.answer,
        letters=how_to_ask(recipe, None, rung.answer)[0] == "letters",
        orders=ORDERS[: recipe.evaluation.orders],
        examples=examples,
        trim_to=recipe.max_length if recipe.data.overlong == "trim_statutes" and not examples else None,
    )


def _with_system(row: Row, system: str) -> Row:
    turns = [message for message in row.prompt if message["role"] != "system"]
    return replace(row, prompt=({"role": "system", "content": system}, *turns))


def _examples(data: Path, rung: Rung, held_out: set[str]) -> list[dict[str, str]]:
    """Four solved questions of the training split, one for each letter, each of another group, in an order that is always the same."""
    rows = [row for row in _read(data, rung, "train", None, form=rung.answer) if str(row.meta.get("group") or row.id) not in held_out]
    random.Random("few-shot").shuffle(rows)
    chosen: dict[str, Row] = {}
    groups: set[str] = set()
    for row in rows:
        group = str(row.meta.get("group") or row.id)
        if row.gold in LETTERS and row.gold not in chosen and group not in groups:
            chosen[row.gold] = row
            groups.add(group)
    if len(chosen) < len(LETTERS):
        raise InputError(f"{rung}: the training rows do not give an example for each letter from different groups; leave out few-shot (--promptings)")
    return [turn for row in chosen.values() for turn in (row.prompt[-1], {"role": "assistant", "content": row.output})]


def _by_hit(asked: Sequence[Asked], predictions: Mapping[str, Sequence[Prediction]]) -> dict[str, Any] | None:
    """Each model's figures where a deciding article was among the retrieved ones, and where not; `None` without retrieval."""
    if not any("passages" in item.row.meta for item in asked):
        return None
    return retrieval_figures(predictions, {question["id"]: question for question in describe_questions(asked)})


def _tests(predictions: Mapping[str, Mapping[Rung, Sequence[Prediction]]], rungs: Sequence[Rung], trained: Rung, seed: int) -> list[dict[str, Any]]:
    """Every comparison that answers a question somebody has, with p-values adjusted among all of them (Holm)."""
    pairs: list[tuple[str, tuple[str, Rung], tuple[str, Rung]]] = []
    for rung in rungs:
        pairs.append(("tuning", ("base", rung), ("tuned", rung)))
    for side, rung in itertools.product(predictions, rungs):
        if rung.prompting != "plain":
            pairs.append(("prompting", (side, replace(rung, prompting="plain")), (side, rung)))
        if rung.answer == "cot":
            pairs.append(("reasons", (side, replace(rung, answer="direct")), (side, rung)))
        if rung.statutes in ("retrieved", "gold"):
            pairs.append(("statutes", (side, replace(rung, statutes="none")), (side, rung)))
        if rung.statutes == "gold":
            pairs.append(("reading", (side, replace(rung, statutes="shuffled")), (side, rung)))
    pairs += [("tuning or prompting", ("base", rung), ("tuned", trained)) for rung in rungs if rung.statutes == trained.statutes and rung != trained]
    found = []
    for question, (first_side, first), (second_side, second) in pairs:
        if first not in rungs or second not in rungs:
            continue
        paired = compare(_unhashed(predictions[first_side][first]), _unhashed(predictions[second_side][second]), seed=seed)
        sides = [(first_side, first), (second_side, second)]
        found.append({"question": question, "first": f"{first_side}: {first}", "second": f"{second_side}: {second}", "sides": sides, **paired})
    for test, adjusted in zip(found, holm([test["p_value"] for test in found]), strict=True):
        test["holm_p"] = adjusted
        figures = [describe_model(predictions[side][rung]) for side, rung in test.pop("sides")]
        test["verdict"], test["reason"] = judge(*test["interval"], max(adjusted, test["group_p_value"]), *figures)
    return found


def _unhashed(predictions: Sequence[Prediction]) -> list[Prediction]:
    """For pairing by question and order: prompts differ on purpose here."""
    return [replace(prediction, prompt_sha256="") for prediction in predictions]


def _write(out: Path, ladder: Mapping[str, Any], predictions: Mapping[str, Mapping[Rung, Sequence[Prediction]]], *, force: bool) -> None:
    shown = [
        (f"{rung['name']}: {side}", rung[side]["accuracy"], *rung[side]["interval"]) for rung in ladder["rungs"] for side in predictions
    ]
    out.parent.mkdir(exist_ok=True)
    with whole_folder(out, force=force, mark="ladder.json", rename="--name") as folder:
        with (folder / "predictions.jsonl").open("w", encoding="utf-8") as stream:
            for side, rung in itertools.product(predictions, predictions["base"]):
                for prediction in predictions[side][rung]:
                    stream.write(json.dumps({"model": side, "rung": str(rung), **prediction.to_record()}, ensure_ascii=False) + "\n")
        write_json(folder / "ladder.json", ladder)
        (folder / "ladder.svg").write_text(to_svg(draw_accuracies(shown, title=f"{ladder['run']}: accuracy with 95 % intervals")), encoding="utf-8")
        (folder / "report.md").write_text(render_ladder(ladder), encoding="utf-8")
