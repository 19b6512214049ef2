"""Trivial answers that every model has to beat: their scores stand beside its own. No torch."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from trainer.datasets import Sentence
from trainer.datasets.tags import entities_of

LONGEST = 10  # words of a mention that is looked up
DICTIONARY, MAJORITY, HYPOTHESIS = "mentions of train, looked up", "most frequent label of train", "hypothesis only"
EVERY_PAIR = "every pair related, by the most frequent relation of train"

Words = tuple[str, ...]


class Dictionary:
    """The mentions of train with their most frequent entity type, whatever their case.

    Words that are no mention more often than they are one in train are left out.
    """

    def __init__(self, train: Sequence[Sentence]):
        counts: dict[Words, Counter[str]] = defaultdict(Counter)
        for sentence in train:
            for kind, first, last in entities_of(sentence.tags):
                counts[_folded(sentence.words[first : last + 1])][kind] += 1
        self.longest = min(LONGEST, max(map(len, counts), default=0))
        seen = Counter(words for each in train for words in self._phrases(each.words) if words in counts)
        self.kinds = {
            words: kinds.most_common(1)[0][0] for words, kinds in counts.items() if 2 * kinds.total() >= seen[words]
        }
        self.mentions = frozenset(counts)

    def tags(self, words: Sequence[str]) -> list[str]:
        """IOB2 tags of a sentence: from left to right the longest known mention that begins at each word."""
        folded, tags, place = _folded(words), ["O"] * len(words), 0
        while place < len(words):
            for size in range(min(self.longest, len(words) - place), 0, -1):
                if kind := self.kinds.get(folded[place : place + size]):
                    tags[place : place + size] = [f"B-{kind}"] + [f"I-{kind}"] * (size - 1)
                    place += size - 1
                    break
            place += 1
        return tags

    def knows(self, words: Sequence[str]) -> bool:
        """Whether these words are a mention in train."""
        return _folded(words) in self.mentions

    def _phrases(self, words: Sequence[str]) -> Iterator[Words]:
        folded = _folded(words)
        for start in range(len(folded)):
            for stop in range(start + 1, min(start + self.longest, len(folded)) + 1):
                yield folded[start:stop]


def majority(train: Sequence[Sequence[str]], labels: Sequence[str], items: int, *, negative: str | None) -> np.ndarray:
    """Every item with the most frequent label of train that says something: bool, (items, labels).

    train: the labels of each item of train; negative: the label that stands for none.
    """
    counts = Counter(label for each in train for label in each if label in labels and label != negative)
    predicted = np.zeros((items, len(labels)), dtype=bool)
    if counts:
        predicted[:, list(labels).index(counts.most_common(1)[0][0])] = True
    return predicted


def _folded(words: Sequence[str]) -> Words:
    return tuple(word.casefold() for word in words)
