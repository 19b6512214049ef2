"""`stillroom datasets check`: every problem of a data set with its line, and what its files contain."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache, partial
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic import Field, computed_field

from trainer.datasets import hub, rules
from trainer.datasets.cards import card
from trainer.datasets.contents import (
    Contents,
    LabelledContents,
    labels_in,
)
from trainer.datasets.counting import READERS, Reader, count_labelled
from trainer.datasets.places import SPLITS, digest, locate, require_task, split_files
from trainer.datasets.readers import Reporter, brat, labelled
from trainer.errors import BadData, StillroomError, UnknownName
from trainer.prediction import Plain
from trainer.resolved import ResolvedDataset
from trainer.tasks import DEFAULT_TASK, TASKS

LIMIT = 50  # problems that a report has; the rest are counted


class Problem(Plain):
    """One thing that is wrong with a data set; `line` is 1-based, None for a file or a folder as a whole.

    split: the split that cannot be used until this is corrected, "" for the whole data set. learning: whether it
    matters only to a model that learns its labels from train.
    """

    file: str
    line: int | None
    message: str
    next_step: str
    split: str = ""
    learning: bool = Field(False, exclude=True)

    @classmethod
    def of(cls, error: StillroomError, file: str, split: str = "", *, learning: bool = False) -> "Problem":
        """An error about a file, with its place separated from its message."""
        line = error.line if isinstance(error, BadData) else None
        if isinstance(error, BadData) and error.path.startswith(f"{file}/"):  # one of the files of a BRAT split
            file = error.path
        message = error.message.removeprefix(f"{file}, line {line:,}: " if line else f"{file}: ")
        return cls(file=file, line=line, message=message, next_step=error.next_step, split=split, learning=learning)

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line:,}" if self.line else self.file
        return f"{place}: {self.message} {self.next_step}".strip()


class Report(Plain):
    """The result of `check`. files: the split files as messages name them.

    repeated: how many sentences or documents two splits share, such as {"train/test": 3}; white space and case are
    ignored.
    """

    path: str
    task: str
    problems: tuple[Problem, ...]
    more_problems: int
    files: dict[str, str]
    splits: dict[str, Contents]
    repeated: dict[str, int]

    @computed_field  # type: ignore[prop-decorator]  # mypy does not support decorators of properties
    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of the data set even if it can be used."""
        return rules.notes(self.splits, self.repeated, task=self.task)

    def about(self, split: str, not_annotated: Mapping[str, int] = MappingProxyType({})) -> list[str]:
        """What to know of scores on a split. not_annotated: how often a model predicted labels that no split has."""
        notes = rules.notes(self.splits, self.repeated, task=self.task, split=split)
        notes += tuple(filter(None, [rules.labels_not_in_train(self.splits, split, task=self.task)]))
        return [*notes, *rules.unannotated_notes(not_annotated, task=self.task)]

    @property
    def labels(self) -> tuple[str, ...]:
        """The entity types or labels of all splits, sorted."""
        return tuple(sorted({label for split in self.splits.values() for label in labels_in(split)}))

    @computed_field  # type: ignore[prop-decorator]  # mypy does not support decorators of properties
    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The shape of `stillroom datasets check --json`."""
        return self.model_dump(mode="json")


class _Problems:
    """The first problems of each split, and the number of all: a wrong file may have one on every line."""

    def __init__(self) -> None:
        self.first: list[Problem] = []
        self.counts = Counter[str]()

    def add(self, error: StillroomError, file: str, split: str = "", *, learning: bool = False) -> None:
        self.counts[split] += 1
        if self.counts[split] > LIMIT:
            return
        self.first.append(Problem.of(error, file, split, learning=learning))


def check(path: str | Path, *, task: str | None = None, limit: int = LIMIT) -> Report:
    """Read a data set (an id, a folder, or one file or BRAT folder) to its end, and report its contents and problems.

    task: as in a spec; by default the one on the card, or else ner. limit: of problems in the
    report. What passes can be trained on: not only wrong rows are problems, but everything that training would refuse.
    Raises UnknownName for an unknown task, or a path that is neither a file nor a folder.
    """
    if task and task not in TASKS:
        raise UnknownName("task", task, TASKS)
    place, problems = locate(str(path)), _Problems()
    if not task:
        task = _stated_task(place) or DEFAULT_TASK
    # Of a single split only the rows can be checked.
    alone = TASKS[task].labelled and (place.is_file() or brat.is_split(place))
    files = {place.stem.partition(".")[0]: place} if alone else _files(place, task, problems)
    report = _report(place, task, files, READERS[TASKS[task].data](place, files, None), problems, whole=not alone)
    excess = len(report.problems) - limit
    if excess <= 0:
        return report
    more = report.more_problems + excess
    return report.model_copy(update={"problems": report.problems[:limit], "more_problems": more})


def _stated_task(place: Path) -> str | None:
    """The task on the card of a folder; a damaged card is reported with the splits."""
    with suppress(BadData):
        return stated.task if place.is_dir() and (stated := card(place)) else None
    return None


def survey(dataset: ResolvedDataset, *, task: str, multi_label: bool | None = None) -> Report:
    """The report of a resolved data set for a task; cached until its files change.

    multi_label: whether documents have several labels; None: as the card or the data says.
    """
    return _survey(dataset.path, dataset.sha256, task, multi_label)


@lru_cache(maxsize=32)
def _survey(path: str, sha256: str, task: str, multi_label: bool | None) -> Report:
    place, problems = Path(path), _Problems()
    if not place.is_absolute():
        return _hub_report(path, task, multi_label, problems)
    files = _files(place, task, problems)
    return _report(place, task, files, READERS[TASKS[task].data](place, files, multi_label), problems)


def _report(
    place: Path, task: str, files: dict[str, Path], read: Reader, problems: _Problems, *, whole: bool = True
) -> Report:
    """Read every split. whole: whether this is a data set rather than a split, so that its splits have to fit."""
    splits, hashes, name = (
        dict[str, Contents](),
        dict[str, np.ndarray](),
        place.name if place.is_absolute() else str(place),
    )
    names = {split: name if file == place else f"{name}/{file.name}" for split, file in files.items()}
    for split, file in files.items():
        add = partial(problems.add, file=names[split], split=split)
        splits[split], hashes[split] = read(file, names[split], add)
    if whole and not problems.counts["train"]:  # the contents of train are known only if its rows are right
        for split, error in rules.training_problems(splits, names, task=task):
            problems.add(error, error.path, split, learning=True)
    return Report(
        path=name,
        task=task,
        problems=tuple(problems.first),
        more_problems=problems.counts.total() - len(problems.first),
        files=names,
        splits=splits,
        repeated={f"{a}/{b}": len(np.intersect1d(hashes[a], hashes[b])) for a, b in combinations(hashes, 2)},
    )


def _files(place: Path, task: str, problems: _Problems) -> dict[str, Path]:
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
    needed = SPLITS if TASKS[task].labelled else ("train",)  # a share of train serves as dev and test of text
    suffix = next(iter(files.values())).name.partition(".")[2]
    for split in needed:
        if split not in files:
            step = f"Add {split}{f'.{suffix}' if suffix else ', a folder of BRAT files'}."
            problems.add(BadData(f"there is no {split} split.", path=place.name, next_step=step), place.name, split)
    return files


def _hub_report(reference: str, task: str, multi_label: bool | None, problems: _Problems) -> Report:
    """The report of labelled documents, which are streamed; of text it is empty, because that may be endless."""
    if not TASKS[task].labelled:
        return Report(path=reference, task=task, problems=(), more_problems=0, files={}, splits={}, repeated={})
    field = hub.label_field(reference) if multi_label is None else labelled.field_for(multi_label)

    def read(file: Path, name: str, report: Reporter) -> tuple[LabelledContents, np.ndarray]:
        return count_labelled(hub.labelled(reference, file.name, field=field), name, report, field)

    files = {split: Path(split) for split in hub.splits(reference)} if TASKS[task].data == "labelled" else {}
    for split in (split for split in SPLITS if split not in files):
        error = BadData(f"there is no {split} split.", path=reference, next_step="Save it as files of a folder.")
        problems.add(error, reference, split)
    return _report(Path(reference), task, files, read, problems)
