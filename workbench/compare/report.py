"""A comparison as files: JSON, CSV and BRAT. highlight/report.py makes the page to print from the same Report."""

import csv
import io
import json
import zipfile
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import NamedTuple

from trainer.prediction import Prediction, Span
from workbench.compare import Comparison, agreed
from workbench.compare.costs import Weights
from workbench.compare.filters import Filter
from workbench.note import Note
from workbench.predict import letter

PACKAGES = ("stillroom", "transformers", "torch")
WITH_TEXT = ("html", "zip")  # files that hold the note's text where it is asked for
COLUMNS = ("arm", "start", "end", "label", "score", "agreed")


class Report(NamedTuple):
    """What is exported: the comparison as it is shown, and what it was made from.

    `titles` has an arm's title, `weights` stand in the order of the arms. `context` is the length in tokens that the
    models saw, None: the whole note. Only with `with_text` may a file hold anything of the note.
    """

    note: Note
    comparison: Comparison
    titles: dict[str, str]
    weights: tuple[Weights, ...]
    made: datetime
    kept: Filter = Filter()
    context: int | None = None
    with_text: bool = False

    def name(self, ending: str) -> str:
        """A file name out of the date, which says whether the file holds the note's text."""
        text = "-with-text" if self.with_text and ending in WITH_TEXT else ""
        return f"stillroom-compare-{self.made:%Y%m%d-%H%M%S}{text}.{ending}"


@cache
def versions() -> dict[str, str]:
    """The installed version of each package that the figures depend on, by its name."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def as_json(report: Report) -> str:
    """The shape of `stillroom compare --json`, with versions, hashes and filter beside it. Never text of the note."""
    beside = {
        "made": report.made.isoformat(timespec="seconds"),
        "versions": versions(),
        "models": [weights.model_dump() for weights in report.weights],
        "filter": report.kept.model_dump(mode="json"),
        "context_tokens": report.context,
    }
    return json.dumps(report.comparison.to_json() | beside, indent=2)


def as_csv(report: Report) -> str:
    """A row for each span, and for each label of the whole note, whose start and end are empty. Never text of the note.

    `agreed` is yes, no, or empty where no other arm could say that label, and for labels of the whole note.
    """
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(COLUMNS)
    for arm in report.comparison.predictions:
        scores = {said.label: said.score for said in arm.labels}
        table.writerows((arm.model, "", "", label, scores[label], "") for label in arm.chosen)
        for span, same in zip(arm.spans, agreed(report.comparison, arm), strict=True):
            said = {True: "yes", False: "no", None: ""}[same]
            table.writerow((arm.model, span.start, span.end, span.label, span.score, said))
    return written.getvalue()


def as_brat(report: Report) -> bytes:
    """A ZIP with a folder for each arm: note.ann, and with the text note.txt and the words of each annotation.

    Offsets count code points. An annotation that goes over a line's end has a fragment for each line, as BRAT wants it;
    that takes the text to know, so without it an annotation is one fragment.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, arm in enumerate(report.comparison.predictions):
            folder = letter(number)
            archive.writestr(f"{folder}/note.ann", _encoded(_annotations(arm, report.note.text, report.with_text)))
            if report.with_text:
                archive.writestr(f"{folder}/note.txt", _encoded(report.note.text))
    return packed.getvalue()


def _encoded(text: str) -> bytes:
    # A lone surrogate, which no file can hold, becomes one other character, so that every offset stays right.
    return text.encode("utf-8", errors="replace")


def _annotations(arm: Prediction, text: str, with_text: bool) -> str:
    lines = []
    for number, span in enumerate(arm.spans, 1):
        label = "_".join(span.label.split()) or "Entity"
        parts = _fragments(span, text) if with_text else [(span.start, span.end)]
        place = ";".join(f"{start} {end}" for start, end in parts)
        said = " ".join(text[start:end] for start, end in parts).replace("\t", " ")
        words = f"\t{said}" if with_text else ""
        lines.append(
            f"T{number}\t{label} {place}{words}\n#{number}\tAnnotatorNotes T{number}\tscore {span.score:.4f}\n"
        )
    return "".join(lines)


def _fragments(span: Span, text: str) -> list[tuple[int, int]]:
    """The parts of a span in its lines, without line ends and the white space beside them."""
    breaks = [at for at in range(span.start, min(span.end, len(text))) if text[at] in "\r\n"]
    ends = [span.start - 1, *breaks, span.end]
    lines = ((before + 1, after) for before, after in pairwise(ends))
    return [
        (start + len(line) - len(line.lstrip()), start + len(line.rstrip()))
        for start, line in ((start, text[start:end]) for start, end in lines)
        if line.strip()
    ]
