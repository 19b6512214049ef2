"""The gradient times the input."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from workbench.explain.traits import PieceMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class InputXGradient(PieceMethod):
    """What each part would add if the model were linear around this note: the gradient times the word embedding.

    Summed over the embedding's dimensions; the baseline is the zero vector. Shrikumar et al. 2016, "Not Just a Black
    Box". Exact for a linear model without bias.
    """

    title: ClassVar[str] = "Input x gradient"
    grain: ClassVar[str] = "word"
    complete: ClassVar[bool] = False
    unit: ClassVar[str] = "log-odds"
    signed: ClassVar[bool] = True
    targeted: ClassVar[bool] = True
    name: Literal["input_x_gradient"] = "input_x_gradient"

    def rows(self, units: int) -> int:
        """How many rows the model reads."""
        return 1

    def attribute(self, probe: "Probe") -> np.ndarray:
        """A score per piece, (m,)."""
        words = probe.words[probe.before : probe.before + len(probe.free)].cpu().numpy()
        scores: np.ndarray = (probe.gradient() * words).sum(-1) * probe.free
        return scores
