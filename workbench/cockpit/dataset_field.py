"""The data set of a job on the Train page: its chooser, what it holds, and what is wrong with it."""

from collections.abc import Mapping, Sequence

import streamlit as st

from trainer import datasets
from trainer.datasets import hub
from trainer.datasets.places import locate, split_files
from trainer.errors import StillroomError
from trainer.spec import JobSpec
from workbench import form
from workbench.cockpit.draft import Draft
from workbench.pages import plain

SHOWN = 5  # problems that are listed
CHECKED_BYTES = 50_000_000  # a larger data set is read when the job starts, not at every look


def draw(own: Draft, shown: Mapping[str, Sequence[str]]) -> None:
    """The chooser, with what the card or the files of the chosen one say; `shown` are the problems by field."""
    cards = {name: card for name, card in datasets.cards().items() if card.task == own.task}
    files = "train.conll, dev.conll and test.conll" if own.task == "ner" else "train.txt, one document a line"
    st.selectbox(
        "Data set",
        own.offered(cards, "dataset"),
        key=f"{own.key}dataset",
        help=f"A data set that ships, or type the path of a folder with {files}.",
        accept_new_options=True,
        persist_state="session",
    )
    wrong = shown.get("dataset", ())
    form.show_problems(wrong)
    reference = own.get("dataset")
    if card := cards.get(reference):
        facts = (card.name, ", ".join(card.labels), _counts(card.splits), card.licence)
        st.caption(plain(" · ".join(filter(None, facts))))
    elif reference and not wrong:
        st.caption(plain(_data_facts(reference, own.task)))


def _data_facts(reference: str, task: str) -> str:
    if not _checkable(reference):
        return "It is read when the job starts."
    report = _check(reference, task)
    labels = sorted({label for split in report.splits.values() for label in getattr(split, "labels", ())})
    return " · ".join(filter(None, ("Read without a problem", ", ".join(labels), _counts(report.splits))))


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
    """The entity types of the data set; none where there are no labels, or they are not known yet."""
    if spec.task.name != "ner" or problems(spec):
        return ()
    if card := datasets.cards().get(spec.dataset):
        return card.labels
    if not _checkable(spec.dataset):
        return ()
    return tuple(sorted({label for split in _check(spec.dataset, "ner").splits.values() for label in split.labels}))


def problems(spec: JobSpec | None) -> list[tuple[str, str]]:
    """(field, what is wrong) of a folder of a person's own, or of the choice; what ships is known to be right."""
    if spec is None:
        return []
    if card := datasets.cards().get(spec.dataset):
        fits = card.task == spec.task.name
        needed = "labels" if spec.task.name == "ner" else "plain text"
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
