"""The data set of a job on the Train page: its chooser, its facts and its problems."""

from collections.abc import Mapping, Sequence

import streamlit as st

from trainer import datasets
from trainer.datasets.cards import Counts
from trainer.datasets.formats import FORMATS, Format
from trainer.errors import StillroomError
from trainer.spec import JobSpec
from trainer.tasks import TASKS
from workbench.launch import form
from workbench.launch.draft import Draft
from workbench.widgets.messages import plain

MAX_LISTED = 6  # labels shown by name
CHECKED_BYTES = 20_000_000  # a larger data set is read when the job is queued, not while the form is filled in


def data_format(draft: Draft) -> Format:
    """The data format of the draft's task."""
    return FORMATS[TASKS[draft.task].data]


def draw(draft: Draft, shown: Mapping[str, Sequence[str]], report: datasets.Report | None) -> None:
    """The chooser, with facts from the card or the files of the chosen data set.

    shown: problems by field. report: the data set as it was read, if it was.
    """
    reference = draft.get("dataset")
    cards = draft.cards | ({reference: datasets.cards()[reference]} if reference in datasets.cards() else {})
    about = f"Choose a bundled data set, or type the path of a folder with {data_format(draft).files}."
    form.choose("Data set", list(cards), key=f"{draft.key}dataset", help=about)
    wrong = shown.get("dataset", ())
    form.show_problems(wrong)
    reference = draft.get("dataset")
    if card := cards.get(reference):
        facts = (
            card.name,
            _listed(card.labels_for(draft.get("task.multi_label"))),
            _counts(card.splits),
            card.licence,
        )
        st.caption(plain(" · ".join(filter(None, facts))))
    elif reference and not wrong:
        if report or not shown:
            st.caption(plain(_data_facts(report)))
        else:  # another field is wrong, so there is no spec to inspect
            form.show_problems(_wrong_reference(reference))
    for note in report.notes if report else ():
        st.caption(f":orange[:material/info:] {plain(note)}")


def _wrong_reference(reference: str) -> list[str]:
    try:
        datasets.resolve(reference)
    except StillroomError as error:
        return [str(error)]
    return []


def _data_facts(report: datasets.Report | None) -> str:
    if report is None:
        return "The data will be read when the job is queued."
    return " · ".join(filter(None, ("No problems found", _listed(report.labels), _counts(report.splits))))


def _listed(labels: Sequence[str]) -> str:
    """The labels by name, after their number if there are many."""
    return (
        ", ".join(labels)
        if len(labels) <= MAX_LISTED
        else f"{len(labels)} labels: {', '.join(labels[:MAX_LISTED])} and more"
    )


def _counts(splits: Mapping[str, Counts]) -> str:
    unit = next(iter(splits.values())).unit if splits else "examples"
    return f"{unit}: " + ", ".join(f"{name} {split.examples:,}" for name, split in splits.items())


def labels(spec: JobSpec, report: datasets.Report | None) -> tuple[str, ...]:
    """The labels of the data set; empty if it has none or they are not known yet."""
    if not spec.task.labelled:
        return ()
    if report is not None:
        return report.labels
    card = datasets.cards().get(spec.dataset)
    return card.labels_for(getattr(spec.task, "multi_label", None)) if card and card.task == spec.task.name else ()
