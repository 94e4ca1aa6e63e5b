"""What counts as an answer in a model's output: the patterns, each of which finds statements in plain text.

The patterns run over `answer_text.Plain`: blanks and line breaks come one at a time, so ` ?` covers every gap and no
pattern can go back and forth over a long one; every other repetition is bounded. That keeps them linear.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Letter = Literal["a", "b", "c", "d"]


class Statement(NamedTuple):
    """One place that says what the answer is.

    Attributes:
        letter: the letter, or None where it says that there is none or names several.
        rule: the rule that found it: `boxed`, `label`, `sentence`, `letter`, `conclusion`, `verdicts`, `choice_text`.
        start, end: the words, in plain text.
        final: it calls itself final or a correction.
    """

    letter: Letter | None
    rule: str
    start: int
    end: int
    final: bool = False


_OPEN = r"[ \n「『【\"'“‘(\[{<:]{0,4}"
_CLOSE = r"[」』】\"'”’)\]}>]{0,3}"
_NOUN = r"(?:(?:the )?(?:選択肢|肢|番号|記号|options?|choices?|statements?) ?)?"
# A digit is a letter's number only where it counts nothing: not 1文字, 第2項, 3つ, 1.5, 10.
_TEX = r"(?:\\?(?:text|textbf|mathrm|mathbf|boxed) ?\{)?"
_MARK = rf"{_TEX}[(「]?(?P<mark>[abcd](?![a-z0-9_]|['’.][a-z])|[1-4](?![0-9a-z文条項号年月日つ個%件人章節円]|[.,][0-9]|番目の文))"
_PICK = rf"{_OPEN}{_TEX}{_NOUN}{_OPEN}{_MARK}"
_RIGHT = r"(?:正解|正答|正しい(?:選択肢|もの|記述|答え|回答|解答|組み?合わせ)?|最も適切な?(?:選択肢|もの|記述|答え|回答|解答)?|(?:最も|最)?(?:適切|妥当|適当|適)な(?:選択肢|もの|記述|答え|回答)|最適解)"
_WRONG = r"(?:(?:最も)?(?:誤って|間違って)い(?:る|ない)(?:選択肢|もの|記述|の)|誤りの?(?:選択肢|もの|記述)|誤りなのは?|不適切な(?:選択肢|もの|記述|の)|正しくない(?:選択肢|もの|記述|の)|適切でない(?:選択肢|もの|記述|の)|該当し?(?:する|ない)(?:選択肢|もの|記述|の))"
_NAME = r"(?:(?:final|correct|best|right|most (?:appropriate|accurate|plausible|suitable|likely)) (?:answer|option|choice)|answer|最終(?:的な)?(?:回答|解答|答え|結論|選択)|回答|解答|答え|答|選択した選択肢|選ぶべき選択肢|選択|結論|结论|答案|正确答案|conclusion)(?:の?(?:選択肢|番号|記号|欄|結果))?"
_ASIDE = r"(?: ?[(\[][^()\[\]\n]{0,40}[)\]]| ?</?[a-z]{1,12}>)?"

LABEL = re.compile(
    rf"(?P<name>{_NAME}|{_RIGHT}|{_WRONG}){_ASIDE}[\"'」』】)]{{0,2}} ?(?P<link>[:=|]|->|→|⇒|\n|】|是|为)(?: ?[:=|→])?{_PICK}"
)
LABEL_LINE = re.compile(rf"(?m)^[【\[> -]{{0,2}}(?:{_NAME}|{_RIGHT}|(?:a|ans)(?=[:.])){_ASIDE}[】\]:.]{{0,2}} ?{_PICK}(?={_CLOSE}[。.]?{_CLOSE}$)")
SENTENCE = re.compile(
    rf"(?P<name>{_NAME}|{_RIGHT}|{_WRONG}|(?:正しい|適切な|妥当な|適当な|該当する|違反する)の){_ASIDE}[」』\"')]{{0,2}} ?"
    rf"(?:としては|は|とは| is| would be| should be| must be)[、,:]? ?{_PICK}"
)
CHOOSE = re.compile(rf"(?:i (?:would |will )?|we |to )(?:choose|select|pick|go with|opt for|conclude) {_PICK}")
BOXED = re.compile(rf"\\?boxed ?\{{{_PICK}")
TAGGED = re.compile(rf"<(?:answer|final|final_answer|回答)>{_PICK}")
CHOSEN = re.compile(
    rf"(?<![a-z0-9]){_MARK}{_CLOSE} ?(?:の選択肢|の記述|番)?(?: ?\([^()\n]{{0,40}}\))? ?"
    r"(?:(?:こそ|のみ|だけ)?[がは](?:、)? ?(?:この(?:問題|質問)の|唯一の|最も(?:適切|妥当)な)?(?:正解|正答|答え|回答|解答|正しい(?:選択肢|答え|回答)|最も(?:適切|妥当|適当)(?:な選択肢)?)"
    r"(?!では?な|とは[言い限な]|じゃな|となら|ではあり|かどうか|か[?。]|の場合|である場合|なら)"
    r"|を(?:選択(?:し|する)|選(?:び|ぶ|ん)|正解と)(?!.{0,3}(?:ない|なかった|べきではない|場合|と、|た場合|なら))"
    r"| (?:is|would be|remains|seems|appears)(?: to be)? (?:the|our|most likely the) (?:only |single |most )?(?:correct|right|best|intended|final|appropriate|likely|plausible|suitable|accurate)"
    r"(?: (?:answer|option|choice|match|correct|one|plausible|likely)))"
)
_THEREFORE = r"(?:したがって|従って|よって|ゆえに|故に|以上(?:より|から|のことから|を踏まえ)|そのため|このため|結論として|結論|以上により|最終的に|therefore|thus|hence|so|in conclusion|conclusion|consequently)"
CONCLUSION = re.compile(
    rf"{_THEREFORE}[ 、,:\n](?:[^。\nabcd]|[abcd](?=[a-z])|(?<=[a-z])[abcd]){{0,80}}?(?<![a-z0-9]){_MARK}{_CLOSE} ?(?:の(?:選択肢|記述|み))?"
    r"(?: ?\([^()\n]{0,60}\))? ?(?:[がはも] ?(?:、)?(?:最も)?(?:正しい|適切|妥当|適当|該当|合致|誤り|誤って|間違|不適切|違反|当てはま)"
    r"(?!く?な|では|とは|しな|か[どを。])| (?:is|are|appears|seems|aligns|would be) (?!not))"
)
FOCUS = re.compile(
    rf"(?<![a-z0-9]){_NOUN}{_MARK}{_CLOSE} ?(?:の(?:記述|み))?が ?(?:最も)?(?:正しい|適切|妥当|適当|該当(?:する|し(?!な))|誤り|誤って|間違|不適切)(?!く?な|では|とは|か[どを。])"
)
NONE = re.compile(
    rf"(?:{_NAME}|{_RIGHT}|{_WRONG}){_ASIDE}[」』\"')]{{0,2}} ?(?:は|:|\n|is|が)[ \n「『\"'(]{{0,3}}"
    r"(?:該当なし|該当する(?:選択肢|もの)(?:は|が)?(?:な|あり)|なし|無し|ない|ありません|存在し(?:ない|ません)|どれでもない|いずれで?もない|いずれも(?:誤|正しくな|該当しな|不)|"
    r"none|no (?:option|correct|answer)|not (?:listed|provided|available|given|present)|n/a|不明|わから|分から|判断でき|特定でき|決定でき|導き出せ|選べ|null|unknown|cannot)"
)
NONE_AT_ALL = re.compile(
    r"none of (?:the|these) (?:above|options?|choices?|provided|given|listed|answers?)[^.\n]{0,60}(?:correct|valid|answer|match|apply|applies)"
    r"|(?:正しい|該当する|適切な|誤っている)(?:選択肢|もの|記述)(?:は|が)(?:、)?(?:な[いし]|ありません|存在し(?:ない|ません)|見当たら)"
)
LONE = re.compile(rf"(?m)^[-・>→ ]{{0,2}}{_OPEN}{_NOUN}{_OPEN}{_MARK}{_CLOSE}(?: ?(?:です|だ|である))?[。.、,!:;)]?{_CLOSE}$")
FIRST = re.compile(rf"\A[?。、 \n]{{0,3}}{_OPEN}{_NOUN}{_OPEN}{_MARK}{_CLOSE}(?P<after>[.:。、,)!;]|(?:です|だ|である)[。\n]|(?=[ \n(]))(?! ?(?:は|が|と|も|の|を|,|、|is ))")
ITEM = re.compile(r"(?m)^[-・>「(\[ ]{0,3}(?:選択肢|option|choice)? ?(?P<mark>[abcd1-4])[.:、,)」\]。 \n](?=.)")

# What the marked letter may not be followed by, and what it may not follow.
_SEVERAL = re.compile(
    rf"{_CLOSE} ?(?:[,、/|・&~〜～]|と|または|又は|もしくは|か(?=[ ]?[abcd1-4](?![a-z]))|および|及び|or |and |から|-|–|→|\n)[、, ]{{0,2}}{_OPEN}{_NOUN}[(「\"']?(?P<other>[abcd](?![a-z0-9])|[1-4](?![0-9文条項号年月日]))"
)
_REFUSED = re.compile(
    rf"{_CLOSE} ?(?:(?:では|じゃ)(?:な[いけ]|ありません)|以外|とは(?:限ら|言え|いえ|な[らり])|でない|のように|のよう[なに]|という形|の形式|の形で|の1文字|のいずれか|など|等の|なのか|かどうか|の場合|であれば|なら|ですか|でしょうか|か[?。]|だと(?:すれば|したら)|(?:だけ|のみ)?[をと](?:1文字)?(?:で|だけ|のみ)?(?:出力|回答|記入|入力|記載|書)(?!し[まて])| ?\?)"
)
_INSTEAD = re.compile(rf"{_CLOSE} ?(?:ではなく|でなく|じゃなく|,? but(?: rather)?)て?[、, ]{{0,2}}{_NOUN}{_OPEN}{_MARK}")
_WORD_A = re.compile(r" (?!because|since|as |is |-)[a-z]")  # "the answer is a provision": the article, not the letter
_EXAMPLE = re.compile(r"(?:(?<![判条事特慣前先比定通実])例(?:えば)?|(?<![a-z])(?:example|format|e\.g\.)|フォーマット|形式)[^\n。a-z0-9]{0,4}\n?[^\n。a-z0-9]{0,2}$")
_FINAL = re.compile(r"最終|final|訂正|修正|正しくは|撤回|correction|actually|改め|再検討|再考|失礼|間違え|wait|mistake|re-evaluat")
_BELOW_CONCLUSION = re.compile(r"は[^。\n]{0,40}?(?:誤|不適切|正しくな|間違)")
_LOOP = re.compile(r"\A(?P<mark>[abcd])(?:[ ,、]?(?P=mark))+\Z")
VERDICT = re.compile(
    rf"(?<![a-z0-9])(?P<mark>[abcd]){_CLOSE}(?:の記述)? ?(?:は|が|:|→|is) ?[→(]?(?P<verdict>(?P<right>正しい|正しく(?!な)|適切|妥当|○|〇|✅|✓|correct|right|true)|誤|間違|不適切|正しくな|妥当でな|×|❌|✗|incorrect|wrong|false)(?!では|とは|か[どを])"
)


def _letter(mark: str) -> Letter:
    return {"1": "a", "2": "b", "3": "c", "4": "d"}.get(mark, mark)  # type: ignore[return-value]


def _read(text: str, match: re.Match, rule: str) -> Statement | None:
    """The statement of a match, after what stands around its letter."""
    start, end = match.start(), match.end("mark")
    before = text[max(0, start - 30) : match.start("mark")]
    if _EXAMPLE.search(text[max(0, start - 24) : start]) or re.search(r"(?:例|example|not) ?[:は]? ?$", before[-10:]):
        return None
    if instead := _INSTEAD.match(text, end):
        return Statement(_letter(instead["mark"]), rule, start, instead.end("mark"))
    if _REFUSED.match(text, end):
        return None
    if (several := _SEVERAL.match(text, end)) and several["other"] != match["mark"]:
        if "\n" in several[0] and rule == "label":
            several = None  # the next line's letter is a statement of its own
        if several:
            return Statement(None, rule, start, several.end())
    if match["mark"] == "a" and _WORD_A.match(text, end):
        return None
    return Statement(_letter(match["mark"]), rule, start, end, final=bool(_FINAL.search(before)))


def explicit_statements(text: str) -> list[Statement]:
    """Places that name the answer as the answer, in the order of the text."""
    found: list[Statement] = []
    listed = {match.start("mark") for group in _letter_lines(text) if _is_list(group) for match in group}
    rules = (("boxed", (BOXED, TAGGED)), ("label", (LABEL, LABEL_LINE)), ("sentence", (SENTENCE, CHOSEN, CHOOSE)))
    for rule, patterns in rules:
        for pattern in patterns:
            for match in pattern.finditer(text):
                if match.start("mark") in listed or (rule == "label" and _heads_a_list(text, match)):
                    continue
                if statement := _read(text, match, rule):
                    found.append(statement)
    taken = {one.end for one in found}
    found += [Statement(None, "none", match.start(), match.end()) for match in NONE.finditer(text) if match.end() not in taken]
    return sorted(found, key=lambda one: (one.end, one.start))


def _heads_a_list(text: str, match: re.Match) -> bool:
    """Whether a label's letter begins a list of choices or steps below it, or a sentence on one choice."""
    end = match.end("mark")
    if match["mark"] == "a" and text.startswith("\nb\nc\nd", end):
        return True
    if "\n" not in match[0]:
        return False
    line = text[max(0, match.start() - 12) : match.start()].rpartition("\n")[2]
    if any(character.isalnum() for character in line):
        return True  # the end of a sentence or of an item, no heading
    if match[0].startswith(("結論", "conclusion")) and _BELOW_CONCLUSION.match(text, end):
        return True
    if match["mark"] in "1234" and text[end : end + 1] not in ("", "\n", "。", ")"):
        return True
    if text[end : end + 1] not in ("", "\n") and text[end] not in "。.:、,) 」』】}\"'(で":
        return True
    below = text.find("\n", end) + 1
    item = ITEM.match(text, below) if below else None
    return bool(item) and item["mark"] != match["mark"] and text[end : end + 1] != "\n"


def lone_letters(text: str) -> list[Statement]:
    """Lines that are one letter, and a letter that opens the text; lists of the choices are left out."""
    if loop := _LOOP.match(text):
        return [Statement(_letter(loop["mark"]), "letter", 0, loop.end())]
    lines = [match for group in _letter_lines(text) for match in (_behind_list(group) if _is_list(group) else group)]
    found = [Statement(_letter(match["mark"]), "letter", match.start("mark"), match.end("mark")) for match in lines]
    first = FIRST.match(text)
    if first and not LONE.match(text):
        items = {match["mark"] for match in ITEM.finditer(text)}
        listed = len(items & set("abcd" if first["mark"] in "abcd" else "1234")) > 1
        digit = first["mark"] in "1234" and first["after"] not in ("。", "")
        if not listed and not digit and (one := _read(text, first, "letter")) and one.letter:
            found.insert(0, one._replace(start=first.start("mark")))
    return found


def _letter_lines(text: str) -> Iterator[list[re.Match]]:
    """Runs of lines that are one letter each, with nothing between them."""
    group: list[re.Match] = []
    for match in LONE.finditer(text):
        if group and match.start() > group[-1].end() + 1:
            yield group
            group = []
        group.append(match)
    if group:
        yield group


def _is_list(group: list[re.Match]) -> bool:
    return len({match["mark"] for match in group}) > 2


def _behind_list(group: list[re.Match]) -> list[re.Match]:
    """The letters that stand behind a list of all four, if they agree: the list was copied, they were not."""
    marks = "".join(match["mark"] for match in group)
    lists, rest, at = 0, [], 0
    while at < len(group):
        if marks[at : at + 4] in ("abcd", "1234"):
            lists, at = lists + 1, at + 4
        else:
            rest.append(group[at])
            at += 1
    agree = len({match["mark"] for match in rest}) == 1
    return rest if agree and lists and len(rest) >= lists else []  # a single one behind many lists was cut off


def odd_verdict(text: str) -> Statement | None:
    """The one choice that is judged otherwise than the three others, where each of the four has one verdict."""
    verdicts: dict[str, set[bool]] = {}
    last: dict[str, re.Match] = {}
    for match in VERDICT.finditer(text):
        verdicts.setdefault(match["mark"], set()).add(bool(match["right"]))
        last[match["mark"]] = match
    if len(verdicts) < 4 or any(len(each) > 1 for each in verdicts.values()):
        return None
    right = [mark for mark, each in verdicts.items() if True in each]
    odd = right if len(right) == 1 else [mark for mark in verdicts if mark not in right]
    return Statement(_letter(odd[0]), "verdicts", last[odd[0]].start(), last[odd[0]].end()) if len(odd) == 1 else None


def conclusions(text: str) -> list[Statement]:
    """Sentences that conclude on one letter without calling it the answer, in the order of the text."""
    found = [one for pattern in (CONCLUSION, FOCUS) for match in pattern.finditer(text) if (one := _read(text, match, "conclusion"))]
    return sorted(found, key=lambda one: one.end)


def corrects(text: str, start: int, end: int) -> bool:
    """Whether the words between two statements take the first one back."""
    return bool(_FINAL.search(text, start, max(start, end)))
