"""Sentences and documents with tagged words: rows that train a tagger, and its scores."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import datasets, inference
from trainer.datasets import Report, Sentence, attributes
from trainer.datasets.attributes import Attribute
from trainer.datasets.contents import MarkedContents
from trainer.datasets.rows.batches import collate, pad
from trainer.datasets.rows.passages import passages
from trainer.datasets.rows.pieces import Frame, align_words, cut_words, frame
from trainer.datasets.rows.words import expand_tags, join, words_in
from trainer.datasets.tags import DECODING, Tags, entities_of, iob2
from trainer.datasets.tags import read as read_tags
from trainer.evaluation import baselines, slices, span_scores
from trainer.examples.task_data import LabelledData, LabelledRows
from trainer.models.heads import document_reading
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks.ner import NER

IGNORED = -100  # the label that cross-entropy skips
WINDOW_STEP = 32  # word pieces; the window in which texts are read is a multiple of it


class Row(NamedTuple):
    """One window of an example, special tokens included.

    For each word piece its id, its label id (IGNORED where none counts) and the number of the word that begins there,
    counted through all examples (-1 where none begins). attributes: for each attribute that is learned the number of
    the value at each piece, IGNORED where its word has none.
    """

    input_ids: list[int]
    labels: list[int]
    words: list[int]
    attributes: tuple[list[int], ...] = ()


class Encoded(NamedTuple):
    """One example, or several joined: the columns of Row before they are cut into windows.

    ids, labels, words: (pieces,). attributes: (attributes, pieces).
    """

    ids: np.ndarray
    labels: np.ndarray
    words: np.ndarray
    attributes: np.ndarray


def encode(
    task: NER,
    examples: Iterable[Sentence],
    tokenizer: PreTrainedTokenizerBase,
    *,
    label_ids: Mapping[str, int],
    max_tokens: int,
    seed: int = 0,
) -> list[Row]:
    """Rows of `examples`; one longer than max_tokens becomes several rows, so nothing is cut off.

    The attributes that the task names are learned too. seed: of the lengths of rows that are packed once more.
    """
    special = frame(tokenizer)
    size = max_tokens - special.size
    encoded = _encoded(task, examples, tokenizer, label_ids)
    if task.rows == "packed":
        encoded = _packings(list(encoded), size, task.packings, seed)
    return [_row(special, each, window) for each in encoded for window in _windows(len(each.ids), size)]


def _encoded(
    task: NER, examples: Iterable[Sentence], tokenizer: PreTrainedTokenizerBase, label_ids: Mapping[str, int]
) -> Iterator[Encoded]:
    """Each example by itself; words are numbered through all of them."""
    names = sorted(label_ids, key=lambda label: label_ids[label])
    tag_set, words_before = read_tags(names), 0
    learned = attributes.read(names, {}, ()) if task.attributes else ()
    encode_example = _encode_words if task.labelling == "first" else _encode_pieces
    for example in map(Sentence.of, examples):
        words, tags = example
        values = _value_numbers(example.attributes, learned, task.attributes, len(words))
        encoded, count = encode_example(words, tags, values, tokenizer, tag_set)
        numbers = np.where(encoded.words < 0, -1, encoded.words + words_before)
        yield encoded._replace(words=numbers)
        words_before += count


def _value_numbers(
    stated: Mapping[str, Sequence[str]], learned: Sequence[Attribute], names: Sequence[str], count: int
) -> np.ndarray:
    """The number of each word's value of each attribute that is learned, (attributes, words); IGNORED without one."""
    numbers = np.full((len(learned), count), IGNORED)
    for row, attribute in zip(numbers, learned, strict=True):
        if attribute.name in names and attribute.name in stated:
            by_value = {value: number for number, value in enumerate(attribute.values)}
            row[:] = [by_value[value] if value else IGNORED for value in stated[attribute.name]]
    return numbers


def _encode_words(
    words: Sequence[str],
    tags: Sequence[str],
    values: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
    tag_set: Tags,
) -> tuple[Encoded, int]:
    """An example with the label and values of each word at the one piece that speaks for it; and the number of words.

    values: (attributes, words).
    """
    pieces, alignment, owners = align_words(words, tokenizer)
    numbers, speakers = np.flatnonzero(alignment.alone), alignment.speaker[alignment.alone]
    encoded = Encoded(
        pieces.ids,
        np.full(len(pieces), IGNORED),
        np.full(len(pieces), -1),
        np.full((len(values), len(pieces)), IGNORED),
    )
    encoded.words[speakers] = numbers
    encoded.attributes[:, speakers] = values[:, owners[numbers]]
    if tags:
        labels = np.array(tag_set.outputs(expand_tags(tags, owners)), dtype=np.int64)
        encoded.labels[speakers] = labels[numbers]
    return encoded, len(owners)


def _encode_pieces(
    words: Sequence[str],
    tags: Sequence[str],
    values: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
    tag_set: Tags,
) -> tuple[Encoded, int]:
    """As _encode_words in the papers' scheme: every piece has the label and values of its word."""
    pieces, owners = cut_words(words, tokenizer)
    begins = np.append(True, owners[1:] != owners[:-1])[: len(owners)]
    labels = np.array(tag_set.outputs(tags) if tags else [IGNORED] * len(words), dtype=np.int64)
    return Encoded(pieces.ids, labels[owners], np.where(begins, owners, -1), values[:, owners]), len(words)


def _packings(examples: Sequence[Encoded], size: int, count: int, seed: int) -> Iterator[Encoded]:
    """The examples packed `count` times: first in rows of up to `size` pieces, then in rows of random lengths from half
    of that, so that a sentence has other sentences around it each time. Each packing has its own word numbers.
    """
    random = np.random.default_rng(seed)
    words = 1 + max((int(each.words.max(initial=-1)) for each in examples), default=0)
    for number in range(count):
        sizes = itertools.repeat(size) if number == 0 else iter(lambda: int(random.integers(size // 2, size + 1)), None)
        for row in _packed(examples, sizes):
            yield row._replace(words=np.where(row.words < 0, -1, row.words + number * words))


def _packed(examples: Iterable[Encoded], sizes: Iterator[int]) -> Iterator[Encoded]:
    """Consecutive examples joined while they fit into the size of their row; one that is longer stands alone."""
    joined: list[Encoded] = []
    length, size = 0, next(sizes)
    for example in examples:
        if joined and length + len(example.ids) > size:
            yield _join(joined)
            joined, length, size = [], 0, next(sizes)
        joined.append(example)
        length += len(example.ids)
    if joined:
        yield _join(joined)


def _join(examples: Sequence[Encoded]) -> Encoded:
    return Encoded(*(np.concatenate(columns, axis=-1) for columns in zip(*examples, strict=True)))


def _windows(length: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, max(1, length), size))


def _row(special: Frame, encoded: Encoded, window: slice) -> Row:
    def framed(column: np.ndarray, nothing: int) -> list[int]:
        return [*[nothing] * len(special.before), *column[window].tolist(), *[nothing] * len(special.after)]

    return Row(
        [*special.before, *encoded.ids[window].tolist(), *special.after],
        framed(encoded.labels, IGNORED),
        framed(encoded.words, -1),
        tuple(framed(column, IGNORED) for column in encoded.attributes),
    )


class NERData(LabelledData[NER]):
    """The splits of one data set, each read once. `unlabelled` sentences (words) are added to the training rows."""

    @classmethod
    def read_task(cls, model: ResolvedModel) -> NER:
        """The task for scoring words, whichever labelling the model was trained with."""
        return NER()

    def __init__(self, task: NER, dataset: ResolvedDataset, *, limit: int | None = None):
        super().__init__(task, dataset, limit=limit)
        self.unlabelled: Sequence[Sequence[str]] = ()
        self._examples: dict[str, list[Sentence]] = {}

    def examples(self, split: str) -> list[Sentence]:
        """The sentences or documents of a split, read once. Raises BadData where it is missing or invalid."""
        if split not in self._examples:
            examples = datasets.load(self.dataset, split, limit=self.limit)
            if self.task.rows == "sentences":
                examples = [sentence for each in examples for sentence in datasets.sentences(each)]
            self._examples[split] = examples
        return self._examples[split]

    @property
    def unit(self) -> str:
        """ "documents" where whole documents are read, else "sentences"."""
        return "sentences" if self.task.rows == "sentences" else self.survey.splits["train"].unit

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The model's outputs: the IOB2 tags of the whole training split, whatever the limit, and after them the values
        of the task's attributes.
        """
        values = {
            name: sorted({value for by_value in by_label.values() for value in by_value})
            for name, by_label in self._train_attributes.items()
        }
        return (*iob2(self.train_labels), *attributes.output_names(values))

    @property
    def _train_attributes(self) -> dict[str, dict[str, dict[str, int]]]:
        """How often each value of the task's attributes occurs in train, by attribute and by label."""
        train = self.survey.splits["train"]
        return {name: getattr(train, "attributes", {})[name] for name in self.task.attributes}

    @property
    def survey(self) -> Report:
        """What all splits hold."""
        return datasets.survey(self.dataset, task=self.task.name)

    def read_unlabelled(self, dataset: ResolvedDataset, *, limit: int | None = None) -> None:
        """Add the first `limit` sentences of another data set, for a teacher to label."""
        self.unlabelled = passages(dataset, limit=limit)

    def marks(self, max_tokens: int, lengths: np.ndarray) -> dict[str, Any]:
        """The window in which texts are later read, how tags are decoded, and the entity types with each attribute.

        The window is as long as nine in ten training rows, (rows,) `lengths`: a model trained on single sentences loses
        up to 14 points of F1 in its longest windows.
        """
        usual = math.ceil(np.percentile(lengths, 90) / WINDOW_STEP) * WINDOW_STEP if len(lengths) else max_tokens
        marks: dict[str, Any] = {"document_reading": {"max_tokens": min(usual, max_tokens)}}
        if self.task.labelling == "first":
            marks[DECODING] = "viterbi"
        if self.task.attributes:
            marks[attributes.CARRIERS] = {name: sorted(by_label) for name, by_label in self._train_attributes.items()}
        return marks

    def texts(self, split: str) -> Iterator[str]:
        """The text of each sentence, words joined by spaces; with train those of the unlabelled sentences too."""
        words = (sentence.words for sentence in self.examples(split))
        return (" ".join(each) for each in (*words, *(self.unlabelled if split == "train" else ())))

    def rows(
        self,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        label_ids: Mapping[str, int],
        max_tokens: int,
        seed: int = 0,
        with_units: bool = False,
    ) -> "NERRows":
        """Training rows of a split, the unlabelled sentences after those of train; `seed` is that of `encode`.

        with_units: whether batches say where words begin, for a teacher whose outputs are cached by word.
        """
        examples = self.examples(split)
        if self.task.rows == "packed":  # so that a row of a long document ends where a sentence does
            examples = [sentence for each in examples for sentence in datasets.sentences(each)]
        extra = [Sentence(tuple(words), ()) for words in self.unlabelled] if split == "train" else []
        rows = encode(self.task, [*examples, *extra], tokenizer, label_ids=label_ids, max_tokens=max_tokens, seed=seed)
        return NERRows(rows, pad_id=tokenizer.pad_token_id, words=with_units)

    def scores(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: str, *, max_tokens: int
    ) -> dict[str, float]:
        """f1, precision and recall, micro-averaged and for each entity type."""
        return span_scores.word_scores(
            model,
            tokenizer,
            self.examples(split),
            labelling=self.task.labelling,
            max_tokens=self._window(model, max_tokens),
            annotated=self.survey.labels,
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
        report = span_scores.evaluate(
            model,
            tokenizer,
            self.examples(split),
            labelling=self.task.labelling,
            split=split,
            folder=folder,
            max_tokens=self._window(model, max_tokens),
            annotated=self.survey.labels,
        )
        return self.with_notes(report | self._beside(report, tokenizer, split), split)

    def _beside(self, report: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, split: str) -> dict[str, Any]:
        """What stands beside the scores of words: those of a dictionary of train, and those of parts of the items."""
        if (outcomes := report.get("outcomes")) is None:
            return {}
        words = [example.words for example in self.examples(split)]
        stated = [example.tags for example in self.examples(split)]
        looked_up = [self._dictionary.tags(each) for each in words]
        gold, answers = (inference.expand(words, tags, tokenizer) for tags in (stated, looked_up))
        texts = [join(each).text for each in words]
        mentions = []
        for text, tags in zip(texts, gold, strict=True):
            places = words_in(text).places.tolist()
            mentions.append([(kind, (places[a][0], places[b][1])) for kind, a, b in entities_of(tags)])
        counts = slices.mention_counts(outcomes, texts, mentions, self._dictionary.knows)
        parts = [*self.slices(outcomes, split, list(map(len, words))), *slices.of_mentions(outcomes, *counts)]
        baseline = {"name": baselines.DICTIONARY, "metrics": span_scores.scores(gold, answers)}
        return {"baseline": baseline, "slices": parts}

    @cached_property
    def _dictionary(self) -> baselines.Dictionary:
        return baselines.Dictionary(self.examples("train"))

    def _window(self, model: PreTrainedModel, max_tokens: int) -> int:
        """Documents are scored in windows as long as the rows that trained the model, as they are read everywhere."""
        documents = self.task.rows != "sentences" and isinstance(self.survey.splits["train"], MarkedContents)
        trained = document_reading(model)["max_tokens"] if documents else None
        return min(max_tokens, trained or max_tokens)


class NERRows(LabelledRows):
    """Rows of a split as batches.

    lengths: (rows,) word pieces with special tokens. words: whether batches hold the numbers of the words.
    """

    def __init__(self, rows: Sequence[Row], *, pad_id: int, words: bool):
        self.rows = rows
        self.lengths = np.array([len(row.input_ids) for row in rows])
        self._padding = {"input_ids": pad_id, "labels": IGNORED} | ({"words": -1} if words else {})

    @property
    def pieces(self) -> np.ndarray:
        """(rows,) word pieces that are read in a step: all of them."""
        return self.lengths

    @property
    def units(self) -> int:
        """The number of words, by which a teacher's outputs are cached."""
        return 1 + max((max(row.words) for row in self.rows), default=-1)

    def answered_by(self, teacher_rows: "NERRows") -> "NERRows":
        """These rows without the words that begin nowhere in the teacher's rows: the teacher has no output for them."""
        answered = {word for row in teacher_rows.rows for word in row.words}
        if all(word in answered for row in self.rows for word in row.words):
            return self
        rows = (row._replace(words=[word if word in answered else -1 for word in row.words]) for row in self.rows)
        return NERRows(list(rows), pad_id=self._padding["input_ids"], words="words" in self._padding)

    def content(self) -> Iterator[list[int]]:
        """Everything that a teacher's outputs depend on, as integers, row by row."""
        return ([len(row.input_ids), *row.input_ids, *row.words] for row in self.rows)

    def batch(self, indices: Sequence[int] | np.ndarray, *, step: int | None = None) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask, labels and, if asked for, words, each (rows, longest). All steps are alike.

        attributes, where any are learned: (rows, longest, attributes).
        """
        rows = [self.rows[index] for index in indices]
        batch = collate(rows, padding=self._padding)
        columns = [pad(column, value=IGNORED) for column in zip(*(row.attributes for row in rows), strict=True)]
        return batch | ({"attributes": torch.stack(columns, dim=-1)} if columns else {})


DATA = NERData
