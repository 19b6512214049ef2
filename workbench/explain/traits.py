"""What every attribution method declares, and what it is asked."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from trainer.prediction import Plain

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class Method(Plain):
    """A way to say what a score rests on: its traits as class variables, its options as fields, `name` among them.

    title: for a person who chooses. grain: its default. complete: its scores sum to the score minus the baseline's.
    unit: of a score. signed: a score may speak against the label. targeted: it depends on the label that is asked
    about. The first paragraph of its docstring is one plain sentence, which pages show.
    """

    title: ClassVar[str]
    grain: ClassVar[str]
    at: ClassVar[Literal["pieces", "units"]]
    complete: ClassVar[bool]
    unit: ClassVar[str]
    signed: ClassVar[bool]
    targeted: ClassVar[bool]
    name: str

    @abstractmethod
    def rows(self, units: int) -> int:
        """How many rows the model will read."""


class PieceMethod(Method):
    """One that scores word pieces; their scores add up to those of any grain."""

    at: ClassVar = "pieces"

    @abstractmethod
    def attribute(self, probe: "Probe") -> np.ndarray:
        """A score per piece, (m,)."""


class UnitMethod(Method):
    """One that hides whole units."""

    at: ClassVar = "units"

    @abstractmethod
    def attribute(self, probe: "Probe", owner: np.ndarray) -> np.ndarray:
        """A score per unit, (units,); owner: (m,) the unit of each piece."""
