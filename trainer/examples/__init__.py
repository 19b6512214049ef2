"""Examples: what a task does with data. One file per task: its splits, its training rows and their batches, its scores.

Each file defines a TaskData (task_data.py) and names it DATA. The task itself, its options and traits, is in the file
of the same name in trainer/tasks/.
"""

from importlib import import_module
from typing import Any

from trainer.examples.task_data import LabelledData, TaskData
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks import TASKS
from trainer.tasks.task import Task

EXAMPLES: dict[str, type[TaskData[Any]]] = {name: import_module(f"{__name__}.{name}").DATA for name in TASKS}


def open_data(task: Task, dataset: ResolvedDataset, *, limit: int | None = None) -> TaskData[Any]:
    """The splits of a data set as a task uses them: only the first `limit` examples of each, if given."""
    return EXAMPLES[task.name](task, dataset, limit=limit)


def complete_task(task: Task, model: ResolvedModel) -> Task:
    """The task for scoring a model: options left open are set as the model was trained."""
    return EXAMPLES[task.name].complete_task(task, model)


def read_task(name: str, model: ResolvedModel) -> Task:
    """The task of this name as a model was trained for it, from the model's files; the task needs labels."""
    data = EXAMPLES[name]
    assert issubclass(data, LabelledData)
    return data.read_task(model)
