"""Data sets: finding, reading and checking them. Nothing here needs torch."""

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

from trainer.datasets.cards import DatasetCard, cards, digest, resolve, split_files
from trainer.datasets.conll import Placed, Sentence, read, write
from trainer.datasets.report import Report, check
from trainer.errors import BadData, CorruptFile
from trainer.run import ResolvedDataset

__all__ = [
    "DatasetCard",
    "Report",
    "Sentence",
    "cards",
    "check",
    "entity_types",
    "load",
    "require_labels",
    "resolve",
    "write",
]


def load(reference: str | ResolvedDataset, split: str, *, limit: int | None = None) -> list[Sentence]:
    """The sentences of a split, only the first `limit` where that is given (the rest is then neither read nor checked).

    Raises BadData with file and line for a row that is not `word<TAB>tag` in IOB2, for a split that is empty or not
    there; CorruptFile where a resolved data set is no longer the one that was resolved.
    """
    sentences = [placed.sentence for placed in islice(_stream(_folder(reference), split), limit)]
    if not sentences:
        raise BadData(f"the split {split!r} holds no sentence.", path=_name(reference))
    return sentences


def entity_types(sentences: Iterable[Sentence]) -> tuple[str, ...]:
    """The entity types of the tags, sorted, without B- and I-."""
    return tuple(sorted({tag[2:] for tag in {tag for sentence in sentences for tag in sentence.tags} if tag != "O"}))


def require_labels(reference: str | ResolvedDataset, split: str, known: Collection[str]) -> None:
    """Raise BadData at the first line of the split whose entity type is none of `known` (types, without B- and I-)."""
    folder = _folder(reference)
    for (_, tags), lines in _stream(folder, split):
        for tag, line in zip(tags, lines, strict=True):
            if tag != "O" and tag[2:] not in known:
                place = f"{folder.name}/{split_files(folder)[split].name}"
                next_step = "Rename the types of the file, or train a model on this data set first."
                what = f"the model does not know the entity type {tag[2:]!r}; it knows {', '.join(sorted(known))}."
                raise BadData(what, path=place, line=line, next_step=next_step)


def _folder(reference: str | ResolvedDataset) -> Path:
    if isinstance(reference, str):
        return Path(resolve(reference).path)
    if digest(Path(reference.path)) != reference.sha256:
        next_step = "Restore its files, or submit a new job, which will use them as they are now."
        raise CorruptFile(f"The data set {_name(reference)!r} has changed since this job began.", next_step=next_step)
    return Path(reference.path)


def _name(reference: str | ResolvedDataset) -> str:
    return Path(reference if isinstance(reference, str) else reference.path).name


def _stream(folder: Path, split: str) -> Iterator[Placed]:
    files = split_files(folder)
    if split not in files:
        what = f"there is no split {split!r}; there is {', '.join(files)}."
        raise BadData(what, path=folder.name, next_step=f"Add {split}.conll, or use one of the others.")
    return read(files[split], name=f"{folder.name}/{files[split].name}")
