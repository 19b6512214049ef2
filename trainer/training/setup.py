"""Everything that a run trains with, made from its spec: objective, tokenizer, rows, batches, teacher.

`execute` trains it; a preflight measures two steps of it.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import inference, models
from trainer.datasets import attributes
from trainer.datasets.rows import words
from trainer.datasets.rows.batches import Batches
from trainer.examples import open_data
from trainer.examples.task_data import LabelledData, LabelledRows, RowOptions, TaskData, TrainingRows
from trainer.files import write_file
from trainer.models import students
from trainer.models.heads import unit_numbers
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.run import RunSpec
from trainer.tasks.task import Task
from trainer.training import loop, teacher_cache
from trainer.training.objective import Objective
from trainer.zoo.outputs import HEADS, TASK_FIELD, task_fields

LoadedModel = tuple[PreTrainedModel, PreTrainedTokenizerBase]


class OpenData(Protocol):
    """How the data of a run are opened: as trainer.examples.open_data does."""

    def __call__(self, task: Task, dataset: ResolvedDataset, *, limit: int | None) -> TaskData[Any]: ...


@dataclass
class TrainingSetup:
    """The training of one run, ready for its first step.

    cache: the folder that runs share. max_tokens: the longest window, special tokens included. teacher: with its
    tokenizer. teacher_outputs: None where there is no teacher, or where it runs in every step.
    """

    ready: RunSpec
    cache: Path
    data: TaskData[Any]
    objective: Objective
    tokenizer: PreTrainedTokenizerBase
    rows: TrainingRows
    max_tokens: int
    teacher: LoadedModel | None
    teacher_outputs: teacher_cache.TeacherOutputs | None

    @cached_property
    def batches(self) -> Batches:
        """Which rows are in the batch of each step."""
        spec = self.ready.spec
        schedule = spec.schedule
        return Batches(
            self.rows.lengths, seed=spec.seed, batch_tokens=schedule.batch_tokens, batch_size=schedule.batch_size
        )

    @property
    def total(self) -> int:
        """Optimiser steps of the whole run."""
        schedule = self.ready.spec.schedule
        if schedule.steps:
            return schedule.steps
        assert schedule.epochs is not None  # a schedule has steps or epochs
        return max(1, self.batches.steps(schedule.epochs) // schedule.accumulate)

    def epoch_of(self, step: int) -> int:
        """The 0-based epoch in which 0-based `step` begins."""
        return self.batches.epoch_of(step * self.ready.spec.schedule.accumulate)

    def batch_at(self, step: int) -> dict[str, torch.Tensor]:
        """The batch of 0-based `step`, on the CPU, with the teacher's outputs where they are cached."""
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
        assert self.ready.teacher is not None
        path = self.cache / "scores" / f"{self._teacher_key(self.ready.teacher, split)}.json"
        if path.is_file():
            cached: dict[str, float] = json.loads(path.read_bytes())
            return cached
        teacher, tokenizer = self.teacher
        training = teacher.training
        scores = self.data.scores(teacher.eval(), tokenizer, split, max_tokens=self.max_tokens)
        teacher.train(training)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(scores).encode())
        return scores

    def _teacher_key(self, teacher: ResolvedModel, split: str) -> str:
        ready = self.ready
        parts = [teacher.sha256, ready.dataset.sha256, split, ready.spec.limit, self.max_tokens, words.VERSION]
        return hashlib.sha256(json.dumps([*parts, ready.spec.task.model_dump()]).encode()).hexdigest()


def prepare(
    ready: RunSpec,
    *,
    cache: Path,
    progress: teacher_cache.Report | None = None,
    open_data: OpenData = open_data,
    counted: Callable[[], Iterable[str]] | None = None,
) -> TrainingSetup:
    """Load the data, models and rows of a run that has passed trainer.fit.check, onto its device.

    cache: the folder that runs share. progress: called with (rows done, rows in all) while the teacher's outputs are
    computed, which can take minutes. open_data: a preflight opens only the first examples. counted: the texts whose
    word pieces decide which ones a trimmed vocabulary keeps, by default those of training.
    Raises BadSpec where the device does not have the precision, or a term cannot compare the two models.
    """
    spec, task, recipe = ready.spec, ready.spec.task, ready.spec.recipe
    assert recipe is not None  # jobs that train have one
    loop.check_precision(torch.device(ready.device), spec.compute.precision)
    data = open_data(task, ready.dataset, limit=spec.limit)
    if ready.unlabelled and isinstance(data, LabelledData):
        data.read_unlabelled(ready.unlabelled, limit=getattr(recipe, "unlabelled_limit", None))
    teacher = _teacher(ready)
    if teacher and isinstance(data, LabelledData):
        data.check_teacher(teacher[0])
    # The student learns the labels of its teacher, in the same order.
    labels = data.labels if teacher is None or not task.labelled else inference.output_names(teacher[0])
    student, tokenizer = _student(ready, labels, counted or (lambda: data.texts("train")))
    terms = recipe.plan(_depth(student), _depth(teacher[0] if teacher else student))
    every_step = not task.labelled or HEADS[task.head].over_pieces
    live = teacher is not None and (every_step or any(term.traits.needs_same_pieces for term in terms))
    limits = [inference.model_limit(*pair) for pair in ((student, tokenizer), teacher) if pair]
    max_tokens = min(spec.schedule.max_tokens, *limits)
    options: RowOptions = {
        "label_ids": {name: int(number) for name, number in (student.config.label2id or {}).items()},
        "max_tokens": max_tokens,
        "seed": spec.seed,
        "with_units": teacher is not None and task.labelled,
    }
    rows = data.rows("train", tokenizer, **options)
    vars(student.config).pop(TASK_FIELD, None)  # of the base
    student.config.update(data.marks(max_tokens, rows.lengths) | task_fields(task.name))
    if teacher and (carriers := getattr(teacher[0].config, attributes.CARRIERS, None)):
        student.config.update({attributes.CARRIERS: carriers})
    objective = Objective(
        student,
        terms,
        head=task.head,
        teacher=teacher[0] if teacher and live else None,
        teacher_width=teacher[0].config.hidden_size if teacher else None,
        exact=getattr(recipe, "exact", False) and recipe.teacher_drops_out,
        seed=spec.seed,
    ).to(ready.device)
    outputs = None
    if teacher and ready.teacher and not live:
        teacher[0].to(ready.device)  # type: ignore[arg-type]  # transformers wraps `to` without its self
        teacher_rows = data.rows("train", teacher[1], **options)
        assert isinstance(rows, LabelledRows) and isinstance(teacher_rows, LabelledRows)
        outputs = teacher_cache.teacher_outputs(
            teacher[0],
            teacher_rows,
            levels=objective.teacher_levels,
            weights=ready.teacher.sha256,
            cache=cache,
            progress=progress,
        )
        rows = rows.answered_by(teacher_rows)
    return TrainingSetup(ready, cache, data, objective, tokenizer, rows, max_tokens, teacher, outputs)


def _teacher(ready: RunSpec) -> LoadedModel | None:
    return models.load(ready.teacher, task=ready.spec.task.name) if ready.teacher else None


def _student(ready: RunSpec, labels: Sequence[str] | None, texts: Callable[[], Iterable[str]]) -> LoadedModel:
    spec = ready.spec
    student, tokenizer = models.load(ready.model, task=spec.task.name, labels=labels, seed=spec.seed)
    if spec.change is None:
        return student, tokenizer
    return students.make(student, tokenizer, spec.change, texts=texts, seed=spec.seed)


def _depth(model: PreTrainedModel) -> int:
    depth: int = model.config.num_hidden_layers
    return depth
