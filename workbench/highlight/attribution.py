"""A note with its parts coloured by how much they support or oppose the target, model by model, and as a table.

Sign and strength are shown by colours, underlines and figures; the strongest parts carry their rank.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from trainer.errors import StillroomError
from workbench.explain.explanation import Explanation
from workbench.explain.methods import METHODS
from workbench.explain.ranking import RankedPart, rank_parts
from workbench.explain.wording import PARTS, Verdict, score_words
from workbench.highlight.markup import Html, concat, error_line, letter, line, missing_chip
from workbench.highlight.panes import LONG, NOT_READ, caution_line, rows

UNSEEN = f"{NOT_READ} for this answer"
CHIPS = 10  # parts that show rank and score in the note
LISTED = 100  # parts in the table
LEVELS = 10  # strengths in the style sheet
_EXCERPT, _SHORT = 60, 24  # characters
_PICTURE = Html('<div class="{}" role="region" aria-label="The note, part by part" tabindex="0">{}</div>')
_TABLE = Html('<div class="sr-scores" role="region" aria-label="The strongest parts" tabindex="0">{}{}</div>')


class Side(NamedTuple):
    """One model's answer as the page has it. `explanation` is at the grain shown, `account` says how it was computed.

    `waiting` says what is still being computed, and `share` how much of that is done, 0 to 1. `caution` is as in Pane.
    """

    name: str
    title: str = ""
    explanation: Explanation | None = None
    verdict: Verdict | None = None
    account: Sequence[str] = ()
    waiting: str = ""
    share: float | None = None
    error: StillroomError | None = None
    caution: str = ""


def attribution(text: str, sides: Sequence[Side], target: tuple[int, int] | None = None) -> Html:
    """The note once per side, and the table of its strongest parts; `target` is where the explained span lies."""
    rankings = [rank_parts(side.explanation) if side.explanation else [] for side in sides]
    places = _listed_places(rankings)
    several = len(sides) > 1
    drawn = [_side(text, side, number, several, target, places) for number, side in enumerate(sides)]
    classes = f"sr-panes sr-n{len(sides)}{' sr-long' if len(text) > LONG else ''}"
    picture = _PICTURE.format(classes, concat(drawn))
    table = _table(text, sides, rankings, places)
    return Html('<div class="sr"><div class="sr-why">{}{}</div></div>').format(picture, table)


# --- One side


def _side(
    text: str,
    side: Side,
    number: int,
    several: bool,
    target: tuple[int, int] | None,
    places: Sequence[tuple[int, int]],
) -> Html:
    section = Html('<section class="sr-pane{}" tabindex="0">{}{}{}</section>')
    head = _head(side, number if several else None)
    error = error_line(side.error) if side.error else ""
    if side.error and not side.explanation:
        return section.format(" sr-failed", head, error, "")
    painter = _Painter(text, side.explanation, number, target, {start for start, _ in places})
    lines = groupby(painter.pieces(), key=lambda piece: piece.row)
    classes = f"{' sr-doubted' if _doubted(side) else ''}{'' if side.explanation else ' sr-waiting'}"
    return section.format(classes, head, error, concat(line(painter.row(list(pieces))) for _, pieces in lines))


def _doubted(side: Side) -> bool:
    return side.verdict is not None and side.verdict.level == "doubtful"


def _head(side: Side, number: int | None) -> Html:
    waiting = Html('<span class="sr-stage">{}</span>').format(side.waiting) if side.waiting else ""
    return Html('<header class="sr-head sr-told"><h2>{}{}</h2><p class="sr-facts">{}{}</p>{}{}{}{}</header>').format(
        "" if number is None else Html("{} ").format(letter(number)),
        side.title or side.name,
        waiting,
        Html("<span>{}</span>").format(score_words(side.explanation)) if side.explanation else "",
        caution_line(side.caution) if side.explanation else "",
        _bar(side.share) if side.waiting and side.share is not None else "",
        _trust(side.verdict, side.account) if side.verdict else "",
        _legend(side.explanation) if side.explanation else "",
    )


def _bar(share: float) -> Html:
    width = min(100, max(0, round(100 * share)))
    return Html('<p class="sr-track sr-progress"><span class="sr-fill sr-w{}"></span></p>').format(width)


def _trust(verdict: Verdict, account: Sequence[str]) -> Html:
    """The verdict with its meaning; the figures and how they were computed behind "Details"."""
    figures = [*verdict.figures, f"{', '.join(account)}."] if account else verdict.figures
    details = Html("<details><summary>Details</summary>{}</details>") if figures else Html("{}")
    return Html('<div class="sr-trust sr-{}"><b>{}</b><p>{}</p>{}</div>').format(
        verdict.level, verdict.title, verdict.meaning, details.format(concat(map(Html("<p>{}</p>").format, figures)))
    )


def _legend(explanation: Explanation) -> Html:
    method, largest = METHODS[explanation.method], _largest(explanation)
    supporting, upper = _swatches("sr-for", (3, 6, 10)), score_figure(largest, explanation)
    if not method.signed:
        return Html('<p class="sr-legend"><span>0</span>{}<span>{}</span></p>').format(supporting, upper)
    return Html(
        '<p class="sr-legend"><span>opposes it {}</span>{}{}<span>{} supports it</span>'
        '<span class="sr-asked">what is explained</span></p>'
    ).format(score_figure(-largest, explanation), _swatches("sr-against", (10, 6, 3)), supporting, upper)


def _swatches(sign: str, levels: Iterable[int]) -> Html:
    return concat(Html('<span class="sr-part {} sr-s{}">&#8199;</span>').format(sign, level) for level in levels)


def _largest(explanation: Explanation) -> float:
    """The largest size of a score."""
    return max((abs(part.score) for part in explanation.attributions), default=0.0)


def score_figure(score: float, explanation: Explanation) -> str:
    """A score with two decimals, or two significant digits where all are small; signed if the method's scores are."""
    largest = _largest(explanation)
    digits = 2 if largest >= 0.1 or not largest else min(6, 1 - math.floor(math.log10(largest)))
    if abs(score) < 0.5 * 10**-digits:
        return f"{0:.{digits}f}"
    signed = "+" if METHODS[explanation.method].signed else ""
    return f"{score:{signed}.{digits}f}".replace("-", "\N{MINUS SIGN}")


class _Piece(NamedTuple):
    """text[start:end], which lies in one row and wholly in the same part, target and unread range, if any."""

    start: int
    end: int
    row: int
    part: int | None
    in_target: bool
    unread: int | None  # where the unread range starts


class _Layer:
    """Ranges of a text, clipped so that none overlap or exceed it; `at` finds the range at a position."""

    def __init__(self, ranges: Iterable[tuple[int, int]], length: int):
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.keys: list[int] = []  # where each was in `ranges`
        for key, (start, end) in sorted(enumerate(ranges), key=lambda item: item[1]):
            start, end = max(start, self.ends[-1] if self.ends else 0), min(end, length)
            if start < end:
                self.starts.append(start)
                self.ends.append(end)
                self.keys.append(key)

    def at(self, place: int) -> int | None:
        """The index in this layer of the range that contains a place."""
        index = bisect_right(self.starts, place) - 1
        return index if index >= 0 and place < self.ends[index] else None


class _Painter:
    """Draws the rows of one side. `linked` are the starts of the parts that the table links to."""

    def __init__(
        self,
        text: str,
        explanation: Explanation | None,
        number: int,
        target: tuple[int, int] | None,
        linked: set[int],
    ):
        self.text, self.number, self.linked = text, number, linked
        parts = [part for part in explanation.attributions if part.score] if explanation else []
        self.scored = _Layer([(part.start, part.end) for part in parts], len(text))
        self.parts = [parts[key] for key in self.scored.keys]
        self.largest = _largest(explanation) if explanation else 0.0
        strongest = sorted(range(len(self.parts)), key=lambda index: -abs(self.parts[index].score))[:CHIPS]
        self.chips = {
            index: Html('<span class="sr-chip"><b>{}</b> {}</span>').format(
                rank, score_figure(self.parts[index].score, explanation)
            )
            for rank, index in enumerate(strongest, 1)
            if explanation
        }
        self.target = _Layer([target] if target else [], len(text))
        self.unread = _Layer(explanation.coverage.unread if explanation else (), len(text))
        self.rows = _Layer(rows(text), len(text))

    def pieces(self) -> Iterator[_Piece]:
        """The text, cut wherever anything starts or ends."""
        layers = (self.rows, self.scored, self.target, self.unread)
        for start, end in pairwise(sorted({cut for layer in layers for cut in (*layer.starts, *layer.ends)})):
            unread = self.unread.at(start)
            yield _Piece(
                start,
                end,
                row=bisect_right(self.rows.starts, start),
                part=self.scored.at(start),
                in_target=self.target.at(start) is not None,
                unread=None if unread is None else self.unread.starts[unread],
            )

    def row(self, pieces: list[_Piece]) -> Html:
        """One row: neighbouring pieces of the target and of an unread range share a wrapper."""
        runs = groupby(pieces, key=lambda piece: (piece.in_target, piece.unread))
        return concat(self._run(in_target, unread, list(run)) for (in_target, unread), run in runs)

    def _run(self, in_target: bool, unread: int | None, run: list[_Piece]) -> Html:
        inner = concat(map(self._marked, run))
        if in_target:
            inner = Html('<span class="sr-asked">{}</span>').format(inner)
        if unread is None:
            return inner
        notice = missing_chip(UNSEEN) if run[0].start == unread else ""
        return Html('<span class="sr-unread">{}{}</span>').format(notice, inner)

    def _marked(self, piece: _Piece) -> Html:
        inner = Html.escape(self.text[piece.start : piece.end])
        if piece.part is None:
            return inner
        part, start, end = self.parts[piece.part], self.scored.starts[piece.part], self.scored.ends[piece.part]
        level, chip = round(LEVELS * abs(part.score) / self.largest), self.chips.get(piece.part)
        is_linked = piece.start == start == part.start and part.start in self.linked
        if not level and not chip and not is_linked:
            return inner
        sign = "sr-for" if part.score > 0 else "sr-against"
        short = " sr-short" if piece.end - piece.start <= _SHORT else ""
        return Html('<mark class="sr-part {} sr-s{}{}"{}>{}{}</mark>').format(
            sign,
            level,
            short,
            Html(' id="sr-p{}-{}"').format(part.start, self.number) if is_linked else "",
            inner,
            chip if chip and piece.end == end else "",
        )


# --- The table


def _listed_places(rankings: Sequence[Sequence[RankedPart]]) -> list[tuple[int, int]]:
    """Where the strongest parts of any side lie, by their best rank."""
    best: dict[tuple[int, int], int] = {}
    for part in (part for ranking in rankings for part in ranking[:LISTED]):
        place = (part.start, part.end)
        best[place] = min(part.rank, best.get(place, part.rank))
    return sorted(best, key=best.__getitem__)[:LISTED]


def _table(
    text: str,
    sides: Sequence[Side],
    rankings: Sequence[Sequence[RankedPart]],
    places: Sequence[tuple[int, int]],
) -> Html:
    if not places:
        return Html()
    by_place = [{(part.start, part.end): part for part in ranking} for ranking in rankings]
    first = next(side.explanation for side in sides if side.explanation)
    body = concat(_row(text, place, sides, [parts.get(place) for parts in by_place]) for place in places)
    total = max(map(len, rankings))
    listed = f"{len(places):,} of {total:,}" if total > len(places) else f"{total:,}"
    meaning = "Above 0 they support the finding, below 0 they oppose it." if METHODS[first.method].signed else ""
    caption = Html('<p class="sr-more">The strongest {} ({}). {} Share: of all scores, without their signs.</p>')
    table = Html("<table><thead>{}</thead><tbody>{}</tbody></table>").format(_columns(sides), body)
    return _TABLE.format(caption.format(PARTS[first.grain], listed, meaning), table)


def _columns(sides: Sequence[Side]) -> Html:
    letters = [Html("{} ").format(letter(number)) if len(sides) > 1 else Html() for number in range(len(sides))]
    ranks = concat(map(Html("<th>{}Rank</th>").format, letters))
    figures = concat(Html("<th>{0}Score</th><th>{0}Share</th>").format(side) for side in letters)
    return Html('<tr>{}<th class="sr-words">Part</th>{}</tr>').format(ranks, figures)


def _row(text: str, place: tuple[int, int], sides: Sequence[Side], parts: Sequence[RankedPart | None]) -> Html:
    start, end = place
    ranks = concat(Html("<td>{}</td>").format(f"{part.rank:,}" if part else "\N{EN DASH}") for part in parts)
    first = next(number for number, part in enumerate(parts) if part)
    inner = text[max(start, 0) : end]
    excerpt = " ".join((inner if len(inner) <= _EXCERPT else f"{inner[:_EXCERPT]}…").split())
    jump = Html('<a class="sr-jump" href="#sr-p{}-{}"><bdi>{}</bdi></a>').format(start, first, excerpt)
    figures = concat(_figures(part, side) for part, side in zip(parts, sides, strict=True))
    return Html('<tr>{}<td class="sr-words">{}</td>{}</tr>').format(ranks, jump, figures)


def _figures(part: RankedPart | None, side: Side) -> Html:
    if part is None or side.explanation is None:
        return Html("<td>\N{EN DASH}</td>" * 2)
    colour = "" if _doubted(side) else " sr-for" if part.score > 0 else " sr-against"
    share = "<1%" if part.share < 0.005 else f"{part.share:.0%}"
    return Html('<td><span class="sr-chip{}">{}</span></td><td>{}</td>').format(
        colour, score_figure(part.score, side.explanation), share
    )
