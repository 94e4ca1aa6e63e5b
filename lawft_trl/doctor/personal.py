"""Suspected personal data: what has the form of it and, where there is a check digit, the right one."""

import re
import unicodedata
from collections.abc import Iterator

_HYPHEN = "-‐‑‒–—―−ーｰ－"
_PREFECTURE = "(?:北海道|東京都|京都府|大阪府|[一-龥]{2,3}県)"
_MAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}[@＠](?!example\.|[A-Za-z0-9.-]*\.(?:example|invalid|test)\b)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+"
)
_PHONE = re.compile(rf"(?<![\d.])(?:[+＋]81[{_HYPHEN} ]?|[0０])\d{{1,4}}[{_HYPHEN}(（)） ]{{1,2}}\d{{1,4}}[{_HYPHEN})） ]\d{{3,4}}(?!\d)|(?<!\d)[0０][5-9５-９][0０]\d{{8}}(?!\d)")
_ADDRESS = re.compile(rf"(?<!\d)\d{{3}}[{_HYPHEN}]\d{{4}}[\s　]{{0,3}}{_PREFECTURE}[^\s、。]{{1,40}}")
# Without hyphens a landline's number is any ten digits, and without a postal code an address is any place in a law: only
# after a word for a phone, and only down to the number of the house.
_NAMED_PHONE = re.compile(r"(?:tel|fax|ｔｅｌ|ｆａｘ|電話(?:番号)?|℡|☎)[\s.．:：]{0,3}([0０]\d{9,10})(?!\d)", re.IGNORECASE)
_HOUSE = rf"\d{{1,4}}(?:[{_HYPHEN}]\d{{1,4}}){{1,2}}|\d{{1,2}}丁目\d{{1,4}}(?:番|[{_HYPHEN}])"
_STREET = re.compile(rf"[市区町村][^\s、。]{{0,20}}?(?:{_HOUSE})")
_STREET_ADDRESS = re.compile(rf"{_PREFECTURE}[一-龥ぁ-んァ-ヶー]{{1,12}}[市区町村][一-龥々ぁ-んァ-ヶー]{{0,15}}(?:{_HOUSE})[^\s、。]{{0,8}}")
_DIGITS = re.compile(rf"\d[{_HYPHEN}()（） \d]{{6}}")  # what follows in `find_personal` needs them; most texts of law have none
_NUMBER = re.compile(
    rf"(?<![\dA-Za-z_.])(?:\d{{12,16}}|\d{{4}}([{_HYPHEN} ])\d{{4}}\1\d{{4}}(?:\1\d{{2,4}})?|\d([{_HYPHEN} ])\d{{4}}\2\d{{4}}\2\d{{4}}|\d{{4}}[{_HYPHEN} ]\d{{6}}[{_HYPHEN} ]\d{{4,5}})(?![\dA-Za-z_])"
)


def find_personal(text: str) -> Iterator[tuple[str, int, int]]:
    """`(kind, start, end)` of everything suspected, in no particular order; spans may overlap.

    The kinds are `"mail address"`, `"phone number"`, `"postal address"`, `"My Number"` (12 digits), `"corporate number"`
    (13 digits; public, but it names someone) and `"card number"` (14 to 16 digits), the numbers with a valid check digit.
    """
    if "@" in text or "＠" in text:
        for found in _MAIL.finditer(text):
            yield "mail address", *found.span()
    if _STREET.search(text):
        for found in _STREET_ADDRESS.finditer(text):
            yield "postal address", *found.span()
    if not _DIGITS.search(text):
        return
    for found in _ADDRESS.finditer(text):
        yield "postal address", *found.span()
    for found in _NAMED_PHONE.finditer(text):
        if len(set(_digits(found[1])[-7:])) > 1:
            yield "phone number", *found.span(1)
    for found in _PHONE.finditer(text):
        digits = _digits(found[0])
        if len(digits.removeprefix("81")) in (9, 10, 11) and len(set(digits[-7:])) > 1:
            yield "phone number", *found.span()
    for found in _NUMBER.finditer(text):
        kind = _checked_number(_digits(found[0]))
        if kind:
            yield kind, *found.span()


def mask_personal(text: str) -> str:
    """The text with every suspected value replaced by its kind, `"［mail address］"`."""
    for kind, start, end in reversed(_without_overlaps(sorted(find_personal(text), key=lambda found: (found[1], -found[2])))):
        text = f"{text[:start]}［{kind}］{text[end:]}"
    return text


def _without_overlaps(found: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Overlapping spans joined, under the kind of the first."""
    joined: list[tuple[str, int, int]] = []
    for kind, start, end in found:
        if joined and start < joined[-1][2]:
            joined[-1] = (joined[-1][0], joined[-1][1], max(end, joined[-1][2]))
        else:
            joined.append((kind, start, end))
    return joined


def _digits(text: str) -> str:
    return re.sub(r"\D", "", unicodedata.normalize("NFKC", text))


def _checked_number(digits: str) -> str | None:
    """What a run of digits is by its length and check digit; a digit repeated throughout is a placeholder."""
    from stdnum import luhn
    from stdnum.jp import cn, in_

    if len(set(digits)) == 1 or not digits.isascii():
        return None
    if len(digits) == 12:
        return "My Number" if in_.is_valid(digits) else None
    if len(digits) == 13:
        return "corporate number" if cn.is_valid(digits) else None
    # Cards begin with the number of their network: 3 (14 or 15 digits), 4, 5 or 2 (16).
    network = digits[0] in ("245" if len(digits) == 16 else "3")
    return "card number" if network and luhn.is_valid(digits) else None
