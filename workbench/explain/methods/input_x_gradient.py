"""The gradient times the input."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from trainer.prediction import Plain

if TYPE_CHECKING:
    from trainer.probe import Probe


class InputXGradient(Plain):
    """The gradient times the word embedding itself, summed over its dimensions: the baseline is the zero vector.

    Shrikumar et al. 2016, "Not Just a Black Box". Exact for a linear model without bias.
    """

    title: ClassVar = "Input x gradient"
    grain: ClassVar = "word"
    at: ClassVar = "pieces"
    complete: ClassVar = False
    targeted: ClassVar = True
    name: Literal["input_x_gradient"] = "input_x_gradient"

    def rows(self, units: int) -> int:
        """Rows that the model reads."""
        return 1

    def attribute(self, probe: "Probe") -> np.ndarray:
        """A score a piece, (m,)."""
        words = probe.words[probe.before : probe.before + len(probe.free)].cpu().numpy()
        return (probe.gradient() * words).sum(-1) * probe.free
