"""Data sets: finding, reading and checking them. Nothing here needs torch."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeVar

from trainer.datasets import hub, tags
from trainer.datasets.cards import DatasetCard, DocumentCard, card, cards, version_of
from trainer.datasets.imports import import_data
from trainer.datasets.places import SPLITS, digest, is_hub, require_data, resolve, split_files, tasks_of
from trainer.datasets.readers import labelled, related, tagged, text
from trainer.datasets.readers import pairs as pair_rows
from trainer.datasets.readers import questions as question_files
from trainer.datasets.readers import roles as role_rows
from trainer.datasets.readers import values as value_rows
from trainer.datasets.readers.conll import PlacedSentence, Sentence, sentences, write
from trainer.datasets.readers.labelled import Field, LabelledDocument
from trainer.datasets.readers.questions import Question
from trainer.datasets.readers.related import RelatedDocument
from trainer.datasets.readers.roles import RoleDocument
from trainer.datasets.report import Problem, Report, check, survey
from trainer.errors import BadData, CorruptFile
from trainer.resolved import ResolvedDataset
from trainer.tasks import TASKS

__all__ = [
    "DatasetCard",
    "LabelledDocument",
    "Problem",
    "Question",
    "RelatedDocument",
    "Report",
    "RoleDocument",
    "Sentence",
    "cards",
    "check",
    "documents",
    "entity_types",
    "import_data",
    "is_text",
    "label_field",
    "labelled_documents",
    "load",
    "pairs",
    "questions",
    "related_documents",
    "resolve",
    "role_documents",
    "sentences",
    "survey",
    "value_documents",
    "version_of",
    "write",
]

Row = TypeVar("Row")
Source = TypeVar("Source", Path, str)  # where a split is: a file, or its name on the Hub


def load(reference: str | ResolvedDataset, split: str, *, limit: int | None = None) -> list[Sentence]:
    """The tagged sentences or documents of a split, or only the first `limit`; the rest is neither read nor checked.

    Raises BadData with file and line for a wrong row, for a split that is empty or missing, and for a data set without
    tagged words; CorruptFile if the files of a resolved data set have changed.
    """
    sentences = [placed.sentence for placed in islice(_sentences(_local_place(reference), split), limit)]
    if not sentences:
        raise BadData(
            f"the split {split!r} holds no sentence.", path=_name(reference), next_step="Fill it, or use another split."
        )
    return sentences


def documents(reference: str | ResolvedDataset, split: str, *, limit: int | None = None) -> Iterator[str]:
    """The documents of a split of a text data set, streamed, or only the first `limit`.

    Where there is no dev or test split, each gets 2 % of the training documents, at least one. They are chosen by their
    hash, so they are the same in every run, and are left out of training. Raises BadData with file and line for a row
    that is not text, and for a data set of tagged words; CorruptFile as `load` does.
    """
    dataset = resolve(reference) if isinstance(reference, str) else reference
    if is_hub(dataset):
        names = hub.splits(dataset.path)
        return islice(_texts(names, split, dataset.path, lambda name: hub.texts(dataset.path, name)), limit)
    place = _local_place(dataset)
    require_data(place, "text")

    def read(path: Path) -> Iterator[str]:
        return (document.text for document in text.read(path, name=_display_name(path)))

    return islice(_texts(split_files(place), split, place.name, read), limit)


def labelled_documents(
    reference: str | ResolvedDataset, split: str, *, field: Field, limit: int | None = None
) -> list[LabelledDocument]:
    """The documents of a split with the labels of `field`, or only the first `limit`.

    Raises BadData with file and line for a row that is not text with such labels, for a split that is empty or missing,
    and for a data set of another kind; CorruptFile as `load` does.
    """
    return _filled(islice(_labelled(reference, split, field), limit), reference, split, "document")


def pairs(reference: str | ResolvedDataset, split: str, *, limit: int | None = None) -> list[LabelledDocument]:
    """The pairs of texts of a split as documents with a hypothesis, or only the first `limit`.

    Raises what `labelled_documents` raises.
    """
    place = _local_place(reference)
    require_data(place, "pairs")
    rows = pair_rows.read(path := _split_file(place, split), name=_display_name(path))
    return _filled(islice(rows, limit), reference, split, "pair")


def related_documents(
    reference: str | ResolvedDataset, split: str, *, limit: int | None = None
) -> list[RelatedDocument]:
    """The documents, or rows with one pair, of a split with their relations, or only the first `limit`.

    Raises what `labelled_documents` raises.
    """
    place = _local_place(reference)
    require_data(place, "related")
    path = _split_file(place, split)
    documents = islice(related.read(path, name=_display_name(path)), limit)
    return _filled(related.merge_pairs(documents), reference, split, "document")


def questions(reference: str | ResolvedDataset, split: str, *, limit: int | None = None) -> list[Question]:
    """The questions of a split, or only the first `limit`. Raises what `labelled_documents` raises, but names a wrong
    question by its place in the file.
    """
    place = _local_place(reference)
    require_data(place, "questions")
    rows = question_files.read(path := _split_file(place, split), name=_display_name(path))
    return _filled(islice(rows, limit), reference, split, "question")


def role_documents(reference: str | ResolvedDataset, split: str, *, limit: int | None = None) -> list[RoleDocument]:
    """The texts of a split with the roles of their sentences, or only the first `limit`.

    Raises what `labelled_documents` raises.
    """
    place = _local_place(reference)
    require_data(place, "roles")
    rows = role_rows.read(path := _split_file(place, split), name=_display_name(path))
    return _filled(islice(rows, limit), reference, split, "document")


def value_documents(
    reference: str | ResolvedDataset, split: str, *, limit: int | None = None
) -> list[LabelledDocument]:
    """The texts of a split with their values, or only the first `limit`.

    Raises what `labelled_documents` raises.
    """
    place = _local_place(reference)
    require_data(place, "values")
    rows = value_rows.read(path := _split_file(place, split), name=_display_name(path))
    return _filled(islice(rows, limit), reference, split, "document")


def label_field(reference: str | ResolvedDataset, *, multi_label: bool | None = None) -> Field:
    """The field with the labels: as the task says, else as the card says, else as the first row of train has it."""
    dataset = resolve(reference) if isinstance(reference, str) else reference
    if multi_label is None and not is_hub(dataset) and isinstance(stated := card(Path(dataset.path)), DocumentCard):
        multi_label = stated.multi_label
    if multi_label is not None:
        return labelled.field_for(multi_label)
    if is_hub(dataset):
        return hub.label_field(dataset.path)
    path = next(iter(split_files(Path(dataset.path)).values()))
    return labelled.detect_field(path, name=_display_name(path))


def is_text(dataset: ResolvedDataset) -> bool:
    """Whether a data set can be read as documents without labels."""
    return is_hub(dataset) or any(TASKS[task].data == "text" for task in tasks_of(Path(dataset.path)))


def entity_types(sentences: Iterable[Sentence]) -> tuple[str, ...]:
    """The entity types of the tags, sorted, without B- and I-."""
    return tags.entity_types(tag for sentence in sentences for tag in sentence.tags)


def _local_place(reference: str | ResolvedDataset) -> Path:
    """The path of a data set that is not of the Hub. Raises CorruptFile if its files changed since it was resolved."""
    dataset = resolve(reference) if isinstance(reference, str) else reference
    place = Path(dataset.path)
    if is_hub(dataset):
        what = "a Hub data set has no tagged words, pairs, relations, questions, roles or values."
        raise BadData(what, path=dataset.path, next_step="Use it for the task mlm or classification.")
    if not isinstance(reference, str) and digest(place) != dataset.sha256:
        next_step = "Restore its files, or submit a new job, which will use them as they are now."
        raise CorruptFile(f"The data set {place.name!r} has changed since this job began.", next_step=next_step)
    return place


def _filled(rows: Iterable[Row], reference: str | ResolvedDataset, split: str, unit: str) -> list[Row]:
    """The rows of a split. Raises BadData where there are none."""
    if examples := list(rows):
        return examples
    what = f"the split {split!r} holds no {unit}."
    raise BadData(what, path=_name(reference), next_step="Fill it, or use another split.")


def _name(reference: str | ResolvedDataset) -> str:
    return Path(reference if isinstance(reference, str) else reference.path).name


def _display_name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _sentences(place: Path, split: str) -> Iterator[PlacedSentence]:
    require_data(place, "tagged")
    return tagged.read(path := _split_file(place, split), name=_display_name(path))


def _labelled(reference: str | ResolvedDataset, split: str, field: Field) -> Iterator[LabelledDocument]:
    dataset = resolve(reference) if isinstance(reference, str) else reference
    if is_hub(dataset):
        return hub.labelled(dataset.path, split, field=field)
    place = _local_place(reference)
    require_data(place, "labelled")
    return labelled.read(path := _split_file(place, split), field=field, name=_display_name(path))


def _split_file(place: Path, split: str) -> Path:
    files = split_files(place)
    if split not in files:
        what = f"there is no split {split!r}; there is {', '.join(files)}."
        like = next(iter(files.values())).name.partition(".")[2]
        raise BadData(what, path=place.name, next_step=f"Add {split}.{like}, or use one of the others.")
    return files[split]


def _texts(
    sources: Mapping[str, Source], split: str, name: str, read: Callable[[Source], Iterator[str]]
) -> Iterator[str]:
    """The documents of a split: from its own source, or those of train that serve as it, which train then lacks."""
    if split in sources and split != "train":
        return read(sources[split])
    if "train" not in sources or split not in SPLITS:
        what = f"there is no split {split!r}; there is {', '.join(sources)}."
        raise BadData(what, path=name, next_step="Add train.txt, or use one of the others.")
    lent: set[str] = {"dev", "test"} - set(sources)
    if not lent:
        return read(sources["train"])
    choose_split = text.split_chooser(read(sources["train"]), lent)
    wanted = (split,) if split != "train" else ("train", *({"dev", "test"} - lent))
    return (document for document in read(sources["train"]) if choose_split(document) in wanted)
