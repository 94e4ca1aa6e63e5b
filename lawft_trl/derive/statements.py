"""The statements of a passage: what can be quoted alone and judged against the text."""

import functools
import re
from dataclasses import dataclass

from lawft_trl.statutes.citations import item_name
from lawft_trl.statutes.passages import MAIN, Passage, article_name

_ITEM = re.compile(r"([一二三四五六七八九十百]+)((?:の[一二三四五六七八九十]+)*)[　 ]+(.+)")
_ITEM_HEADING = re.compile(r"#+ 第([0-9]+)号((?:の[0-9]+)*)")
_SUBITEM = re.compile(r"[-‐－・]?[ 　]*(?:[イロハニホヘトチリヌルヲワカヨタレソツネナラムウ][　 ．.]|[①-⑳]|[（(][0-9０-９一二三四五六七八九十]+[）)])")
_DEPENDENT = re.compile(r"(?:ただし|この場合|また|なお|前段|後段|その場合|これら)")
_UNJUDGEABLE = re.compile(r"次の表|別表|上欄|下欄|別記|様式|次の(?:算|計)式|次の図|次章|次節|読み替え|[①-⑳]|〔|［|\[|_|[?？]|[ぁ-ん]ます。|[ぁ-ん]です。|ません。|か。$")


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A rule as it stands: a sentence with what depends on it (its proviso), or one item of a list.

    Attributes:
        passage: where it stands.
        text: verbatim.
        item: the item's name, `"第3号"`; `""` for the paragraph itself.
        has_items: whether the passage lists items, so that 次に掲げる has something to point to.
    """

    passage: Passage
    text: str
    item: str = ""
    has_items: bool = False

    @property
    def place(self) -> str:
        """What a lawyer calls it, without the law's title: `"第66条の2第1項第3号"`."""
        return place_of(self.passage) + self.item


def place_of(passage: Passage) -> str:
    """`"第66条の2第1項"`, `"附則第3項"`; without the law's title."""
    place = "" if passage.provision == MAIN else "附則" if passage.provision.startswith("suppl") else passage.provision
    return place + article_name(passage.article) + (f"第{passage.paragraph}項" if passage.paragraph else "")


def split_sentences(text: str) -> list[str]:
    """Sentences of a line, each with its 。; a 。 inside brackets ends none."""
    sentences, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in "（(「『") - (character in "）)」』")
        if character == "。" and depth <= 0:
            sentences.append(text[start : index + 1])
            start, depth = index + 1, 0
    if text[start:].strip():
        sentences.append(text[start:])
    return sentences


def read_statements(passage: Passage) -> tuple[list[Statement], list[Statement]]:
    """The rules and the items of a passage that can be judged by its text alone.

    Text under headings that are no article (guidelines, answers to questions) is left out: it argues, it does not
    rule. So are formulas, tables, readings-as (読み替え), and items that are themselves lists.

    Returns:
        `(rules, items)`, both in the order of the text.
    """
    if not re.fullmatch(r"\d+(_\d+)*", passage.article or passage.paragraph):
        return [], []
    lead, items = _divide([line.strip() for line in passage.text.split("\n") if line.strip()])
    rules = [
        Statement(passage=passage, text=text, has_items=bool(items))
        for line in lead
        for text in _whole_rules(line)
        if not _UNJUDGEABLE.search(text)
    ]
    listed = [
        Statement(passage=passage, text=lines[0], item=name, has_items=True)
        for name, lines in items.items()
        if len(lines) == 1 and not _UNJUDGEABLE.search(lines[0]) and not re.search(r"次に掲げる|次の[イロ]|次のいずれ", lines[0])
    ]
    return rules, listed if lead else []


def _divide(lines: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The lines before the first item, and the lines of every item under its name (`"第3号"`).

    An item begins with its number in kanji and a space, as e-Gov prints it, or stands under a heading of its own.
    """
    lead: list[str] = []
    items: dict[str, list[str]] = {}
    here = lead
    for line in lines:
        item, heading = _ITEM.fullmatch(line), _ITEM_HEADING.fullmatch(line)
        if heading:
            here = items.setdefault(f"第{heading[1]}号{heading[2]}", [])
        elif item:
            here = items.setdefault(item_name(f"第{item[1]}号{item[2]}"), [])
            here.append(item[3].strip())
        elif line.startswith("#") or _SUBITEM.match(line):
            here = items.setdefault("", []) if here is lead else here
            here += [line, line]  # no longer an item of one line
        else:
            here.append(line)
    items.pop("", None)
    return lead, items


def _whole_rules(line: str) -> list[str]:
    """The sentences of a line, each joined with those that depend on it; nothing of a line that is no whole sentence."""
    if not line.endswith("。") or line.count("（") != line.count("）") or line.count("「") != line.count("」"):
        return []
    rules: list[str] = []
    for sentence in split_sentences(line):
        if rules and (_DEPENDENT.match(sentence) or sentence.endswith("同様とする。")):
            rules[-1] += sentence
        elif not _DEPENDENT.match(sentence):
            rules.append(sentence)
    return rules


def outer_brackets(text: str) -> list[tuple[int, int]]:
    """Spans of the outermost （…）, brackets included."""
    spans, depth, start = [], 0, 0
    for index, character in enumerate(text):
        if character == "（":
            start = index if depth == 0 else start
            depth += 1
        elif character == "）" and depth:
            depth -= 1
            if depth == 0:
                spans.append((start, index + 1))
    return spans


_SCOPE = re.compile(r"除く|除き|含む|含み|限る|限り|にあつては|にあっては|については")
_NAMING = re.compile(r"以下.*(?:という|総称する|同じ)。|.*をいう。(?:以下.*同じ。)?|(?:明治|大正|昭和|平成|令和).*第.+号。?(?:以下.*という。)?")


@functools.lru_cache(maxsize=4096)
def cuttable(text: str) -> tuple[tuple[int, int], ...]:
    """Spans of the brackets that only name, define or number: leaving them out changes no rule.

    A bracket that widens or narrows (を除く, を含む, に限る, にあつては) is never among them.
    """
    spans = []
    for start, end in outer_brackets(text):
        content = text[start + 1 : end - 1]
        if _NAMING.fullmatch(content) and not _SCOPE.search(content):
            spans.append((start, end))
        else:
            tail = re.search(r"(?<=。)以下[^。（）]*(?:同じ|という|総称する)。$", content)
            spans += [(start + 1 + tail.start(), start + 1 + tail.end())] if tail else []
            spans += [(start + 1 + inner_start, start + 1 + inner_end) for inner_start, inner_end in cuttable(content)]
    return tuple(spans)
