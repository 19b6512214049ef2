"""What every attribution method declares and computes."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from trainer.prediction import Plain

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class Method(Plain):
    """A way to attribute a score to parts of a text: traits are class variables, options are fields, with `name`.

    title: shown in menus. grain: its default. complete: its scores sum to the score minus the baseline's. unit: of a
    score. signed: scores below 0 oppose the label. targeted: it depends on the label that is explained. The first
    paragraph of its docstring is one plain sentence, which pages show.
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
        """How many rows the model reads for this many units."""


class PieceMethod(Method):
    """A method that scores word pieces; their scores add up to those of any grain."""

    at: ClassVar[Literal["pieces", "units"]] = "pieces"

    @abstractmethod
    def attribute(self, probe: "Probe") -> np.ndarray:
        """A score per piece, (m,)."""


class UnitMethod(Method):
    """A method that hides whole units."""

    at: ClassVar[Literal["pieces", "units"]] = "units"

    @abstractmethod
    def attribute(self, probe: "Probe", owner: np.ndarray) -> np.ndarray:
        """A score per unit, (units,); owner: (m,) the unit of each piece."""
