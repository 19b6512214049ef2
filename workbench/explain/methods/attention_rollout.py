"""Attention rollout: how much of each piece reaches the target through all layers."""

from functools import reduce
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from workbench.explain.traits import PieceMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class AttentionRollout(PieceMethod):
    """Where the model looked, through all layers: the product of the attention maps, half of each the residual path.

    The mean over the target's places. Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", equations
    1 and 2, heads averaged. It has no sign and does not depend on the label: it shows where the model looked, not
    why. The share of special tokens is left out, so the scores sum to less than 1.
    """

    title: ClassVar[str] = "Attention rollout"
    grain: ClassVar[str] = "word"
    complete: ClassVar[bool] = False
    unit: ClassVar[str] = "share of attention"
    signed: ClassVar[bool] = False
    targeted: ClassVar[bool] = False
    name: Literal["attention_rollout"] = "attention_rollout"

    def rows(self, units: int) -> int:
        """How many rows the model reads."""
        return 1

    def attribute(self, probe: "Probe") -> np.ndarray:
        """A score per piece, (m,), none negative."""
        maps = probe.attention()  # (layers, n, n)
        through = (maps + np.eye(maps.shape[1], dtype=maps.dtype)) / 2
        flow = reduce(lambda rows, layer: rows @ layer, through[::-1], np.eye(maps.shape[1])[probe.places])
        scores: np.ndarray = flow.mean(0)[probe.before : probe.before + len(probe.free)] * probe.free
        return scores
