"""The question forms about whole statements: which is right, which is wrong, which article is the basis."""

import random
import re
from collections.abc import Iterator, Sequence

from lawft_trl.derive.changes import comparable, show
from lawft_trl.derive.designs import Choice, apart, square, twins, with_numbers
from lawft_trl.derive.drafts import (
    LONGEST_CHOICE,
    Draft,
    Neighbourhood,
    by_element,
    fits,
    in_order,
    pick_change,
    source_key,
    telling_elements,
    wordings_of,
    wrong_changes,
)
from lawft_trl.derive.explanations import quote_apart, quote_end, quote_start, verdict
from lawft_trl.derive.gaps import gaps
from lawft_trl.derive.lists import lists, terms
from lawft_trl.derive.statements import Statement, place_of
from lawft_trl.statutes.passages import Passage

_RELATIVE = re.compile(r"前[条項二三四各]|次[条項]|同[条項号]|本[条項]|この[条項節章款]|(?<!条)(?<![一-龥])第[一二三四五六七八九十]+[項号]")


def drafts(here: Neighbourhood, rng: random.Random) -> Iterator[Draft]:
    """Every question of every form that a neighbourhood gives."""
    yield from _right_or_wrong(here, rng)
    for statement, changes in here.changes.items():
        yield from gaps(statement, changes, rng)
    yield from _basis(here, rng)
    for passage in here.passages:
        yield from lists(passage, here, rng)
    yield from terms(here, rng)


def _right_or_wrong(here: Neighbourhood, rng: random.Random) -> Iterator[Draft]:
    """正しいもの: a true statement and three changed ones. 誤っているもの: three true ones and a changed one."""
    usable = [rule for rule in here.rules if fits(show(rule))]
    for rule in usable:
        article = rule.passage.article_key
        near = [other for other in usable if other != rule and other.passage.article_key == article]
        far = [other for other in usable if other.passage.article_key != article]
        for _ in range(6):
            others = [*_shuffled(near, rng), *_shuffled(far, rng)]
            for choices in (apart(rule, others, here, rng), twins(rule, others, here, rng)):
                if choices:
                    yield _statement_draft("right", choices, here, rng)
        for changes in 2 * by_element(wrong_changes(rule, here)):
            true = (_shuffled(near, rng) + _shuffled(far, rng))[:3]
            if len(true) == 3:
                yield _statement_draft("wrong", [(rule, (pick_change(changes, here, rng),)), *((other, ()) for other in true)], here, rng)
        for choices in [*square(rule, here, rng), *square(rule, here, rng), *square(rule, here, rng), *with_numbers(rule, here, rng)]:
            yield _statement_draft("same", choices, here, rng)


def _shuffled(statements: Sequence[Statement], rng: random.Random) -> list[Statement]:
    return rng.sample(list(statements), len(statements))


def _statement_draft(form: str, choices: Sequence[Choice], here: Neighbourhood, rng: random.Random) -> Draft:
    """Asks about statements, the right choice first; each names its paragraph where they are of more than one."""
    passages = in_order({statement.passage.key: statement.passage for statement, _ in choices}, here)
    several = len(passages) > 1
    texts = [
        (_placed(statement, show(statement, changes), several), verdict(statement, changes, telling_elements(statement, choices, here), rng))
        for statement, changes in choices
    ]
    law = passages[0].law
    what = _join(list(dict.fromkeys(_article(passage) for passage in passages))) if several else place_of(passages[0])
    asked = "誤っているもの" if form == "wrong" else "正しいもの"
    # The question is what the article lays down, not what follows from it: a narrower period or a mere permission is wrong.
    question = rng.choice(
        (
            f"次のうち、{law}{what}が定める内容として、{asked}を教えてください。",
            f"{law}{what}の定めの内容について述べた次の記述のうち、{asked}を教えてください。",
            f"{law}{what}の内容として、{asked}を教えてください。",
            f"次の記述のうち、{law}{what}の定めと一致{'しない' if form == 'wrong' else 'する'}ものを教えてください。",
        )
    )
    all_changes = [change for _, changes in choices for change in changes]
    return Draft(form, all_changes[0].kind, source_key(choices[0][0]), question, tuple(texts), passages, passages, wordings_of(all_changes))


def _article(passage: Passage) -> str:
    place = place_of(passage)
    return place.removesuffix(f"第{passage.paragraph}項") if passage.paragraph and passage.article else place


def _placed(statement: Statement, text: str, several: bool) -> str:
    return f"{statement.place}によれば、{text}" if several else text


def _join(names: Sequence[str]) -> str:
    return "及び".join(names) if len(names) < 3 else "、".join(names[:-1]) + "及び" + names[-1]


def _basis(here: Neighbourhood, rng: random.Random) -> Iterator[Draft]:
    """根拠条文: a rule is told, four paragraphs are shown, one of them lays it down."""
    usable: dict[str, list[Statement]] = {}
    for rule in here.rules:
        usable.setdefault(place_of(rule.passage), []).append(rule)
    for rule in here.rules:
        told = show(Statement(passage=rule.passage, text=rule.text))
        if _RELATIVE.search(told) or not 25 <= len(told) <= LONGEST_CHOICE:
            continue
        others = [group[0] for place, group in usable.items() if place != rule.place and not _alike(rule, group)]
        for _ in range(2):
            if len(others) < 3:
                break
            wrong = rng.sample(others, 3)
            passages = in_order({statement.passage.key: statement.passage for statement in (rule, *wrong)}, here)
            if sum(len(passage.text) for passage in passages) > 3500:
                continue
            law = rule.passage.law
            choices = [(f"{law}{rule.place}", f"{rule.place}は{_gist(rule, wrong)}と定めており、問われた内容はこの規定による。したがって正しい。")]
            choices += [
                (f"{law}{other.place}", f"{other.place}は{_gist(other, [rule, *wrong])}と定める規定であり、問われた内容はここにはない。したがって誤り。")
                for other in wrong
            ]
            question = rng.choice(
                (
                    f"次の内容を定めた{law}の条文を教えてください。\n{told}",
                    f"次の定めの根拠となる条文を教えてください。\n{told}",
                    f"{law}のうち、次のとおり規定している条文を教えてください。\n{told}",
                )
            )
            yield Draft("basis", "basis", source_key(rule), question, tuple(choices), passages, (rule.passage,))


def _gist(statement: Statement, beside: Sequence[Statement]) -> str:
    """What a rule is about and what it provides, quoted; and what tells it from the rules beside it, if neither does."""
    start, end = quote_start(statement), quote_end(statement)
    others = "\n".join(other.passage.text for other in beside if other != statement)
    quotes = [end] if start[-8:] in end or len(start) < 8 else [start, end]
    if all(part in others for words in quotes for part in words.split("」「")):
        quotes = [quote_apart(statement, others), end]
    return ("とし、" if quotes[0] == start else "").join(f"「{words}」" for words in quotes if words)


def _alike(rule: Statement, group: Sequence[Statement]) -> bool:
    """Whether another paragraph says nearly the same, measured by shared runs of four characters."""
    grams = _grams(rule.text)
    return any(len(grams & _grams(other.text)) > 0.6 * min(len(grams), len(_grams(other.text))) for other in group)


def _grams(text: str) -> set[str]:
    text = comparable(text)
    return {text[index : index + 4] for index in range(len(text) - 3)}
