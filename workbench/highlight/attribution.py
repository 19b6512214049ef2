"""A note with its parts coloured by how much they speak for a target, model by model, and the same as a table.

Sign and strength are colours, underlines and figures; the strongest parts carry their rank.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from trainer.errors import StillroomError
from workbench.explain.explanation import Explanation
from workbench.explain.methods import METHODS
from workbench.explain.ranking import Ranked, ranked
from workbench.explain.wording import PARTS, Verdict
from workbench.highlight.markup import Html, escape, letter, line, silence
from workbench.highlight.panes import LONG, NOT_READ, rows

UNSEEN = f"{NOT_READ} for this answer"
CHIPS = 10  # parts that carry rank and score in the note
LISTED = 100  # parts in the table
LEVELS = 10  # strengths of the style sheet
_EXCERPT, _SHORT = 60, 24  # characters
_PICTURE_IS = 'role="region" aria-label="The note, part by part" tabindex="0"'
_TABLE_IS = 'role="region" aria-label="The strongest parts" tabindex="0"'


class Side(NamedTuple):
    """One model's answer as the page has it. `explanation` is at the grain shown, `account` says how it was computed.

    waiting: what is awaited, in words, and `share` how much of that is done, 0 to 1; empty where nothing is.
    """

    name: str
    title: str = ""
    explanation: Explanation | None = None
    verdict: Verdict | None = None
    account: Sequence[str] = ()
    waiting: str = ""
    share: float | None = None
    error: StillroomError | None = None


def attribution(text: str, sides: Sequence[Side], asked: tuple[int, int] | None = None) -> Html:
    """The note once for each side, and the table of its strongest parts; `asked` is the place of the target."""
    orders = [ranked(side.explanation) if side.explanation else [] for side in sides]
    listed = _listed(orders)
    many = len(sides) > 1
    drawn = [_side(text, side, number, many, asked, listed) for number, side in enumerate(sides)]
    long = " sr-long" if len(text) > LONG else ""
    picture = f'<div class="sr-panes sr-n{len(sides)}{long}" {_PICTURE_IS}>{"".join(drawn)}</div>'
    beside = _table(text, sides, orders, listed)
    return Html(f'<div class="sr"><div class="sr-why">{picture}{beside}</div></div>')


# --- One side


def _side(
    text: str, side: Side, number: int, many: bool, asked: tuple[int, int] | None, listed: Sequence[tuple[int, int]]
) -> str:
    head = _head(side, number if many else None)
    if side.error and not side.explanation:
        return f'<section class="sr-pane sr-failed" tabindex="0">{head}{_error(side.error)}</section>'
    painter = _Painter(text, side.explanation, number, asked, {start for start, _ in listed})
    lines = groupby(painter.pieces(), key=lambda piece: piece.row)
    inner = "".join(line(painter.row(list(pieces))) for _, pieces in lines)
    doubted = " sr-doubted" if _doubted(side) else ""
    waiting = "" if side.explanation else " sr-waiting"
    error = _error(side.error) if side.error else ""
    return f'<section class="sr-pane{doubted}{waiting}" tabindex="0">{head}{error}{inner}</section>'


def _doubted(side: Side) -> bool:
    return side.verdict is not None and side.verdict.level == "doubtful"


def _error(error: StillroomError) -> str:
    return f'<p class="sr-error"><b>{escape(error.message)}</b> {escape(error.next_step)}</p>'


def _head(side: Side, number: int | None) -> str:
    title = f"<h2>{'' if number is None else f'{letter(number)} '}{escape(side.title or side.name)}</h2>"
    facts = "".join(f"<span>{escape(fact)}</span>" for fact in side.account)
    waiting = f'<span class="sr-stage">{escape(side.waiting)}</span>' if side.waiting else ""
    bar = _bar(side.share) if side.waiting and side.share is not None else ""
    legend = _legend(side.explanation) if side.explanation else ""
    trust = _trust(side.verdict) if side.verdict else ""
    return (
        f'<header class="sr-head sr-told">{title}<p class="sr-facts">{waiting}{facts}</p>{bar}{trust}{legend}</header>'
    )


def _bar(share: float) -> str:
    width = f"sr-w{min(100, max(0, round(100 * share)))}"
    return f'<p class="sr-track sr-progress"><span class="sr-fill {width}"></span></p>'


def _trust(verdict: Verdict) -> str:
    reasons = "".join(f"<p>{escape(reason)}</p>" for reason in verdict.reasons)
    return f'<div class="sr-trust sr-{verdict.level}"><b>{escape(verdict.title)}</b>{reasons}</div>'


def _legend(explanation: Explanation) -> str:
    method, most = METHODS[explanation.method], _most(explanation)
    for_it = _swatches("sr-for", (3, 6, 10))
    end = f"{for_it}<span>{_number(most, explanation)} speaks for it</span>"
    unit = f"<span>{escape(method.unit)}</span>"
    if not method.signed:
        return f'<p class="sr-legend"><span>0</span>{for_it}<span>{_number(most, explanation)}</span>{unit}</p>'
    against = _swatches("sr-against", (10, 6, 3))
    return (
        f'<p class="sr-legend"><span>speaks against it {_number(-most, explanation)}</span>{against}{end}'
        f'{unit}<span class="sr-asked">what is asked about</span></p>'
    )


def _swatches(sign: str, levels: Iterable[int]) -> str:
    return "".join(f'<span class="sr-part {sign} sr-s{level}">&#8199;</span>' for level in levels)


def _most(explanation: Explanation) -> float:
    return max((abs(part.score) for part in explanation.attributions), default=0.0)


def _number(score: float, explanation: Explanation) -> str:
    """A score with two digits, or with two that count where all are small; a sign where the method gives one."""
    small = _most(explanation) < 0.1
    if not small and abs(score) < 0.005:
        return "0.00"
    signed = "+" if METHODS[explanation.method].signed else ""
    return f"{score:{signed}{'.1e' if small else '.2f'}}".replace("-", "\N{MINUS SIGN}")


class _Piece(NamedTuple):
    """text[start:end], which lies in one row and all in the same part, target and unread range, if any."""

    start: int
    end: int
    row: int
    part: int | None
    asked: bool
    unread: int | None  # where the unread range starts


class _Layer:
    """Ranges of a text that do not overlap, clipped to it, found by place."""

    def __init__(self, ranges: Iterable[tuple[int, int]], length: int):
        self.starts, self.ends, self.keys = [], [], []
        for key, (start, end) in sorted(enumerate(ranges), key=lambda each: each[1]):
            start, end = max(start, self.ends[-1] if self.ends else 0), min(end, length)
            if start < end:
                self.starts.append(start)
                self.ends.append(end)
                self.keys.append(key)

    def at(self, place: int) -> int | None:
        """Where in this layer the range is that holds a place."""
        index = bisect_right(self.starts, place) - 1
        return index if index >= 0 and place < self.ends[index] else None


class _Painter:
    """One side while it is drawn. `anchored` are the starts of the parts that the table jumps to."""

    def __init__(
        self,
        text: str,
        explanation: Explanation | None,
        number: int,
        asked: tuple[int, int] | None,
        anchored: set[int],
    ):
        self.text, self.explanation, self.number, self.anchored = text, explanation, number, anchored
        parts = [part for part in explanation.attributions if part.score] if explanation else []
        self.scored = _Layer([(part.start, part.end) for part in parts], len(text))
        self.parts = [parts[key] for key in self.scored.keys]
        self.most = _most(explanation) if explanation else 0.0
        strongest = sorted(range(len(self.parts)), key=lambda index: -abs(self.parts[index].score))[:CHIPS]
        self.ranks = {index: rank for rank, index in enumerate(strongest, 1)}
        self.asked = _Layer([asked] if asked else [], len(text))
        self.unread = _Layer(explanation.coverage.unread if explanation else (), len(text))
        self.rows = _Layer(rows(text), len(text))

    def pieces(self) -> Iterator[_Piece]:
        """The text, cut wherever anything starts or ends."""
        layers = (self.rows, self.scored, self.asked, self.unread)
        for start, end in pairwise(sorted({cut for layer in layers for cut in (*layer.starts, *layer.ends)})):
            unread = self.unread.at(start)
            yield _Piece(
                start,
                end,
                self.rows.at(start),
                self.scored.at(start),
                self.asked.at(start) is not None,
                None if unread is None else self.unread.starts[unread],
            )

    def row(self, pieces: list[_Piece]) -> str:
        """One row: neighbouring pieces of the target and of an unread range share a wrapper."""
        runs = groupby(pieces, key=lambda piece: (piece.asked, piece.unread))
        return "".join(self._run(asked, unread, list(run)) for (asked, unread), run in runs)

    def _run(self, asked: bool, unread: int | None, run: list[_Piece]) -> str:
        inner = "".join(map(self._marked, run))
        if asked:
            inner = f'<span class="sr-asked">{inner}</span>'
        if unread is None:
            return inner
        label = silence(UNSEEN) if run[0].start == unread else ""
        return f'<span class="sr-unread">{label}{inner}</span>'

    def _marked(self, piece: _Piece) -> str:
        inner = escape(self.text[piece.start : piece.end])
        if piece.part is None:
            return inner
        part, start = self.parts[piece.part], self.scored.starts[piece.part]
        level, rank = round(LEVELS * abs(part.score) / self.most), self.ranks.get(piece.part)
        anchor = f' id="sr-p{part.start}-{self.number}"' if self._anchors(part.start, start, piece) else ""
        if not level and not rank and not anchor:
            return inner
        chip = self._chip(rank, part.score) if rank and piece.end == self.scored.ends[piece.part] else ""
        sign = "sr-for" if part.score > 0 else "sr-against"
        kept = " sr-short" if piece.end - piece.start <= _SHORT else ""
        return f'<mark class="sr-part {sign} sr-s{level}{kept}"{anchor}>{inner}{chip}</mark>'

    def _anchors(self, own: int, start: int, piece: _Piece) -> bool:
        return piece.start == start == own and own in self.anchored

    def _chip(self, rank: int, score: float) -> str:
        return f'<span class="sr-chip"><b>{rank}</b> {_number(score, self.explanation)}</span>'


# --- The table


def _listed(orders: Sequence[Sequence[Ranked]]) -> list[tuple[int, int]]:
    """The places of the strongest parts of any side, by their best rank."""
    best: dict[tuple[int, int], int] = {}
    for part in (part for order in orders for part in order[:LISTED]):
        place = (part.start, part.end)
        best[place] = min(part.rank, best.get(place, part.rank))
    return sorted(best, key=best.get)[:LISTED]


def _table(
    text: str, sides: Sequence[Side], orders: Sequence[Sequence[Ranked]], listed: Sequence[tuple[int, int]]
) -> str:
    if not listed:
        return ""
    found = [{(part.start, part.end): part for part in order} for order in orders]
    grain = next(side.explanation.grain for side in sides if side.explanation)
    body = "".join(_listing(text, place, sides, found) for place in listed)
    total = max(map(len, orders))
    more = f"{len(listed):,} of {total:,}" if total > len(listed) else f"{total:,}"
    caption = f'<p class="sr-more">The strongest {PARTS[grain]}, {more}. Share: of the sum of all sizes.</p>'
    table = f"<table><thead>{_columns(sides)}</thead><tbody>{body}</tbody></table>"
    return f'<div class="sr-scores" {_TABLE_IS}>{caption}{table}</div>'


def _columns(sides: Sequence[Side]) -> str:
    many = len(sides) > 1
    tags = [f"{letter(number)} " if many else "" for number in range(len(sides))]
    figures = "".join(f"<th>{tag}Score</th><th>{tag}Share</th>" for tag in tags)
    ranks = "".join(f"<th>{tag}Rank</th>" for tag in tags)
    return f'<tr>{ranks}<th class="sr-words">Part</th>{figures}</tr>'


def _listing(
    text: str, place: tuple[int, int], sides: Sequence[Side], found: Sequence[dict[tuple[int, int], Ranked]]
) -> str:
    own = [each.get(place) for each in found]
    ranks = "".join(f"<td>{part.rank:,}</td>" if part else "<td>\N{EN DASH}</td>" for part in own)
    number = next(number for number, part in enumerate(own) if part)
    inner = text[max(place[0], 0) : place[1]]
    shown = " ".join((inner if len(inner) <= _EXCERPT else f"{inner[:_EXCERPT]}…").split())
    jump = f'<a class="sr-jump" href="#sr-p{place[0]}-{number}"><bdi>{escape(shown)}</bdi></a>'
    figures = "".join(_figures(part, side) for part, side in zip(own, sides, strict=True))
    return f'<tr>{ranks}<td class="sr-words">{jump}</td>{figures}</tr>'


def _figures(part: Ranked | None, side: Side) -> str:
    if part is None:
        return "<td>\N{EN DASH}</td>" * 2
    sign = " sr-for" if part.score > 0 else " sr-against"
    coloured = "" if _doubted(side) else sign
    score = f'<span class="sr-chip{coloured}">{_number(part.score, side.explanation)}</span>'
    share = "&lt; 1%" if part.share < 0.005 else f"{part.share:.0%}"
    return f"<td>{score}</td><td>{share}</td>"
