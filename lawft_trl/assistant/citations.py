"""The provisions that an answer names, each looked up in the corpus: 検証済 with its text, or 未検証; none that is read is dropped."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lawft_trl.assistant.report import Citation
from lawft_trl.data.legal_citations import UNVERIFIED, VERIFIED
from lawft_trl.statutes.citations import ARTICLE, SHORT_TITLES, find_citations, title_key
from lawft_trl.statutes.passages import Passage, article_key, article_name, show_article
from lawft_trl.statutes.search import Index

# An opened index, or any function from a query and a number to passages, best first.
Search = Index | Callable[[str, int], Sequence[Passage]]

_NAME = r"[一-龥々ァ-ヶー]+(?:(?:の|及び|並びに|に関する|に係る|における|による|な|する(?:ための)?|した|、)[一-龥々ァ-ヶー]+)*?"
_LAW = re.compile(rf"({_NAME}(?:(?:に関する|に係る|のための)(?=法律))?(?:法律|施行令|施行規則|法|政令|府令|省令|規則|条例|憲法|条約))\Z")
_ARTICLE = re.compile(rf"{ARTICLE}|[0-9]{{1,4}}条")  # 第 may be missing directly after a name: 民法709条
_BETWEEN = re.compile(r"[」』]?(?:\([^()]*\))?の?\Z")  # 会社法（平成17年法律第86号）第2条
_LOOKED_AT = 120  # characters before an article in which the law's name ends; longer names than that are cut
_NOT_A_LAW = re.compile(r"(?:^|.*[^一-龥])?(?:[同本当該旧新前後上]|方|手|違|適|合|立|用|司|就業|賃金|取引所|利用|会員|社内|管理)?(?:法|法律|規則|規程|規定|政令|省令|府令|条例|条約)$")
_SAME = rf"同(?P<same>法|令|規則)(?={ARTICLE}|[0-9]{{1,4}}条)"
_UNCLEAR = "どの法令を指すか分かりません"
_EVERYDAY = ("民法", "商法", "会社法", "刑法", "憲法", "労働基準法", "借地借家法")


def find_shown(search: Search, query: str, k: int) -> list[tuple[str, str]]:
    """`(heading, text)` of the articles that fit a query, for a prompt."""
    if isinstance(search, Index):
        return [(hit.passages[0].heading, hit.text) for hit in search.search(query, k)]
    return [(group[0].heading, show_article(group)) for group in _by_article(search(query, k))]


def verify_citations(texts: Iterable[str], search: Search | None) -> tuple[Citation, ...]:
    """Every provision that texts name by law and article, each once, in order.

    Args:
        texts: answers, cleaned.
        search: where articles are looked up; `None` leaves all unverified.
    """
    found: dict[tuple[str, str, str], None] = {}
    for text in texts:
        text = "\n".join("".join(line.split()) for line in unicodedata.normalize("NFKC", text).splitlines())
        names = _names(text)
        found |= dict.fromkeys(find_citations(_spell_out(text, names), names))
    return tuple(dict.fromkeys(_verify(law, article, paragraph, search) for law, article, paragraph in found))


def _names(text: str) -> dict[str, str]:
    """Every name of a law in a text that an article follows, whether any corpus knows it, and the known short titles."""
    names = {title_key(short): title_key(title) for short, title in SHORT_TITLES.items()}
    names |= {title: title for title in [*names.values(), *_EVERYDAY]}
    for article in _ARTICLE.finditer(text):
        before = text[max(0, article.start() - _LOOKED_AT) : article.start()]
        law = _LAW.search(before[: _BETWEEN.search(before).start()])
        name = law and _own_name(law[1], names)
        if name:
            names.setdefault(name, name)
    return names


def _spell_out(text: str, names: dict[str, str]) -> str:
    """同法 before an article as the law of its kind named last, in whichever sentence; where none was, it is a law of its own."""
    named = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    last: dict[str, str] = {}  # kind -> the law named last

    def spelled(match: re.Match[str]) -> str:
        if match["same"]:
            return last.get(match["same"]) or names.setdefault(match[0], match[0])
        last[next((kind for kind in ("規則", "令", "法") if kind in match[0][-2:]), "")] = match[0]
        return match[0]

    return re.sub(rf"{_SAME}|(?P<law>{named})", spelled, text)


def _own_name(written: str, known: dict[str, str]) -> str:
    """The name of a law at the end of what stands before 第N条: 売主の民法 -> 民法; `""` for 同法, 就業規則 and the like."""
    if any(written.endswith(name) and not re.fullmatch(r"[一-龥々ァ-ヶー]", written[: -len(name)][-1:]) for name in known):
        return ""  # the known name is found by itself
    if re.search(r"(?:に関する|に係る|等の)[^、]*法律(?:施行令|施行規則)?$", written):
        return title_key(written)
    last = re.search(r"[一-龥々ァ-ヶー]+$", written)[0]
    return "" if _NOT_A_LAW.fullmatch(last) else title_key(last)


def _verify(law: str, article: str, paragraph: str, search: Search | None) -> Citation:
    shown = article_name(article) + (f"第{paragraph}項" if paragraph else "")
    if re.fullmatch(r"同(?:法|令|規則)", law):
        return Citation(law=law, article=shown, status=UNVERIFIED, note=_UNCLEAR)
    if search is None:
        return Citation(law=law, article=shown, status=UNVERIFIED, note="法令集がありません")
    passages = _look_up(law, article, search)
    if not passages:
        return Citation(law=law, article=shown, status=UNVERIFIED, note="法令集に見当たりません")
    known = {passage.paragraph or "1" for passage in passages}
    if paragraph and paragraph not in known:
        return Citation(law=passages[0].law, article=shown, status=UNVERIFIED, note="法令集のこの条に、この項はありません")
    wanted = [passage for passage in passages if not paragraph or (passage.paragraph or "1") == paragraph]
    return Citation(law=passages[0].law, article=shown, status=VERIFIED, text="\n".join(passage.text for passage in wanted))


def _look_up(law: str, article: str, search: Search) -> list[Passage]:
    """The passages of an article; empty where the corpus has none."""
    query = f"{law}{article_name(article)}"
    if isinstance(search, Index):
        hits = [hit for hit in search.search(query, 3, max_chars=100_000) if hit.via == "citation"]
        return list(hits[0].passages) if hits else []
    groups = _by_article(search(query, 10))
    return next((group for group in groups if group[0].article_key == article_key(law, article)), [])


def _by_article(passages: Iterable[Any]) -> list[list[Passage]]:
    """Passages of one article together, in the order in which the articles come."""
    groups: dict[str, list[Passage]] = {}
    for passage in passages:
        groups.setdefault(passage.article_key, []).append(passage)
    return list(groups.values())
