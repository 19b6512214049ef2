"""The data set of a job on the Train page: its chooser, what it holds, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import streamlit as st

from trainer import datasets
from trainer.datasets import hub
from trainer.datasets.places import locate, split_files
from trainer.errors import StillroomError
from trainer.spec import JobSpec
from workbench import form
from workbench.cockpit.draft import Draft
from workbench.pages import plain

LISTED = 6  # labels by name
SHOWN = 5  # problems that are listed
CHECKED_BYTES = 50_000_000  # a larger data set is read when the job starts, not at every look


class Kind(NamedTuple):
    """What the data of a task are, in words: what a model learns on, and the files of a folder of one's own."""

    data: str
    files: str


KINDS = {
    "ner": Kind("tagged words", "train.conll, dev.conll and test.conll"),
    "classification": Kind("labelled documents", "train, dev and test as .jsonl or .csv with text and label or labels"),
    "mlm": Kind("plain text", "train.txt, one document a line"),
}


def draw(own: Draft, shown: Mapping[str, Sequence[str]]) -> None:
    """The chooser, with what the card or the files of the chosen one say; `shown` are the problems by field."""
    cards = {name: card for name, card in datasets.cards().items() if card.task == own.task}
    files = KINDS[own.task].files
    about = f"A data set that ships, or type the path of a folder with {files}."
    form.choose("Data set", list(cards), key=f"{own.key}dataset", help=about)
    wrong = shown.get("dataset", ())
    form.show_problems(wrong)
    reference = own.get("dataset")
    if card := cards.get(reference):
        facts = (
            card.name,
            _listed(_card_labels(card, own.get("task.multi_label"))),
            _counts(card.splits),
            card.licence,
        )
        st.caption(plain(" · ".join(filter(None, facts))))
    elif reference and not wrong:
        try:
            st.caption(plain(_data_facts(reference, own.task)))
        except StillroomError as error:  # not said yet where another field is wrong, so that there is no spec
            form.show_problems([str(error)])


def _data_facts(reference: str, task: str) -> str:
    if not _checkable(reference):
        return "It is read when the job starts."
    report = _check(reference, task)
    labels = sorted({label for split in report.splits.values() for label in getattr(split, "labels", ())})
    return " · ".join(filter(None, ("Read without a problem", _listed(labels), _counts(report.splits))))


def _listed(labels: Sequence[str]) -> str:
    """The labels by name, or how many they are."""
    return (
        ", ".join(labels) if len(labels) <= LISTED else f"{len(labels)} labels: {', '.join(labels[:LISTED])} and more"
    )


def _card_labels(card: datasets.DatasetCard, multi_label: bool | None) -> tuple[str, ...]:
    return card.labels_for(multi_label) if card.task == "classification" else card.labels


def _counts(splits: Mapping) -> str:
    unit = next(iter(splits.values())).unit if splits else "examples"
    return f"{unit}: " + ", ".join(f"{name} {split.examples:,}" for name, split in splits.items())


@st.cache_data(ttl=10, max_entries=4, show_spinner="Reading the data set")
def _check(reference: str, task: str) -> datasets.Report:
    return datasets.check(reference, task=task)


def _checkable(reference: str) -> bool:
    """Whether it is here and small enough to be read while a person waits."""
    try:
        files = split_files(locate(reference)).values()
    except StillroomError:
        return not hub.is_reference(reference)  # what is wrong with it is said by reading it
    return sum(path.stat().st_size for path in files if path.is_file()) <= CHECKED_BYTES


def labels(spec: JobSpec) -> tuple[str, ...]:
    """The entity types or labels of the data set; none where there are none, or they are not known yet."""
    if not spec.task.labelled or problems(spec):
        return ()
    if card := datasets.cards().get(spec.dataset):
        return _card_labels(card, getattr(spec.task, "multi_label", None))
    if not _checkable(spec.dataset):
        return ()
    return tuple(
        sorted({label for split in _check(spec.dataset, spec.task.name).splits.values() for label in split.labels})
    )


def problems(spec: JobSpec | None) -> list[tuple[str, str]]:
    """(field, what is wrong) of a folder of a person's own, or of the choice; what ships is known to be right."""
    if spec is None:
        return []
    if card := datasets.cards().get(spec.dataset):
        fits = card.task == spec.task.name or (card.task, spec.task.name) == ("classification", "mlm")
        needed = KINDS[spec.task.name].data
        return [] if fits else [("dataset", f"{spec.task.name} needs {needed}; {spec.dataset} is not that.")]
    if not _checkable(spec.dataset):
        return []
    try:
        report = _check(spec.dataset, spec.task.name)
    except StillroomError as error:
        return [("dataset", str(error))]
    found = [
        f"{problem.file}{f', line {problem.line:,}' if problem.line else ''}: {problem.message} {problem.next_step}"
        for problem in report.problems[:SHOWN]
    ]
    more = len(report.problems) - len(found) + report.more_problems
    command = f"stillroom datasets check {spec.dataset} --task {spec.task.name}"
    rest = [f"{more} more: {command} lists them."] if more else []
    return [("dataset", problem) for problem in (*found, *rest)]
