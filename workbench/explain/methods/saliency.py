"""The gradient's length."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from workbench.explain.traits import PieceMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class Saliency(PieceMethod):
    """How much a small change of each part could matter: the length of the score's gradient at its word embedding.

    Simonyan, Vedaldi and Zisserman 2013, with the Euclidean norm of Li et al. 2016 for text. It has no sign.
    """

    title: ClassVar = "Gradient"
    grain: ClassVar = "word"
    complete: ClassVar = False
    unit: ClassVar = "gradient length"
    signed: ClassVar = False
    targeted: ClassVar = True
    name: Literal["saliency"] = "saliency"

    def rows(self, units: int) -> int:
        """Rows that the model reads."""
        return 1

    def attribute(self, probe: "Probe") -> np.ndarray:
        """A score a piece, (m,), none negative."""
        return np.linalg.norm(probe.gradient(), axis=-1) * probe.free
