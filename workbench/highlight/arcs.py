"""Relations drawn as arcs over the passage of the note that holds both findings.

Characters have one width, so that a finding stands where its offsets say. Only numbers get into attributes.
"""

from collections.abc import Iterator, Sequence, Set
from itertools import groupby
from typing import NamedTuple

from trainer.prediction import Prediction, Span
from workbench.compare.relations import in_words
from workbench.highlight.markup import Html, concat, displayable

LEVEL = 1.7  # the height of a level of arcs, in letters
AROUND = 24  # characters of the note before and after a passage
LONGEST = 400  # characters of a passage that is drawn
DRAWN = 20  # passages


class Arc(NamedTuple):
    """A relation in a passage: the places of head and tail, its label, and the level of its arc, 1 the lowest."""

    head: Span
    tail: Span
    label: str
    level: int

    @property
    def left(self) -> int:
        """Where the first of both ends starts."""
        return min(self.head.start, self.tail.start)

    @property
    def right(self) -> int:
        """Where the last of both ends ends."""
        return max(self.head.end, self.tail.end)


def relation_arcs(text: str, prediction: Prediction) -> Html:
    """A picture per passage with relations, in the note's order; empty where no relation lies in a short passage."""
    passages = list(_passages(prediction))
    drawn = [each for each in passages if each[-1].right - each[0].left <= LONGEST][:DRAWN]
    if not drawn:
        return Html()
    left_out = sum(map(len, passages)) - sum(map(len, drawn))
    more = Html('<p class="sr-more">{:,} more are in the table: their findings stand too far apart.</p>')
    return concat([*(_picture(text, arcs) for arcs in drawn), more.format(left_out) if left_out else ""])


def _passages(prediction: Prediction) -> Iterator[list[Arc]]:
    """Relations that overlap, the passage ending with the arc that reaches furthest."""
    spans = prediction.spans
    arcs = [Arc(spans[each.head], spans[each.tail], each.label, 1) for each in prediction.relations or ()]
    passage: list[Arc] = []
    for arc in sorted(arcs, key=lambda arc: (arc.left, arc.right)):
        if passage and arc.left > passage[-1].right:
            yield passage
            passage = []
        below = {other.level for other in passage if other.right > arc.left}
        level = next(level for level in range(1, len(below) + 2) if level not in below)
        passage = sorted([*passage, arc._replace(level=level)], key=lambda arc: arc.right)
    if passage:
        yield passage


def _picture(text: str, arcs: Sequence[Arc]) -> Html:
    start = max(0, min(arc.left for arc in arcs) - AROUND)
    end = min(len(text), arcs[-1].right + AROUND)
    ends = {place for arc in arcs for span in (arc.head, arc.tail) for place in range(span.start, span.end)}
    mark = Html('<mark class="sr-end">{}</mark>')
    words = concat(mark.format(run) if inside else run for inside, run in _runs(text[start:end], start, ends))
    picture = Html(
        '<div class="sr-arcs" tabindex="0"><div class="sr-lift" style="height:{:.1f}em"></div>{}<p>{}</p></div>'
    )
    return picture.format(LEVEL * (1 + max(arc.level for arc in arcs)), concat(_arc(arc, start) for arc in arcs), words)


def _arc(arc: Arc, start: int) -> Html:
    """From the middle of the head to that of the tail, with an arrow at the tail and the label on top."""
    head, tail = ((span.start + span.end) / 2 - start for span in (arc.head, arc.tail))
    direction = "sr-forth" if tail > head else "sr-back"
    box = Html('<div class="sr-arc {}" style="left:{:.1f}ch;width:{:.1f}ch;height:{:.1f}em"><b>{}</b></div>')
    return box.format(Html(direction), min(head, tail), abs(tail - head), LEVEL * arc.level, in_words(arc.label))


def _runs(passage: str, start: int, marked: Set[int]) -> Iterator[tuple[bool, str]]:
    """A passage that begins at `start`, in runs that are marked or not."""
    for inside, signs in groupby(enumerate(_line(passage), start), key=lambda pair: pair[0] in marked):
        yield inside, "".join(sign for _, sign in signs)


def _line(text: str) -> str:
    """Text in one line, a character for each of its characters."""
    return "".join(" " if sign.isspace() else sign for sign in displayable(text))
