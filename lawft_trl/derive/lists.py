"""The forms about lists: what an item says, which item is not as it stands, which term a definition belongs to."""

import random
import re
from collections.abc import Iterator, Sequence

from lawft_trl.derive.changes import definition, show
from lawft_trl.derive.designs import Choice, apart, square, twins, with_numbers
from lawft_trl.derive.drafts import (
    LONGEST_CHOICE,
    Draft,
    Neighbourhood,
    by_element,
    pick_change,
    source_key,
    telling_elements,
    wordings_of,
    wrong_changes,
)
from lawft_trl.derive.explanations import verdict
from lawft_trl.derive.statements import place_of
from lawft_trl.statutes.passages import Passage

_LISTED = re.compile(r"次(?:の各号)?に掲げる((?:[一-龥ァ-ヶー]+)|もの)|(?:次の各号|次)の(?:いずれか|いずれに)")


def lists(passage: Passage, here: Neighbourhood, rng: random.Random) -> Iterator[Draft]:
    """Items of a list: one as it stands among changed ones, or a changed one among some that stand."""
    items = [item for item in here.items[passage.key] if 4 <= len(item.text) <= LONGEST_CHOICE and "\u3000" not in item.text]
    lead = passage.text.split("\n")[0]
    named = _LISTED.search(lead)
    if not named or len(items) < 2 or not lead.endswith(("。", "いう")):
        return
    noun = (named[1] or "もの").replace("用語", "もの")
    for item in items:
        others = rng.sample(items, len(items))
        designs = [apart(item, others, here, rng), twins(item, others, here, rng), *square(item, here, rng), *with_numbers(item, here, rng)]
        for choices in filter(None, designs):
            yield _list_draft("listed", noun, choices, here, rng)
        for changes in by_element(wrong_changes(item, here)) if len(items) >= 4 else ():
            true = rng.sample([other for other in items if other != item], 3)
            yield _list_draft("unlisted", noun, [(item, (pick_change(changes, here, rng),)), *((other, ()) for other in true)], here, rng)


def _list_draft(form: str, noun: str, choices: Sequence[Choice], here: Neighbourhood, rng: random.Random) -> Draft:
    passage = choices[0][0].passage
    place = place_of(passage)
    texts = [(show(item, changes), verdict(item, changes, telling_elements(item, choices, here), rng)) for item, changes in choices]
    asked = "正しいもの" if form == "listed" else "誤っているもの"
    question = rng.choice(
        (f"{passage.law}{place}各号に掲げる{noun}として、{asked}を教えてください。", f"次のうち、{passage.law}{place}各号の定めの内容として、{asked}を教えてください。")
    )
    all_changes = [change for _, changes in choices for change in changes]
    return Draft(form, all_changes[0].kind, source_key(choices[0][0]), question, tuple(texts), (passage,), (passage,), wordings_of(all_changes))


def terms(here: Neighbourhood, rng: random.Random) -> Iterator[Draft]:
    """Which term a definition belongs to; and, where a list defines four, what a term means."""
    defined = [(statement, *found) for statement in here.changes if (found := definition(statement))]
    for statement, term, meaning in defined:
        passage, law = statement.passage, statement.passage.law
        words = longest_stretch(meaning)
        others = [other for other in here.corpus.terms.get(passage.law_id, ()) if other not in term and term not in other and other not in meaning]
        if len(others) >= 3 and term not in meaning and len(meaning) <= LONGEST_CHOICE:
            reason = f"{statement.place}は「{words}」をもって「{term}」の意義としている。したがって正しい。"
            choices = [(term, reason)]
            for other in rng.sample(others, 3):
                reason = f"{statement.place}が「{words}」と定義する用語は「{term}」であって、『{other}』ではない。したがって誤り。"
                choices.append((other, reason))
            question = f"{law}{statement.place}において、次のように定義されている用語を教えてください。\n{meaning}"
            yield Draft("term", "term", source_key(statement), question, tuple(choices), (passage,), (passage,))
        listed = [part for part in defined if part[0].passage == passage and part[0] != statement and part[2] != meaning]
        if len(listed) >= 3 and len(meaning) <= LONGEST_CHOICE:
            choices = [(meaning, f"{statement.place}は「{term}」を「{words}」と定義している。したがって正しい。")]
            for other, name, text in rng.sample(listed, 3):
                reason = f"「{longest_stretch(text)}」は{other.place}が「{name}」の意義として定めるものである。したがって「{term}」については誤り。"
                choices.append((text, reason))
            question = f"{law}{place_of(passage)}に定める『{term}』の意義として、正しいものを教えてください。"
            yield Draft("meaning", "term", source_key(statement), question, tuple(choices), (passage,), (passage,))


def longest_stretch(text: str) -> str:
    """The longest stretch of a text without brackets or quotation marks, for quoting."""
    return max(re.split(r"[。「」『』（）\n\u3000]", text), key=len)
