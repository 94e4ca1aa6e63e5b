"""What keeps JSON lines from being question-answer pairs of the legal assistant: every fault, with its place and its mend."""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lawft_trl.data.dialogue_problems import (
    REPEATED,
    Fault,
    clean_text,
    is_name,
    load,
    repeated_keys,
    shown,
    text_problems,
)
from lawft_trl.data.near_duplicates import ngrams, plain, text_index
from lawft_trl.data.rubric import phrases_in, shows, text_key
from lawft_trl.errors import InputError
from lawft_trl.statutes.citations import ARTICLE, SHORT_TITLES, article_number, find_citations, title_key, title_names
from lawft_trl.statutes.passages import article_name
from lawft_trl.text_files import read_text, refuse_array

KINDS = ("契約書", "法律解釈", "リスク分析", "実務上の助言")
ROLES = ("system", "user", "assistant")
_META_KEYS = ("id", "kind", "group", "citations", "required_points", "forbidden")
_ARTICLE_FORM = re.compile(r"[1-9]\d*(_[1-9]\d*)*")
# 「本契約第5条」 is a clause of the document that is talked about.
_CLAUSE = re.compile(rf"(?:契約|契約書|規約|約款|規程|就業規則)案?の?{ARTICLE}")
_LAW_BEFORE_ARTICLE = re.compile(rf"([一-鿿々ァ-ヶー]*(?:法|法律|令|規則))の?(?={ARTICLE})")
_RELATIVE = ("同法", "同令", "同規則")
_SENTENCE = re.compile(r"[^。\n]{15,}。")
_OFTEN = 2  # answers in which one sentence may stand
Found = tuple[str, str, str]  # kind, what was found, what to write instead


def read_records(path: Path) -> tuple[list[tuple[str, dict[str, Any]]], list[Fault]]:
    """`(place, record)` of every pair without a fault of its own, and the faults of the file and of the other pairs."""
    try:
        text = read_text(path)
        refuse_array(path, text)
    except InputError as error:
        return [], [Fault(kind="unreadable", place=str(path), found=str(error).removeprefix(f"{path}: "), mend="")]
    values, faults = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values.append((f"{path}:{number}", load(line)))
        except ValueError as error:
            faults.append(Fault(kind="line not JSON", place=f"{path}:{number}", found=f"not JSON: {error}", mend="each line is one whole pair"))
    if not values and not faults:
        faults.append(Fault(kind="empty file", place=str(path), found="the file is empty", mend="write at least one pair (docs/legal_data.md)"))
    names = law_names(value for _, value in values)
    records = []
    for place, value in values:
        problems = list(_record_problems(value)) or list(_content_problems(value, names))
        faults += [Fault(kind=kind, place=_named(place, value), found=found, mend=mend) for kind, found, mend in problems]
        if not problems:
            records.append((place, value))
    return records, faults


def law_names(values: Iterable[object]) -> dict[str, str]:
    """`title_names` of the laws that any of the parsed lines names in its `meta.citations`, and of those that have short titles."""
    laws = set(SHORT_TITLES.values())
    for value in values:
        meta = value.get("meta") if isinstance(value, dict) else None
        citations = meta.get("citations") if isinstance(meta, dict) else None
        for cited in citations if isinstance(citations, list) else ():
            if isinstance(cited, dict) and isinstance(cited.get("law"), str) and cited["law"].strip():
                laws.add(cited["law"])
    return title_names(dict.fromkeys(laws, ()))


def _named(place: str, value: object) -> str:
    """The place with the pair's id, where it has one."""
    meta = value.get("meta") if isinstance(value, dict) else None
    name = meta.get("id") if isinstance(meta, dict) else None
    return f"{place}, pair {name}" if isinstance(name, str) and name.strip() else place


def _record_problems(record: object) -> Iterator[Found]:
    """Faults of the form: keys, roles, types."""
    if not isinstance(record, dict):
        yield "not a pair", f"expected an object, found {shown(record)}", 'write {"messages": [...], "meta": {...}}'
        return
    for kind, _, found, mend in repeated_keys(record, None):
        yield kind, found, mend
    for key in sorted(set(record) - {"messages", "meta", REPEATED}):
        yield "unknown key", f"`{key}` is no key of a pair", "a pair has messages and meta"
    yield from _message_problems(record.get("messages"))
    meta = record.get("meta")
    if not isinstance(meta, dict):
        yield "no meta", f"`meta`: expected an object, found {shown(meta)}", f"write one with {', '.join(_META_KEYS)}"
        return
    yield from _meta_problems(meta)


def _message_problems(messages: object) -> Iterator[Found]:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        yield "no messages", f"`messages`: expected a list of objects, found {shown(messages)}", f"write three, of {', '.join(ROLES)}"
        return
    roles = tuple(message.get("role") for message in messages)
    if roles != ROLES:
        yield "roles", f"the roles are {shown(list(roles))}", f"a pair has three messages, of {', '.join(ROLES)} in this order"
    for number, message in enumerate(messages, start=1):
        where = f"message {number}: "
        for kind, _, found, mend in repeated_keys(message, None):
            yield kind, where + found, mend
        for key in sorted(set(message) - {"role", "content", REPEATED}):
            yield "unknown message key", f"{where}`{key}` is no key of a message", "a message has role and content; what it says would not be trained"
        content = message.get("content")
        if not isinstance(content, str):
            yield "content not text", f"{where}`content`: expected a string, found {shown(content)}", "write the text"
            continue
        faulty = list(text_problems(content))
        yield from ((kind, where + found, mend) for kind, found, mend in faulty)
        if not faulty and (rules := clean_text(content)[1]):
            yield "unclean text", f"{where}{', '.join(rules)} in {shown(content)}", "write it without; docs/dialogues.md explains the rules"


def _meta_problems(meta: Mapping[str, Any]) -> Iterator[Found]:
    for kind, _, found, mend in repeated_keys(meta, None):
        yield kind, f"meta: {found}", mend
    for key in sorted(set(meta) - {*_META_KEYS, REPEATED}):
        yield "unknown meta key", f"`meta.{key}` is no key of a pair's meta", f"known are {', '.join(_META_KEYS)}"
    for key in ("id", "group"):
        if not isinstance(meta.get(key), str) or not is_name(meta[key]):
            yield f"bad {key}", f"`meta.{key}`: found {shown(meta.get(key))}", "write a non-empty line of text"
    if meta.get("kind") not in KINDS:
        yield "unknown kind", f"`meta.kind`: found {shown(meta.get('kind'))}", f"write one of {', '.join(KINDS)}"
    yield from _citation_problems(meta.get("citations"))
    points = meta.get("required_points")
    if not isinstance(points, list) or not points:
        yield "no required points", f"`meta.required_points`: expected a list, found {shown(points)}", 'write [{"point": "…", "any_of": ["…"]}]'
    else:
        yield from itertools.chain.from_iterable(_point_problems(number, point) for number, point in enumerate(points, start=1))
    if not _texts(meta.get("forbidden")):
        mend = "write phrases that no answer may contain, at least one: a predicted outcome, a guarantee"
        yield "no forbidden phrases", f"`meta.forbidden`: expected a list of texts, found {shown(meta.get('forbidden'))}", mend


def _citation_problems(citations: object) -> Iterator[Found]:
    if not isinstance(citations, list) or not citations:
        yield "no citations", f"`meta.citations`: expected a list, found {shown(citations)}", 'every answer cites a provision: [{"law": "民法", "article": "415"}]'
        return
    for number, cited in enumerate(citations, start=1):
        where = f"`meta.citations` {number}: "
        if not isinstance(cited, dict) or set(cited) != {"law", "article"} or not _texts(list(cited.values())):
            yield "bad citation", f"{where}found {shown(cited)}", 'write {"law": "民法", "article": "415"}'
            continue
        if not _ARTICLE_FORM.fullmatch(cited["article"]):
            instead = article_number(cited["article"]) or "415, or 548_2 for 第548条の2"
            yield "bad article", f"{where}the article is {shown(cited['article'])}", f"write {instead}"
        if cited["law"] in SHORT_TITLES:
            yield "short title", f"{where}{cited['law']} is a short title", f"write {SHORT_TITLES[cited['law']]}; the answer may use the short one"
        if cited in citations[: number - 1]:
            yield "citation twice", f"{where}{shown(cited)} stands there twice", "keep one"


def _point_problems(number: int, point: object) -> Iterator[Found]:
    where = f"`meta.required_points` {number}: "
    if not isinstance(point, dict) or set(point) != {"point", "any_of"} or not _texts([point["point"]]) or not _texts(point["any_of"]):
        yield "bad point", f"{where}found {shown(point)}", 'write {"point": "a sentence", "any_of": ["a regular expression", …]}'
        return
    for pattern in point["any_of"]:
        try:
            re.compile(pattern)
        except re.error as error:
            yield "bad pattern", f"{where}{shown(pattern)} is no regular expression: {error}", r"mend it; before a literal ( ) [ ] . * + ? | stands \ "
            continue
        if re.search(pattern, ""):
            yield "bad pattern", f"{where}{shown(pattern)} is found in every text", "write what only an answer that makes the point contains"


def _texts(values: object) -> bool:
    """Whether it is a list of non-empty strings, and not an empty one."""
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) and value.strip() for value in values)


def _content_problems(record: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Found]:
    """Faults of what an answer says, of a record without faults of its form."""
    answer, meta = record["messages"][2]["content"], record["meta"]
    yield from _cited_problems(answer, meta["citations"], names)
    for point in meta["required_points"]:
        if not shows(point["any_of"], answer):
            yield "point not made", f"the answer does not say {shown(point['point'])}: none of {shown(point['any_of'])} is found in it", "mend the answer or the patterns"
    for phrase in phrases_in(meta["forbidden"], answer):
        yield "forbidden phrase", f"the answer contains {shown(phrase)}", "take it out of the answer"
    if "弁護士" not in text_key(answer):
        yield "no notice", "the answer does not say that a lawyer (弁護士) confirms it", "say what a lawyer should confirm, and when, in words of its own"


def _cited_problems(answer: str, citations: Sequence[Mapping[str, str]], names: Mapping[str, str]) -> Iterator[Found]:
    """Where what the answer cites is not what `meta.citations` says."""
    said = {(title_key(cited["law"]), cited["article"]) for cited in citations}
    text = _CLAUSE.sub("", text_key(answer))
    found = {(law, article) for law, article, _ in find_citations(answer, names)}
    for law, article in sorted(found - said):
        yield "citation not in meta", f"the answer cites {law}{article_name(article)}", f'add {{"law": "{law}", "article": "{article}"}} to meta.citations'
    for law, article in sorted(said - found):
        yield "citation not in answer", f"`meta.citations` has {law}{article_name(article)}, which the answer does not cite", f"write {law}{article_name(article)}, or take it out"
    read = {article for _, article in found}
    for name in dict.fromkeys(match[0] for match in re.finditer(ARTICLE, text)):
        if article_number(name) not in read:
            yield "citation not read", f"{name}: of which law is not to be read", f"write the law's title directly before it: 民法{name}"
    for match in _LAW_BEFORE_ARTICLE.finditer(text):
        before = text[: match.end()]
        if match[1] not in _RELATIVE and not any(before.rstrip("の").endswith(law) for law in names):
            yield "unknown law", f"{match[1]} before {text[match.end() :][:8]} is a law that no citation names", "write its whole title, as in meta.citations"


def repeated_faults(records: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Fault]:
    """Ids that are used twice, questions that are asked twice or nearly so, and sentences that stand in many answers."""
    faults = []
    by_id: dict[str, str] = {}
    for place, record in records:
        first = by_id.setdefault(record["meta"]["id"], place)
        if first != place:
            faults.append(Fault(kind="id used twice", place=_named(place, record), found=f"the id is that of {first}", mend="give each pair an id of its own"))
    grams = [ngrams([plain(record["messages"][1]["content"])]) for _, record in records]
    index = text_index(grams, [True] * len(grams), [True])
    for position, (place, record) in enumerate(records):
        earlier = next((other for other in index.similar(grams[position], True) if other < position), None)
        if earlier is not None:
            same = plain(records[earlier][1]["messages"][1]["content"]) == plain(record["messages"][1]["content"])
            found = f"the question is {'' if same else 'nearly '}that of {_named(*records[earlier])}"
            faults.append(Fault(kind="question asked twice", place=_named(place, record), found=found, mend="ask something else, or leave one out"))
    return [*faults, *_template_faults(records)]


def _template_faults(records: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[Fault]:
    answers: dict[str, list[str]] = defaultdict(list)
    for place, record in records:
        for sentence in dict.fromkeys(_SENTENCE.findall(record["messages"][2]["content"])):
            answers[sentence.strip()].append(_named(place, record))
    for sentence, places in answers.items():
        if len(places) > _OFTEN:
            found = f"{shown(sentence)} stands in {len(places)} answers"
            yield Fault(kind="template sentence", place=places[_OFTEN], found=found, mend="say it in each answer in words of its own, about its own case")
