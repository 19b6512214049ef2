"""What every recipe declares."""

from abc import abstractmethod
from typing import ClassVar

from trainer.prediction import Plain
from trainer.recipes.terms import Term


class Recipe(Plain):
    """A loss for the one training loop: its traits as class variables, its options as fields.

    kind: the kind of job that it belongs to. labelled: whether it trains tasks with labels or those without; None:
    both. teacher_drops_out: whether dropout is on in the teacher too where the option `exact` is set.
    """

    kind: ClassVar[str]
    labelled: ClassVar[bool | None]
    teacher_drops_out: ClassVar[bool] = True
    name: str

    @abstractmethod
    def plan(self, student: int, teacher: int) -> tuple[Term, ...]:
        """The weighted terms for a student and a teacher with these numbers of layers."""
