"""Task distillation: the student learns from a fine-tuned teacher on the data of the task."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.bounds import COUNT, FACTOR
from trainer.recipes.layer_maps import last_layers, uniform
from trainer.recipes.recipe import Recipe
from trainer.recipes.terms import Term


class TaskKD(Recipe):
    """The teacher's soft targets (Hinton et al. 2015, with the factor T^2), its hidden states, and gold labels.

    Teacher and student are compared at the labelled positions (the first piece of each word, or the document), so their
    tokenizers may differ; where the widths differ, the student's states go through a linear map that is discarded after
    training. With `levels: all` every layer of the student is compared with that of the teacher in the uniform map, and
    the loss is the mean over these pairs. With `attention_kl` attention maps are compared too (the divergence of the
    compact objective), which needs the same word pieces. Text without labels is labelled by the teacher. The defaults
    were chosen on dev splits; see docs/results.md.
    """

    kind: ClassVar = "distill"
    labelled: ClassVar = True
    name: Literal["task_kd"] = "task_kd"
    temperature: float = Field(2.0, gt=0, le=FACTOR, description="Temperature of the soft targets")
    soft_targets: float = Field(1.0, ge=0, le=FACTOR, description="Weight of the teacher's soft targets")
    labels: float = Field(0.0, ge=0, le=FACTOR, description="Weight of the loss against gold labels")
    hidden_cosine: float = Field(1.0, ge=0, le=FACTOR, description="Weight of the cosine distance of the hidden states")
    levels: Literal["last", "all"] = Field(
        "last", description="Compare the hidden states of the last layers, or of every layer of the student"
    )
    attention_kl: float = Field(
        0.0,
        ge=0,
        le=FACTOR,
        description="Weight of the KL divergence of the attention maps; runs the teacher in each step",
    )
    unlabelled: str | None = Field(None, max_length=300, description="Text data set that the teacher labels")
    unlabelled_limit: int | None = Field(None, gt=0, le=COUNT, description="Use at most this many sentences of it")

    def plan(self, student: int, teacher: int) -> tuple[Term, ...]:
        """The weighted terms for a student and a teacher with these numbers of layers."""
        pairs = uniform(student, teacher) if self.levels == "all" else last_layers(student, teacher)
        weight = self.hidden_cosine / len(pairs)  # the objective sums over pairs
        terms = [
            Term(name="soft_targets", weight=self.soft_targets, temperature=self.temperature),
            Term(name="task", weight=self.labels),
            Term(name="hidden_cosine", weight=weight, pairs=pairs, projected=True),
        ]
        if self.attention_kl:
            terms.append(Term(name="attention_kl", weight=self.attention_kl, pairs=uniform(student, teacher)))
        return tuple(terms)
