"""The relations that models find in a note, as a list: each once, with how often and the score of each model.

Relations are the same where label, words and labels of both ends are the same, case and white space aside.
"""

from collections.abc import Sequence
from typing import NamedTuple

from trainer.prediction import Prediction, Relation, Span
from workbench.compare.findings import words_of


class RelatedPair(NamedTuple):
    """A relation that was found, once or several times.

    head, tail: the words of both ends, as the note has them first, with their places and labels in `ends`. times: the
    most that one model finds it. scores: the highest of each model, None where a model does not find it.
    """

    head: str
    tail: str
    label: str
    ends: tuple[Span, Span]
    times: int
    scores: tuple[float | None, ...]


def list_relations(text: str, predictions: Sequence[Prediction]) -> list[RelatedPair]:
    """Every relation of any model, in the order of the note."""
    same: dict[tuple[object, ...], list[tuple[int, Relation, tuple[Span, Span]]]] = {}
    for number, prediction in enumerate(predictions):
        for relation in prediction.relations or ():
            ends = (prediction.spans[relation.head], prediction.spans[relation.tail])
            key = (relation.label, *((words_of(text, end).casefold(), end.label) for end in ends))
            same.setdefault(key, []).append((number, relation, ends))
    return sorted((_pair(text, each, len(predictions)) for each in same.values()), key=_order)


def _pair(text: str, same: Sequence[tuple[int, Relation, tuple[Span, Span]]], models: int) -> RelatedPair:
    ends = min((ends for _, _, ends in same), key=lambda each: (each[0].start, each[1].start))
    scores = [[relation.score for number, relation, _ in same if number == model] for model in range(models)]
    return RelatedPair(
        head=words_of(text, ends[0]),
        tail=words_of(text, ends[1]),
        label=same[0][1].label,
        ends=ends,
        times=max(map(len, scores)),
        scores=tuple(max(each, default=None) for each in scores),
    )


def _order(pair: RelatedPair) -> tuple[int, int, str]:
    return (min(end.start for end in pair.ends), pair.ends[0].start, pair.label)
