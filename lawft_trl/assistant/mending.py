"""Training rows of legal pairs that are worth a second look: repeated questions, citations that do not hold, answers out of style."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from lawft_trl.assistant.answer_scores import (
    INVENTED,
    KnownArticles,
    corpus_articles,
    count_citations,
    register_of,
)
from lawft_trl.data.legal_citations import UNVERIFIED
from lawft_trl.data.legal_pairs import LegalPair
from lawft_trl.data.near_duplicates import ngrams, plain, text_index
from lawft_trl.data.rows import Row
from lawft_trl.data.rubric import phrases_in, shows
from lawft_trl.statutes.passages import article_name

_FAR = 2.5  # times the median length, or the median divided by it


def rows_to_mend(rows: Sequence[Row], pairs: Sequence[LegalPair], corpus: Path | None) -> list[dict[str, str]]:
    """`id`, `place`, `found` and `mend` of everything that is odd about training rows.

    Args:
        rows: the training rows.
        pairs: the same rows.
        corpus: where cited articles are looked up; `None` passes over whether they exist.
    """
    known = corpus_articles(corpus, [pair.answer for pair in pairs])
    lengths = median(len(pair.answer) for pair in pairs)
    register = Counter(register_of(pair.answer) for pair in pairs).most_common(1)[0][0]
    grams = [ngrams([plain(pair.question)]) for pair in pairs]
    index = text_index(grams, [True] * len(grams), [True])
    found = []
    for place, (row, pair) in enumerate(zip(rows, pairs, strict=True)):
        earlier = next((other for other in index.similar(grams[place], True) if other < place and not row.meta.get("copy_of")), None)
        faults = [*_citation_faults(pair, known), *_answer_faults(pair, lengths, register)]
        if earlier is not None:
            faults.append((f"the question is nearly that of {pairs[earlier].id}", "leave one out, or ask something else"))
        found += [{"id": pair.id, "place": row.source, "found": fault, "mend": mend} for fault, mend in faults]
    return found


def _citation_faults(pair: LegalPair, known: KnownArticles) -> Iterator[tuple[str, str]]:
    counted = count_citations(pair, pair.answer, known)
    for cited, status in counted.cited:
        if status == INVENTED:
            yield f"cites {cited.law}{article_name(cited.article)}, which the corpus' law does not have", "cite the article that is meant"
    absent = [f"{cited.law}{article_name(cited.article)}" for cited, status in counted.cited if status == UNVERIFIED]
    if absent and known.articles:
        yield f"未検証: not in the corpus: {', '.join(absent)}", "look it up, or give a --corpus that has it"
    if counted.recall < 1:
        yield "meta.citations names an article that the answer does not cite", "cite it, or take it out of meta.citations"


def _answer_faults(pair: LegalPair, length: float, register: str) -> Iterator[tuple[str, str]]:
    missed = [point.point for point in pair.required_points if not shows(point.any_of, pair.answer)]
    if missed:
        yield f"does not make its own required points: {'; '.join(missed)}", "make them, or mend the patterns"
    if phrases_in(pair.forbidden, pair.answer):
        yield "contains a phrase that it forbids itself", "take it out"
    if register_of(pair.answer) != register:
        yield f"most sentences are not in {register}, as in most rows", "write one register throughout"
    if not length / _FAR <= len(pair.answer) <= length * _FAR:
        yield f"{len(pair.answer)} characters, where the median is {length:.0f}", "shorten or complete it"
    if "弁護士" not in pair.answer:
        yield "names no lawyer", "say what a lawyer should confirm"
