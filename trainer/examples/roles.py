"""Texts whose sentences have roles: rows that train a classifier of the first piece of each sentence, and scores."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import datasets, inference
from trainer.datasets import Report, RoleDocument
from trainer.datasets.rows.pieces import cut, frame
from trainer.datasets.rows.sentences import first_pieces, sentence_places, sentence_windows
from trainer.evaluation import baselines, role_scores
from trainer.examples.ner import NERRows, Row
from trainer.examples.task_data import LabelledData
from trainer.models.heads import IGNORED, document_reading
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks.roles import Roles


class RolesData(LabelledData[Roles]):
    """The splits of one data set, each read once. `unlabelled` texts are added to the training rows."""

    @classmethod
    def read_task(cls, model: ResolvedModel) -> Roles:
        """The task: it has no options."""
        return Roles()

    def __init__(self, task: Roles, dataset: ResolvedDataset, *, limit: int | None = None):
        super().__init__(task, dataset, limit=limit)
        self.unlabelled: Sequence[RoleDocument] = ()
        self._examples: dict[str, list[RoleDocument]] = {}

    def examples(self, split: str) -> list[RoleDocument]:
        """The texts of a split, read once. Raises BadData where it is missing or invalid."""
        if split not in self._examples:
            self._examples[split] = datasets.role_documents(self.dataset, split, limit=self.limit)
        return self._examples[split]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The roles of the whole training split, whatever the limit."""
        return self.train_labels

    @property
    def survey(self) -> Report:
        """What all splits hold."""
        return datasets.survey(self.dataset, task=self.task.name)

    def read_unlabelled(self, dataset: ResolvedDataset, *, limit: int | None = None) -> None:
        """Add the first `limit` texts of another data set, cut into sentences, for a teacher to label."""
        if datasets.is_text(dataset):
            texts = islice(datasets.documents(dataset, "train"), limit)
            cut_up = ((text, tuple(map(tuple, sentence_places(text).tolist()))) for text in texts)
            self.unlabelled = [RoleDocument(text, places, (), 0) for text, places in cut_up if places]
        else:
            documents = datasets.role_documents(dataset, "train", limit=limit)
            self.unlabelled = [document._replace(labels=()) for document in documents]

    def texts(self, split: str) -> Iterator[str]:
        """The texts of a split; with train the unlabelled ones too."""
        return (document.text for document in self._all_examples(split))

    def _all_examples(self, split: str) -> list[RoleDocument]:
        return [*self.examples(split), *(self.unlabelled if split == "train" else ())]

    def marks(self, max_tokens: int, lengths: np.ndarray) -> dict[str, Any]:
        """The window in which texts are later read: the longest of training."""
        return {"document_reading": {"max_tokens": max_tokens}}

    def rows(
        self,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        label_ids: Mapping[str, int],
        max_tokens: int,
        seed: int = 0,
        with_units: bool = False,
    ) -> NERRows:
        """Training rows of a split, one per window, the unlabelled texts after those of train.

        A sentence counts in the one window in which inference reads its role too.
        """
        rows: list[Row] = []
        before = 0
        for document in self._all_examples(split):
            rows += _rows(document, tokenizer, label_ids, max_tokens, before)
            before += len(document.places)
        return NERRows(rows, pad_id=tokenizer.pad_token_id, words=with_units)

    def scores(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: str, *, max_tokens: int
    ) -> dict[str, float]:
        """accuracy, macro_f1 and micro_f1, and f1, precision and recall of each role (evaluation.role_scores)."""
        return role_scores.scores(
            model,
            tokenizer,
            self.examples(split),
            annotated=self.survey.labels,
            max_tokens=_window(model, max_tokens),
        )

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
        documents = self.examples(split)
        report = role_scores.evaluate(
            model,
            tokenizer,
            documents,
            split=split,
            folder=folder,
            annotated=self.survey.labels,
            max_tokens=_window(model, max_tokens),
        )
        known = [label for label in inference.output_names(model) if label in self.survey.labels]
        usual = role_scores.majority(documents, self.examples("train"), known)
        report["baseline"] = {"name": baselines.MAJORITY, "metrics": usual}
        report["slices"] = self.slices(report["outcomes"], split, [len(each.text.split()) for each in documents])
        return self.with_notes(report, split)


def _window(model: PreTrainedModel, max_tokens: int) -> int:
    """Texts are scored in the windows of training, as they are read everywhere."""
    trained: int | None = document_reading(model)["max_tokens"]
    return min(max_tokens, trained or max_tokens)


def _rows(
    document: RoleDocument,
    tokenizer: PreTrainedTokenizerBase,
    label_ids: Mapping[str, int],
    max_tokens: int,
    before: int,
) -> Iterator[Row]:
    """The windows of a text; its sentences are numbered from `before`, as words are in the rows of NER."""
    around, pieces = frame(tokenizer), cut(document.text, tokenizer)
    first = first_pieces(np.array(document.places), pieces.starts, pieces.ends)
    known = np.array([label_ids[label] for label in document.labels] or [IGNORED] * len(first))
    labels, numbers = np.full(len(pieces), IGNORED), np.full(len(pieces), -1)
    read = first >= 0
    labels[first[read]], numbers[first[read]] = known[read], before + np.flatnonzero(read)
    for start, end, scored, last in sentence_windows(first, len(pieces), max_tokens - around.size).tolist():
        leading, trailing = len(around.before) + scored - start, end - last + len(around.after)
        yield Row(
            [*around.before, *pieces.ids[start:end].tolist(), *around.after],
            [*[IGNORED] * leading, *labels[scored:last].tolist(), *[IGNORED] * trailing],
            [*[-1] * leading, *numbers[scored:last].tolist(), *[-1] * trailing],
        )


DATA = RolesData
