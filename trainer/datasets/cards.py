"""Data cards: what a data set is, who made it, under which licence, and what its files contain."""

import re
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import ClassVar

import yaml
from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from trainer.errors import BadData
from trainer.home import place
from trainer.plain_yaml import parse_yaml
from trainer.prediction import Plain
from trainer.tasks import TASKS, with_data

DATA = Path(__file__).resolve().parents[2] / "data"
CARD = "card.yaml"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")  # of an imported data set
_VERSION = re.compile(r"[0-9a-f]{8}")


class Counts(Plain):
    """The size of a split, whatever it contains."""

    unit: ClassVar[str]

    @property
    def examples(self) -> int:
        """The number of sentences or documents; `unit` says which."""
        number: int = getattr(self, self.unit)
        return number


class SentenceCounts(Counts):
    """The size of a split of tagged sentences; `tokens` are words, `entities` B- tags."""

    unit: ClassVar = "sentences"
    sentences: int
    tokens: int
    entities: int


class MarkedCounts(Counts):
    """The size of a split of documents with entities; `tokens` are words."""

    unit: ClassVar = "documents"
    documents: int
    tokens: int
    entities: int


class RelatedCounts(Counts):
    """The size of a split of documents, or of rows with one pair, with relations; `characters` are code points."""

    unit: ClassVar = "documents"
    documents: int
    characters: int
    relations: int


class TextCounts(Counts):
    """The size of a split of text; `characters` are code points."""

    unit: ClassVar = "documents"
    documents: int
    characters: int


class PairCounts(Counts):
    """The size of a split of pairs of texts; `characters` are code points of both."""

    unit: ClassVar = "pairs"
    pairs: int
    characters: int


class QuestionCounts(Counts):
    """The size of a split of questions; `characters` are code points of their distinct texts."""

    unit: ClassVar = "questions"
    questions: int
    unanswerable: int
    characters: int


class RoleCounts(Counts):
    """The size of a split of texts whose sentences have roles; `characters` are code points."""

    unit: ClassVar = "documents"
    documents: int
    sentences: int
    characters: int


class ValueCounts(Counts):
    """The size of a split of texts with a value; `characters` are code points."""

    unit: ClassVar = "documents"
    documents: int
    characters: int
    lowest: float
    highest: float


class SentenceSplit(SentenceCounts):
    """A split of tagged sentences as its card states it."""

    file: str
    sha256: str


class MarkedSplit(MarkedCounts):
    """A split of documents with entities as its card states it."""

    file: str
    sha256: str


class RelatedSplit(RelatedCounts):
    """A split of documents with relations as its card states it."""

    file: str
    sha256: str


class TextSplit(TextCounts):
    """A split of plain text as its card states it."""

    file: str
    sha256: str


class DocumentSplit(TextCounts):
    """A split of labelled documents as its card states it."""

    file: str
    sha256: str


class PairSplit(PairCounts):
    """A split of pairs of texts as its card states it."""

    file: str
    sha256: str


class QuestionSplit(QuestionCounts):
    """A split of questions as its card states it."""

    file: str
    sha256: str


class RoleSplit(RoleCounts):
    """A split of texts whose sentences have roles as its card states it."""

    file: str
    sha256: str


class ValueSplit(ValueCounts):
    """A split of texts with a value as its card states it."""

    file: str
    sha256: str


class _Card(Plain):
    # `licence_files` and the `file` of a split are relative to the card's folder. imported: when, in ISO 8601.
    id: str
    name: str
    licence: str
    licence_files: tuple[str, ...] = ()
    source: str
    citation: str
    changes: str = ""
    notes: tuple[str, ...] = ()
    imported: str = ""
    task: str
    labels: tuple[str, ...]

    data: ClassVar[str]

    @field_validator("task")
    @classmethod
    def _check_task(cls, task: str) -> str:
        if task not in (tasks := with_data(cls.data)):
            raise PydanticCustomError("task", "Input should be {able}", {"able": " or ".join(map(repr, tasks))})
        return task

    def labels_for(self, multi_label: bool | None) -> tuple[str, ...]:
        """The labels for a task. multi_label: whether its documents have several; None: as the card says."""
        return self.labels


class TaggedCard(_Card):
    """The card of a data set with entities; its labels are entity types, without B- and I-."""

    data: ClassVar = "tagged"
    splits: dict[str, SentenceSplit | MarkedSplit] = Field(min_length=1)


class RelatedCard(_Card):
    """The card of a data set of related mentions. negative: the one of its labels that stands for no relation."""

    data: ClassVar = "related"
    negative: str | None = None
    splits: dict[str, RelatedSplit] = Field(min_length=1)


class TextCard(_Card):
    """The card of a data set without labels, for masked language modelling."""

    data: ClassVar = "text"
    labels: tuple[()] = ()
    splits: dict[str, TextSplit] = Field(min_length=1)


class DocumentCard(_Card):
    """The card of a data set of labelled documents.

    multi_label: whether the field `labels` of the rows is used, or `label`. labels: those of that field; other_labels:
    those of the other field, where rows have both.
    """

    data: ClassVar = "labelled"
    multi_label: bool = False
    other_labels: tuple[str, ...] = ()
    splits: dict[str, DocumentSplit] = Field(min_length=1)

    def labels_for(self, multi_label: bool | None) -> tuple[str, ...]:
        return self.labels if multi_label in (None, self.multi_label) else self.other_labels


class PairCard(_Card):
    """The card of a data set of pairs of texts with one label each."""

    data: ClassVar = "pairs"
    splits: dict[str, PairSplit] = Field(min_length=1)


class QuestionCard(_Card):
    """The card of a data set of questions whose answers are parts of a text; ANSWER is its one label."""

    data: ClassVar = "questions"
    splits: dict[str, QuestionSplit] = Field(min_length=1)


class RoleCard(_Card):
    """The card of a data set of texts whose sentences have roles."""

    data: ClassVar = "roles"
    splits: dict[str, RoleSplit] = Field(min_length=1)


class ValueCard(_Card):
    """The card of a data set of texts with a value."""

    data: ClassVar = "values"
    labels: tuple[()] = ()
    splits: dict[str, ValueSplit] = Field(min_length=1)


DatasetCard = TaggedCard | RelatedCard | TextCard | DocumentCard | PairCard | QuestionCard | RoleCard | ValueCard
_CARDS: dict[str, type[DatasetCard]] = {
    kind.data: kind
    for kind in (TaggedCard, RelatedCard, TextCard, DocumentCard, PairCard, QuestionCard, RoleCard, ValueCard)
}


def cards() -> dict[str, DatasetCard]:
    """The cards of the data sets that ship, and of the newest version of each that was imported, by id."""
    return shipped() | {name: newest for name, (_, newest) in _imported().items()}


def shipped() -> dict[str, DatasetCard]:
    """The cards of the data sets that ship with the project, by id."""
    return dict(_shipped(DATA))


def folder_of(reference: str) -> Path | None:
    """The folder of a data set that ships or was imported: ID, NAME or NAME@HASH; None for anything else."""
    if reference in shipped():
        return DATA / reference
    name, _, version = reference.partition("@")
    if not NAME.fullmatch(name):
        return None
    if not version:
        return _imported().get(name, (None, None))[0]
    folder = place() / "datasets" / name / version
    return folder if _VERSION.fullmatch(version) and (folder / CARD).is_file() else None


def version_of(reference: str) -> str | None:
    """The data set that a reference stands for now, for good: ID, or NAME@HASH; None for anything else."""
    folder = folder_of(reference)
    if folder is None:
        return None
    return reference if folder.parent == DATA else f"{folder.parent.name}@{folder.name}"


@cache
def _shipped(data: Path) -> dict[str, DatasetCard]:
    return {path.parent.name: _read(path.parent) for path in sorted(data.glob(f"*/{CARD}"))}


def _imported() -> dict[str, tuple[Path, DatasetCard]]:
    """Folder and card of the newest version of each imported data set, by name. A damaged card counts as none."""
    newest: dict[str, tuple[Path, DatasetCard]] = {}
    for path in sorted(place().glob(f"datasets/*/*/{CARD}")):
        if not _VERSION.fullmatch(path.parent.name):
            continue
        with suppress(BadData):
            stated, name = _read(path.parent), path.parent.parent.name
            if name not in shipped() and (name not in newest or stated.imported > newest[name][1].imported):
                newest[name] = (path.parent, stated)
    return newest


def card(folder: Path) -> DatasetCard | None:
    """The card of a folder, or None. Raises BadData that names what is wrong in it."""
    return _read(folder) if (folder / CARD).is_file() else None


@lru_cache(maxsize=64)
def _parse(text: str) -> DatasetCard:
    # Kept, since a page reads the cards of its data set at every change; parsing YAML is a third of drawing it.
    fields = parse_yaml(text)
    task = fields.get("task") if isinstance(fields, dict) else None
    kind = _CARDS[TASKS[task].data] if isinstance(task, str) and task in TASKS else TaggedCard
    return kind.model_validate(fields)


def _read(folder: Path) -> DatasetCard:
    place = f"{folder.name}/{CARD}"
    try:
        return _parse((folder / CARD).read_text(encoding="utf-8"))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in error.errors())
        raise BadData(f"{wrong}.", path=place, next_step="Correct these fields, or remove the card.") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        why = getattr(error, "problem", None) or "it is not UTF-8 text, or a value in it cannot be read"
        what = f"this is not YAML: {why}."
        raise BadData(what, path=place, line=line, next_step="Correct or remove the card.") from None
