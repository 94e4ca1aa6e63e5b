"""What needs no model: clauses that contracts usually have, and the differences to a template. Points to check, no verdicts."""

import re
import unicodedata
from difflib import SequenceMatcher

from lawft_trl.assistant.clauses import Clause
from lawft_trl.assistant.documents import Document
from lawft_trl.assistant.notices import RULE_BASED
from lawft_trl.assistant.report import RULE, Item
from lawft_trl.statutes.citations import ARTICLE

# What a contract usually settles -> words by which it does.
_USUAL = {
    "契約の目的": r"目的",
    "契約期間・更新": r"期間|更新",
    "代金・報酬と支払": r"代金|報酬|対価|委託料|賃料|支払|料金|無償",
    "秘密保持": r"秘密|機密",
    "個人情報の取扱い": r"個人情報",
    "知的財産権の帰属": r"知的財産|著作権|特許|発明",
    "再委託・譲渡の制限": r"再委託|権利義務の譲渡|譲渡し|承継させ",
    "契約の解除": r"解除|解約",
    "期限の利益の喪失": r"期限の利益",
    "損害賠償": r"損害(?:の|を)?賠償|損害を",
    "不可抗力": r"不可抗力|天災",
    "反社会的勢力の排除": r"反社会的勢力|暴力団",
    "準拠法": r"準拠",
    "管轄・紛争解決": r"管轄|仲裁",
    "契約終了後の取扱い（存続条項）": r"終了後|存続",
    "協議": r"協議",
}
_ALIKE = 0.6  # two clauses that are as alike are one clause in two versions
_NUMBER = re.compile(rf"^{ARTICLE}")
_LINES = 6  # of a difference that are shown


def missing_clauses(document: Document) -> list[Item]:
    """What contracts usually settle and whose words are nowhere in the document, as one point; none where nothing is missing."""
    text = unicodedata.normalize("NFKC", "".join(document.text.split()))
    missing = [f"「{name}」" for name, words in _USUAL.items() if not re.search(words, text)]
    if not missing:
        return []
    return [_item("", f"契約に多い次の事項にあたる言葉が見つかりません：{'、'.join(missing)}。この契約に必要か、別の定めがあるかを確認してください。")]


def differences(document: Document, template: Document) -> list[Item]:
    """The clauses that the document lacks, has besides, or has in other words than the template."""
    items, left = [], [(clause, _pairs(clause.text)) for clause in document.clauses]
    for wanted in template.clauses:
        pairs = _pairs(wanted.text)
        best = max(left, key=lambda each: _alike(wanted, pairs, *each), default=None)
        if best is None or _alike(wanted, pairs, *best) < _ALIKE:
            items.append(_item("", f"ひな形の「{wanted.label}」にあたる条項がありません。"))
            continue
        left.remove(best)
        found = best[0]
        if _plain(found.text) != _plain(wanted.text):
            items.append(_item(found.label, f"ひな形の「{wanted.label}」と文言が違います。", _changes(wanted.text, found.text)))
    items += [_item(clause.label, "ひな形にない条項です。") for clause, _ in left if _plain(clause.text)]
    return items


def _item(clause: str, issue: str, suggestion: str = "") -> Item:
    return Item(clause=clause, issue=f"{issue}〔{RULE_BASED}〕", suggestion=suggestion, source=RULE)


def _alike(wanted: Clause, pairs: set[str], clause: Clause, other: set[str]) -> float:
    """How alike two clauses are: 2 with the same caption, else the share of pairs of characters they have in common, 0 to 1."""
    if wanted.title and wanted.title == clause.title:
        return 2.0
    return 2 * len(pairs & other) / (len(pairs) + len(other) or 1)


def _pairs(text: str) -> set[str]:
    """The pairs of neighbouring characters of a clause."""
    text = _plain(text)
    return {text[place : place + 2] for place in range(len(text) - 1)}


def _plain(text: str) -> str:
    """A clause without white space, widths and its number, so that only words count."""
    return _NUMBER.sub("", "".join(unicodedata.normalize("NFKC", text).split()))


def _changes(before: str, after: str) -> str:
    """The sentences that differ, `−` those of the template and `＋` those of the document."""
    old, new = (re.findall(r"[^。\n]+。?", _NUMBER.sub("", text.lstrip())) for text in (before, after))
    lines = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            lines += [f"− {sentence.strip()}" for sentence in old[a:b]] + [f"＋ {sentence.strip()}" for sentence in new[c:d]]
    return "\n".join(lines[:_LINES] + ([f"ほか{len(lines) - _LINES}か所"] if len(lines) > _LINES else []))
