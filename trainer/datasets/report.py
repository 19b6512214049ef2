"""`stillroom datasets check`: every problem of a data set with its line, and what its files hold."""

from collections import Counter
from itertools import combinations
from pathlib import Path

from pydantic import computed_field

from trainer.datasets.cards import SPLITS, digest, locate, split_files
from trainer.datasets.conll import read
from trainer.errors import BadData, StillroomError, UnknownName
from trainer.prediction import Plain
from trainer.tasks import TASKS


class Problem(Plain):
    """What is wrong, without the place; `line` is 1-based, None where it is the file or the folder."""

    file: str
    line: int | None
    message: str
    next_step: str


class SplitCounts(Plain):
    """What a split holds; `labels` counts entities (B- tags) by type, `longest` is a number of words."""

    sentences: int
    tokens: int
    entities: int
    labels: dict[str, int]
    longest: int


class Report(Plain):
    """The answer of `check`. `repeated` counts the sentences that two splits share, such as {"train/test": 3}."""

    path: str
    task: str
    problems: tuple[Problem, ...]
    more_problems: int
    splits: dict[str, SplitCounts]
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
    for split, file in _files(place, problems).items():
        name = file.name if file == place else f"{place.name}/{file.name}"
        splits[split], seen[split] = _read_split(file, name, problems)
    return Report(
        path=place.name,
        task=task,
        problems=tuple(problems.kept),
        more_problems=problems.more,
        splits=splits,
        repeated={f"{one}/{other}": len(seen[one] & seen[other]) for one, other in combinations(seen, 2)},
    )


def _files(place: Path, problems: _Problems) -> dict[str, Path]:
    if place.is_file():
        return {place.stem: place}
    files = {}
    try:
        files = split_files(place)
        digest(place)
    except StillroomError as error:
        problems.add(error, place.name)
    for split in SPLITS:
        if files and split not in files:
            missing = BadData(f"there is no {split} split.", path=place.name, next_step=f"Add {split}.conll.")
            problems.add(missing, place.name)
    return files


def _read_split(file: Path, name: str, problems: _Problems) -> tuple[SplitCounts, set[int]]:
    sentences, tokens, longest, labels, seen = 0, 0, 0, Counter(), set()
    try:
        for (words, tags), _ in read(file, name=name, report=lambda error: problems.add(error, name)):
            sentences, tokens, longest = sentences + 1, tokens + len(words), max(longest, len(words))
            labels.update(tag[2:] for tag in tags if tag[0] == "B")
            seen.add(hash(words))  # a set of the words themselves would hold the whole file in memory
        if not sentences:
            raise BadData("the file holds no sentence.", path=name, next_step="Fill it, or leave the split out.")
    except BadData as error:
        problems.add(error, name)
    counts = SplitCounts(
        sentences=sentences,
        tokens=tokens,
        entities=labels.total(),
        labels=dict(sorted(labels.items())),
        longest=longest,
    )
    return counts, seen
