"""The parts of an explanation by strength, and the same explanation in larger parts, without asking a model again."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trainer.errors import UnknownName
from workbench.explain.explanation import Attribution, Explanation
from workbench.explain.grains import GRAINS, part_numbers
from workbench.explain.methods import METHODS


class RankedPart(NamedTuple):
    """A part with its rank by absolute score, 1 the largest; share: of the sum of all absolute scores, 0 to 1."""

    rank: int
    start: int
    end: int
    score: float
    share: float


def rank_parts(explanation: Explanation) -> list[RankedPart]:
    """The parts whose score is not 0, largest absolute score first, equal ones in the order of the note."""
    parts = [part for part in explanation.attributions if part.score]
    total = sum(abs(part.score) for part in parts)
    parts.sort(key=lambda part: -abs(part.score))
    return [
        RankedPart(rank, part.start, part.end, part.score, abs(part.score) / total)
        for rank, part in enumerate(parts, 1)
    ]


def available_grains(explanation: Explanation) -> tuple[str, ...]:
    """The grains that an explanation can be shown at, its own last.

    Scores of pieces add up; those of a method that hides whole parts do not. Words are left out, since only the
    tokenizer knows which pieces make a word.
    """
    larger = GRAINS[: GRAINS.index(explanation.grain)] if METHODS[explanation.method].at == "pieces" else ()
    return (*(grain for grain in larger if grain != "word"), explanation.grain)


def coarsen(explanation: Explanation, text: str, grain: str) -> Explanation:
    """The explanation in larger parts, whose scores are sums. Faithfulness and checks stay those of the smaller parts.

    Raises UnknownName for a grain that is not one of available_grains(explanation).
    """
    if grain == explanation.grain:
        return explanation
    if grain not in (known := available_grains(explanation)):
        raise UnknownName("grain of this explanation", grain, known, next_step="Ask the model again at that grain.")
    parts = explanation.attributions
    return explanation.model_copy(update={"grain": grain, "attributions": tuple(_sums(parts, text, grain))})


def _sums(parts: Sequence[Attribution], text: str, grain: str) -> list[Attribution]:
    if not parts:
        return []
    starts, ends, scores = np.array([(part.start, part.end, part.score) for part in parts]).T
    owner = part_numbers(text, starts, grain)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    bounds = np.minimum.reduceat(starts, first), np.maximum.reduceat(ends, first)
    summed = zip(*bounds, np.bincount(owner, weights=scores), strict=True)
    return [Attribution(start=int(start), end=int(end), score=float(score)) for start, end, score in summed]
