"""The parts of an explanation by strength, and the same explanation in larger parts, without asking a model again."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trainer.errors import UnknownName
from workbench.explain.explanation import Attribution, Explanation
from workbench.explain.grains import GRAINS, gather
from workbench.explain.methods import METHODS


class RankedPart(NamedTuple):
    """A part with its place among all, 1 being the strongest either way; share: of the sum of all sizes, 0 to 1."""

    rank: int
    start: int
    end: int
    score: float
    share: float


def rank_parts(explanation: Explanation) -> list[RankedPart]:
    """The parts with a score, strongest first, those of one strength as they stand in the note."""
    parts = [part for part in explanation.attributions if part.score]
    total = sum(abs(part.score) for part in parts)
    parts.sort(key=lambda part: -abs(part.score))
    return [
        RankedPart(rank, part.start, part.end, part.score, abs(part.score) / total)
        for rank, part in enumerate(parts, 1)
    ]


def grains_of(explanation: Explanation) -> tuple[str, ...]:
    """The grains that an explanation can be shown at, its own last. Scores of pieces add up; those of a method that
    hides whole parts do not. Pieces make larger parts, but only the tokenizer knows which ones make a word.
    """
    own = GRAINS.index(explanation.grain)
    larger = GRAINS[:own] if METHODS[explanation.method].at == "pieces" else ()
    return (*(grain for grain in larger if grain != "word"), explanation.grain)


def coarser(explanation: Explanation, text: str, grain: str) -> Explanation:
    """The explanation in larger parts, whose scores are sums. Faithfulness and checks stay those of the smaller ones.

    Raises UnknownName for a grain that is not one of grains_of(explanation).
    """
    if grain == explanation.grain:
        return explanation
    if grain not in (known := grains_of(explanation)):
        raise UnknownName("grain of this explanation", grain, known, next_step="Ask the model again at that grain.")
    parts = explanation.attributions
    return explanation.model_copy(update={"grain": grain, "attributions": tuple(_sums(parts, text, grain))})


def _sums(parts: Sequence[Attribution], text: str, grain: str) -> list[Attribution]:
    if not parts:
        return []
    starts, ends, scores = np.array([(part.start, part.end, part.score) for part in parts]).T
    owner = gather(text, starts, grain)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    bounds = np.minimum.reduceat(starts, first), np.maximum.reduceat(ends, first)
    summed = zip(*bounds, np.bincount(owner, weights=scores), strict=True)
    return [Attribution(start=int(start), end=int(end), score=float(score)) for start, end, score in summed]
