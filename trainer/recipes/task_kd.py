"""Task distillation: a fine-tuned teacher taught to a student on the data of the task."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.bounds import COUNT, FACTOR
from trainer.recipes.layer_maps import last_layers, uniform
from trainer.recipes.recipe import Recipe
from trainer.recipes.terms import Term


class TaskKD(Recipe):
    """The teacher's soft targets (Hinton et al. 2015, with the factor T^2), its hidden states, and gold labels.

    Teacher and student meet at the labelled positions (the first piece of each word, or the document), so they may cut
    words differently; the states of a student of another width go through one linear map that is discarded. With
    `levels: all` every layer of the student is compared, beside that of its teacher in the uniform map, and the mean
    over these pairs counts. With `attention_kl` their maps are compared too (the compact objective's divergence), which
    needs the same pieces. Text without labels is labelled by the teacher. The defaults were chosen on dev splits; see
    docs/results.md.
    """

    kind: ClassVar = "distill"
    labelled: ClassVar = True
    name: Literal["task_kd"] = "task_kd"
    temperature: float = Field(2.0, gt=0, le=FACTOR, description="Temperature of the soft targets")
    soft_targets: float = Field(1.0, ge=0, le=FACTOR, description="Weight of the teacher's soft targets")
    labels: float = Field(0.0, ge=0, le=FACTOR, description="Weight of the loss against gold labels")
    hidden_cosine: float = Field(1.0, ge=0, le=FACTOR, description="Weight of the cosine of the hidden states")
    levels: Literal["last", "all"] = Field(
        "last", description="Compare the hidden states of the last layers, or of every layer of the student"
    )
    attention_kl: float = Field(
        0.0, ge=0, le=FACTOR, description="Weight of the attention maps' divergence; runs the teacher live"
    )
    unlabelled: str | None = Field(None, max_length=300, description="Text data set that the teacher labels")
    unlabelled_limit: int | None = Field(None, gt=0, le=COUNT, description="Use only so many sentences of it")

    def plan(self, student: int, teacher: int) -> tuple[Term, ...]:
        """The terms for a student and a teacher of so many layers."""
        pairs = uniform(student, teacher) if self.levels == "all" else last_layers(student, teacher)
        states = self.hidden_cosine / len(pairs)  # an objective sums over pairs
        terms = [
            Term(name="soft_targets", weight=self.soft_targets, temperature=self.temperature),
            Term(name="task", weight=self.labels),
            Term(name="hidden_cosine", weight=states, pairs=pairs, projected=True),
        ]
        if self.attention_kl:
            terms.append(Term(name="attention_kl", weight=self.attention_kl, pairs=uniform(student, teacher)))
        return tuple(terms)
