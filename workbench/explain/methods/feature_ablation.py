"""Feature ablation: hide one part at a time."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from workbench.explain.presence import presence
from workbench.explain.traits import UnitMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class FeatureAblation(UnitMethod):
    """How far the score falls when one part is hidden and everything else is there (Captum's FeatureAblation)."""

    title: ClassVar = "Leave one out"
    grain: ClassVar = "sentence"
    complete: ClassVar = False
    unit: ClassVar = "log-odds"
    signed: ClassVar = True
    targeted: ClassVar = True
    name: Literal["feature_ablation"] = "feature_ablation"

    def rows(self, units: int) -> int:
        """Rows that the model reads."""
        return units + 1

    def attribute(self, probe: "Probe", owner: np.ndarray) -> np.ndarray:
        """owner: (m,) the unit of each piece; a score a unit, (units,)."""
        from captum.attr import FeatureAblation as Ablation

        score, whole, hidden = presence(probe, owner)
        found = Ablation(score).attribute(whole, baselines=hidden, perturbations_per_eval=8)
        return found[0].numpy()
