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

    Lundberg and Lee 2017; Captum's KernelShap. Two of the subsets are all and none, with a weight so large that the
    scores sum to the score minus the baseline's. It needs several times more samples than there are parts.
    """

    title: ClassVar = "KernelSHAP"
    grain: ClassVar = "sentence"
    complete: ClassVar = True
    unit: ClassVar = "log-odds"
    signed: ClassVar = True
    targeted: ClassVar = True
    name: Literal["kernel_shap"] = "kernel_shap"
    samples: int = Field(200, ge=3, le=100_000, description="Random subsets of the parts that are shown")
    seed: int = Field(0, ge=0, description="Of the subsets")

    def rows(self, units: int) -> int:
        """Rows that the model reads."""
        return self.samples if units > 1 else 2

    def attribute(self, probe: "Probe", owner: np.ndarray) -> np.ndarray:
        """owner: (m,) the unit of each piece; a score a unit, (units,)."""
        from captum.attr import KernelShap as Shap

        from trainer.models import seeded

        score, whole, hidden = presence(probe, owner)
        if whole.shape[1] == 1:  # nothing to share out
            return np.diff(probe.log_odds(np.array([[False], [True]]).repeat(len(owner), axis=1)))
        with seeded(self.seed):
            found = Shap(score).attribute(whole, hidden, n_samples=self.samples, perturbations_per_eval=8)
        return found[0].numpy()
