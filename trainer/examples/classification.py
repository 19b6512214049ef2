"""Documents with labels: rows that train a classifier, and its scores."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from trainer import datasets
from trainer.datasets import LabelledDocument, Report
from trainer.datasets.rows.batches import pad
from trainer.datasets.rows.pieces import Pieces, cut, frame, windows
from trainer.evaluation import document_scores
from trainer.examples.task_data import LabelledData
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks.classification import Classification
from trainer.zoo.outputs import SEVERAL

IGNORED = -100  # in the place of a label where there is none


def plan(task: Classification, pieces: Pieces, size: int) -> np.ndarray:
    """The windows that are read of a document: rows as datasets.rows.pieces.windows has them, at least one."""
    table = windows(min(len(pieces), size) if task.reading == "truncate" else len(pieces), size)
    return table if len(table) else np.zeros((1, 4), dtype=np.int64)


class ClassificationData(LabelledData[Classification]):
    """The splits of one data set, read once. `unlabelled` documents (texts) are added to the training rows."""

    @classmethod
    def read_task(cls, model: ResolvedModel) -> Classification:
        """The task as a model was trained for it: one label or several, and how it reads."""
        config = json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8"))
        reading = config.get("document_reading") or {}
        reading = {name: value for name, value in reading.items() if name != "max_tokens"}
        return Classification(multi_label=config.get("problem_type") == SEVERAL, **reading)

    @classmethod
    def complete_task(cls, task: Classification, model: ResolvedModel) -> Classification:
        """This task for scoring a model: one label or several as the model gives, where the task leaves it open."""
        if task.multi_label is not None:
            return task
        return task.model_copy(update={"multi_label": cls.read_task(model).multi_label})

    def __init__(self, task: Classification, dataset: ResolvedDataset, *, limit: int | None = None):
        super().__init__(task, dataset, limit=limit)
        self.unlabelled: Sequence[str] = ()
        self._read: dict[str, list] = {}

    @cached_property
    def field(self) -> Literal["label", "labels"]:
        """The field of the rows that holds the labels."""
        return datasets.label_field(self.dataset, multi_label=self.task.multi_label)

    @property
    def multi_label(self) -> bool:
        """Whether a document may have several labels."""
        return self.field == "labels"

    def examples(self, split: str) -> list[LabelledDocument]:
        """The documents of a split, read once; BadData where it is not there or wrong."""
        if split not in self._read:
            self._read[split] = datasets.labelled_documents(self.dataset, split, field=self.field, limit=self.limit)
        return self._read[split]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels of the whole training split, whatever the limit."""
        return tuple(self.survey.splits["train"].labels)

    @property
    def survey(self) -> Report:
        """What all splits hold."""
        return datasets.survey(self.dataset, task=self.task.name, multi_label=self.task.multi_label)

    def read_unlabelled(self, dataset: ResolvedDataset, *, limit: int | None = None) -> None:
        """Take in the first `limit` documents of a text data set, for a teacher to label."""
        self.unlabelled = list(datasets.documents(dataset, "train", limit=limit))

    def texts(self, split: str) -> Iterator[str]:
        """The documents of a split; with train the unlabelled ones too."""
        yield from (document.text for document in self.examples(split))
        if split == "train":
            yield from self.unlabelled

    def marks(self, max_tokens: int, lengths: np.ndarray) -> dict[str, Any]:
        """What a model's config keeps, so that it is read later as it was trained."""
        kind = SEVERAL if self.multi_label else "single_label_classification"
        reading = {"reading": self.task.reading, "pooling": self.task.pooling, "max_tokens": max_tokens}
        return {"problem_type": kind, "document_reading": reading}

    def rows(
        self,
        split: str,
        tokenizer: Any,
        *,
        label_ids: Mapping[str, int] | None = None,
        max_tokens: int,
        seed: int = 0,
        with_units: bool = False,
    ) -> "ClassificationRows":
        """Training rows of a split, one a document, the unlabelled ones after those of train."""
        extra = self.unlabelled if split == "train" else ()
        given = [*((document.text, document.labels) for document in self.examples(split)), *((t, None) for t in extra)]
        size = max_tokens - tokenizer.num_special_tokens_to_add()
        pieces = [cut(text, tokenizer) for text, _ in given]
        return ClassificationRows(
            [Row(found.ids, plan(self.task, found, size)) for found in pieces],
            [self._target(labels, label_ids) for _, labels in given],
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

    def scores(self, model, tokenizer, split: str, *, max_tokens: int | None) -> dict[str, float]:
        """accuracy, macro_f1 and micro_f1, and f1, precision and recall of each label (evaluation.document_scores)."""
        options = {"reading": self.task.reading, "pooling": self.task.pooling, "max_tokens": max_tokens}
        return document_scores.scores(model, tokenizer, self.examples(split), annotated=self.survey.labels, **options)

    def report(self, model, tokenizer, split: str, *, max_tokens: int | None, folder: Path | None = None) -> dict:
        """Scores, intervals, costs and notes, as `stillroom evaluate --json` prints them."""
        options = {"reading": self.task.reading, "pooling": self.task.pooling, "max_tokens": max_tokens}
        options |= {"split": split, "folder": folder, "annotated": self.survey.labels}
        report = document_scores.evaluate(model, tokenizer, self.examples(split), **options)
        notes = self.survey.about(split, report.get("not_annotated", {}))
        return report | ({"notes": notes} if notes else {})


class Row(NamedTuple):
    """One document: its pieces without special tokens, (pieces,), and its windows, (windows, 4)."""

    ids: np.ndarray
    windows: np.ndarray

    def __repr__(self) -> str:
        return f"Row({len(self.ids):,} pieces, {len(self.windows)} windows)"


class ClassificationRows:
    """Documents as batches. lengths: (documents,) places that a document takes up: those of its one window, or of whole
    windows, so that a batch is never wider than its budget. pieces: (documents,) what of it is read in a step.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        targets: Sequence[np.ndarray],
        tokenizer: Any,
        *,
        task: Classification,
        max_tokens: int,
        seed: int,
    ):
        self.rows, self.targets, self.task, self.seed, self._frame = (
            rows,
            np.stack(targets),
            task,
            seed,
            frame(tokenizer),
        )
        special = len(self._frame.before) + len(self._frame.after)
        counts = np.array([min(len(row.windows), task.most_windows) for row in rows])
        widths = np.array([row.windows[:, 1].max() - row.windows[-1, 0] for row in rows]) + special
        self.lengths = np.where(counts > 1, counts * max_tokens, widths)
        self.pieces = counts * widths

    @property
    def units(self) -> int:
        """How many documents there are: a teacher's outputs are kept by document."""
        return len(self.rows)

    def answered_by(self, theirs: "ClassificationRows") -> "ClassificationRows":
        """These rows: a teacher says something of every document."""
        return self

    def content(self) -> Iterator[list[int]]:
        """Everything that a teacher's outputs depend on, as whole numbers, row by row."""
        return ([len(row.ids), *row.windows[:, :2].ravel().tolist(), *row.ids.tolist()] for row in self.rows)

    def batch(self, indices: Sequence[int], *, step: int | None = None) -> dict[str, torch.Tensor]:
        """input_ids and attention_mask (windows, longest); owners (windows,), the place of each window's document in
        the batch; documents (documents,), their numbers; labels (documents,), or (documents, labels) of 0 and 1.

        step: in training, which windows of the longest documents are drawn; None: all of them.
        """
        before, after, pad_id = self._frame
        drawn = [self._drawn(int(index), step) for index in indices]
        ids = [
            [*before, *self.rows[index].ids[start:end].tolist(), *after]
            for index, plan in zip(indices, drawn, strict=True)
            for start, end, *_ in plan.tolist()
        ]
        lengths = torch.tensor([len(row) for row in ids])
        return {
            "input_ids": pad(ids, value=pad_id),
            "attention_mask": (torch.arange(int(lengths.max())) < lengths[:, None]).long(),
            "owners": torch.repeat_interleave(torch.tensor([len(plan) for plan in drawn])),
            "documents": torch.as_tensor(np.asarray(indices, dtype=np.int64)),
            "labels": torch.from_numpy(self.targets[np.asarray(indices, dtype=np.int64)]),
        }

    def _drawn(self, index: int, step: int | None) -> np.ndarray:
        plan, most = self.rows[index].windows, self.task.most_windows
        if step is None or len(plan) <= most:
            return plan
        random = np.random.default_rng((self.seed, step, index))  # so a resumed run draws the same ones
        return plan[np.sort(random.choice(len(plan), most, replace=False))]


DATA = ClassificationData
