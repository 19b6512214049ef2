"""Tasks that a model can be trained for. One file per task, importable without torch: its options and traits (task.py).

Other code looks at a task's traits and never compares its name. How a task reads, batches and scores data is in
trainer/examples/, in the file of the same name.
"""

from trainer.recipes.recipe import Recipe
from trainer.tasks.classification import Classification
from trainer.tasks.mlm import MLM
from trainer.tasks.ner import NER
from trainer.tasks.pairs import Pairs
from trainer.tasks.questions import Questions
from trainer.tasks.relations import Relations
from trainer.tasks.roles import Roles
from trainer.tasks.task import Task
from trainer.tasks.values import Values

TASKS: dict[str, type[Task]] = {
    "ner": NER,
    "classification": Classification,
    "pairs": Pairs,
    "questions": Questions,
    "relations": Relations,
    "roles": Roles,
    "values": Values,
    "mlm": MLM,
}
DEFAULT_TASK = next(iter(TASKS))


def for_notes(*, alone: bool = False) -> tuple[str, ...]:
    """The tasks whose models predict something about a note; with `alone` those that need only the note."""
    return (*reading("text"), *(() if alone else (*reading("pair"), *reading("question"))))


def reading(what: str) -> tuple[str, ...]:
    """The tasks whose models predict something and are given this (`Task.reads`)."""
    return tuple(name for name, task in TASKS.items() if task.answers and task.reads == what)


def needs_hypothesis(task: str | None) -> bool:
    """Whether a model of this task reads a hypothesis with each text; False if there is no such task."""
    return task in TASKS and TASKS[task].reads == "pair"


def needs_question(task: str | None) -> bool:
    """Whether a model of this task reads a question with each text; False if there is no such task."""
    return task in TASKS and TASKS[task].reads == "question"


def marks_spans(task: str) -> bool:
    """Whether a model of this task marks parts of a text: entities, or the answer to a question."""
    return answers(task) in ("spans", "answer")


def with_data(*kinds: str) -> tuple[str, ...]:
    """The tasks whose data sets are of one of these kinds (keys of datasets.formats.FORMATS)."""
    return tuple(name for name, task in TASKS.items() if task.data in kinds)


def trained_by(recipe: Recipe | type[Recipe] | None) -> tuple[str, ...]:
    """The tasks that a recipe trains: those with labels or those without; all of them for None."""
    labelled = recipe.labelled if recipe else None
    return tuple(name for name, task in TASKS.items() if labelled in (None, task.labelled))


def answers(task: str) -> str | None:
    """What a model of this task predicts for a note (`Task.answers`); None if nothing, or if there is no such task."""
    return TASKS[task].answers if task in TASKS else None
