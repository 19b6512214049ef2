"""Gradient SHAP: expected gradients."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from workbench.explain.traits import PieceMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class GradientShap(PieceMethod):
    """Like integrated gradients, but at random points with a little noise: the mean of gradient times difference.

    Lundberg and Lee 2017 and Erion et al. 2021, with the same single baseline as the other methods; `noise` moves
    the words at each point. Only on average over many samples do its scores sum to the score minus the baseline's.
    """

    title: ClassVar[str] = "Gradient SHAP"
    grain: ClassVar[str] = "word"
    complete: ClassVar[bool] = False
    unit: ClassVar[str] = "log-odds"
    signed: ClassVar[bool] = True
    targeted: ClassVar[bool] = True
    name: Literal["gradient_shap"] = "gradient_shap"
    samples: int = Field(50, ge=1, le=5000, description="Random points")
    noise: float = Field(0.1, ge=0, le=10, description="Noise on the words, in standard deviations of their embeddings")
    seed: int = Field(0, ge=0, description="Seed of the random points")

    def rows(self, units: int) -> int:
        """How many rows the model reads."""
        return self.samples

    def attribute(self, probe: "Probe") -> np.ndarray:
        """A score per piece, (m,)."""
        alphas = np.random.default_rng(self.seed).random(self.samples)
        weights = np.full(self.samples, 1 / self.samples)
        scores: np.ndarray = probe.along_path(alphas, weights, noise=self.noise, seed=self.seed).sum(-1)
        return scores
