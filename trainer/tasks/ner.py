"""Named-entity recognition: one IOB2 tag a word."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from trainer.prediction import Plain, Span

if TYPE_CHECKING:
    import torch

IGNORED = -100  # the label that cross-entropy skips


class Row(NamedTuple):
    """One training window: piece ids with special tokens, and a label id for each (IGNORED where none counts)."""

    input_ids: list[int]
    labels: list[int]


class NER(Plain):
    """Token classification with word-level tags.

    `labelling` says which pieces of a word carry its tag. "first" scores words, as the field does today. "all" is
    the scheme of the compact-biomedical and lightweight-clinical papers: every piece carries the word's tag
    unchanged (B- repeated), and scores count pieces, which inflates F1; never compare the two.
    """

    name: Literal["ner"] = "ner"
    labelling: Literal["first", "all"] = Field("first", description="Which word pieces carry the tag of their word")

    @staticmethod
    def tags(entity_types: Sequence[str]) -> tuple[str, ...]:
        """The IOB2 tags of some entity types, in an order that is the same in every run: O, B-a, I-a, B-b, ..."""
        return ("O", *(f"{prefix}-{kind}" for kind in sorted(entity_types) for prefix in "BI"))

    def encode(self, sentences: Sequence, tokenizer, *, label_ids: Mapping[str, int], max_tokens: int) -> list[Row]:
        """Training rows of `sentences` (words, tags); one longer than max_tokens becomes several rows, none is cut."""
        if not sentences:
            return []
        encoded = tokenizer(
            [list(sentence.words) for sentence in sentences],
            is_split_into_words=True,
            truncation=True,
            max_length=max_tokens,
            return_overflowing_tokens=True,
        )
        rows, started = [], (-1, -1)  # the (sentence, word) whose first piece came last
        for window, sentence in enumerate(encoded["overflow_to_sample_mapping"]):
            labels = []
            for word in encoded.word_ids(window):
                counts = word is not None and (self.labelling == "all" or (sentence, word) > started)
                labels.append(label_ids[sentences[sentence].tags[word]] if counts else IGNORED)
                if word is not None:
                    started = (sentence, word)
            rows.append(Row(encoded["input_ids"][window], labels))
        return rows

    @staticmethod
    def loss(logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        """Cross-entropy, mean over the labelled pieces of the batch.

        logits: (batch, tokens, tags); labels: (batch, tokens), IGNORED where nothing counts.
        """
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED)

    @staticmethod
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
    for index, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-") if tag[:2] in ("B-", "I-") else ("I", "", "" if tag == "O" else tag)
        if kind == open_kind and prefix != "B":
            continue
        if open_kind:
            yield first, index - 1, open_kind
        first, open_kind = index, kind
