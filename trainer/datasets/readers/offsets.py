"""Offsets as files count them.

Stillroom counts the characters (code points) of a text. Other tools count differently; the mentions that a file gives
beside its offsets show how.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator
from itertools import accumulate, product

LONGEST_NUMBER = 15  # digits; no file is long enough for a longer offset


class Scale:
    """One way of counting: maps offsets of a file to places in its text."""

    def __init__(self, text: str, width: Callable[[str], int], skipped: Collection[int], before: int):
        """width: the width of a character; skipped: places of characters without a width; before: the offset of the
        first character.
        """
        widths = (0 if place in skipped else width(character) for place, character in enumerate(text))
        self._counted = list(accumulate(widths, initial=before))

    def place(self, start: int, end: int) -> tuple[int, int] | None:
        """[start, end) in characters; None for offsets beyond the text or inside a character."""
        if not self._counted[0] <= start < end <= self._counted[-1]:
            return None
        first, last = bisect_right(self._counted, start) - 1, bisect_left(self._counted, end)
        return (first, last) if (self._counted[first], self._counted[last]) == (start, end) else None


class Characters(Scale):
    """The usual scale: every character has the width 1."""

    def __init__(self, text: str):
        self._length = len(text)

    def place(self, start: int, end: int) -> tuple[int, int] | None:
        return (start, end) if 0 <= start < end <= self._length else None


def scales(text: str, *, has_bom: bool = False, blanks: Collection[int] = ()) -> Iterator[Scale]:
    """The possible ways to count the characters of a text, the usual one first.

    CR and LF together may count as one or two, a byte order mark before the text (`has_bom`) as zero or one, each of
    the places `blanks` as one or zero, and a character as one, as its UTF-16 code units or as its UTF-8 bytes.
    """
    yield Characters(text)
    line_ends = frozenset(match.start() for match in re.finditer("\r\n", text))
    skipped: list[Collection[int]] = [(), *filter(None, (line_ends, blanks))]
    width = [_one, *([] if text.isascii() else [_utf16, _utf8])]
    for each in list(product(width, skipped, (0, 1) if has_bom else (0,)))[1:]:
        yield Scale(text, *each)


def parse_offset(digits: str) -> int | None:
    """A whole number in ASCII digits; None for anything else, such as a sign or a superscript."""
    plain = digits.isascii() and digits.isdecimal() and len(digits) <= LONGEST_NUMBER
    return int(digits) if plain else None


def format_offset(value: int) -> str:
    """An offset for a message; a number too long to be one is not written out."""
    return f"{value:,}" if abs(value) < 10**LONGEST_NUMBER else f"a number of more than {LONGEST_NUMBER} digits"


def _one(character: str) -> int:
    return 1


def _utf16(character: str) -> int:
    return 2 if character > "\uffff" else 1


def _utf8(character: str) -> int:
    return len(character.encode("utf-8", "surrogatepass"))
