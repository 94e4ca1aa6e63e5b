"""The data doctor: what is wrong with rows that can be read, before anything is trained on them."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from lawft_trl.data.near_duplicates import ngrams, plain, question_texts, text_index
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.rows import Row
from lawft_trl.doctor.answer_checks import (
    contradiction_findings,
    diversity_findings,
    empty_reason_findings,
    letter_findings,
    position_findings,
    template_findings,
)
from lawft_trl.doctor.findings import Finding, example, examples_of, worst_first
from lawft_trl.doctor.prompt_checks import claim_findings, form_findings, frame_of, passage_findings, priming_findings
from lawft_trl.doctor.text_checks import character_findings, long_output_findings, markup_findings, personal_findings
from lawft_trl.errors import InputError

Role = Literal["train", "evaluation", "questions"]
MAX_OUTPUT = 4000  # characters
BENCHMARK = "lawqa_jp"
_SAME_QUESTION = 0.1  # of the 5-grams of the shorter prompt; two questions on different things share fewer
_MANY_NEAR = 0.05  # a few questions on one provision are nearly the same in any set


def examine(
    rows: Sequence[Row],
    *,
    role: Role = "train",
    evaluation: Mapping[str, Sequence[Row]] | None = None,
    benchmark: Sequence[Row] = (),
    max_output: int = MAX_OUTPUT,
) -> list[Finding]:
    """Everything the doctor can say about rows that `read_rows` accepts.

    Args:
        rows: of one file, or what one training would read.
        role: what the rows are for. A skew of the letters is a fault only of rows that are trained on as they stand.
        evaluation: name -> rows of every evaluation split the rows must not be in.
        benchmark: the questions of lawqa_jp, if the rows' own evaluation splits are not known to be part of it.
        max_output: characters from which an output counts as long.

    Returns:
        The findings, worst first.
    """
    frames = [frame_of(row) for row in rows]
    findings = [
        *(found for name, held_out in (evaluation or {}).items() for found in leakage_findings(rows, name, held_out)),
        *benchmark_findings(rows, benchmark),
        *contradiction_findings(rows),
        *id_findings(rows),
        *template_findings(rows, trained=role != "evaluation"),
        *empty_reason_findings(rows),
        *claim_findings(rows, frames),
        *passage_findings(rows, frames),
        *form_findings(rows, frames),
        *priming_findings(rows, frames),
        *letter_findings(rows, trained=role == "train"),
        *position_findings(rows),
        *near_duplicate_findings(rows),
        *diversity_findings(rows),
        *character_findings(rows),
        *markup_findings(rows),
        *personal_findings(rows),
        *long_output_findings(rows, max_output),
    ]
    return worst_first(findings)


def refuse_unfit(rows: Sequence[Row], where: str) -> None:
    """What no training may begin with: contradicting answers, and reasoned outputs that are a template.

    Args:
        rows: the training rows.
        where: what they are, for the message, e.g. the recipe's path.

    Raises:
        InputError: with every finding of the two kinds.
    """
    findings = [*contradiction_findings(rows), *template_findings(rows), *empty_reason_findings(rows)]
    if findings:
        raise InputError(
            f"{where}: the training rows teach what is false or empty; nothing was trained",
            [
                f"{found.code}: {found.message}; {found.count} of {found.total} {found.unit}, first {found.examples[0].place}. {found.mend}"
                for found in findings
            ],
        )


def leakage_findings(rows: Sequence[Row], name: str, held_out: Sequence[Row]) -> list[Finding]:
    """Rows that are in an evaluation split.

    Args:
        rows: what is trained on.
        name: the split's file or folder.
        held_out: its rows.
    """
    overlaps = find_overlaps(rows, held_out)
    if not overlaps:
        return []
    reasons = ", ".join(f"{reason} {count}×" for reason, count in Counter(overlap.reason for overlap in overlaps).most_common())
    return [
        Finding(
            code="leakage",
            severity="error",
            message=f"rows are in the evaluation split {name} ({len(held_out)} rows): {reasons}",
            count=len(overlaps),
            total=len(rows),
            examples=examples_of((overlap.train, f"{overlap.reason} as {overlap.test.source}") for overlap in overlaps),
            mend="split by group before anything is written (`lawft data` does), and leave these rows out of the training",
        )
    ]


def benchmark_findings(rows: Sequence[Row], benchmark: Sequence[Row]) -> list[Finding]:
    """Rows that are questions of lawqa_jp, of which no evaluation split is known.

    A row that only rests on the same article is another question, as those that `lawft data derive` writes.
    """
    questions_alone = [replace(row, meta={**row.meta, "provisions": []}) for row in benchmark]
    overlaps = find_overlaps(rows, questions_alone) if benchmark else []
    if not overlaps:
        return []
    questions = len({overlap.test.id for overlap in overlaps})
    return [
        Finding(
            code="benchmark-rows",
            severity="warning",
            message=f"rows are questions of {BENCHMARK} ({questions} of its {len({row.id for row in benchmark})}): "
            "a model trained on them cannot be evaluated on those",
            count=len(overlaps),
            total=len(rows),
            examples=examples_of((overlap.train, f"{overlap.reason} as {overlap.test.source}") for overlap in overlaps),
            mend=f"name the split that is evaluated: lawft check DATA --against data/{BENCHMARK}",
        )
    ]


def id_findings(rows: Sequence[Row]) -> list[Finding]:
    """Different questions of one data set with the same id: evaluation takes them for one, and so do the splits."""
    named: dict[Hashable, dict[Hashable, Row]] = defaultdict(dict)
    for row in rows:
        if row.meta.get("id") is not None:
            named[row.meta.get("dataset"), row.id].setdefault(question_texts(row) or tuple(message["content"] for message in row.prompt), row)
    used_by: Counter[str] = Counter()
    if any(len(own) > 1 for own in named.values()):
        used_by.update(line for own in named.values() for line in {line for row in own.values() for line in _lines(row)})
    hits = []
    for own in named.values():
        first, *others = own.values()
        other = next((row for row in others if _another_question(first, row, used_by)), None)
        if other:
            hits.append((other, f"the id of line {first.source.rpartition(':')[2]}: {_shown(other)}"))
    if not hits:
        return []
    return [
        Finding(
            code="id-reused",
            severity="error",
            message="one meta.id stands for different questions: only one of them would be asked, and they count as one",
            count=len(hits),
            total=len(named),
            unit="ids",
            examples=examples_of(hits),
            mend="give every question an id of its own; only its permuted copies share it",
        )
    ]


def _lines(row: Row) -> set[str]:
    """The lines of its prompt."""
    return {line for message in row.prompt for line in message["content"].split("\n")}


def _another_question(first: Row, row: Row, used_by: Mapping[str, int]) -> bool:
    """Whether two rows of one id ask different things: by what they state, else by their prompts.

    Prompts may frame one question in different ways, so they must have nearly nothing in common beside the lines that
    prompts of other ids have too.
    """
    stated = question_texts(first), question_texts(row)
    if None not in stated:
        return stated[0] != stated[1]
    own = [ngrams([plain(line) for line in sorted(_lines(item)) if used_by[line] == 1]) for item in (first, row)]
    smaller = min(map(len, own))
    return smaller > 0 and len(set(own[0].tolist()) & set(own[1].tolist())) < _SAME_QUESTION * smaller


def near_duplicate_findings(rows: Sequence[Row]) -> list[Finding]:
    """Rows of different questions with nearly the same text; permuted copies of one question and turns of one dialogue are none."""
    from tqdm.auto import tqdm

    first: dict[tuple[bool, tuple[str, ...]], dict[Hashable, Row]] = defaultdict(dict)
    members: Counter[tuple[bool, tuple[str, ...]]] = Counter()
    for row in rows:
        text = _text(row)
        members[text] += 1
        first[text].setdefault(_identity(row), row)
    sets, kinds, owners = [ngrams(texts) for _, texts in first], [is_question for is_question, _ in first], list(first.values())
    index = text_index(sets, kinds, kinds)
    hits, count = [], 0
    for position, (text, own) in enumerate(tqdm(first.items(), desc="near-duplicates", unit="text", delay=3, leave=False)):
        row, *copies = own.values()
        others = (other for at in index.similar(sets[position], kinds[position]) if at < position for other in owners[at].items())
        earlier = next((other for name, other in others if name not in own and not _of_one_dialogue(row, other)), None)
        pair = (row, earlier) if earlier else (copies[0], row) if copies else None
        if pair:
            hits.append((pair[0], f"like {example(pair[1].source, pair[1].id, '').place.rpartition('/')[2]}: {_shown(pair[0])}"))
            count += members[text] if earlier else members[text] - 1
    if not hits:
        return []
    return [
        Finding(
            code="near-duplicate",
            severity="warning" if count > _MANY_NEAR * len(rows) else "note",
            message="rows of different questions with nearly the same text (nine tenths of the character 5-grams): they count several times",
            count=count,
            total=len(rows),
            examples=examples_of(hits),
            mend="keep one of each, or give permuted copies of one question the same meta.id",
        )
    ]


def _text(row: Row) -> tuple[bool, tuple[str, ...]]:
    """A question and its choices; otherwise the whole conversation, with the output where it is more than a letter."""
    texts = question_texts(row)
    if texts is not None:
        return True, texts
    said = [message["content"] for message in row.prompt if message["role"] != "system"]
    return False, tuple(map(plain, said if row.gold else [*said, row.output]))


def _identity(row: Row) -> Hashable:
    """Equal for rows of one question: its id, or the lines of the prompt whatever their order and letters.

    The turns of one dialogue are one where the rows name it: their histories may have lost their beginnings.
    """
    if row.meta.get("mode") == "dialogue" and row.meta.get("group"):
        return row.meta.get("dataset"), "dialogue", row.meta["group"]
    if row.meta.get("id") is not None:
        return row.meta.get("dataset"), row.id
    lines = (line for message in row.prompt for line in unicodedata.normalize("NFKC", message["content"]).split("\n"))
    return frozenset(plain(re.sub(r"^\W*[a-dA-D](?![a-zA-Z])", "", line)) for line in lines)


def _of_one_dialogue(row: Row, other: Row) -> bool:
    """Whether two rows are of one line, or the one's prompt and output begin the other's prompt, whatever their `meta` says."""
    shorter, longer = sorted((row, other), key=lambda item: len(item.prompt))
    said = [*shorter.prompt, {"role": "assistant", "content": shorter.output}]
    return row.source == other.source or said == list(longer.prompt[: len(said)])


def _shown(row: Row) -> str:
    question = row.meta.get("question")
    return question if isinstance(question, str) else row.prompt[-1]["content"]

