"""Sentences of running text, split into words, which a teacher labels for its student."""

import re
from collections.abc import Iterator
from itertools import islice

from trainer import datasets
from trainer.datasets.rows.words import words_in
from trainer.resolved import ResolvedDataset

END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9(\[])")
FEWEST, MOST = 4, 120  # words; shorter sentences are headings, longer ones tables


def passages(dataset: ResolvedDataset, *, limit: int | None = None) -> list[tuple[str, ...]]:
    """The words of the first `limit` sentences of train; the tags of a tagged data set are ignored."""
    if not datasets.is_text(dataset):
        return [sentence.words for sentence in datasets.load(dataset, "train", limit=limit)]
    stream = (words for document in datasets.documents(dataset, "train") for words in sentences(document))
    return list(islice(stream, limit))


def sentences(text: str) -> Iterator[tuple[str, ...]]:
    """The words of each sentence that is not a heading or a table.

    A sentence ends at . ! ? before a capital, a digit or a bracket.
    """
    for part in END.split(text):
        words = tuple(part[start:end] for start, end in words_in(part).places.tolist())
        if FEWEST <= len(words) <= MOST:
            yield words
