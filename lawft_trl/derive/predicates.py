"""What a rule's sentences end in: duty, permission, prohibition, effect, and the proviso."""

import re
from collections.abc import Iterator

from lawft_trl.derive.elements import Element
from lawft_trl.derive.statements import split_sentences
from lawft_trl.derive.verbs import (
    dictionary_from_negative,
    dictionary_from_te,
    negative_from_dictionary,
    te_from_dictionary,
)

# (as it ends, as it would end): legal effects that a reader checks word by word. とみなす and と推定する differ in law.
_EFFECTS = (
    ("とみなす。", "と推定する。"), ("と推定する。", "とみなす。"),
    ("無効とする。", "有効とする。"), ("有効とする。", "無効とする。"),
    ("効力を有する。", "効力を有しない。"), ("効力を有しない。", "効力を有する。"), ("効力を生ずる。", "効力を失う。"), ("効力を失う。", "効力を失わない。"),
    ("適用しない。", "適用する。"), ("を適用する。", "を適用しない。"), ("準用する。", "準用しない。"), ("準用しない。", "準用する。"),
    ("責めに任ずる。", "責めに任じない。"), ("責めに任じない。", "責めに任ずる。"), ("責任を負う。", "責任を負わない。"),
    ("足りる。", "足りない。"), ("消滅する。", "消滅しない。"), ("終了する。", "終了しない。"), ("承継する。", "承継しない。"),
    ("与えない。", "与える。"), ("許可しない。", "許可する。"), ("確認をしない。", "確認をする。"), ("優先する。", "優先しない。"), ("後れる。", "優先する。"),
    ("含まれる。", "含まれない。"), ("該当しない。", "該当する。"), ("ものを除く。", "ものを含む。"), ("属する。", "属しない。"), ("交付する。", "交付しない。"),
)  # fmt: skip
# A rule that says what something is, not what someone does: its ものとする is no duty.
_NO_ACT = re.compile(r"(?:該当|相当)する$|除く$|含む$|有する$|みなす$|いう$|足りる$|による$|適用する$|ある$|掲げる$|定める$")
_STEM = r"([一-龥々ァ-ヶー]*[ぁ-ん]*?)"


def find_predicates(text: str) -> list[Element]:
    """The ends of a rule's sentences, and its proviso, as elements."""
    found: list[Element] = []
    start = 0
    for sentence in split_sentences(text):
        found += _shifted(_sentence_end(sentence), start)
        start += len(sentence)
    return [*found, *_proviso(text)]


def _shifted(elements: Iterator[Element], by: int) -> list[Element]:
    return [
        Element(element.kind, tuple((start + by, end + by) for start, end in element.spans), element.options) for element in elements
    ]


def _sentence_end(sentence: str) -> Iterator[Element]:
    """The duty or effect a sentence ends in; with 〜なければ…ない both ends of it, for one alone would say nothing."""
    end = len(sentence)
    for old, new in _EFFECTS:
        if sentence.endswith(old) and not re.search(r"なければ、?", sentence):
            yield Element("effect", ((end - len(old), end),), ((new,),))
            return
    condition = list(re.finditer(r"なければ(?!なら)、?", sentence))
    duty = _duty(sentence)
    if duty is None:
        return
    start, options, lifted = duty
    if not condition:
        yield Element("duty", ((start, end),), tuple((option + "。",) for option in options))
    elif lifted and len(condition) == 1 and "。" not in sentence[condition[0].end() : start]:
        first = condition[0]
        without = first[0].replace("なければ", "なくても")
        yield Element("duty", (first.span(), (start, end)), ((without, lifted + "。"),))


def _duty(sentence: str) -> tuple[int, list[str], str] | None:
    """Where the duty at a sentence's end begins, what else could stand there, and, for a prohibition, what lifts it."""
    if found := re.search(r"(\S*?[うくぐすつぬぶむる])よう(?:に)?努めなければならない。$", sentence):
        verb = re.search(rf"{_STEM}$", found[1])
        stem = negative_from_dictionary(verb[1]) if verb and verb[1] else None
        start = found.start() + verb.start() if verb else 0
        return (start, [f"{stem}なければならない", f"{verb[1]}ことを要しない"], "") if stem and verb else None
    if sentence.endswith("でなければならない。"):
        return len(sentence) - len("でなければならない。"), ["であることを要しない"], ""
    if found := re.search(rf"{_STEM}なければならない。$", sentence):
        verb = dictionary_from_negative(found[1])
        if verb is None:
            return None
        if verb.endswith("努める"):
            return found.start(), [f"{verb}ことを要しない"], ""
        if verb.endswith(("ている", "でいる")):  # a state, not an act
            return found.start(), [f"{verb}ことを要しない"], ""
        te = te_from_dictionary(verb)
        options = [f"{verb}ことを要しない", f"{verb}よう努めなければならない", *([f"{te}はならない"] if te else []), f"{verb}ことができる"]
        return found.start(), options, ""
    if found := re.search(rf"{_STEM}はならない。$", sentence):
        verb = dictionary_from_te(found[1])
        if verb is None or (te_from_dictionary(verb) is None and not re.search(r"[つっい]て$", found[1])):
            return None
        negative = negative_from_dictionary(verb)
        options = [f"{verb}ことができる", f"{verb}ことを妨げない", *([f"{negative}ないよう努めなければならない"] if negative else [])]
        return found.start(), options, f"{verb}ことができる"
    if found := re.search(rf"{_STEM}ことができる。$", sentence):
        negative = negative_from_dictionary(found[1])
        options = [f"{found[1]}ことができない", *([f"{negative}なければならない"] if negative else [])]
        return found.start(), options, ""
    if found := re.search(rf"{_STEM}ことができない。$", sentence):
        return found.start(), [f"{found[1]}ことができる", f"{found[1]}ことを妨げない"], f"{found[1]}ことができる"
    if (found := re.search(rf"{_STEM}ものとする。$", sentence)) and found[1][-1:] in tuple("うくぐすつぬぶむる") and not _NO_ACT.search(found[1]):
        return found.start(), [f"{found[1]}ことを要しない", f"{found[1]}よう努めるものとする"], ""
    if (found := re.search(rf"{_STEM}ことを要しない。$", sentence)) and negative_from_dictionary(found[1]):
        return found.start(), [f"{negative_from_dictionary(found[1])}なければならない"], ""
    return None


_EXCEPTED = re.compile(r"(ときは|場合は|場合には|場合においては|については|にあつては|にあっては)、この限りでない。$")
_LIKEWISE = re.compile(r"(ときも|場合も|についても|にあつても|にあっても)、同様とする。$")
_ALSO = {"ときは": "ときも", "場合は": "場合も", "場合には": "場合も", "場合においては": "場合も", "については": "についても", "にあつては": "にあつても", "にあっては": "にあっても"}
_ONLY = {"ときも": "ときは", "場合も": "場合は", "についても": "については", "にあつても": "にあつては", "にあっても": "にあっては"}


def _proviso(text: str) -> Iterator[Element]:
    """ただし…この限りでない becomes …同様とする, and the other way round."""
    start = 0
    for sentence in split_sentences(text):
        excepted, likewise = _EXCEPTED.search(sentence), _LIKEWISE.search(sentence)
        if excepted and sentence.startswith("ただし、"):
            spans = ((start, start + 4), (start + excepted.start(), start + len(sentence)))
            yield Element("proviso", spans, (("", _ALSO[excepted[1]] + "、同様とする。"),))
        if likewise and start:
            spans = ((start, start), (start + likewise.start(), start + len(sentence)))
            yield Element("proviso", spans, (("ただし、", _ONLY[likewise[1]] + "、この限りでない。"),))
        start += len(sentence)
