"""Who a rule is about, and who else it could have been about."""

import re
from collections.abc import Iterable, Iterator, Sequence

from lawft_trl.derive.elements import Element
from lawft_trl.statutes.passages import Passage

# Two sides of one relation: where both are named they change places, where one is named the other takes its place.
_SIDES = (
    ("賃貸人", "賃借人"), ("借地権者", "借地権設定者"), ("貸主", "借主"), ("売主", "買主"), ("債権者", "債務者"), ("委託者", "受託者"),
    ("注文者", "請負人"), ("使用者", "労働者"), ("地上権者", "土地所有者"), ("事業者", "消費者"), ("譲渡人", "譲受人"), ("貸付人", "借受人"),
)  # fmt: skip
_MINISTERS = ("内閣総理大臣", "厚生労働大臣", "財務大臣", "法務大臣", "総務大臣", "経済産業大臣", "国土交通大臣", "環境大臣", "農林水産大臣", "文部科学大臣")
_OTHER_BODIES = {"都道府県知事": ("市町村長", "経済産業大臣", "総務大臣"), "金融庁長官": ("法務大臣", "国土交通大臣", "総務大臣"), "裁判所": ("法務大臣", "都道府県知事", "法務局")}
# Powers of the first are delegated to the second or shared with it elsewhere in the law, so neither stands for the other.
_LINKED = {("内閣総理大臣", "財務大臣"), ("厚生労働大臣", "農林水産大臣"), ("厚生労働大臣", "内閣総理大臣"), ("経済産業大臣", "環境大臣")}
_JOINED_AFTER = r"(?!又は|若しくは|及び|並びに|と[^すいみなの]|以外|等|[一-龥々ァ-ヶー])"
_JOINED_BEFORE = r"(?<!又は)(?<!及び)(?<!若しくは)(?<!並びに)(?<![一-龥々ァ-ヶー])"
_TOPIC = re.compile(r"([一-龥々ァ-ヶーA-Za-z]+(?:[のた][一-龥々ァ-ヶー]+)?)は、")
_PERSON = re.compile(r"(?:者|人|会社|機関|協会|法人|組合|員|師|主|士|官|長|庁|所|番|守|家|手|係|者等|会社等|関係者)$")
_OFFICE = re.compile(r"(?:大臣|知事|長官|官|長|庁|裁判所|委員会|協会|機関)$")
_NO_PARTY = re.compile(r"場合|期間|規定|事項|営業所|事務所|製造所|場所|この|その|当該|当事者|何人|大きい|書士")


def read_parties(passages: Iterable[Passage]) -> dict[str, tuple[str, ...]]:
    """Law id -> the parties that a sentence of that law begins with (発行者は、), in a stable order."""
    found: dict[str, set[str]] = {}
    for passage in passages:
        for sentence in re.split(r"[。\n]", passage.text):
            topic = _TOPIC.match(sentence)
            if topic and _PERSON.search(topic[1]) and not _NO_PARTY.search(topic[1]) and len(topic[1]) <= 16:
                found.setdefault(passage.law_id, set()).add(topic[1])
    return {law: tuple(sorted(names)) for law, names in sorted(found.items())}


def find_parties(text: str, shown: str, parties: Sequence[str]) -> list[Element]:
    """The parties of a rule as elements.

    Args:
        text: the rule.
        shown: the whole paragraph; a party it names is none that could be put in another's place.
        parties: those of the same law, from `read_parties`.
    """
    return [*_two_sides(text), *_bodies(text, shown), *_topic(text, shown, parties)]


def _spans(text: str, name: str) -> tuple[tuple[int, int], ...] | None:
    """Where a party stands, or `None` where it also stands in company (A又はB), in a longer word or in a title."""
    if re.search(rf"{re.escape(name)}[^、。]{{0,40}}に関する(?:法律|政令|内閣府令|省令)", text):
        return None  # part of a title
    spans = tuple(match.span() for match in re.finditer(_JOINED_BEFORE + re.escape(name) + _JOINED_AFTER, text))
    return spans if spans and len(spans) == text.count(name) else None


def _two_sides(text: str) -> Iterator[Element]:
    for one, other in _SIDES:
        if re.search(rf"{one}と|{other}と|当事者|相互", text):
            continue
        first, second = _spans(text, one), _spans(text, other)
        if first and second:
            spans = tuple(sorted(first + second))
            yield Element("party", spans, (tuple(other if span in first else one for span in spans),))
        for instead, spans in ((other, first), (one, second)):
            if spans and instead not in text:
                yield Element("party", spans, ((instead,) * len(spans),))


def _bodies(text: str, shown: str) -> Iterator[Element]:
    for name in (*_MINISTERS, *_OTHER_BODIES):
        spans = _spans(text, name)
        if not spans:
            continue
        others = _OTHER_BODIES.get(name, _MINISTERS)
        options = [
            other for other in others if other != name and other not in shown and not {(name, other), (other, name)} & _LINKED
        ]
        yield Element("party", spans, tuple((other,) * len(spans) for other in options))


def _topic(text: str, shown: str, parties: Sequence[str]) -> Iterator[Element]:
    """The party a rule begins with (発行者は、), where no fixed list knows it."""
    topic = _TOPIC.match(text)
    if not topic or topic[1] not in parties or topic[1] in _MINISTERS or topic[1] in _OTHER_BODIES or any(topic[1] in pair for pair in _SIDES):
        return
    name = topic[1]
    spans = _spans(text, name)
    if not spans:
        return
    office = bool(_OFFICE.search(name))
    others = [
        other
        for other in parties
        if bool(_OFFICE.search(other)) == office and other not in shown and not _overlap(name, other) and other not in _MINISTERS
    ]
    if others:
        yield Element("party", spans, tuple((other,) * len(spans) for other in others))


def _overlap(one: str, other: str) -> bool:
    """Whether one name holds the other, 等 and the like apart: 金融商品取引業者 and 金融商品取引業者等."""
    one, other = one.removesuffix("等"), other.removesuffix("等")
    return one in other or other in one


