"""Explanations as a file: JSON. highlight/explanation_report.py makes the printable page from the same record."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from workbench.compare.report import versions
from workbench.explain.explanation import Explanation
from workbench.note import Note


class ExplanationReport(NamedTuple):
    """What is exported: the explanations of one target, as shown, by the titles of their models.

    title and sentences quote the note and are only for a file with its text. Only with `with_text` may a file hold any
    text of the note. `cautions` maps a title to what a reader should know of the model.
    """

    note: Note
    target: str
    explanations: dict[str, Explanation]
    title: str
    sentences: Sequence[str]
    made: datetime
    with_text: bool = False
    cautions: Mapping[str, str] = {}

    def name(self, ending: str) -> str:
        """A file name with the date; it says when the file holds the note's text."""
        text = "-with-text" if self.with_text and ending == "html" else ""
        return f"stillroom-explain-{self.made:%Y%m%d-%H%M%S}{text}.{ending}"


def as_json(report: ExplanationReport) -> str:
    """Target, versions and every explanation whole. Never text of the note."""
    document = {
        "target": report.target,
        "made": report.made.isoformat(timespec="seconds"),
        "versions": versions(),
        "explanations": [
            {"title": title} | explanation.model_dump(mode="json") for title, explanation in report.explanations.items()
        ],
    }
    return json.dumps(document, indent=2)
