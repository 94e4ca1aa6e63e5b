"""Checks of what the rows teach: contradictions, the balance of the letters, and whether reasoned answers hold reasons."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

from lawft_trl.data.near_duplicates import plain, question_texts
from lawft_trl.data.questions import LETTERS
from lawft_trl.data.rows import Row
from lawft_trl.doctor.findings import Finding, examples_of
from lawft_trl.doctor.prompt_checks import known_passages
from lawft_trl.doctor.templates import distinct_ngrams, reasoning_length, states_answer, template_of

# Pearson's chi-square with 3 degrees of freedom exceeds this in 5 % of balanced sets. Its approximation needs some five
# expected per letter, and in a large set a skew that nobody would notice is significant, so a share must be large too.
_CHI_SQUARE, _LEAST_LETTERS, _SKEWED_SHARE = 7.81, 20, 0.30
_ORDERS = 4  # a question shown in so many orders, at random, keeps its gold letter in one case of 64
_STUCK_SHARE = 0.05
_REASONING = 6  # letters or kanji; less is no reason
MIN_TEMPLATES = 10
_TEMPLATE_SHARE = 0.3
_DIVERSITY_TEXT = 20_000  # characters
_DISTINCT_2 = 0.03


def contradiction_findings(rows: Sequence[Row]) -> list[Finding]:
    """The same question, choices and statutes with different answers, in whatever order the choices stand."""
    answers: dict[Hashable, dict[str, Row]] = defaultdict(dict)
    members: Counter[Hashable] = Counter()
    for row in rows:
        if row.gold is not None:
            key, answer = _asked(row)
            members[key] += 1
            answers[key].setdefault(answer, row)
    faulty = {key: found for key, found in answers.items() if len(found) > 1}
    if not faulty:
        return []
    hits = [(next(iter(found.values())), " ≠ ".join(f"{row.source.rpartition(':')[2]}: {row.gold}" for row in found.values())) for found in faulty.values()]
    return [
        Finding(
            code="contradiction",
            severity="error",
            message=f"the same question, choices and statutes have different answers ({len(faulty)} questions; line: letter)",
            count=sum(members[key] for key in faulty),
            total=len(rows),
            examples=examples_of(hits),
            mend="find out which answer is right and delete the other rows",
        )
    ]


def _asked(row: Row) -> tuple[Hashable, str]:
    """What identifies what is asked, whatever the order of the choices, and the text of the answer."""
    texts, choices = question_texts(row), row.meta.get("choices")
    if texts is not None and isinstance(choices.get(row.gold), str):
        shown = sorted(map(plain, known_passages(row))) if row.meta.get("use_context") is not False else []
        if shown or not row.meta.get("use_context"):
            return (texts, tuple(shown)), plain(choices[row.gold])
    # A prompt of others, as it stands: which of its lines are choices is not known, so their order counts.
    return tuple(message["content"].strip() for message in row.prompt), str(row.gold)


def letter_findings(rows: Sequence[Row], *, trained: bool) -> list[Finding]:
    """A gold letter that is the answer too often; a note where the rows are not trained on in this order."""
    golds = [row for row in rows if row.gold is not None]
    counts = Counter(row.gold for row in golds)
    expected = len(golds) / len(LETTERS)
    if len(golds) < _LEAST_LETTERS:
        return []
    chi_square = sum((counts[letter] - expected) ** 2 / expected for letter in LETTERS)
    letter, count = counts.most_common(1)[0]
    if chi_square <= _CHI_SQUARE or count <= _SKEWED_SHARE * len(golds):
        return []
    return [
        Finding(
            code="letter-skew",
            severity="warning" if trained else "note",
            message=f"the gold letters a/b/c/d are {'/'.join(str(counts[letter]) for letter in LETTERS)} (chi-square {chi_square:.1f}, "
            f"3 d.f.): always {letter} scores {100 * count / len(golds):.1f} %",
            count=count,
            total=len(golds),
            examples=(),
            mend="train every question in all four orders of its choices (`lawft data` does); ask it in four orders too",
        )
    ]


def position_findings(rows: Sequence[Row]) -> list[Finding]:
    """Questions in several orders whose gold letter never moves."""
    copies: dict[tuple[object, str], dict[tuple[str, ...], Row]] = defaultdict(dict)
    for row in rows:
        choices = row.meta.get("choices")
        if row.gold is not None and row.meta.get("id") is not None and isinstance(choices, dict):
            copies[row.meta.get("dataset"), row.id][tuple(str(choices.get(letter)) for letter in LETTERS)] = row
    permuted = [list(orders.values()) for orders in copies.values() if len(orders) >= _ORDERS]
    stuck = [found for found in permuted if len({row.gold for row in found}) == 1]
    if len(stuck) <= _STUCK_SHARE * len(permuted):
        return []
    return [
        Finding(
            code="position-skew",
            severity="warning",
            message="the choices are shown in several orders, and the right one stays at its letter",
            count=len(stuck),
            total=len(permuted),
            unit="permuted questions",
            examples=examples_of((found[0], f"always {found[0].gold}") for found in stuck),
            mend="move the right choice with the others, so that it stands once at every letter",
        )
    ]


def is_reasoned(row: Row) -> bool:
    """Whether a row teaches an answer with reasons: it says so, or its output states an answer among other text."""
    if row.meta.get("scoring_only"):
        return False
    mode = row.meta.get("mode")
    return mode == "cot" or (mode is None and reasoning_length(row.output) >= _REASONING and states_answer(row.output))


def empty_reason_findings(rows: Sequence[Row]) -> list[Finding]:
    """Rows of mode `cot` without a reasoning."""
    reasoned = [row for row in rows if is_reasoned(row)]
    hits = [(row, row.output) for row in reasoned if reasoning_length(row.output) < _REASONING]
    if not hits:
        return []
    return [
        Finding(
            code="cot-empty",
            severity="error",
            message="rows of mode cot whose output is the answer without a reason",
            count=len(hits),
            total=len(reasoned),
            unit="reasoned rows",
            examples=examples_of(hits),
            mend="write or make reasons (lawft data reasons, lawft data derive), or train these rows as direct ones",
        )
    ]


def template_findings(rows: Sequence[Row], *, least: int = MIN_TEMPLATES, trained: bool = True) -> list[Finding]:
    """Reasoned outputs that are one text with the letters changed.

    Args:
        rows: all rows; those that are not reasoned do not count.
        least: how many different templates there must be; in a small set, half as many as it has questions.
        trained: whether a model learns from these rows; where none does, what is found is a note.
    """
    reasoned = [row for row in rows if is_reasoned(row) and reasoning_length(row.output) >= _REASONING]
    first: dict[tuple[str, str], Row] = {}
    for row in reasoned:
        first.setdefault((row.id, template_of(row)), row)
    questions = len({id for id, _ in first})
    templates = Counter(template for _, template in first)
    if questions < 4:
        return []
    template, count = templates.most_common(1)[0]
    examples = examples_of((row, row.output) for (_, own), row in first.items() if own == template)
    needed = min(least, (questions + 1) // 2)
    if len(templates) < needed:
        return [
            Finding(
                code="cot-template",
                severity="error" if trained else "note",
                message=f"with letters, numbers, articles and quoted words masked, {len(reasoned)} reasoned outputs are {len(templates)} "
                f"template{'s' if len(templates) > 1 else ''} (at least {needed} are needed): the model would learn an empty sentence",
                count=len(reasoned),
                total=len(reasoned),
                unit="reasoned rows",
                examples=examples,
                mend="use reasons that say why: statute-derived (lawft data derive) or verified ones of a teacher (lawft data reasons)",
            )
        ]
    if count > _TEMPLATE_SHARE * questions and questions >= 2 * least:
        return [
            Finding(
                code="template-share",
                severity="warning" if trained else "note",
                message=f"one template, masked as for cot-template, makes {100 * count / questions:.0f} % of the reasoned answers",
                count=count,
                total=questions,
                unit="questions",
                examples=examples,
                mend="vary the reasons, or leave out some of these rows",
            )
        ]
    return []


def diversity_findings(rows: Sequence[Row]) -> list[Finding]:
    """Questions that repeat the same few words."""
    distinct = distinct_ngrams(_different_texts(rows), 2, characters=_DIVERSITY_TEXT)
    if distinct is None or distinct >= _DISTINCT_2:
        return []
    return [
        Finding(
            code="low-diversity",
            severity="warning",
            message=f"distinct-2 of the texts is {distinct:.3f} over {_DIVERSITY_TEXT} characters (below {_DISTINCT_2}): they repeat the same words",
            count=len(rows),
            total=len(rows),
            mend="add rows of other kinds; more of the same teach nothing new",
        )
    ]


def _different_texts(rows: Sequence[Row]) -> list[str]:
    """The text of each question once; of other rows the prompt's last message and the output."""
    return list(dict.fromkeys("".join(question_texts(row) or (plain(row.prompt[-1]["content"]), plain(row.output))) for row in rows))


def diversity_figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Gold letters, distinct-1 and distinct-2 of the texts (`None` where they are too short), templates of reasoned outputs."""
    texts = _different_texts(rows)
    counts = Counter(row.gold for row in rows)
    return {
        "letters": {letter: counts[letter] for letter in LETTERS},
        "distinct_1": distinct_ngrams(texts, 1, characters=_DIVERSITY_TEXT),
        "distinct_2": distinct_ngrams(texts, 2, characters=_DIVERSITY_TEXT),
        "reasoned_rows": sum(map(is_reasoned, rows)),
        "reason_templates": len({template_of(row) for row in rows if is_reasoned(row)}),
    }
