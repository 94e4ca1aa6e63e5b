"""The data card: one page of Markdown on what a data folder holds, for people."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lawft_trl.data.questions import LETTERS, Question


def render_card(manifest: Mapping[str, Any], questions: Sequence[Question], folder: Path, *, tokenizer: str | None = None) -> str:
    """The card of a data folder.

    Args:
        manifest: what `build_rows` returns.
        questions: all questions of the data set.
        folder: where the rows lie, with the manifest's file names.
        tokenizer: name or folder of a tokenizer whose token counts are wanted; without one, characters are counted.
    """
    folds = manifest.get("folds") or {"": manifest}
    files = {f"{name}/{file}".lstrip("/"): entry for name, fold in folds.items() for file, entry in fold["files"].items()}
    lines = [
        f"# Data card: {manifest['dataset']}",
        "",
        f"{manifest['attribution']}",
        "",
        f"- Made with {manifest['made_with']} from `{manifest['source']['file']}` (sha256 `{manifest['source']['sha256'][:12]}`), seed {manifest['seed']}.",
        f"- {len(questions)} questions in {len({question.group or question.id for question in questions})} groups. Questions that rest on the same "
        "article are one group, and a group is never divided between two splits.",
        f"- Law as of: {_dates(manifest['law_as_of'])}.",
        f"- Statutes with the question: {sum(bool(question.statutes) for question in questions)}; reasons: {sum(bool(question.reasons) for question in questions)}.",
    ]
    if manifest["known_issues"]:
        lines.append(
            f"- {len(manifest['known_issues'])} questions whose answer is in doubt carry `meta.known_issue`: "
            + "、".join(manifest["known_issues"])
            + "."
        )
    lines += ["", "## Splits", "", *_split_table(folds), "", "## Laws and letters", "", *_law_table(questions), ""]
    lines += _majority(questions)
    lines += ["", "## Files", "", *_file_table(files, folder, tokenizer), ""]
    if any(entry.get("scoring_only") for entry in files.values()):
        lines += ["¹ with rows for scoring only: their questions have no reasons, so there is nothing to train on (`lawft data reasons` makes them).", ""]
    lines += _retrieval(manifest, files)
    return "\n".join(lines)


def _split_table(folds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["| split | questions | groups | answers a / b / c / d |", "|---|---|---|---|"]
    for fold, entry in folds.items():
        for name, split in entry["splits"].items():
            letters = " / ".join(str(split["answers"][letter]) for letter in LETTERS)
            lines.append(f"| {f'{fold} {name}'.strip()} | {split['questions']} | {split['groups']} | {letters} |")
    return lines


def _law_table(questions: Sequence[Question]) -> list[str]:
    lines = ["| law | questions | a | b | c | d |", "|---|---|---|---|---|---|"]
    for law in sorted({question.law for question in questions}):
        counts = Counter(question.answer for question in questions if question.law == law)
        lines.append(f"| {law} | {sum(counts.values())} | " + " | ".join(str(counts[letter]) for letter in LETTERS) + " |")
    return lines


def _majority(questions: Sequence[Question]) -> list[str]:
    letter, count = Counter(question.answer for question in questions).most_common(1)[0]
    return [
        f"Always answering `{letter}` is right in {100 * count / len(questions):.1f} % of the questions in their own order, and in 25.0 % over the "
        "four orders in which evaluation asks. Training rows are in four orders, so every letter is the answer equally often."
    ]


def _file_table(files: Mapping[str, Mapping[str, Any]], folder: Path, tokenizer: str | None) -> list[str]:
    unit = "tokens" if tokenizer else "characters"
    lines = [f"| file | questions | rows | {unit} per row, median / 95 % / longest |", "|---|---|---|---|"]
    count = _token_counter(tokenizer) if tokenizer else len
    for name, entry in files.items():
        lengths = sorted(count(text) for text in _texts(folder / name))
        picks = " / ".join(f"{lengths[min(len(lengths) - 1, int(share * len(lengths)))]:,}" for share in (0.5, 0.95, 1))
        lines.append(f"| `{name}`{'¹' if entry.get('scoring_only') else ''} | {entry['questions']} | {entry['rows']} | {picks} |")
    if tokenizer:
        lines += ["", f"Counted with the tokenizer `{Path(tokenizer).name}`, prompt and output without the chat template."]
    return lines


def _texts(path: Path) -> Iterable[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        yield record["input"] + record["output"]


def _token_counter(name: str):
    from lawft_trl.data.chat import encode, load_tokenizer

    tokenizer = load_tokenizer(name)
    return lambda text: len(encode(tokenizer, text))


def _retrieval(manifest: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    search = manifest["retrieval"]
    if not search.get("engine"):
        return [f"No retrieved patterns: {search['why']}."]
    lines = [
        "## Retrieval",
        "",
        f"{search['engine']} over {search['corpus']}: {search['passages']} passages of {search['laws']} laws, law as of {_dates([search['law_as_of']])}; "
        f"top {search['top_k']} articles, query = question and choices. Training contexts: "
        + ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in search["mix"].items())
        + ".",
        *_other_day(search),
        "",
        "| file | a deciding article is in the prompt | all of them are |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {_of(entry['gold_shown'], entry['gold_known'])} | {_of(entry['all_gold_shown'], entry['gold_known'])} |"
        for name, entry in files.items()
        if "gold_shown" in entry
    ]
    return [*lines, ""]


def _other_day(search: Mapping[str, Any]) -> list[str]:
    count = search["questions_of_another_day"]
    return [f"**{count} questions are about the law of another day than the corpus.**"] if count else []


def _of(count: int, whole: int) -> str:
    if not whole:
        return "not known: the questions name no deciding article"
    return f"{count} of {whole} ({100 * count / whole:.1f} %)"


def _dates(dates: Sequence[str]) -> str:
    return ", ".join(date or "not stated by the source" for date in dates)
