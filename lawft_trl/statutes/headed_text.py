"""Passages from text that people wrote: under Markdown headings, as the contexts of lawqa_jp are, or plain."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lawft_trl.errors import InputError
from lawft_trl.statutes.citations import ARTICLE, article_number, item_name, paragraph_number, title_key
from lawft_trl.statutes.excerpts import HEADING, merge_excerpts
from lawft_trl.statutes.passages import MAIN, Passage, sort_key
from lawft_trl.text_files import read_text

_CAPTIONED = re.compile(rf"({ARTICLE}(?:から{ARTICLE}まで)?)\s*(?:\((.*)\))?")
# An answer belongs to its question: `(答)`, `A9`, `A2-1`.
_ANSWER = re.compile(r"\(?答\)?|A\d*(?:-\d+)*")
# The title of a law under a heading meant for articles; 「第1章 金融商品取引法」 is a chapter about one.
_LAW_TITLE = re.compile(r"(?!第\s*\S+\s*[編章節款条])\S*(?:法律|法|政令|府令|省令|施行令|施行規則)")
_PLAIN_ARTICLE = re.compile(rf"({ARTICLE}(?:から{ARTICLE}まで|及び{ARTICLE}(?=\s+削))?)\s*(?:[（(]([^）)]*)[）)])?(?:\s+|$)(.*)")
_SUPPLEMENTARY = re.compile(r"附\s*則\s*(?:[（(](.*?)[）)])?\s*(.*)")  # 附則（平成一一年法律第一五一号）第1条
_PART_OF_LAW = re.compile(r"第\s*\S+?\s*[編章節款目](?:の\S+)?(?:\s.*[^。])?")


def read_headed(
    text: str, *, source: str, law: str = "", law_ids: Mapping[str, str] | None = None, as_of: str = ""
) -> list[Passage]:
    """Passages of a text under `## 法令名`, `### 第N条（見出し）`, `#### 第M項`; of plain text where it has no headings.

    Numbers in headings may be full-width or kanji. An article or paragraph is known by its name at any depth; other
    headings (Q&A, the sections of a guideline) name the article at depth 3 and the paragraph at depth 4 as they stand;
    items (第N号), answers and whatever is deeper stay in the text as lines. Text that stands under no article is a
    passage too. Plain text, and a stretch of it under the heading of a law or chapter that has lines beginning with 第N条,
    is divided at these lines and, outside articles, at blank lines.

    Args:
        text: UTF-8 text, any line ends.
        source: where it was read, for `Passage.source`.
        law: title of text that stands under no `##` (default: the source without its suffix).
        law_ids: title -> e-Gov's law id; a title that is not in it is its own id.
        as_of: ISO date on which the text is the law in force.

    Returns:
        Passages in the order of the text; excerpts of one paragraph are merged into one passage.
    """
    law = law or Path(source).stem
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    headed = any(HEADING.match(line) for line in lines)
    pieces = _headed_pieces(lines, law) if headed else _plain_pieces(lines, _Piece(law))
    ids = {title_key(title): law_id for title, law_id in (law_ids or {}).items()}
    found = [
        Passage(
            law_id=ids.get(title_key(piece.law), title_key(piece.law)),
            law=piece.law,
            provision=piece.provision,
            article=piece.article,
            paragraph=piece.paragraph,
            part=piece.part,
            caption=piece.caption,
            text=body,
            as_of=as_of,
            source=source,
        )
        for piece in pieces
        if (body := "\n".join(line.rstrip() for line in piece.lines).strip())
    ]
    return merge_excerpts(found)


def read_text_files(
    paths: Iterable[Path], *, law: str = "", law_ids: Mapping[str, str] | None = None, as_of: str = ""
) -> list[Passage]:
    """Passages of Markdown and text files; a file without `##` is named `law`, or after itself.

    Raises:
        InputError: for a file that cannot be read or holds no text, and for a paragraph that stands in two files.
    """
    passages, problems, seen = [], [], {}
    for path in paths:
        found = read_headed(read_text(path), source=path.name, law=law or path.stem, law_ids=law_ids, as_of=as_of)
        if not found:
            problems.append(f"{path}: no text in it")
        for passage in found:
            first = seen.setdefault(passage.key, path)
            if first != path:
                problems.append(f"{path}: {passage.heading} is also in {first}; keep one, or give one another title (## ...)")
        passages += found
    if problems:
        raise InputError(f"{len(problems)} error(s) in the text files", problems)
    return sorted(passages, key=sort_key)


def lawqa_passages(
    contexts: Iterable[str], *, law_ids: Mapping[str, str] | None = None, as_of: str = "", source: str = "lawqa_jp"
) -> list[Passage]:
    """The passages of all contexts of a question set, each once: what several show of a paragraph is put together.

    Args:
        contexts: the field コンテキスト of every question. Nothing else of a question may come in here.
        law_ids: `read_law_ids` of the data set's law_list.json.
        as_of: ISO date of the law.
        source: name of the question set.
    """
    passages = [
        passage
        for context in contexts
        for passage in read_headed(context, source=source, law=_untitled(context), law_ids=law_ids, as_of=as_of)
    ]
    return sorted(merge_excerpts(passages), key=sort_key)


def article_keys(context: str) -> tuple[str, ...]:
    """`Passage.article_key` of every article a context shows, in the order of the text."""
    return tuple(dict.fromkeys(passage.article_key for passage in read_headed(context, source="", law=_untitled(context))))


def _untitled(context: str) -> str:
    """A title for a context that names no law, so that the 第1条 of two such contexts are not taken for one."""
    return f"無題{hashlib.sha256(context.strip().encode()).hexdigest()[:8]}"


def read_law_ids(path: Path) -> dict[str, str]:
    """Title -> e-Gov's law id, from lawqa_jp's law_list.json; documents without such an id are left out.

    Raises:
        InputError: when it is not a list of objects with `title` and `url`.
    """
    try:
        entries = [(entry["title"], entry["url"]) for entry in json.loads(read_text(path))]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: expected a JSON list of objects with `title` and `url`: {error!r}") from None
    found = [(title, re.search(r"laws\.e-gov\.go\.jp/law/([0-9A-Z]+)", url)) for title, url in entries]
    return {title: match[1] for title, match in found if match}


@dataclass
class _Piece:
    """The lines that stand at one place of a text."""

    law: str
    provision: str = MAIN
    article: str = ""
    paragraph: str = ""
    part: int = 0
    caption: str = ""
    lines: list[str] = field(default_factory=list)


def _headed_pieces(lines: Sequence[str], law: str) -> list[_Piece]:
    pieces = [_Piece(law)]
    for line in lines:
        here, match = pieces[-1], HEADING.match(line)
        if not match:
            here.lines.append(line)
            continue
        depth, written = len(match[1]), " ".join(match[2].split())
        name = re.sub(r"(?<=[^ -~]) | (?=[^ -~])", "", unicodedata.normalize("NFKC", written))
        supplementary = _SUPPLEMENTARY.fullmatch(name)
        article = _CAPTIONED.fullmatch(supplementary[2] if supplementary else name)
        if article:
            provision = _supplementary(supplementary[1]) if supplementary else here.provision
            pieces.append(_Piece(here.law, provision, article_number(article[1]), caption=(article[2] or "").strip()))
        elif supplementary and not supplementary[2]:
            pieces.append(_Piece(here.law, _supplementary(supplementary[1])))
        elif paragraph_number(name):
            pieces.append(replace(here, paragraph=paragraph_number(name), lines=[]))
        elif item_name(name):
            here.lines.append(f"##### {item_name(name)}")
        elif depth >= 5 or _ANSWER.fullmatch(name):
            here.lines.append(f"##### {written}" if depth < 5 else f"{match[1]} {written}")
        elif depth <= 2 and _PART_OF_LAW.fullmatch(written):
            pieces.append(_Piece(here.law, here.provision))
        elif depth <= 2 or (depth == 3 and _LAW_TITLE.fullmatch(name)):
            pieces.append(_Piece(written))
        elif depth == 3:
            pieces.append(_Piece(here.law, article=name))
        else:
            pieces.append(replace(here, paragraph=name, lines=[]))
    return [part for piece in pieces for part in (_plain_pieces(piece.lines, piece) if _has_plain_articles(piece) else [piece])]


def _has_plain_articles(piece: _Piece) -> bool:
    """Whether a stretch under the heading of a law or chapter is plain text that numbers its articles."""
    return not (piece.article or piece.paragraph) and any(_PLAIN_ARTICLE.match(line.strip()) for line in piece.lines)


def _plain_pieces(lines: Sequence[str], whole: _Piece) -> list[_Piece]:
    """Divides the plain text of a law; a paragraph of an article begins with its number, as 「２　前項の…」 does."""
    law, outside = whole.law, 1
    pieces = [_Piece(law, whole.provision, part=1)]
    lines, caption = [line.strip() for line in lines], ""
    for position, line in enumerate(lines):
        here = pieces[-1]
        following = next((other for other in lines[position + 1 :] if other), "")
        bracketed = re.fullmatch(r"[（(](.+)[）)]", line)
        article = _PLAIN_ARTICLE.match(line)
        number = re.match(r"([0-9０-９]+)\s+(.*)", line)
        if bracketed and _PLAIN_ARTICLE.match(following):
            caption = bracketed[1]
        elif article:
            pieces.append(_Piece(law, here.provision, article_number(article[1]), caption=article[2] or caption, lines=[article[3]]))
            caption = ""
        elif number and here.article and int(number[1]) == int(here.paragraph or 1) + 1:
            here.paragraph = here.paragraph or "1"
            pieces.append(replace(here, paragraph=str(int(number[1])), lines=[number[2]]))
        elif (supplementary := _SUPPLEMENTARY.fullmatch(line)) and not supplementary[2]:
            outside += 1
            pieces.append(_Piece(law, _supplementary(supplementary[1]), part=outside))
        elif _PART_OF_LAW.fullmatch(line) or not (line or here.article):
            outside += 1
            pieces.append(_Piece(law, here.provision, part=outside))
        else:
            here.lines.append(line)
    return pieces


def _supplementary(amendment: str | None) -> str:
    """The provision that the heading 附則 begins, `"suppl:平成一一年法律第一五一号"` where it names the amending law."""
    return f"suppl:{amendment}" if amendment else "suppl"
