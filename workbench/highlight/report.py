"""Findings and their comparison as one HTML file to keep or print, without scripts or outside resources.

In the order in which it is read: what the models found, where they differ, what they did not read, the note's text if
it is included, and small print. Without the text a finding is its label and its places as offsets.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import TypeVar

from trainer.prediction import Coverage, Prediction, Span
from trainer.tasks import answers, marks_spans
from workbench.compare import Comparison, Disagreement, group_by_kind
from workbench.compare.findings import Finding, by_section, list_findings, span_values, value_in_words
from workbench.compare.relations import list_relations
from workbench.compare.report import Report
from workbench.highlight.disagreements import agreement_notes, excerpt, group_title, vote_chip
from workbench.highlight.markup import (
    ABSENT,
    PLAIN_VALUE,
    STYLE,
    Html,
    chip,
    colours,
    concat,
    count,
    letter,
    missing_chip,
    style,
    value_class,
)
from workbench.highlight.panes import labels_of, rows
from workbench.highlight.relations import relation_row
from workbench.highlight.small_print import small_print
from workbench.highlight.tables import NONE, agreement_table, share
from workbench.note import hypothesis_in_words, question_in_words
from workbench.predict import percent

LISTED = 1_000  # findings, and disagreements; nobody reads more, and browsers take minutes to lay them out
_HEAD = Html(
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Findings in a clinical note</title>'
    '<meta name="viewport" content="width=device-width">'
    """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"""
)
_STYLE = style("report.css")
_WARNING = "For research, not for clinical decisions. Scores are a model's own and not calibrated."
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_T = TypeVar("_T")
_PLACES = 6  # lines that a row names, and parts of the note that were not read
_OPENING = 40  # characters of such a part


def report_page(report: Report) -> Html:
    """The whole file."""
    arms = [
        _Arm(prediction, list(report.titles).index(prediction.model)) for prediction in report.comparison.predictions
    ]
    slots = colours(label for arm in arms for label in labels_of(arm.prediction))
    findings = _findings(report, [arm for arm in arms if marks_spans(arm.prediction.task)], slots)
    parts = [
        Html("<h1>Findings in a clinical note</h1>"),
        _about(report),
        _models(report, arms),
        _legend(report, arms, slots, findings),
        Html("<h2>Findings</h2>"),
        findings,
        _relations(report, [arm for arm in arms if arm.prediction.relations is not None]),
        _whole_note(report, [arm for arm in arms if answers(arm.prediction.task) == "labels"], slots),
        _agreement(report, slots) if len(arms) > 1 else "",
        Html("<h2>What was not read</h2>"),
        _unread(report, arms),
        _note(report, slots) if report.with_text else "",
        small_print(report),
    ]
    body = Html('<body><div class="sr">{}</div></body></html>\n').format(concat(parts))
    return concat([_HEAD, STYLE, _STYLE, Html("</head>"), body])


class _Arm:
    """A model's prediction, and what a row of findings asks of it."""

    def __init__(self, prediction: Prediction, number: int):
        self.prediction = prediction
        self.letter = letter(number)
        self._spans = {(*_place(span), span.label): span for span in prediction.spans}
        self._marked = _characters(map(_place, prediction.spans))
        self._unread = _characters(prediction.coverage.unread)

    def cell(self, finding: Finding) -> str:
        """Its highest score for a finding or, where it does not find it, what it says instead."""
        keys = [(*place, finding.label) for place in finding.places]
        spans = [self._spans[key] for key in keys if key in self._spans]
        if same := [span for span in spans if span_values(span) == finding.values]:
            return _scores(max(same, key=lambda span: span.score))
        if finding.label not in self.prediction.label_set:
            return NONE
        if spans:
            return missing_chip(", ".join(map(value_in_words, span_values(spans[0]))) or "no assertion")
        if any(not self._marked.isdisjoint(range(*place)) for place in finding.places):
            return missing_chip("differs")
        unread = all(not self._unread.isdisjoint(range(*place)) for place in finding.places)
        return missing_chip("not read" if unread else "nothing")


def _place(span: Span) -> tuple[int, int]:
    return span.start, span.end


def _characters(places: Iterable[tuple[int, int]]) -> set[int]:
    return {at for place in places for at in range(*place)}


def _scores(span: Span) -> str:
    return " / ".join(
        [percent(span.score), *(percent(span.attributes[name].score) for name in sorted(span.attributes))]
    )


# --- The head


def _about(report: Report) -> Html:
    facts = [f"{report.made:%d %B %Y, %H:%M}", f"a note of {len(report.note.text):,} characters"]
    if report.note.hypothesis:
        facts.append(hypothesis_in_words(report.note, with_text=report.with_text))
    if report.note.question:
        facts.append(question_in_words(report.note, with_text=report.with_text))
    if report.context:
        facts.append(f"only its first {report.context:,} tokens")
    if report.filter.labels:
        facts.append(f"only labels {', '.join(report.filter.labels)}")
    if report.filter.values:
        facts.append(f"only {', '.join(map(value_in_words, report.filter.values))}")
    if report.filter.min_score:
        facts.append(f"only scores of at least {report.filter.min_score:.0%}")
    text = "with the note's text" if report.with_text else "without the note's text: places are offsets of characters"
    return Html('<p class="sr-about">{}.</p><p class="sr-about">{}</p>').format("; ".join([*facts, text]), _WARNING)


def _models(report: Report, arms: Sequence[_Arm]) -> Html:
    items = concat(_model(report, arm.letter, arm.prediction) for arm in arms)
    return Html('<ol class="sr-models">{}</ol>').format(items)


def _model(report: Report, name: Html, prediction: Prediction) -> Html:
    caution = report.cautions.get(prediction.model)
    return Html("<li>{} <b>{}</b>: {}{}</li>").format(
        name, report.titles[prediction.model], _counted(report, prediction), f". {caution}" if caution else ""
    )


def _counted(report: Report, prediction: Prediction) -> Html:
    if answers(prediction.task) == "labels":
        return Html("<bdi>{}</bdi>").format(", ".join(prediction.chosen) or "no label")
    if answers(prediction.task) == "value":
        return Html("{}").format(str(prediction.value) if prediction.value else "no value")
    findings = len(list_findings(report.note.text, [prediction]))
    places = f" in {count(len(prediction.spans), 'place')}" if findings < len(prediction.spans) else ""
    return Html("{}{}").format(count(findings, "finding"), places)


_CELLS = (  # of a model that does not give a finding
    (missing_chip("nothing"), "the model read it and found nothing"),
    (missing_chip("not read"), "the model did not read it"),
    (missing_chip("differs"), "the model found something else there: see the disagreements"),
    (Html(NONE), "not among the model's labels"),
)


def _legend(report: Report, arms: Sequence[_Arm], slots: dict[str, str], findings: Html) -> Html:
    """What the signs mean that are used here."""
    spans = [span for arm in arms for span in arm.prediction.spans]
    values = sorted({value for span in spans for value in span_values(span)} - {PLAIN_VALUE})
    signs = [(chip(label, slots[label]), "") for label in sorted({span.label for span in spans})]
    if ABSENT in values:
        signs.append((chip("finding", "", values=[ABSENT]), "struck through: the patient does not have it"))
    if unsure := [value for value in values if value != ABSENT]:
        words = f"hollow: the patient may not have it ({', '.join(map(value_in_words, unsure))})"
        signs.append((chip("finding", "", values=unsure[:1]), words))
    if any(span.attributes for span in spans):
        signs.append((Html("97% / 88%"), "the model's score of a finding / of its assertion"))
    signs += [(sign, words) for sign, words in _CELLS if Html("<td>{}</td>").format(sign) in findings]
    if report.with_text and report.comparison.disagreements:
        signs.append((Html('<mark class="sr-differs">words</mark>'), "in the note: models differ"))
    items = concat(Html("<li>{} <span>{}</span></li>").format(*sign) for sign in signs)
    return Html('<ol class="sr-signs">{}</ol>').format(items) if signs else Html()


# --- Findings


def _findings(report: Report, arms: Sequence[_Arm], slots: dict[str, str]) -> Html:
    """A table under each heading: problems present, ..., treatments, tests; with a column of scores per model."""
    if not arms:
        return Html()
    findings = list_findings(report.note.text, [arm.prediction for arm in arms])
    line_ends = [match.start() for match in re.finditer("\n", report.note.text)]

    def row(finding: Finding) -> list[str]:
        words = (finding.words or "(no words)") if report.with_text else finding.label
        name = chip(Html("<bdi>{}</bdi>").format(words), slots[finding.label], values=finding.values)
        where = _lines(finding, line_ends) if report.with_text else _characters_of(finding)
        return [name, f"{len(finding.places):,}", where, *(arm.cell(finding) for arm in arms)]

    columns = ["Times", "Line" if report.with_text else "Characters", *_letters(report, arms)]
    groups = [(Html("<bdi>{}</bdi>").format(title), group) for title, group in by_section(findings)]
    return concat(_tables(groups, columns, row)) or Html("<p>No findings.</p>")


def _letters(report: Report, arms: Sequence[_Arm]) -> list[str]:
    return [arm.letter for arm in arms] if len(report.comparison.predictions) > 1 else ["Score"]


def _lines(finding: Finding, line_ends: Sequence[int]) -> str:
    """The lines of the note in which a finding starts."""
    lines = sorted({bisect_left(line_ends, start) + 1 for start, _ in finding.places})
    return ", ".join([*map(str, lines[:_PLACES]), *(["…"] if len(lines) > _PLACES else [])])


def _characters_of(finding: Finding) -> str:
    """The offsets at which a finding stands."""
    places = [_offsets(*place) for place in finding.places[:_PLACES]]
    return ", ".join([*places, *(["…"] if len(finding.places) > _PLACES else [])])


def _offsets(start: int, end: int) -> str:
    return f"{start}–{end}"


def _tables(
    groups: Iterable[tuple[Html, Sequence[_T]]], columns: Sequence[str], row: Callable[[_T], Sequence[str]]
) -> Iterator[Html]:
    """A table per group, headed by its title, how many there are, and the columns; a printer repeats that head."""
    total, room = 0, LISTED
    for title, items in groups:
        listed, total = items[:room], total + len(items)
        room -= len(listed)
        if listed:
            head = concat(map(Html("<th>{}</th>").format, [Html("{} <b>{:,}</b>").format(title, len(items)), *columns]))
            rows = concat(
                Html("<tr>{}</tr>").format(concat(map(Html("<td>{}</td>").format, row(each)))) for each in listed
            )
            yield Html('<table class="sr-rows"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>').format(head, rows)
    if total > LISTED:
        yield Html('<p class="sr-more">Only the first {:,} are listed; the JSON export has all of them.</p>').format(
            LISTED
        )


def _relations(report: Report, arms: Sequence[_Arm]) -> Html:
    """How the findings are related, each relation once, with a column of scores per model."""
    pairs = list_relations(report.note.text, [arm.prediction for arm in arms])
    row = partial(relation_row, with_text=report.with_text)
    return concat(_tables([(Html("Related findings"), pairs)], ["Relation", "Times", *_letters(report, arms)], row))


def _whole_note(report: Report, arms: Sequence[_Arm], slots: dict[str, str]) -> Html:
    """The labels that models give to the whole note, with the score of each."""
    given = sorted({label for arm in arms for label in arm.prediction.chosen})

    def row(label: str) -> list[str]:
        scores = [{each.label: each.score for each in arm.prediction.labels} for arm in arms]
        figures = [percent(each[label]) if label in each else NONE for each in scores]
        marked = [
            Html("<b>{}</b>").format(figure) if label in arm.prediction.chosen else figure
            for arm, figure in zip(arms, figures, strict=True)
        ]
        return [chip(Html("<bdi>{}</bdi>").format(label), slots[label]), *marked]

    return concat(_tables([(Html("Labels of the whole note"), given)], _letters(report, arms), row))


# --- Agreement


def _agreement(report: Report, slots: dict[str, str]) -> Html:
    comparison, names = report.comparison, list(report.titles)
    voters = [
        prediction
        for prediction in comparison.predictions
        if any(prediction.model in item.votes for item in comparison.disagreements)
    ]

    def row(item: Disagreement) -> list[str]:
        votes = [
            vote_chip(prediction.model, item, slots) if prediction.model in item.votes else NONE
            for prediction in voters
        ]
        return [_region(report, item), *votes]

    letters = [letter(names.index(prediction.model)) for prediction in voters]
    groups = [
        (group_title(group, names), [comparison.disagreements[index] for index in group.indices])
        for group in group_by_kind(comparison)
    ]
    parts = [
        Html("<h2>Agreement and disagreements</h2><p>{}</p>").format(_verdict(comparison)),
        agreement_table(comparison.predictions, names) if comparison.disagreements else "",
        agreement_notes(comparison) if comparison.disagreements else "",
        Html('<div class="sr-differences">{}</div>').format(concat(_tables(groups, letters, row))),
    ]
    return concat(parts)


def _verdict(comparison: Comparison) -> str:
    if comparison.agreement is None:
        return comparison.no_agreement or ""
    if not comparison.disagreements:
        return "The models agree on every finding whose label they share."
    return f"{count(len(comparison.disagreements), 'disagreement')}; agreement {share(comparison.agreement)}."


def _region(report: Report, item: Disagreement) -> Html:
    if item.kind == "document":
        return Html("the whole note")
    start, end = item.place
    return Html("<bdi>{}</bdi>").format(
        excerpt(report.note.text, start, end) if report.with_text else _offsets(start, end)
    )


# --- What was not read, the note, and the small print


def _unread(report: Report, arms: Sequence[_Arm]) -> Html:
    """The parts of the note that each model did not read."""
    coverages = [arm.prediction.coverage for arm in arms]
    if not any(coverage.unread or coverage.tokens_read < coverage.tokens for coverage in coverages):
        words = "Every model read the whole note." if len(arms) > 1 else "The whole note was read."
        return Html("<p>{}</p>").format(words)
    item = Html("<li>{} {}</li>")
    return Html('<ol class="sr-models">{}</ol>').format(
        concat(item.format(arm.letter, _unread_parts(report, arm.prediction.coverage)) for arm in arms)
    )


def _unread_parts(report: Report, coverage: Coverage) -> Html:
    if not coverage.unread and coverage.tokens_read >= coverage.tokens:
        return Html("read the whole note.")
    text = report.note.text if report.with_text else None
    parts = Html("; ").join(_unread_part(text, *place) for place in coverage.unread[:_PLACES])
    more = "; …" if len(coverage.unread) > _PLACES else ""
    read = share(coverage.tokens_read / max(coverage.tokens, 1))
    return Html("read {} of the note. Not read: characters {}{}.").format(read, parts, more)


def _unread_part(text: str | None, start: int, end: int) -> Html:
    words = "" if text is None else " ".join(text[start : min(end, start + _OPENING)].split())
    return Html("{}{}").format(_offsets(start, end), Html(" (<bdi>{}…</bdi>)").format(words) if words else "")


def _note(report: Report, slots: dict[str, str]) -> Html:
    """The text in numbered lines, with the findings marked or, where models differ, that they do."""
    text = report.note.text
    owners, classes = [0] * len(text), ["", *(mark for _, _, mark in _marks(report, slots))]  # of each character
    for number, (start, end, _) in enumerate(_marks(report, slots), 1):
        start, end = max(start, 0), min(end, len(text))
        owners[start:end] = [number] * (end - start)
    row = Html('<div dir="auto"{}>{}</div>')
    first = Html(' class="sr-first"')

    def parts(start: int, end: int) -> Iterator[Html]:
        for number, run in groupby(range(start, end), key=owners.__getitem__):
            places = list(run)
            inner = text[places[0] : places[-1] + 1]
            yield Html('<mark class="{}">{}</mark>').format(classes[number], inner) if number else Html.escape(inner)

    lines = concat(
        row.format(Html() if at else first, concat(parts(line.start() + start, line.start() + end)))
        for line in _LINE.finditer(text)
        for at, (start, end) in enumerate(rows(line[0]))
    )
    return Html('<h2>The note</h2><div class="sr-note">{}</div>').format(lines)


def _marks(report: Report, slots: dict[str, str]) -> Iterator[tuple[int, int, str]]:
    """Start, end and classes of what is marked in the note; a later one covers an earlier one."""
    for prediction in report.comparison.predictions:
        for span in prediction.spans:
            yield span.start, span.end, f"sr-span {slots[span.label]}{value_class(span_values(span))}"
    for disagreement in report.comparison.disagreements:
        if disagreement.kind != "document":
            yield *disagreement.place, "sr-differs"
