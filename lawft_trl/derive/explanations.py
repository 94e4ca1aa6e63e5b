"""Reasons in words: each quotes the deciding words of the statute and names what differs.

Words of the statute stand in 「」 and occur there letter for letter; words of a choice stand in 『』.
"""

import random
import re
from collections.abc import Sequence

from lawft_trl.derive.changes import MEASURES, Change, number_value, point_to_items, rewrite
from lawft_trl.derive.elements import KINDS, Element
from lawft_trl.derive.statements import Statement, cuttable, outer_brackets, split_sentences

_REACH, _FAR_REACH = 26, 40  # characters a quotation may reach beyond the element to the left and to the right
_TWO_REASONS = 240  # characters up to which the reasons of two changes are both given
_LONG_QUOTE = 60
_SAYS_LITTLE = 12  # characters of a quotation that shows too little of the rule
_STOPS = "。「」『』\n\u3000"  # what no quotation reaches across


def quoted_span(text: str, start: int, end: int) -> tuple[int, int]:
    """The stretch of a text that a reason quotes: the element with its clause, free of inner quotation marks."""
    left = start
    while left and start - left < _REACH and text[left - 1] not in _STOPS and text[left - 1] != "（" and not (text[left - 1] in "、）" and start - left >= 4):
        left -= 1
    if start - left == _REACH:  # cut in the middle of a clause
        left += _after_particle(text[left:start])
    if opening := _DANGLING.match(text, left, start):  # what is left of （…）は、
        left = opening.end()
    right = end
    if text[end - 1] != "。":
        while right < len(text) and right - end < _FAR_REACH and text[right] not in _STOPS + "（" and not (text[right] in "、）" and right - left >= 12):
            right += 1
        if right - end == _FAR_REACH:
            particles = [match.end() for match in re.finditer(r"[一-龥ァ-ヶるたいしの][はがをにてで](?=[一-龥ァ-ヶ、])(?!次)", text[end:right])]
            right = end + particles[-1] if particles else right
    return left, right


_DANGLING = re.compile(r"[）（、]+(?:(?:は|が|を|に|で|の|と|から|まで)、?)?|(?<=）)(?:は|が|を|に|で|の|と)、?")


def _after_particle(text: str) -> int:
    """Where a quotation may begin that would otherwise begin in the middle of a word: behind the first particle, or at 0."""
    particle = re.search(r"[はがをにで、の](?=[一-龥ァ-ヶ])(?![一二三四五六七八九十他各])", text)
    return particle.end() if particle else 0


def quote(statement: Statement, span: tuple[int, int]) -> str:
    """The words of the statute around a span, without quotation marks."""
    left, right = quoted_span(statement.text, *span)
    return statement.text[left:right].strip().removesuffix("。")


def pieces(statement: Statement) -> list[str]:
    """The stretches of a statement's first sentence outside its brackets and quotation marks; all that can be quoted."""
    sentence = split_sentences(statement.text)[0]
    outside = rewrite(sentence, [(start, end, "\n") for start, end in outer_brackets(sentence)])
    found = re.split(r"[。「」『』（）\n\u3000]", outside)
    return [words for piece in found if len(words := _LOOSE.sub("", piece)) >= 6] or [statement.text.removesuffix("。")]


_LOOSE = re.compile(r"^(?:とは|は|が|を|に|で(?!な)|の|と)、?")  # what goes on after a bracket


def quote_end(statement: Statement) -> str:
    """The last clause of a statement's first sentence: what the rule provides."""
    *before, last = pieces(statement)
    clauses = last.split("、")
    words = clauses.pop()
    while clauses and len(words) < 24:
        words = clauses.pop() + "、" + words
    if len(words) < 12 and before:  # all that follows the last bracket is 定めなければならない
        clauses = max(before, key=len).split("、")
        main = clauses.pop()
        while clauses and len(main) + len(clauses[-1]) < 50:
            main = clauses.pop() + "、" + main
        return main[:60] + "」「" + words
    return words if len(words) <= 60 else words[-60:][_after_particle(words[-60:]) :]


def quote_start(statement: Statement) -> str:
    """What a statement begins with: whom or what the rule is about."""
    clauses = pieces(statement)[0].split("、")
    start = clauses.pop(0)
    while clauses and len(start) < 12:
        start += "、" + clauses.pop(0)
    return start[:60]


def quote_apart(statement: Statement, others: str) -> str:
    """A stretch of a statement that is not in other text: what tells it from its neighbours; `""` where there is none."""
    clauses = [clause for piece in pieces(statement) for clause in piece.split("、") if len(clause) >= 6 and clause not in others]
    return max(clauses, key=len, default="")[:60]


def change_quotes(change: Change, beside: Sequence[Change] = ()) -> tuple[str, str]:
    """What the statute says at the changed place and what the changed statement says there.

    Args:
        change: the change.
        beside: the changes made in the statement, others than this among them.
    """
    text, edits = change.statement.text, change.edits
    made = [*edits, *(edit for other in beside if other != change for edit in other.edits)]
    if change.kind == "proviso":
        edits = edits[-1:]  # この限りでない decides; ただし goes with it
    windows: list[list[int]] = []
    for start, end, _ in edits:
        left, right = quoted_span(text, start, end)
        for first, last, _ in made:  # no other change is quoted by half
            if first < right and last > left:
                left, right = min(left, first), max(right, last)
        if windows and left <= windows[-1][1]:
            windows[-1][1] = max(right, windows[-1][1])
        else:
            windows.append([left, right])
    if sum(right - left for left, right in windows) < _SAYS_LITTLE:  # 定めなければならない alone: with the clause before it
        left, right = windows[0]
        start = 1 + max(text.rfind(stop, 0, left) for stop in _STOPS + "（）")
        windows[0][0] = start if left - start <= _FAR_REACH else start + (text[start:left].rfind("、") + 1)
    old, new = [], []
    for left, right in windows[:2]:
        inside = [(start - left, end - left, words) for start, end, words in made if left <= start and end <= right]
        inside += [(max(start, left) - left, min(end, right) - left, "") for start, end in cuttable(text) if start < right and end > left]
        old.append(text[left:right].strip().removesuffix("。"))
        new.append(rewrite(text[left:right], inside).strip().removesuffix("。"))
    if sum(map(len, old)) < _SAYS_LITTLE:  # all that follows a bracket is 定めなければならない
        clauses = [piece.split("、")[-1] for piece in pieces(change.statement) if 0 <= text.find(piece) < windows[0][0] - len(piece)]
        clause = clauses[-1] if clauses and len(clauses[-1]) >= 8 else ""
        same = not any(start < text.find(clause) + len(clause) and end > text.find(clause) for start, end, _ in made)
        old, new = ([clause, *old], [clause, *new]) if clause and same else (old, new)
    return "」「".join(old), "』『".join(point_to_items(change.statement, words) for words in new)


def _nature(words: str) -> str:
    """What a sentence's end lays down."""
    for pattern, name in (
        ("努め", "努力義務"), ("ことを要しない", "義務がないこと"), ("てはならない", "禁止"), ("なければならない", "義務"),
        ("ことができない", "できないこと"), ("ことができる|妨げない", "許容（できること）"), ("ものとする", "すべきこと"),
    ):  # fmt: skip
        if re.search(pattern, words):
            return name
    return "定め"


def _compared(change: Change) -> str:
    """Whether the changed number is larger or smaller than the statute's."""
    start, end = change.element.spans[0]
    values = [number_value(words) for words in (change.statement.text[start:end], change.new[0])]
    longer, shorter = ("長い", "短い") if change.kind == "period" else ("高い", "低い") if change.kind in ("ratio", "amount", "age") else ("多い", "少ない")
    return "異なる" if None in values else longer if values[1] > values[0] else shorter


def verdict(statement: Statement, changes: Sequence[Change], elements: list[Element], rng: random.Random) -> str:
    """Why a statement is what the statute says, or with changes is not, and which of both; of two changes both, if that is short."""
    if not changes:
        return why_true(statement, elements, rng.randrange(2)) + "したがって正しい。"
    reasons = [why_changed(change, rng.randrange(2), changes) for change in changes]
    if len(reasons) == 2 and len("".join(reasons)) > _TWO_REASONS:  # one decides; of the other the words are named
        shorter = reasons.index(min(reasons, key=len))
        words = change_quotes(changes[1 - shorter], changes)[1].split("』『")[-1]
        if len(words) > _LONG_QUOTE:
            words = max(changes[1 - shorter].new, key=len).removesuffix("。")
        reasons = [reasons[shorter], f"『{words}』とする点も条文と異なる。"]
    return "また、".join(reasons) + "したがって誤り。"


def why_changed(change: Change, variant: int = 0, beside: Sequence[Change] = (), *, alone: bool = False) -> str:
    """Why a changed statement is not what the statute says, without a verdict.

    Args:
        change: the change.
        variant: chooses between wordings of the same content.
        beside: the changes made in the statement, others than this among them.
        alone: the choice is the new words, not the changed statement.
    """
    place, label = change.statement.place, KINDS[change.kind]
    old, new = change_quotes(change, beside)
    new = change.new[0].removesuffix("。") if alone else new
    if change.kind in MEASURES:
        texts = (
            f"{place}の定める{label}は「{old}」であるのに、この記述は『{change.new[0]}』としており、条文より{_compared(change)}。",
            f"{place}には「{old}」とある。『{new}』では{label}が条文より{_compared(change)}。",
        )
    elif change.kind == "party":
        swapped = len(set(change.new)) > 1
        texts = (
            f"{place}は「{old}」と定めており、『{new}』とするのは当事者を入れ替えたものである。"
            if swapped
            else f"{place}の文言は「{old}」であり、『{change.new[0]}』とあるのは条文の掲げる者と異なる。",
            f"{place}には「{old}」とある。『{new}』では、そこに掲げられる者が条文と違う。",
        )
    elif change.kind == "duty":
        texts = (
            f"{place}は「{old}」として{_nature(old)}を定めるが、『{new}』は{_nature(new)}を述べており、条文と食い違う。",
            f"{place}の結びは「{old}」であり、定められているのは{_nature(old)}である。『{new}』とは異なる。",
        )
    elif change.kind == "proviso":
        exempting = "この限りでない" in old
        texts = (
            f"{place}は「{old}」として例外を認めており、この場合を『{new}』とするのは条文に反する。"
            if exempting
            else f"{place}は「{old}」として同じ扱いを及ぼしており、『{new}』として例外とするのは条文に反する。",
        ) * 2
    else:
        one, other = {
            "limit": ("は範囲を「{old}」と限っており、『{new}』では当てはまる範囲が変わる。", "では「{old}」とされる。『{new}』とすると、当たる場合と当たらない場合が条文と違ってくる。"),
            "time": ("は時期を「{old}」と定めており、『{new}』とする点が条文と異なる。", "によれば時期は「{old}」であって、『{new}』ではない。"),
            "effect": ("の効果は「{old}」であり、『{new}』とするのは条文と結論が違う。", "は「{old}」と結んでいる。『{new}』という効果は定められていない。"),
            "scope": ("には「{old}」とあり、『{new}』とすると含まれる範囲が条文と食い違う。", "が対象を画する文言は「{old}」である。『{new}』では範囲が条文と異なる。"),
            "condition": ("の要件は「{old}」であり、『{new}』では要件の重なり方が変わる。", "は「{old}」と定めており、『{new}』とは要件の満たし方が異なる。"),
            "procedure": ("にいう手続は「{old}」であって、『{new}』ではない。", "には「{old}」とある。『{new}』とするこの記述は手続を取り違えている。"),
            "delegation": ("が挙げる法令は「{old}」のとおりで、『{new}』とするのは法令の種類の誤りである。", "には「{old}」とある。『{new}』では、定めを置く法令の種類が条文と違う。"),
            "citation": ("が引くのは「{old}」であり、『{new}』ではない。", "には「{old}」とあって、『{new}』を引くこの記述とは条項が違う。"),
            "term": ("の文言は「{old}」であり、『{new}』は要件を別の語に置き換えている。", "は「{old}」と定めるので、『{new}』では意味が変わってしまう。"),
        }[change.kind]
        texts = tuple(place + text.format(old=old, new=new) for text in (one, other))
    return texts[variant % 2]


def why_true(statement: Statement, elements: list[Element], variant: int = 0) -> str:
    """Why a statement is what the statute says: its checkable words, quoted; without a verdict.

    What kind of words they are is not said: a minister may be whom the rule binds or whom one applies to.
    """
    end = quote_end(statement)
    main = len(split_sentences(statement.text)[0])  # words of a ただし書 do not go with the end of the main sentence
    for element in elements:
        span = next((span for span in element.spans if span[0] != span[1] and span[1] <= main), None)
        words = quote(statement, span) if span else ""
        if len(words) >= 6 and words not in end and end not in words:
            if variant % 2:
                return f"{statement.place}の「{words}」及び「{end}」という定めと、記述の内容が一致する。"
            return f"{statement.place}は「{words}」とし、「{end}」と定めており、記述はこれと同じである。"
    return f"{statement.place}に「{end}」とあり、記述の内容はこれと一致する。"
