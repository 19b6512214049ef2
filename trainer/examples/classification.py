"""Documents with labels: rows that train a classifier, and its scores."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import datasets
from trainer.datasets import LabelledDocument, Report
from trainer.datasets.rows.batches import pad
from trainer.datasets.rows.pieces import Pieces, cut, frame, windows
from trainer.evaluation import document_scores
from trainer.examples.task_data import LabelledData, LabelledRows
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks.classification import Classification
from trainer.zoo.outputs import SEVERAL

IGNORED = -100  # in the place of a label where there is none


def plan_windows(task: Classification, pieces: Pieces, size: int) -> np.ndarray:
    """The windows in which a document is read, (windows, 4) as datasets.rows.pieces.windows: at least one."""
    table = windows(min(len(pieces), size) if task.reading == "truncate" else len(pieces), size)
    return table if len(table) else np.zeros((1, 4), dtype=np.int64)


class ClassificationData(LabelledData[Classification]):
    """The splits of one data set, each read once. `unlabelled` documents (texts) are added to the training rows."""

    @classmethod
    def read_task(cls, model: ResolvedModel) -> Classification:
        """The task as a model was trained for it: one label or several, and how documents are read."""
        config = json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8"))
        reading = config.get("document_reading") or {}
        reading = {name: value for name, value in reading.items() if name != "max_tokens"}
        return Classification(multi_label=config.get("problem_type") == SEVERAL, **reading)

    @classmethod
    def complete_task(cls, task: Classification, model: ResolvedModel) -> Classification:
        """The task for scoring a model: one label or several as the model predicts, where the task leaves it open."""
        if task.multi_label is not None:
            return task
        return task.model_copy(update={"multi_label": cls.read_task(model).multi_label})

    def __init__(self, task: Classification, dataset: ResolvedDataset, *, limit: int | None = None):
        super().__init__(task, dataset, limit=limit)
        self.unlabelled: Sequence[str] = ()
        self._examples: dict[str, list[LabelledDocument]] = {}

    @cached_property
    def field(self) -> Literal["label", "labels"]:
        """The field of the rows that holds the labels."""
        return datasets.label_field(self.dataset, multi_label=self.task.multi_label)

    @property
    def multi_label(self) -> bool:
        """Whether a document may have several labels."""
        return self.field == "labels"

    def examples(self, split: str) -> list[LabelledDocument]:
        """The documents of a split, read once. Raises BadData where it is missing or invalid."""
        if split not in self._examples:
            self._examples[split] = datasets.labelled_documents(self.dataset, split, field=self.field, limit=self.limit)
        return self._examples[split]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels of the whole training split, whatever the limit."""
        return self.train_labels

    @property
    def survey(self) -> Report:
        """What all splits hold."""
        return datasets.survey(self.dataset, task=self.task.name, multi_label=self.task.multi_label)

    def read_unlabelled(self, dataset: ResolvedDataset, *, limit: int | None = None) -> None:
        """Add the first `limit` documents of a text data set, for a teacher to label."""
        self.unlabelled = list(datasets.documents(dataset, "train", limit=limit))

    def texts(self, split: str) -> Iterator[str]:
        """The documents of a split; with train the unlabelled ones too."""
        yield from (document.text for document in self.examples(split))
        if split == "train":
            yield from self.unlabelled

    def marks(self, max_tokens: int, lengths: np.ndarray) -> dict[str, Any]:
        """The kind of labels, and how documents are read."""
        problem_type = SEVERAL if self.multi_label else "single_label_classification"
        reading = {"reading": self.task.reading, "pooling": self.task.pooling, "max_tokens": max_tokens}
        return {"problem_type": problem_type, "document_reading": reading}

    def rows(
        self,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        label_ids: Mapping[str, int],
        max_tokens: int,
        seed: int = 0,
        with_units: bool = False,
    ) -> "ClassificationRows":
        """Training rows of a split, one per document, the unlabelled ones after those of train."""
        labels: list[Sequence[str] | None] = [document.labels for document in self.examples(split)]
        labels += [None] * len(self.unlabelled) if split == "train" else []
        size = max_tokens - tokenizer.num_special_tokens_to_add()
        documents = [cut(text, tokenizer) for text in self.texts(split)]
        return ClassificationRows(
            [Row(pieces.ids, plan_windows(self.task, pieces, size)) for pieces in documents],
            [self._target(each, label_ids) for each in labels],
            tokenizer,
            task=self.task,
            max_tokens=max_tokens,
            seed=seed,
        )

    def _target(self, labels: Sequence[str] | None, label_ids: Mapping[str, int]) -> np.ndarray:
        if not self.multi_label:
            return np.array(IGNORED if labels is None else label_ids[labels[0]], dtype=np.int64)
        target = np.full(len(label_ids), IGNORED if labels is None else 0, dtype=np.float32)
        target[[label_ids[label] for label in labels or ()]] = 1
        return target

    def scores(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: str, *, max_tokens: int | None
    ) -> dict[str, float]:
        """accuracy, macro_f1 and micro_f1, and f1, precision and recall of each label (evaluation.document_scores)."""
        return document_scores.scores(
            model,
            tokenizer,
            self.examples(split),
            annotated=self.survey.labels,
            reading=self.task.reading,
            pooling=self.task.pooling,
            max_tokens=max_tokens,
        )

    def report(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
        *,
        max_tokens: int | None,
        folder: Path | None = None,
    ) -> dict[str, Any]:
        """Scores, intervals, costs and notes, as `stillroom evaluate --json` prints them."""
        report = document_scores.evaluate(
            model,
            tokenizer,
            self.examples(split),
            split=split,
            folder=folder,
            annotated=self.survey.labels,
            reading=self.task.reading,
            pooling=self.task.pooling,
            max_tokens=max_tokens,
        )
        return self.with_notes(report, split)


class Row(NamedTuple):
    """One document: the ids of its word pieces without special tokens, (pieces,), and its windows, (windows, 4)."""

    ids: np.ndarray
    windows: np.ndarray

    def __repr__(self) -> str:
        return f"Row({len(self.ids):,} pieces, {len(self.windows)} windows)"


class ClassificationRows(LabelledRows):
    """Documents as batches.

    lengths: (documents,) word pieces with padding that each takes up in a batch: its one window, or windows of
    max_tokens, so that a batch never exceeds its budget.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        targets: Sequence[np.ndarray],
        tokenizer: PreTrainedTokenizerBase,
        *,
        task: Classification,
        max_tokens: int,
        seed: int,
    ):
        self.rows, self.targets, self.task, self.seed = rows, np.stack(targets), task, seed
        self._frame = frame(tokenizer)
        special = len(self._frame.before) + len(self._frame.after)
        counts = np.array([min(len(row.windows), task.most_windows) for row in rows])
        widths = np.array([row.windows[:, 1].max() - row.windows[-1, 0] for row in rows]) + special
        self.lengths = np.where(counts > 1, counts * max_tokens, widths)
        self._pieces = counts * widths

    @property
    def pieces(self) -> np.ndarray:
        """(documents,) word pieces that are read of each in a step."""
        return self._pieces

    @property
    def units(self) -> int:
        """The number of documents, by which a teacher's outputs are cached."""
        return len(self.rows)

    def answered_by(self, teacher_rows: "ClassificationRows") -> "ClassificationRows":
        """These rows: a teacher has an output for every document."""
        return self

    def content(self) -> Iterator[list[int]]:
        """Everything that a teacher's outputs depend on, as integers, row by row."""
        return ([len(row.ids), *row.windows[:, :2].ravel().tolist(), *row.ids.tolist()] for row in self.rows)

    def batch(self, indices: Sequence[int] | np.ndarray, *, step: int | None = None) -> dict[str, torch.Tensor]:
        """The windows of some documents.

        input_ids and attention_mask: (windows, longest). owners: (windows,) the position of each window's document in
        the batch. documents: (documents,) their numbers. labels: (documents,), or (documents, labels) of 0 and 1.
        step: decides which windows of the longest documents are drawn; None: all windows.
        """
        before, after, pad_id = self._frame
        drawn = [self._draw_windows(int(index), step) for index in indices]
        ids = [
            [*before, *self.rows[index].ids[start:end].tolist(), *after]
            for index, table in zip(indices, drawn, strict=True)
            for start, end, *_ in table.tolist()
        ]
        lengths = torch.tensor([len(row) for row in ids])
        return {
            "input_ids": pad(ids, value=pad_id),
            "attention_mask": (torch.arange(int(lengths.max())) < lengths[:, None]).long(),
            "owners": torch.repeat_interleave(torch.tensor([len(table) for table in drawn])),
            "documents": torch.as_tensor(np.asarray(indices, dtype=np.int64)),
            "labels": torch.from_numpy(self.targets[np.asarray(indices, dtype=np.int64)]),
        }

    def _draw_windows(self, index: int, step: int | None) -> np.ndarray:
        table, most = self.rows[index].windows, self.task.most_windows
        if step is None or len(table) <= most:
            return table
        random = np.random.default_rng((self.seed, step, index))  # so that a resumed run draws the same windows
        return table[np.sort(random.choice(len(table), most, replace=False))]


DATA = ClassificationData
