"""Continual pre-training: masked language modelling alone."""

from typing import ClassVar, Literal

from trainer.recipes.recipe import Recipe
from trainer.recipes.terms import Term


class MaskedLM(Recipe):
    """Cross-entropy at the masked positions, weight 1 (Devlin et al. 2019).

    BioDistilBERT, BioTinyBERT and BioMobileBERT (Rohanian et al. 2022), ClinicalDistilBERT and ClinicalMobileBERT
    (Rohanian et al. 2023), and Clinical-Longformer and Clinical-BigBird (Li et al. 2023) were trained in this way.
    """

    kind: ClassVar = "pretrain"
    labelled: ClassVar = False
    name: Literal["mlm"] = "mlm"

    @staticmethod
    def plan(student: int, teacher: int) -> tuple[Term, ...]:
        """The masked-LM loss alone, whatever the numbers of layers."""
        return (Term(name="mlm", weight=1.0),)
