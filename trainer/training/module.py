"""The learner: a student, what is trained beside it, and the terms of its recipe for a batch.

Every recipe runs here: fine-tuning and continual pre-training are plans without a teacher. What costs time is done only
where a term asks for it: heads only at positions that count, the teacher without autograd, maps of single layers.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from trainer.architectures.dropout import quicken
from trainer.architectures.layer_outputs import Seen, capturing, quicken_attention
from trainer.errors import BadSpec
from trainer.models.heads import (
    IGNORED,
    VocabularyProjection,
    forward,
    narrows,
    positions,
    unit_states,
    vocabulary_logits,
)
from trainer.recipes.objective import Term
from trainer.training import losses
from trainer.training.vocabulary_loss import vocabulary_loss

TAUGHT = ("soft_targets", "soft_cross_entropy")  # terms that compare what the two heads say
OUTPUTS = ("mlm", "task", *TAUGHT)  # terms of what the student's head says
STATES = ("hidden_cosine", "hidden_mse", "embedding_cosine")
MAPS = ("attention_kl", "attention_mse")


class Pass(NamedTuple):
    """One forward pass: hidden states by level, captured attention, and logits at what counts."""

    states: Mapping[int, torch.Tensor]  # level -> (rows, tokens, hidden), or (units, hidden) from a cache
    seen: Seen | None
    # Logits at what counts, (units, classes), or what leads to those of pieces.
    said: torch.Tensor | VocabularyProjection | None


class Learner(torch.nn.Module):
    """batch -> loss terms. Holds the student and the shared projection; the teacher is not part of its state.

    head: "mlm" compares at masked positions and hidden states at every real token; "ner" compares both at the labelled
    positions, "classification" at whole documents, so that teacher and student may cut words differently.
    `exact` is the papers' mode: the teacher drops out as the student does, and maps are those after dropout.
    """

    def __init__(
        self,
        student: torch.nn.Module,
        plan: Sequence[Term],
        *,
        head: str,
        teacher: torch.nn.Module | None = None,
        teacher_width: int | None = None,
        exact: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        self.student, self.head, self.exact = student, head, exact
        quicken_attention(student)
        self.plan = tuple(term for term in plan if term.weight)
        self._teacher = [teacher] if teacher is not None else []  # a list hides it from train(), state_dict and device
        for model in self._teacher:
            model.requires_grad_(False).train(exact)
            quicken(model)
        for model in (student, *self._teacher):
            narrows(model, head)  # so that the first step does not have to try
        width = teacher_width or (teacher.config.hidden_size if teacher is not None else None)
        self.projection = _projection(student.config.hidden_size, width, self.plan, head=head, seed=seed)

    @property
    def teacher(self) -> torch.nn.Module | None:
        """The model that is taught from; None without one, or where its outputs come with the batch."""
        return self._teacher[0] if self._teacher else None

    @property
    def taught_levels(self) -> tuple[int, ...]:
        """The teacher's levels whose hidden states a term compares, lowest first."""
        return tuple(sorted(self._levels(1)))

    def to(self, device, *args, **kwargs) -> "Learner":
        for model in self._teacher:
            model.to(device)
        return super().to(device, *args, **kwargs)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The terms, each weighted, under their names, and their sum as "loss".

        batch: input_ids, attention_mask, labels (rows, tokens); with a cached teacher also words (rows, tokens), -1
        where no word begins, teacher_logits (units, classes) and teacher_states (units, taught_levels, hidden of the
        teacher). Of documents the fields are those of trainer.tasks.classification.
        """
        student = self._run(self.student, batch, side=0)
        teacher = self._teach(batch)
        total, terms = self._output_terms(student, teacher, batch)
        for term in self.plan:
            if term.name not in OUTPUTS:
                pairs = (self._layer_term(term, pair, student, teacher, batch) for pair in term.pairs)
                terms[term.name] = term.weight * sum(pairs)
                total = total + terms[term.name]
        return {"loss": total} | {f"loss.{term.name}": terms[term.name] for term in self.plan}

    def _teach(self, batch: Mapping) -> Pass | None:
        if "teacher_logits" in batch:
            states = zip(self.taught_levels, batch["teacher_states"].unbind(1), strict=True)
            return Pass(dict(states), None, batch["teacher_logits"])
        if self.teacher is None:
            return None
        with torch.no_grad():
            return self._run(self.teacher, batch, side=1)

    def _run(self, model: torch.nn.Module, batch: Mapping, *, side: int) -> Pass:
        """side: 0 for the student, 1 for the teacher, as in the pairs of a term."""
        maps, vectors = (self._layers(names, side) for names in (MAPS, ("relations",)))
        speaks = any(term.name in (TAUGHT if side else OUTPUTS) for term in self.plan)
        with capturing(model, maps=maps, vectors=vectors, after_dropout=self.exact) as seen:
            said = forward(model, batch, head=self.head, levels=self._levels(side), speaks=speaks)
        return Pass(said.states, seen, said.logits)

    def _output_terms(self, student: Pass, teacher: Pass | None, batch: Mapping) -> tuple[torch.Tensor | float, dict]:
        """The sum of the weighted terms on what the heads say, and each of them."""
        terms = [term for term in self.plan if term.name in OUTPUTS]
        if not terms:
            return 0.0, {}

        def compare(mine: torch.Tensor, theirs: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
            return torch.stack([term.weight * _output_term(term, mine, theirs, labels) for term in terms])

        mine, theirs = student.said, teacher.said if teacher else None
        labels = batch["labels"] if "owners" in batch else batch["labels"].flatten()[positions(batch)]
        if all(isinstance(said, VocabularyProjection | None) for said in (mine, theirs)):
            total, each = vocabulary_loss(mine, theirs, labels, compare)
        else:
            each = compare(vocabulary_logits(mine), None if theirs is None else vocabulary_logits(theirs), labels)
            total = each.sum()
        return total, dict(zip((term.name for term in terms), each.unbind(), strict=True))

    def _layer_term(self, term: Term, pair: tuple[int, int], student: Pass, teacher: Pass, batch: Mapping):
        mask, (low, high) = batch["attention_mask"], pair
        if term.name in MAPS:
            maps = (student.seen.maps[low], teacher.seen.maps[high])
            return losses.attention_mse(*maps) if term.name == "attention_mse" else losses.attention_kl(*maps, mask)
        if term.name == "relations":
            kinds = zip(student.seen.vectors[low], teacher.seen.vectors[high], strict=True)
            return sum(losses.relations(mine, theirs, mask, heads=term.heads) for mine, theirs in kinds)
        mine, theirs = student.states[low], teacher.states[high]
        if self.projection is not None and term.projected:
            mine = self.projection(mine)
        if term.name == "hidden_mse":
            return losses.hidden_mse(mine, theirs)
        # A masked LM compares every real token, a labelled task what carries a label.
        if self.head == "mlm":
            return losses.hidden_cosine(*(_rows(states, _real(mask)) for states in (mine, theirs)))
        chosen = (
            states if states.ndim == 2 else unit_states(model, states, batch)
            for model, states in ((self.student, mine), (self.teacher, theirs))
        )
        return losses.hidden_cosine(*chosen)

    def _levels(self, side: int) -> set[int]:
        return {pair[side] for term in self.plan if term.name in STATES for pair in term.pairs}

    def _layers(self, names: Sequence[str], side: int) -> set[int]:
        return {pair[side] for term in self.plan if term.name in names for pair in term.pairs}


def _output_term(term: Term, mine: torch.Tensor, theirs: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
    """One term on logits, (units, classes); labels in floating point: documents with several each."""
    sets = labels.is_floating_point()
    if term.name in TAUGHT:
        compare = losses.soft_label_sets if sets else getattr(losses, term.name)
        return compare(mine, theirs, temperature=term.temperature)
    return (losses.label_sets if sets else losses.hard_labels)(mine, labels, ignored=IGNORED)


def _real(mask: torch.Tensor) -> torch.Tensor | None:
    """The same for real tokens; None where there is no padding and all count."""
    return None if bool(mask.all()) else mask.flatten().nonzero().squeeze(1)


def _rows(states: torch.Tensor, where: torch.Tensor | None) -> torch.Tensor:
    flat = states.flatten(0, 1)  # (rows x tokens, hidden)
    return flat if where is None else flat[where]


def _projection(student: int, teacher: int | None, plan: Sequence[Term], *, head: str, seed: int):
    """The one linear map from student to teacher width that all levels share; None where no term asks for it.

    The tiny objective has it at any widths; a task term only where the widths differ.
    """
    asked = any(term.projected for term in plan)
    if asked and teacher and (head == "mlm" or student != teacher):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return torch.nn.Linear(student, teacher)
    unequal = [term.name for term in plan if term.name in STATES and student != teacher]
    if unequal and not asked:
        raise BadSpec(
            [
                (
                    "student.hidden",
                    f"the student is {student} wide and its teacher {teacher}; {unequal[0]} compares them",
                )
            ],
            next_step=f"Make the student {teacher} wide, or choose the recipe tiny, minilm or task_kd.",
        )
    return None
