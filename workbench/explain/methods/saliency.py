"""The length of the gradient."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from workbench.explain.traits import PieceMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class Saliency(PieceMethod):
    """How much a small change of each part could matter: the length of the score's gradient at its word embedding.

    Simonyan, Vedaldi and Zisserman 2013, with the Euclidean norm of Li et al. 2016 for text. It has no sign.
    """

    title: ClassVar[str] = "Gradient"
    grain: ClassVar[str] = "word"
    complete: ClassVar[bool] = False
    unit: ClassVar[str] = "gradient length"
    signed: ClassVar[bool] = False
    targeted: ClassVar[bool] = True
    name: Literal["saliency"] = "saliency"

    def rows(self, units: int) -> int:
        """How many rows the model reads."""
        return 1

    def attribute(self, probe: "Probe") -> np.ndarray:
        """A score per piece, (m,), none negative."""
        scores: np.ndarray = np.linalg.norm(probe.gradient(), axis=-1) * probe.free
        return scores
