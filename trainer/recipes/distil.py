"""The distil objective: DistilBioBERT and DistilClinicalBERT."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.bounds import FACTOR
from trainer.recipes.layer_maps import last_layers
from trainer.recipes.recipe import Recipe
from trainer.recipes.terms import Term


class Distil(Recipe):
    """2 x MLM + 5 x soft targets (T = 2) + 1 x cosine distance of the last hidden states.

    The weights are those of Rohanian et al. 2022 (Compact-Biomedical-Transformers) and 2023 (Lightweight-Clinical-
    Transformers), which took them from DistilBERT (Sanh et al. 2019); unlike there, soft targets count at masked
    positions only. No projection and no attention term.
    """

    kind: ClassVar = "distill"
    labelled: ClassVar = False
    name: Literal["distil"] = "distil"
    mlm: float = Field(2.0, ge=0, le=FACTOR, description="Weight of the hard-label masked-LM loss")
    soft_targets: float = Field(5.0, ge=0, le=FACTOR, description="Weight of the teacher's soft targets")
    hidden_cosine: float = Field(
        1.0, ge=0, le=FACTOR, description="Weight of the cosine distance of last hidden states"
    )
    temperature: float = Field(2.0, gt=0, le=FACTOR, description="Temperature of the soft targets")
    exact: bool = Field(False, description="As in the papers' code: dropout in the teacher too")

    def plan(self, student: int, teacher: int) -> tuple[Term, ...]:
        """The weighted terms for a student and a teacher with these numbers of layers."""
        return (
            Term(name="mlm", weight=self.mlm),
            Term(name="soft_targets", weight=self.soft_targets, temperature=self.temperature),
            Term(name="hidden_cosine", weight=self.hidden_cosine, pairs=last_layers(student, teacher)),
        )
