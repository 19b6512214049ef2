"""Reads the file of a split to its end and counts what it holds: one function per kind of data.

Sentences and documents are hashed, because the texts themselves would take as much memory as the file.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trainer.datasets.cards import DocumentCard, card
from trainer.datasets.contents import (
    Contents,
    LabelledContents,
    MarkedContents,
    PairContents,
    QuestionContents,
    RelatedContents,
    RoleContents,
    SentenceContents,
    TextContents,
    ValueContents,
    count_questions,
    count_related,
    count_roles,
    count_values,
)
from trainer.datasets.readers import Reporter, labelled, pairs, questions, related, roles, tagged, text, values
from trainer.datasets.readers.entities import Tally
from trainer.datasets.tags import kind_of
from trainer.errors import BadData

# (file, its name in messages, what takes a problem) -> (contents, hashes of its sentences or documents)
Reader = Callable[[Path, str, Reporter], tuple[Contents, np.ndarray]]
Row = TypeVar("Row")


def _read_tagged(file: Path, name: str, report: Reporter) -> tuple[SentenceContents | MarkedContents, np.ndarray]:
    """The contents of a file, and the hashes of its sentences; the words would take as much memory as the file."""
    sentences, tokens, longest, tally = 0, 0, 0, Tally()
    labels, lines, hashes = Counter[str](), dict[str, int](), array("q")
    attributes = Counter[tuple[str, str, str]]()  # (name, label, value)
    try:
        for sentence, places in tagged.read(file, name=name, report=report, tally=tally):
            words = sentence.words
            sentences, tokens, longest = sentences + 1, tokens + len(words), max(longest, len(words))
            for number, (tag, line) in enumerate(zip(sentence.tags, places, strict=True)):
                if tag[0] == "B":
                    labels[kind_of(tag)] += 1
                    lines.setdefault(kind_of(tag), line)
                    stated = ((attribute, values[number]) for attribute, values in sentence.attributes.items())
                    attributes.update((attribute, kind_of(tag), value) for attribute, value in stated if value)
            hashes.append(_hash(" ".join(words)))
        if not sentences:
            raise BadData("the split holds no sentence.", path=name, next_step="Fill it, or leave the split out.")
    except BadData as error:
        report(error)
    counts: dict[str, Any] = {"tokens": tokens, "entities": labels.total(), "longest": longest}
    counts |= {"labels": dict(sorted(labels.items())), "lines": dict(sorted(lines.items()))}
    if tagged.has_documents(file):
        by_label: dict[str, dict[str, dict[str, int]]] = {}
        for (attribute, label, value), count in sorted(attributes.items()):
            by_label.setdefault(attribute, {}).setdefault(label, {})[value] = count
        counts |= vars(tally) | {"attributes": by_label}
        return MarkedContents(documents=sentences, **counts), np.unique(np.array(hashes))
    return SentenceContents(sentences=sentences, **counts), np.unique(np.array(hashes))


def _read_related(file: Path, name: str, report: Reporter) -> tuple[RelatedContents, np.ndarray]:
    """The contents of a file, and a hash of each document; in rows with one pair the pair is part of it."""
    documents = _read_all(related.read(file, name=name, report=report), "document", name, report)
    pairs = ([mention[:2] for mention in document.mentions] if document.single else [] for document in documents)
    hashes = [hash((_hash(document.text), *pair)) for document, pair in zip(documents, pairs, strict=True)]
    return count_related(related.merge_pairs(documents)), np.unique(np.array(hashes, dtype=np.int64))


def _read_text(file: Path, name: str, report: Reporter, *, lent: Collection[str]) -> tuple[TextContents, np.ndarray]:
    """lent: the splits that train has to provide, if this is train."""
    shares = Counter[str]()
    choose_split: Callable[[str], str] = text.split_by_hash
    # What is wrong with the file is reported on the second reading.
    with suppress(BadData):
        choose_split = text.split_chooser((each.text for each in text.read(file, report=lambda _: None)), lent)

    def count_shares() -> Iterator[text.Document]:
        for document in text.read(file, name=name, report=report):
            shares[choose_split(document.text)] += 1
            yield document

    contents, _, hashes = _count_documents(count_shares(), name, report)
    return contents.model_copy(update={"shares": dict.fromkeys(lent, 0) | shares}), hashes


def _text_reader(place: Path, files: Mapping[str, Path], multi_label: bool | None) -> Reader:
    lent = [split for split in ("dev", "test") if split not in files]
    return lambda file, name, report: _read_text(file, name, report, lent=lent if file == files.get("train") else ())


def _read_labelled(
    file: Path, name: str, report: Reporter, *, field: labelled.Field
) -> tuple[LabelledContents, np.ndarray]:
    return count_labelled(labelled.read(file, field=field, name=name, report=report), name, report, field)


def count_labelled(
    documents: Iterable[labelled.LabelledDocument], name: str, report: Reporter, field: labelled.Field
) -> tuple[LabelledContents, np.ndarray]:
    """The contents of labelled documents, and a hash of each; field: where their labels are."""
    contents, by_label, hashes = _count_documents(documents, name, report)
    labels, lines = _by_name(by_label)
    multi_label = field == "labels"
    return LabelledContents(**dict(contents), labels=labels, lines=lines, multi_label=multi_label), hashes


def _read_pairs(file: Path, name: str, report: Reporter) -> tuple[PairContents, np.ndarray]:
    contents, by_label, hashes = _count_documents(pairs.read(file, name=name, report=report), name, report)
    counts = contents.model_dump(include={"characters", "longest", "repeated"})
    labels, lines = _by_name(by_label)
    return PairContents(pairs=contents.documents, labels=labels, lines=lines, **counts), hashes


def _read_questions(file: Path, name: str, report: Reporter) -> tuple[QuestionContents, np.ndarray]:
    """The contents of a file, and a hash of each pair of a text and a question."""
    read = _read_all(questions.read(file, name=name, report=report), "question", name, report)
    by_text = {text: _hash(text) for text in {each.text for each in read}}
    hashes = np.array([hash((by_text[each.text], _hash(each.question))) for each in read], dtype=np.int64)
    distinct = np.unique(hashes)
    return count_questions(read, repeated=len(hashes) - len(distinct)), distinct


def _read_roles(file: Path, name: str, report: Reporter) -> tuple[RoleContents, np.ndarray]:
    """The contents of a file, and a hash of each text."""
    documents = _read_all(roles.read(file, name=name, report=report), "document", name, report)
    distinct = np.unique(np.array([_hash(document.text) for document in documents], dtype=np.int64))
    return count_roles(documents, repeated=len(documents) - len(distinct)), distinct


def _read_values(file: Path, name: str, report: Reporter) -> tuple[ValueContents, np.ndarray]:
    """The contents of a file, and a hash of each text."""
    documents = _read_all(values.read(file, name=name, report=report), "document", name, report)
    distinct = np.unique(np.array([_hash(document.text) for document in documents], dtype=np.int64))
    return count_values(documents, repeated=len(documents) - len(distinct)), distinct


def _read_all(rows: Iterable[Row], what: str, name: str, report: Reporter) -> list[Row]:
    """The rows of a split, as far as it can be read; what ends the reading, and a split without rows, is reported."""
    read: list[Row] = []
    try:
        read += rows
        if not read:
            raise BadData(f"the split holds no {what}.", path=name, next_step="Fill it, or leave the split out.")
    except BadData as error:
        report(error)
    return read


def _by_name(by_label: Mapping[str, tuple[int, int]]) -> tuple[dict[str, int], dict[str, int]]:
    """The number of documents of each label, and the line where it occurs first; both by the alphabet (trap T15)."""
    ordered = sorted(by_label.items())
    return {label: number for label, (number, _) in ordered}, {label: line for label, (_, line) in ordered}


def _count_documents(
    documents: Iterable[text.Document | labelled.LabelledDocument], name: str, report: Reporter
) -> tuple[TextContents, dict[str, tuple[int, int]], np.ndarray]:
    """Counts of a split; the number of documents and the first line of each label; and a hash of each document.

    Hashes, because the texts themselves would take as much memory as the file.
    """
    characters, longest, by_label, hashes = 0, 0, dict[str, tuple[int, int]](), array("q")
    try:
        for document in documents:
            whole = document.text + (getattr(document, "hypothesis", None) or "")
            characters, longest = characters + len(whole), max(longest, len(whole))
            for label in document.labels if isinstance(document, labelled.LabelledDocument) else ():
                number, line = by_label.get(label, (0, document.line))
                by_label[label] = (number + 1, line)
            hashes.append(_hash(whole))
        if not hashes:
            raise BadData("the file holds no document.", path=name, next_step="Fill it, or leave the split out.")
    except BadData as error:
        report(error)
    distinct, count = np.unique(np.array(hashes)), len(hashes)
    contents = TextContents(documents=count, characters=characters, longest=longest, repeated=count - len(distinct))
    return contents, by_label, distinct


def _hash(passage: str) -> int:
    """The same for texts that differ only in white space and case."""
    return hash(" ".join(passage.split()).casefold())


def _labelled_reader(place: Path, files: Mapping[str, Path], multi_label: bool | None) -> Reader:
    """A reader of the field that the task or the card names, or that the first row of the first file has."""
    stated = card(place) if place.is_dir() and files else None
    if multi_label is None and isinstance(stated, DocumentCard):
        multi_label = stated.multi_label
    if multi_label is not None:
        return partial(_read_labelled, field=labelled.field_for(multi_label))
    field: labelled.Field = "label"
    with suppress(BadData):  # reported when the file is read
        field = labelled.detect_field(next(iter(files.values()))) if files else "label"
    return partial(_read_labelled, field=field)


# By kind of data: what gives a reader of the split files of a place.
READERS: dict[str, Callable[[Path, Mapping[str, Path], bool | None], Reader]] = {
    "tagged": lambda place, files, multi_label: _read_tagged,
    "related": lambda place, files, multi_label: _read_related,
    "text": _text_reader,
    "labelled": _labelled_reader,
    "pairs": lambda place, files, multi_label: _read_pairs,
    "questions": lambda place, files, multi_label: _read_questions,
    "roles": lambda place, files, multi_label: _read_roles,
    "values": lambda place, files, multi_label: _read_values,
}
