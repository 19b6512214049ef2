"""Sentences and documents with tagged words: rows that train a tagger, and its scores."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from trainer import datasets
from trainer.datasets import Report, attributes
from trainer.datasets.attributes import Attribute
from trainer.datasets.rows.batches import collate, pad
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
    number of the word that begins there, counted through all sentences (-1 where none does). attributes: for each of
    the model's attributes the number of the value at each piece, IGNORED where its word has none.
    """

    input_ids: list[int]
    labels: list[int]
    words: list[int]
    attributes: tuple[list[int], ...] = ()


def encode(task: NER, sentences: Sequence, tokenizer, *, label_ids: Mapping[str, int], max_tokens: int) -> list[Row]:
    """Rows of `sentences` (words, tags, attributes); one longer than max_tokens becomes several rows, none is cut off.

    A sentence without tags (None) has no labels. Attributes are taught where the task names any.
    """
    around = frame(tokenizer)
    size = max_tokens - len(around.before) - len(around.after)
    runs = _encoded(task, sentences, tokenizer, label_ids)
    runs = _packed(runs, size) if task.rows == "packed" else runs
    return [_row(around, *(column[part] for column in run)) for run in runs for part in _parts(len(run[0]), size)]


def _encoded(task: NER, sentences: Sequence, tokenizer, label_ids: Mapping[str, int]) -> Iterator[tuple]:
    """Piece ids, label ids, numbers of the words that begin and the values of each attribute, each (pieces,), of each
    sentence.
    """
    names = sorted(label_ids, key=label_ids.get)
    meant, before = read_tags(names), 0
    taught = attributes.read(names, {}, ()) if task.attributes else ()
    for sentence in sentences:
        words, tags = sentence[:2]
        values = _values(sentence[2] if len(sentence) > 2 else {}, taught, task.attributes, len(words))
        rows = _word_row if task.labelling == "first" else _piece_row
        ids, labels, numbers, by_piece, count = rows(words, tags, values, tokenizer, meant)
        yield ids, labels, np.where(numbers < 0, -1, numbers + before), *by_piece
        before += count


def _values(
    stated: Mapping[str, Sequence[str]], taught: Sequence[Attribute], names: Sequence[str], count: int
) -> np.ndarray:
    """The number of each word's value of each attribute that is taught, (attributes, words); IGNORED without one."""
    numbers = np.full((len(taught), count), IGNORED)
    for row, attribute in zip(numbers, taught, strict=True):
        if attribute.name in names and attribute.name in stated:
            by_value = {value: number for number, value in enumerate(attribute.values)}
            row[:] = [by_value[value] if value else IGNORED for value in stated[attribute.name]]
    return numbers


def _word_row(words: Sequence[str], tags: Sequence[str] | None, values: np.ndarray, tokenizer, meant: Tags) -> tuple:
    """Piece ids; at the piece that speaks for a word the word's label, number and values, elsewhere IGNORED and -1;
    how many words there are.
    """
    pieces, alignment, owners = align_words(words, tokenizer)
    taught, at = np.flatnonzero(alignment.alone), alignment.speaker[alignment.alone]
    labels, numbers = np.full(len(pieces), IGNORED), np.full(len(pieces), -1)
    numbers[at] = taught
    if tags:
        labels[at] = np.array(meant.outputs(expand_tags(tags, owners)), dtype=np.int64)[taught]
    by_piece = np.full((len(values), len(pieces)), IGNORED)
    by_piece[:, at] = values[:, owners[taught]]
    return pieces.ids, labels, numbers, by_piece, len(owners)


def _piece_row(words: Sequence[str], tags: Sequence[str] | None, values: np.ndarray, tokenizer, meant: Tags) -> tuple:
    """The same with the label and values of its given word at every piece: the papers' scheme."""
    pieces, owners = cut_words(words, tokenizer)
    begins = np.append(True, owners[1:] != owners[:-1])[: len(owners)]
    gold = np.array(meant.outputs(tags) if tags else [IGNORED] * len(words), dtype=np.int64)
    return pieces.ids, gold[owners], np.where(begins, owners, -1), values[:, owners], len(words)


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


def _row(around: Frame, ids: np.ndarray, labels: np.ndarray, words: np.ndarray, *values: np.ndarray) -> Row:
    def framed(column: np.ndarray, nothing: int) -> list[int]:
        return [*[nothing] * len(around.before), *column.tolist(), *[nothing] * len(around.after)]

    return Row(
        [*around.before, *ids.tolist(), *around.after],
        framed(labels, IGNORED),
        framed(words, -1),
        tuple(framed(column, IGNORED) for column in values),
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
        """The outputs of a model: the IOB2 tags of the whole training split, whatever the limit, and after them the
        values of the task's attributes.
        """
        train = self.survey.splits["train"]
        values = {
            name: sorted({value for by_value in train.attributes[name].values() for value in by_value})
            for name in self.task.attributes
        }
        return (*iob2(train.labels), *attributes.output_names(values))

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
        marks: dict[str, Any] = {"document_reading": {"max_tokens": min(usual, max_tokens)}}
        if self.task.attributes:
            stated = self.survey.splits["train"].attributes
            marks[attributes.CARRIERS] = {name: sorted(stated[name]) for name in self.task.attributes}
        return marks

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
        """input_ids, attention_mask, labels and, if asked for, words, each (rows, longest); where attributes are taught
        their values, (rows, longest, attributes). Every step is alike.
        """
        rows = [self.rows[index] for index in indices]
        batch = collate(rows, padding=self._padding)
        columns = [pad(column, value=IGNORED) for column in zip(*(row.attributes for row in rows), strict=True)]
        return batch | ({"attributes": torch.stack(columns, dim=-1)} if columns else {})


DATA = NERData
