"""Feature ablation: hide one part at a time."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from workbench.explain.presence import presence
from workbench.explain.traits import UnitMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class FeatureAblation(UnitMethod):
    """How far the score falls when one part is hidden and everything else is shown (Captum's FeatureAblation)."""

    title: ClassVar[str] = "Leave one out"
    grain: ClassVar[str] = "sentence"
    complete: ClassVar[bool] = False
    unit: ClassVar[str] = "log-odds"
    signed: ClassVar[bool] = True
    targeted: ClassVar[bool] = True
    name: Literal["feature_ablation"] = "feature_ablation"

    def rows(self, units: int) -> int:
        """How many rows the model reads."""
        return units + 1

    def attribute(self, probe: "Probe", owner: np.ndarray) -> np.ndarray:
        """A score per unit, (units,); owner: (m,) the unit of each piece."""
        from captum.attr import FeatureAblation as Ablation

        score, whole, hidden = presence(probe, owner)
        attributions = Ablation(score).attribute(whole, baselines=hidden, perturbations_per_eval=8)
        scores: np.ndarray = attributions[0].numpy()
        return scores
