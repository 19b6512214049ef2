"""Pairs of texts with a label: JSON objects, or CSV or TSV rows with a header; all of these also as .gz.

    {"premise": "...", "hypothesis": "...", "label": "entailment"}

The usual names of such data sets are read too: sentence1 and sentence2 (MedNLI, SNLI, GLUE), context or contexts and
question (PubMedQA); gold_label, answer or final_decision for the label. The parts of a text that is given as a list are
joined by line ends. Texts may be patient data: no message quotes one.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainer.datasets.readers import Reporter, at_line, raise_problem
from trainer.datasets.readers.csv_rows import csv_objects
from trainer.datasets.readers.labelled import LabelledDocument, check_label, check_text
from trainer.datasets.readers.lines import objects
from trainer.errors import BadData

SUFFIXES = tuple(f"{kind}{packed}" for packed in ("", ".gz") for kind in (".jsonl", ".tsv", ".csv"))
TEXTS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("context", "question"),
    ("contexts", "question"),
    ("evidence", "prompt"),  # Evidence Inference: the marked passages of an article
)
LABELS = ("label", "gold_label", "answer", "final_decision")
_FORMAT = (
    'Write {"premise": "...", "hypothesis": "...", "label": "x"} per line, or CSV or TSV with these columns. '
    f"Also read: {', '.join(' and '.join(pair) for pair in TEXTS[1:])}; {', '.join(LABELS[1:])}."
)


class Fields(NamedTuple):
    """The fields of a row with the premise, the hypothesis and the label."""

    premise: str
    hypothesis: str
    label: str


def read(path: Path, *, name: str = "", report: Reporter = raise_problem) -> Iterator[LabelledDocument]:
    """The pairs of a file, in order: the premise as the text of a document with a hypothesis and one label.

    `name` stands for the file in messages. A wrong row goes to `report`, which raises it by default. Raises BadData in
    any case for a CSV or TSV file without the columns, and what `readers.lines` raises.
    """
    name = name or path.name
    for number, row in rows(path, name):
        try:
            if isinstance(row, BadData):
                raise row
            pair = parse(row, line=number)
        except BadData as problem:
            report(at_line(problem, name, number))
            continue
        yield pair


def parse(row: Mapping[str, Any], *, line: int) -> LabelledDocument:
    """Read a row as a pair. Raises BadData, without file and line, if it is not a valid one."""
    fields = find_fields(row)
    if fields is None:
        raise BadData(f"an object of {len(row)} fields without {_missing(row)}.", next_step=_FORMAT)
    premise = check_text({fields.premise: _joined(row[fields.premise])}, fields.premise, "the premise", _FORMAT)
    hypothesis = check_text(row, fields.hypothesis, "the hypothesis", _FORMAT)
    return LabelledDocument(premise, (check_label(row[fields.label], fields.label, _FORMAT),), line, hypothesis)


def _joined(premise: object) -> object:
    """A premise in parts, such as {"text": "..."}, as one text with a line per part; anything else as it is."""
    if not isinstance(premise, list):
        return premise
    parts = [each.get("text") if isinstance(each, dict) else each for each in premise]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if len(texts) == len(parts) else premise


def find_fields(names: Collection[str]) -> Fields | None:
    """Which of some names are those of a pair and its label; None where any is missing."""
    texts = next((pair for pair in TEXTS if {*pair} <= {*names}), None)
    label = next((label for label in LABELS if label in names), None)
    return Fields(*texts, label) if texts and label else None


def has_pairs(path: Path) -> bool:
    """Whether the first row of a file that can be read has the fields of a pair."""
    try:
        valid = (row for _, row in rows(path, path.name) if not isinstance(row, BadData))
        return find_fields(next(valid, {})) is not None
    except BadData:
        return False


def rows(path: Path, name: str) -> Iterator[tuple[int, Mapping[str, Any] | BadData]]:
    """(line, fields) of each row of any format, or (line, what is wrong with it)."""
    if ".jsonl" in path.suffixes[-2:]:
        return objects(path, name=name, next_step=_FORMAT)
    return csv_objects(path, name=name, missing=_missing, next_step=_FORMAT)


def _missing(names: Collection[str]) -> str:
    """What some names lack for a pair, in words; "" if nothing."""
    lacking = []
    if not any({*pair} <= {*names} for pair in TEXTS):
        lacking.append("`premise` and `hypothesis`")
    if not {*LABELS} & {*names}:
        lacking.append("`label`")
    return " and ".join(lacking)
