"""The rows of a CSV file, and what is wrong with those that cannot be read."""

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from trainer.datasets.readers.lines import LONGEST, each_line
from trainer.errors import BadData

_QUOTES = 'Put quotes around a cell that holds commas, quotes or line ends, and write each quote in it twice: "".'
# By words of the csv module's own messages: what is wrong, and what to do.
_ERRORS = {
    "new-line character": (
        "a carriage return (CR) stands alone in a cell without quotes.",
        "Remove it, or end lines with LF.",
    ),
    "field larger": (f"a cell is longer than {LONGEST >> 20} MiB.", "Close its quotes, or shorten it."),
    "unexpected end": ("quotes do not match: one that opens in this row is never closed.", _QUOTES),
    "expected after": ("quotes do not match: a cell goes on after its closing quote.", _QUOTES),
}


def csv_rows(path: Path, *, name: str = "") -> Iterator[tuple[int, list[str] | BadData]]:
    """(line where it begins, cells) of each row, or what is wrong with it, without its place; not of empty ones.

    A quoted cell may hold line ends. After a wrong row reading goes on with the line after its first. Raises what
    `each_line` raises.
    """
    csv.field_size_limit(LONGEST)
    source = _Source(path, name)
    reader = csv.reader(source, strict=True)
    while True:
        source.begin()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            source.go_back()
            yield source.first, _problem(error)
        except _NotText as error:
            source.go_back(until=-1)
            yield error.args
        else:
            if cells is None:
                return
            if any(cells):
                yield source.first, cells


class _NotText(Exception):
    """A line that is not text: its number, and the BadData that says why."""


class _Source:
    """The lines of a file for the csv module, of which those after the first of a wrong row are given once more."""

    def __init__(self, path: Path, name: str):
        self._lines, self._ahead, self._row = each_line(path, name=name), deque(), []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, line = self._ahead.popleft() if self._ahead else next(self._lines)
        self._row.append((number, line))
        if isinstance(line, BadData):
            raise _NotText(number, line)
        return f"{line}\n"

    def begin(self) -> None:
        """A row begins with the next line."""
        self._row = []

    def go_back(self, *, until: int | None = None) -> None:
        """Give the lines of this row again, without the first; until=-1 leaves out the last as well."""
        self._ahead.extendleft(reversed(self._row[1:until]))

    @property
    def first(self) -> int:
        """The number of the line where the row begins."""
        return self._row[0][0]


def _problem(error: csv.Error) -> BadData:
    what, next_step = next(
        (said for words, said in _ERRORS.items() if words in str(error)), ("this is not CSV.", _QUOTES)
    )
    return BadData(what, next_step=next_step)
