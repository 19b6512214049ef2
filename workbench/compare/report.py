"""A comparison as files: JSON, CSV and BRAT. highlight/report.py makes the printable page from the same Report."""

import csv
import io
import json
import zipfile
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import NamedTuple

from trainer.prediction import Prediction, Span
from workbench.compare import Comparison, spans_agreed
from workbench.compare.costs import Weights
from workbench.compare.filters import Filter
from workbench.note import Note
from workbench.predict import letter

PACKAGES = ("stillroom", "transformers", "torch")
WITH_TEXT = ("html", "zip")  # endings of files that hold the note's text with `with_text`
COLUMNS = ("arm", "start", "end", "label", "score", "agreed")


class Report(NamedTuple):
    """What is exported: the comparison as shown, and what it was made from.

    `titles` maps an arm to its title; `weights` are in the order of the arms. `context` is how many tokens the
    models were given, None for the whole note. Only with `with_text` may a file hold any text of the note. `cautions`
    maps an arm to what a reader should know of it, such as that its model was not trained on notes. `relating`: the
    model that related the findings, None where none was asked to.
    """

    note: Note
    comparison: Comparison
    titles: dict[str, str]
    weights: tuple[Weights, ...]
    made: datetime
    filter: Filter = Filter()
    context: int | None = None
    with_text: bool = False
    cautions: Mapping[str, str] = {}
    relating: Weights | None = None

    def name(self, ending: str) -> str:
        """A file name with the date, and with "-with-text" if the file contains the note's text."""
        text = "-with-text" if self.with_text and ending in WITH_TEXT else ""
        return f"stillroom-compare-{self.made:%Y%m%d-%H%M%S}{text}.{ending}"


@cache
def versions() -> dict[str, str]:
    """The installed version of each package that the figures depend on, by its name."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "not installed"
    return installed


def as_json(report: Report) -> str:
    """The shape of `stillroom compare --json`, plus versions, hashes and filter. Never text of the note."""
    origin = {
        "made": report.made.isoformat(timespec="seconds"),
        "versions": versions(),
        "models": [weights.model_dump() for weights in report.weights],
        "filter": {"labels": report.filter.labels, "least": report.filter.min_score}
        | ({"values": report.filter.values} if report.filter.values else {}),
        "context_tokens": report.context,
    } | ({"relations_model": report.relating.model_dump()} if report.relating else {})
    return json.dumps(report.comparison.to_json() | origin, indent=2)


def as_csv(report: Report) -> str:
    """A row per span, and per label of the whole note with empty start and end. Never text of the note.

    `agreed` is yes, no, or empty where no other arm has that label, and for labels of the whole note. Where spans have
    attributes each has a column after these, and its score another.
    """
    buffer = io.StringIO()
    table = csv.writer(buffer)
    predictions = report.comparison.predictions
    names = sorted({name for arm in predictions for span in arm.spans for name in span.attributes})
    table.writerow((*COLUMNS, *(column for name in names for column in (name, f"{name}_score"))))
    for arm in predictions:
        scores = {label.label: label.score for label in arm.labels}
        nothing = [""] * (2 * len(names))
        table.writerows((arm.model, "", "", label, scores[label], "", *nothing) for label in arm.chosen)
        for span, agreed in zip(arm.spans, spans_agreed(report.comparison, arm), strict=True):
            answer = {True: "yes", False: "no", None: ""}[agreed]
            carried = [span.attributes.get(name) for name in names]
            values = [cell for each in carried for cell in ((each.value, each.score) if each else ("", ""))]
            table.writerow((arm.model, span.start, span.end, span.label, span.score, answer, *values))
    return buffer.getvalue()


def as_brat(report: Report) -> bytes:
    """A ZIP with a folder per arm: note.ann and, with the text, note.txt and the words of each annotation.

    Offsets count code points. An annotation across lines has one fragment per line, as BRAT requires; where the lines
    end is known from the text, so without it an annotation is one fragment.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, arm in enumerate(report.comparison.predictions):
            folder = letter(number)
            archive.writestr(f"{folder}/note.ann", _encode(_annotations(arm, report.note.text, report.with_text)))
            if report.with_text:
                archive.writestr(f"{folder}/note.txt", _encode(report.note.text))
    return buffer.getvalue()


def _encode(text: str) -> bytes:
    # A lone surrogate, which UTF-8 cannot hold, becomes one other character, so every offset stays right.
    return text.encode("utf-8", errors="replace")


def _annotations(arm: Prediction, text: str, with_text: bool) -> str:
    lines, attributes = [], 0
    for number, span in enumerate(arm.spans, 1):
        label = "_".join(span.label.split()) or "Entity"
        parts = _fragments(span, text) if with_text else [(span.start, span.end)]
        place = ";".join(f"{start} {end}" for start, end in parts)
        covered = " ".join(text[start:end] for start, end in parts).replace("\t", " ")
        words = f"\t{covered}" if with_text else ""
        lines.append(
            f"T{number}\t{label} {place}{words}\n#{number}\tAnnotatorNotes T{number}\tscore {span.score:.4f}\n"
        )
        for name, each in span.attributes.items():
            attributes += 1
            lines.append(f"A{attributes}\t{name} T{number} {'_'.join(each.value.split())}\n")
    for number, relation in enumerate(arm.relations or (), 1):
        label = "_".join(relation.label.split())
        lines.append(f"R{number}\t{label} Arg1:T{relation.head + 1} Arg2:T{relation.tail + 1}\n")
    return "".join(lines)


def _fragments(span: Span, text: str) -> list[tuple[int, int]]:
    """A span line by line, without line ends and surrounding white space."""
    breaks = [at for at in range(span.start, min(span.end, len(text))) if text[at] in "\r\n"]
    ends = [span.start - 1, *breaks, span.end]
    lines = ((before + 1, after) for before, after in pairwise(ends))
    return [
        (start + len(line) - len(line.lstrip()), start + len(line.rstrip()))
        for start, line in ((start, text[start:end]) for start, end in lines)
        if line.strip()
    ]
