"""Drafting: a template and facts become a draft (案), clause by clause, with the differences to the template shown."""

import difflib
import re
import time
import unicodedata
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from lawft_trl.assistant import notices
from lawft_trl.assistant.citations import Search
from lawft_trl.assistant.clauses import Clause
from lawft_trl.assistant.documents import Document, document_from_text, excerpt_of, remove_invisible
from lawft_trl.assistant.markdown_text import escape_markdown
from lawft_trl.assistant.privacy import guard
from lawft_trl.assistant.report import RULE, Item, Report
from lawft_trl.assistant.tasks.asking import (
    Asked,
    Progress,
    ask_parts,
    cleaned,
    failures_body,
    finish,
    items_of_document,
    without_answers,
)
from lawft_trl.assistant.tasks.prompts import DRAFT, fenced, messages_for, statutes_part
from lawft_trl.statutes.citations import ARTICLE
from lawft_trl.statutes.numerals import read_number

_BLANK = re.compile(r"\{\{\s*([^{}\n]{1,40}?)\s*\}\}|【\s*([^【】\n]{1,40}?)\s*】|〔\s*([^〔〕\n]{1,40}?)\s*〕|●+|【[ 　]*】|[＿_]{2,}")
_NUMBER = re.compile(r"[0-9][0-9,.]*[万億]*|[〇一二三四五六七八九十百千万億]+(?=[日月年円回通部人名個件割分倍％%週時箇か]|パーセント)")
_CAPTION = re.compile(rf"^([ \t　]*{ARTICLE}[ \t　]*)【[^【】\n]*】(?=[ \t　]|$)|^[ \t　]*【[^【】\n]*】[ \t　]*$", re.MULTILINE)  # 第1条【目的】 is no blank
# What a page may load or follow.
_LOADED = re.compile(r"!\[[^\]\n]*\]|(?:https?|ftp|file)://[^\s<>「」（）()、。]*|(?:javascript|vbscript|mailto):[^\s、。]*|<[A-Za-z!/][^<>\n]*>?", re.IGNORECASE)
_SHRUNK = 0.5  # a draft of a clause with less of its length has lost something


def draft(
    client: Any,
    template: str | Document,
    facts: str | Mapping[str, str],
    *,
    search: Search | None = None,
    model: str | None = None,
    remote_consent: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Makes a draft; it is the report's body, with the differences to the template.

    Args:
        client: a `LegalClient`.
        template: a text or document with blanks (`{{甲の名称}}`, `【期間】`, `〔期間〕`, `●●`).
        facts: what is to be written in: free text, or blank -> value; a blank with just that name is filled without a model.
        search: a statutes corpus, for the prompt and to verify citations.
        model: another id at the same URL, such as `client.entry.base_model`.
        remote_consent: the user agreed that both are sent to this remote model, with placeholders.
        progress: told before each clause.

    Raises:
        DocumentProblem: for an empty template or no facts.
        ConsentNeeded: for a remote model without consent.
        ModelError: when the server cannot be asked at all.
    """
    from lawft_trl.assistant.tasks.forms import DraftedClause

    started, warnings = time.monotonic(), {}
    document = document_from_text("ひな形", template) if isinstance(template, str) else template
    values = {} if isinstance(facts, str) else dict(facts)
    told = document_from_text("事実", facts if isinstance(facts, str) else "\n".join(f"{name}：{value}" for name, value in facts.items())).text
    client = guard(client, remote_consent=remote_consent, about=[told, document.text])
    filled = [_fill(clause.text, values) for clause in document.clauses]
    parts = [(clause.label, text) for clause, text in zip(document.clauses, filled, strict=True) if text.strip()]

    def messages_of(label: str, text: str) -> list[dict[str, str]]:
        return messages_for(client, DRAFT, statutes_part(search, text, 2), fenced(told, "事実"), fenced(text, "条項のひな形"))

    asked, answered_by = ask_parts(client, parts, messages_of, DraftedClause, model=model, progress=progress)
    without_answers(asked, warnings)
    drafted, items = _drafted(document.clauses, filled, asked, told, warnings)
    text = "".join(drafted)
    body = "\n\n".join(part for part in (f"## {notices.DRAFT}", _quoted(text), _difference(document.text, text), failures_body(asked)) if part)
    return finish(
        "drafting",
        f"【{notices.DRAFT}】{document.name}",
        started,
        model=answered_by,
        notices=[notices.DRAFT_NOTICE, notices.ANSWER, notices.CITATIONS],
        warnings=warnings,
        search=search,
        items=[*items_of_document(document), *items],
        body=body,
        cited_in=[text],
    )


def _fill(text: str, values: Mapping[str, str]) -> str:
    """A clause with the blanks filled whose names are among the facts."""
    names = {_key(name): value for name, value in values.items()}

    def filled(blank: re.Match[str]) -> str:
        name = next((group for group in blank.groups() if group), "")
        return names.get(_key(name), blank[0])

    captions = [match.span() for match in _CAPTION.finditer(text)]
    return _BLANK.sub(lambda blank: blank[0] if any(start <= blank.start() < end for start, end in captions) else filled(blank), text)


def _key(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).split())


def _drafted(
    clauses: Sequence[Clause], filled: Sequence[str], asked: Sequence[Asked], told: str, warnings: dict[str, None]
) -> tuple[list[str], list[Item]]:
    """The clauses of the draft, and what is to be checked in them; a clause without a usable answer stays as the template has it."""
    answers, texts, items = iter(asked), [], []
    for clause, before in zip(clauses, filled, strict=True):
        each = next(answers) if before.strip() else None
        text = before
        if each and each.answer:
            written = remove_invisible(each.answer.text)[0].strip()  # no more than that: a clause may speak of 敗訴 or hold an address
            added = sorted(set(_LOADED.findall(written)) - set(_LOADED.findall(f"{before}\n{told}")))
            if added:
                issue = f"ひな形にも事実にもないリンク、画像またはHTMLが案にあります：{excerpt_of('、'.join(added))}。意図したものか確認してください。"
                items.append(Item(clause=clause.label, issue=issue, priority="高", source=RULE))
            if len(written) >= _SHRUNK * len(before.strip()):
                text = written + before[len(before.rstrip()) :]
            else:
                items.append(Item(clause=clause.label, issue="モデルの案はひな形より大幅に短く、定めが落ちているおそれがあるため、ひな形の文言を残しました。", source=RULE))
            items += [Item(clause=clause.label, issue=cleaned(note, warnings)) for note in each.answer.notes if note.strip()]
        given = _numbers(before).keys() | _numbers(told).keys()
        invented = sorted(written for value, written in _numbers(text).items() if value not in given)
        if invented:
            items.append(Item(clause=clause.label, issue=f"ひな形にも事実にもない数字が案にあります：{'、'.join(invented)}。根拠を確認してください。", priority="高", source=RULE))
        blanks = list(dict.fromkeys(match[0] for match in _BLANK.finditer(_CAPTION.sub(r"\1", text))))
        if blanks:
            items.append(Item(clause=clause.label, issue=f"未記入の箇所があります：{'、'.join(blanks)}", source=RULE))
        texts.append(text)
    return texts, items


def _numbers(text: str) -> dict[Fraction | str, str]:
    """The numbers of a text by value, 三十日 and 30日 the same, as they are written first; in kanji only before a unit (一切 is none)."""
    found: dict[Fraction | str, str] = {}
    for written in _NUMBER.findall(unicodedata.normalize("NFKC", text)):
        bare = written.replace(",", "").rstrip(".")
        value = read_number(bare)
        found.setdefault(bare if value is None else value, bare)
    return found


def _quoted(text: str) -> str:
    """A draft as Markdown that keeps its lines."""
    return "\n".join(f"> {line}".rstrip() for line in escape_markdown(text.strip()).splitlines())


def _difference(before: str, after: str) -> str:
    """The differences line by line, as a Markdown block."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), "ひな形", "案", lineterm="", n=1))
    if not lines:
        return "## ひな形との差分\n\nひな形から変わったところはありません。"
    shown = "\n".join(line.replace("```", "｀｀｀").replace("<", "＜") for line in lines)
    return f"## ひな形との差分\n\n```diff\n{shown}\n```"
