"""The arms that can be chosen, and their titles."""

from collections import Counter
from collections.abc import Iterable, Sequence

from trainer.errors import StillroomError
from trainer.tasks import needs_hypothesis, needs_question
from trainer.zoo import ModelEntry
from workbench.predict import Arm


def arm_titles(ready: Sequence[ModelEntry], chosen: Iterable[str] = ()) -> dict[str, str]:
    """The title of every arm on offer: each ready model, whole and truncated, and those of `chosen` that use them.

    Titles are unique, since Streamlit tells options apart by what they show.
    """
    titles = {}
    for model, title in model_titles(ready).items():
        titles[model] = title
        titles[f"{model}@truncate"] = f"{title}, {_reading(Arm(model=model, reading='truncate'))}"
    for name in chosen:
        arm = _parse(name)
        if arm and name == arm.name and name not in titles and arm.model in titles:
            titles[name] = f"{titles[arm.model]}, {_reading(arm)}"
    return titles


def model_titles(ready: Sequence[ModelEntry]) -> dict[str, str]:
    """The unique title of each model, by its reference."""
    shared = {name for name, count in Counter(entry.name for entry in ready).items() if count > 1}
    return {
        entry.id: f"{entry.name}, {entry.id}" if entry.role == "run" or entry.name in shared else entry.name
        for entry in ready
    }


def read_beside(arms: Iterable[str], ready: Sequence[ModelEntry]) -> tuple[str, ...]:
    """What any of these arms reads beside the text of a note, as names of a Note's fields: hypothesis, question."""
    models = {arm.model for name in arms if (arm := _parse(name))}
    tasks = [entry.task for entry in ready if entry.id in models]
    needs = {"hypothesis": needs_hypothesis, "question": needs_question}
    return tuple(field for field, is_needed in needs.items() if any(map(is_needed, tasks)))


def _parse(name: str) -> Arm | None:
    try:
        return Arm.parse(name)
    except StillroomError:
        return None


def _reading(arm: Arm) -> str:
    """How an arm reads, in words; tokens only where they were chosen."""
    words = {"truncate": "beginning only", "windows": "part by part", "whole": "in one piece"}[arm.reading]
    return words if arm.max_tokens is None else f"{words} ({arm.max_tokens:,} tokens)"
