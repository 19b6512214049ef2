"""Comparisons that one click makes: a teacher beside its student, and one note read in three ways."""

from collections.abc import Sequence
from typing import NamedTuple

from trainer.zoo import ModelEntry

CUT_OFF = 128  # tokens that the first of three ways reads


class Preset(NamedTuple):
    """Arms that belong together, and why, in words."""

    title: str
    arms: tuple[str, ...]
    says: str


def teachers_and_students(ready: Sequence[ModelEntry]) -> list[Preset]:
    """Each ready model beside the teacher, or else the model that it was made from, if that is ready for the task."""
    here = {entry.id: entry for entry in ready}
    return [
        Preset(f"{_known_as(teacher)} and {_known_as(entry)}", (teacher.id, entry.id), "What the student lost.")
        for entry in ready
        if (teacher := _teacher(entry, here))
    ]


def _teacher(entry: ModelEntry, here: dict[str, ModelEntry]) -> ModelEntry | None:
    known = (here[name] for name in (entry.teacher, entry.start) if name in here and name != entry.id)
    return next((other for other in known if other.task == entry.task), None)


def _known_as(entry: ModelEntry) -> str:
    return entry.id if entry.role == "run" else entry.name


def three_ways(ready: Sequence[ModelEntry], model: str | None) -> Preset | None:
    """A model cut off, the same in windows, and a long model; without one, the same in windows of its full size.

    `model` is the one that is chosen, if any, and is left for the first that can read in all three ways.
    """
    fitting = [entry for entry in ready if entry.max_tokens > CUT_OFF]
    short = next((entry for entry in fitting if entry.id == model), next(iter(fitting), None))
    if short is None:
        return None
    cut_off, long = f"{short.id}@truncate:{CUT_OFF}", _long(short, ready)
    if long:
        arms = (cut_off, f"{short.id}@windows", f"{long.id}@windows")
        says = f"{_known_as(short)}: its first {CUT_OFF} tokens, and in windows; {_known_as(long)}: in long windows."
    else:
        arms = (cut_off, f"{short.id}@windows:{CUT_OFF}", f"{short.id}@windows:{short.max_tokens}")
        says = f"{_known_as(short)}: its first {CUT_OFF} tokens, in windows of {CUT_OFF}, and in its largest windows."
    return Preset("Three ways to read", arms, says)


def _long(short: ModelEntry, ready: Sequence[ModelEntry]) -> ModelEntry | None:
    """The model with the longest window that can say what the short one says, if it is longer than the short one's."""
    others = [
        entry
        for entry in ready
        if entry.task == short.task and entry.max_tokens > short.max_tokens and set(entry.labels) & set(short.labels)
    ]
    return max(others, key=lambda entry: entry.max_tokens, default=None)
