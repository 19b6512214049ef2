"""A note is text with offsets. It stays in memory; its repr and every error about it give lengths, never text."""

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import yaml

from trainer import datasets
from trainer.datasets import DatasetCard
from trainer.datasets.rows.words import join
from trainer.errors import BadData, Refused, StillroomError
from trainer.prediction import Plain
from trainer.tasks import TASKS

MAX_BYTES = 5_000_000
MAX_CHARACTERS = 2_000_000
DEMO_CHARACTERS = 20_000  # in a public demo, where other visitors wait
NOTES = Path(__file__).parents[1] / "data" / "notes"

_FORMATS = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive, as .docx and .xlsx files are",
    b"\xd0\xcf\x11\xe0": "an old Word or Excel document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x1f\x8b": "a gzip archive",
    b"{\\rtf": "a rich-text (RTF) document",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
_SAVE_AS_TEXT = "Save the note as plain text in UTF-8 and upload it, or paste the text."


@dataclass(frozen=True, repr=False)
class Note:
    """One text, exactly as given; offsets count its Unicode code points.

    hypothesis: a statement or question about it, for models that judge a pair of texts. question: for models that
    answer one with a part of the text. Raises BadData for empty text and Refused above MAX_CHARACTERS.
    """

    text: str
    hypothesis: str = ""
    question: str = ""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise BadData("The note is empty.", next_step="Choose a sample note, paste a text or upload a text file.")
        if len(self.text) > MAX_CHARACTERS:
            raise Refused(
                f"The note has {len(self.text):,} characters; at most {MAX_CHARACTERS:,} can be read at once.",
                next_step="Split it into parts and compare them one by one.",
            )

    def __repr__(self) -> str:
        more = f", hypothesis of {len(self.hypothesis):,}" if self.hypothesis else ""
        more += f", question of {len(self.question):,}" if self.question else ""
        return f"Note({len(self.text):,} characters{more})"


def hypothesis_in_words(note: Note, *, with_text: bool) -> str:
    """What a report says of a note's hypothesis: the text itself, or only its length."""
    return f"hypothesis: “{note.hypothesis}”" if with_text else f"a hypothesis of {len(note.hypothesis):,} characters"


def question_in_words(note: Note, *, with_text: bool) -> str:
    """What a report says of the question about a note: the text itself, or only its length."""
    return f"question: “{note.question}”" if with_text else f"a question of {len(note.question):,} characters"


class Sample(Plain):
    """A note that ships with the project: an entry of data/notes/index.yaml.

    `kind` is short, over-512, over-2048 or article; `tokens` counts the word pieces of an uncased BERT vocabulary.
    """

    id: str
    title: str
    file: str
    licence: str
    source: str
    attribution: str
    tokens: int
    characters: int
    words: int
    description: str
    kind: str

    @property
    def note(self) -> Note:
        """The note as it is in the file, without newline translation."""
        return Note((NOTES / self.file).read_bytes().decode("utf-8"))


@cache
def samples() -> tuple[Sample, ...]:
    """The sample notes in the order of their index; empty if they are not installed."""
    index = NOTES / "index.yaml"
    if not index.is_file():
        return ()
    listed = yaml.safe_load(index.read_text(encoding="utf-8"))
    return tuple(Sample.model_validate(entry) for entry in listed)


class DatasetItem(NamedTuple):
    """The note of one item of a data set, by what an address may hold: data set, split and number, never its text."""

    id: str
    title: str
    words: int
    note: Note
    description: str = "An item of a data set, its words joined by blanks."

    def __repr__(self) -> str:
        return f"DatasetItem({self.id})"


def item_id(dataset: str, split: str, number: int, *, sentences: bool = False) -> str:
    """The id of a DatasetItem. number: from 0; sentences: whether it counts the sentences of documents."""
    return f"data:{dataset}:{split}:{number}" + (":sentences" if sentences else "")


@lru_cache(maxsize=8)
def dataset_item(reference: str) -> DatasetItem | None:
    """The item that an id names; None where it is no such id, or there is no such data set, split or item."""
    named = _ITEM.fullmatch(reference or "")
    card = datasets.cards().get(named["dataset"]) if named else None
    if named is None or card is None:
        return None
    number = int(named["number"])
    try:
        note = _read_item(card, named["split"], number, sentences=bool(named["sentences"]))
    except (StillroomError, OSError):
        return None
    title = f"{card.id}, {named['split']}, item {number + 1:,}"
    return DatasetItem(reference, title, len(note.text.split()), note) if note else None


_ITEM = re.compile(
    r"data:(?P<dataset>[\w.@-]{1,100}):(?P<split>train|dev|test):(?P<number>\d{1,9})(?P<sentences>:sentences)?",
    re.ASCII,
)


def _read_item(card: DatasetCard, split: str, number: int, *, sentences: bool) -> Note | None:
    kind, last = TASKS[card.task].data, None if sentences else number + 1
    if kind == "tagged":
        examples = datasets.load(card.id, split, limit=last)
        words = [part.words for each in examples for part in (datasets.sentences(each) if sentences else (each,))]
        return Note(join(words[number]).text) if number < len(words) else None
    if kind == "related":
        documents = datasets.related_documents(card.id, split, limit=last)
        return Note(documents[number].text) if number < len(documents) else None
    if kind == "pairs":
        rows = datasets.pairs(card.id, split, limit=last)
    elif kind == "labelled":
        rows = datasets.labelled_documents(card.id, split, field=datasets.label_field(card.id), limit=last)
    else:
        return None
    return Note(rows[number].text, rows[number].hypothesis or "") if number < len(rows) else None


def demo_note(text: str) -> Note:
    """A note of at most DEMO_CHARACTERS, for a public demo. Raises what Note raises."""
    if len(text) > DEMO_CHARACTERS:
        raise Refused(
            f"The note has {len(text):,} characters; this demo reads at most {DEMO_CHARACTERS:,}.",
            next_step="Use a part of it, or run Stillroom on your own machine, which reads longer notes.",
        )
    return Note(text)


def read_upload(data: bytes, filename: str) -> Note:
    """The note in an uploaded file: UTF-8 text of at most MAX_BYTES, without its byte order mark.

    The content decides, not the file name. Raises BadData or Refused; messages never quote the text.
    """
    if len(data) > MAX_BYTES:
        raise Refused(
            f"{filename}: the file has {len(data):,} bytes; at most {MAX_BYTES:,} (5 MB) are allowed.",
            next_step="Split it into parts and compare them one by one.",
        )
    if kind := _binary_kind(data):
        raise BadData(f"this is {kind}, not UTF-8 text.", path=filename, next_step=_SAVE_AS_TEXT)
    try:
        return Note(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadData(
            f"byte {error.start:,} is not valid UTF-8; the file may be in Windows-1252 or Latin-1.",
            path=filename,
            line=line,
            next_step=_SAVE_AS_TEXT,
        ) from None


def _binary_kind(data: bytes) -> str:
    for start, name in _FORMATS.items():
        if data.startswith(start):
            return name
    return f"a binary file (with a zero byte at position {data.index(0):,})" if 0 in data else ""
