"""Occlusion: hide a run of neighbouring parts at a time."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from workbench.explain.presence import presence
from workbench.explain.traits import UnitMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class Occlusion(UnitMethod):
    """How far the score falls when neighbouring parts are hidden together, averaged over the runs that hide a part.

    Zeiler and Fergus 2014 (Captum's Occlusion): it sees what several parts say twice, where leaving one out does not.
    """

    title: ClassVar = "Occlusion"
    grain: ClassVar = "phrase"
    complete: ClassVar = False
    unit: ClassVar = "log-odds"
    signed: ClassVar = True
    targeted: ClassVar = True
    name: Literal["occlusion"] = "occlusion"
    width: int = Field(3, ge=1, le=100, description="Neighbouring parts that are hidden together")

    def rows(self, units: int) -> int:
        """Rows that the model reads."""
        return max(2, units - self.width + 2)

    def attribute(self, probe: "Probe", owner: np.ndarray) -> np.ndarray:
        """owner: (m,) the unit of each piece; a score a unit, (units,)."""
        from captum.attr import Occlusion as Occluding

        score, whole, hidden = presence(probe, owner)
        window = (min(self.width, whole.shape[1]),)
        found = Occluding(score).attribute(whole, window, baselines=hidden, perturbations_per_eval=8)
        return found[0].numpy()
