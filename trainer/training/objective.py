"""The training objective: a student, the projection trained with it, and the terms of its recipe for a batch.

Every recipe runs here; fine-tuning and continual pre-training are those without a teacher. Only what a term needs is
computed: heads at the positions that count, the teacher without autograd, attention maps of single layers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple, Self

import torch
from transformers import PreTrainedModel

from trainer.architectures.dropout import quicken
from trainer.architectures.layer_outputs import capturing, quicken_attention
from trainer.datasets import attributes
from trainer.datasets.attributes import Attribute
from trainer.datasets.tags import Tags
from trainer.datasets.tags import read as read_tags
from trainer.errors import BadSpec
from trainer.inference.model_outputs import output_names
from trainer.models.heads import (
    IGNORED,
    VocabularyProjection,
    forward,
    narrows,
    positions,
    unit_labels,
    unit_states,
    vocabulary_logits,
)
from trainer.recipes.terms import Term
from trainer.training import losses
from trainer.training.vocabulary_loss import vocabulary_loss
from trainer.zoo.outputs import HEADS

Loss = Callable[..., torch.Tensor]  # a function of trainer.training.losses; TermTraits says how it is called


class Pass(NamedTuple):
    """The outputs of one model for a batch.

    states: level -> (rows, tokens, hidden), or (units, hidden) from the cache. maps, vectors: layer -> attention maps,
    and queries, keys and values, as in layer_outputs.Seen. logits: (units, classes), or the projection that gives those
    of a vocabulary.
    """

    states: Mapping[int, torch.Tensor]
    maps: Mapping[int, torch.Tensor]
    vectors: Mapping[int, tuple[torch.Tensor, ...]]
    logits: torch.Tensor | VocabularyProjection | None


class Objective(torch.nn.Module):
    """batch -> loss terms. Its parameters are those of the student and of the shared projection, not of the teacher.

    head: a key of zoo.outputs.HEADS. A masked LM is compared at masked positions, its hidden states at every real
    token; a tagger at labelled positions and a classifier at whole documents, so that the tokenizers of teacher and
    student may differ; answers at the two ends in each window, as distributions over its pieces. plan: the terms; those
    of weight 0 are left out. teacher: run in every step; None where there is none, or where its outputs come with the
    batch. teacher_width: its hidden size, where its outputs come with the batch. exact: as in the papers' code, with
    dropout in the teacher too, and attention maps taken after dropout. seed: of the projection's initial weights.
    Raises BadSpec where a term compares states of different widths.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        plan: Sequence[Term],
        *,
        head: str,
        teacher: PreTrainedModel | None = None,
        teacher_width: int | None = None,
        exact: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        self.student, self.head, self.exact = student, head, exact
        quicken_attention(student)
        self.plan = tuple(term for term in plan if term.weight)
        self._teacher = [teacher] if teacher is not None else []  # in a list, so that it is no submodule
        for model in self._teacher:
            model.requires_grad_(False).train(exact)
            quicken(model)
        for model in (student, *self._teacher):
            narrows(model, head)  # so that the first step does not have to try
        width = teacher_width or (teacher.config.hidden_size if teacher is not None else None)
        self.projection = _projection(student.config.hidden_size, width, self.plan, head=head, seed=seed)
        self._tags, self._attributes = _read_outputs(student, head)

    @property
    def teacher(self) -> PreTrainedModel | None:
        """The teacher; None where there is none, or where its outputs come with the batch."""
        return self._teacher[0] if self._teacher else None

    @property
    def teacher_levels(self) -> tuple[int, ...]:
        """The teacher's levels whose hidden states a term compares, lowest first."""
        return tuple(sorted(self._levels("states", 1)))

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As torch.nn.Module.to, for the teacher too."""
        for model in self._teacher:
            model.to(*args, **kwargs)
        return super().to(*args, **kwargs)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weighted terms as "loss.NAME", and their sum as "loss".

        batch: input_ids, attention_mask, labels (rows, tokens); attributes (rows, tokens, attributes) where any are
        learned; with cached teacher outputs also words (rows, tokens), -1 where no word begins, teacher_logits (units,
        classes) and teacher_states (units, teacher_levels, hidden size of the teacher). For documents the fields are
        those of trainer.examples.whole_text, for questions those of trainer.examples.questions.
        """
        student = self._run(self.student, batch, side=0)
        teacher = self._run_teacher(batch)
        terms: dict[str, torch.Tensor] = {}
        parts: list[torch.Tensor] = []
        if any(term.traits.needs_logits for term in self.plan):
            total, terms = self._output_terms(student, teacher, batch)
            parts.append(total)
        for term in self.plan:
            if not term.traits.needs_logits:
                assert teacher is not None
                by_pair = (self._layer_term(term, pair, student, teacher, batch) for pair in term.pairs)
                terms[term.name] = term.weight * reduce(torch.add, by_pair)
                parts.append(terms[term.name])
        return {"loss": reduce(torch.add, parts)} | {f"loss.{term.name}": terms[term.name] for term in self.plan}

    def _run_teacher(self, batch: Mapping[str, torch.Tensor]) -> Pass | None:
        if "teacher_logits" in batch:
            states = zip(self.teacher_levels, batch["teacher_states"].unbind(1), strict=True)
            return Pass(dict(states), {}, {}, batch["teacher_logits"])
        if self.teacher is None:
            return None
        with torch.no_grad():
            return self._run(self.teacher, batch, side=1)

    def _run(self, model: PreTrainedModel, batch: Mapping[str, torch.Tensor], *, side: int) -> Pass:
        """The outputs that the terms need. side: 0 for the student, 1 for the teacher, as in the pairs of a term."""
        states, maps, vectors = (self._levels(compared, side) for compared in ("states", "maps", "vectors"))
        needs_logits = any(term.traits.needs_logits and (side == 0 or term.traits.needs_teacher) for term in self.plan)
        with capturing(model, maps=maps, vectors=vectors, after_dropout=self.exact) as captured:
            output = forward(model, batch, head=self.head, levels=states, needs_logits=needs_logits)
        return Pass(output.states, captured.maps, captured.vectors, output.logits)

    def _output_terms(
        self, student: Pass, teacher: Pass | None, batch: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The sum of the weighted terms on logits, and each of them by name."""
        terms = [term for term in self.plan if term.traits.needs_logits]
        assert student.logits is not None

        def compare(
            student_logits: torch.Tensor, teacher_logits: torch.Tensor | None, labels: torch.Tensor
        ) -> torch.Tensor:
            values = (self._output_term(term, student_logits, teacher_logits, labels, batch) for term in terms)
            return torch.stack([term.weight * value for term, value in zip(terms, values, strict=True)])

        logits, targets = student.logits, teacher.logits if teacher else None
        labels = unit_labels(batch)
        if isinstance(logits, VocabularyProjection) and not isinstance(targets, torch.Tensor):
            total, values = vocabulary_loss(logits, targets, labels, compare)
        else:
            teacher_logits = None if targets is None else vocabulary_logits(targets)
            values = compare(vocabulary_logits(logits), teacher_logits, labels)
            total = values.sum()
        return total, dict(zip((term.name for term in terms), values.unbind(), strict=True))

    def _output_term(
        self,
        term: Term,
        student: torch.Tensor,
        teacher: torch.Tensor | None,
        labels: torch.Tensor,
        batch: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """One term on logits, (units, outputs), without its weight: of the tags, and added to it of each attribute.

        An attribute counts where it has a gold value or, compared with a teacher, at the words that the teacher tags as
        part of a span that carries it.
        """
        if self._tags is None or not self._attributes:
            return _compare_logits(term, student, teacher, labels)
        columns = slice(len(self._tags.names))
        total = _compare_logits(term, student[:, columns], None if teacher is None else teacher[:, columns], labels)
        if term.traits.compares != "labels":
            assert teacher is not None
            predicted = teacher[:, columns].argmax(-1)
            for attribute in self._attributes:
                carrying = [column for kind in attribute.carriers for column in self._tags.columns(kind)]
                where = torch.isin(predicted, predicted.new_tensor(carrying))
                values, targets = (logits[where][:, attribute.outputs] for logits in (student, teacher))
                total = total + _compare_logits(term, values, targets, labels[where])
        elif "attributes" in batch:
            gold = batch["attributes"].flatten(0, 1)[positions(batch)]  # (units, attributes)
            for attribute, numbers in zip(self._attributes, gold.unbind(1), strict=True):
                total = total + _compare_logits(term, student[:, attribute.outputs], None, numbers)
        return total

    def _layer_term(
        self, term: Term, pair: tuple[int, int], student: Pass, teacher: Pass, batch: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """A term on states, maps or vectors, for one pair of levels, without its weight."""
        mask, (level, teacher_level) = batch["attention_mask"], pair
        loss = _function(term)
        if term.traits.compares == "maps":
            maps = (student.maps[level], teacher.maps[teacher_level])
            return loss(*maps) if term.traits.padding else loss(*maps, mask)
        if term.traits.compares == "vectors":
            kinds = zip(student.vectors[level], teacher.vectors[teacher_level], strict=True)
            return reduce(torch.add, (loss(*vectors, mask, heads=term.heads) for vectors in kinds))
        states, teacher_states = student.states[level], teacher.states[teacher_level]
        if self.projection is not None and term.projected:
            states = self.projection(states)
        if term.traits.padding:
            return loss(states, teacher_states)
        return loss(*self._counted(states, teacher_states, batch))

    def _counted(
        self, student: torch.Tensor, teacher: torch.Tensor, batch: Mapping[str, torch.Tensor]
    ) -> Iterator[torch.Tensor]:
        """The states of both that count: every real token for a masked LM, labelled units for other tasks."""
        if not HEADS[self.head].labelled:
            where = _real_positions(batch["attention_mask"])
            return (_states_at(states, where) for states in (student, teacher))
        return (
            states if model is None or states.ndim == 2 else unit_states(model, states, batch)
            for model, states in ((self.student, student), (self.teacher, teacher))
        )

    def _levels(self, compared: str, side: int) -> set[int]:
        """The levels of one side whose states, maps or vectors (`compared`) some term compares."""
        return {pair[side] for term in self.plan if term.traits.compares == compared for pair in term.pairs}


def _function(term: Term, *, sets: bool = False, values: bool = False) -> Loss:
    """The function of trainer.training.losses for a term. sets: whether a document may have several labels; values:
    whether it has a number.
    """
    traits = term.traits
    special = (values and traits.of_values) or (sets and traits.of_sets)
    loss: Loss = getattr(losses, special or traits.function or term.name)
    return loss


def _read_outputs(model: PreTrainedModel, head: str) -> tuple[Tags | None, tuple[Attribute, ...]]:
    """The tags and attributes of a tagger that has attributes; None and () for any other head."""
    if HEADS[head].predicts != "tags":
        return None, ()
    names = output_names(model)
    if attributes.tag_names(names) == tuple(names):  # without attributes a loss needs no meaning of the tags
        return None, ()
    tags = read_tags(names)
    return tags, attributes.read(names, getattr(model.config, attributes.CARRIERS, {}), tags.kinds)


def _compare_logits(
    term: Term, student: torch.Tensor, teacher: torch.Tensor | None, labels: torch.Tensor
) -> torch.Tensor:
    """One term on logits, (units, classes), without its weight.

    labels: (units,), or floats: (units, classes) of 0 and 1 where documents may have several, (units,) of values.
    """
    real = labels.is_floating_point()
    loss = _function(term, sets=real and labels.ndim == 2, values=real and labels.ndim == 1)
    if term.traits.compares == "labels":
        return loss(student, labels, ignored=IGNORED)
    return loss(student, teacher, temperature=term.temperature) if term.traits.softened else loss(student, teacher)


def _real_positions(mask: torch.Tensor) -> torch.Tensor | None:
    """The positions of real tokens in the flattened mask; None where there is no padding."""
    return None if bool(mask.all()) else mask.flatten().nonzero().squeeze(1)


def _states_at(states: torch.Tensor, where: torch.Tensor | None) -> torch.Tensor:
    flat = states.flatten(0, 1)  # (rows x tokens, hidden)
    return flat if where is None else flat[where]


def _projection(
    student: int, teacher: int | None, plan: Sequence[Term], *, head: str, seed: int
) -> torch.nn.Linear | None:
    """The one linear map from student to teacher width that all levels share; None where no term is projected.

    Without labels (the tiny objective) it is there at any widths; for a labelled task only where the widths differ.
    """
    projected = any(term.projected for term in plan)
    if projected and teacher and (not HEADS[head].labelled or student != teacher):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return torch.nn.Linear(student, teacher)
    unequal = [term.name for term in plan if term.traits.needs_same_width and student != teacher]
    if unequal and not projected:
        problem = f"the student is {student} wide and its teacher {teacher}; {unequal[0]} compares them"
        raise BadSpec(
            [("student.hidden", problem)],
            next_step=f"Make the student {teacher} wide, or choose the recipe tiny, minilm or task_kd.",
        )
    return None
