"""Everything that a run trains with, put together from its spec: objective, tokenizer, rows, batches, teacher.

`execute` trains it; a preflight takes two steps of it.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from trainer import inference, models
from trainer.datasets import attributes
from trainer.datasets.rows import words
from trainer.datasets.rows.batches import Batches
from trainer.examples import open_data
from trainer.files import write_file
from trainer.models import students
from trainer.models.heads import unit_numbers
from trainer.run import RunSpec
from trainer.training import loop, teacher_cache
from trainer.training.objective import Objective
from trainer.zoo.outputs import task_fields


@dataclass
class TrainingSetup:
    """One run's training, ready to take steps. teacher: with its tokenizer. teacher_outputs: unless it runs live."""

    ready: RunSpec
    cache: Path
    data: Any
    objective: Objective
    tokenizer: Any
    rows: Any
    max_tokens: int
    teacher: tuple[torch.nn.Module, Any] | None
    teacher_outputs: teacher_cache.TeacherOutputs | None

    @cached_property
    def batches(self) -> Batches:
        """Which rows stand in the batch of each step."""
        spec = self.ready.spec
        sizes = {"batch_tokens": spec.schedule.batch_tokens, "batch_size": spec.schedule.batch_size}
        return Batches(self.rows.lengths, seed=spec.seed, **sizes)

    @property
    def total(self) -> int:
        """Optimiser steps of the whole run."""
        schedule = self.ready.spec.schedule
        return schedule.steps or max(1, self.batches.steps(schedule.epochs) // schedule.accumulate)

    def epoch_of(self, step: int) -> int:
        """The 0-based epoch in which 0-based `step` begins."""
        return self.batches.epoch_of(step * self.ready.spec.schedule.accumulate)

    def batch_at(self, step: int) -> dict[str, torch.Tensor]:
        """Batch number `step` from 0, on the CPU, with the teacher's outputs for it where they are cached."""
        batch = self.rows.batch(self.batches.at(step), step=step)
        if self.teacher_outputs is None:
            return batch
        return batch | self.teacher_outputs.at(unit_numbers(batch))

    def dev_scores(self) -> dict[str, float]:
        """The student's scores on the dev split."""
        return self.data.scores(self.objective.student, self.tokenizer, "dev", max_tokens=self.max_tokens)

    def teacher_scores(self, split: str) -> dict[str, float]:
        """The teacher's scores on a split, computed once per teacher and data set, then cached; {} without one."""
        if self.teacher is None:
            return {}
        path = self.cache / "scores" / f"{self._teacher_key(split)}.json"
        if path.is_file():
            return json.loads(path.read_bytes())
        teacher, tokenizer = self.teacher
        training = teacher.training
        scores = self.data.scores(teacher.eval(), tokenizer, split, max_tokens=self.max_tokens)
        teacher.train(training)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(scores).encode())
        return scores

    def _teacher_key(self, split: str) -> str:
        ready = self.ready
        parts = [ready.teacher.sha256, ready.dataset.sha256, split, ready.spec.limit, self.max_tokens, words.VERSION]
        return hashlib.sha256(json.dumps([*parts, ready.spec.task.model_dump()]).encode()).hexdigest()


def prepare(
    ready: RunSpec,
    *,
    cache: Path,
    asking: Callable[[int, int], None] | None = None,
    opening: Callable[..., Any] = open_data,
) -> TrainingSetup:
    """Load data, models and rows of a run that fits (trainer.fit.check), on its device. BadSpec where the device has no
    such precision.

    opening: how data are opened; a trial opens only the first of them.
    asking: called while the teacher's outputs are computed, which can take minutes, with (rows done, rows in all).
    """
    spec, task = ready.spec, ready.spec.task
    loop.check_precision(torch.device(ready.device), spec.compute.precision)
    data = opening(task, ready.dataset, limit=spec.limit)
    if ready.unlabelled:
        data.read_unlabelled(ready.unlabelled, limit=spec.recipe.unlabelled_limit)
    teacher = _teacher(ready)
    # What a teacher can say is what its student learns to say, in its order.
    labels = data.labels if teacher is None or not task.labelled else inference.output_names(teacher[0])
    student, tokenizer = _student(ready, labels, data)
    terms = spec.recipe.plan(_depth(student), _depth(teacher[0] if teacher else student))
    live = teacher is not None and (not task.labelled or any(term.traits.needs_same_pieces for term in terms))
    limits = [inference.model_limit(*pair) for pair in ((student, tokenizer), teacher) if pair]
    max_tokens = min(spec.schedule.max_tokens, *limits)
    options = {"label_ids": student.config.label2id, "max_tokens": max_tokens, "seed": spec.seed}
    if teacher and task.labelled:
        options["with_units"] = True
    rows = data.rows("train", tokenizer, **options)
    student.config.update(data.marks(max_tokens, rows.lengths) | task_fields(task.name))
    if teacher and (carriers := getattr(teacher[0].config, attributes.CARRIERS, None)):
        student.config.update({attributes.CARRIERS: carriers})
    objective = Objective(
        student,
        terms,
        head=task.head,
        teacher=teacher[0] if live else None,
        teacher_width=teacher[0].config.hidden_size if teacher else None,
        exact=getattr(spec.recipe, "exact", False) and getattr(spec.recipe, "teacher_drops_out", True),
        seed=spec.seed,
    ).to(ready.device)
    outputs = None
    if teacher and not live:
        teacher[0].to(ready.device)
        theirs = data.rows("train", teacher[1], **options)
        key = {"levels": objective.teacher_levels, "weights": ready.teacher.sha256}
        outputs = teacher_cache.teacher_outputs(teacher[0], theirs, **key, cache=cache, progress=asking)
        rows = rows.answered_by(theirs)
    return TrainingSetup(ready, cache, data, objective, tokenizer, rows, max_tokens, teacher, outputs)


def _teacher(ready: RunSpec) -> tuple[torch.nn.Module, Any] | None:
    return models.load(ready.teacher, task=ready.spec.task.name) if ready.teacher else None


def _student(ready: RunSpec, labels: Sequence[str] | None, data: Any) -> tuple[torch.nn.Module, Any]:
    spec = ready.spec
    student, tokenizer = models.load(ready.model, task=spec.task.name, labels=labels, seed=spec.seed)
    if spec.change is None:
        return student, tokenizer
    return students.make(student, tokenizer, spec.change, texts=lambda: data.texts("train"), seed=spec.seed)


def _depth(model: torch.nn.Module) -> int:
    return model.config.num_hidden_layers
