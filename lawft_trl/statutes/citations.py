"""Reading citations: numerals, article numbers, short titles, and which provisions a text names."""

import itertools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Set

from lawft_trl.statutes.numerals import read_number

# A numeral as statutes write it, Arabic of either width or kanji. Possessive: `第五条の二十` is never read as 第五条の二.
NUMERAL = r"(?:[0-9０-９]++|[〇一二三四五六七八九十百千]++)"
# 第N条, 第N条のM. 「第二条の一部を改正」 and 「第五条の二人」 name no branch number.
ARTICLE = rf"第\s*{NUMERAL}\s*条(?:\s*の\s*{NUMERAL}(?!\s*[部つ人者年月日種]))*"
PARAGRAPH = rf"第\s*{NUMERAL}\s*項"
ITEM = rf"第\s*{NUMERAL}\s*号(?:の\s*{NUMERAL})*"

_AND = r"(?:、|,|・|と|から|及び|並びに|又は|若しくは|または|および|もしくは)"
_WHERE = rf"(?:第?{NUMERAL}号(?:の{NUMERAL})?)?(?:本文|ただし書|前段|後段|各号列記以外の部分|各号)?"
_PARAGRAPH = rf"第?{NUMERAL}項(?!目)"
# Directly after a law's name people leave the 第 out: 金商法5条1項. 「2条件」 is no article.
_CITED = re.compile(rf"({ARTICLE}|{ARTICLE.removeprefix('第')}(?![約例件文]))((?:{_PARAGRAPH}(?:{_WHERE}{_AND}(?={_PARAGRAPH}))?)*)")
_JOINED = re.compile(rf"(?:{_PARAGRAPH})?{_WHERE}(?:まで)?{_AND}")
_KIND = re.compile(r"(法|令|規則)(?:律)?$")
_SAME = re.compile(r"同(法|令|規則)$")
_ACT_NAMED = re.compile(r"(?<![方違適不合手用立司])法律?(?![人的令務定廷])")  # an Act's name ends here, whether it is known or not
_REMARK = re.compile(r"\([^()]*\)$")  # 金融商品取引法（以下「法」という。）第5条
_BEFORE_TITLE = re.compile(r"(?:[上前下]記|当該|現行|\((?:[0-9]{1,3}|[一二三四五六七八九十]+|[ア-ンa-z])\))$")  # (1)民法, 上記民法

# What lawyers and questions call the statutes they name most; a corpus brings more in `Passage.aliases`.
SHORT_TITLES = {
    "金商法": "金融商品取引法",
    "薬機法": "医薬品、医療機器等の品質、有効性及び安全性の確保等に関する法律",
    "医薬品医療機器等法": "医薬品、医療機器等の品質、有効性及び安全性の確保等に関する法律",
    "医薬品医療機器法": "医薬品、医療機器等の品質、有効性及び安全性の確保等に関する法律",
    "景表法": "不当景品類及び不当表示防止法",
    "景品表示法": "不当景品類及び不当表示防止法",
    "独禁法": "私的独占の禁止及び公正取引の確保に関する法律",
    "独占禁止法": "私的独占の禁止及び公正取引の確保に関する法律",
    "下請法": "下請代金支払遅延等防止法",
    "個人情報保護法": "個人情報の保護に関する法律",
    "番号利用法": "行政手続における特定の個人を識別するための番号の利用等に関する法律",
    "マイナンバー法": "行政手続における特定の個人を識別するための番号の利用等に関する法律",
    "特商法": "特定商取引に関する法律",
    "特定商取引法": "特定商取引に関する法律",
    "区分所有法": "建物の区分所有等に関する法律",
    "宅建業法": "宅地建物取引業法",
    "労基法": "労働基準法",
    "派遣法": "労働者派遣事業の適正な運営の確保及び派遣労働者の保護等に関する法律",
    "労働者派遣法": "労働者派遣事業の適正な運営の確保及び派遣労働者の保護等に関する法律",
    "男女雇用機会均等法": "雇用の分野における男女の均等な機会及び待遇の確保等に関する法律",
    "犯収法": "犯罪による収益の移転防止に関する法律",
    "犯罪収益移転防止法": "犯罪による収益の移転防止に関する法律",
    "資金決済法": "資金決済に関する法律",
    "入管法": "出入国管理及び難民認定法",
    "刑訴法": "刑事訴訟法",
    "民訴法": "民事訴訟法",
    "不競法": "不正競争防止法",
    "外為法": "外国為替及び外国貿易法",
    "消契法": "消費者契約法",
    "建基法": "建築基準法",
    "廃棄物処理法": "廃棄物の処理及び清掃に関する法律",
}


def article_number(name: str) -> str:
    """`"第二十七条の二"` -> `"27_2"`, `"第3条から第5条まで"` -> `"3:5"`; `""` when the text is not exactly an article's name."""
    name = unicodedata.normalize("NFKC", name).strip()
    if not re.fullmatch(rf"{ARTICLE}(?:(?:から|及び){ARTICLE}(?:まで)?)?", name):
        return ""
    return ":".join("_".join(_numbers(each)) for each in re.findall(ARTICLE, name))


def paragraph_number(name: str) -> str:
    """`"第１項"` and `"第一項"` -> `"1"`; `""` when the text is not exactly one paragraph's name."""
    name = unicodedata.normalize("NFKC", name).strip()
    return _numbers(name)[0] if re.fullmatch(PARAGRAPH, name) else ""


def item_name(name: str) -> str:
    """`"第２号の三"` -> `"第2号の3"`; `""` when the text is not exactly one numbered item's name."""
    name = unicodedata.normalize("NFKC", name).strip()
    if not re.fullmatch(ITEM, name):
        return ""
    first, *branch = _numbers(name)
    return f"第{first}号" + "".join(f"の{number}" for number in branch)


def _numbers(text: str) -> list[str]:
    """The numerals of a text in Arabic digits."""
    return [str(read_number(numeral)) for numeral in re.findall(NUMERAL, text)]


def title_names(laws: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Every name a law may be cited by -> its title, both as `title_key` writes them.

    Args:
        laws: title -> its own short titles (`Passage.aliases`).
    """
    titles = {title_key(title): title_key(title) for title in laws}
    names = dict(titles)
    for short, title in SHORT_TITLES.items():
        for suffix in ("", "施行令", "施行規則"):
            if title_key(title + suffix) in titles:
                names.setdefault(short + suffix, title_key(title + suffix))
    for title, aliases in laws.items():
        for alias in aliases:
            names.setdefault(title_key(alias), title_key(title))
    return names


def title_key(title: str) -> str:
    """A law's title without spaces and differences of width, as it stands in `article_key`."""
    return "".join(unicodedata.normalize("NFKC", title).split())


def find_citations(text: str, names: Mapping[str, str], own: str = "", parent: str = "") -> list[tuple[str, str, str]]:
    """The provisions a text names: `[("金融商品取引法", "27_2", "1")]`; the paragraph is `""` where none is named.

    The longest name that stands directly before 第N条 is the law's, so 金融商品取引法施行令第5条 is never read as an article
    of the Act, whether or not the corpus has the 施行令. After a name the 第 may be missing (金商法5条1項). Further articles
    after 及び, 又は, 、 and the like are of the same law; so is 同法第N条 in the same sentence, unless another law is named
    between.

    Args:
        text: any text.
        names: `title_names` of the laws that are looked for.
        own: title of the law that the text belongs to: 「第N条」 alone is an article of it. `""`: such are passed over.
        parent: title of the Act that 「法第N条」 means in the text. `""`: such are passed over.

    Returns:
        Each once, in the order of the text.
    """
    longest = max(map(len, names), default=0)
    found: dict[tuple[str, str, str], None] = {}
    for written in text.splitlines():  # a citation never goes on from one choice to the next
        words = unicodedata.normalize("NFKC", written).split()
        line, starts = "".join(words), {0, *itertools.accumulate(map(len, words))}
        law, end = "", 0  # of the citation before
        same: dict[str, str] = {}  # what 同法, 同令 and 同規則 mean: the laws of these kinds named last in the sentence
        for match in _CITED.finditer(line):
            start = match.start()
            if end == 0 or not _JOINED.fullmatch(line, end, start):
                between = line[end:start]
                if "。" in re.sub(r"\([^()]*\)", "", between):
                    same = {}
                kind = _SAME.search(between)
                acts = list(_ACT_NAMED.finditer(line, end, start - 2)) if kind and kind[1] == "法" else []
                law = _law_before(line, acts[-1].end() if acts else start, names, longest, starts)
                if law:
                    same |= {ending[1]: law for ending in [_KIND.search(law)] if ending}
                elif kind and not acts:
                    law = same.get(kind[1], "")
                elif not match[1].startswith("第"):  # 三条 of a number of things, not of a law
                    continue
                elif not (law := _relative_law(line[:start], own, parent)) and _is_title_character(line[start - 1 : start]):
                    same = {}  # a law that is not known
            end = match.end()
            if law:
                paragraphs = _numbers("".join(re.findall(_PARAGRAPH, match[2])))
                found |= {(law, "_".join(_numbers(match[1])), paragraph): None for paragraph in paragraphs or [""]}
    return list(found)


def _law_before(line: str, end: int, names: Mapping[str, str], longest: int, starts: Set[int]) -> str:
    """The law whose longest name ends at a place of a line, before 「の」, a remark and quotation marks; `""` when none does.

    Args:
        line: a line without its spaces.
        end: where the citation begins.
        names: see `find_citations`.
        longest: length of the longest name.
        starts: where a space stood; a title may begin there whatever stands before.
    """
    skipped = max(0, end - longest - 200)
    before = _REMARK.sub("", line[skipped:end].removesuffix("の")).rstrip("」』")
    for length in range(min(longest, len(before)), 1, -1):
        start = len(before) - length
        if before[start:] in names:
            free = skipped + start in starts or _BEFORE_TITLE.search(before, 0, start)
            if free or not _is_title_character(before[start - 1 : start]):
                return names[before[start:]]
    return ""


def _relative_law(before: str, own: str, parent: str) -> str:
    """What 「法第N条」 and 「第N条」 mean within a statute; `""` after the name of a law that is not known."""
    is_act = before.endswith("法")
    if _is_title_character((before[:-1] if is_act else before)[-1:]):  # 会社法第N条, 附則第N条
        return ""
    return title_key(parent if is_act else own)


def _is_title_character(character: str) -> bool:
    """Whether a title could go on to the left: 商法 in 金融商法 is another law's."""
    return bool(re.fullmatch(r"[一-鿿々ァ-ヶー)]", character))
