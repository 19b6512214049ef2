"""A note with what models say of it, side by side, and the places where they differ.

Each line of the note is a row that all panes share, so the same line stands at the same height in each of them.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from trainer.errors import StillroomError
from trainer.prediction import Coverage, LabelScore, Prediction, Span
from trainer.tasks import answers
from workbench.compare import Comparison, Disagreement
from workbench.highlight.disagreements import anchor, nothing, rail
from workbench.highlight.markup import Html, chip, count, escape, letter, line, percent, silence, slots_of

BARS = 8  # labels of a whole note that are listed; of those that are given, all
LONG = 100_000  # characters above which the browser lays out only the rows in view
ROWS = 800  # rows of the panes' grid in the style sheet; of more lines than that, neighbours share a row
WIDEST = 4000  # characters of a row: browsers take time by the square of what a line of text holds
NOT_READ = "not read by this model"
CELLS = 60  # of a ruler

_PANES_ARE = 'role="region" aria-label="The note, model by model" tabindex="0"'
_SHORT = 24  # characters
_LINE = re.compile(rf"[^\n]{{0,{WIDEST}}}\n|[^\n]{{1,{WIDEST}}}(?:(?<=\s)|\Z)|[^\n]{{1,{WIDEST}}}")
_STAGES = {"waiting": "waiting its turn", "loading": "loading the model", "reading": "reading the note"}


class Pane(NamedTuple):
    """One arm as the page has it: its prediction, or its error, or how far (as lab.Answer says) what is awaited is."""

    name: str
    title: str = ""
    prediction: Prediction | None = None
    error: StillroomError | None = None
    stage: str = "waiting"
    ahead: int = 0  # requests that are served before it
    progress: float | None = None


def note(text: str) -> Html:
    """A note that no model has read yet."""
    lines = "".join(line(escape(text[start:end])) for start, end in rows(text))
    return _panes(text, [f'<section class="sr-pane" tabindex="0">{lines}</section>'])


def results(text: str, panes: Sequence[Pane], comparison: Comparison | None = None) -> Html:
    """The list of disagreements, and the panes; `comparison` is over those panes that have a prediction."""
    labels = {label for pane in panes if pane.prediction for label in labels_of(pane.prediction)}
    slots = slots_of(labels)
    beside = rail(text, comparison, [pane.name for pane in panes], slots) if comparison else ""
    return _panes(text, [_pane(text, pane, number, comparison, slots) for number, pane in enumerate(panes)], beside)


def _panes(text: str, panes: list[str], beside: str = "") -> Html:
    classes = f"sr-panes sr-n{min(len(panes), 4)}{' sr-long' if len(text) > LONG else ''}"
    side_by_side = f'<div class="{classes}" {_PANES_ARE}>{"".join(panes)}</div>'
    return Html(f'<div class="sr"><div class="sr-results">{beside}{side_by_side}</div></div>')


def labels_of(prediction: Prediction) -> set[str]:
    """Every label that an arm could say or has said."""
    return {*prediction.label_set, *(said.label for said in (*prediction.spans, *prediction.labels))}


def _kept_together(characters: int) -> str:
    # A short word and its chip stay on one line; a long one would not fit into a narrow pane.
    return " sr-short" if characters <= _SHORT else ""


# --- The panes


def _pane(text: str, pane: Pane, number: int, comparison: Comparison | None, slots: dict[str, str]) -> str:
    head = _head(pane, number, slots)
    if pane.error:
        message, step = escape(pane.error.message), escape(pane.error.next_step)
        said = f'<p class="sr-error"><b>{message}</b> {step}</p>'
        return f'<section class="sr-pane sr-failed" tabindex="0">{head}{said}</section>'
    regions = enumerate(comparison.disagreements if comparison else ())
    voted = {key: region for key, region in regions if pane.name in region.votes and region.kind != "document"}
    compared = comparison is not None and comparison.agreement is not None
    drawn = _Drawn(text, pane.name, number, voted, compared, slots)
    pieces = groupby(_pieces(text, pane.prediction, voted), key=lambda piece: piece.row)
    rows = "".join(line(drawn.line(list(row))) for _, row in pieces)
    return f'<section class="sr-pane{"" if pane.prediction else " sr-waiting"}" tabindex="0">{head}{rows}</section>'


def _ranking(prediction: Prediction, slots: dict[str, str]) -> str:
    """The labels of the whole note as bars, likeliest first: those that are given, and the next ones."""
    given = len(prediction.chosen)
    listed = prediction.labels[: max(BARS, given)]
    bars = "".join(_bar(said, number < given, slots) for number, said in enumerate(listed))
    rest = len(prediction.labels) - len(listed)
    more = f'<p class="sr-more">{count(rest, "less likely label")} not shown.</p>' if rest else ""
    rule = ""
    if prediction.threshold is not None:
        rule = f'<p class="sr-more">A label is given from {prediction.threshold:.0%} on; a note may have none.</p>'
    return f'<ol class="sr-bars">{bars}</ol>{more}{rule}'


def _bar(said: LabelScore, given: bool, slots: dict[str, str]) -> str:
    # The width is a class out of a fixed set, so that nothing a model says gets into an attribute.
    width = f"sr-w{min(100, max(0, round(100 * said.score)))}"
    classes = f"sr-bar {slots[said.label]}{' sr-given' if given else ''}"
    name = f'<span class="sr-name"><bdi>{escape(said.label)}</bdi></span>'
    track = f'<span class="sr-track"><span class="sr-fill {width}"></span></span>'
    return f'<li class="{classes}">{name}{track}<span class="sr-share">{percent(said.score)}</span></li>'


def _head(pane: Pane, number: int, slots: dict[str, str]) -> str:
    if pane.prediction:
        facts = _facts(pane.prediction)
    else:
        facts = "<span>failed</span>" if pane.error else f'<span class="sr-stage">{_stage(pane)}</span>'
    title = f"<h2>{letter(number)} {escape(pane.title or pane.name)}</h2>"
    ranking = _ranking(pane.prediction, slots) if pane.prediction and pane.prediction.labels else ""
    reference = "" if pane.name in (pane.title or pane.name) else f"<span>{escape(pane.name)}</span>"
    ruler = _ruler(pane.prediction.coverage) if pane.prediction else ""
    return f'<header class="sr-head">{title}<p class="sr-facts">{reference}{facts}</p>{ruler}{ranking}</header>'


def _stage(pane: Pane) -> str:
    if pane.stage == "waiting" and pane.ahead:
        return f"{_STAGES[pane.stage]}, {pane.ahead:,} before it"
    return _STAGES[pane.stage] + ("" if pane.progress is None else f", {pane.progress:.0%}")


def _facts(prediction: Prediction) -> str:
    ms = prediction.cost.latency_ms
    latency = f"{ms / 1000:.1f} s" if ms >= 1000 else f"{ms:.0f} ms"
    found = "" if answers(prediction.task) == "labels" else f"<span>{count(len(prediction.spans), 'span')}</span>"
    return f"{found}<span>{latency}</span>{_coverage(prediction.coverage)}"


def _coverage(coverage: Coverage) -> str:
    if coverage.tokens_read >= coverage.tokens and not coverage.unread:
        windows = f" in {count(coverage.windows, 'window')}" if coverage.windows > 1 else ""
        return f"<span>read all {count(coverage.tokens, 'token')}{windows}</span>"
    percent = 100 * coverage.tokens_read / max(coverage.tokens, 1)
    share = "less than 1%" if 0 < percent < 1 else f"{percent:.0f}%"
    return f'<span class="sr-partial">read {coverage.tokens_read:,} of {coverage.tokens:,} tokens ({share})</span>'


def _ruler(coverage: Coverage) -> str:
    """The note as a bar of tokens: what was read, where windows meet, and the tail that was not read."""
    many = min(CELLS, coverage.tokens)
    if not many:
        return ""
    starts = [number * coverage.tokens // many for number in range(many + 1)]
    cells = "".join(f'<span class="{_cell(coverage, *ends)}"></span>' for ends in pairwise(starts))
    tail = f'<span class="sr-tail">{NOT_READ}</span>' if coverage.tokens_read < coverage.tokens else ""
    scale = f'<p class="sr-scale"><span>0</span>{tail}<span>{count(coverage.tokens, "token")}</span></p>'
    return f'<div class="sr-ruler">{cells}</div>{scale}'


def _cell(coverage: Coverage, start: int, end: int) -> str:
    if start >= coverage.tokens_read:
        return "sr-tail"
    return "sr-read sr-seam" if any(start <= seam < end for seam in coverage.seams) else "sr-read"


class _Piece(NamedTuple):
    """text[start:end], which lies in one row and all in the same spans, disagreement and unread range, if any."""

    start: int
    end: int
    row: int
    spans: tuple[Span, ...]
    region: int | None
    unread: int | None  # where the unread range starts


def _pieces(text: str, prediction: Prediction | None, regions: dict[int, Disagreement]) -> Iterator[_Piece]:
    """Cut the text wherever anything starts or ends. Ranges may overlap, and may reach beyond the text."""
    opened, closed = defaultdict(list), defaultdict(list)
    for layer, key, start, end in _ranges(text, prediction, regions):
        start, end = max(start, 0), min(end, len(text))
        if start < end:
            opened[start].append((layer, key))
            closed[end].append((layer, key))
    inside = defaultdict(list)
    for start, end in pairwise(sorted({*opened, *closed})):
        for layer, key in closed.get(start, ()):
            inside[layer].remove(key)
        for layer, key in opened.get(start, ()):
            inside[layer].append(key)
        region, unread = ((inside[layer] or [None])[-1] for layer in ("region", "unread"))
        yield _Piece(start, end, inside["row"][0], tuple(inside["span"]), region, unread)


def _ranges(text: str, prediction: Prediction | None, regions: dict[int, Disagreement]) -> Iterator[tuple]:
    yield from (("row", number, start, end) for number, (start, end) in enumerate(rows(text)))
    yield from (("region", key, region.start, region.end) for key, region in regions.items())
    if prediction:
        spans = sorted(prediction.spans, key=lambda span: (span.start, -span.end))
        yield from (("span", span, span.start, span.end) for span in spans)
        yield from (("unread", max(start, 0), start, end) for start, end in prediction.coverage.unread)


def rows(text: str) -> list[tuple[int, int]]:
    """The lines of the text with their line feeds, as at most ROWS rows.

    Of many lines, neighbours share a row while they are short. A very long line is cut, after a space where it has one.
    """
    ends = [match.end() for match in _LINE.finditer(text)]
    if len(ends) <= ROWS:
        return list(pairwise([0, *ends]))
    room = 2 * len(text) // (ROWS - 2) + 1  # two neighbours have more characters than that, or would be one row
    found, start = [], 0
    for end, following in pairwise([*ends, len(text) + room + 1]):
        if following - start > room:
            found.append((start, end))
            start = end
    return found


class _Drawn(NamedTuple):
    """A pane while it is drawn; `regions` are the disagreements in which its arm has a vote."""

    text: str
    arm: str
    number: int
    regions: dict[int, Disagreement]
    compared: bool
    slots: dict[str, str]

    def line(self, pieces: list[_Piece]) -> str:
        """One row: neighbouring pieces of one disagreement and unread range share a wrapper."""
        runs = groupby(pieces, key=lambda piece: (piece.region, piece.unread))
        return "".join(self._run(region, unread, list(run)) for (region, unread), run in runs)

    def _run(self, region: int | None, unread: int | None, run: list[_Piece]) -> str:
        inner = "".join(map(self._marked, run))
        if region is not None:
            inner = self._region(region, inner, run)
        if unread is None:
            return inner
        label = silence(NOT_READ) if run[0].start == unread else ""
        return f'<span class="sr-unread">{label}{inner}</span>'

    def _region(self, key: int, inner: str, run: list[_Piece]) -> str:
        region = self.regions[key]
        place = f' id="{anchor(key, self.number)}"' if run[0].start == max(region.start, 0) else ""
        silent = region.votes[self.arm] is None
        if silent and run[-1].end == min(region.end, len(self.text)):
            inner += nothing(self.arm, region)
        kept = _kept_together(region.end - region.start)
        return f'<span class="sr-region{" sr-gap" if silent else ""}{kept}"{place}>{inner}</span>'

    def _marked(self, piece: _Piece) -> str:
        inner = escape(self.text[piece.start : piece.end])
        if not piece.spans:
            return inner
        ending = [span for span in reversed(piece.spans) if min(span.end, len(self.text)) == piece.end]
        chips = "".join(chip(span.label, self.slots, score=span.score) for span in ending)
        agreed = " sr-agreed" if self.compared and piece.region is None else ""
        kept = _kept_together(piece.end - piece.start)
        return f'<mark class="sr-span {self.slots[piece.spans[-1].label]}{agreed}{kept}">{inner}{chips}</mark>'
