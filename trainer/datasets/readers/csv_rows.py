"""CSV and TSV: the rows of a file, and what is wrong with those that cannot be read."""

import csv
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from trainer.datasets.readers import at_line
from trainer.datasets.readers.lines import LONGEST, each_line, find_repeated
from trainer.errors import BadData

_QUOTES = 'Put quotes around a cell that holds commas, quotes or line ends, and write each quote in it twice: "".'
# By words in the messages of the csv module: what is wrong, and what to do.
_ERRORS = {
    "new-line character": (
        "a carriage return (CR) stands alone in a cell without quotes.",
        "Remove it, or end lines with LF.",
    ),
    "field larger": (f"a cell is longer than {LONGEST >> 20} MiB.", "Close its quotes, or shorten it."),
    "unexpected end": ("quotes do not match: one that opens in this row is never closed.", _QUOTES),
    "expected after": ("quotes do not match: a cell continues after its closing quote.", _QUOTES),
}


def csv_rows(path: Path, *, name: str = "") -> Iterator[tuple[int, list[str] | BadData]]:
    """(line where it begins, cells) of each row that is not empty; BadData without a place instead of a wrong row.

    Cells are separated by commas, or by tabs in a .tsv file. A quoted cell may contain line ends. After a wrong row,
    reading continues with the line after its first line. Raises what `each_line` raises.
    """
    csv.field_size_limit(LONGEST)
    source = _RewindableLines(path, name)
    reader = csv.reader(source, strict=True, delimiter="\t" if ".tsv" in path.suffixes[-2:] else ",")
    while True:
        source.begin_row()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            source.rewind()
            yield source.first_line, _explain(error)
        except _NotText as error:
            source.rewind(until=-1)
            yield error.line, error.problem
        else:
            if cells is None:
                return
            if any(cells):
                yield source.first_line, cells


def csv_objects(
    path: Path, *, name: str, missing: Callable[[Collection[str]], str], next_step: str
) -> Iterator[tuple[int, dict[str, str] | BadData]]:
    """(line, cells by column) of each row below the header, or (line, what is wrong with it).

    missing: which columns a header lacks, in words; "" if it has what is needed. Raises BadData, which ends the
    reading, for a header that is not clear.
    """
    header = None
    for number, cells in csv_rows(path, name=name):
        if header is None:
            header = _parse_header(cells, name, number, missing, next_step)
        elif isinstance(cells, BadData):
            yield number, cells
        elif len(cells) != len(header):
            yield number, BadData(f"{len(cells)} cells under {len(header)} columns.", next_step=next_step)
        else:
            yield number, dict(zip(header, cells, strict=True))


def _parse_header(
    cells: list[str] | BadData, name: str, line: int, missing: Callable[[Collection[str]], str], next_step: str
) -> list[str]:
    if isinstance(cells, BadData):
        raise at_line(cells, name, line)
    header = [cell.strip() for cell in cells]
    if lacking := missing(header):
        what = f"the header has {len(header)} columns, but not {lacking}."
        raise BadData(what, path=name, line=line, next_step=next_step)
    if repeated := find_repeated(filter(None, header), "column"):
        what = f"{repeated} is given twice in the header."
        raise BadData(what, path=name, line=line, next_step="Give each column a name of its own, or remove one.")
    return header


class _NotText(Exception):
    """A line that is not text: its number, and what is wrong with it."""

    def __init__(self, line: int, problem: BadData):
        super().__init__(line, problem)
        self.line, self.problem = line, problem


class _RewindableLines:
    """The lines of a file for the csv module, which can go back to the second line of the current row."""

    def __init__(self, path: Path, name: str):
        self._lines = each_line(path, name=name)
        self._ahead: deque[tuple[int, str | BadData]] = deque()  # read before, to be returned again
        self._row: list[tuple[int, str | BadData]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, line = self._ahead.popleft() if self._ahead else next(self._lines)
        self._row.append((number, line))
        if isinstance(line, BadData):
            raise _NotText(number, line)
        return f"{line}\n"

    def begin_row(self) -> None:
        """Begin a new row with the next line; `rewind` cannot go back before it."""
        self._row = []

    def rewind(self, *, until: int | None = None) -> None:
        """Return the lines of this row again, except the first; until=-1 leaves out the last as well."""
        self._ahead.extendleft(reversed(self._row[1:until]))

    @property
    def first_line(self) -> int:
        """The number of the line where the row begins."""
        return self._row[0][0]


def _explain(error: csv.Error) -> BadData:
    matching = (explanation for words, explanation in _ERRORS.items() if words in str(error))
    what, next_step = next(matching, ("this is not CSV.", _QUOTES))
    return BadData(what, next_step=next_step)
