"""The data set of a job on the Train page: its chooser, what it holds, and what is wrong with it."""

from collections.abc import Mapping, Sequence

import streamlit as st

from trainer import datasets
from trainer.datasets.formats import FORMATS, Format
from trainer.errors import StillroomError
from trainer.spec import JobSpec
from trainer.tasks import TASKS
from workbench.launch import form
from workbench.launch.draft import Draft
from workbench.widgets.messages import plain

LISTED = 6  # labels by name
CHECKED_BYTES = 20_000_000  # a larger data set is read when the job is queued, not while a form is filled in


def kind(own: Draft) -> Format:
    """What the data of the draft's task are, in words."""
    return FORMATS[TASKS[own.task].data]


def draw(own: Draft, shown: Mapping[str, Sequence[str]], report: datasets.Report | None) -> None:
    """The chooser, with what the card or the files of the chosen one say; `shown` are the problems by field.

    report: what was read of it, if it was.
    """
    held = own.get("dataset")
    cards = own.cards | ({held: datasets.cards()[held]} if held in datasets.cards() else {})
    files = kind(own).files
    about = f"A data set that ships, or type the path of a folder with {files}."
    form.choose("Data set", list(cards), key=f"{own.key}dataset", help=about)
    wrong = shown.get("dataset", ())
    form.show_problems(wrong)
    reference = own.get("dataset")
    if card := cards.get(reference):
        facts = (
            card.name,
            _listed(card.labels_for(own.get("task.multi_label"))),
            _counts(card.splits),
            card.licence,
        )
        st.caption(plain(" · ".join(filter(None, facts))))
    elif reference and not wrong:
        if report or not shown:
            st.caption(plain(_data_facts(report)))
        else:  # another field is wrong, so that there is no spec to look at
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
        return "It is read when the job is queued."
    return " · ".join(filter(None, ("Read without a problem", _listed(report.labels), _counts(report.splits))))


def _listed(labels: Sequence[str]) -> str:
    """The labels by name, or how many they are."""
    return (
        ", ".join(labels) if len(labels) <= LISTED else f"{len(labels)} labels: {', '.join(labels[:LISTED])} and more"
    )


def _counts(splits: Mapping) -> str:
    unit = next(iter(splits.values())).unit if splits else "examples"
    return f"{unit}: " + ", ".join(f"{name} {split.examples:,}" for name, split in splits.items())


def labels(spec: JobSpec, report: datasets.Report | None) -> tuple[str, ...]:
    """The entity types or labels of the data set; none where there are none, or they are not known yet."""
    if not spec.task.labelled:
        return ()
    if report is not None:
        return report.labels
    card = datasets.cards().get(spec.dataset)
    return card.labels_for(getattr(spec.task, "multi_label", None)) if card and card.task == spec.task.name else ()
