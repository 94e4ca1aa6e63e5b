"""`lawft improve`: the weaknesses that an assessment found become a work list and a new training file. docs/assess.md."""

import json
import random
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lawft_trl import __version__
from lawft_trl.assistant.answer_scores import INVENTED
from lawft_trl.assistant.assessed_pairs import read_assessed
from lawft_trl.assistant.assessment import Assessment, read_assessment
from lawft_trl.assistant.assessment_figures import HEADLINE
from lawft_trl.assistant.derived_rows import derive_rows
from lawft_trl.assistant.mending import rows_to_mend
from lawft_trl.data.legal_citations import UNVERIFIED
from lawft_trl.data.legal_pairs import LegalPair
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.rows import Row
from lawft_trl.errors import InputError
from lawft_trl.folders import refuse_existing, whole_folder, write_json, write_text
from lawft_trl.statutes.passages import article_name
from lawft_trl.text_files import file_sha256

MARK = "improve.json"
_SHOWN = 20  # lines of a list in the work list


def improve(
    path: Path,
    train: Path,
    out: Path,
    *,
    strategy: str | None = None,
    factor: float = 2.0,
    corpus: Path | None = None,
    derive: int = 20,
    seed: int = 0,
    add: Path | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Writes `OUT/worklist.md`, `improve.json` and `train_N.jsonl`, the training rows with more of what is weak, and `openai_train.jsonl`,
    the same in OpenAI's chat format.

    Args:
        path: an assessment.
        train: the rows that the assessed model was trained on.
        out: the folder to make; it appears whole or not at all.
        strategy: whose answers count; by default the headline's.
        factor: how often a row of a weak kind is in the new file; 1.5 repeats half of them.
        corpus: statutes corpus that rows are derived from, and that the rows' citations are looked up in.
        derive: at most so many rows are derived from it.
        seed: of the rows that a broken factor repeats.
        add: pairs that were written since; they are in the new file, checked against the held-out ones as all rows are.
        force: replace an existing folder.

    Returns:
        What is written as `improve.json`.

    Raises:
        InputError: for input that cannot be used, and for training rows that are among the held-out pairs.
    """
    refuse_existing(out, force=force, mark=MARK, rename="--out")
    assessment = read_assessment(path)
    strategy = strategy or assessment.metrics["strategies"][0]
    problems = [] if strategy in assessment.metrics["strategies"] else [f"--strategy {strategy}: asked were {', '.join(assessment.metrics['strategies'])}"]
    problems += [] if 1 <= factor <= 10 else [f"--factor {factor:g}: expected 1 to 10"]
    problems += [] if derive >= 0 else [f"--derive {derive}: expected 0 or more"]
    if problems:
        raise InputError(f"{len(problems)} problem(s) with the improvement", problems)
    held_out, _ = read_assessed(path / "pairs.jsonl")
    given = list(zip(*read_assessed(train), strict=True))
    kept = [(row, pair) for row, pair in given if not row.meta.get("copy_of")]  # an earlier improvement's copies would be copied again
    rows, pairs = [row for row, _ in kept], [pair for _, pair in kept]
    _refuse_leaks(rows, held_out, train)
    added = _added(add, rows, held_out) if add else []
    kinds = weak_kinds(assessment, strategy, pairs)
    weak = [kind["kind"] for kind in kinds if kind["weak"]]
    missed = _missed(assessment, strategy)
    copies = oversample(rows, weak, factor, seed)
    derived, dropped = _without_leaks(derive_rows(corpus, rows, pairs, weak, [each["law"] for each in missed], derive) if corpus else [], held_out)
    new = [*rows, *copies, *derived, *added]
    found: dict[str, Any] = {
        "made_with": f"lawft-trl {__version__}",
        "assessment": str(path),
        "strategy": strategy,
        "model": assessment.metrics["models"]["tuned"]["name"],
        "train": {"file": str(train), "sha256": file_sha256(train), "rows": len(rows), "copies_left_out": len(given) - len(rows)},
        "kinds": kinds,
        "missed_articles": missed,
        "invented_articles": _invented(assessment, strategy),
        "missed_points": _missed_points(assessment, strategy),
        "rows_to_mend": rows_to_mend(rows, pairs, corpus),
        "rows_unverified": 0 if corpus else sum(any(cited.get("status") == UNVERIFIED for cited in row.meta["citations"]) for row in rows),
        "factor": factor,
        "seed": seed,
        "copies": len(copies),
        "derived": len(derived),
        "derived_dropped": dropped,
        "added": len(added),
        "file": f"train_{len(new)}.jsonl",
        "contaminated": assessment.metrics["contaminated"],
    }
    found["next"] = _next(assessment, strategy, out / found["file"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(out, force=force, mark=MARK, rename="--out") as folder:
        records = [_record(row) for row in new]
        write_text(folder / found["file"], _lines(records))
        write_text(folder / "openai_train.jsonl", _lines({"messages": record["messages"]} for record in records))
        write_json(folder / MARK, found)
        write_text(folder / "worklist.md", render_worklist(found))
    return found


def weak_kinds(assessment: Assessment, strategy: str, pairs: Sequence[LegalPair]) -> list[dict[str, Any]]:
    """The kinds, the weakest first: `kind`, `pairs`, `mean`, `interval`, `train_rows`, `weak` (the mean is below that of all pairs)
    and `clear` (so is the whole interval)."""
    side = assessment.metrics["sides"][strategy]["tuned"]
    overall = side["scores"][HEADLINE]["mean"]
    counts = Counter(pair.kind for pair in pairs)
    ranked = sorted((kind for kind in side["kinds"].items() if kind[1]["mean"] is not None), key=lambda kind: kind[1]["mean"])
    return [
        {"kind": kind, **figures, "train_rows": counts[kind], "weak": figures["mean"] < overall - 1e-9, "clear": figures["interval"][1] < overall}
        for kind, figures in ranked
    ]


def oversample(rows: Sequence[Row], kinds: Sequence[str], factor: float, seed: int) -> list[Row]:
    """The copies that make rows of these kinds `factor` times as many; each has an id of its own and says whose copy it is."""
    weak = [row for row in rows if row.meta["kind"] in kinds]
    whole, part = int(factor) - 1, factor % 1
    chosen = weak * whole + random.Random(seed).sample(weak, round(part * len(weak)))
    numbers: Counter[str] = Counter()
    copies = []
    for row in chosen:
        numbers[row.id] += 1
        copies.append(replace(row, meta={**row.meta, "id": f"{row.id}#copy{numbers[row.id]}", "copy_of": row.id}))
    return copies


def render_worklist(found: Mapping[str, Any]) -> str:
    """`improve.json` as Markdown."""
    lines = [f"**{found['contaminated']}**", ""] if found["contaminated"] else []
    lines += [f"# Work list for {found['model']}", "", f"From `{found['assessment']}`, strategy `{found['strategy']}`. No row here was written or confirmed by a lawyer.", ""]
    lines += ["> The held-out pairs chose what follows, so from now on they are a development set: a gain on them is an optimistic one. Keep fresh pairs for the last word.", ""]
    lines += ["## Write more of these kinds", "", f"| kind | {HEADLINE} (95 %) | held-out pairs | training rows | |", "|---|---|---|---|---|"]
    for kind in found["kinds"]:
        note = "weak" if kind["clear"] else "below the mean of all pairs, but the interval reaches it: it may be chance" if kind["weak"] else ""
        lines.append(f"| {kind['kind']} | {kind['mean']:.2f} ({kind['interval'][0]:.2f} to {kind['interval'][1]:.2f}) | {kind['pairs']} | {kind['train_rows']} | {note} |")
    if not any(kind["weak"] for kind in found["kinds"]):
        lines += ["", "No kind is below the mean of all pairs, so no row was copied."]
    lines += ["", *_section("Articles that answers should have cited", (f"{each['law']}{article_name(each['article'])}, missed {each['times']} times" for each in found["missed_articles"]))]
    lines += _section("Articles that do not exist", (f"{each['law']}{article_name(each['article'])}, cited {each['times']} times" for each in found["invented_articles"]))
    lines += _section("Points that were not made", (f"`{each['id']}` ({each['kind']}): {'; '.join(each['points'])}" for each in found["missed_points"]))
    lines += _section("Training rows to mend", (f"`{each['id']}`, {each['place']}: {each['found']}. {each['mend']}." for each in found["rows_to_mend"]))
    if found["rows_unverified"]:
        lines += [f"{found['rows_unverified']} rows have citations that nobody looked up (未検証): give a --corpus.", ""]
    lines += ["## The new training file", "", f"`{found['file']}`: {found['train']['rows']} rows of `{found['train']['file']}`, {found['copies']} copies of rows of the weak kinds (factor {found['factor']:g}, seed {found['seed']}), {found['derived']} rows that quote an article from the corpus ({found['derived_dropped']} more were dropped: too like a held-out pair), {found['added']} pairs that were written since. Copies repeat what is there and teach nothing new; rows to mend are in it as they were. `openai_train.jsonl`: the same for `lawft openai upload`.", ""]
    return "\n".join([*lines, "## Next", "", "```", *found["next"], "```", ""])


def _section(title: str, entries: Iterable[str]) -> list[str]:
    entries = list(entries)
    more = [f"- and {len(entries) - _SHOWN} more, in {MARK}"] if len(entries) > _SHOWN else []
    return [f"## {title}", "", *([f"- {entry}" for entry in entries[:_SHOWN]] or ["None."]), *more, ""]


def _refuse_leaks(rows: Sequence[Row], held_out: Sequence[Row], train: Path) -> None:
    leaks = find_overlaps(rows, held_out)
    if leaks:
        raise InputError(f"{train}: {len(leaks)} row(s) are among the held-out pairs of the assessment; they are never trained on", [f"{leak.train.source}: {leak.reason} as {leak.test.source}" for leak in leaks])


def _added(path: Path, rows: Sequence[Row], held_out: Sequence[Row]) -> list[Row]:
    """The pairs of `--add`, none of them held out and each with an id that no row has."""
    added, _ = read_assessed(path)
    known = {row.id: row.source for row in rows}
    twice = [f"{row.source}: the id {row.id} is that of {known[row.id]}" for row in added if row.id in known]
    if twice:
        raise InputError(f"{path}: {len(twice)} pair(s) are in the training rows already; leave them out or give them ids of their own", twice)
    _refuse_leaks(added, held_out, path)
    return added


def _without_leaks(rows: Sequence[Row], held_out: Sequence[Row]) -> tuple[list[Row], int]:
    leaking = {leak.train.id for leak in find_overlaps(rows, held_out)}
    return [row for row in rows if row.id not in leaking], len(leaking)


def _missed(assessment: Assessment, strategy: str) -> list[dict[str, Any]]:
    return _count((cited["law"], cited["article"]) for answer in _answers(assessment, strategy) for cited in answer["missed_citations"])


def _invented(assessment: Assessment, strategy: str) -> list[dict[str, Any]]:
    return _count((cited["law"], cited["article"]) for answer in _answers(assessment, strategy) for cited in answer["citations"] if cited["status"] == INVENTED)


def _count(articles: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"law": law, "article": article, "times": times} for (law, article), times in Counter(articles).most_common()]


def _missed_points(assessment: Assessment, strategy: str) -> list[dict[str, Any]]:
    missed = [{"id": answer["id"], "kind": answer["kind"], "points": answer["missed_points"]} for answer in _answers(assessment, strategy) if answer["missed_points"]]
    return sorted(missed, key=lambda each: -len(each["points"]))


def _answers(assessment: Assessment, strategy: str) -> list[dict[str, Any]]:
    return [answer for answer in assessment.answers("tuned", strategy) if not answer["failed"]]


def _next(assessment: Assessment, strategy: str, file: Path) -> list[str]:
    """The commands that come next, for a shell; the second asks what this assessment asked, in the same way."""
    metrics, run = assessment.metrics, assessment.metrics["run"]
    recipe, new = (f"{run}/recipe.yaml", f"{run}-improved") if run else ("RECIPE.yaml", "runs/improved")
    strategies = dict.fromkeys([strategy, *metrics["strategies"]])
    words = ["lawft", "assess", new, "--pairs", assessment.path / "pairs.jsonl", "--out", f"{assessment.path}-improved", "--against", assessment.path, "--strategy", ",".join(strategies)]
    words += ["--max-tokens", metrics["generation"]["max_tokens"], "--seed", metrics["generation"]["seed"]]
    words += ["--examples", metrics["examples_file"], "--shots", metrics["shots"]] if metrics["examples_file"] else []
    words += ["--corpus", metrics["corpus"]] if metrics["corpus"] else []
    words += ["--injection-pairs", len(metrics["injections"]["tuned"]["pairs"])] if metrics["injections"] else []
    train = ["accelerate", "launch", "lawft_trl/sft.py", recipe, f"data.train={file}", f"training.output_dir={new}"]
    return [shlex.join(map(str, command)) for command in (train, words)]


def _lines(records: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _record(row: Row) -> dict[str, Any]:
    return {"messages": [*row.prompt, {"role": "assistant", "content": row.output}], "meta": row.meta}
