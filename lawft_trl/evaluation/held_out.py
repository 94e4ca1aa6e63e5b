"""What an evaluation of a run asks: its held-out questions, as prompts in the form it was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.data.chat import load_tokenizer, prompt_fingerprint
from lawft_trl.data.prompts import Answer
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.questions import ORDERS
from lawft_trl.data.rows import Row, read_rows, select_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation.asking import Asked, ask, unique_questions
from lawft_trl.evaluation.generation import Generation
from lawft_trl.evaluation.training_evidence import training_rows
from lawft_trl.folders import refuse_existing
from lawft_trl.recipe import Recipe
from lawft_trl.run_dir import FinishedRun, read_run
from lawft_trl.text_files import file_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """An evaluation that is about to be made.

    Attributes:
        run: the finished run.
        recipe: its recipe, with what of the section `evaluation` is to be otherwise.
        file: where the questions are from.
        out: the evaluation folder to make.
        scorer: `"letters"` or `"generate"`.
        answer: the form of answer that is asked for.
        tokenizer: the run's.
        rows: one row per question.
        asked: the prompts.
        facts: what the metrics say of all this, the same whoever answers.
    """

    run: FinishedRun
    recipe: Recipe
    file: Path
    out: Path
    scorer: str
    answer: Answer
    tokenizer: "PreTrainedTokenizerBase"
    rows: Sequence[Row]
    asked: Sequence[Asked]
    facts: dict[str, Any]

    def ask(self, rows: Sequence[Row]) -> list[Asked]:
        """Prompts of rows, asked as these are."""
        recipe = self.recipe
        return ask(
            rows,
            self.tokenizer,
            recipe.pattern.chat_template_kwargs,
            answer=self.answer,
            letters=self.scorer == "letters",
            orders=ORDERS[: recipe.evaluation.orders],
            trim_to=recipe.max_length if recipe.data.overlong == "trim_statutes" else None,
        )


def prepare(
    path: Path,
    *,
    test: Path | None,
    name: str | None,
    force: bool,
    limit: int | None,
    scorer: str | None,
    answer: Answer | None,
    settings: Mapping[str, Any],
    served: bool = False,
) -> HeldOut:
    """Reads a run and its held-out questions and makes the prompts; `evaluate_run` says what the arguments mean.

    Raises:
        InputError: when the run, the rows or the prompt do not fit together, or the folder is taken.
    """
    run = read_run(path)
    file = test or held_out_file(run)
    recipe = with_evaluation(run.recipe, **settings)
    scorer, answer, usual = how_to_ask(recipe, scorer, answer)
    _refuse_generation_settings(scorer, settings)
    how = [answer, "served"] if served else [] if usual else [answer, scorer]
    out = run.path / "eval" / (name or "-".join([file.stem, *how, *changed_settings(run.recipe, settings)]))
    refuse_existing(out, force=force, mark="metrics.json", rename="--name")
    tokenizer = run_tokenizer(run)
    rows = questions_to_score(recipe, read_rows(file, system=recipe.pattern.system), file, answer)
    overlap, contaminated, warnings = check_overlap(run, rows)
    if limit is not None and limit < len(rows):
        warnings.append(f"Only the first {limit} of {len(rows)} held-out questions were asked.")
        rows = rows[:limit]
    rehearsal = bool(run.record.get("rehearsal"))
    if rehearsal:
        warnings.insert(0, "REHEARSAL on the tiny model: the way works; the figures and the verdict mean nothing.")
    facts = {
        "run": path.name,
        "model": recipe.model.name_or_path,
        "scorer": scorer,
        "answer": answer,
        "generation": asdict(Generation.of(recipe.evaluation, answer)) if scorer == "generate" else None,
        "statutes": recipe.pattern.statutes,
        "prompt_fingerprint": run.record["identity"]["prompt_fingerprint"],
        "overlap": overlap,
        "contaminated": contaminated,
        "rehearsal": rehearsal,
        "warnings": warnings,
    }
    held_out = HeldOut(
        run=run, recipe=recipe, file=file, out=out, scorer=scorer, answer=answer, tokenizer=tokenizer, rows=rows, asked=(), facts=facts
    )
    asked = held_out.ask(rows)
    return replace(held_out, asked=asked, facts={**facts, **describe_held_out(file, rows, asked)})


def _refuse_generation_settings(scorer: str, settings: Mapping[str, Any]) -> None:
    given = [name for name in ("samples", "temperature", "max_new_tokens") if settings.get(name) is not None]
    if scorer == "letters" and given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"{options}: only for generated answers, and letters are scored here; add --scorer generate")


def with_evaluation(recipe: Recipe, **settings: Any) -> Recipe:
    """The recipe with other values in its section `evaluation`; `None` keeps what the recipe says."""
    given = {key: value for key, value in settings.items() if value is not None}
    return replace(recipe, values={**recipe.values, "evaluation": {**recipe.values["evaluation"], **given}})


def changed_settings(recipe: Recipe, settings: Mapping[str, Any]) -> list[str]:
    """`["samples5"]` for settings that change what is answered and are not the recipe's, for an evaluation's name."""
    own = recipe.values["evaluation"]
    return [f"{key}{value}" for key, value in settings.items() if key != "batch_size" and value not in (None, own[key])]


def how_to_ask(recipe: Recipe, scorer: str | None = None, answer: Answer | None = None) -> tuple[str, Answer, bool]:
    """Scorer and form of answer, what is asked for before what the recipe says; and whether they are the recipe's.

    Raises:
        InputError: for letters of reasoned answers, and for a recipe of dialogues, which has neither.
    """
    if recipe.pattern.answer == "dialogue":
        raise InputError(
            f"{recipe.path}: this asks four-choice questions, and pattern.answer is dialogue; the style of its replies: lawft eval RUN, and lawft compare between runs"
        )
    usual_answer: Answer = "cot" if recipe.pattern.answer == "cot" else "direct"
    answer = answer or usual_answer
    usual_scorer = "generate" if answer == "cot" else recipe.evaluation.scorer or "letters"
    scorer = scorer or usual_scorer
    if scorer == "letters" and answer == "cot":
        raise InputError("the scorer `letters` reads direct answers only; use `generate` for reasoned answers")
    return scorer, answer, (scorer, answer) == (usual_scorer, usual_answer)


def describe_held_out(file: Path, rows: Sequence[Row], asked: Sequence[Asked]) -> dict[str, Any]:
    """Which questions were asked, in how many orders, about the law of which day."""
    return {
        "law_as_of": sorted({str(row.meta.get("law_as_of") or "") for row in rows}),
        "test_file": str(file),
        "test_sha256": file_sha256(file),
        "asked": _how_asked(rows, asked),
        "groups": len({str(row.meta.get("group") or row.id) for row in rows}),
    }


def _how_asked(rows: Sequence[Row], asked: Sequence[Asked]) -> str:
    orders = len(asked) / len(rows)
    how = {4: "in four orders each", 1: "in one order"}.get(orders, f"in {orders:.1f} orders on average each")
    text = f"{len(rows)} questions {how}"
    passages = {row.id: len(row.meta.get("statutes") or []) for row in rows}
    trimmed = {item.row.id for item in asked if len(item.row.meta.get("statutes") or []) < passages[item.row.id]}
    return text + (f", {len(trimmed)} of them with fewer statutes to fit training.max_length" if trimmed else "")


def held_out_file(run: FinishedRun) -> Path:
    """The file the run's recipe holds out; its name may be a pattern there.

    Raises:
        InputError: when it names none.
    """
    held_out = run.record["identity"]["data"].get("test")
    if not held_out:
        raise InputError(f"{run.path}: the recipe has no data.test; name held-out rows with --test FILE")
    return Path(held_out[0]["file"])


def run_tokenizer(run: FinishedRun) -> "PreTrainedTokenizerBase":
    """The run's tokenizer, after finding that it makes the prompts the run was trained on.

    Raises:
        InputError: when the model would be asked another prompt.
    """
    tokenizer, pattern = load_tokenizer(str(run.path)), run.recipe.pattern
    _require_same_prompt(run, prompt_fingerprint(tokenizer, system=pattern.system, template_kwargs=pattern.chat_template_kwargs))
    return tokenizer


def questions_to_score(recipe: Recipe, rows: Sequence[Row], file: Path, answer: Answer) -> list[Row]:
    """The rows of those read from `file` that ask for this form of answer, one per question.

    Where none does, those of the other form: `ask` renders them again.
    """
    modes = {row.meta.get("mode") for row in rows}
    return unique_questions(select_rows(rows, answer if modes & {None, answer} else "auto", recipe.pattern.statutes, str(file)))


def _require_same_prompt(run: FinishedRun, fingerprint: str) -> None:
    trained = run.record["identity"]["prompt_fingerprint"]
    if fingerprint != trained:
        raise InputError(
            f"{run.path}: the model would be asked another prompt than it was trained on",
            [
                f"trained with the fingerprint {trained[:12]}, now {fingerprint[:12]}",
                "the prompts of lawft-trl, the chat template or the tokenizer have changed since; evaluate with "
                f"lawft-trl at commit {(run.record['environment']['commit'] or {}).get('id', 'unknown')}, or train again",
            ],
        )


def _chosen_on(run: FinishedRun, rows: Sequence[Row]) -> str | None:
    """The sentence of a report on questions by which the checkpoint was chosen; `None` where it was not."""
    training, evaluation = run.recipe.values["training"], run.recipe.evaluation
    if not (training.get("load_best_model_at_end") or evaluation.early_stopping_patience):
        return None
    dev, _ = training_rows(run, "dev")
    touched = len({overlap.test.id for overlap in find_overlaps(dev, rows)})
    if not touched:
        return None
    return f"CONTAMINATED: the checkpoint was chosen by {touched} of the {len(rows)} held-out questions (data.dev): this is not a held-out result."


def check_overlap(run: FinishedRun, rows: Sequence[Row]) -> tuple[str, str | None, list[str]]:
    """Compares the scored rows with the rows the run was trained on.

    Returns:
        What the report says of it, the sentence it begins with when they touch, and warnings.

    Raises:
        InputError: when they overlap and the recipe does not allow it.
    """
    chosen_on = _chosen_on(run, rows)
    train, missing = training_rows(run)
    if missing:
        text, known = f"not checked: {missing} is gone or has changed since the training", run.record.get("overlap") or "none"
        found = None
        if run.recipe.data.allow_overlap and "train rows are in" in known:
            found = f"CONTAMINATED: {known}, as was found before the training (data.allow_overlap): this is not a held-out result."
        return text, found or chosen_on, [f"Overlap of training and held-out rows {text}."]
    overlaps = find_overlaps(train, rows)
    if not overlaps:
        return "none", chosen_on, []
    touched = len({overlap.test.id for overlap in overlaps})
    text = f"{touched} of {len(rows)} held-out questions are in the training rows"
    if not run.recipe.data.allow_overlap:
        raise InputError(
            f"{run.path}: {text}; the result would mean nothing",
            [f"{overlap.test.source}: {overlap.reason} as {overlap.train.source}" for overlap in overlaps],
        )
    return text, f"CONTAMINATED: {text} (data.allow_overlap): this is not a held-out result.", []
