"""The data set of a job on the Train page: its chooser, what it holds, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import streamlit as st

from trainer import datasets
from trainer.errors import StillroomError
from trainer.spec import JobSpec
from workbench.launch import form
from workbench.launch.draft import Draft
from workbench.widgets.messages import plain

LISTED = 6  # labels by name
CHECKED_BYTES = 20_000_000  # a larger data set is read when the job is queued, not while a form is filled in


class Kind(NamedTuple):
    """What the data of a task are, in words: what a model learns on, and the files of a folder of one's own."""

    data: str
    files: str


KINDS = {
    "ner": Kind("tagged words", "train.conll, dev.conll and test.conll"),
    "classification": Kind("labelled documents", "train, dev and test as .jsonl or .csv with text and label or labels"),
    "mlm": Kind("plain text", "train.txt, one document a line"),
}


def draw(own: Draft, shown: Mapping[str, Sequence[str]], report: datasets.Report | None) -> None:
    """The chooser, with what the card or the files of the chosen one say; `shown` are the problems by field.

    report: what was read of it, if it was.
    """
    held = own.get("dataset")
    cards = own.cards | ({held: datasets.cards()[held]} if held in datasets.cards() else {})
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


def _card_labels(card: datasets.DatasetCard, multi_label: bool | None) -> tuple[str, ...]:
    return card.labels_for(multi_label) if card.task == "classification" else card.labels


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
    return _card_labels(card, getattr(spec.task, "multi_label", None)) if card and card.task == spec.task.name else ()
