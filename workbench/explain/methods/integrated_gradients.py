"""Integrated gradients on the word embeddings."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from workbench.explain.traits import PieceMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class IntegratedGradients(PieceMethod):
    """What each part adds while the note fades in from the baseline: the gradient's integral, times the difference.

    The integral is along the straight line from the baseline's word embeddings to the text's. Sundararajan, Taly and
    Yan 2017, "Axiomatic Attribution for Deep Networks", equation 1; the integral by Gauss-Legendre quadrature, as
    Captum's default. Special tokens are the same in text and baseline.
    """

    title: ClassVar[str] = "Integrated gradients"
    grain: ClassVar[str] = "word"
    complete: ClassVar[bool] = True
    unit: ClassVar[str] = "log-odds"
    signed: ClassVar[bool] = True
    targeted: ClassVar[bool] = True
    name: Literal["integrated_gradients"] = "integrated_gradients"
    steps: int = Field(50, ge=2, le=1000, description="Points on the line; more bring the sum closer")

    def rows(self, units: int) -> int:
        """How many rows the model reads."""
        return self.steps

    def attribute(self, probe: "Probe") -> np.ndarray:
        """A score per piece, (m,)."""
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)  # on [-1, 1]
        scores: np.ndarray = probe.along_path((1 + nodes) / 2, weights / 2).sum(-1)
        return scores
