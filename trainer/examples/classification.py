"""Documents with labels: one per document, or any number of them."""

from functools import cached_property
from typing import Any, Literal

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import datasets
from trainer.datasets import LabelledDocument, Report
from trainer.evaluation import document_scores
from trainer.examples.whole_text import WholeTextData, stated_reading
from trainer.inference import THRESHOLDS
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks.classification import Classification
from trainer.zoo.outputs import SEVERAL


class ClassificationData(WholeTextData[Classification]):
    """Documents with one label or several; the unlabelled ones are texts."""

    @classmethod
    def read_task(cls, model: ResolvedModel) -> Classification:
        """The task as a model was trained for it: one label or several, and how documents are read."""
        config, reading = stated_reading(model)
        return Classification(multi_label=config.get("problem_type") == SEVERAL, **reading)

    @classmethod
    def complete_task(cls, task: Classification, model: ResolvedModel) -> Classification:
        """The task for scoring a model: one label or several as the model predicts, where the task leaves it open."""
        if task.multi_label is not None:
            return task
        return task.model_copy(update={"multi_label": cls.read_task(model).multi_label})

    @cached_property
    def field(self) -> Literal["label", "labels"]:
        """The field of the rows that holds the labels."""
        return datasets.label_field(self.dataset, multi_label=self.task.multi_label)

    @property
    def multi_label(self) -> bool:
        """Whether a document may have several labels."""
        return self.field == "labels"

    def read_split(self, split: str) -> list[LabelledDocument]:
        """The documents of a split. Raises BadData where it is missing or invalid."""
        return datasets.labelled_documents(self.dataset, split, field=self.field, limit=self.limit)

    @property
    def survey(self) -> Report:
        """What all splits hold."""
        return datasets.survey(self.dataset, task=self.task.name, multi_label=self.task.multi_label)

    def marks(self, max_tokens: int, lengths: np.ndarray) -> dict[str, Any]:
        """As of other texts; thresholds of an earlier training do not hold."""
        return super().marks(max_tokens, lengths) | ({THRESHOLDS: None} if self.multi_label else {})

    def choose_on_dev(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int
    ) -> dict[str, Any]:
        """The threshold of each label, where documents may have several."""
        if not self.multi_label:
            return {}
        options = {"reading": self.task.reading, "pooling": self.task.pooling, "max_tokens": max_tokens}
        return {THRESHOLDS: document_scores.best_thresholds(model, tokenizer, self.examples("dev"), **options)}

    def read_unlabelled(self, dataset: ResolvedDataset, *, limit: int | None = None) -> None:
        """Add the first `limit` documents of a text data set, for a teacher to label."""
        texts = datasets.documents(dataset, "train", limit=limit)
        self.unlabelled = [LabelledDocument(text, (), number) for number, text in enumerate(texts, 1)]


DATA = ClassificationData
