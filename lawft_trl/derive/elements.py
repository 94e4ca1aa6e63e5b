"""Checkable elements inside a rule, each with the words that would make it say something else.

An element is found only where its change is sure to change the rule: not inside a defined term or another law's
title, not in a date of promulgation, not in a list of citations.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from lawft_trl.derive.statements import cuttable
from lawft_trl.statutes.numerals import NUMBER, read_number, write_number


@dataclass(frozen=True)
class Element:
    """One thing a rule says, and other things it could have said.

    Attributes:
        kind: `"period"`, `"party"`, `"duty"`, ...; see `KINDS`.
        spans: where it stands in the text, in order. More than one where one thing is said at several places (a party
            named twice, 〜でなければ…してはならない); they are only ever changed together.
        options: the other things, each a replacement for every span.
    """

    kind: str
    spans: tuple[tuple[int, int], ...]
    options: tuple[tuple[str, ...], ...]


# Kind -> what a reader would call it.
KINDS = {
    "period": "期間",
    "age": "年齢",
    "amount": "金額",
    "ratio": "割合",
    "count": "数",
    "limit": "範囲の限り方",
    "time": "時期",
    "party": "主体",
    "duty": "義務・権限の別",
    "effect": "効果",
    "proviso": "ただし書の扱い",
    "scope": "含むか除くか",
    "condition": "要件の重なり方",
    "procedure": "手続",
    "delegation": "委任先",
    "citation": "引用する条項",
    "term": "要件を示す語",
}

_LADDERS = {
    "日": (3, 5, 7, 10, 14, 15, 20, 25, 30, 40, 45, 50, 60, 90, 120),
    "週間": (1, 2, 3, 4, 6, 8),
    "月": (1, 2, 3, 4, 6, 9, 10),
    "年": (1, 2, 3, 4, 5, 7, 10, 15, 20, 25, 30, 50),
    "時間": (6, 12, 18, 24, 36, 48, 72),
    "歳": (15, 16, 18, 20, 22, 25, 28, 30, 35, 40, 45, 50, 60, 65),
    "割": (1, 2, 3, 4, 5),
    "倍": (2, 3, 4, 5, 10),
    "円": tuple(step * 10**power for power in range(2, 12) for step in (1, 2, 3, 5)),
}
_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 150, 200, 300, 500, 1000, 2000, 3000, 5000)
_SHARES = {100: (1, 3, 5, 10, 15, 20, 25, 30, 40, 50, 60, 75), 1000: (1, 3, 5, 10, 15, 20, 30, 50)}
_FRACTIONS = ((1, 4), (1, 3), (1, 2), (2, 3), (3, 4), (4, 5))
_KIND_OF_UNIT = {"歳": "age", "円": "amount", "割": "ratio", "パーセント": "ratio", "％": "ratio"}
_UNITS = "週間|時間|箇月|か月|カ月|ヶ月|日|月|年|歳|円|割|倍|回|人|名|個|台|枚|パーセント|％|キログラム|グラム|トン|平方メートル|センチメートル|メートル"
# What may follow a unit written in kanji; anything else makes another word of it (年度, 日本, 人格, 月額).
_AFTER_UNIT = r"(?=以上|以下|以内|以後|以前|未満|前|後|間|分の|を|が|に|の|と|で|か|ご|は|も|、|。|（|）|経過|超|目$)"
_MEASURE = re.compile(rf"(?<![第〇一二三四五六七八九十百千万億兆・0-9０-９分])({NUMBER})({_UNITS}){_AFTER_UNIT}")
_SHARE = re.compile(rf"(?<![〇一二三四五六七八九十百千])(百|千|[二三四五六])分の({NUMBER})")
_BEFORE_DATE = re.compile(r"(?:明治|大正|昭和|平成|令和|毎年|翌年|年|月)$")


def find_elements(text: str) -> list[Element]:
    """The elements of a rule that its words alone show; see `predicates` for its end and `parties` for who is meant."""
    hidden = _hidden(text)
    found = [*_measures(text), *_shares(text), *_wording(text), *_citations(text), *_antonyms(text)]
    return [element for element in found if not any(hidden[start] for start, _ in element.spans)]


def _hidden(text: str) -> list[bool]:
    """For every character whether it stands in a cuttable bracket or in 「…」, where nothing is changed."""
    hidden = [False] * len(text)
    for start, end in [*cuttable(text), *(match.span() for match in re.finditer(r"「[^「」]*」", text))]:
        hidden[start:end] = [True] * (end - start)
    return hidden


def _nearest(ladder: tuple[int, ...], value: Fraction) -> list[Fraction]:
    """The four rungs next below a value and the four next above it: natural legal numbers of the same size."""
    below, above = ([Fraction(rung) for rung in ladder if (rung < value) == is_below and rung != value] for is_below in (True, False))
    return [*below[:-5:-1], *above[:4]]


def _measures(text: str) -> Iterator[Element]:
    """Periods, ages, amounts and counts: 三十日, 十八歳, 五千万円, 二人."""
    for match in _MEASURE.finditer(text):
        number, unit = match.groups()
        value = read_number(number)
        before, after = text[: match.start()], text[match.end() :]
        if not value or (unit in "年月日" and (_BEFORE_DATE.search(before) or re.match(rf"{NUMBER}[月日]", after))):
            continue
        if (unit == "日" and value == 1) or (unit == "人" and number.startswith("一") and after.startswith("の")):
            continue
        base = {"箇月": "月", "か月": "月", "カ月": "月", "ヶ月": "月"}.get(unit, unit)
        kind = _KIND_OF_UNIT.get(unit, "period" if base in ("日", "週間", "月", "年", "時間") else "count")
        ladder = _LADDERS.get(base, _SHARES[100] if kind == "ratio" else _COUNTS)
        # 二人以上ある場合 -> 一人以上ある場合: what holds of all of them holds of one alone
        rungs = [rung for rung in _nearest(ladder, value) if not (rung == 1 and after.startswith("以上"))]
        options = tuple((write_number(rung, number) + unit,) for rung in rungs)
        yield Element(kind, (match.span(),), options)


def _shares(text: str) -> Iterator[Element]:
    """Ratios: 百分の五, 百分の二・二五, 三分の二."""
    for match in _SHARE.finditer(text):
        whole, part = match.groups()
        value, base = read_number(part), read_number(whole)
        if not value:
            continue
        if base in _SHARES:
            decimal = value.denominator > 1
            ladder = [rung for rung in (value / 2, value - 1, value - 2, value * 2, value + 1, value + 2) if rung > 0] if decimal else _nearest(_SHARES[int(base)], value)
            options = [f"{whole}分の{write_number(rung, part)}" for rung in ladder]
        else:
            options = [f"{write_number(Fraction(low))}分の{write_number(Fraction(high))}" for high, low in _FRACTIONS if Fraction(high, low) != value / base]
        yield Element("ratio", (match.span(),), tuple((option,) for option in options))


_NUMBER_END = rf"(?<=[{_UNITS.replace('|', '')}〇一二三四五六七八九十百千万億])"
# (kind, pattern, replacements). A pattern takes in what must be rewritten with the word (以上の -> を超える).
_WORDING: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("limit", _NUMBER_END + r"以上の(?!期間)", ("未満の", "を超える", "以下の")),
    ("limit", _NUMBER_END + r"以上(?=である|となる|に達|（|が|置)", ("未満", "以下")),
    ("limit", _NUMBER_END + r"以下の", ("を超える", "以上の", "未満の")),
    ("limit", _NUMBER_END + r"以下(?=である|となる|で)", ("以上",)),
    ("limit", _NUMBER_END + r"未満の", ("以上の", "を超える", "以下の")),
    ("limit", _NUMBER_END + r"未満(?=である|となる)", ("以上",)),
    ("limit", _NUMBER_END + r"以内に", ("を経過した後に",)),
    ("limit", _NUMBER_END + r"以内(?=とする|の)", ("以上",)),
    ("limit", _NUMBER_END + r"を超える(?=[一-龥ァ-ヶ])", ("に満たない", "以下の")),
    ("limit", _NUMBER_END + r"を超えない", ("を下らない",)),
    ("limit", _NUMBER_END + r"に満たない(?=[一-龥ァ-ヶ])", ("を超える", "以上の")),
    ("time", r"(?<=[をがたのは、の一-龥])した後(?!見)", ("する前",)),
    ("time", r"行つた後|行った後", ("行う前",)),
    ("time", r"(?<=[一-龥を])する前(?=に|の|、)", ("した後",)),
    ("time", r"(?<=[日月年間])前(?=までの|に|一|二|三|四|五|六|七|八|九|十)", ("後",)),
    ("time", r"(?<=日)後(?=[一二三四五六七八九十])", ("前",)),
    ("time", r"(?<=日の)後(?=[一二三四五六七八九十])", ("前",)),
    ("time", r"(?<!末日の)翌日", ("前日",)),
    ("time", r"末日の翌日", ("初日の前日", "末日の前日", "初日")),
    ("time", r"前日", ("翌日",)),
    ("time", r"あらかじめ(?=、)", ("遅滞なく", "事後に")),
    ("time", r"(?<=、)遅滞なく(?=、)", ("あらかじめ", "三十日以内に", "六月以内に", "翌事業年度の開始後に")),
    ("time", r"(?<=後)遅滞なく(?=、)", ("三十日以内に", "六月以内に", "一年以内に")),
    ("time", r"直ちに(?=、|[一-龥])", ("三十日以内に", "六月以内に", "一年以内に")),
    ("time", r"速やかに(?=、)", ("六月以内に", "一年以内に", "あらかじめ")),
    ("time", r"(?<=[たの])日から(?=起算|[〇一二三四五六七八九十百])", ("日の属する月の末日から", "日の属する年の末日から")),
    ("scope", r"(?<!部分)を除く(?=。[）以])", ("を含む", "に限る")),
    ("scope", r"(?<!準用する場合)を含む(?=。[）以])", ("を除く",)),
    ("scope", r"に限る(?=。[）以])", ("を除く",)),
    ("scope", r"場合を除き(?=、)", ("場合を含め", "場合に限り")),
    ("scope", r"(?<=場合に)限り(?=、)", ("限らず",)),
    # 「いずれかに該当するときは」 is not narrowed to いずれにも: who meets all meets one, so that would still be true.
    ("condition", r"いずれにも(?=該当(?!しな))", ("いずれかに",)),
    ("condition", r"いずれかに(?=該当する(?:場合とする|者とする|ものとする|こととする|ときとする|もの(?:を|は|に)))", ("いずれにも",)),
    ("condition", r"(?<=[れりいしきみ]、)かつ、", ("又は",)),
    ("condition", r"(?<=特定)かつ(?=多数)", ("又は",)),
    ("procedure", r"(?<=の)(?:許可|認可|承認|登録|認定|免許|認証)(?=を受け)", ("許可", "認可", "承認", "登録", "認定", "免許", "認証")),
    ("procedure", r"の意見を聴いて", ("の同意を得て", "の承認を受けて", "への届出をして", "の議決を経て")),
    ("procedure", r"(?<=[は、に])書面に(?:より|よつて|よって)", ("口頭により",)),
    ("delegation", r"(?<![一-龥])(?:政令|内閣府令|厚生労働省令|国土交通省令|経済産業省令|法務省令|総務省令|財務省令|農林水産省令|環境省令)(?=で定め)",
     ("政令", "内閣府令", "厚生労働省令", "法務省令", "総務省令", "財務省令")),
    ("term", r"(?<=[一-龥])の過半数", ("の三分の二以上", "の四分の三以上", "の三分の一以上")),
)  # fmt: skip


def _wording(text: str) -> Iterator[Element]:
    """Elements that a fixed word expresses: limits, times, scope, conditions, procedures, delegation."""
    for kind, pattern, replacements in _WORDING:
        for match in re.finditer(pattern, text):
            if re.match(r"した後|する前", match[0]) and len(re.findall(r"した後|する前", text)) > 1:
                continue  # 買付けの後に売付け, 売付けの後に買付け: each is the other told from its end
            if kind == "limit" and match[0].startswith("以内") and "超え" in text[match.end() : match.end() + 6]:
                continue
            options = tuple((word,) for word in replacements if word != match[0])
            yield Element(kind, (match.span(),), options)


_CITATION = re.compile(rf"第({NUMBER})条((?:の{NUMBER})*)(?:第({NUMBER})項)?(?:第({NUMBER})号)?")
_IN_A_LIST = re.compile(r"(?:[条項号書文]、|まで、|まで|から|又は|若しくは|及び|並びに|同条|各号|[条項号])$")
_LISTED_AFTER = re.compile(
    r"、|から|まで|又は|若しくは|及び|並びに|第|ただし書|本文|[イロハニ]|各号(?:、|又は|若しくは|及び|並びに)|の(?!規定|承認|許可|登録|認証|届出)"
    r"|[^、。（）]{0,30}に関する(?:法律|政令|内閣府令|省令|規則)"
)


def _citations(text: str) -> Iterator[Element]:
    """A provision cited alone: 第六十六条の二第一項. One in a list or a range is left alone."""
    for match in _CITATION.finditer(text):
        article, branch, paragraph, item = match.groups()
        before, after = text[: match.start()], text[match.end() :]
        if _LISTED_AFTER.match(after) or _IN_A_LIST.search(before):
            continue
        number = read_number(item or paragraph or article)
        if not number:
            continue
        steps = [number + by for by in (1, -1, 2, -2, 3, -3) if number + by >= 1]
        whole = match[0]
        if item:
            options = [whole[: whole.rindex("第")] + f"第{write_number(step)}号" for step in steps]
        elif paragraph:
            options = [whole[: whole.rindex("第")] + f"第{write_number(step)}項" for step in steps]
        else:
            options = [f"第{write_number(step)}条{branch}" for step in steps]
        yield Element("citation", (match.span(),), tuple((option,) for option in options))


# Words whose opposite makes the opposite rule. Both in one rule is a rule about both, and neither is changed then.
_ANTONYMS = (
    ("増額", "減額"), ("有利", "不利"), ("最後の", "最初の"), ("短縮", "延長"), ("増加", "減少"), ("引上げ", "引下げ"),
    ("輸入", "輸出"), ("有償", "無償"), ("事前", "事後"), ("上回る", "下回る"), ("重要な", "軽微な"), ("著しい", "軽微な"), ("対面により", "書面により"),
    ("専ら", "主として"), ("超過額", "不足額"), ("作為", "不作為"), ("過大", "過小"), ("短い", "長い"), ("優先して", "劣後して"),
    ("特別の", "通常の"), ("個人である", "法人である"), ("法人である", "個人である"), ("時価で", "取得価額で"), ("将来に向かって", "過去に遡って"),
    ("主として", "従として"),
)  # fmt: skip
_KANJI = "一-龥々ァ-ヶー"


def _antonyms(text: str) -> Iterator[Element]:
    """A word and its opposite, at every place where it stands."""
    pairs = {**dict(_ANTONYMS), **{other: one for one, other in _ANTONYMS[:9]}}
    for word, opposite in pairs.items():
        if opposite in text or word not in text or (word in ("輸入", "輸出") and re.search(r"本邦|(?:輸入|輸出)(?:し、|され|若しくは|又は)", text)):
            continue  # 本邦に輸出 is 本邦に輸入; one act in a list of several is not the whole rule
        before = rf"(?<![{_KANJI}])" if re.match(f"[{_KANJI}]", word) else ""
        after = rf"(?![{_KANJI}])" if re.search(f"[{_KANJI}]$", word) else ""
        spans = tuple(match.span() for match in re.finditer(before + re.escape(word) + after, text))
        if spans and len(spans) == text.count(word):
            yield Element("term", spans, ((opposite,) * len(spans),))
