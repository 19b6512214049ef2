"""Sentences and documents with tagged words: rows that train a tagger, and its scores."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from trainer import datasets
from trainer.datasets import Report
from trainer.datasets.rows.batches import collate
from trainer.datasets.rows.passages import passages
from trainer.datasets.rows.pieces import Frame, align_words, cut_words, frame
from trainer.datasets.rows.words import expand_tags
from trainer.datasets.tags import Tags, iob2
from trainer.datasets.tags import read as read_tags
from trainer.evaluation import span_scores
from trainer.examples.task_data import LabelledData
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks.ner import NER

IGNORED = -100  # the label that cross-entropy skips
STEP = 32  # windows for texts are a multiple of so many pieces


class Row(NamedTuple):
    """One window of a sentence: piece ids with special tokens; for each a label id (IGNORED where none counts) and the
    number of the word that begins there, counted through all sentences (-1 where none does).
    """

    input_ids: list[int]
    labels: list[int]
    words: list[int]


def encode(task: NER, sentences: Sequence, tokenizer, *, label_ids: Mapping[str, int], max_tokens: int) -> list[Row]:
    """Rows of `sentences` (words, tags); one longer than max_tokens becomes several rows, none is cut off.

    A sentence without tags (None) has no labels.
    """
    around = frame(tokenizer)
    size = max_tokens - len(around.before) - len(around.after)
    runs = _encoded(task, sentences, tokenizer, label_ids)
    runs = _packed(runs, size) if task.rows == "packed" else runs
    return [_row(around, *(column[part] for column in run)) for run in runs for part in _parts(len(run[0]), size)]


def _encoded(task: NER, sentences: Sequence, tokenizer, label_ids: Mapping[str, int]) -> Iterator[tuple]:
    """Piece ids, label ids and numbers of the words that begin, each (pieces,), of each sentence."""
    meant, before = read_tags(sorted(label_ids, key=label_ids.get)), 0
    for words, tags in sentences:
        rows = _word_row if task.labelling == "first" else _piece_row
        ids, labels, numbers, count = rows(words, tags, tokenizer, meant)
        yield ids, labels, np.where(numbers < 0, -1, numbers + before)
        before += count


def _word_row(words: Sequence[str], tags: Sequence[str] | None, tokenizer, meant: Tags) -> tuple:
    """Piece ids; at the piece that speaks for a word the word's label and number, elsewhere IGNORED and -1; how many
    words there are.
    """
    pieces, alignment, owners = align_words(words, tokenizer)
    taught, at = np.flatnonzero(alignment.alone), alignment.speaker[alignment.alone]
    labels, numbers = np.full(len(pieces), IGNORED), np.full(len(pieces), -1)
    numbers[at] = taught
    if tags:
        labels[at] = np.array(meant.outputs(expand_tags(tags, owners)), dtype=np.int64)[taught]
    return pieces.ids, labels, numbers, len(owners)


def _piece_row(words: Sequence[str], tags: Sequence[str] | None, tokenizer, meant: Tags) -> tuple:
    """The same with the label of its given word at every piece: the papers' scheme."""
    pieces, owners = cut_words(words, tokenizer)
    begins = np.append(True, owners[1:] != owners[:-1])[: len(owners)]
    gold = np.array(meant.outputs(tags) if tags else [IGNORED] * len(words), dtype=np.int64)
    return pieces.ids, gold[owners], np.where(begins, owners, -1), len(words)


def _parts(length: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, max(1, length), size))


def _packed(runs: Iterable[tuple], size: int) -> Iterator[tuple]:
    """Runs joined with those after them while they fit into `size` pieces; one that does not fit stands alone."""
    held, length = [], 0
    for run in runs:
        if held and length + len(run[0]) > size:
            yield tuple(map(np.concatenate, zip(*held, strict=True)))
            held, length = [], 0
        held.append(run)
        length += len(run[0])
    if held:
        yield tuple(map(np.concatenate, zip(*held, strict=True)))


def _row(around: Frame, ids: np.ndarray, labels: np.ndarray, words: np.ndarray) -> Row:
    before, after = len(around.before), len(around.after)
    return Row(
        [*around.before, *ids.tolist(), *around.after],
        [*[IGNORED] * before, *labels.tolist(), *[IGNORED] * after],
        [*[-1] * before, *words.tolist(), *[-1] * after],
    )


class NERData(LabelledData[NER]):
    """The splits of one data set, read once. `unlabelled` sentences (words) are added to the training rows."""

    @classmethod
    def read_task(cls, model: ResolvedModel) -> NER:
        """The task as a model was trained for it: word level, whatever its own scheme."""
        return NER()

    def __init__(self, task: NER, dataset: ResolvedDataset, *, limit: int | None = None):
        super().__init__(task, dataset, limit=limit)
        self.unlabelled: Sequence[Sequence[str]] = ()
        self._read: dict[str, list] = {}

    def examples(self, split: str) -> list:
        """The sentences or documents (words, tags) of a split, read once; BadData where it is not there or wrong."""
        if split not in self._read:
            given = datasets.load(self.dataset, split, limit=self.limit)
            alone = self.task.rows == "sentences"
            self._read[split] = [part for each in given for part in datasets.sentences(each)] if alone else given
        return self._read[split]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The IOB2 tags of the whole training split, whatever the limit."""
        return iob2(self.survey.splits["train"].labels)

    @property
    def survey(self) -> Report:
        """What all splits hold."""
        return datasets.survey(self.dataset, task=self.task.name)

    def read_unlabelled(self, dataset: ResolvedDataset, *, limit: int | None = None) -> None:
        """Take in the first `limit` sentences of another data set, for a teacher to label."""
        self.unlabelled = passages(dataset, limit=limit)

    def marks(self, max_tokens: int, lengths: np.ndarray) -> dict[str, Any]:
        """What a model's config keeps, so that texts are read in windows as long as nine of ten training rows.

        lengths: (rows,) pieces. A model of single sentences loses up to 14 points of F1 in its longest windows.
        """
        usual = math.ceil(np.percentile(lengths, 90) / STEP) * STEP if len(lengths) else max_tokens
        return {"document_reading": {"max_tokens": min(usual, max_tokens)}}

    def texts(self, split: str) -> Iterator[str]:
        """The text of each sentence, words joined by blanks; with train those of the unlabelled sentences too."""
        words = (sentence.words for sentence in self.examples(split))
        return (" ".join(each) for each in (*words, *(self.unlabelled if split == "train" else ())))

    def rows(
        self,
        split: str,
        tokenizer,
        *,
        label_ids: Mapping[str, int] | None = None,
        max_tokens: int,
        seed: int = 0,
        with_units: bool = False,
    ) -> "NERRows":
        """Training rows of a split, the unlabelled sentences after those of train; `seed` plays no part here.

        with_units: whether batches say where words begin, for a teacher whose outputs are cached by word.
        """
        extra = [(each, None) for each in self.unlabelled] if split == "train" else []
        sentences = [*self.examples(split), *extra]
        found = encode(self.task, sentences, tokenizer, label_ids=label_ids, max_tokens=max_tokens)
        return NERRows(found, pad_id=tokenizer.pad_token_id, words=with_units)

    def scores(self, model, tokenizer, split: str, *, max_tokens: int) -> dict[str, float]:
        """f1, precision and recall, micro and per entity type."""
        options = {"labelling": self.task.labelling, "max_tokens": max_tokens, "annotated": self.survey.labels}
        return span_scores.word_scores(model, tokenizer, self.examples(split), **options)

    def report(self, model, tokenizer, split: str, *, max_tokens: int, folder=None) -> dict:
        """Scores, intervals, costs and notes, as `stillroom evaluate --json` prints them."""
        options = {"labelling": self.task.labelling, "max_tokens": max_tokens, "annotated": self.survey.labels}
        report = span_scores.evaluate(model, tokenizer, self.examples(split), split=split, folder=folder, **options)
        notes = self.survey.about(split, report.get("not_annotated", {}))
        return report | ({"notes": notes} if notes else {})


class NERRows:
    """Rows of a split as batches. lengths: (rows,) pieces with special tokens."""

    def __init__(self, rows: Sequence[Row], *, pad_id: int, words: bool):
        self.rows = rows
        self.lengths = np.array([len(row.input_ids) for row in rows])
        self._padding = {"input_ids": pad_id, "labels": IGNORED} | ({"words": -1} if words else {})

    @property
    def units(self) -> int:
        """How many words there are: a teacher's outputs are kept by word."""
        return 1 + max((max(row.words) for row in self.rows), default=-1)

    def answered_by(self, theirs: "NERRows") -> "NERRows":
        """These rows without the words that a teacher's rows have no piece of: of those it says nothing."""
        answered = {word for row in theirs.rows for word in row.words}
        if all(word in answered for row in self.rows for word in row.words):
            return self
        rows = (row._replace(words=[word if word in answered else -1 for word in row.words]) for row in self.rows)
        return NERRows(list(rows), pad_id=self._padding["input_ids"], words="words" in self._padding)

    def content(self) -> Iterator[list[int]]:
        """Everything that a teacher's outputs depend on, as whole numbers, row by row."""
        return ([len(row.input_ids), *row.input_ids, *row.words] for row in self.rows)

    def batch(self, indices: Sequence[int], *, step: int | None = None) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask, labels and, if asked for, words: each (rows, longest). Every step is alike."""
        return collate([self.rows[index] for index in indices], padding=self._padding)


DATA = NERData
