"""The training objective: a student, the projection trained with it, and the terms of its recipe for a batch.

Every recipe runs here: fine-tuning and continual pre-training are plans without a teacher. What costs time is done only
where a term asks for it: heads only at positions that count, the teacher without autograd, maps of single layers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import torch

from trainer.architectures.dropout import quicken
from trainer.architectures.layer_outputs import Seen, capturing, quicken_attention
from trainer.datasets import attributes
from trainer.datasets.attributes import Attribute
from trainer.datasets.tags import Tags
from trainer.datasets.tags import read as read_tags
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
from trainer.recipes.terms import Term
from trainer.training import losses
from trainer.training.vocabulary_loss import vocabulary_loss
from trainer.zoo.outputs import HEADS


class Pass(NamedTuple):
    """One forward pass: hidden states by level, captured attention, and logits at what counts."""

    states: Mapping[int, torch.Tensor]  # level -> (rows, tokens, hidden), or (units, hidden) from a cache
    seen: Seen | None
    # At what counts, (units, classes), or what leads to those of pieces.
    logits: torch.Tensor | VocabularyProjection | None


class Objective(torch.nn.Module):
    """batch -> loss terms. Holds the student and the shared projection; the teacher is not part of its state dict.

    head: one of zoo.outputs.HEADS. A masked LM compares at masked positions, and hidden states at every real token; a
    tagger compares both at the labelled positions, a classifier at whole documents, so that teacher and student may cut
    words differently.
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
        self._tags, self._attributes = _outputs(student, head)

    @property
    def teacher(self) -> torch.nn.Module | None:
        """The model that is taught from; None without one, or where its outputs come with the batch."""
        return self._teacher[0] if self._teacher else None

    @property
    def teacher_levels(self) -> tuple[int, ...]:
        """The teacher's levels whose hidden states a term compares, lowest first."""
        return tuple(sorted(self._levels("states", 1)))

    def to(self, device, *args, **kwargs) -> Self:
        for model in self._teacher:
            model.to(device)
        return super().to(device, *args, **kwargs)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The terms, each weighted, under their names, and their sum as "loss".

        batch: input_ids, attention_mask, labels (rows, tokens); where attributes are taught their values (rows, tokens,
        attributes); with a cached teacher also words (rows, tokens), -1 where no word begins, teacher_logits (units,
        classes) and teacher_states (units, teacher_levels, hidden of the teacher). Of documents the fields are those of
        trainer.tasks.classification.
        """
        student = self._run(self.student, batch, side=0)
        teacher = self._teach(batch)
        total, terms = self._output_terms(student, teacher, batch)
        for term in self.plan:
            if not term.traits.needs_logits:
                pairs = (self._layer_term(term, pair, student, teacher, batch) for pair in term.pairs)
                terms[term.name] = term.weight * sum(pairs)
                total = total + terms[term.name]
        return {"loss": total} | {f"loss.{term.name}": terms[term.name] for term in self.plan}

    def _teach(self, batch: Mapping) -> Pass | None:
        if "teacher_logits" in batch:
            states = zip(self.teacher_levels, batch["teacher_states"].unbind(1), strict=True)
            return Pass(dict(states), None, batch["teacher_logits"])
        if self.teacher is None:
            return None
        with torch.no_grad():
            return self._run(self.teacher, batch, side=1)

    def _run(self, model: torch.nn.Module, batch: Mapping, *, side: int) -> Pass:
        """side: 0 for the student, 1 for the teacher, as in the pairs of a term."""
        states, maps, vectors = (self._levels(compared, side) for compared in ("states", "maps", "vectors"))
        needs_logits = any(term.traits.needs_logits and (side == 0 or term.traits.needs_teacher) for term in self.plan)
        with capturing(model, maps=maps, vectors=vectors, after_dropout=self.exact) as seen:
            output = forward(model, batch, head=self.head, levels=states, needs_logits=needs_logits)
        return Pass(output.states, seen, output.logits)

    def _output_terms(self, student: Pass, teacher: Pass | None, batch: Mapping) -> tuple[torch.Tensor | float, dict]:
        """The sum of the weighted terms on what the heads say, and each of them."""
        terms = [term for term in self.plan if term.traits.needs_logits]
        if not terms:
            return 0.0, {}

        def compare(mine: torch.Tensor, theirs: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
            return torch.stack([term.weight * self._output_term(term, mine, theirs, labels, batch) for term in terms])

        mine, theirs = student.logits, teacher.logits if teacher else None
        labels = batch["labels"] if "owners" in batch else batch["labels"].flatten()[positions(batch)]
        if all(isinstance(logits, VocabularyProjection | None) for logits in (mine, theirs)):
            total, each = vocabulary_loss(mine, theirs, labels, compare)
        else:
            each = compare(vocabulary_logits(mine), None if theirs is None else vocabulary_logits(theirs), labels)
            total = each.sum()
        return total, dict(zip((term.name for term in terms), each.unbind(), strict=True))

    def _output_term(
        self, term: Term, mine: torch.Tensor, theirs: torch.Tensor | None, labels: torch.Tensor, batch: Mapping
    ) -> torch.Tensor:
        """One term on logits, (units, outputs): that of the tags, and of each attribute beside it.

        An attribute counts where its gold label stands, or against a teacher at the words that the teacher tags as part
        of a span that carries it.
        """
        if not self._attributes:
            return _term_of(term, mine, theirs, labels)
        columns = slice(len(self._tags.names))
        total = _term_of(term, mine[:, columns], None if theirs is None else theirs[:, columns], labels)
        if term.traits.compares != "labels":
            said = theirs[:, columns].argmax(-1)
            for attribute in self._attributes:
                carrying = [column for kind in attribute.carriers for column in self._tags.columns(kind)]
                where = torch.isin(said, said.new_tensor(carrying))
                pair = (logits[where][:, attribute.outputs] for logits in (mine, theirs))
                total = total + _term_of(term, *pair, labels[where])
        elif "attributes" in batch:
            gold = batch["attributes"].flatten(0, 1)[positions(batch)]  # (units, attributes)
            for attribute, values in zip(self._attributes, gold.unbind(1), strict=True):
                total = total + _term_of(term, mine[:, attribute.outputs], None, values)
        return total

    def _layer_term(self, term: Term, pair: tuple[int, int], student: Pass, teacher: Pass, batch: Mapping):
        """A term that looks inside the two models, for one pair of their levels."""
        mask, (low, high) = batch["attention_mask"], pair
        loss = _function(term)
        if term.traits.compares == "maps":
            maps = (student.seen.maps[low], teacher.seen.maps[high])
            return loss(*maps) if term.traits.padding else loss(*maps, mask)
        if term.traits.compares == "vectors":
            kinds = zip(student.seen.vectors[low], teacher.seen.vectors[high], strict=True)
            return sum(loss(mine, theirs, mask, heads=term.heads) for mine, theirs in kinds)
        mine, theirs = student.states[low], teacher.states[high]
        if self.projection is not None and term.projected:
            mine = self.projection(mine)
        return loss(mine, theirs) if term.traits.padding else loss(*self._counted(mine, theirs, batch))

    def _counted(self, mine: torch.Tensor, theirs: torch.Tensor, batch: Mapping) -> Iterator[torch.Tensor]:
        """The states of both that count: at every real token of a masked LM, of a labelled task what has a label."""
        if not HEADS[self.head].labelled:
            where = _real(batch["attention_mask"])
            return (_rows(states, where) for states in (mine, theirs))
        return (
            states if states.ndim == 2 else unit_states(model, states, batch)
            for model, states in ((self.student, mine), (self.teacher, theirs))
        )

    def _levels(self, compared: str, side: int) -> set[int]:
        """The levels of one side whose states, maps or vectors a term compares."""
        return {pair[side] for term in self.plan if term.traits.compares == compared for pair in term.pairs}


def _function(term: Term, *, sets: bool = False) -> Callable[..., torch.Tensor]:
    """What computes a term; sets: where a document may have several labels."""
    traits = term.traits
    return getattr(losses, (sets and traits.of_sets) or traits.function or term.name)


def _outputs(model: torch.nn.Module, head: str) -> tuple[Tags | None, tuple[Attribute, ...]]:
    """What the outputs of a tagger are: its tags, and the attributes of spans."""
    if HEADS[head].predicts != "tags":
        return None, ()
    names = [model.config.id2label[number] for number in range(len(model.config.id2label))]
    tags = read_tags(names)
    return tags, attributes.read(names, getattr(model.config, attributes.CARRIERS, {}), tags.kinds)


def _term_of(term: Term, mine: torch.Tensor, theirs: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
    """One term on logits, (units, classes); labels in floating point: documents with several each."""
    loss = _function(term, sets=labels.is_floating_point())
    if term.traits.compares == "labels":
        return loss(mine, labels, ignored=IGNORED)
    return loss(mine, theirs, temperature=term.temperature) if term.traits.softened else loss(mine, theirs)


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
    if asked and teacher and (not HEADS[head].labelled or student != teacher):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return torch.nn.Linear(student, teacher)
    unequal = [term.name for term in plan if term.traits.needs_same_width and student != teacher]
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
