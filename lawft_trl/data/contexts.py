"""Which statutes a prompt shows: none, the deciding ones, or what a search found, hit or miss."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lawft_trl.data.questions import Question
from lawft_trl.errors import InputError
from lawft_trl.statutes.headed_text import article_keys
from lawft_trl.statutes.search import Hit

# What a training prompt may show in a retrieved pattern. Searching misses; a model that has only ever seen the deciding
# article learns to trust whatever it is shown, so some rows get it put in and some get none of it.
RETRIEVED, GOLD_INSERTED, DISTRACTORS = KINDS = ("retrieved", "gold_inserted", "distractors")


@dataclass(frozen=True, kw_only=True)
class Context:
    """The statutes of one prompt.

    Attributes:
        statutes: the passages as they are shown, in that order.
        kind: `"none"`, `"gold"`, or one of `KINDS`.
        retriever: what found them, `"none"` and `"gold"` where nothing searched.
        passages: for every retrieved or inserted passage its article, rank (0: not found, put in), score, whether it is
            one of the question's own, and the date of its law.
        missing: keys of the question's deciding articles that are not among them.
        known: whether it is known which articles decide the question at all.
    """

    statutes: tuple[str, ...] = ()
    kind: str = "none"
    retriever: str = "none"
    passages: tuple[dict[str, Any], ...] = ()
    missing: tuple[str, ...] = ()
    known: bool = True

    @property
    def gold_shown(self) -> bool | None:
        """Whether a deciding article is among them; `None` where it is not known which articles decide."""
        if not self.known:
            return None
        return self.kind == "gold" or any(passage["gold"] for passage in self.passages)

    @property
    def as_of(self) -> str:
        """The dates of the law in the passages, `""` where none of them says one."""
        return ", ".join(sorted({passage["as_of"] for passage in self.passages} - {""}))


def gold_context(question: Question) -> Context:
    """The statutes the question came with."""
    return Context(statutes=question.statutes, kind="gold", retriever="gold")


def retrieved_context(question: Question, hits: Sequence[Hit], *, top_k: int, retriever: str) -> Context:
    """The first `top_k` hits, as a search at work would show them."""
    return _context(question, RETRIEVED, retriever, [_passage(question, hit) for hit in hits[:top_k]])


def training_context(
    question: Question, hits: Sequence[Hit], kind: str, *, top_k: int, retriever: str, seed: int
) -> Context:
    """What a training prompt of a kind shows.

    Args:
        question: with its `provisions`; without them nothing can be put in or kept out, and it is shown what was found.
        hits: more than `top_k`, so that enough are left when the deciding ones are taken out.
        kind: `"retrieved"`; `"gold_inserted"`: the question's own statutes among the best others, at random places;
            `"distractors"`: the best others alone.
        top_k: how many passages the prompt shows; all of the question's own statutes even where there are more.
        retriever: name of the search.
        seed: seed of the places.
    """
    found = [_passage(question, hit) for hit in hits]
    others = [passage for passage in found if not passage["gold"]]
    if kind == RETRIEVED or not question.provisions or not others:
        return retrieved_context(question, hits, top_k=top_k, retriever=retriever)
    if kind == DISTRACTORS:
        return _context(question, kind, retriever, others[:top_k])
    own = {key for text in question.statutes for key in article_keys(text)}  # it may come with more than what decides
    others = [passage for passage in others if passage["article"] not in own]
    gold = [
        {"article": ", ".join(article_keys(text)), "rank": 0, "score": None, "gold": True, "as_of": question.as_of, "text": text}
        for text in question.statutes
    ] or [passage for passage in found if passage["gold"]]
    shown = gold + others[: max(0, top_k - len(gold))]
    random.Random(f"{seed}:{question.id}").shuffle(shown)
    return _context(question, kind, retriever, shown)


def assign_kinds(questions: Iterable[Question], mix: Mapping[str, float], seed: int) -> dict[str, str]:
    """Question id -> kind of context, so that the kinds have their shares of the questions to within one question.

    Args:
        questions: in any order.
        mix: kind -> share; the shares sum to 1.
        seed: seed of the draw.

    Raises:
        InputError: for unknown kinds or shares that do not sum to 1.
    """
    if set(mix) - set(KINDS) or not all(share >= 0 for share in mix.values()) or not abs(sum(mix.values()) - 1) <= 1e-6:
        given = ",".join(f"{kind}={share:g}" for kind, share in mix.items())
        raise InputError(f"--mix {given}: expected shares of {', '.join(KINDS)} that sum to 1, e.g. retrieved=0.6,gold_inserted=0.2,distractors=0.2")
    ids = sorted(question.id for question in questions)
    random.Random(f"{seed}:contexts").shuffle(ids)
    kinds, start, total = {}, 0, 0.0
    for kind in KINDS:
        total += mix.get(kind, 0.0)
        end = round(total * len(ids))
        kinds |= dict.fromkeys(ids[start:end], kind)
        start = end
    return kinds


def _passage(question: Question, hit: Hit) -> dict[str, Any]:
    gold = hit.article_key in question.provisions
    as_of = hit.passages[0].as_of
    return {"article": hit.article_key, "rank": hit.rank, "score": round(hit.score, 4), "gold": gold, "as_of": as_of, "text": hit.text}


def _context(question: Question, kind: str, retriever: str, passages: Sequence[dict[str, Any]]) -> Context:
    shown = {article for passage in passages for article in passage["article"].split(", ")}
    return Context(
        statutes=tuple(passage["text"] for passage in passages),
        kind=kind,
        retriever=retriever,
        passages=tuple({key: value for key, value in passage.items() if key != "text"} for passage in passages),
        missing=tuple(article for article in question.provisions if article not in shown),
        known=bool(question.provisions),
    )
