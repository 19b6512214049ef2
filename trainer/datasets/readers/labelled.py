"""Documents with labels: JSON objects or CSV rows, each with `text` and `label` or `labels`; either as .gz too.

    JSONL   {"text": "...", "label": "x"} one label each, or {"text": "...", "labels": ["a", "b"]} any number, none too
    CSV     a header with the same names; several labels stand in one cell with ; or | between them

A row may have both fields: which of them counts is for the data set's card or the task to say. Documents may be patient
data: no message quotes one, nor what stands where a label should.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from trainer.datasets.readers.csv_rows import csv_rows
from trainer.datasets.readers.lines import objects, twice
from trainer.errors import BadData

SUFFIXES = (".jsonl", ".csv", ".jsonl.gz", ".csv.gz")
LONGEST_LABEL = 100  # characters; a longer one is text in the wrong column
_FORMAT = (
    'Write {"text": "...", "label": "x"} or {"text": "...", "labels": ["a", "b"]} a line, or CSV with these columns.'
)

Field = Literal["label", "labels"]


class LabelledDocument(NamedTuple):
    """One document with its labels, and the line (1-based) where it begins; the repr shows sizes, never text."""

    text: str
    labels: tuple[str, ...]
    line: int

    def __repr__(self) -> str:
        return f"LabelledDocument({len(self.text):,} characters, {len(self.labels)} labels, line {self.line:,})"


def _raise(problem: BadData) -> None:
    raise problem


def read(
    path: Path, *, field: Field, name: str = "", report: Callable[[BadData], None] = _raise
) -> Iterator[LabelledDocument]:
    """The documents of a file, in order, with the labels of `field`.

    `name` stands for the file in messages. A wrong row goes to `report`, which raises it unless told otherwise. What
    `lines` raises, and a CSV without the columns, ends the reading in any case.
    """
    name = name or path.name
    for number, row in rows(path, name=name):
        try:
            if isinstance(row, BadData):
                raise row
            found = document(row, field=field, line=number)
        except BadData as problem:
            report(BadData(problem.message, path=name, line=number, next_step=problem.next_step))
            continue
        yield found


def document(row: Mapping[str, Any], *, field: Field, line: int) -> LabelledDocument:
    """A row as a document; BadData, without its place, says what is wrong with it."""
    text = _text(row)
    if field not in row:
        other = {"label": "labels", "labels": "label"}[field]
        has = f"it has `{other}`" if other in row else "it has neither `label` nor `labels`"
        raise BadData(f"an object of {len(row)} fields without the field `{field}`; {has}.", next_step=_FORMAT)
    given = row[field]
    if field == "label":
        labels = (given,)
    elif isinstance(given, list):
        labels = tuple(given)
    else:
        raise BadData(f"the field `labels` is a {type(given).__name__}, not a list of strings.", next_step=_FORMAT)
    for label in labels:
        _check(label, field)
    if len(set(labels)) < len(labels):
        raise BadData(f"one of its {len(labels)} labels is given twice.", next_step="Give each label once.")
    return LabelledDocument(text, labels, line)


def field_of(path: Path, *, name: str = "") -> Field:
    """The field that the first row of a file has: `label` if it has that, or else `labels`."""
    first = next((row for _, row in rows(path, name=name) if not isinstance(row, BadData)), {})
    return "labels" if "labels" in first and "label" not in first else "label"


def rows(path: Path, *, name: str = "") -> Iterator[tuple[int, Mapping[str, Any] | BadData]]:
    """(line, fields) of each row of either format, or (line, what is wrong with it); empty lines are skipped."""
    name = name or path.name
    return _csv(path, name) if ".csv" in path.suffixes[-2:] else objects(path, name=name, next_step=_FORMAT)


def _csv(path: Path, name: str) -> Iterator[tuple[int, Mapping[str, Any] | BadData]]:
    header = None
    for number, cells in csv_rows(path, name=name):
        if header is None:
            header = _header(cells, name, number)
        elif isinstance(cells, BadData):
            yield number, cells
        elif len(cells) != len(header):
            yield number, BadData(f"{len(cells)} cells under {len(header)} columns.", next_step=_FORMAT)
        else:
            yield number, _split(dict(zip(header, cells, strict=True)))


def _header(cells: list[str] | BadData, name: str, line: int) -> list[str]:
    """The names of the columns; BadData, which ends the reading, where they cannot be told."""
    if isinstance(cells, BadData):
        raise BadData(cells.message, path=name, line=line, next_step=cells.next_step)
    header = [cell.strip() for cell in cells]
    if "text" not in header or not {"label", "labels"} & set(header):
        what = f"the header has {len(header)} columns, but not `text` with `label` or `labels`."
        raise BadData(what, path=name, line=line, next_step=_FORMAT)
    if repeated := twice(filter(None, header), "column"):
        what = f"{repeated} is given twice in the header."
        raise BadData(what, path=name, line=line, next_step="Give each column a name of its own, or remove one.")
    return header


def _split(row: dict[str, str]) -> dict[str, Any]:
    if "labels" in row:
        parts = row["labels"].replace("|", ";").split(";")
        row = row | {"labels": [part.strip() for part in parts if part.strip()]}
    return row


def _text(row: Mapping[str, Any]) -> str:
    if "text" not in row:
        raise BadData(f"an object of {len(row)} fields without the field `text`.", next_step=_FORMAT)
    if not isinstance(row["text"], str):
        raise BadData(f"the field `text` is a {type(row['text']).__name__}, not a string.", next_step=_FORMAT)
    if not row["text"] or row["text"].isspace():
        raise BadData("the document is empty.", next_step="Give it a text, or leave the row out.")
    return row["text"]


def _check(label: Any, field: Field) -> None:
    if not isinstance(label, str):
        raise BadData(f"a label in `{field}` is a {type(label).__name__}, not a string.", next_step=_FORMAT)
    if not label or label != label.strip() or not label.isprintable():
        what = f"a label in `{field}` is empty, or has blanks around it or control characters in it."
        raise BadData(what, next_step="Write the name of the class alone.")
    if len(label) > LONGEST_LABEL:
        what = f"a label in `{field}` is {len(label):,} characters long; up to {LONGEST_LABEL} are allowed."
        raise BadData(what, next_step="Write the name of the class, and the document into `text`.")
