"""Texts with a value: JSON objects, or CSV rows with a header; both also as .gz.

    {"text": "...", "value": 3.5}

Texts may be patient data: no message quotes one, or what is in the place of a value.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.datasets.readers import Reporter, at_line, raise_problem
from trainer.datasets.readers.csv_rows import csv_objects
from trainer.datasets.readers.labelled import SUFFIXES, LabelledDocument, check_text
from trainer.datasets.readers.lines import objects
from trainer.errors import BadData

__all__ = ["SUFFIXES", "has_values", "parse", "read", "rows"]
_FORMAT = 'Write {"text": "...", "value": 3.5} per line, or CSV with these columns.'


def read(path: Path, *, name: str = "", report: Reporter = raise_problem) -> Iterator[LabelledDocument]:
    """The texts of a file, in order, as documents with a value and without labels.

    `name` stands for the file in messages. A wrong row goes to `report`, which raises it by default. Raises what `rows`
    raises in any case.
    """
    name = name or path.name
    for number, row in rows(path, name=name):
        try:
            if isinstance(row, BadData):
                raise row
            document = parse(row, line=number)
        except BadData as problem:
            report(at_line(problem, name, number))
            continue
        yield document


def parse(row: Mapping[str, Any], *, line: int) -> LabelledDocument:
    """Read a row as a text with a value. Raises BadData, without file and line, if it is not a valid one."""
    text = check_text(row, "text", "the document", _FORMAT)
    if "value" not in row:
        raise BadData(f"an object of {len(row)} fields without the field `value`.", next_step=_FORMAT)
    value = row["value"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadData(f"the field `value` is a {type(value).__name__}, not a number.", next_step=_FORMAT)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadData("the field `value` is not a finite number.", next_step="Write the number, or delete the row.")
    return LabelledDocument(text, (), line, value=number)


def rows(path: Path, *, name: str = "") -> Iterator[tuple[int, Mapping[str, Any] | BadData]]:
    """(line, fields) of each row of either format, or (line, what is wrong with it); empty lines are skipped.

    Raises BadData for a CSV file without the columns, and what `readers.lines` raises.
    """
    name = name or path.name
    if ".csv" not in path.suffixes[-2:]:
        return objects(path, name=name, next_step=_FORMAT)
    cells = csv_objects(path, name=name, missing=_missing, next_step=_FORMAT)
    return ((number, row if isinstance(row, BadData) else _with_number(row)) for number, row in cells)


def has_values(path: Path) -> bool:
    """Whether the first row of a file that can be read has a text and a value, and no label."""
    try:
        valid = (row for _, row in rows(path) if not isinstance(row, BadData))
        first = next(valid, {})
        return {"text", "value"} <= {*first} and not {"label", "labels"} & {*first}
    except BadData:
        return False


def _missing(header: Collection[str]) -> str:
    return " and ".join(f"`{name}`" for name in ("text", "value") if name not in header)


def _with_number(row: dict[str, str]) -> Mapping[str, Any]:
    """A row of CSV with its value as a number where it is one."""
    try:
        return row | {"value": float(row["value"])}
    except ValueError:
        return row
