"""Words with tags, whatever the format: CoNLL sentences, or documents with entities by offset."""

from collections.abc import Callable, Iterator
from pathlib import Path

from trainer.datasets import conll, spans
from trainer.datasets.conll import Placed
from trainer.errors import BadData


def is_documents(path: Path) -> bool:
    """Whether a split holds whole documents rather than sentences."""
    return path.is_dir() or path.name.endswith(spans.SUFFIXES)


def read(path: Path, *, name: str, report: Callable[[BadData], None] | None = None) -> Iterator[Placed]:
    """The sentences or documents of a split, in order; `name` and `report` as conll.read and spans.read take them."""
    options = {"name": name} | ({"report": report} if report else {})
    return (spans if is_documents(path) else conll).read(path, **options)
