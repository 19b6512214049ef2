"""Labelled documents: JSON objects or CSV rows with `text` and `label` or `labels`; both formats also as .gz.

    JSONL   {"text": "...", "label": "x"} for one label, {"text": "...", "labels": ["a", "b"]} for any number of them
    CSV     a header with the same names; several labels in one cell are separated by ; or |

A row may have both fields: the data set's card or the task says which of them is used. Documents may be patient data:
no message quotes one, or what is in the place of a label.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from trainer.datasets.readers import Reporter, at_line, raise_problem
from trainer.datasets.readers.csv_rows import csv_rows
from trainer.datasets.readers.lines import find_repeated, objects
from trainer.errors import BadData

SUFFIXES = (".jsonl", ".csv", ".jsonl.gz", ".csv.gz")
LONGEST_LABEL = 100  # characters; anything longer is text in the wrong column
_FORMAT = (
    'Write {"text": "...", "label": "x"} or {"text": "...", "labels": ["a", "b"]} per line, or CSV with these columns.'
)

Field = Literal["label", "labels"]


class LabelledDocument(NamedTuple):
    """One document with its labels, and the line (1-based) where it begins; the repr shows sizes, never text."""

    text: str
    labels: tuple[str, ...]
    line: int

    def __repr__(self) -> str:
        return f"LabelledDocument({len(self.text):,} characters, {len(self.labels)} labels, line {self.line:,})"


def read(path: Path, *, field: Field, name: str = "", report: Reporter = raise_problem) -> Iterator[LabelledDocument]:
    """The documents of a file, in order, with the labels of `field`.

    `name` stands for the file in messages. A wrong row goes to `report`, which raises it by default. Raises what `rows`
    raises in any case.
    """
    name = name or path.name
    for number, row in rows(path, name=name):
        try:
            if isinstance(row, BadData):
                raise row
            document = parse_document(row, field=field, line=number)
        except BadData as problem:
            report(at_line(problem, name, number))
            continue
        yield document


def parse_document(row: Mapping[str, Any], *, field: Field, line: int) -> LabelledDocument:
    """Read a row as a document. Raises BadData, without file and line, if it is not a valid one."""
    text = _check_text(row)
    if field not in row:
        other = {"label": "labels", "labels": "label"}[field]
        has = f"it has `{other}`" if other in row else "it has neither `label` nor `labels`"
        raise BadData(f"an object of {len(row)} fields without the field `{field}`; {has}.", next_step=_FORMAT)
    value = row[field]
    if field == "label":
        labels = (value,)
    elif isinstance(value, list):
        labels = tuple(value)
    else:
        raise BadData(f"the field `labels` is a {type(value).__name__}, not a list of strings.", next_step=_FORMAT)
    for label in labels:
        _check_label(label, field)
    if len(set(labels)) < len(labels):
        raise BadData(f"one of its {len(labels)} labels is given twice.", next_step="Give each label once.")
    return LabelledDocument(text, labels, line)


def field_for(multi_label: bool) -> Field:
    """The field that is used where documents have several labels, or one."""
    return "labels" if multi_label else "label"


def detect_field(path: Path, *, name: str = "") -> Field:
    """The field that the first valid row of a file has: `labels` if it has only that, otherwise `label`."""
    valid = (row for _, row in rows(path, name=name) if not isinstance(row, BadData))
    first = next(valid, dict[str, Any]())
    return "labels" if "labels" in first and "label" not in first else "label"


def rows(path: Path, *, name: str = "") -> Iterator[tuple[int, Mapping[str, Any] | BadData]]:
    """(line, fields) of each row of either format, or (line, what is wrong with it); empty lines are skipped.

    Raises BadData for a CSV file without the columns, and what `readers.lines` raises.
    """
    name = name or path.name
    return _csv_objects(path, name) if ".csv" in path.suffixes[-2:] else objects(path, name=name, next_step=_FORMAT)


def _csv_objects(path: Path, name: str) -> Iterator[tuple[int, Mapping[str, Any] | BadData]]:
    header = None
    for number, cells in csv_rows(path, name=name):
        if header is None:
            header = _parse_header(cells, name, number)
        elif isinstance(cells, BadData):
            yield number, cells
        elif len(cells) != len(header):
            yield number, BadData(f"{len(cells)} cells under {len(header)} columns.", next_step=_FORMAT)
        else:
            yield number, _split_labels(dict(zip(header, cells, strict=True)))


def _parse_header(cells: list[str] | BadData, name: str, line: int) -> list[str]:
    """The names of the columns. Raises BadData, which ends the reading, where they are not clear."""
    if isinstance(cells, BadData):
        raise at_line(cells, name, line)
    header = [cell.strip() for cell in cells]
    if "text" not in header or not {"label", "labels"} & set(header):
        what = f"the header has {len(header)} columns, but not `text` with `label` or `labels`."
        raise BadData(what, path=name, line=line, next_step=_FORMAT)
    if repeated := find_repeated(filter(None, header), "column"):
        what = f"{repeated} is given twice in the header."
        raise BadData(what, path=name, line=line, next_step="Give each column a name of its own, or remove one.")
    return header


def _split_labels(row: dict[str, str]) -> dict[str, str | list[str]]:
    fields: dict[str, str | list[str]] = {**row}
    if "labels" in row:
        parts = row["labels"].replace("|", ";").split(";")
        fields["labels"] = [part.strip() for part in parts if part.strip()]
    return fields


def _check_text(row: Mapping[str, Any]) -> str:
    if "text" not in row:
        raise BadData(f"an object of {len(row)} fields without the field `text`.", next_step=_FORMAT)
    if not isinstance(row["text"], str):
        raise BadData(f"the field `text` is a {type(row['text']).__name__}, not a string.", next_step=_FORMAT)
    if not row["text"] or row["text"].isspace():
        raise BadData("the document is empty.", next_step="Give it a text, or delete the row.")
    return row["text"]


def _check_label(label: object, field: Field) -> None:
    if not isinstance(label, str):
        raise BadData(f"a label in `{field}` is a {type(label).__name__}, not a string.", next_step=_FORMAT)
    if not label or label != label.strip() or not label.isprintable():
        what = f"a label in `{field}` is empty, or has blanks around it or control characters in it."
        raise BadData(what, next_step="Write only the name of the class.")
    if len(label) > LONGEST_LABEL:
        what = f"a label in `{field}` is {len(label):,} characters long; up to {LONGEST_LABEL} are allowed."
        raise BadData(what, next_step="Write the name of the class there, and the document into `text`.")
