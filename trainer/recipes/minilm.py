"""MiniLMv2: the student learns the self-attention relations of the teacher, whatever the two widths."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.bounds import FACTOR
from trainer.recipes.recipe import Recipe
from trainer.recipes.terms import Term


class MiniLM(Recipe):
    """Self-attention relations of one teacher layer, in a number of relation heads that divides both widths.

    Wang et al. 2021, "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained
    Transformers" (arXiv 2012.15828): query-query, key-key and value-value relations with weight 1 each, the student's
    last layer beside one teacher layer (the last of a base-sized teacher). Widths and numbers of heads may differ, and
    no layer map is needed. The paper trains on the relations alone; here the masked-LM head is trained too unless
    `exact` is set, so that the student is a masked LM at the end.
    """

    kind: ClassVar = "distill"
    labelled: ClassVar = False
    teacher_drops_out: ClassVar = False  # only the code of the other papers left the teacher in training mode
    name: Literal["minilm"] = "minilm"
    relations: float = Field(1.0, ge=0, le=FACTOR, description="Weight of the self-attention relations")
    relation_heads: int = Field(12, gt=0, le=16384, description="Relation heads; must divide both hidden sizes")
    teacher_layer: int | None = Field(None, gt=0, le=1000, description="Teacher layer to learn from; empty: its last")
    mlm: float = Field(1.0, ge=0, le=FACTOR, description="Weight of the hard-label masked-LM loss")
    exact: bool = Field(False, description="As in the paper: the relations alone")

    def plan(self, student: int, teacher: int) -> tuple[Term, ...]:
        """The weighted terms for a student and a teacher with these numbers of layers."""
        pairs = ((student, self.teacher_layer or teacher),)
        relations = Term(name="relations", weight=self.relations, pairs=pairs, heads=self.relation_heads)
        return (relations,) if self.exact else (relations, Term(name="mlm", weight=self.mlm))
