"""Words with tags in any of the formats: CoNLL sentences, or documents with entities by offset."""

from collections.abc import Iterator
from pathlib import Path

from trainer.datasets.readers import Reporter, conll, raise_problem, spans
from trainer.datasets.readers.conll import PlacedSentence
from trainer.datasets.readers.entities import Tally


def has_documents(path: Path) -> bool:
    """Whether a split consists of whole documents rather than sentences."""
    return path.is_dir() or path.name.endswith(spans.ENDINGS)


def read(
    path: Path, *, name: str, report: Reporter = raise_problem, tally: Tally | None = None
) -> Iterator[PlacedSentence]:
    """The sentences or documents of a split, in order; the options are those of conll.read and spans.read."""
    if has_documents(path):
        return spans.read(path, name=name, report=report, tally=tally)
    return conll.read(path, name=name, report=report)
