"""Gradient SHAP: expected gradients."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from workbench.explain.traits import PieceMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class GradientShap(PieceMethod):
    """As integrated gradients, at random points with a little noise: the mean of the gradient times the difference.

    Lundberg and Lee 2017 and Erion et al. 2021, with the one baseline that the other methods have; `noise` moves the
    words at each point. Its scores sum to the score minus the baseline's only in the mean over many samples.
    """

    title: ClassVar = "Gradient SHAP"
    grain: ClassVar = "word"
    complete: ClassVar = False
    unit: ClassVar = "log-odds"
    signed: ClassVar = True
    targeted: ClassVar = True
    name: Literal["gradient_shap"] = "gradient_shap"
    samples: int = Field(50, ge=1, le=5000, description="Random points")
    noise: float = Field(0.1, ge=0, le=10, description="Noise on the words, in standard deviations of their embeddings")
    seed: int = Field(0, ge=0, description="Of the random points")

    def rows(self, units: int) -> int:
        """Rows that the model reads."""
        return self.samples

    def attribute(self, probe: "Probe") -> np.ndarray:
        """A score a piece, (m,)."""
        alphas = np.random.default_rng(self.seed).random(self.samples)
        weights = np.full(self.samples, 1 / self.samples)
        return probe.along_path(alphas, weights, noise=self.noise, seed=self.seed).sum(-1)
