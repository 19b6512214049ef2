"""`stillroom datasets check`: every problem of a data set with its line, and what its files hold."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from pydantic import computed_field

from trainer.datasets import labelled, tagged, text
from trainer.datasets.cards import MarkedCounts, SentenceCounts, TextCounts, card
from trainer.datasets.places import SPLITS, digest, locate, require_task, split_files
from trainer.errors import BadData, StillroomError, UnknownName
from trainer.prediction import Plain
from trainer.tasks import TASKS


class Problem(Plain):
    """What is wrong, without the place; `line` is 1-based, None where it is the file or the folder."""

    file: str
    line: int | None
    message: str
    next_step: str


class LabelledSplit(SentenceCounts):
    """What a split with labels holds; `labels` counts entities (B- tags) by type, `longest` is a number of words."""

    labels: dict[str, int]
    longest: int


class MarkedSplit(MarkedCounts):
    """The same for documents with entities by offset."""

    labels: dict[str, int]
    longest: int


class PlainSplit(TextCounts):
    """What a split of text holds; `longest` is a number of characters; `repeated`: documents seen before in it."""

    longest: int
    repeated: int


class ClassifiedSplit(PlainSplit):
    """What a split of labelled documents holds; `labels` counts documents by label."""

    labels: dict[str, int]


class Report(Plain):
    """The answer of `check`. `repeated` counts what two splits share, such as {"train/test": 3}."""

    path: str
    task: str
    problems: tuple[Problem, ...]
    more_problems: int
    splits: dict[str, LabelledSplit | MarkedSplit | ClassifiedSplit | PlainSplit]
    repeated: dict[str, int]

    @computed_field
    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict:
        """The shape of `stillroom datasets check --json`."""
        return self.model_dump(mode="json")


class _Problems:
    """Keeps the first `limit` problems and counts the rest: a wrong file may have one on every line."""

    def __init__(self, limit: int):
        self.limit, self.kept, self.more = limit, [], 0

    def add(self, error: StillroomError, file: str) -> None:
        if len(self.kept) == self.limit:
            self.more += 1
            return
        line = getattr(error, "line", None)
        message = error.message.removeprefix(f"{file}, line {line:,}: " if line else f"{file}: ")
        self.kept.append(Problem(file=file, line=line, message=message, next_step=error.next_step))


def check(path: str | Path, *, task: str = "ner", limit: int = 50) -> Report:
    """Read a data set (an id, a folder, or one file) to its end: the first `limit` problems, and what it holds.

    Raises UnknownName for an unknown task, or a path that is neither a file nor a folder.
    """
    if task not in TASKS:
        raise UnknownName("task", task, TASKS)
    place, problems = locate(str(path)), _Problems(limit)
    splits, seen = {}, {}
    files = _files(place, task, problems)
    read = _READERS[task](place, files)
    for split, file in files.items():
        name = file.name if file == place else f"{place.name}/{file.name}"
        splits[split], seen[split] = read(file, name, lambda error, name=name: problems.add(error, name))
    return Report(
        path=place.name,
        task=task,
        problems=tuple(problems.kept),
        more_problems=problems.more,
        splits=splits,
        repeated={f"{a}/{b}": len(np.intersect1d(seen[a], seen[b])) for a, b in combinations(seen, 2)},
    )


def _files(place: Path, task: str, problems: _Problems) -> dict[str, Path]:
    if place.is_file() and TASKS[task].labelled:
        return {place.stem.partition(".")[0]: place}
    try:
        files = split_files(place)
        require_task(place, task)
    except StillroomError as error:
        problems.add(error, place.name)
        return {}
    try:
        digest(place)
    except StillroomError as error:
        problems.add(error, place.name)
    needed = SPLITS if TASKS[task].labelled else ("train",)  # text without dev or test lends a share of train
    like = next(iter(files.values())).name.partition(".")[2]
    for split in needed:
        if split not in files:
            missing = BadData(f"there is no {split} split.", path=place.name, next_step=f"Add {split}.{like}.")
            problems.add(missing, place.name)
    return files


def _read_tagged(file: Path, name: str, report: Callable) -> tuple[LabelledSplit, np.ndarray]:
    """The counts of a file, and a hash of each sentence: the words themselves would hold the whole file in memory."""
    sentences, tokens, longest, labels, seen = 0, 0, 0, Counter(), array("q")
    try:
        for (words, tags), _ in tagged.read(file, name=name, report=report):
            sentences, tokens, longest = sentences + 1, tokens + len(words), max(longest, len(words))
            labels.update(tag[2:] for tag in tags if tag[0] == "B")
            seen.append(hash(words))
        if not sentences:
            raise BadData("the split holds no sentence.", path=name, next_step="Fill it, or leave the split out.")
    except BadData as error:
        report(error)
    held = {"tokens": tokens, "entities": labels.total(), "labels": dict(sorted(labels.items())), "longest": longest}
    documents = tagged.is_documents(file)
    counts = MarkedSplit(documents=sentences, **held) if documents else LabelledSplit(sentences=sentences, **held)
    return counts, np.unique(np.array(seen))


def _read_text(file: Path, name: str, report: Callable) -> tuple[PlainSplit, np.ndarray]:
    counts, _, distinct = _count_documents(text.read(file, name=name, report=report), name, report)
    return PlainSplit(**counts), distinct


def _read_classified(file: Path, name: str, report: Callable, *, field: str) -> tuple[ClassifiedSplit, np.ndarray]:
    counts, labels, distinct = _count_documents(
        labelled.read(file, field=field, name=name, report=report), name, report
    )
    return ClassifiedSplit(**counts, labels=dict(sorted(labels.items()))), distinct


def _count_documents(documents: Iterable, name: str, report: Callable) -> tuple[dict[str, int], Counter, np.ndarray]:
    """Counts, documents by label, and a hash of each document: the texts would hold the whole file in memory."""
    characters, longest, labels, seen = 0, 0, Counter(), array("q")
    try:
        for document in documents:
            characters, longest = characters + len(document.text), max(longest, len(document.text))
            labels.update(getattr(document, "labels", ()))
            seen.append(hash(document.text))
        if not seen:
            raise BadData("the file holds no document.", path=name, next_step="Fill it, or leave the split out.")
    except BadData as error:
        report(error)
    distinct = np.unique(np.array(seen))
    repeated = len(seen) - len(distinct)
    return dict(documents=len(seen), characters=characters, longest=longest, repeated=repeated), labels, distinct


def _classified_reader(place: Path, files: dict[str, Path]) -> Callable:
    """A reader of the field that the card names, or that the first row of the first file has."""
    stated = card(place) if place.is_dir() and files else None
    if stated:
        field = "labels" if stated.multi_label else "label"
        return partial(_read_classified, field=field)
    try:
        field = labelled.field_of(next(iter(files.values()))) if files else "label"
    except BadData:  # it is met again, and reported, when the file is read
        field = "label"
    return partial(_read_classified, field=field)


# By task: the place and its split files give what reads one of them.
_READERS = {
    "ner": lambda *_: _read_tagged,
    "mlm": lambda *_: _read_text,
    "classification": _classified_reader,
}
