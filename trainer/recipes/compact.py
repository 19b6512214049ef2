"""The compact objective: CompactBioBERT and the MiniALBERT family."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.bounds import FACTOR
from trainer.recipes.layer_maps import uniform
from trainer.recipes.recipe import Recipe
from trainer.recipes.terms import Term


class Compact(Recipe):
    """MLM + 3 x (attention KL + hidden cosine) + 5 x soft targets at T = 1, layer by layer.

    The weights are those of the code of Rohanian et al. 2022 and Nouriborji et al. 2023 (MiniALBERT); a recursion of
    MiniALBERT counts as a layer. Layer k of S student layers is compared with layer k*T/S of T teacher layers. The
    embedding outputs are compared in one ablation of MiniALBERT only, inside the factor 3; their weight is 0 here.
    """

    kind: ClassVar = "distill"
    labelled: ClassVar = False
    name: Literal["compact"] = "compact"
    mlm: float = Field(1.0, ge=0, le=FACTOR, description="Weight of the hard-label masked-LM loss")
    attention_kl: float = Field(3.0, ge=0, le=FACTOR, description="Weight of the KL divergence of the attention maps")
    hidden_cosine: float = Field(3.0, ge=0, le=FACTOR, description="Weight of the cosine distance of the hidden states")
    embedding_cosine: float = Field(0.0, ge=0, le=FACTOR, description="Weight of the cosine distance of the embeddings")
    soft_targets: float = Field(5.0, ge=0, le=FACTOR, description="Weight of the teacher's soft targets")
    exact: bool = Field(False, description="As in the papers' code: dropout in the teacher too, maps after dropout")

    def plan(self, student: int, teacher: int) -> tuple[Term, ...]:
        """The weighted terms for a student and a teacher with these numbers of layers."""
        pairs = uniform(student, teacher)
        return (
            Term(name="mlm", weight=self.mlm),
            Term(name="attention_kl", weight=self.attention_kl, pairs=pairs),
            Term(name="hidden_cosine", weight=self.hidden_cosine, pairs=pairs),
            Term(name="embedding_cosine", weight=self.embedding_cosine, pairs=((0, 0),)),
            Term(name="soft_targets", weight=self.soft_targets),
        )
