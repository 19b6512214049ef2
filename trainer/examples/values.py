"""Texts with a value: the numbers that a head learns, and its scores beside those of the mean of train."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import datasets, inference
from trainer.datasets import LabelledDocument
from trainer.datasets.contents import ValueContents
from trainer.errors import BadData
from trainer.evaluation import value_scores
from trainer.examples.whole_text import WholeTextData, stated_reading
from trainer.inference.values import RANGE
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks.values import Values
from trainer.zoo.outputs import VALUE, VALUE_NAME

BASELINE = "mean value of train"


class ValuesData(WholeTextData[Values]):
    """Texts with a value; the unlabelled ones are texts. The scale is that of train, or of the teacher."""

    def __init__(self, task: Values, dataset: ResolvedDataset, *, limit: int | None = None):
        super().__init__(task, dataset, limit=limit)
        self._scale: tuple[float, float] | None = None

    @classmethod
    def read_task(cls, model: ResolvedModel) -> Values:
        """The task as a model was trained for it: how it reads texts."""
        return Values(**stated_reading(model)[1])

    def read_split(self, split: str) -> list[LabelledDocument]:
        """The texts of a split. Raises BadData where it is missing or invalid."""
        return datasets.value_documents(self.dataset, split, limit=self.limit)

    def read_unlabelled(self, dataset: ResolvedDataset, *, limit: int | None = None) -> None:
        """Add the first `limit` documents of a text data set, for a teacher to label."""
        texts = datasets.documents(dataset, "train", limit=limit)
        self.unlabelled = [LabelledDocument(text, (), number) for number, text in enumerate(texts, 1)]

    @property
    def labels(self) -> tuple[str, ...]:
        """The one output."""
        return (VALUE_NAME,)

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest value of the whole training split, whatever the limit, or of the teacher's."""
        if self._scale is None:
            train = self.survey.splits.get("train")
            if not isinstance(train, ValueContents) or train.lowest == train.highest:
                raise BadData("train has no two different values.", next_step="Add documents with other values to it.")
            self._scale = (train.lowest, train.highest)
        return self._scale

    def check_teacher(self, teacher: PreTrainedModel) -> None:
        """Values are learned on the scale of the teacher, whose outputs are compared with the student's."""
        self._scale = inference.value_range(teacher)

    def target(self, document: LabelledDocument | None, label_ids: Mapping[str, int]) -> np.ndarray:
        """The value of a document as a share of the scale; NaN where it is not known."""
        if document is None or document.value is None:
            return np.array(np.nan, dtype=np.float32)
        lowest, highest = self.scale
        return np.array((document.value - lowest) / (highest - lowest), dtype=np.float32)

    def marks(self, max_tokens: int, lengths: np.ndarray) -> dict[str, Any]:
        """That the head predicts a number, on which scale, and how texts are read."""
        return super().marks(max_tokens, lengths) | {"problem_type": VALUE, RANGE: list(self.scale)}

    def scores(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: str, *, max_tokens: int | None
    ) -> dict[str, float]:
        """pearson, spearman, mae and rmse (evaluation.value_scores)."""
        return value_scores.scores(model, tokenizer, self.examples(split), **self._reading(max_tokens))

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
        documents = self.examples(split)
        reading = self._reading(max_tokens)
        report = value_scores.evaluate(model, tokenizer, documents, split=split, folder=folder, **reading)
        gold, train = (np.array([each.value for each in self.examples(one)]) for one in (split, "train"))
        usual = value_scores.metrics(gold, np.full(len(gold), train.mean()))
        report["baseline"] = {"name": BASELINE, "metrics": {name: usual[name] for name in ("mae", "rmse")}}
        return self.with_notes(report, split)

    def _reading(self, max_tokens: int | None) -> dict[str, Any]:
        return {"reading": self.task.reading, "pooling": self.task.pooling, "max_tokens": max_tokens}


DATA = ValuesData
