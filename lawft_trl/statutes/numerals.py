"""Numbers as statutes write them: 三十, 千五百, 五千万, 二・二五, 60万."""

import re
import unicodedata
from fractions import Fraction

_DIGITS = "〇一二三四五六七八九"
_SMALL = {"十": 10, "百": 100, "千": 1000}
_LARGE = {"兆": 10**12, "億": 10**8, "万": 10**4}

NUMBER = r"(?:[〇一二三四五六七八九十百千万億兆]+(?:・[〇一二三四五六七八九]+)?|[0-9０-９]+(?:[.．][0-9０-９]+)?[万億]*)"


def read_number(text: str) -> Fraction | None:
    """The value of a numeral, `"三十"` -> 30, `"二・二五"` -> 9/4, `"60万"` -> 600000; `None` where it is none."""
    text = unicodedata.normalize("NFKC", text).replace("零", "〇")
    arabic = re.fullmatch(r"(\d+(?:\.\d+)?)([万億]*)", text)
    if arabic:
        value = Fraction(arabic[1])
        for unit in arabic[2]:
            value *= _LARGE[unit]
        return value
    whole, point, decimals = text.partition("・")
    if point and not (decimals and all(digit in _DIGITS for digit in decimals)):
        return None
    value = _read_whole(whole)
    if value is None or not point:
        return None if value is None else Fraction(value)
    return value + Fraction(int("".join(str(_DIGITS.index(digit)) for digit in decimals)), 10 ** len(decimals))


def _read_whole(text: str) -> int | None:
    """A whole number in kanji, with powers of ten (二十七) or by position (二七)."""
    if not text or not re.fullmatch(r"[〇一二三四五六七八九十百千万億兆]+", text):
        return None
    if all(character in _DIGITS for character in text):
        return int("".join(str(_DIGITS.index(character)) for character in text))
    total = section = digit = 0
    for character in text:
        if character in _DIGITS:
            digit = digit * 10 + _DIGITS.index(character)
        elif character in _SMALL:
            section, digit = section + (digit or 1) * _SMALL[character], 0
        else:
            total, section, digit = total + (section + digit or 1) * _LARGE[character], 0, 0
    return total + section + digit


def write_number(value: Fraction, like: str = "十") -> str:
    """A positive number in the script of `like`: 30 -> `"三十"`, 9/4 -> `"二・二五"`; like `"60万"`, 300000 -> `"30万"`.

    Args:
        value: with at most a few decimals.
        like: a numeral of the same text; Arabic digits are answered with Arabic digits.
    """
    arabic = re.fullmatch(r"[0-9０-９.．]+([万億]*)", like)
    if arabic:
        for unit in arabic[1]:
            value /= _LARGE[unit]
        text = str(value.numerator) if value.denominator == 1 else f"{float(value):g}"
        wide = unicodedata.normalize("NFKC", like) != like
        return "".join(chr(ord(digit) + 0xFEE0) for digit in text) + arabic[1] if wide else text + arabic[1]
    whole, rest = divmod(value, 1)
    if not rest:
        return _write_whole(int(whole))
    decimals = f"{float(rest):.6f}"[2:].rstrip("0")
    return (_write_whole(int(whole)) or "〇") + "・" + "".join(_DIGITS[int(digit)] for digit in decimals)


def _write_whole(number: int) -> str:
    """A whole number in kanji as statutes write it: 千万, 一億, 二十七; nothing for 0."""
    text = ""
    for name, size in _LARGE.items():
        count, number = divmod(number, size)
        if count:
            text += _write_whole(count) + name
    for name, size in reversed(_SMALL.items()):
        count, number = divmod(number, size)
        if count:
            text += (_DIGITS[count] if count > 1 else "") + name
    return text + (_DIGITS[number] if number else "")
