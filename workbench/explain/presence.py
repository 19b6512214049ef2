"""A text as a vector of ones and zeros, one per part, which is the input of Captum's perturbation methods."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from trainer.inference.target_score import Probe


def presence(
    probe: "Probe", owner: np.ndarray
) -> tuple[Callable[["torch.Tensor"], "torch.Tensor"], "torch.Tensor", "torch.Tensor"]:
    """A function (rows, units) -> (rows,) log-odds with only the parts shown that are 1, and its extreme inputs.

    owner: (m,) the unit of each piece. The inputs, everything shown and nothing shown, are (1, units).
    """
    import torch

    def score(shown: torch.Tensor) -> torch.Tensor:
        keep = shown.detach().cpu().numpy()[:, owner] > 0.5
        return torch.from_numpy(probe.log_odds(keep)).to(shown.dtype)

    whole = torch.ones(1, int(owner.max()) + 1)
    return score, whole, torch.zeros_like(whole)
