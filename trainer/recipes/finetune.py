"""Fine-tuning: the task's own loss against gold labels."""

from typing import ClassVar, Literal

from trainer.recipes.recipe import Recipe
from trainer.recipes.terms import Term


class Finetune(Recipe):
    """Train every weight on labelled data."""

    kind: ClassVar = "finetune"
    labelled: ClassVar = True
    name: Literal["finetune"] = "finetune"

    @staticmethod
    def plan(student: int, teacher: int) -> tuple[Term, ...]:
        """The gold labels alone, whatever the numbers of layers."""
        return (Term(name="task", weight=1.0),)
