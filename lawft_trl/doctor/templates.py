"""What is left of a reasoned answer when everything that a template would fill in is masked."""

import re
import unicodedata
from collections.abc import Iterable

from lawft_trl.data.rows import Row

_QUOTED = re.compile(r"「[^「」]*」|『[^『』]*』|“[^“”]*”|\"[^\"]*\"")
_NUMBER = re.compile(r"[\d〇一二三四五六七八九十百千万億兆]+(?:[,.][\d]+)*")
_ARTICLE = re.compile(r"(?:第?#[編章節款条項号](?:の#)*)+")
_LETTER = re.compile(r"(?<![a-z])[a-d](?![a-z])|(?<![ァ-ヶー])[アイウエ](?![ァ-ヶー])")
_CHOICE_LABEL = re.compile(r"^\W*(?:[a-dA-Dａ-ｄＡ-Ｄ1-4１-４]|[アイウエ](?![ァ-ヶー]))[\s.．:：)）\]】、]+")
_THOUGHT_TAGS = re.compile(r"</?think(?:ing)?>")
_ANSWER = re.compile(
    r"(?:最終(?:的な)?)?(?:答え?|解答|回答|正解|結論|answer)\s*(?:は|[:：＝=])*\s*(?:選択肢\s*)?[\[「『(（【*]*[a-dａ-ｄ](?![a-zａ-ｚ])[\]」』)）】*]*\s*(?:です|である|となる|となります)?[。.．]?",
    re.IGNORECASE,
)
_LABEL = re.compile(r"(?:reasoning|reasons?|thought|rationale|理由|根拠|思考(?:過程)?|考え方)\s*[:：]", re.IGNORECASE)


def mask_template(text: str) -> str:
    """The text without what a template fills in: quoted words, numbers, articles, letters of choices, white space.

    Masking a masked text changes nothing.
    """
    before = None
    while before != text:  # a mask can leave something to mask: brackets within brackets, letters that meet
        before = text
        text = _QUOTED.sub("〝", unicodedata.normalize("NFKC", text.casefold()))
        text = _NUMBER.sub("#", text)
        text = _LETTER.sub("@", text)
        text = "".join(text.split())
        text = _ARTICLE.sub("§", text)
    return text


def template_of(row: Row) -> str:
    """The template of a row's output, in which its question, its choices and the lines of its prompt count as filled in."""
    output = row.output
    choices = row.meta.get("choices")
    lines = {line.strip() for message in row.prompt for line in message["content"].split("\n")}
    lines |= {_CHOICE_LABEL.sub("", line) for line in lines}
    own = [row.meta.get("question"), *(choices.values() if isinstance(choices, dict) else ()), *sorted(line for line in lines if line in output)]
    for text in sorted((text for text in own if isinstance(text, str) and len(text.strip()) > 1), key=len, reverse=True):
        output = output.replace(text, "「」")
    return mask_template(output)


def reasoning_length(output: str) -> int:
    """How many letters, digits and kanji an output has beside the statement of its answer and the labels."""
    text = _LABEL.sub("", _ANSWER.sub("", _THOUGHT_TAGS.sub("", output)))
    return sum(character.isalnum() for character in text)


def states_answer(output: str) -> bool:
    """Whether a text says which letter is the answer."""
    return _ANSWER.search(output) is not None


def distinct_ngrams(texts: Iterable[str], n: int, *, characters: int) -> float | None:
    """Distinct-n over characters: different n-grams among all n-grams (Li et al., 2016, over words).

    It falls with the length of the text, so it is taken over the first `characters` characters; `None` for a shorter one.
    """
    text = ""
    for more in texts:
        text += more
        if len(text) >= characters:
            grams = {text[start : start + n] for start in range(characters - n + 1)}
            return len(grams) / (characters - n + 1)
    return None
