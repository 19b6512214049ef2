"""`stillroom datasets check`: every problem of a data set with its line, and what its files hold."""

from array import array
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
from pydantic import computed_field

from trainer.datasets import conll, text
from trainer.datasets.cards import SentenceCounts, TextCounts
from trainer.datasets.places import SPLITS, SUFFIXES, digest, locate, split_files, task_of
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


class PlainSplit(TextCounts):
    """What a split of text holds; `longest` is a number of characters; `repeated`: documents seen before in it."""

    longest: int
    repeated: int


class Report(Plain):
    """The answer of `check`. `repeated` counts what two splits share, such as {"train/test": 3}."""

    path: str
    task: str
    problems: tuple[Problem, ...]
    more_problems: int
    splits: dict[str, LabelledSplit | PlainSplit]
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
    for split, file in _files(place, task, problems).items():
        name = file.name if file == place else f"{place.name}/{file.name}"
        splits[split], seen[split] = _READERS[task](file, name, lambda error, name=name: problems.add(error, name))
    return Report(
        path=place.name,
        task=task,
        problems=tuple(problems.kept),
        more_problems=problems.more,
        splits=splits,
        repeated={f"{a}/{b}": len(np.intersect1d(seen[a], seen[b])) for a, b in combinations(seen, 2)},
    )


def _files(place: Path, task: str, problems: _Problems) -> dict[str, Path]:
    if place.is_file() and task == "ner":
        return {place.stem: place}
    files = {}
    try:
        files = split_files(place)
        digest(place)
    except StillroomError as error:
        problems.add(error, place.name)
    if files and task_of(files) != task:
        what = f"its splits are for the task {task_of(files)}, not {task}."
        next_step = f"Check it for that task, or add train{SUFFIXES[task][0]}."
        problems.add(BadData(what, path=place.name, next_step=next_step), place.name)
        return {}
    needed = SPLITS if task == "ner" else ("train",)  # text without dev or test lends a share of train
    for split in needed if files else ():
        if split not in files:
            missing = BadData(f"there is no {split} split.", path=place.name, next_step=f"Add {split}.conll.")
            problems.add(missing, place.name)
    return files


def _read_labelled(file: Path, name: str, report: Callable) -> tuple[LabelledSplit, np.ndarray]:
    """The counts of a file, and a hash of each sentence: the words themselves would hold the whole file in memory."""
    sentences, tokens, longest, labels, seen = 0, 0, 0, Counter(), array("q")
    try:
        for (words, tags), _ in conll.read(file, name=name, report=report):
            sentences, tokens, longest = sentences + 1, tokens + len(words), max(longest, len(words))
            labels.update(tag[2:] for tag in tags if tag[0] == "B")
            seen.append(hash(words))
        if not sentences:
            raise BadData("the file holds no sentence.", path=name, next_step="Fill it, or leave the split out.")
    except BadData as error:
        report(error)
    counts = LabelledSplit(
        sentences=sentences,
        tokens=tokens,
        entities=labels.total(),
        labels=dict(sorted(labels.items())),
        longest=longest,
    )
    return counts, np.unique(np.array(seen))


def _read_text(file: Path, name: str, report: Callable) -> tuple[PlainSplit, np.ndarray]:
    characters, longest, seen = 0, 0, array("q")
    try:
        for document, _ in text.read(file, name=name, report=report):
            characters, longest = characters + len(document), max(longest, len(document))
            seen.append(hash(document))
        if not seen:
            raise BadData("the file holds no document.", path=name, next_step="Fill it, or leave the split out.")
    except BadData as error:
        report(error)
    distinct = np.unique(np.array(seen))
    repeated = len(seen) - len(distinct)
    return PlainSplit(documents=len(seen), characters=characters, longest=longest, repeated=repeated), distinct


_READERS = {"ner": _read_labelled, "mlm": _read_text}
