"""Questions from a statutes corpus: drafted, chosen so that forms and kinds are balanced, and dealt their letters."""

import hashlib
import math
import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations, zip_longest

from tqdm.auto import tqdm

from lawft_trl.data.questions import LETTERS, Question
from lawft_trl.derive.changes import comparable, read_corpus
from lawft_trl.derive.choice_only import hits
from lawft_trl.derive.drafts import Draft, Neighbourhood, read_neighbourhood
from lawft_trl.derive.forms import drafts
from lawft_trl.errors import InputError
from lawft_trl.statutes.passages import Passage, show_article, sort_key

PER_STATEMENT = 6  # questions of one form about one statement at most, so that the set stays varied
_ARTICLES, _PARAGRAPHS = 3, 6  # a neighbourhood has at least so many, where the law has
_DRAFTS_PER_QUESTION = 4  # so many to choose from are enough for a balanced choice; of what is left no question is drafted
_SPREAD = 10  # a limited set is of at least so many neighbourhoods, where there are so many
_BY_CHANCE = 0.26  # of the questions of a form that a rule which reads the choices alone may hit
_LOPSIDED = 1.25  # a wording may be right, or wrong, so many times as often as by chance ...
_RARE = {False: 6, True: 2}  # ... and so many times more; where the wrong choice is asked for, which is so a quarter of the times
_WHOLE_ARTICLE = 1200  # characters up to which an article is shown whole


def derive_questions(
    passages: Sequence[Passage], *, seed: int, limit: int | None = None, exclude: Collection[str] = ()
) -> list[Question]:
    """Four-choice questions with reasons, made from statutes by rule: the same for one seed, however the passages are ordered.

    Args:
        passages: of a statutes corpus.
        seed: chooses among what could be asked.
        limit: how many questions at most; `None` makes all.
        exclude: article keys (`Passage.article_key`) that an evaluation set touches. No question rests on them or shows them.

    Returns:
        Questions sorted by id. `group` is the same for neighbouring articles, which one question may show together.

    Raises:
        InputError: when nothing can be asked, with the reason.
    """
    excluded = set(exclude)
    everything = sorted(passages, key=sort_key)
    kept = [passage for passage in everything if passage.article_key not in excluded]
    if not kept:
        raise InputError(
            "no question can be derived",
            [f"the corpus has {len(passages)} passage(s), and --exclude leaves none of them" if passages else "the corpus is empty"],
        )
    corpus = read_corpus(everything, kept)
    found: dict[str, tuple[Draft, Neighbourhood]] = {}
    runs = neighbourhoods(kept)
    for members in tqdm(random.Random(f"{seed}:articles").sample(runs, len(runs)), desc="deriving", delay=3):
        read = {here.key for _, here in found.values()}
        if limit is not None and len(found) >= limit * _DRAFTS_PER_QUESTION and len(read) >= min(limit, _SPREAD):
            break
        here = read_neighbourhood(members, corpus)
        for draft in drafts(here, random.Random(f"{seed}:{here.key}")):
            if _sound(draft):
                found.setdefault(_content_hash(draft), (draft, here))
    if not found:
        raise InputError(
            "no question can be derived",
            [
                f"{len(kept)} passage(s) were read; none has three ways to change a period, an amount, a party, a duty or the like",
                "articles must be numbered (第N条) and their sentences end in 。; text of guidelines and tables is not used",
            ],
        )
    chosen = _balanced(found, seed, limit)
    return sorted(_deal_letters([(key, *found[key]) for key in chosen], seed, kept), key=lambda question: question.id)


def neighbourhoods(passages: Sequence[Passage]) -> list[list[Passage]]:
    """Divides sorted passages into runs of neighbouring articles of one law and provision."""
    laws: dict[tuple[str, str], list[list[Passage]]] = {}
    for passage in passages:
        articles = laws.setdefault((passage.law_id, passage.provision), [])
        if articles and articles[-1][0].article == passage.article:
            articles[-1].append(passage)
        else:
            articles.append([passage])
    runs: list[list[Passage]] = []
    for articles in laws.values():
        start = len(runs)
        run: list[list[Passage]] = []
        for article in articles:
            run.append(article)
            if len(run) >= _ARTICLES and sum(map(len, run)) >= _PARAGRAPHS:
                runs.append([passage for part in run for passage in part])
                run = []
        rest = [passage for part in run for passage in part]
        if rest and len(runs) > start:
            runs[-1] += rest
        elif rest:
            runs.append(rest)
    return runs


def _sound(draft: Draft) -> bool:
    """Whether the four choices differ as a reader sees them."""
    texts = [comparable(text) for text, _ in draft.choices]
    return len(set(texts)) == len(LETTERS) and all(texts)


def _content_hash(draft: Draft) -> str:
    """The same for the same question with the same right answer, however its choices are ordered."""
    content = [draft.question, draft.choices[0][0], *sorted(text for text, _ in draft.choices[1:])]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:12]


def _balanced(found: dict[str, tuple[Draft, Neighbourhood]], seed: int, limit: int | None) -> list[str]:
    """Keys of the chosen drafts: form by form in turn, each time of a statement used least, then of a kind used least.

    No statement, no three choices and no rule that reads the choices alone decides more questions than its share. Of a
    limited set no neighbourhood has more than its share either, as long as there are others.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    tally: Counter[tuple[str | bool, ...]] = Counter()
    seen: set[tuple[str, ...]] = set()
    ranked: dict[str, list[tuple[int, int, str]]] = {}
    waiting = random.Random(f"{seed}:order").sample(sorted(found), len(found))
    for _ in range(5):  # what a rule would hit too often now it may hit when there are more questions
        left = []
        for key in waiting:
            draft = found[key][0]
            threes = set(combinations(sorted(_shown_texts(draft)), 3))
            of_source, of_kind = (draft.form, "source", draft.source), (draft.form, "kind", draft.kind)
            if threes & seen or counts[of_source] >= PER_STATEMENT:
                continue  # nearly the same as another: three of its four choices
            if not _stays_even(draft, tally):
                left.append(key)
                continue
            seen |= threes
            ranked.setdefault(draft.form, []).append((counts[of_source], counts[of_kind], key))
            counts.update((of_source, of_kind))
        waiting = left
    forms = [[key for _, _, key in sorted(drafts)] for _, drafts in sorted(ranked.items())]
    in_turn = [key for turn in zip_longest(*forms) for key in turn if key is not None]
    return in_turn if limit is None else _spread(in_turn, {key: found[key][1].key for key in in_turn}, limit)


def _stays_even(draft: Draft, tally: Counter[tuple[str | bool, ...]]) -> bool:
    """Whether the choices alone tell no more with this draft than by chance; if so, counts it.

    No rule that reads the choices alone may hit too many questions of a form, and no wording may stand nearly only in
    right or nearly only in wrong choices: else 「よう努めなければならない」 would tell a wrong one, whatever the statute says.
    """
    right, *others = [text for text, _ in draft.choices]
    by_rule = hits([right, *others], 0)
    for rule, hit in by_rule.items():
        if hit > 0.25 and tally[draft.form, rule, "hit"] + hit > 1 + _BY_CHANCE * (tally[draft.form, rule, "of"] + 1):
            return False
    asked = draft.form in ("wrong", "unlisted")
    by_wording = {words: (words in right, sum(words in text for text in others)) for words in draft.wordings}
    for words, (is_right, wrong) in by_wording.items():
        sum_right, sum_wrong = tally[asked, words, "right"] + is_right, tally[asked, words, "wrong"] + wrong
        if wrong > 3 * is_right and sum_wrong > 3 * (_LOPSIDED * sum_right + _RARE[asked]):
            return False
        if wrong < 3 * is_right and sum_right > _LOPSIDED * sum_wrong / 3 + _RARE[asked]:
            return False
    for rule, hit in by_rule.items():
        tally[draft.form, rule, "hit"] += hit
        tally[draft.form, rule, "of"] += 1
    for words, (is_right, wrong) in by_wording.items():
        tally[asked, words, "right"] += is_right
        tally[asked, words, "wrong"] += wrong
    return True


def _spread(keys: Sequence[str], neighbourhood: dict[str, str], limit: int) -> list[str]:
    """The first keys, of each neighbourhood its share, then filled up with the first of those left."""
    share, counts = math.ceil(limit / _SPREAD), Counter[str]()
    first, rest = [], []
    for key in keys:
        counts[neighbourhood[key]] += 1
        (first if counts[neighbourhood[key]] <= share else rest).append(key)
    return [*first, *rest][:limit]


def _shown_texts(draft: Draft) -> list[str]:
    """The choices as they tell one question from another; with the question where the choices alone are a few words."""
    whole = draft.form in ("right", "same", "wrong", "listed", "unlisted")
    return [comparable(text) if whole else f"{draft.question}\n{text}" for text, _ in draft.choices]


def _deal_letters(chosen: Iterable[tuple[str, Draft, Neighbourhood]], seed: int, passages: Sequence[Passage]) -> list[Question]:
    """Gives every letter to a quarter of the right answers, and the other choices random places."""
    articles: dict[tuple[str, str], list[Passage]] = {}
    for passage in passages:
        articles.setdefault(_article(passage), []).append(passage)
    rng = random.Random(f"{seed}:letters")
    questions = []
    for index, (key, draft, here) in enumerate(sorted(chosen, key=lambda part: (part[1].form, part[0]))):
        gold = LETTERS[index % len(LETTERS)]
        others = rng.sample(draft.choices[1:], 3)
        order = {letter: draft.choices[0] if letter == gold else others.pop() for letter in LETTERS}
        first = draft.decides[0]
        questions.append(
            Question(
                id=f"derived-{key}",
                law=first.law,
                question=draft.question,
                choices={letter: text for letter, (text, _) in order.items()},
                answer=gold,
                statutes=_shown(draft.shown, articles),
                references=tuple(dict.fromkeys(passage.heading for passage in draft.decides)),
                provisions=tuple(dict.fromkeys(passage.article_key for passage in draft.decides)),
                reasons={letter: reason for letter, (_, reason) in order.items()},
                as_of=first.as_of,
                group=here.key,
            )
        )
    return questions


def _article(passage: Passage) -> tuple[str, str]:
    """What identifies an article within a corpus, where two laws may have one title."""
    return passage.law_id, passage.article_key


def _shown(passages: Sequence[Passage], articles: dict[tuple[str, str], list[Passage]]) -> tuple[str, ...]:
    """The articles of some paragraphs as they are shown: whole where that is short, else the paragraphs with the one before."""
    shown = []
    for key in dict.fromkeys(map(_article, passages)):
        whole = articles[key]
        needed = {passage.key for passage in passages if _article(passage) == key}
        if sum(len(passage.text) for passage in whole) > _WHOLE_ARTICLE:
            positions = [index for index, passage in enumerate(whole) if passage.key in needed]
            keep = {index for position in positions for index in ((position - 1, position) if "前項" in whole[position].text else (position,))}
            whole = [passage for index, passage in enumerate(whole) if index in keep]
        shown.append(show_article(whole))
    return tuple(shown)
