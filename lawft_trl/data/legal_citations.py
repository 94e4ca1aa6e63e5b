"""Whether cited articles exist, looked up in a statutes corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawft_trl.data.dialogue_problems import Fault
from lawft_trl.data.legal_pairs import CitedArticle, LegalPair
from lawft_trl.statutes.citations import title_key
from lawft_trl.statutes.passages import MAIN, article_name, read_manifest, read_passages

VERIFIED, UNVERIFIED = "検証済", "未検証"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The articles that a corpus has of the laws that are cited.

    Attributes:
        articles: title, as `title_key` writes it -> the numbers of the articles of its provisions proper.
        whole: whether the manifest says that the laws are there with all their articles; an excerpt may have any gap, and end anywhere.
        about: `as_of`, `sha256` and `attribution` of the corpus' manifest.
    """

    articles: dict[str, frozenset[str]]
    whole: bool
    about: dict[str, Any]


def read_corpus(folder: Path, pairs: Sequence[LegalPair]) -> Corpus:
    """What a corpus has of the laws that the pairs cite; its passages are read one by one.

    Raises:
        InputError: when the folder is not a corpus.
    """
    manifest = read_manifest(folder)
    wanted = {title_key(cited.law) for pair in pairs for cited in pair.citations}
    articles: dict[str, set[str]] = {}
    for passage in read_passages(folder):
        law = title_key(passage.law)
        if law in wanted and passage.provision == MAIN:
            articles.setdefault(law, set()).add(passage.article)
    about = {key: manifest.get(key, "") for key in ("as_of", "sha256", "attribution")}
    whole = manifest.get("whole_laws") is True
    return Corpus(articles={law: frozenset(numbers) for law, numbers in articles.items()}, whole=whole, about=about)


def status(cited: CitedArticle, corpus: Corpus | None) -> str:
    """`VERIFIED` where the corpus has the article; `UNVERIFIED` where it does not, or there is none.

    That the article exists does not say that it means what the answer says of it.
    """
    return VERIFIED if corpus and cited.article in corpus.articles.get(title_key(cited.law), ()) else UNVERIFIED


def invented(pairs: Sequence[LegalPair], corpus: Corpus) -> list[Fault]:
    """A fault for every citation of an article that is not in the corpus although its law is, and is whole."""
    return [
        Fault(
            kind="no such article",
            place=f"{pair.source}, pair {pair.id}",
            found=f"{cited.law}{article_name(cited.article)}: the corpus has {len(corpus.articles[law])} articles of this law, and not this one"
            + (f" (law as of {corpus.about['as_of']})" if corpus.about["as_of"] else ""),
            mend="cite the article that is meant, in the answer and in meta.citations",
        )
        for pair in pairs
        for cited in pair.citations
        if (law := title_key(cited.law)) in corpus.articles and corpus.whole and cited.article not in corpus.articles[law]
    ]
