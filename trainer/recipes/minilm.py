"""MiniLMv2: the student learns how the teacher's queries, keys and values relate, whatever its own width."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.bounds import FACTOR
from trainer.recipes.recipe import Recipe
from trainer.recipes.terms import Term


class MiniLM(Recipe):
    """Self-attention relations of one teacher layer, in as many relation heads as both widths can be cut into.

    Wang et al. 2021, "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained
    Transformers" (arXiv 2012.15828): query-query, key-key and value-value relations with weight 1 each, the student's
    last layer beside one teacher layer (the last of a base-sized teacher). It needs neither the same width nor the same
    heads, and no map of layers. The paper trains on the relations alone; here the masked-LM head learns beside it
    unless `exact` is set, so that the student is a masked LM at the end.
    """

    kind: ClassVar = "distill"
    labelled: ClassVar = False
    teacher_drops_out: ClassVar = False  # in the exact mode too: only the other papers' code left it in training mode
    name: Literal["minilm"] = "minilm"
    relations: float = Field(1.0, ge=0, le=FACTOR, description="Weight of the three relations")
    relation_heads: int = Field(12, gt=0, le=16384, description="Relation heads; must divide both hidden sizes")
    teacher_layer: int | None = Field(None, gt=0, le=1000, description="Teacher layer to learn from; empty: its last")
    mlm: float = Field(1.0, ge=0, le=FACTOR, description="Weight of the hard-label masked-LM loss")
    exact: bool = Field(False, description="As in the paper: the relations alone")

    def plan(self, student: int, teacher: int) -> tuple[Term, ...]:
        """The terms for a student and a teacher of so many layers."""
        pairs = ((student, self.teacher_layer or teacher),)
        relations = Term(name="relations", weight=self.relations, pairs=pairs, heads=self.relation_heads)
        return (relations,) if self.exact else (relations, Term(name="mlm", weight=self.mlm))
