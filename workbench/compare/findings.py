"""What models find in a note, as a list: each finding once, with how often, where, and the score that each model gives.

Findings are the same where their words are the same, case and white space aside, and so are label and attributes.
"""

import csv
import io
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from trainer.prediction import Prediction, Span

LABELS = {"problem": "Problems", "treatment": "Treatments", "test": "Tests"}  # headings, in the order shown
VALUES = {  # of an assertion in words, in the order shown
    "present": "present",
    "possible": "possible",
    "hypothetical": "hypothetical",
    "conditional": "conditional",
    "family": "in the family",
    "absent": "absent",
}
COLUMNS = ("label", "assertion", "times", "places")


class Finding(NamedTuple):
    """Something that was found, once or several times.

    words: as the note has them first, on one line. values: of its attributes, such as the assertion of a problem, by
    the names of these. places: start and end of each time, in the order of the note. scores: the highest of each model,
    None where a model does not find it.
    """

    words: str
    label: str
    values: tuple[str, ...]
    places: tuple[tuple[int, int], ...]
    scores: tuple[float | None, ...]

    @property
    def section(self) -> str:
        """The heading that it belongs under: Problems present, Treatments, Disease."""
        return " ".join([LABELS.get(self.label, self.label), *(value_in_words(value) for value in self.values)])


def value_in_words(value: str) -> str:
    """The value of an attribute as a heading or a filter shows it; one that is not known here is its own word."""
    return VALUES.get(value, value)


def span_values(span: Span) -> tuple[str, ...]:
    """The values of a span's attributes, by the names of these."""
    return tuple(span.attributes[name].value for name in sorted(span.attributes))


def list_findings(text: str, predictions: Sequence[Prediction]) -> list[Finding]:
    """Every finding of any model: problems by assertion, treatments, tests, other labels; each in the note's order."""
    spans: dict[tuple[str, str, tuple[str, ...]], list[tuple[int, Span]]] = {}
    for number, prediction in enumerate(predictions):
        for span in prediction.spans:
            words = words_of(text, span).casefold()
            spans.setdefault((words, span.label, span_values(span)), []).append((number, span))
    return sorted((_finding(text, same, len(predictions)) for same in spans.values()), key=_order)


def words_of(text: str, span: Span) -> str:
    """The words of a span on one line."""
    return " ".join(text[max(span.start, 0) : span.end].split())


def _finding(text: str, same: Sequence[tuple[int, Span]], models: int) -> Finding:
    first = min((span for _, span in same), key=lambda span: (span.start, span.end))
    scores = [[span.score for number, span in same if number == model] for model in range(models)]
    return Finding(
        words=words_of(text, first),
        label=first.label,
        values=span_values(first),
        places=tuple(sorted({(span.start, span.end) for _, span in same})),
        scores=tuple(max(each, default=None) for each in scores),
    )


def _order(finding: Finding) -> tuple[int, str, list[tuple[int, str]], tuple[tuple[int, int], ...]]:
    labels, values = list(LABELS), list(VALUES)
    return (
        labels.index(finding.label) if finding.label in labels else len(labels),
        finding.label,
        [(values.index(value) if value in values else len(values), value) for value in finding.values],
        finding.places,
    )


def by_section(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """Listed findings under their headings."""
    return [(title, list(group)) for title, group in groupby(findings, key=lambda finding: finding.section)]


def as_csv(text: str, predictions: Sequence[Prediction], *, with_text: bool) -> str:
    """A row per finding: label, assertion, times, places as START-END, the score of each model.

    Only with `with_text` a first column has the words of the note; without, it says only which places are one finding.
    """
    buffer = io.StringIO()
    table = csv.writer(buffer)
    words_column = ("finding",) if with_text else ()
    table.writerow((*words_column, *COLUMNS, *(f"score {prediction.model}" for prediction in predictions)))
    for each in list_findings(text, predictions):
        places = " ".join(f"{start}-{end}" for start, end in each.places)
        words = (spreadsheet_cell(each.words),) if with_text else ()
        table.writerow((*words, each.label, " ".join(each.values), len(each.places), places, *each.scores))
    return buffer.getvalue()


def spreadsheet_cell(words: str) -> str:
    """Words of a note that a spreadsheet reads as text and never as a formula."""
    return f"'{words}" if words.startswith(("=", "+", "-", "@")) else words
