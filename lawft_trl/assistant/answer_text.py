"""What a model writes, made safe to show: no HTML, no images, no links, nothing invisible."""

import re

from lawft_trl.assistant.documents import remove_invisible

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_IMAGE = re.compile(r"!\[[^\[\]\n]{0,500}\](?:\([^)\n]{0,2000}\)?|\[[^\[\]\n]{0,500}\]?)?")
_LINK = re.compile(r"\[([^\[\]\n]{0,500})\](?:\([^)\n]{0,2000}\)?|\[[^\[\]\n]{0,500}\])")
_REFERENCE = re.compile(r"^[ \t]{0,3}\[[^\]\n]+\]:.*$", re.MULTILINE)
_ADDRESS = re.compile(r"(?:(?:https?|ftp|file)://|(?:javascript|vbscript|mailto):|data:[a-z]+/|www\.)[^\s<>「」（）()、。]*", re.IGNORECASE)
_TAG = re.compile(r"<!--.{0,5000}?-->|</?[A-Za-z][A-Za-z0-9:-]*(?:[\s/][^<>]{0,5000})?>|<[!?][A-Za-z][^<>]{0,5000}>", re.DOTALL)
LINK_REMOVED = "〔リンクは除きました〕"


def clean_answer(text: str) -> str:
    """Text that nothing renders as HTML, an image or a link; a model's thoughts between `<think>` tags are left out.

    What the user reads may be rendered as Markdown, and an address in it can carry the document away when it is loaded.
    The text of a link stays, its address does not. An answer that is still coming may be cleaned as it is.
    """
    text, _ = remove_invisible(_THOUGHT.sub("", text))
    before = None
    while text != before:  # what is left after a removal may be a tag again
        before = text
        text = _IMAGE.sub("", text)
        text = _LINK.sub(r"\1", text)
        text = _REFERENCE.sub("", text)
        text = _TAG.sub("", text)
    return _ADDRESS.sub(LINK_REMOVED, text).replace("<", "＜").strip()
