"""Tasks: what a model is asked to do. One file per task; pages read the options without torch.

Whoever needs to know what a task reads, answers or counts asks its traits (trainer.tasks.task): nobody compares its
name. What a task does with data stands in trainer/examples/, in a file of the same name.
"""

from typing import Any

from trainer.tasks.classification import Classification
from trainer.tasks.mlm import MLM
from trainer.tasks.ner import NER
from trainer.tasks.task import Task

TASKS: dict[str, type[Task]] = {"ner": NER, "classification": Classification, "mlm": MLM}
USUAL = next(iter(TASKS))  # where nobody says which


def for_notes() -> tuple[str, ...]:
    """The tasks whose models say something of a note."""
    return tuple(name for name, task in TASKS.items() if task.answers and task.reads == "text")


def with_data(*kinds: str) -> tuple[str, ...]:
    """The tasks that have data of these kinds."""
    return tuple(name for name, task in TASKS.items() if task.data in kinds)


def trained_by(recipe: Any) -> tuple[str, ...]:
    """The tasks that a recipe trains, those with labels or those without; all where there is no recipe."""
    labelled = recipe.labelled if recipe else None
    return tuple(name for name, task in TASKS.items() if labelled in (None, task.labelled))


def answers(task: str) -> str | None:
    """What a model of this task says: "spans" or "labels"; None where it says nothing, or there is no such task."""
    return TASKS[task].answers if task in TASKS else None
