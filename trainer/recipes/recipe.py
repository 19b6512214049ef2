"""What every recipe declares."""

from abc import abstractmethod
from typing import ClassVar

from trainer.prediction import Plain
from trainer.recipes.terms import Term


class Recipe(Plain):
    """A loss plugged into the one training loop: its traits as class variables, its options as fields.

    kind: the kind of job it belongs to. labelled: whether it trains tasks with labels or those without; None: both.
    """

    kind: ClassVar[str]
    labelled: ClassVar[bool | None]
    teacher_drops_out: ClassVar[bool] = True  # in the exact mode
    name: str

    @abstractmethod
    def plan(self, student: int, teacher: int) -> tuple[Term, ...]:
        """The weighted terms for a student and a teacher of so many layers."""
