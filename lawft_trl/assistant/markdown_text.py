"""Other people's text within Markdown: shown as it stands, never taken for an image, a link, a heading or HTML."""

import re

_PUNCTUATION = r"[!-/:-@\[-`{-~]"
_BACKSLASH = re.compile(rf"\\(?={_PUNCTUATION}|$)", re.MULTILINE)
_ACTIVE = re.compile(r"^(?P<indent>[ \t]*)(?=[#>+=~|-])|[`*_\[\]]|(?<=[A-Za-z]):(?=[^\s])|(?<=www)\.", re.MULTILINE | re.IGNORECASE)
_ESCAPED = re.compile(rf"\\({_PUNCTUATION})")


def escape_backslashes(text: str) -> str:
    """The text with the backslashes doubled that Markdown would take for escapes; `\\1,000` (yen) stays."""
    return _BACKSLASH.sub(r"\\\\", text)


def escape_markdown(text: str) -> str:
    """The text so that Markdown shows each of its characters, line by line, as it is; `<` becomes `＜`, also for readers that know no escapes."""

    def escaped(match: re.Match[str]) -> str:
        return "\\" + match[0] if match["indent"] is None else match["indent"] + "\\"

    return _ACTIVE.sub(escaped, escape_backslashes(text)).replace("<", "＜")


def unescape_markdown(text: str) -> str:
    """What Markdown shows of an escaped text."""
    return _ESCAPED.sub(r"\1", text)
