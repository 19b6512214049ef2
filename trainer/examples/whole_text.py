"""What tasks share that label whole texts (tasks.whole_text): rows that train a classifier, and its scores."""

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import datasets, inference
from trainer.datasets import LabelledDocument, Report
from trainer.datasets.readers import at_line
from trainer.datasets.rows.batches import framed
from trainer.datasets.rows.pieces import Frame, cut, frame, windows
from trainer.errors import BadData
from trainer.evaluation import baselines, document_scores
from trainer.evaluation.document_scores import Answers
from trainer.examples.task_data import LabelledData, LabelledRows
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks.whole_text import WholeText
from trainer.zoo.outputs import ONE, SEVERAL

IGNORED = -100  # in the place of a label where there is none

T = TypeVar("T", bound=WholeText)


def plan_windows(task: WholeText, pieces: int, size: int) -> np.ndarray:
    """The windows in which a document is read, (windows, 4) as datasets.rows.pieces.windows: at least one."""
    table = windows(min(pieces, size) if task.reading == "truncate" else pieces, size)
    return table if len(table) else np.zeros((1, 4), dtype=np.int64)


class WholeTextData(LabelledData[T]):
    """The splits of one data set, each read once. `unlabelled` documents are added to the training rows."""

    def __init__(self, task: T, dataset: ResolvedDataset, *, limit: int | None = None):
        super().__init__(task, dataset, limit=limit)
        self.unlabelled: Sequence[LabelledDocument] = ()
        self._examples: dict[str, list[LabelledDocument]] = {}

    @abstractmethod
    def read_split(self, split: str) -> list[LabelledDocument]:
        """The documents of a split. Raises BadData where it is missing or invalid."""

    @property
    def multi_label(self) -> bool:
        """Whether a document may have several labels."""
        return False

    @property
    def survey(self) -> Report:
        """What all splits hold."""
        return datasets.survey(self.dataset, task=self.task.name)

    def examples(self, split: str) -> list[LabelledDocument]:
        """The documents of a split, read once. Raises what `read_split` raises."""
        if split not in self._examples:
            self._examples[split] = self.read_split(split)
        return self._examples[split]

    def all_examples(self, split: str) -> list[LabelledDocument]:
        """The documents of a split; with train the unlabelled ones too, at the end."""
        return [*self.examples(split), *(self.unlabelled if split == "train" else ())]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels of the whole training split, whatever the limit."""
        return self.train_labels

    def texts(self, split: str) -> Iterator[str]:
        """The documents of a split; with train the unlabelled ones too."""
        return (document.text for document in self.all_examples(split))

    def marks(self, max_tokens: int, lengths: np.ndarray) -> dict[str, Any]:
        """The kind of labels, and how documents are read."""
        reading = {"reading": self.task.reading, "pooling": self.task.pooling, "max_tokens": max_tokens}
        return {"problem_type": SEVERAL if self.multi_label else ONE, "document_reading": reading}

    def frame(self, document: LabelledDocument, tokenizer: PreTrainedTokenizerBase) -> Frame:
        """What stands around a document."""
        return frame(tokenizer, document.hypothesis)

    def rows(
        self,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        label_ids: Mapping[str, int],
        max_tokens: int,
        seed: int = 0,
        with_units: bool = False,
    ) -> "WholeTextRows":
        """Training rows of a split, one per document, the unlabelled ones after those of train."""
        labelled: list[LabelledDocument | None] = list(self.examples(split))
        labelled += [None] * len(self.unlabelled) if split == "train" else []
        return WholeTextRows(
            [self.row(document, tokenizer, max_tokens) for document in self.all_examples(split)],
            [self.target(each, label_ids) for each in labelled],
            most_windows=self.task.most_windows,
            max_tokens=max_tokens,
            seed=seed,
        )

    def row(self, document: LabelledDocument, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> "Row":
        """The training row of a document. Raises BadData for a hypothesis that leaves it no room."""
        ids, around = cut(document.text, tokenizer).ids, self.frame(document, tokenizer)
        try:
            room = around.room(len(ids), max_tokens)
        except BadData as problem:
            raise at_line(problem, Path(self.dataset.path).name, document.line) from None
        return Row(ids, plan_windows(self.task, len(ids), room), around)

    def target(self, document: LabelledDocument | None, label_ids: Mapping[str, int]) -> np.ndarray:
        """What a document's logits are compared with; None for an unlabelled one."""
        labels = None if document is None else document.labels
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
            measures=self.task.score,
            calibrated_on=self.calibration_examples(),
        )
        lengths = [len(document.text.split()) for document in self.examples(split)]
        report["slices"] = self.slices(report["outcomes"], split, lengths)
        report["baseline"] = self.baseline(split, inference.output_names(model))
        return self.with_notes(report, split)

    def baseline(self, split: str, labels: Sequence[str]) -> dict[str, Any]:
        """{"name", "metrics"} of the most frequent label of train for every document."""
        known = [label for label in labels if label in self.survey.labels]
        train, documents = ([each.labels for each in self.examples(one)] for one in ("train", split))
        predicted = baselines.majority(train, known, len(documents), negative=None)
        gold = np.array([[label in each for label in known] for each in documents])
        answers = Answers(tuple(known), gold, predicted, predicted.astype(np.float64), self.multi_label)
        return {"name": baselines.MAJORITY, "metrics": document_scores.metrics(answers)}


def stated_reading(model: ResolvedModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config of a model, and how it was trained to read documents: options of a WholeText."""
    config = json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8"))
    stated = config.get("document_reading") or {}
    return config, {name: value for name, value in stated.items() if name != "max_tokens"}


class Row(NamedTuple):
    """One document: the ids of its word pieces, (pieces,), its windows, (windows, 4), and what stands around each."""

    ids: np.ndarray
    windows: np.ndarray
    around: Frame

    def __repr__(self) -> str:
        return f"Row({len(self.ids):,} pieces, {len(self.windows)} windows)"


class Windowed(Protocol):
    """A training row that is read in windows, (windows, 4), each with the same tokens around it."""

    @property
    def windows(self) -> np.ndarray: ...
    @property
    def around(self) -> Frame: ...


W = TypeVar("W", bound=Windowed)


class WindowRows(LabelledRows, Generic[W]):
    """Rows of which a training step reads some windows.

    most_windows: of a row in a step; if it has more, they are drawn at random. lengths: (rows,) word pieces with
    padding that each takes up in a batch: its one window, or windows of max_tokens, so that a batch never exceeds its
    budget.
    """

    def __init__(self, rows: Sequence[W], *, most_windows: int, max_tokens: int, seed: int):
        self.rows, self.most_windows, self.seed = rows, most_windows, seed
        counts = np.array([min(len(row.windows), most_windows) for row in rows])
        widths = np.array([row.windows[-1, 1] - row.windows[-1, 0] + row.around.size for row in rows])
        self.lengths = np.where(counts > 1, counts * max_tokens, widths)
        self._pieces = counts * widths

    @property
    def pieces(self) -> np.ndarray:
        """(rows,) word pieces that are read of each in a step."""
        return self._pieces

    @property
    def units(self) -> int:
        """The number of rows, by which a teacher's outputs are cached."""
        return len(self.rows)

    def answered_by(self, teacher_rows: LabelledRows) -> Self:
        """These rows: a teacher reads the same texts."""
        return self


class WholeTextRows(WindowRows[Row]):
    """Documents, or other passages that each have labels, as batches."""

    def __init__(
        self, rows: Sequence[Row], targets: Sequence[np.ndarray], *, most_windows: int, max_tokens: int, seed: int
    ):
        super().__init__(rows, most_windows=most_windows, max_tokens=max_tokens, seed=seed)
        self.targets = np.stack(targets)

    def content(self) -> Iterator[list[int]]:
        """Everything that a teacher's outputs depend on, as integers, row by row."""
        for ids, table, around in self.rows:
            yield [
                len(ids),
                *table[:, :2].ravel().tolist(),
                *ids.tolist(),
                *around.before,
                *around.after,
                *around.types,
            ]

    def batch(self, indices: Sequence[int] | np.ndarray, *, step: int | None = None) -> dict[str, torch.Tensor]:
        """The windows of some documents.

        input_ids, attention_mask and, of pairs, token_type_ids: (windows, longest). owners: (windows,) the position of
        each window's document in the batch. documents: (documents,) their numbers. labels: (documents,), or (documents,
        labels) of 0 and 1. step: decides which windows of the longest documents are drawn; None: all windows.
        """
        drawn = [self._draw_windows(int(index), step) for index in indices]
        windows = [
            (self.rows[index].ids[start:end], self.rows[index].around)
            for index, table in zip(indices, drawn, strict=True)
            for start, end, *_ in table.tolist()
        ]
        return framed(windows) | {
            "owners": torch.repeat_interleave(torch.tensor([len(table) for table in drawn])),
            "documents": torch.as_tensor(np.asarray(indices, dtype=np.int64)),
            "labels": torch.from_numpy(self.targets[np.asarray(indices, dtype=np.int64)]),
        }

    def _draw_windows(self, index: int, step: int | None) -> np.ndarray:
        table, most = self.rows[index].windows, self.most_windows
        if step is None or len(table) <= most:
            return table
        random = np.random.default_rng((self.seed, step, index))  # so that a resumed run draws the same windows
        return table[np.sort(random.choice(len(table), most, replace=False))]
