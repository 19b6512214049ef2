"""Words with tags, whatever the format: CoNLL sentences, or documents with entities by offset."""

from collections.abc import Callable, Iterator
from pathlib import Path

from trainer.datasets.readers import conll, spans
from trainer.datasets.readers.conll import Placed
from trainer.datasets.readers.entities import Tally, raise_it
from trainer.errors import BadData


def is_documents(path: Path) -> bool:
    """Whether a split holds whole documents rather than sentences."""
    return path.is_dir() or path.name.endswith(spans.ENDINGS)


def read(
    path: Path, *, name: str, report: Callable[[BadData], None] = raise_it, tally: Tally | None = None
) -> Iterator[Placed]:
    """The sentences or documents of a split, in order; options as conll.read and spans.read take them."""
    if is_documents(path):
        return spans.read(path, name=name, report=report, tally=tally)
    return conll.read(path, name=name, report=report)
