"""Occlusion: hide a run of neighbouring parts at a time."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from workbench.explain.presence import presence
from workbench.explain.traits import UnitMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class Occlusion(UnitMethod):
    """How far the score falls when neighbouring parts are hidden together, averaged over all runs with a part.

    Zeiler and Fergus 2014 (Captum's Occlusion). It detects what several parts repeat, which leaving one out misses.
    """

    title: ClassVar[str] = "Occlusion"
    grain: ClassVar[str] = "phrase"
    complete: ClassVar[bool] = False
    unit: ClassVar[str] = "log-odds"
    signed: ClassVar[bool] = True
    targeted: ClassVar[bool] = True
    name: Literal["occlusion"] = "occlusion"
    width: int = Field(3, ge=1, le=100, description="Neighbouring parts that are hidden together")

    def rows(self, units: int) -> int:
        """How many rows the model reads."""
        return max(2, units - self.width + 2)

    def attribute(self, probe: "Probe", owner: np.ndarray) -> np.ndarray:
        """A score per unit, (units,); owner: (m,) the unit of each piece."""
        from captum.attr import Occlusion as Occluding

        score, whole, hidden = presence(probe, owner)
        window = (min(self.width, whole.shape[1]),)
        attributions = Occluding(score).attribute(whole, window, baselines=hidden, perturbations_per_eval=8)
        scores: np.ndarray = attributions[0].numpy()
        return scores
