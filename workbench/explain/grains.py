"""The parts of a note that get scores: section, sentence, phrase, word, piece, each inside the one before.

Every part consists of whole word pieces and lies within one part of each coarser grain, so scores add up. Parts begin
and end where words do (see datasets.rows.words): never at white space, never between a letter and its combining mark.
Words that share a piece form one part.
"""

import re
from typing import Literal, NamedTuple, get_args

import numpy as np

from trainer.datasets.rows.pieces import Pieces
from trainer.datasets.rows.sentences import sentence_starts, uniform_lines
from trainer.datasets.rows.words import Alignment, characters_in, words_in
from trainer.errors import UnknownName

Grain = Literal["section", "sentence", "phrase", "word", "piece"]
GRAINS: tuple[str, ...] = get_args(Grain)

# A line in capitals, or anything short before a colon that ends the line; capitals before a colon may run on.
_HEADING = re.compile(
    r"^[ \t]*(?:[A-Z][A-Z0-9 ,/&()'-]{2,60}(?=:|[ \t]*$)|[A-Z][\w ,/&()'-]{1,60}:[ \t]*$)", re.MULTILINE
)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_PHRASE = re.compile(r"[,;:)\]]\s+|\s(?=[(\[])")


class Units(NamedTuple):
    """The parts of a text at one grain: places (units, 2) in code points, owner (pieces,) the unit of each piece."""

    places: np.ndarray
    owner: np.ndarray

    def sums(self, scores: np.ndarray) -> np.ndarray:
        """The sum of the scores (pieces,) of each unit's pieces: (units,)."""
        return np.bincount(self.owner, weights=scores, minlength=len(self.places))


def find_units(text: str, pieces: Pieces, grain: str) -> Units:
    """The parts of a text. Pieces that share a character (an emoji in bytes) stay together. Raises UnknownName."""
    if grain not in GRAINS:
        raise UnknownName("grain", grain, GRAINS)
    if not len(pieces):
        return Units(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64))
    parts = pieces.align((characters_in if grain == "piece" else words_in)(text))
    reached = np.maximum.accumulate(parts.last)  # (pieces,)
    first = np.flatnonzero((parts.first <= parts.last) & (parts.first > np.append(-1, reached[:-1])))
    if grain not in ("piece", "word"):
        first = first[_opening(text, parts.words.starts[parts.first[first]], grain)]
    return _units(parts, pieces, first, reached)


def _units(parts: Alignment, pieces: Pieces, first: np.ndarray, reached: np.ndarray) -> Units:
    """Units that begin at these pieces. Blanks belong to the unit before them, at the start to the first."""
    if not len(first):  # a text of blanks
        return Units(np.full((1, 2), pieces.starts[0], dtype=np.int64), np.zeros(len(pieces), dtype=np.int64))
    last = reached[np.append(first[1:], len(pieces)) - 1]
    places = np.stack([parts.words.starts[parts.first[first]], parts.words.ends[last]], axis=1)
    owner = np.searchsorted(first, np.arange(len(pieces)), side="right") - 1
    return Units(places, owner.clip(min=0))


def part_numbers(text: str, starts: np.ndarray, grain: str) -> np.ndarray:
    """The number of the section, sentence or phrase that each part lies in, by the part's start: (parts,).

    Words or larger parts, where find_units() takes pieces.
    """
    return np.cumsum(_opening(text, starts, grain)) - 1


def _opening(text: str, starts: np.ndarray, grain: str) -> np.ndarray:
    """Whether each of these parts is the first of a section, sentence or phrase: (parts,)."""
    number = np.searchsorted(find_breaks(text, grain), starts, side="right")
    return np.append(True, number[1:] > number[:-1])[: len(starts)]


def find_breaks(text: str, grain: str) -> np.ndarray:
    """Offsets where a section, sentence or phrase begins, sorted, without the first of the text."""
    lines = uniform_lines(text)
    offsets = set(_sections(lines))
    if grain in ("sentence", "phrase"):
        offsets |= set(sentence_starts(text).tolist())
    if grain == "phrase":
        offsets |= {match.end() for match in _PHRASE.finditer(lines)}
    return np.array(sorted(offsets), dtype=np.int64)


def find_heading(text: str, place: int) -> str:
    """The heading of the section that contains an offset, without its colon; empty where there is none before it."""
    before = [match for match in _HEADING.finditer(uniform_lines(text)) if match.start() <= place]
    return before[-1].group().strip().rstrip(":").rstrip() if before else ""


def _sections(lines: str) -> list[int]:
    """Where headings begin; in a note without headings, where paragraphs begin."""
    headings = [match.start() for match in _HEADING.finditer(lines)]
    return headings or [match.end() for match in _PARAGRAPH.finditer(lines)]
