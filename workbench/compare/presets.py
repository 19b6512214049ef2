"""Ready-made comparisons: the first pair, a teacher beside its student, and one note read in three ways."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from trainer.zoo import ModelEntry

FIRST = ("minilm-notes", "minilm-notes-l3")  # models for notes, which the page shows first where they are ready
CUT_OFF = 128  # tokens that the truncated arm of `three_ways` reads


class Preset(NamedTuple):
    """Arms that belong together, and what comparing them shows."""

    title: str
    arms: tuple[str, ...]
    description: str


def first_pair(arms: Iterable[str]) -> list[str]:
    """The two arms that the page opens with: those of FIRST that are offered, then others that read everything."""
    offered = [arm for arm in arms if "@" not in arm]
    return sorted(offered, key=lambda arm: FIRST.index(arm) if arm in FIRST else len(FIRST))[:2]


def teachers_and_students(ready: Sequence[ModelEntry]) -> list[Preset]:
    """Each ready model beside its teacher, or else the model it started from, where that is ready for the same task."""
    entries = {entry.id: entry for entry in ready}
    return [
        Preset(
            f"{_short_name(teacher)} and {_short_name(entry)}", (teacher.id, entry.id), "What the smaller model misses."
        )
        for entry in ready
        if (teacher := _teacher(entry, entries))
    ]


def _teacher(entry: ModelEntry, entries: dict[str, ModelEntry]) -> ModelEntry | None:
    candidates = (entries[name] for name in (entry.teacher, entry.start) if name in entries and name != entry.id)
    return next((other for other in candidates if other.task == entry.task), None)


def _short_name(entry: ModelEntry) -> str:
    return entry.id if entry.role == "run" else entry.name


def three_ways(ready: Sequence[ModelEntry], model: str | None) -> Preset | None:
    """A model truncated, the same model in windows, and a long model; without one, windows of the model's full size.

    `model` is preferred; where it is None or its window is too short, the first model that fits is taken.
    """
    fitting = [entry for entry in ready if entry.max_tokens > CUT_OFF]
    short = next((entry for entry in fitting if entry.id == model), next(iter(fitting), None))
    if short is None:
        return None
    truncated, long = f"{short.id}@truncate:{CUT_OFF}", _longer(short, ready)
    if long:
        arms = (truncated, f"{short.id}@windows", f"{long.id}@windows")
        ways = f"the beginning only, and part by part; {_short_name(long)}: in long parts."
    else:
        arms = (truncated, f"{short.id}@windows:{CUT_OFF}", f"{short.id}@windows:{short.max_tokens}")
        ways = "the beginning only, in short parts, and in its longest parts."
    return Preset("Three ways to read", arms, f"{_short_name(short)}: {ways}")


def _longer(short: ModelEntry, ready: Sequence[ModelEntry]) -> ModelEntry | None:
    """The model with the longest window among those for the same task with a common label, if longer than `short`'s."""
    others = [
        entry
        for entry in ready
        if entry.task == short.task and entry.max_tokens > short.max_tokens and set(entry.labels) & set(short.labels)
    ]
    return max(others, key=lambda entry: entry.max_tokens, default=None)
