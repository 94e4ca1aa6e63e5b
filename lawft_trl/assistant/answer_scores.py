"""An answer to a legal question scored by rule: citations, required points, forbidden content, style, relevance. docs/assess.md.

Rules see words, not law: an answer that makes every point in other words than the rubric knows scores too low, and one that says
the right words about the wrong thing scores too high.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lawft_trl.assistant.citations import verify_citations
from lawft_trl.assistant.notices import without_predictions
from lawft_trl.data.legal_citations import UNVERIFIED, VERIFIED
from lawft_trl.data.legal_pairs import CitedArticle, LegalPair
from lawft_trl.data.rubric import phrases_in, shows
from lawft_trl.evaluation.answer_overlap import bigram_f1, bigram_recall
from lawft_trl.statutes.citations import ARTICLE, article_number, title_key
from lawft_trl.statutes.passages import MAIN, read_manifest, read_passages

# The first is the one that the headline is about; which one it is was settled before anything was measured.
METRICS = {
    "expertise": "expertise: mean of citations and points",
    "citations": "citations: F1 of law and article against the pair's",
    "points": "required points made",
    "clean": "nothing forbidden, no outcome foretold",
    "style": "style: register, length, whole sentences, a lawyer named",
    "relevance": "relevance: shared content with question and gold (rough)",
    "answered": "answered: not empty, not cut",
}
INVENTED = "存在しない条"  # where the corpus holds the whole law

_SENTENCE = re.compile(r"[^。！？\n]+[。！？]")
_POLITE = re.compile(r"(?:です|ます|ません|でした|ました|ましょう|でしょう|ください|下さい|ございます)(?:か|ね|よ|が|ので)?[」』）)]*[。！？]$")
_PLAIN = re.compile(r"(?:である|であった|だ|だった|ない|なかった|れる|られる|する|した|なる|なった|べき|よい|いる|ある|う|く|す|つ|ぬ|む|る|た)[」』）)]*[。！？]$")

_REMARK = re.compile(r"\((?:[^()]|\([^()]*\))*\)(?=[」』)]*[。！？]$)")  # 「…負います(民法第415条)。」 is in です・ます


@dataclass(frozen=True, kw_only=True)
class KnownArticles:
    """What a corpus has of the laws that are cited.

    Attributes:
        articles: title -> the articles of its provisions proper.
        whole: whether the corpus' manifest says that every law is there with all its articles; what an excerpt does not have may exist.
    """

    articles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    whole: bool = False


NOTHING_KNOWN = KnownArticles()


@dataclass(frozen=True, kw_only=True)
class CitationCount:
    """What an answer cites.

    Attributes:
        cited: each article once, with its status: `VERIFIED`, `INVENTED` (the corpus has the whole law, and not this article) or
            `UNVERIFIED` (all else).
        unclear: citations whose law cannot be read, 同法 with none before it; they count nowhere.
        precision: share of `cited` that the pair cites too; 0 where nothing is cited.
        recall: share of the pair's that are cited.
    """

    cited: tuple[tuple[CitedArticle, str], ...]
    unclear: int
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def cited_articles(text: str) -> tuple[list[CitedArticle], int]:
    """The articles that a text cites, each once, and how many citations name no law that can be read."""
    found, unclear = {}, 0
    for citation in verify_citations([text], None):
        name = re.match(ARTICLE, citation.article)
        if name is None or re.fullmatch(r"同(?:法|令|規則)", citation.law):
            unclear += 1
        else:
            found[CitedArticle(title_key(citation.law), article_number(name[0]))] = None
    return list(found), unclear


def corpus_articles(corpus: Path | None, texts: Iterable[str]) -> KnownArticles:
    """What a corpus has of the laws that the texts cite.

    Raises:
        InputError: when the folder is not a corpus.
    """
    if corpus is None:
        return NOTHING_KNOWN
    manifest = read_manifest(corpus)
    wanted = {cited.law for text in texts for cited in cited_articles(text)[0]}
    articles: dict[str, set[str]] = {}
    for passage in read_passages(corpus):
        law = title_key(passage.law)
        if law in wanted and passage.provision == MAIN:
            articles.setdefault(law, set()).add(passage.article)
    return KnownArticles(articles={law: frozenset(numbers) for law, numbers in articles.items()}, whole=manifest.get("whole_laws") is True)


def count_citations(pair: LegalPair, text: str, known: KnownArticles) -> CitationCount:
    """An answer's citations against the pair's and against a corpus (`corpus_articles`)."""
    cited, unclear = cited_articles(text)
    gold = {CitedArticle(title_key(each.law), each.article) for each in pair.citations}
    right = len(gold.intersection(cited))
    with_status = tuple((each, _status(each, known)) for each in cited)
    return CitationCount(cited=with_status, unclear=unclear, precision=right / len(cited) if cited else 0.0, recall=right / len(gold))


def _status(cited: CitedArticle, known: KnownArticles) -> str:
    if cited.article in known.articles.get(cited.law, ()):
        return VERIFIED
    return INVENTED if known.whole and cited.law in known.articles else UNVERIFIED


def style_parts(text: str, gold: str) -> dict[str, float]:
    """`register` (share of the sentences with a register that have the gold's), `length` (the shorter by the longer), `form` (share
    of the text's sentences that are whole and said once) and `notice` (a lawyer is named), each 0 to 1."""
    sentences, wanted = _sentences(text), register_of(gold)
    registers = [register for sentence in sentences if (register := _register_of(sentence))]
    short, long = sorted((len("".join(text.split())), len("".join(gold.split()))))
    ended = sum(len("".join(sentence.split())) for sentence in dict.fromkeys(sentences))
    return {
        "register": sum(register == wanted for register in registers) / len(registers) if registers else 0.0,
        "length": short / long if long else 0.0,
        "form": min(1.0, ended / len("".join(text.split()))) if text.strip() else 0.0,
        "notice": float("弁護士" in text),
    }


def _sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in _SENTENCE.findall(unicodedata.normalize("NFKC", text).replace("!", "！").replace("?", "？"))]


def _register_of(sentence: str) -> str:
    sentence = _REMARK.sub("", sentence)
    return "です・ます" if _POLITE.search(sentence) else "である" if _PLAIN.search(sentence) else ""


def register_of(text: str) -> str:
    """The register of most sentences, です・ます where there are none."""
    counts = Counter(register for sentence in _sentences(text) if (register := _register_of(sentence)))
    return counts.most_common(1)[0][0] if counts else "です・ます"


def score_answer(pair: LegalPair, text: str, *, cut: bool, known: KnownArticles) -> dict[str, Any]:
    """Scores one answer.

    Args:
        pair: what was asked, with its rubric.
        text: the answer, cleaned, without the thinking before it.
        cut: whether it ended at its greatest length.
        known: see `corpus_articles`.

    Returns:
        `scores` (every one of `METRICS`, 0 to 1), `citations`, `missed_citations`, `missed_points`, `forbidden`, `predictions`
        (sentences that foretell an outcome) and `style_parts`.
    """
    found = count_citations(pair, text, known)
    missed = [point.point for point in pair.required_points if not shows(point.any_of, text)]
    points = 1 - len(missed) / len(pair.required_points)
    forbidden, predictions = phrases_in(pair.forbidden, text), without_predictions(text)[1]
    parts, empty = style_parts(text, pair.answer), not text.strip()
    given = {each for each, _ in found.cited}
    return {
        "scores": {
            "expertise": (found.f1 + points) / 2,
            "citations": found.f1,
            "points": points,
            "clean": float(not empty and not forbidden and not predictions),
            "style": sum(parts.values()) / len(parts),
            "relevance": (bigram_recall(text, pair.question) + bigram_f1(text, pair.answer)) / 2,
            "answered": float(not empty and not cut),
        },
        "precision": found.precision,
        "recall": found.recall,
        "citations": [{**asdict(each), "status": status} for each, status in found.cited],
        "unclear_citations": found.unclear,
        "missed_citations": [asdict(each) for each in pair.citations if CitedArticle(title_key(each.law), each.article) not in given],
        "missed_points": missed,
        "forbidden": forbidden,
        "predictions": predictions,
        "style_parts": parts,
    }
