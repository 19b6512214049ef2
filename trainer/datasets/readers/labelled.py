"""Labelled documents: JSON objects or CSV rows with `text` and `label` or `labels`; both formats also as .gz.

    JSONL   {"text": "...", "label": "x"} for one label, {"text": "...", "labels": ["a", "b"]} for any number of them
    CSV     a header with the same names; several labels in one cell are separated by ; or |

A row may have both fields: the data set's card or the task says which of them is used. Documents may be patient data:
no message quotes one, or what is in the place of a label.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from trainer.datasets.readers import Reporter, at_line, raise_problem
from trainer.datasets.readers.csv_rows import csv_objects
from trainer.datasets.readers.lines import objects
from trainer.errors import BadData

SUFFIXES = (".jsonl", ".csv", ".jsonl.gz", ".csv.gz")
LONGEST_LABEL = 100  # characters; anything longer is text in the wrong column
_FORMAT = (
    'Write {"text": "...", "label": "x"} or {"text": "...", "labels": ["a", "b"]} per line, or CSV with these columns.'
)

Field = Literal["label", "labels"]


class LabelledDocument(NamedTuple):
    """One document with its labels, and the line (1-based) where it begins; the repr shows sizes, never text.

    hypothesis: of a pair, whose premise is the text; None where there is only a text. value: of a text with a number
    instead of labels.
    """

    text: str
    labels: tuple[str, ...]
    line: int
    hypothesis: str | None = None
    value: float | None = None

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
    text = check_text(row, "text", "the document", _FORMAT)
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
        check_label(label, field, _FORMAT)
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
    if ".csv" not in path.suffixes[-2:]:
        return objects(path, name=name, next_step=_FORMAT)
    cells = csv_objects(path, name=name, missing=_missing, next_step=_FORMAT)
    return ((number, row if isinstance(row, BadData) else _split_labels(row)) for number, row in cells)


def _missing(header: Collection[str]) -> str:
    return "" if "text" in header and {"label", "labels"} & {*header} else "`text` with `label` or `labels`"


def _split_labels(row: dict[str, str]) -> dict[str, str | list[str]]:
    fields: dict[str, str | list[str]] = {**row}
    if "labels" in row:
        parts = row["labels"].replace("|", ";").split(";")
        fields["labels"] = [part.strip() for part in parts if part.strip()]
    return fields


def check_text(row: Mapping[str, Any], field: str, what: str, next_step: str) -> str:
    """The text in a field of a row. Raises BadData where there is none; `what` names it, such as "the document"."""
    if field not in row:
        raise BadData(f"an object of {len(row)} fields without the field `{field}`.", next_step=next_step)
    text = row[field]
    if not isinstance(text, str):
        raise BadData(f"the field `{field}` is a {type(text).__name__}, not a string.", next_step=next_step)
    if not text or text.isspace():
        raise BadData(f"{what} is empty.", next_step="Give it a text, or delete the row.")
    return text


def check_label(label: object, field: str, next_step: str) -> str:
    """The label in a field of a row. Raises BadData where it is not the name of a class."""
    if not isinstance(label, str):
        raise BadData(f"a label in `{field}` is a {type(label).__name__}, not a string.", next_step=next_step)
    if not label or label != label.strip() or not label.isprintable():
        what = f"a label in `{field}` is empty, or has blanks around it or control characters in it."
        raise BadData(what, next_step="Write only the name of the class.")
    if len(label) > LONGEST_LABEL:
        what = f"a label in `{field}` is {len(label):,} characters long; up to {LONGEST_LABEL} are allowed."
        raise BadData(what, next_step="Write only the name of the class there.")
    return label
