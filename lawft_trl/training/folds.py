"""The folds of a cross-validation: which rows each trains on and holds out, found to be right before anything is trained."""

import glob
import json
import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawft_trl import run_dir
from lawft_trl.data.build import DEFAULT_MIX
from lawft_trl.data.chat import prompt_fingerprint
from lawft_trl.data.questions import read_questions
from lawft_trl.data.rows import Row
from lawft_trl.doctor.examine import refuse_unfit
from lawft_trl.errors import InputError
from lawft_trl.recipe import Recipe, load_recipe
from lawft_trl.training.child_runs import PlannedRun
from lawft_trl.training.preflight import data_files, read_roles, recipe_tokenizer, refuse_overlap

_USUAL_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Fold(PlannedRun):
    """One adapter of a cross-validation; its name is what the data calls the fold, `"fold_3_of_5"`.

    Attributes:
        seed: its `training.seed`.
        questions: ids of the questions it holds out.
    """

    seed: int
    questions: frozenset[str]

    @property
    def title(self) -> str:
        return f"{self.name} with seed {self.seed}"


def find_folds(recipe: Recipe, folds: int | None = None, data: Path | None = None) -> tuple[Path, Path, list[str]]:
    """The recipe's data set, the folder that holds it in folds, and the names of those.

    Raises:
        InputError: where there are none, with the command that makes them, or others than wanted.
    """
    dataset = Path(os.path.normpath(recipe.data.test or "")).parent.parent
    if not dataset.name:
        raise InputError(
            f"{recipe.path}: which questions are to be cross-validated? data.test is {recipe.data.test!r}",
            ["expected a file of a data set that `lawft data` wrote: DATA/PATTERN/test_*.jsonl"],
        )
    beside = [path for path in dataset.parent.glob("*") if re.fullmatch(re.escape(dataset.name) + r"_\d+_folds", path.name)]
    found = [data] if data else sorted(path for path in beside if not folds or path.name == f"{dataset.name}_{folds}_folds")
    if len(found) > 1:
        raise InputError(f"{dataset}: there are several with folds; say which with --folds", map(str, found))
    if not found or not (found[0] / "manifest.json").is_file():
        missing = found[0] if found else dataset.with_name(f"{dataset.name}_{folds or _USUAL_FOLDS}_folds")
        raise InputError(f"{missing}: no data set in folds here; write it:", [_data_command(dataset, folds or _USUAL_FOLDS, data)])
    names = list(json.loads((found[0] / "manifest.json").read_text(encoding="utf-8")).get("folds") or ())
    if not names or folds not in (None, len(names)):
        raise InputError(
            f"{found[0]}: this data set has {f'{len(names)} folds' if names else 'no folds'}"
            + (f", not the {folds} of --folds" if folds else ""),
            [f"leave --folds out, or write another: {_data_command(dataset, folds or _USUAL_FOLDS, data)}"],
        )
    return dataset, found[0], names


def _data_command(dataset: Path, folds: int, out: Path | None) -> str:
    """The command that writes a data set in folds, with the settings its own manifest names."""
    file = dataset / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    sources = {"lawqa_jp": ["lawqa"], "sample": ["sample"], "derived": ["derive"]}
    name = manifest.get("dataset", dataset.name if dataset.name in sources else "QUESTIONS")
    source = sources.get(name, ["questions", manifest.get("source", {}).get("file", "QUESTIONS.jsonl")])
    command, search = ["lawft", "data", *source, "--folds", str(folds)], manifest.get("retrieval") or {}
    out = out or dataset.with_name(f"{dataset.name}_{folds}_folds")
    corpus, usual_corpus = search.get("corpus"), (None, "the questions' own statutes")
    mix = ",".join(f"{kind}={share:g}" for kind, share in search.get("mix", {}).items())
    for option, value, usual in (
        ("--out", str(out), (str(Path("data", f"{name}_{folds}_folds")),)),
        ("--dev-share", manifest.get("shares", {}).get("dev", 0.1), (0.1,)),
        ("--seed", manifest.get("seed", 0), (0,)),
        ("--statutes", corpus, usual_corpus),
        ("--top-k", search.get("top_k", 3), (3,)),
        ("--mix", mix, ("", ",".join(f"{kind}={share:g}" for kind, share in DEFAULT_MIX.items()))),
    ):
        if value not in usual:
            command += [option, str(value)]
    return shlex.join([*command, *(["--force"] if out.exists() else [])])


def plan_folds(
    recipe: Recipe,
    overrides: Sequence[str],
    final: Mapping[str, Any],
    *,
    dataset: Path,
    folder: Path,
    names: Sequence[str],
    seeds: int,
    out: Path,
) -> list[Fold]:
    """All adapters that belong to a cross-validation, seed by seed, after finding that their data hold.

    The recipe's files that lie in `dataset` are taken from the folds in `folder`; others, such as derived training
    rows, are the same in every fold.

    Raises:
        InputError: when rows cannot be used, when a fold would train on what it holds out, or when no file changes from
            fold to fold.
    """
    texts = {question.id: frozenset(question.statutes) for question in read_questions(folder / "questions.jsonl")}
    plan = []
    for name in names:
        files = _fold_files(recipe, dataset, folder / name)
        first = recipe.values["training"]["seed"]
        rows: dict[str, list[Row]] | None = None
        for seed in range(first, first + seeds):
            target = json.dumps(str(out / f"seed_{seed}" / name), ensure_ascii=False)
            own = (*overrides, *files, f"training.seed={seed}", f"training.output_dir={target}")
            of_fold = load_recipe(recipe.path, own, final)
            if rows is None:
                rows = _usable_rows(of_fold, texts, name)
                tokenizer = recipe_tokenizer(of_fold)
                kwargs = of_fold.pattern.chat_template_kwargs
                fingerprint = prompt_fingerprint(tokenizer, system=of_fold.pattern.system, template_kwargs=kwargs)
            identity = run_dir.identity(of_fold, data_files(of_fold), fingerprint, processes=0)
            held_out = frozenset(row.id for row in rows["test"])
            plan.append(Fold(name=name, seed=seed, recipe=of_fold, overrides=own, identity=identity, questions=held_out))
    _require_each_once([fold for fold in plan if fold.seed == plan[0].seed], texts, folder)
    return sorted(plan, key=lambda fold: fold.seed)  # stable: the first seed's report could be made before the second's


def _fold_files(recipe: Recipe, dataset: Path, fold: Path) -> list[str]:
    """The overrides that name a fold's files instead of the data set's."""
    train = recipe.data.train if isinstance(recipe.data.train, list) else [recipe.data.train]
    moved = [_in_fold(name, dataset, fold) for name in train]
    if moved == train:
        raise InputError(
            f"{recipe.path}: no file of data.train lies in {dataset}, so that every fold would train the same adapter",
            [f"train it once and score all questions: lawft eval RUN --test FILE (data.train is {', '.join(train)})"],
        )
    roles = {"train": moved} | {role: _in_fold(name, dataset, fold) for role, name in (("dev", recipe.data.dev), ("test", recipe.data.test)) if name}
    return [f"data.{role}={json.dumps(names, ensure_ascii=False)}" for role, names in roles.items()]


def _in_fold(name: str, dataset: Path, fold: Path) -> str:
    """The file of a fold that stands for one of the data set; the number of questions in its name is another there."""
    path = Path(os.path.normpath(name))
    if not path.is_relative_to(dataset):
        return name
    inside = path.relative_to(dataset)
    return str(Path(glob.escape(str(fold)), inside.parent, re.sub(r"_\d+(?=\.jsonl$)", "_*", inside.name)))


def _usable_rows(recipe: Recipe, texts: Mapping[str, Collection[str]], name: str) -> dict[str, list[Row]]:
    """The rows of a fold, checked as the launcher checks them, and once more by group and statute text."""
    rows = read_roles(recipe)
    refuse_unfit(rows["train"], f"{recipe.path}, {name}")
    refuse_overlap(recipe, rows)
    held_out = {row.meta.get("dataset") for row in rows["test"]}, {row.meta.get("group") or row.id for row in rows["test"]}
    shown = {text for row in rows["test"] for text in texts.get(row.id, ())}
    seen = [
        f"{row.source}: id {row.id}, group {row.meta.get('group')}"
        for row in rows["train"]
        if row.meta.get("dataset") in held_out[0]
        and ((row.meta.get("group") or row.id) in held_out[1] or not shown.isdisjoint(texts.get(row.id, ())))
    ]
    if seen and not recipe.data.allow_overlap:
        raise InputError(f"{name}: {len(seen)} training rows share a group or a statute with the questions it holds out", seen)
    return rows


def _require_each_once(folds: Sequence[Fold], questions: Collection[str], folder: Path) -> None:
    held_out = [question for fold in folds for question in fold.questions]
    wrong = [f"{question}: held out {held_out.count(question)} times" for question in questions if held_out.count(question) != 1]
    wrong += [f"{question}: not in questions.jsonl" for question in sorted(set(held_out) - set(questions))]
    if wrong:
        raise InputError(f"{folder}: its folds do not hold out every question once; write it again with `lawft data … --force`", wrong)
