"""Continual pre-training: masked language modelling and nothing else."""

from typing import ClassVar, Literal

from trainer.recipes.recipe import Recipe
from trainer.recipes.terms import Term


class MaskedLM(Recipe):
    """Cross-entropy at the masked positions, weight 1 (Devlin et al. 2019).

    So were made BioDistilBERT, BioTinyBERT, BioMobileBERT (Rohanian et al. 2022), ClinicalDistilBERT and
    ClinicalMobileBERT (Rohanian et al. 2023), Clinical-Longformer and Clinical-BigBird (Li et al. 2023).
    """

    kind: ClassVar = "pretrain"
    labelled: ClassVar = False
    name: Literal["mlm"] = "mlm"

    @staticmethod
    def plan(student: int, teacher: int) -> tuple[Term, ...]:
        """The one term; there is no teacher, so its layers do not matter."""
        return (Term(name="mlm", weight=1.0),)
