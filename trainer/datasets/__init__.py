"""Data sets: finding, reading and checking them. Nothing here needs torch."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from trainer.datasets import hub, tags
from trainer.datasets.cards import DatasetCard, card, cards
from trainer.datasets.places import SPLITS, digest, is_hub, require_data, resolve, split_files, tasks_of
from trainer.datasets.readers import labelled, tagged, text
from trainer.datasets.readers.conll import PlacedSentence, Sentence, sentences, write
from trainer.datasets.readers.labelled import Field, LabelledDocument
from trainer.datasets.report import Problem, Report, check, survey
from trainer.errors import BadData, CorruptFile
from trainer.resolved import ResolvedDataset
from trainer.tasks import TASKS

__all__ = [
    "DatasetCard",
    "LabelledDocument",
    "Problem",
    "Report",
    "Sentence",
    "cards",
    "check",
    "documents",
    "entity_types",
    "is_text",
    "label_field",
    "labelled_documents",
    "load",
    "resolve",
    "sentences",
    "survey",
    "write",
]


def load(reference: str | ResolvedDataset, split: str, *, limit: int | None = None) -> list[Sentence]:
    """The sentences of a split, only the first `limit` where that is given (the rest is then neither read nor checked).

    Raises BadData with file and line for a row that is not `word<TAB>tag` in IOB2, for a split that is empty or not
    there, and for a data set without tagged words; CorruptFile where a resolved data set is no longer the one that was
    resolved.
    """
    sentences = [placed.sentence for placed in islice(_sentences(_here(reference), split), limit)]
    if not sentences:
        raise BadData(
            f"the split {split!r} holds no sentence.", path=_name(reference), next_step="Fill it, or take another."
        )
    return sentences


def documents(reference: str | ResolvedDataset, split: str, *, limit: int | None = None) -> Iterator[str]:
    """The documents of a split of a text data set, streamed; only the first `limit` where that is given.

    A data set that has no dev or test split gives each 2 % of its training documents, one at least, chosen by their
    hash, so they are the same in every run and stay out of training. Raises BadData with file and line for a row that
    is not text, and for a data set of tagged words; CorruptFile as `load` does.
    """
    dataset = resolve(reference) if isinstance(reference, str) else reference
    if is_hub(dataset):
        files = hub.splits(dataset.path)
        return islice(_texts(files, split, dataset.path, lambda name: hub.texts(dataset.path, name)), limit)
    place = _here(dataset)
    require_data(place, "text")
    files = split_files(place)
    stream = _texts(files, split, place.name, lambda path: (found.text for found in text.read(path, name=_at(path))))
    return islice(stream, limit)


def labelled_documents(
    reference: str | ResolvedDataset, split: str, *, field: Field, limit: int | None = None
) -> list[LabelledDocument]:
    """The documents of a split with the labels of `field`, only the first `limit` where that is given.

    Raises BadData with file and line for a row that is not text with such labels, for a split that is empty or not
    there, and for a data set of another kind; CorruptFile as `load` does.
    """
    found = list(islice(_labelled(reference, split, field), limit))
    if not found:
        raise BadData(
            f"the split {split!r} holds no document.", path=_name(reference), next_step="Fill it, or take another."
        )
    return found


def label_field(reference: str | ResolvedDataset, *, multi_label: bool | None = None) -> Field:
    """The field that holds the labels: as a task states it, as the card does, or as the first row of train has it."""
    dataset = resolve(reference) if isinstance(reference, str) else reference
    if multi_label is None and not is_hub(dataset) and (stated := card(Path(dataset.path))):
        multi_label = stated.multi_label
    if multi_label is not None:
        return "labels" if multi_label else "label"
    if is_hub(dataset):
        return hub.label_field(dataset.path)
    path = next(iter(split_files(Path(dataset.path)).values()))
    return labelled.detect_field(path, name=_at(path))


def is_text(dataset: ResolvedDataset) -> bool:
    """Whether a data set can be read as documents without labels."""
    return is_hub(dataset) or any(TASKS[task].data == "text" for task in tasks_of(Path(dataset.path)))


def entity_types(sentences: Iterable[Sentence]) -> tuple[str, ...]:
    """The entity types of the tags, sorted, without B- and I-."""
    return tags.entity_types(tag for sentence in sentences for tag in sentence.tags)


def _here(reference: str | ResolvedDataset) -> Path:
    """The place of a data set whose files are on this machine, and still those that were resolved."""
    dataset = resolve(reference) if isinstance(reference, str) else reference
    place = Path(dataset.path)
    if is_hub(dataset):
        what = "a Hub data set has no tagged words."
        raise BadData(what, path=dataset.path, next_step="Use it for the task mlm or classification.")
    if not isinstance(reference, str) and digest(place) != dataset.sha256:
        next_step = "Restore its files, or submit a new job, which will use them as they are now."
        raise CorruptFile(f"The data set {place.name!r} has changed since this job began.", next_step=next_step)
    return place


def _name(reference: str | ResolvedDataset) -> str:
    return Path(reference if isinstance(reference, str) else reference.path).name


def _at(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _sentences(place: Path, split: str) -> Iterator[PlacedSentence]:
    require_data(place, "tagged")
    return tagged.read(path := _split(place, split), name=_at(path))


def _labelled(reference: str | ResolvedDataset, split: str, field: Field) -> Iterator[LabelledDocument]:
    dataset = resolve(reference) if isinstance(reference, str) else reference
    if is_hub(dataset):
        return hub.labelled(dataset.path, split, field=field)
    place = _here(reference)
    require_data(place, "labelled")
    return labelled.read(path := _split(place, split), field=field, name=_at(path))


def _split(place: Path, split: str) -> Path:
    files = split_files(place)
    if split not in files:
        what = f"there is no split {split!r}; there is {', '.join(files)}."
        like = next(iter(files.values())).name.partition(".")[2]
        raise BadData(what, path=place.name, next_step=f"Add {split}.{like}, or use one of the others.")
    return files[split]


def _texts(there, split: str, name: str, stream) -> Iterator[str]:
    """The documents of a split: its own, or the share of train that stands in for it; train gives up these shares."""
    if split in there and split != "train":
        return stream(there[split])
    if "train" not in there or split not in SPLITS:
        what = f"there is no split {split!r}; there is {', '.join(there)}."
        raise BadData(what, path=name, next_step="Add train.txt, or use one of the others.")
    lent = {"dev", "test"} - set(there)
    if not lent:
        return stream(there["train"])
    split_of = text.split_chooser(stream(there["train"]), lent)
    kept = (split,) if split != "train" else ("train", *({"dev", "test"} - lent))
    return (document for document in stream(there["train"]) if split_of(document) in kept)
