"""KernelSHAP: Shapley values by a weighted regression."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from workbench.explain.presence import presence
from workbench.explain.traits import UnitMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class KernelShap(UnitMethod):
    """Each part's fair share of the score: Shapley values, fitted to the scores of random subsets of the parts.

    Lundberg and Lee 2017; Captum's KernelShap. Two of the subsets are all parts and no parts, weighted so heavily
    that the scores sum to the score minus the baseline's. It needs several times as many samples as there are parts.
    """

    title: ClassVar[str] = "KernelSHAP"
    grain: ClassVar[str] = "sentence"
    complete: ClassVar[bool] = True
    unit: ClassVar[str] = "log-odds"
    signed: ClassVar[bool] = True
    targeted: ClassVar[bool] = True
    name: Literal["kernel_shap"] = "kernel_shap"
    samples: int = Field(200, ge=3, le=100_000, description="Random subsets of the parts that are shown")
    seed: int = Field(0, ge=0, description="Seed of the subsets")

    def rows(self, units: int) -> int:
        """How many rows the model reads."""
        return self.samples if units > 1 else 2

    def attribute(self, probe: "Probe", owner: np.ndarray) -> np.ndarray:
        """A score per unit, (units,); owner: (m,) the unit of each piece."""
        from captum.attr import KernelShap as Shap

        from trainer.models import seeded

        score, whole, hidden = presence(probe, owner)
        if whole.shape[1] == 1:  # nothing to share out
            return np.diff(probe.log_odds(np.array([[False], [True]]).repeat(len(owner), axis=1)))
        with seeded(self.seed):
            attributions = Shap(score).attribute(whole, hidden, n_samples=self.samples, perturbations_per_eval=8)
        scores: np.ndarray = attributions[0].numpy()
        return scores
