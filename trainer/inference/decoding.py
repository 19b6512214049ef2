"""Decoding: from the tag of each word to spans of text."""

from collections.abc import Callable, Sequence

from trainer.datasets.tags import entities_of
from trainer.prediction import AttributeValue, Span


def spans(
    words: Sequence[tuple[int, int]],
    tags: Sequence[str],
    scores: Sequence[float],
    attributes: Callable[[int, int, str], dict[str, AttributeValue]] = lambda *_: {},
) -> list[Span]:
    """The spans of adjacent words of one entity type; B- starts a new span, and so does I- after O.

    words: [start, end) offsets of each word; scores: the probability of its tag. A span's score is the mean over its
    words. Grouping and scores are those of transformers' token-classification pipeline with aggregation "first".
    attributes: those of a span by its first word, its last word and its entity type.
    """
    spans = []
    for kind, first, last in entities_of(tags):
        score = sum(scores[first : last + 1]) / (last + 1 - first)
        start, end = words[first][0], words[last][1]
        spans.append(Span(start=start, end=end, label=kind, score=score, attributes=attributes(first, last, kind)))
    return spans
