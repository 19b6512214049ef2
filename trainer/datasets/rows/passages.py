"""Sentences of running text, cut into words as the tagged data sets are: what a teacher labels for its student."""

import re
from collections.abc import Iterator
from itertools import islice

from trainer import datasets
from trainer.datasets.rows.words import words_in
from trainer.resolved import ResolvedDataset

END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9(\[])")
FEWEST, MOST = 4, 120  # words; shorter ones are headings, longer ones tables


def passages(dataset: ResolvedDataset, *, limit: int | None = None) -> list[tuple[str, ...]]:
    """The words of the first `limit` sentences of the training split; of a tagged data set the tags are ignored."""
    if not datasets.is_text(dataset):
        return [sentence.words for sentence in datasets.load(dataset, "train", limit=limit)]
    found = (words for document in datasets.documents(dataset, "train") for words in sentences(document))
    return list(islice(found, limit))


def sentences(text: str) -> Iterator[tuple[str, ...]]:
    """The words of each sentence that is no heading and no table; a sentence ends at . ! ? before a capital."""
    for part in END.split(text):
        words = tuple(part[start:end] for start, end in words_in(part).places.tolist())
        if FEWEST <= len(words) <= MOST:
            yield words
