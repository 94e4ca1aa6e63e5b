"""Excerpts of one paragraph put together: every block once, items in the order of their numbers."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

from lawft_trl.statutes.citations import item_name
from lawft_trl.statutes.passages import Passage

HEADING = re.compile(r"(#+)\s+(.*)")
_IROHA = "イロハニホヘトチリヌルヲワカヨタレソツネナラムウヰノオクヤマケフコエテアサキユメミシヱヒモセス"


@dataclass
class _Block:
    """A heading with the lines under it and the deeper headings under those."""

    heading: str
    lines: list[str] = field(default_factory=list)
    below: list["_Block"] = field(default_factory=list)


def merge_excerpts(passages: Iterable[Passage]) -> list[Passage]:
    """Passages with one key become one whose text holds every distinct block of them once, items in their order.

    Returns:
        In the order of first appearance.
    """
    by_key: dict[str, list[Passage]] = {}
    passages = list(passages)
    divided = {passage.article_key for passage in passages if passage.article[:1].isdecimal() and passage.paragraph.isdecimal()}
    for passage in passages:
        if not passage.paragraph and passage.article_key in divided:  # the first paragraph has no number in the statute
            passage = replace(passage, paragraph="1")
        by_key.setdefault(passage.key, []).append(passage)
    merged = []
    for excerpts in by_key.values():
        text = excerpts[0].text
        if any(other.text != text for other in excerpts):
            text = _merge_texts([excerpt.text for excerpt in excerpts])
        caption = next((excerpt.caption for excerpt in excerpts if excerpt.caption), "")
        merged.append(replace(excerpts[0], text=text, caption=caption))
    return merged


def _merge_texts(texts: Iterable[str]) -> str:
    """Excerpts of one paragraph put together: every lead sentence and item once, items in the order of their numbers."""
    whole = _Block("")
    for text in texts:
        _merge_blocks(whole, _read_blocks(text))
    return "\n".join(_block_lines(whole)).strip()


def _read_blocks(text: str) -> _Block:
    """The tree of a text's headings; the root is what stands before the first."""
    root = _Block("")
    path = [(0, root)]  # the headings above the line: how deep each is, and its block
    for line in text.split("\n"):
        if match := HEADING.match(line):
            while path[-1][0] >= len(match[1]):
                path.pop()
            block = _Block(line)
            path[-1][1].below.append(block)
            path.append((len(match[1]), block))
        else:
            path[-1][1].lines.append(line)
    return root


def _merge_blocks(whole: _Block, other: _Block) -> None:
    """Adds what `whole` lacks; of a line and an excerpt or a miscopied form of it the longer one stays."""
    known = range(len(whole.lines))  # lines of one excerpt are never taken for each other
    for line in other.lines:
        same = next((position for position in known if _nearly_same(whole.lines[position], line)), None)
        if same is None:
            whole.lines.append(line)
        else:
            whole.lines[same] = max(whole.lines[same], line, key=len)
    for block in other.below:
        same_block = next((there for there in whole.below if there.heading == block.heading), None)
        if same_block is None:
            whole.below.append(block)
        else:
            _merge_blocks(same_block, block)


def _nearly_same(one: str, other: str) -> bool:
    """Whether one line is an excerpt of the other, or two long ones that begin alike differ by a slip of the pen."""
    if other in one or (one and one in other):
        return True
    long = min(len(one), len(other)) >= 40 and one[:4] == other[:4]
    return long and SequenceMatcher(None, one, other, autojunk=False).ratio() > 0.9


def _block_lines(block: _Block) -> list[str]:
    below = block.below
    if all(_place(part) for part in below):
        below = sorted(below, key=_place)
    return [*([block.heading] if block.heading else []), *block.lines, *(line for part in below for line in _block_lines(part))]


def _place(block: _Block) -> tuple[int, ...]:
    """Where an item stands among its neighbours, `()` where its heading does not say: 第2号の3 is (2, 3), イ is (1,)."""
    name = block.heading.lstrip("# ")
    if name in set(_IROHA):
        return (_IROHA.index(name) + 1,)
    return tuple(int(number) for number in re.findall(r"[0-9]+", item_name(name)))
