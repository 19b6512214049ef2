"""Offsets as files count them. Ours count the characters (code points) of the text; other tools count otherwise, and
the mentions that stand beside offsets show how.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator
from itertools import accumulate, product

LONGEST_NUMBER = 15  # digits; no file is as long as a longer offset says


class Scale:
    """The places in a text that offsets of a file stand for."""

    def __init__(self, text: str, width: Callable[[str], int], skipped: Collection[int], before: int):
        """width: how much a character counts; skipped: places of characters that count nothing; before: what is
        counted ahead of the first character.
        """
        widths = (0 if place in skipped else width(character) for place, character in enumerate(text))
        self._counted = list(accumulate(widths, initial=before))

    def place(self, start: int, end: int) -> tuple[int, int] | None:
        """[start, end) in characters; None where the text does not reach so far, or a character would be cut."""
        if not self._counted[0] <= start < end <= self._counted[-1]:
            return None
        first, last = bisect_right(self._counted, start) - 1, bisect_left(self._counted, end)
        return (first, last) if (self._counted[first], self._counted[last]) == (start, end) else None


class Characters(Scale):
    """The usual scale: every character counts one."""

    def __init__(self, text: str):
        self._length = len(text)

    def place(self, start: int, end: int) -> tuple[int, int] | None:
        return (start, end) if 0 <= start < end <= self._length else None


def scales(text: str, *, marked: bool = False, blanks: Collection[int] = ()) -> Iterator[Scale]:
    """The ways in which the offsets of a text may count, the usual one first.

    A line end of CR and LF may count one or two, a byte order mark before the text (`marked`) none or one, the places
    `blanks` one or none, and every character as many as it has UTF-16 units or UTF-8 bytes.
    """
    yield Characters(text)
    line_ends = frozenset(match.start() for match in re.finditer("\r\n", text))
    skipped = [(), *filter(None, (line_ends, blanks))]
    width = [_one, *([] if text.isascii() else [_utf16, _utf8])]
    for each in list(product(width, skipped, (0, 1) if marked else (0,)))[1:]:
        yield Scale(text, *each)


def number(digits: str) -> int | None:
    """A whole number as files write it, in ASCII digits; None for anything else, such as a sign or a superscript."""
    plain = digits.isascii() and digits.isdecimal() and len(digits) <= LONGEST_NUMBER
    return int(digits) if plain else None


def shown(value: int) -> str:
    """A number for a message; one too long to be an offset is not written out."""
    return f"{value:,}" if abs(value) < 10**LONGEST_NUMBER else f"a number of more than {LONGEST_NUMBER} digits"


def _one(character: str) -> int:
    return 1


def _utf16(character: str) -> int:
    return 2 if character > "\uffff" else 1


def _utf8(character: str) -> int:
    return len(character.encode("utf-8", "surrogatepass"))
