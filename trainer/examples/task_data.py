"""The interface to a task's data: texts, training rows, scores and reports of each split."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypedDict, TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer.datasets import Report
from trainer.datasets.contents import labels_in
from trainer.datasets.sources import sources
from trainer.evaluation import slices
from trainer.evaluation.calibration import MOST_ITEMS
from trainer.evaluation.outcomes import Outcomes
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks.task import Task

T = TypeVar("T", bound=Task)


class TrainingRows(Protocol):
    """The training rows of a split, made into batches. lengths: (rows,) word pieces that each takes up in a batch."""

    lengths: np.ndarray

    def batch(self, indices: Sequence[int] | np.ndarray, *, step: int) -> dict[str, torch.Tensor]:
        """The rows `indices` as tensors, input_ids and attention_mask (rows, longest) among them.

        step: the training step; what is random, such as masks, is drawn anew for each.
        """


class LabelledRows(TrainingRows, ABC):
    """Rows with units (words or documents) that have labels, so that a teacher's outputs can be cached by unit."""

    @property
    @abstractmethod
    def pieces(self) -> np.ndarray:
        """(rows,) word pieces that are read of each in a step, without padding."""

    @abstractmethod
    def batch(self, indices: Sequence[int] | np.ndarray, *, step: int | None = None) -> dict[str, torch.Tensor]:
        """As TrainingRows.batch; without a step nothing is drawn and everything is read."""

    @property
    @abstractmethod
    def units(self) -> int:
        """How many units there are."""

    @abstractmethod
    def answered_by(self, teacher_rows: Self) -> Self:
        """These rows without the units that the teacher's rows have no word piece of."""

    @abstractmethod
    def content(self) -> Iterator[list[int]]:
        """Everything that a teacher's outputs depend on, as integers, row by row."""


class RowOptions(TypedDict):
    """The options of TaskData.rows."""

    label_ids: Mapping[str, int]
    max_tokens: int
    seed: int
    with_units: bool


class TaskData(ABC, Generic[T]):
    """The splits of one data set as a task uses them: only the first `limit` examples of each, if given."""

    def __init__(self, task: T, dataset: ResolvedDataset, *, limit: int | None = None):
        self.task, self.dataset, self.limit = task, dataset, limit

    @classmethod
    def complete_task(cls, task: T, model: ResolvedModel) -> T:
        """The task for scoring a model: options left open are set as the model was trained."""
        return task

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...] | None:
        """The labels of the whole training split, whatever the limit; None for a task without labels."""

    @abstractmethod
    def texts(self, split: str) -> Iterator[str]:
        """The texts of a split, with train those without labels too."""

    @abstractmethod
    def rows(
        self,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        label_ids: Mapping[str, int],
        max_tokens: int,
        seed: int = 0,
        with_units: bool = False,
    ) -> TrainingRows:
        """The training rows of a split, in windows of at most `max_tokens` word pieces.

        label_ids: the output of each label. seed: of everything that is drawn at random. with_units: whether batches
        number their units, for a teacher whose outputs are cached by unit.
        """

    def marks(self, max_tokens: int, lengths: np.ndarray) -> dict[str, Any]:
        """What the model's config records, so that texts are later read as in training. lengths: as of the rows."""
        return {}

    def choose_on_dev(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int
    ) -> dict[str, Any]:
        """What the config of a trained model records that is chosen on dev, such as thresholds."""
        return {}

    @abstractmethod
    def scores(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: str, *, max_tokens: int
    ) -> dict[str, float]:
        """The scores of a model on a split, task.score among them."""

    @abstractmethod
    def report(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
        *,
        max_tokens: int,
        folder: Path | None = None,
    ) -> dict[str, Any]:
        """Scores, intervals, costs and notes, as `stillroom evaluate --json` prints them."""


class LabelledData(TaskData[T]):
    """Data with labels. Examples without labels, which a teacher labels, are added to the training rows."""

    @classmethod
    @abstractmethod
    def read_task(cls, model: ResolvedModel) -> T:
        """The task as a model was trained for it, from the model's files."""

    @property
    @abstractmethod
    def survey(self) -> Report:
        """What all splits hold."""

    @property
    def train_labels(self) -> tuple[str, ...]:
        """The labels or entity types of the whole training split, whatever the limit."""
        return tuple(getattr(self.survey.splits["train"], "labels", ()))

    @property
    def unit(self) -> str:
        """The word for what is scored and drawn for intervals, such as "documents"."""
        return self.task.unit

    def check_teacher(self, teacher: PreTrainedModel) -> None:  # noqa: B027 (most tasks have nothing to check)
        """Raise BadSpec where a teacher was trained on rows of another form."""

    def with_notes(self, report: dict[str, Any], split: str) -> dict[str, Any]:
        """A report of scores on a split, with what is counted as its `unit` and what to know of it as its `notes`."""
        notes = self.survey.about(split, report.get("not_annotated", {}))
        if "outcomes" in report:
            report |= {"outcomes": report["outcomes"].model_copy(update={"unit": self.unit})}
        return report | {"unit": self.unit} | ({"notes": notes} if notes else {})

    def slices(self, outcomes: Outcomes, split: str, lengths: Sequence[int]) -> list[dict[str, Any]]:
        """Scores of parts of the items of a split: by length in words, by source and of rare labels."""
        names = sources(self.dataset, split, len(lengths))
        parts = {"length": slices.by_length(lengths), "source": slices.by_source(names)}
        rows = [row for name, each in parts.items() for row in slices.of_items(outcomes, name, each)]
        return rows + slices.of_labels(outcomes, labels_in(self.survey.splits["train"]))

    def calibration_examples(self, count: int = MOST_ITEMS) -> list[Any]:
        """The examples of dev on which probabilities are calibrated, a seeded sample; empty where there is no dev."""
        examples = self.examples("dev") if "dev" in self.survey.splits else []
        chosen = np.random.default_rng(0).permutation(len(examples))[:count]
        return [examples[number] for number in np.sort(chosen)]

    @abstractmethod
    def examples(self, split: str) -> Sequence[object]:
        """The examples of a split, read once. Raises BadData where the split is missing or invalid."""

    @abstractmethod
    def read_unlabelled(self, dataset: ResolvedDataset, *, limit: int | None = None) -> None:
        """Add the first `limit` examples of another data set, for a teacher to label."""

    @abstractmethod
    def rows(
        self,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        label_ids: Mapping[str, int],
        max_tokens: int,
        seed: int = 0,
        with_units: bool = False,
    ) -> LabelledRows:
        """As TaskData.rows, with the examples without labels at the end of train."""
