"""The tiny objective: TinyBioBERT and TinyClinicalBERT."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.bounds import FACTOR
from trainer.recipes.layer_maps import uniform
from trainer.recipes.recipe import Recipe
from trainer.recipes.terms import Term


class Tiny(Recipe):
    """Attention MSE + hidden-state MSE through one shared projection + soft cross-entropy at T = 1; no hard MLM loss.

    All weights are 1, as in the code of Rohanian et al. 2022 and 2023; the layer terms are TinyBERT's (Jiao et al.
    2020) on attention probabilities instead of raw scores, padding included. Layer k of S student layers is compared
    with layer k*T/S of T teacher layers.
    """

    kind: ClassVar = "distill"
    labelled: ClassVar = False
    name: Literal["tiny"] = "tiny"
    attention_mse: float = Field(1.0, ge=0, le=FACTOR, description="Weight of the squared error of the attention maps")
    hidden_mse: float = Field(
        1.0, ge=0, le=FACTOR, description="Weight of the squared error of projected hidden states"
    )
    soft_cross_entropy: float = Field(
        1.0, ge=0, le=FACTOR, description="Weight of the soft cross-entropy at masked positions"
    )
    exact: bool = Field(False, description="As in the papers' code: dropout in the teacher too, maps after dropout")

    def plan(self, student: int, teacher: int) -> tuple[Term, ...]:
        """The weighted terms for a student and a teacher with these numbers of layers."""
        levels = uniform(student, teacher, embeddings=True)
        return (
            Term(name="attention_mse", weight=self.attention_mse, pairs=levels[1:]),
            Term(name="hidden_mse", weight=self.hidden_mse, pairs=levels, projected=True),
            Term(name="soft_cross_entropy", weight=self.soft_cross_entropy),
        )
