"""Questions from a statutes corpus: drafted, chosen so that forms and kinds are balanced, and dealt their letters."""

import hashlib
import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations, zip_longest

from tqdm.auto import tqdm

from lawft_trl.data.questions import LETTERS, Question
from lawft_trl.derive.changes import plain, read_corpus
from lawft_trl.derive.drafts import Draft, Neighbourhood, read_neighbourhood
from lawft_trl.derive.forms import drafts
from lawft_trl.errors import InputError
from lawft_trl.statutes.passages import Passage, show_article, sort_key

PER_STATEMENT = 6  # questions of one form about one statement at most, so that the set stays varied
_ARTICLES, _PARAGRAPHS = 3, 6  # a neighbourhood has at least so many, where the law has
_DRAFTS_PER_QUESTION = 4  # so many to choose from are enough for a balanced choice; the rest of a large corpus is not read
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
    kept = sorted((passage for passage in passages if passage.article_key not in excluded), key=sort_key)
    if not kept:
        raise InputError(
            "no question can be derived",
            [f"the corpus has {len(passages)} passage(s), and --exclude leaves none of them" if passages else "the corpus is empty"],
        )
    corpus = read_corpus(kept)
    found: dict[str, tuple[Draft, Neighbourhood]] = {}
    runs = neighbourhoods(kept)
    for members in tqdm(random.Random(f"{seed}:articles").sample(runs, len(runs)), desc="deriving", delay=3):
        if limit is not None and len(found) >= limit * _DRAFTS_PER_QUESTION:
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
    texts = [plain(text) for text, _ in draft.choices]
    return len(set(texts)) == len(LETTERS) and all(texts)


def _content_hash(draft: Draft) -> str:
    """The same for the same question with the same right answer, however its choices are ordered."""
    content = [draft.question, draft.choices[0][0], *sorted(text for text, _ in draft.choices[1:])]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:12]


def _balanced(found: dict[str, tuple[Draft, Neighbourhood]], seed: int, limit: int | None) -> list[str]:
    """Keys of the chosen drafts: form by form in turn, each time of a statement used least, then of a kind used least."""
    counts: Counter[tuple[str, ...]] = Counter()
    seen: set[tuple[str, ...]] = set()
    ranked: dict[str, list[tuple[int, int, str]]] = {}
    for key in random.Random(f"{seed}:order").sample(sorted(found), len(found)):
        draft = found[key][0]
        threes = set(combinations(sorted(_shown_texts(draft)), 3))
        if threes & seen:
            continue  # nearly the same as another: three of its four choices
        seen |= threes
        of_source, of_kind = (draft.form, "source", draft.source), (draft.form, "kind", draft.kind)
        if counts[of_source] < PER_STATEMENT:
            ranked.setdefault(draft.form, []).append((counts[of_source], counts[of_kind], key))
            counts.update((of_source, of_kind))
    forms = [[key for _, _, key in sorted(drafts)] for _, drafts in sorted(ranked.items())]
    in_turn = [key for turn in zip_longest(*forms) for key in turn if key is not None]
    return in_turn[:limit]


def _shown_texts(draft: Draft) -> list[str]:
    """The choices as they tell one question from another; with the question where the choices alone are a few words."""
    whole = draft.form in ("right", "wrong", "listed", "unlisted")
    return [plain(text) if whole else f"{draft.question}\n{text}" for text, _ in draft.choices]


def _deal_letters(chosen: Iterable[tuple[str, Draft, Neighbourhood]], seed: int, passages: Sequence[Passage]) -> list[Question]:
    """Gives every letter to a quarter of the right answers, and the other choices random places."""
    articles: dict[str, list[Passage]] = {}
    for passage in passages:
        articles.setdefault(passage.article_key, []).append(passage)
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


def _shown(passages: Sequence[Passage], articles: dict[str, list[Passage]]) -> tuple[str, ...]:
    """The articles of some paragraphs as they are shown: whole where that is short, else the paragraphs with the one before."""
    shown = []
    for key in dict.fromkeys(passage.article_key for passage in passages):
        whole = articles[key]
        needed = {passage.key for passage in passages if passage.article_key == key}
        if sum(len(passage.text) for passage in whole) > _WHOLE_ARTICLE:
            positions = [index for index, passage in enumerate(whole) if passage.key in needed]
            keep = {index for position in positions for index in ((position - 1, position) if "前項" in whole[position].text else (position,))}
            whole = [passage for index, passage in enumerate(whole) if index in keep]
        shown.append(show_article(whole))
    return tuple(shown)
