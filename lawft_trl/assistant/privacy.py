"""What leaves the machine: nothing by default; to a remote model, with the user's consent, text without names and numbers.

Names, companies, addresses and numbers become placeholders, 〔氏名1〕, and come back in the answer. The table of them is in
memory only. How much is found is measured: scripts/measure_privacy.py, docs/assistant.md.
"""

import contextlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from lawft_trl.assistant.personal_kinds import find_private, may_be_part

_LIKE = re.compile(r"[〔［\[【]([一-龥ァ-ヶー]{1,8})([0-9０-９]{1,4})[〕］\]】]")  # models change brackets and widths
_SPACES = re.compile(r"[ \t　]+")
_SPACE = r"[ \t　]{0,2}"  # 鵜飼　次郎 in the signature is 鵜飼次郎 in the text
_BEGUN = re.compile(r"[〔［\[【][^〔［\[【〕］\]】\n]{0,12}\Z")


class ConsentNeeded(Exception):
    """A remote model was to be asked without the user's consent; its `str` is Japanese."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"このモデルは外部のサーバー（{host}）にあります。文書や質問の内容がそこへ送られます。"
            "送信に同意する場合だけ、同意を明示してからお試しください。氏名や番号などは、見つかったものを記号に置き換えて送ります（見落としがあり得ます）。"
        )


class Placeholders:
    """Which placeholder stands for which text. It is never shown, copied or written anywhere."""

    __slots__ = ("_names", "_taken", "_values")

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # text -> placeholder
        self._values: dict[tuple[str, int], str] = {}  # kind and number -> text
        self._taken: set[tuple[str, int]] = set()  # what a text had that looks like one of ours

    def __repr__(self) -> str:
        return f"Placeholders({len(self._names)})"

    def __reduce__(self) -> Any:
        raise TypeError("the table of placeholders stays in memory")

    def __len__(self) -> int:
        return len(self._names)

    def learn(self, text: str) -> None:
        """Gives a placeholder to everything private in a text; the same text gets the same one."""
        self._taken |= {_named(match) for match in _LIKE.finditer(text)} - set(self._values)
        for kind, start, end in find_private(text):
            self._add(kind, text[start:end])

    def hide(self, text: str) -> str:
        """The text with everything private replaced, also where what was learnt before stands without its label or its spaces."""
        self.learn(text)
        if not self._names:
            return text
        found = {(start, end) for _, start, end in find_private(text)}
        anything = re.compile("|".join(map(_spaced, sorted(self._names, key=len, reverse=True))))

        def replaced(match: re.Match[str]) -> str:
            is_other = match.span() not in found and may_be_part(text, *match.span())
            return match[0] if is_other else self._names.get(match[0]) or self._add(self._kind_of(match[0]), match[0])

        return anything.sub(replaced, text)

    def _add(self, kind: str, value: str) -> str:
        """The placeholder of a value, a new one where it has none."""
        number = 1
        if value not in self._names:
            while (kind, number) in self._values or (kind, number) in self._taken:
                number += 1
            self._names[value] = f"〔{kind}{number}〕"
            self._values[kind, number] = value
        return self._names[value]

    def _kind_of(self, written: str) -> str:
        """The kind of a value that is known with other spaces; it gets a placeholder of its own, so that it comes back as it stands."""
        bare = _SPACES.sub("", written)
        return next(kind for (kind, _), value in self._values.items() if _SPACES.sub("", value) == bare)

    def restore(self, text: str) -> str:
        """The text with its placeholders replaced by what they stand for, also where brackets or widths were changed."""
        return _LIKE.sub(lambda match: self._values.get(_named(match), match[0]), text)

    def restore_stream(self, pieces: Iterable[str]) -> Iterator[str]:
        """The same for a text that comes in pieces; what may be the beginning of a placeholder waits for the rest."""
        waiting = ""
        for piece in pieces:
            waiting += piece
            begun = _BEGUN.search(waiting)
            ready, waiting = (waiting[: begun.start()], waiting[begun.start() :]) if begun else (waiting, "")
            if ready:
                yield self.restore(ready)
        if waiting:
            yield self.restore(waiting)


def pseudonymise(text: str) -> tuple[str, Placeholders]:
    """A text without names, companies, addresses and numbers, and the table to restore them.

    `table.restore(result) == text` for every text.
    """
    placeholders = Placeholders()
    return placeholders.hide(text), placeholders


def guard(client: Any, *, remote_consent: bool, about: Iterable[str]) -> Any:
    """The client itself where its model runs on this machine; else one that hides what is private, given consent.

    Args:
        client: a `LegalClient`.
        remote_consent: the user agreed that text is sent to this remote model.
        about: the whole of what is asked about: a name that only the last page has a label for is hidden from the first on.

    Raises:
        ConsentNeeded: for a remote model without consent; nothing was sent.
    """
    if client.entry.is_local:
        return client
    if not remote_consent:
        from urllib.parse import urlsplit

        raise ConsentNeeded(urlsplit(client.entry.base_url).hostname or "")
    return DiscreetClient(client, about)


class DiscreetClient:
    """A `LegalClient` whose messages leave with placeholders and whose answers come back without; one table for its life."""

    def __init__(self, client: Any, about: Iterable[str] = ()) -> None:
        self._client = client
        self._placeholders = Placeholders()
        self.last: Any = None
        for text in about:
            self._placeholders.learn(text)

    @property
    def entry(self) -> Any:
        """The model's entry."""
        return self._client.entry

    def ask(self, messages: Iterable[dict[str, str]], **settings: Any) -> Any:
        """See `LegalClient.ask`."""
        with self._text_of_failures():
            return self._restored(self._client.ask(self._hidden(messages), **settings))

    def stream(self, messages: Iterable[dict[str, str]], **settings: Any) -> Iterator[str]:
        """See `LegalClient.stream`."""
        self.last = None
        try:
            with self._text_of_failures():
                yield from self._placeholders.restore_stream(self._client.stream(self._hidden(messages), **settings))
        finally:
            if self._client.last is not None:
                self.last = self._restored(self._client.last)

    def ask_json(self, messages: Iterable[dict[str, str]], form: Any, **settings: Any) -> tuple[Any, Any]:
        """See `LegalClient.ask_json`."""
        with self._text_of_failures():
            answer, reply = self._client.ask_json(self._hidden(messages), form, **settings)
        # Not validated again: a name is longer than its placeholder, and the form's limits are for what the model wrote.
        return _in_strings(answer, self._placeholders.restore), self._restored(reply)

    @contextlib.contextmanager
    def _text_of_failures(self) -> Iterator[None]:
        """Restores what had come of an answer that failed."""
        from lawft_trl.assistant.failures import ModelError

        try:
            yield
        except ModelError as error:
            error.text = self._placeholders.restore(error.text)
            raise

    def _hidden(self, messages: Iterable[dict[str, str]]) -> list[dict[str, str]]:
        messages = list(messages)
        for message in messages:  # first: a name with a label in one turn may stand without it in an earlier one
            self._placeholders.learn(message["content"])
        return [{**message, "content": self._placeholders.hide(message["content"])} for message in messages]

    def _restored(self, reply: Any) -> Any:
        import dataclasses

        return dataclasses.replace(reply, text=self._placeholders.restore(reply.text))


def _spaced(value: str) -> str:
    """A pattern for a value with whatever spaces between its Japanese characters; two characters stay together."""
    bare = _SPACES.sub("", value)
    if re.fullmatch(r"[一-龥々ヶぁ-んァ-ヶー]{3,}", bare):
        return _SPACE.join(map(re.escape, bare))
    return _SPACES.sub(lambda _: _SPACE, re.escape(value).replace("\\ ", " ").replace("\\\t", "\t"))


def _named(match: re.Match[str]) -> tuple[str, int]:
    return match[1], int(unicodedata.normalize("NFKC", match[2]))


def _in_strings(value: Any, change: Any) -> Any:
    """A nested value, also of pydantic's models, with every string changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _in_strings(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_strings(item, change) for item in value]
    if hasattr(value, "model_copy"):
        return value.model_copy(update={name: _in_strings(getattr(value, name), change) for name in type(value).model_fields})
    return value
