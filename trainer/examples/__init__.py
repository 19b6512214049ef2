"""Examples: what a task does with data. One file per task: its splits, its training rows and their batches, its scores.

The data of a task read each split once and offer `texts`, `rows`, `scores` and `report`, and how a model was trained
for the task. What the task is, its options and traits, stands in the file of the same name in trainer/tasks/: a file
here says with DATA which of its types belongs to it.
"""

from importlib import import_module
from typing import Any

from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks import TASKS

EXAMPLES = {name: import_module(f"{__name__}.{name}").DATA for name in TASKS}


def open_data(task: Any, dataset: ResolvedDataset, *, limit: int | None = None) -> Any:
    """The splits of a data set as a task uses them: only the first `limit` examples of each, if given."""
    return EXAMPLES[task.name](task, dataset, limit=limit)


def fitted(task: Any, model: ResolvedModel) -> Any:
    """A task for scoring a model: what the task leaves open is as the model was trained."""
    return EXAMPLES[task.name].fitted(task, model)


def task_of(name: str, model: ResolvedModel) -> Any:
    """The task of this name as a model was trained for it."""
    return EXAMPLES[name].task_of(model)
