"""The forms that ask for one element: a question (何日以内に…か), who (…のは、誰ですか), or a gap."""

import random
import re
from collections.abc import Iterator, Sequence

from lawft_trl.derive.changes import MEASURES, Change, show
from lawft_trl.derive.designs import three_values
from lawft_trl.derive.drafts import LONGEST_QUESTION, Draft, by_element, source_key, wordings_of
from lawft_trl.derive.elements import Element
from lawft_trl.derive.explanations import quote, why_changed
from lawft_trl.derive.statements import Statement, split_sentences

_ASKED = {"日": "何日", "週間": "何週間", "月": "何か月", "箇月": "何か月", "か月": "何か月", "年": "何年", "時間": "何時間", "歳": "何歳",
          "円": "何円", "人": "何人", "名": "何名", "回": "何回", "割": "何割", "倍": "何倍"}  # fmt: skip


def gaps(statement: Statement, changes: Sequence[Change], rng: random.Random) -> Iterator[Draft]:
    """One element is asked for: as a question where it is a number or the party a rule begins with, else as a gap."""
    bare: set[str] = set()  # which regulation, which article: at most one such question about a statement
    for options in rng.sample(by_element(changes), len(by_element(changes))):
        element = options[0].element
        if len(options) < 3 or element.kind in bare or (len(element.spans) > 1 and (element.kind != "party" or len(set(options[0].new)) > 1)):
            continue
        bare |= {element.kind} & {"citation", "delegation"}
        chosen = three_values(options if element.kind in (*MEASURES, "citation") else _apart(rng.sample(options, len(options))), rng)
        if len(chosen) < 3:
            continue
        words = statement.text[slice(*element.spans[0])]
        as_question = _asked(statement, element)
        asked = as_question or _gap(statement, element)
        if asked is None or len(asked) > LONGEST_QUESTION:
            continue
        form = "gap" if not as_question else "who" if element.kind == "party" else "how many"
        old = quote(statement, element.spans[0])
        gold_reason = f"{statement.place}は「{old}」と定めており、『{words.removesuffix('。')}』がこれに当たる。したがって正しい。"
        choices = [(words.removesuffix("。"), gold_reason)]
        for change in chosen:
            reason = why_changed(change, 1 if element.kind in MEASURES else rng.randrange(2), alone=True).replace("この記述", "この選択肢")
            choices.append((change.new[0].removesuffix("。"), reason + "したがって誤り。"))
        yield Draft(form, element.kind, source_key(statement), asked, tuple(choices), (statement.passage,), (statement.passage,), wordings_of(chosen))


def _apart(changes: Sequence[Change]) -> list[Change]:
    """Changes whose words do not hold one another (公開買付者, 公開買付者等)."""
    chosen: list[Change] = []
    for change in changes:
        words = change.new[0].removesuffix("等")
        if all(words not in other.new[0] and other.new[0].removesuffix("等") not in words for other in chosen):
            chosen.append(change)
    return chosen


def _asked(statement: Statement, element: Element) -> str | None:
    """The rule as a question (…は、何日以内に…しなければならないか), where it is one sentence of a paragraph."""
    text = statement.text
    if statement.item or len(split_sentences(text)) != 1:
        return None
    where = f"{statement.passage.law}{statement.place}によれば、"
    start, end = element.spans[0]
    if element.kind in MEASURES and len(element.spans) == 1:
        unit = re.search(r"[^〇一二三四五六七八九十百千万億0-9０-９]+$", text[start:end])
        if not unit or unit[0] not in _ASKED:
            return None
        shown = show(statement, [Change(statement, element, (_ASKED[unit[0]],))])
    elif element.kind == "party" and start == 0 and len(element.spans) == 1 and text[end : end + 2] == "は、":
        rest = show(statement, [Change(statement, element, ("\0",))]).removeprefix("\0は、")
        if "\0" in rest or not re.search(r"[うくすつぬむるい]$", rest):
            return None
        rest = re.sub(r"とする$", "とされる", rest)
        return f"{where}{rest}のは、誰ですか。"
    else:
        return None
    if not re.search(r"[うくすつぬむるい]$", shown):
        return None
    return where + re.sub(r"とする$", "とされている", shown) + "か。"


def _gap(statement: Statement, element: Element) -> str | None:
    """The rule with a gap."""
    changed = show(statement, [Change(statement, element, ("【　　】",) * len(element.spans))])
    if "【　　】" not in changed or len(changed) < 16:
        return None
    return f"{statement.passage.law}{statement.place}の次の定めについて、【　　】に入るものを教えてください。\n{changed}"
