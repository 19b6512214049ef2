"""What the files of a data set contain, split by split, as `trainer.datasets.report` counts it."""

from collections.abc import Mapping

from pydantic import Field

from trainer.datasets.cards import MarkedCounts, PairCounts, SentenceCounts, TextCounts


class SentenceContents(SentenceCounts):
    """A split of tagged sentences.

    labels: entities (B- tags) by type. lines: the line (1-based) where each label occurs first. longest: words.
    """

    labels: dict[str, int]
    lines: dict[str, int]
    longest: int


class MarkedContents(MarkedCounts):
    """Counts of a split whose documents mark entities by offset.

    given, overlapping, discontinuous, others, empty: as in datasets.readers.entities.Tally. attributes: how often each
    value occurs, by attribute and by the label of the entity.
    """

    labels: dict[str, int]
    lines: dict[str, int]
    longest: int
    given: int
    overlapping: int
    discontinuous: int
    others: int
    empty: int
    attributes: dict[str, dict[str, dict[str, int]]] = {}


class TextContents(TextCounts):
    """A split of text. longest: characters. repeated: documents that occur earlier in the same split.

    shares: of train, how many documents remain in it and how many serve as dev and test where there are no such files.
    """

    longest: int
    repeated: int
    shares: dict[str, int] = Field({}, exclude=True)


class LabelledContents(TextContents):
    """A split of labelled documents. labels: documents by label. lines: the line where each label occurs first."""

    labels: dict[str, int]
    lines: dict[str, int]
    multi_label: bool


class PairContents(PairCounts):
    """A split of pairs. longest: characters of both texts. repeated: pairs that occur earlier in the same split.

    labels: pairs by label. lines: the line where each label occurs first.
    """

    longest: int
    repeated: int
    labels: dict[str, int]
    lines: dict[str, int]


Contents = SentenceContents | MarkedContents | LabelledContents | PairContents | TextContents
_LABELLED = SentenceContents | MarkedContents | LabelledContents | PairContents


def labels_in(split: Contents) -> Mapping[str, int]:
    """How often each label occurs in a split; empty for text."""
    return split.labels if isinstance(split, _LABELLED) else {}


def first_lines_in(split: Contents) -> Mapping[str, int]:
    """The line where each label occurs first in a split; empty for text."""
    return split.lines if isinstance(split, _LABELLED) else {}
