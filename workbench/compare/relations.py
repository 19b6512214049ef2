"""The relations that models find in a note, as a list: each once, with how often and the score of each model.

Relations are the same where label, words and labels of both ends are the same, case and white space aside.
"""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from trainer.prediction import Prediction, Relation, Span
from workbench.compare.findings import spreadsheet_cell, words_of

NAMES = {"CID": "induces"}  # labels of relations whose own name is a code: chemical-induced disease


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


def in_words(label: str) -> str:
    """The label of a relation as pages show it; exports have the label itself."""
    return NAMES.get(label, label)


def as_csv(text: str, predictions: Sequence[Prediction], *, with_text: bool) -> str:
    """A row per relation: label, label and first place of both ends, times, the score of each model.

    Only with `with_text` two more columns have the words of the note.
    """
    buffer = io.StringIO()
    table = csv.writer(buffer)
    words = ("head words", "tail words") if with_text else ()
    columns = ("relation", "head", "head place", "tail", "tail place", "times")
    table.writerow((*words, *columns, *(f"score {prediction.model}" for prediction in predictions)))
    for each in list_relations(text, predictions):
        ends = [cell for end in each.ends for cell in (end.label, f"{end.start}-{end.end}")]
        words = (spreadsheet_cell(each.head), spreadsheet_cell(each.tail)) if with_text else ()
        table.writerow((*words, each.label, *ends, each.times, *each.scores))
    return buffer.getvalue()


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
