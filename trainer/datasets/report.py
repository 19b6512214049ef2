"""`stillroom datasets check`: every problem of a data set with its line, and what its files hold."""

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from itertools import combinations
from pathlib import Path
from types import MappingProxyType

import numpy as np
from pydantic import Field, computed_field

from trainer.datasets import hub, rules
from trainer.datasets.cards import MarkedCounts, SentenceCounts, TextCounts, card, cards
from trainer.datasets.places import SPLITS, digest, locate, require_task, split_files
from trainer.datasets.readers import brat, labelled, tagged, text
from trainer.datasets.readers.entities import Tally
from trainer.datasets.tags import kind_of
from trainer.errors import BadData, StillroomError, UnknownName
from trainer.prediction import Plain
from trainer.resolved import ResolvedDataset
from trainer.tasks import TASKS, USUAL

LIMIT = 50  # problems that are kept; the rest are counted


class Problem(Plain):
    """What is wrong, without the place; `line` is 1-based, None where it is the file or the folder.

    split: the split that cannot be used before this is mended, "" where it is the whole data set. learning: whether it
    stands in the way only of a model that learns its labels from train.
    """

    file: str
    line: int | None
    message: str
    next_step: str
    split: str = ""
    learning: bool = Field(False, exclude=True)

    @classmethod
    def of(cls, error: StillroomError, file: str, split: str = "", *, learning: bool = False) -> "Problem":
        """An error about a file, its place apart from its message."""
        line = getattr(error, "line", None)
        if getattr(error, "path", "").startswith(f"{file}/"):  # one of the files that make up a BRAT split
            file = error.path
        message = error.message.removeprefix(f"{file}, line {line:,}: " if line else f"{file}: ")
        return cls(file=file, line=line, message=message, next_step=error.next_step, split=split, learning=learning)

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line:,}" if self.line else self.file
        return f"{place}: {self.message} {self.next_step}".strip()


class LabelledSplit(SentenceCounts):
    """What a split with labels holds; `labels` counts entities (B- tags) by type, `longest` is a number of words.

    lines: where each label stands first (1-based).
    """

    labels: dict[str, int]
    lines: dict[str, int]
    longest: int


class MarkedSplit(MarkedCounts):
    """The same for documents with entities by offset; `given` to `empty` as datasets.readers.entities.Tally.

    attributes: how often each value occurs, by attribute and by the label that has it.
    """

    labels: dict[str, int]
    lines: dict[str, int]
    longest: int
    given: int
    overlapping: int
    discontinuous: int
    others: int
    empty: int
    attributes: dict[str, dict[str, dict[str, int]]] = {}


class PlainSplit(TextCounts):
    """What a split of text holds; `longest` is a number of characters; `repeated`: documents seen before in it.

    shares: how many documents of train stay with it, and how many stand in for dev and test where there are none.
    """

    longest: int
    repeated: int
    shares: dict[str, int] = Field({}, exclude=True)


class ClassifiedSplit(PlainSplit):
    """What a split of labelled documents holds; `labels` counts documents by label, from line `lines` on."""

    labels: dict[str, int]
    lines: dict[str, int]
    multi_label: bool


class Report(Plain):
    """The answer of `check`. files: the split files as messages name them.

    repeated: what two splits share, such as {"train/test": 3}, however it is spaced and whatever its case.
    """

    path: str
    task: str
    problems: tuple[Problem, ...]
    more_problems: int
    files: dict[str, str]
    splits: dict[str, LabelledSplit | MarkedSplit | ClassifiedSplit | PlainSplit]
    repeated: dict[str, int]

    @computed_field
    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of the data set although it can be used."""
        return rules.notes(self.splits, self.repeated, task=self.task)

    def about(self, split: str, not_annotated: Mapping[str, int] = MappingProxyType({})) -> list[str]:
        """What to know of scores on a split; not_annotated: how often a model gave labels that no split has."""
        said = rules.notes(self.splits, self.repeated, task=self.task, split=split)
        said += tuple(filter(None, [rules.only_in(self.splits, split, task=self.task)]))
        return [*said, *rules.outside(not_annotated, task=self.task)]

    @property
    def labels(self) -> tuple[str, ...]:
        """The entity types or labels of all splits, sorted."""
        return tuple(sorted({label for split in self.splits.values() for label in getattr(split, "labels", ())}))

    @computed_field
    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict:
        """The shape of `stillroom datasets check --json`."""
        return self.model_dump(mode="json")


class _Problems:
    """Keeps the first problems of each split and counts the rest: a wrong file may have one on every line."""

    def __init__(self):
        self.kept, self.counts = [], Counter()

    def add(self, error: StillroomError, file: str, split: str = "", *, learning: bool = False) -> None:
        self.counts[split] += 1
        if self.counts[split] > LIMIT:
            return
        self.kept.append(Problem.of(error, file, split, learning=learning))


def check(path: str | Path, *, task: str | None = None, limit: int = LIMIT) -> Report:
    """Read a data set (an id, a folder, or one file or BRAT folder) to its end: the first `limit` problems, and what it
    holds.

    task: as in a spec, by default the one of the card of a data set that ships, or else ner. What passes can be trained
    on: besides wrong rows, everything that training would refuse is a problem. Raises UnknownName for an unknown task,
    or a path that is neither a file nor a folder.
    """
    if task and task not in TASKS:
        raise UnknownName("task", task, TASKS)
    place, problems = locate(str(path)), _Problems()
    if not task:
        shipped = cards().get(str(path))
        task = shipped.task if shipped else USUAL
    # Of a split alone the rows are checked, and nothing else can be.
    alone = TASKS[task].labelled and place.is_file() or TASKS[task].data == "tagged" and brat.is_split(place)
    files = {place.stem.partition(".")[0]: place} if alone else _files(place, task, problems)
    report = _report(place, task, files, _READERS[TASKS[task].data](place, files, None), problems, whole=not alone)
    over = len(report.problems) - limit
    if over <= 0:
        return report
    return report.model_copy(update={"problems": report.problems[:limit], "more_problems": report.more_problems + over})


def survey(dataset: ResolvedDataset, *, task: str, multi_label: bool | None = None) -> Report:
    """The same of a data set that was resolved, for a task; read once as long as its files stay as they are.

    multi_label: whether documents have several labels, where the task says so.
    """
    return _survey(dataset.path, dataset.sha256, task, multi_label)


@lru_cache(maxsize=32)
def _survey(path: str, sha256: str, task: str, multi_label: bool | None) -> Report:
    place, problems = Path(path), _Problems()
    if not place.is_absolute():
        return _hub_report(path, task, multi_label, problems)
    files = _files(place, task, problems)
    return _report(place, task, files, _READERS[TASKS[task].data](place, files, multi_label), problems)


def _report(
    place: Path, task: str, files: dict[str, Path], read: Callable, problems: _Problems, *, whole: bool = True
) -> Report:
    """Read every split, `read` being (file, its name in messages, what takes a problem) -> (counts, hashes).

    whole: whether this is a data set, so that its splits have to fit each other.
    """
    splits, seen, name = {}, {}, place.name if place.is_absolute() else str(place)
    names = {split: name if file == place else f"{name}/{file.name}" for split, file in files.items()}
    for split, file in files.items():
        add = partial(problems.add, file=names[split], split=split)
        splits[split], seen[split] = read(file, names[split], add)
    if whole and not problems.counts["train"]:  # what train holds is not known before its rows are right
        for split, error in rules.learnable(splits, names, task=task):
            problems.add(error, error.path, split, learning=True)
    return Report(
        path=name,
        task=task,
        problems=tuple(problems.kept),
        more_problems=problems.counts.total() - len(problems.kept),
        files=names,
        splits=splits,
        repeated={f"{a}/{b}": len(np.intersect1d(seen[a], seen[b])) for a, b in combinations(seen, 2)},
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
    needed = SPLITS if TASKS[task].labelled else ("train",)  # text without dev or test lends a share of train
    like = next(iter(files.values())).name.partition(".")[2]
    for split in needed:
        if split not in files:
            step = f"Add {split}{f'.{like}' if like else ', a folder of BRAT files'}."
            problems.add(BadData(f"there is no {split} split.", path=place.name, next_step=step), place.name, split)
    return files


def _read_tagged(file: Path, name: str, report: Callable) -> tuple[LabelledSplit, np.ndarray]:
    """The counts of a file, and a hash of each sentence: the words themselves would hold the whole file in memory."""
    sentences, tokens, longest, labels, lines, seen, tally = 0, 0, 0, Counter(), {}, array("q"), Tally()
    attributes: Counter[tuple[str, str, str]] = Counter()  # (name, label, value)
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
            seen.append(_hash(" ".join(words)))
        if not sentences:
            raise BadData("the split holds no sentence.", path=name, next_step="Fill it, or leave the split out.")
    except BadData as error:
        report(error)
    held = {"tokens": tokens, "entities": labels.total(), "labels": dict(sorted(labels.items())), "longest": longest}
    held["lines"] = dict(sorted(lines.items()))
    if tagged.has_documents(file):
        held["attributes"] = {}
        for (attribute, label, value), count in sorted(attributes.items()):
            held["attributes"].setdefault(attribute, {}).setdefault(label, {})[value] = count
        return MarkedSplit(documents=sentences, **vars(tally) | held), np.unique(np.array(seen))
    return LabelledSplit(sentences=sentences, **held), np.unique(np.array(seen))


def _read_text(file: Path, name: str, report: Callable, *, lent: Collection[str]) -> tuple[PlainSplit, np.ndarray]:
    """lent: the splits that train stands in for, if this is train."""
    shares, split_of = Counter(), None

    def shared() -> Iterator[text.Document]:
        for document in text.read(file, name=name, report=report):
            shares[split_of(document.text)] += 1
            yield document

    try:
        split_of = text.split_chooser((document.text for document in text.read(file, report=lambda _: None)), lent)
    except BadData:  # it is met again, and reported, below
        split_of = text.split_by_hash
    counts, _, distinct = _count_documents(shared(), name, report)
    return PlainSplit(**counts, shares=dict.fromkeys(lent, 0) | shares), distinct


def _text_reader(place: Path, files: dict[str, Path], multi_label: bool | None) -> Callable:
    lent = [split for split in ("dev", "test") if split not in files]
    return lambda file, name, report: _read_text(file, name, report, lent=lent if file == files.get("train") else ())


def _read_classified(file: Path, name: str, report: Callable, *, field: str) -> tuple[ClassifiedSplit, np.ndarray]:
    return _classified(labelled.read(file, field=field, name=name, report=report), name, report, field)


def _classified(documents: Iterable, name: str, report: Callable, field: str) -> tuple[ClassifiedSplit, np.ndarray]:
    counts, found, distinct = _count_documents(documents, name, report)
    labels = {label: number for label, (number, _) in sorted(found.items())}
    lines = {label: line for label, (_, line) in sorted(found.items())}
    return ClassifiedSplit(**counts, labels=labels, lines=lines, multi_label=field == "labels"), distinct


def _count_documents(documents: Iterable, name: str, report: Callable) -> tuple[dict[str, int], dict, np.ndarray]:
    """Counts; by label how many documents have it and the line of the first; and a hash of each document: the texts
    would hold the whole file in memory.
    """
    characters, longest, labels, seen = 0, 0, {}, array("q")
    try:
        for document in documents:
            characters, longest = characters + len(document.text), max(longest, len(document.text))
            for label in getattr(document, "labels", ()):
                number, line = labels.get(label, (0, document.line))
                labels[label] = (number + 1, line)
            seen.append(_hash(document.text))
        if not seen:
            raise BadData("the file holds no document.", path=name, next_step="Fill it, or leave the split out.")
    except BadData as error:
        report(error)
    distinct = np.unique(np.array(seen))
    repeated = len(seen) - len(distinct)
    return dict(documents=len(seen), characters=characters, longest=longest, repeated=repeated), labels, distinct


def _hash(passage: str) -> int:
    """Equal for texts that differ in white space and case alone."""
    return hash(" ".join(passage.split()).casefold())


def _hub_report(reference: str, task: str, multi_label: bool | None, problems: _Problems) -> Report:
    """The report of labelled documents that are streamed; of text it is empty: it may be endless."""
    if not TASKS[task].labelled:
        return Report(path=reference, task=task, problems=(), more_problems=0, files={}, splits={}, repeated={})
    field = hub.label_field(reference) if multi_label is None else "labels" if multi_label else "label"

    def read(file: Path, name: str, report: Callable) -> tuple[ClassifiedSplit, np.ndarray]:
        return _classified(hub.labelled(reference, file.name, field=field), name, report, field)

    files = {split: Path(split) for split in hub.splits(reference)} if TASKS[task].data == "labelled" else {}
    for split in (split for split in SPLITS if split not in files):
        error = BadData(f"there is no {split} split.", path=reference, next_step="Save it as files of a folder.")
        problems.add(error, reference, split)
    return _report(Path(reference), task, files, read, problems)


def _classified_reader(place: Path, files: dict[str, Path], multi_label: bool | None) -> Callable:
    """A reader of the field that the task or the card names, or that the first row of the first file has."""
    stated = card(place) if place.is_dir() and files else None
    if multi_label is None and stated:
        multi_label = stated.multi_label
    if multi_label is not None:
        return partial(_read_classified, field="labels" if multi_label else "label")
    try:
        field = labelled.detect_field(next(iter(files.values()))) if files else "label"
    except BadData:  # it is met again, and reported, when the file is read
        field = "label"
    return partial(_read_classified, field=field)


# By kind of data: the place and its split files give what reads one of them.
_READERS = {
    "tagged": lambda *_: _read_tagged,
    "text": _text_reader,
    "labelled": _classified_reader,
}
