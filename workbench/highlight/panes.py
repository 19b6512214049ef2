"""A note with what each model found in it, side by side, and the places where they differ.

Each line of the note is a row that all panes share, so the same line stands at the same height in each of them.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from trainer.errors import StillroomError
from trainer.prediction import Coverage, LabelScore, Prediction, Span, Value
from trainer.tasks import answers, marks_spans
from workbench.compare import Comparison, Disagreement
from workbench.compare.context import share_read
from workbench.compare.findings import span_values
from workbench.highlight.disagreements import anchor, disagreement_list, no_vote
from workbench.highlight.findings import finding_anchor, findings_table
from workbench.highlight.markup import (
    Html,
    chip,
    colours,
    concat,
    count,
    error_line,
    letter,
    line,
    missing_chip,
    value_class,
)
from workbench.predict import percent

BARS = 8  # labels of the whole note that are listed; more where more are given
LONG = 100_000  # characters above which the browser lays out only the rows in view
ROWS = 800  # rows of the panes' grid in the style sheet; where there are more lines, neighbours share a row
WIDEST = 4000  # characters in a row: layout time grows with the square of the length of a line
NOT_READ = "not read by this model"
CELLS = 60  # in a ruler

_PANES = Html('<div class="{}" role="region" aria-label="The note, model by model" tabindex="0">{}</div>')
_SHORT = 24  # characters
_ANSWER = 200  # characters of an answer above the note
_LINE = re.compile(rf"[^\n]{{0,{WIDEST}}}\n|[^\n]{{1,{WIDEST}}}(?:(?<=\s)|\Z)|[^\n]{{1,{WIDEST}}}")
_STAGES = {"waiting": "waiting in the queue", "loading": "loading the model", "reading": "reading the note"}


class Pane(NamedTuple):
    """One arm as the page has it: its prediction, its error, or how far its request is (see lab.Answer).

    caution: what a reader of its findings should know of it, such as that it was not trained on notes.
    """

    name: str
    title: str = ""
    prediction: Prediction | None = None
    error: StillroomError | None = None
    stage: str = "waiting"
    ahead: int = 0  # requests served before this one
    progress: float | None = None
    caution: str = ""


def note(text: str) -> Html:
    """A note that no model has read yet."""
    lines = concat(line(text[start:end]) for start, end in rows(text))
    return _panes(text, [Html('<section class="sr-pane" tabindex="0">{}</section>').format(lines)])


def results(text: str, panes: Sequence[Pane], comparison: Comparison | None = None, *, findings: bool = False) -> Html:
    """The panes, and beside them the list of disagreements or, with `findings`, the table of findings.

    `comparison` is over those panes that have a prediction.
    """
    slots = colours(label for pane in panes if pane.prediction for label in labels_of(pane.prediction))
    tagging = [
        (pane.prediction, number)
        for number, pane in enumerate(panes)
        if pane.prediction and marks_spans(pane.prediction.task)
    ]
    beside = Html()
    if findings and tagging:
        beside = findings_table(text, [each for each, _ in tagging], [number for _, number in tagging], slots)
    elif comparison:
        beside = disagreement_list(text, comparison, [pane.name for pane in panes], slots)
    several = len(panes) > 1
    drawn = [_pane(text, pane, number, comparison, slots, several=several) for number, pane in enumerate(panes)]
    return _panes(text, drawn, beside)


def _panes(text: str, panes: list[Html], beside: str = "") -> Html:
    classes = f"sr-panes sr-n{min(len(panes), 4)}{' sr-long' if len(text) > LONG else ''}"
    side_by_side = _PANES.format(classes, concat(panes))
    return Html('<div class="sr"><div class="sr-results">{}{}</div></div>').format(beside, side_by_side)


def labels_of(prediction: Prediction) -> set[str]:
    """Every label that an arm knows or has given."""
    return {
        *prediction.label_set,
        *(span.label for span in prediction.spans),
        *(label.label for label in prediction.labels),
    }


def _short_class(characters: int) -> str:
    # A short word and its chip stay on one line; a long one would not fit into a narrow pane.
    return " sr-short" if characters <= _SHORT else ""


# --- The panes


def _pane(
    text: str, pane: Pane, number: int, comparison: Comparison | None, slots: dict[str, str], *, several: bool
) -> Html:
    head = _head(text, pane, number, slots, several=several)
    if pane.error:
        section = Html('<section class="sr-pane sr-failed" tabindex="0">{}{}</section>')
        return section.format(head, error_line(pane.error))
    disagreements = enumerate(comparison.disagreements if comparison else ())
    regions = {index: each for index, each in disagreements if pane.name in each.votes and each.kind != "document"}
    compared = comparison is not None and comparison.agreement is not None
    painter = _Painter(text, pane.name, number, regions, compared, slots)
    pieces = groupby(_pieces(text, pane.prediction, regions), key=lambda piece: piece.row)
    lines = concat(line(painter.row(list(row))) for _, row in pieces)
    waiting = "" if pane.prediction else " sr-waiting"
    return Html('<section class="sr-pane{}" tabindex="0">{}{}</section>').format(waiting, head, lines)


def _ranking(prediction: Prediction, slots: dict[str, str]) -> Html:
    """The labels of the whole note as bars, most likely first: those given, and the next ones."""
    given = set(prediction.chosen)
    last = max((number for number, label in enumerate(prediction.labels, 1) if label.label in given), default=0)
    listed = prediction.labels[: max(BARS, last)]
    bars = concat(_bar(label, label.label in given, slots) for label in listed)
    rest = len(prediction.labels) - len(listed)
    note = Html('<p class="sr-more">{}</p>')
    more = note.format(f"{count(rest, 'less likely label')} not shown.") if rest else ""
    rule = ""
    if any(label.threshold is not None for label in prediction.labels):
        rule = note.format("Each label is given from a threshold of its own, chosen in training; a note may have none.")
    elif prediction.threshold is not None:
        rule = note.format(f"Labels of at least {prediction.threshold:.0%} are given; a note may have none.")
    return Html('<ol class="sr-bars">{}</ol>{}{}').format(bars, more, rule)


def _bar(label: LabelScore, is_given: bool, slots: dict[str, str]) -> Html:
    # The width is a class out of a fixed set, so that nothing a model says gets into an attribute.
    width = min(100, max(0, round(100 * label.score)))
    return Html(
        '<li class="sr-bar {}{}"><span class="sr-name"><bdi>{}</bdi></span>'
        '<span class="sr-track"><span class="sr-fill sr-w{}"></span></span><span class="sr-share">{}</span></li>'
    ).format(slots[label.label], " sr-given" if is_given else "", label.label, width, percent(label.score))


def _answer(text: str, prediction: Prediction, number: int) -> Html:
    """The answer to the question with its score, and the likeliest one elsewhere; nothing without a question."""
    if prediction.no_answer is None:
        return Html()
    given, other = prediction.answer, prediction.runner_up
    line = Html('<p class="sr-answer">{}</p>')
    if given is None:
        partly = "the part that it read" if _is_partial(prediction.coverage) else "this note"
        said = line.format(f"No answer found in {partly}.")
    else:
        link = Html('Answer: <a href="#{}"><bdi>{}</bdi></a> {}')
        words = _excerpt(text, given.start, given.end)
        said = line.format(link.format(finding_anchor(given.start, number), words, percent(given.score)))
    if other:
        next_best = Html('<p class="sr-more">Next likeliest: <bdi>{}</bdi> {}</p>')
        said += next_best.format(_excerpt(text, other.start, other.end), percent(other.score))
    return said


def _value(value: Value) -> Html:
    """The value of the whole note with its scale."""
    return Html('<p class="sr-answer">Value: <b>{}</b></p>').format(str(value))


def _excerpt(text: str, start: int, end: int) -> str:
    words = " ".join(text[start:end].split())
    return f"“{words}”" if len(words) <= _ANSWER else f"“{words[:_ANSWER]}…”"


def _head(text: str, pane: Pane, number: int, slots: dict[str, str], *, several: bool) -> Html:
    return Html('<header class="sr-head"><h2>{}{}</h2><p class="sr-facts">{}</p>{}{}{}{}{}</header>').format(
        Html("{} ").format(letter(number)) if several else Html(),
        pane.title or pane.name,
        _facts(pane),
        caution_line(pane.caution) if pane.prediction else "",
        _answer(text, pane.prediction, number) if pane.prediction else "",
        _value(pane.prediction.value) if pane.prediction and pane.prediction.value else "",
        _details(pane, pane.prediction) if pane.prediction else "",
        _ranking(pane.prediction, slots) if pane.prediction and pane.prediction.labels else "",
    )


def caution_line(words: str) -> Html:
    """What a reader should know of a model, such as that it was not trained on notes; nothing if there are no words."""
    return Html('<p class="sr-caution">{}</p>').format(words) if words else Html()


def _facts(pane: Pane) -> Html:
    fact = Html("<span>{}</span>")
    if pane.error:
        return fact.format("failed")
    if not pane.prediction:
        return Html('<span class="sr-stage">{}</span>').format(_stage(pane))
    spans, coverage = len(pane.prediction.spans), pane.prediction.coverage
    number = fact.format(f"{count(spans, 'place')} marked") if answers(pane.prediction.task) == "spans" else Html()
    if not _is_partial(coverage):
        return number
    return number + Html('<span class="sr-partial">read {} of the note</span>').format(share_read(coverage))


def _details(pane: Pane, prediction: Prediction) -> Html:
    """What a person asks for who knows the terms: reference, time, tokens and windows."""
    ms = prediction.cost.latency_ms
    facts = [pane.name, f"{ms / 1000:.1f} s" if ms >= 1000 else f"{ms:.0f} ms", _coverage(prediction.coverage)]
    return Html('<details><summary>Details</summary><p class="sr-facts">{}</p>{}</details>').format(
        concat(map(Html("<span>{}</span>").format, facts)), _ruler(prediction.coverage)
    )


def _stage(pane: Pane) -> str:
    if pane.stage == "waiting" and pane.ahead:
        return f"{_STAGES[pane.stage]}, {count(pane.ahead, 'request')} ahead"
    return _STAGES[pane.stage] + ("" if pane.progress is None else f", {pane.progress:.0%}")


def _is_partial(coverage: Coverage) -> bool:
    return coverage.tokens_read < coverage.tokens or bool(coverage.unread)


def _coverage(coverage: Coverage) -> str:
    if not _is_partial(coverage):
        windows = f" in {count(coverage.windows, 'window')}" if coverage.windows > 1 else ""
        return f"read all {count(coverage.tokens, 'token')}{windows}"
    return f"read {coverage.tokens_read:,} of {coverage.tokens:,} tokens ({share_read(coverage)})"


def _ruler(coverage: Coverage) -> Html:
    """The note as a bar of tokens: what was read, where windows meet, and the tail that was not read."""
    total = min(CELLS, coverage.tokens)
    if not total:
        return Html()
    starts = [number * coverage.tokens // total for number in range(total + 1)]
    cell = Html('<span class="{}"></span>')
    cells = concat(cell.format(_cell(coverage, *ends)) for ends in pairwise(starts))
    tail = Html('<span class="sr-tail">{}</span>').format(NOT_READ) if coverage.tokens_read < coverage.tokens else ""
    return Html('<div class="sr-ruler">{}</div><p class="sr-scale"><span>0</span>{}<span>{}</span></p>').format(
        cells, tail, count(coverage.tokens, "token")
    )


def _cell(coverage: Coverage, start: int, end: int) -> str:
    if start >= coverage.tokens_read:
        return "sr-tail"
    return "sr-read sr-seam" if any(start <= seam < end for seam in coverage.seams) else "sr-read"


class _Piece(NamedTuple):
    """text[start:end], which lies in one row and wholly in the same spans, disagreement and unread range, if any."""

    start: int
    end: int
    row: int
    spans: tuple[Span, ...]
    region: int | None
    unread: int | None  # where the unread range starts


def _pieces(text: str, prediction: Prediction | None, regions: dict[int, Disagreement]) -> Iterator[_Piece]:
    """Cut the text wherever anything starts or ends. Ranges may overlap, and may reach beyond the text."""
    spans = sorted(prediction.spans, key=lambda span: (span.start, -span.end)) if prediction else []
    unread = prediction.coverage.unread if prediction else ()
    layers = {
        "row": list(enumerate(rows(text))),
        "region": [(index, region.place) for index, region in regions.items()],
        "span": [(index, (span.start, span.end)) for index, span in enumerate(spans)],
        "unread": [(max(start, 0), (start, end)) for start, end in unread],
    }
    opened: dict[int, list[tuple[str, int]]] = defaultdict(list)
    closed: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for layer, ranges in layers.items():
        for key, (start, end) in ranges:
            start, end = max(start, 0), min(end, len(text))
            if start < end:
                opened[start].append((layer, key))
                closed[end].append((layer, key))
    inside: dict[str, list[int]] = {layer: [] for layer in layers}
    for start, end in pairwise(sorted({*opened, *closed})):
        for layer, key in closed.get(start, ()):
            inside[layer].remove(key)
        for layer, key in opened.get(start, ()):
            inside[layer].append(key)
        yield _Piece(
            start,
            end,
            row=inside["row"][0],
            spans=tuple(spans[index] for index in inside["span"]),
            region=inside["region"][-1] if inside["region"] else None,
            unread=inside["unread"][-1] if inside["unread"] else None,
        )


def rows(text: str) -> list[tuple[int, int]]:
    """The lines of the text with their line feeds, as at most ROWS ranges (start, end).

    Where there are more lines, short neighbours share a row. A very long line is cut, after a space if it has one.
    """
    ends = [match.end() for match in _LINE.finditer(text)]
    if len(ends) <= ROWS:
        return list(pairwise([0, *ends]))
    room = 2 * len(text) // (ROWS - 2) + 1  # two neighbours have more characters than this, or they share a row
    ranges, start = [], 0
    for end, following in pairwise([*ends, len(text) + room + 1]):
        if following - start > room:
            ranges.append((start, end))
            start = end
    return ranges


class _Painter(NamedTuple):
    """Draws the rows of one pane; `regions` are the disagreements in which its arm has a vote."""

    text: str
    arm: str
    number: int
    regions: dict[int, Disagreement]
    compared: bool
    colours: dict[str, str]

    def row(self, pieces: list[_Piece]) -> Html:
        """One row: neighbouring pieces of one disagreement and unread range share a wrapper."""
        runs = groupby(pieces, key=lambda piece: (piece.region, piece.unread))
        return concat(self._run(region, unread, list(run)) for (region, unread), run in runs)

    def _run(self, region: int | None, unread: int | None, run: list[_Piece]) -> Html:
        inner = concat(map(self._marked, run))
        if region is not None:
            inner = self._region(region, inner, run)
        if unread is None:
            return inner
        notice = missing_chip(NOT_READ) if run[0].start == unread else ""
        return Html('<span class="sr-unread">{}{}</span>').format(notice, inner)

    def _region(self, index: int, inner: Html, run: list[_Piece]) -> Html:
        region = self.regions[index]
        start, end = region.place
        place = Html(' id="{}"').format(anchor(index, self.number)) if run[0].start == max(start, 0) else ""
        missing = region.votes[self.arm] is None
        if missing and run[-1].end == min(end, len(self.text)):
            inner += no_vote(self.arm, region)
        classes = f"sr-region{' sr-gap' if missing else ''}{_short_class(end - start)}"
        return Html('<span class="{}"{}>{}</span>').format(classes, place, inner)

    def _marked(self, piece: _Piece) -> Html:
        inner = self.text[piece.start : piece.end]
        if not piece.spans:
            return Html.escape(inner)
        ending = [span for span in reversed(piece.spans) if min(span.end, len(self.text)) == piece.end]
        chips = concat(
            chip(span.label, self.colours[span.label], score=span.score, values=span_values(span)) for span in ending
        )
        agreed = " sr-agreed" if self.compared and piece.region is None else ""
        span = piece.spans[-1]
        value = value_class(span_values(span))
        classes = f"{self.colours[span.label]}{agreed}{value}{_short_class(piece.end - piece.start)}"
        starts = any(max(each.start, 0) == piece.start for each in piece.spans)
        place = Html(' id="{}"').format(finding_anchor(piece.start, self.number)) if starts else ""
        return Html('<mark class="sr-span {}"{}>{}{}</mark>').format(classes, place, inner, chips)
