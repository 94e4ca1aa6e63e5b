"""What the readers of the formats give to `documents.py`, and the limits they keep."""

from dataclasses import dataclass, field

MAX_BYTES = 10 * 1024 * 1024
MAX_PAGES = 200
MAX_CHARACTERS = 300_000


class DocumentProblem(Exception):
    """A document that cannot be read; its `str` is one Japanese sentence for the user, without any of the document's text."""


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """A piece of a document that its reader does not see on paper, or that was not read.

    Attributes:
        kind: `"隠し文字"`, `"変更履歴"` or `"読み取り対象外"`.
        place: where, `"3頁"` or `"12段落目"`; `""` for the whole document.
        text: the piece.
        why: how it is hidden, in Japanese.
    """

    kind: str
    place: str
    text: str = field(default="", repr=False)
    why: str


@dataclass(frozen=True, kw_only=True)
class RawText:
    """The visible text of a document, and what is not visible.

    Attributes:
        text: as the format gives it, not cleaned yet.
        pages: `None` where the format has none.
        unseen: what was left out of the text.
    """

    text: str = field(repr=False)
    pages: int | None = None
    unseen: tuple[Unseen, ...] = ()


def too_long(characters: int) -> DocumentProblem:
    """The problem of a text over `MAX_CHARACTERS`."""
    return DocumentProblem(
        f"文書が長すぎます（{characters:,}文字を超えました。上限は{MAX_CHARACTERS:,}文字です）。分けてお試しください。"
    )
