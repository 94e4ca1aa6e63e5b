"""Training rows derived from a statutes corpus: what an article provides, in its own words, and nothing that the text does not say."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from lawft_trl.data.legal_pairs import CitedArticle, LegalPair
from lawft_trl.data.rows import Row
from lawft_trl.data.rubric import text_key
from lawft_trl.statutes.citations import title_key
from lawft_trl.statutes.passages import MAIN, Passage, article_name, read_manifest, read_passages

_LONGEST = 500  # characters of an article that is quoted whole
_KIND = "法律解釈"


def derive_rows(corpus: Path, rows: Sequence[Row], pairs: Sequence[LegalPair], kinds: Sequence[str], laws: Sequence[str], most: int) -> list[Row]:
    """Rows that quote articles which the training rows of weak kinds cite; those of the laws that were missed come first.

    No article is taken from the held-out pairs: that would teach the test.

    Args:
        corpus: a statutes corpus.
        rows: the training rows; the new ones have their system message and the form of their `meta`.
        pairs: the same rows.
        kinds: the weak kinds.
        laws: titles of the laws whose articles answers missed, once for each article.
        most: how many rows at most.

    Raises:
        InputError: when the folder is not a corpus.
    """
    read_manifest(corpus)
    cited = Counter(CitedArticle(title_key(each.law), each.article) for pair in pairs if pair.kind in kinds for each in pair.citations)
    texts = _articles(corpus, set(cited))
    urgent = Counter(map(title_key, laws))
    ranked = sorted(texts, key=lambda each: (-urgent[each.law], -cited[each], each.law, each.article))
    system = Counter(row.system for row in rows).most_common(1)[0][0]
    known = {row.id for row in rows}  # of an earlier improvement
    return [_row(each, texts[each], system, rows[0], pairs[0]) for each in ranked if _id(each) not in known][:most]


def _articles(corpus: Path, wanted: set[CitedArticle]) -> dict[CitedArticle, list[Passage]]:
    """The passages of the wanted articles that are short enough to be quoted whole."""
    found: dict[CitedArticle, list[Passage]] = defaultdict(list)
    for passage in read_passages(corpus):
        key = CitedArticle(title_key(passage.law), passage.article)
        if passage.provision == MAIN and key in wanted:
            found[key].append(passage)
    return {key: passages for key, passages in found.items() if sum(len(passage.text) for passage in passages) <= _LONGEST}


def _id(cited: CitedArticle) -> str:
    return f"article-{cited.law}-{cited.article}"


def _row(cited: CitedArticle, passages: Sequence[Passage], system: str | None, like: Row, pair: LegalPair) -> Row:
    name, caption = f"{passages[0].law}{article_name(cited.article)}", passages[0].caption
    text = "\n".join(passage.text for passage in passages)
    as_of = f"（{passages[0].as_of}時点の条文）" if passages[0].as_of else ""
    answer = f"{name}{f'（{caption}）' if caption else ''}は、次のように定めています{as_of}。\n「{text}」\n個別の事案に当てはまるかどうかは、事実関係を整理したうえで弁護士に確認してください。"
    meta = {
        **{key: like.meta[key] for key in ("dataset", "mode") if key in like.meta},
        "id": _id(cited),
        "kind": _KIND,
        "group": f"article:{cited.law}/{cited.article}",
        "citations": [{"law": passages[0].law, "article": cited.article, "status": "検証済"}],
        "required_points": [{"point": f"{name}の文言を引用する", "any_of": [re.escape(text_key(text)[:20])]}],
        "forbidden": list(pair.forbidden),
        "derived_from": passages[0].article_key,
    }
    question = {"role": "user", "content": f"{name}は何を定めていますか。条文を引用して答えてください。"}
    prompt = (question,) if system is None else ({"role": "system", "content": system}, question)
    return Row(prompt=prompt, output=answer, meta=meta, source=f"derived from {name}")
