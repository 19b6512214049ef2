"""Tags of words and their probabilities as spans."""

from collections.abc import Iterator, Sequence

from trainer.datasets.tags import OUTSIDE, kind_of
from trainer.prediction import Span


def spans(words: Sequence[tuple[int, int]], tags: Sequence[str], scores: Sequence[float]) -> list[Span]:
    """Spans of adjacent words with one entity type; a B- tag starts a new one, an I- after O does too.

    words: [start, end) offsets of each word; scores: the probability of its tag. A span's score is the mean over
    its words: the grouping of transformers' token-classification pipeline with aggregation "first".
    """
    spans = []
    for first, last, kind in _groups(tags):
        score = sum(scores[first : last + 1]) / (last + 1 - first)
        spans.append(Span(start=words[first][0], end=words[last][1], label=kind, score=score))
    return spans


def _groups(tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """(first word, last word, entity type) of each run of tags that names one entity."""
    first, open_kind = 0, ""
    for index, tag in enumerate([*tags, OUTSIDE]):
        kind = kind_of(tag)
        if kind == open_kind and tag[0] != "B":
            continue
        if open_kind:
            yield first, index - 1, open_kind
        first, open_kind = index, kind
