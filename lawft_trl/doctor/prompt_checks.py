"""Checks of what the prompt says: statutes it speaks of and does not show, passages shown twice, the form it asks for."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from lawft_trl.data.near_duplicates import plain
from lawft_trl.data.rows import Row
from lawft_trl.doctor.findings import Finding, around, examples_of

_STATUTES = "(?:法令条文|条文|法令|法律の条文|規定|参考資料|資料|文書|コンテキスト|文脈|context|passages?|statutes?)"
_SHOWN = "(?:上記|以下|下記|次|前記|(?:提示|提供|引用|添付)された|与えられた|示された|(?:the )?(?:above|following|given|provided))"
_BASIS = "(?:に基づ|に基い|にもとづ|を根拠|のみ|だけ|に照らし|を読|を参照|を参考|に従|から判断|をもとに|を元に|を踏まえ)"
# A prompt speaks of statutes as shown ("answer from the following articles only"), or says that there are none.
_CLAIM = re.compile(
    rf"{_SHOWN}[のに]?(?:関連する|関連|参考)?{_STATUTES}[^。\n]{{0,12}}?{_BASIS}"
    rf"|{_STATUTES}(?:に照らし|の内容のみ|のみを根拠|のみに基づ)"
    rf"|{_STATUTES}(?:が|は)?(?:提供|提示|示|与え)(?:さ|ら)れていま(?:せん|す)|(?:based (?:only )?on|using only) {_SHOWN} {_STATUTES}",
    re.IGNORECASE,
)
_NONE_GIVEN = re.compile(rf"{_STATUTES}[^。\n]{{0,8}}(?:ません|なし|無し|ありません)|^\W*(?:なし|無し|該当なし|none|n/a)\W*$", re.IGNORECASE)
_QUESTION_BLOCK = re.compile(
    r"^\W*(?:【|■|#+ *|\[)?(?:質問|問題文?|問い|設問|選択肢|question|choices)(?:】|\]|[:：]|[ \t]*$).*?(?=^\W*(?:【|■|#+ )|\Z)",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
_ARTICLE_HEADING = re.compile(r"^[^。\n]{0,40}第[0-9０-９〇一二三四五六七八九十百千]+条", re.MULTILINE)
_INSTRUCTION = re.compile(r"ください|下さい|しなさい|せよ|こと[。\n]|回答|解答|答え|選択肢|あなたは|please|answer", re.IGNORECASE)
_LABELLED = re.compile(r"^\W*[【\[(（■#]*(?:法令条文|関連条文|参考条文|条文|関連法令|法令|参考資料|資料|コンテキスト|context)[】\])）:：]*\s*\n((?:(?!\W*【).*\n?)*)", re.MULTILINE | re.IGNORECASE)
_PASSAGE = 40  # characters of a paragraph that is taken for a passage where nothing names it
_REPEATED = 20  # characters of a line that is not the same in two articles by chance (in lawqa_jp's contexts none is)

_LETTER_ONLY = re.compile(
    r"(?:1|１|一)\s*文字(?:のみ|だけ)|(?:記号|アルファベット|英字|選択肢)(?:の記号)?(?:を)?(?:[1１一]つ)?(?:のみ|だけ)(?:を|で)?(?:答|回答|解答|出力|書)|(?:only the|single) letter",
    re.IGNORECASE,
)
_REASONS = re.compile(r"(?:理由|根拠)(?:を|も|と)(?!(?:書か|述べ|示さ|説明せ)ず)|考え方を|段階的に|ステップ[・ ]?バイ|step by step|reasoning", re.IGNORECASE)
_PRIMED = re.compile(
    r"(?:答え|回答|解答|正解|answer|例)[ \t　]*(?:[（(][^）)\n]{0,20}[）)])?[ \t　]*(?:[:：]|は)[ \t　]*[「『\"'(（]?([a-dａ-ｄ])(?=[」』\"')）。]|[ \t　]*(?:\n|\Z))",
    re.IGNORECASE,
)
_PRIMED_SHARE = 0.4  # the commonest example letter among rows that have one; a quarter is what rotating gives


def frame_of(row: Row) -> str:
    """The prompt without its question and choices, where the row says which they are: instructions and passages."""
    text = "\n".join(message["content"] for message in row.prompt if message["role"] != "assistant")
    question, choices = row.meta.get("question"), row.meta.get("choices")
    if isinstance(question, str) and len(question) >= 4:
        text = text.replace(question, "")
    for choice in choices.values() if isinstance(choices, dict) else ():
        if isinstance(choice, str) and choice.strip():
            # Only where a line ends with it: a short choice may stand in a passage too.
            text = text.replace(f"{choice.strip()}\n", "\n").removesuffix(choice.strip())
    return text


def known_passages(row: Row) -> list[str]:
    """The passages that the row's `meta` lists as shown, as text."""
    for key in ("statutes", "passages"):
        listed = row.meta.get(key)
        texts = [_passage_text(item) for item in listed] if isinstance(listed, list) else []
        if any(texts):
            return [text for text in texts if text]
    return []


def _passage_text(item: object) -> str:
    if isinstance(item, dict):
        item = next((item[key] for key in ("text", "content", "page_content") if isinstance(item.get(key), str)), "")
    return item.strip() if isinstance(item, str) else ""


def shows_passage(row: Row, frame: str) -> bool:
    """Whether a prompt shows statutes.

    It does if a passage that its `meta` lists stands in it, if a line outside question and choices begins with the
    heading of an article, if text that is no "none" stands under a heading for statutes, or if a paragraph is long and
    asks for nothing.
    """
    if any(passage in frame for passage in known_passages(row)):
        return True
    rest = _QUESTION_BLOCK.sub("", frame)
    paragraphs = [line for line in rest.split("\n") if not _INSTRUCTION.search(line) and not _NONE_GIVEN.search(line)]
    if _ARTICLE_HEADING.search("\n".join(paragraphs)) or any(len(line) >= _PASSAGE and len(plain(line)) >= _PASSAGE for line in paragraphs):
        return True
    under = [line for block in _LABELLED.findall(rest) for line in block.split("\n")]
    return any(len(plain(line)) >= 10 and line in paragraphs for line in under)


def claim_findings(rows: Sequence[Row], frames: Sequence[str]) -> list[Finding]:
    """Prompts that speak of statutes and show none; `frames` are the rows' `frame_of`."""
    hits = []
    for row, frame in zip(rows, frames, strict=True):
        claim = _CLAIM.search(frame)
        if claim and not shows_passage(row, frame):
            hits.append((row, around(frame, claim.start())))
    if not hits:
        return []
    return [
        Finding(
            code="statutes-not-shown",
            severity="error",
            message="the prompt speaks of statutes that it does not show, so it contradicts itself",
            count=len(hits),
            total=len(rows),
            examples=examples_of(hits),
            mend="use a prompt for rows without statutes that does not mention any (`lawft data` writes one)",
        )
    ]


def passage_findings(rows: Sequence[Row], frames: Sequence[str]) -> list[Finding]:
    """The same passage more than once in one prompt."""
    hits, most = [], 1
    for row, frame in zip(rows, frames, strict=True):
        lines = ("".join(line.split()) for line in frame.split("\n") if not line.lstrip().startswith("#"))
        passages = known_passages(row) or [line for line in lines if len(line) >= _REPEATED]
        passage, count = next(iter(Counter("".join(passage.split()) for passage in passages).most_common(1)), ("", 1))
        if count > 1:
            most = max(most, count)
            hits.append((row, f"{count}×: {passage}"))
    if not hits:
        return []
    return [
        Finding(
            code="duplicate-passage",
            severity="warning",
            message=f"the prompt shows the same passage more than once (up to {most}×): room for other articles is lost",
            count=len(hits),
            total=len(rows),
            examples=examples_of(hits),
            mend="drop repeated passages before the best are chosen (`lawft data` does), then write the rows again",
        )
    ]


def form_findings(rows: Sequence[Row], frames: Sequence[str]) -> list[Finding]:
    """Prompts that ask for another form of answer than the one that is taught."""
    longer, bare = [], []
    for row, frame in zip(rows, frames, strict=True):
        if row.gold is None or row.meta.get("scoring_only"):
            continue
        letter_only, reasons = _LETTER_ONLY.search(frame), _REASONS.search(frame)
        is_letter = len(plain(row.output)) <= 1
        if letter_only and not reasons and not is_letter:
            longer.append((row, f"{letter_only[0]} … {row.output}"))
        elif reasons and not letter_only and is_letter:
            bare.append((row, f"{reasons[0]} … {row.output}"))
    cases = (
        ("letter-asked", longer, "the prompt asks for one letter, and the output is more", "ask for what the output has, or make the output the letter"),
        ("reasons-asked", bare, "the prompt asks for reasons, and the output is a bare letter", "ask for the letter alone, or write reasons (lawft data reasons)"),
    )
    return [
        Finding(code=code, severity="warning", message=message, count=len(hits), total=len(rows), examples=examples_of(hits), mend=mend)
        for code, hits, message, mend in cases
        if hits
    ]


def priming_findings(rows: Sequence[Row], frames: Sequence[str]) -> list[Finding]:
    """Prompts whose example answer names one letter, mostly the same one in all rows."""
    hits, letters = [], Counter()
    for row, frame in zip(rows, frames, strict=True):
        primed = list(_PRIMED.finditer(frame))
        named = {unicodedata.normalize("NFKC", match[1]).lower() for match in primed}
        if len(named) == 1:
            letters.update(named)
            hits.append((row, around(frame, primed[0].start())))
    if not hits or max(letters.values()) <= _PRIMED_SHARE * len(hits):
        return []
    letter, count = letters.most_common(1)[0]
    return [
        Finding(
            code="primed-letter",
            severity="warning",
            message=f"the prompt itself answers with a letter as an example, {letter} in {count} of {len(hits)} such rows: that letter is primed",
            count=len(hits),
            total=len(rows),
            examples=examples_of(hits),
            mend="describe the form without a letter (「記号一文字」), or rotate the letter of the example over the rows",
        )
    ]
