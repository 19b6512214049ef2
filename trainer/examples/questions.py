"""Questions about texts: windows that train the ends of answers, and the scores of the answers given."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import datasets, inference
from trainer.datasets import Question, Report
from trainer.datasets.contents import QuestionContents
from trainer.datasets.rows.batches import framed
from trainer.datasets.rows.pieces import Frame, Pieces, cut, question_frame, windows
from trainer.datasets.rows.questions import QuestionReading, draw_windows, find_pieces, holding
from trainer.errors import BadData
from trainer.evaluation import answer_scores
from trainer.examples.task_data import LabelledData
from trainer.examples.whole_text import WindowRows
from trainer.inference.answers import READING
from trainer.models.heads import IGNORED
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks.questions import Questions
from trainer.zoo.outputs import ENDS


class QuestionsData(LabelledData[Questions]):
    """The splits of one data set, each read once. `unlabelled` questions are added to the training rows."""

    def __init__(self, task: Questions, dataset: ResolvedDataset, *, limit: int | None = None):
        super().__init__(task, dataset, limit=limit)
        self.unlabelled: list[Question] = []
        self._questions: dict[str, list[Question]] = {}

    @classmethod
    def read_task(cls, model: ResolvedModel) -> Questions:
        """The task as a model was trained for it: how it reads questions."""
        config = json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8"))
        stated = QuestionReading.model_validate(config.get(READING) or {})
        return Questions(**stated.model_dump(exclude={"threshold"}))

    @classmethod
    def complete_task(cls, task: Questions, model: ResolvedModel) -> Questions:
        """The task for scoring a model, which reads questions only as it was trained."""
        return cls.read_task(model)

    @property
    def labels(self) -> tuple[str, ...]:
        """The outputs of the head: the two ends of an answer."""
        return ENDS

    @property
    def survey(self) -> Report:
        """What all splits hold."""
        return datasets.survey(self.dataset, task=self.task.name)

    @cached_property
    def reading(self) -> QuestionReading:
        """How questions are read, and whether a text may lack the answer: as the task says, or as train has it."""
        train = self.survey.splits.get("train")
        lacking = isinstance(train, QuestionContents) and train.unanswerable > 0
        stated = self.task.model_dump(include={"doc_stride", "max_answer_tokens", "max_question_tokens"})
        return QuestionReading(**stated, no_answer=lacking if self.task.no_answer is None else self.task.no_answer)

    def examples(self, split: str) -> list[Question]:
        """The questions of a split, read once. Raises BadData where it is missing or invalid."""
        if split not in self._questions:
            self._questions[split] = datasets.questions(self.dataset, split, limit=self.limit)
        return self._questions[split]

    def texts(self, split: str) -> Iterator[str]:
        """Each question of a split with its text; with train the unlabelled ones too."""
        questions = [*self.examples(split), *(self.unlabelled if split == "train" else ())]
        return (f"{question.question}\n{question.text}" for question in questions)

    def read_unlabelled(self, dataset: ResolvedDataset, *, limit: int | None = None) -> None:
        """Add the first `limit` questions of another data set, whose answers are not used, for a teacher to answer."""
        self.unlabelled = datasets.questions(dataset, "train", limit=limit)

    def marks(self, max_tokens: int, lengths: np.ndarray) -> dict[str, Any]:
        """How questions are read, and the longest window."""
        return {"document_reading": {"max_tokens": max_tokens}, READING: self.reading.model_dump(mode="json")}

    def rows(
        self,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        label_ids: Mapping[str, int],
        max_tokens: int,
        seed: int = 0,
        with_units: bool = False,
    ) -> "QuestionRows":
        """Training rows of a split, one per question and distinct annotated answer, the unlabelled ones after those of
        train. Raises BadData for a question that is too long; with train, for one in any split.
        """
        for other in ("dev", "test") if split == "train" else ():  # before a run has trained for hours
            for question in self.examples(other):
                self._frame(question, tokenizer, max_tokens, other)
        pieces_of: dict[str, Pieces] = {}  # of each distinct text: many questions share one
        rows = []
        unlabelled = self.unlabelled if split == "train" else []
        for number, question in enumerate([*self.examples(split), *unlabelled]):
            if question.text not in pieces_of:
                pieces_of[question.text] = cut(question.text, tokenizer)
            pieces, around = pieces_of[question.text], self._frame(question, tokenizer, max_tokens, split)
            table = windows(len(pieces), around.room(len(pieces), max_tokens), self.reading.doc_stride)
            table = table if len(table) else np.zeros((1, 4), dtype=np.int64)
            labelled = number < len(self.examples(split))
            for place in (question.answers if labelled else ()) or (None,):
                answer = find_pieces(pieces, place) if place else None
                rows.append(Row(pieces.ids, table, around, answer, labelled))
        return QuestionRows(rows, most_windows=self.task.most_windows, max_tokens=max_tokens, seed=seed)

    def _frame(self, question: Question, tokenizer: PreTrainedTokenizerBase, max_tokens: int, split: str) -> Frame:
        """What stands around the text of a question. Raises BadData, with its place, where it is too long."""
        try:
            around = question_frame(tokenizer, question.question, max_tokens=self.reading.max_question_tokens)
            around.room(max_tokens, max_tokens)
            return around
        except BadData as problem:
            what = f"question {question.number:,} of {split}: {problem.message}"
            raise BadData(what, path=Path(self.dataset.path).name, next_step=problem.next_step) from None

    def choose_on_dev(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int
    ) -> dict[str, Any]:
        """The threshold from which no answer is given, where a text may lack one."""
        reading = inference.question_reading(model)
        if not reading.no_answer:
            return {}
        questions = self.examples("dev")
        answers = answer_scores.ask(questions, model, tokenizer, max_tokens=max_tokens)
        chosen = answer_scores.best_threshold(questions, answers)
        return {READING: reading.model_copy(update={"threshold": chosen}).model_dump(mode="json")}

    def scores(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: str, *, max_tokens: int | None
    ) -> dict[str, float]:
        """exact_match and f1 of SQuAD, and mrr, strict_accuracy and lenient_accuracy of BioASQ (answer_scores)."""
        return answer_scores.scores(model, tokenizer, self.examples(split), max_tokens=max_tokens)

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
        questions = self.examples(split)
        report = answer_scores.evaluate(model, tokenizer, questions, split=split, folder=folder, max_tokens=max_tokens)
        return self.with_notes(report, split)


class Row(NamedTuple):
    """One question: the ids of its text's word pieces, (pieces,), its windows, (windows, 4), what stands around each.

    answer: the first and last piece of the answer; None where there is none, or it is not labelled.
    """

    ids: np.ndarray
    windows: np.ndarray
    around: Frame
    answer: tuple[int, int] | None
    labelled: bool

    def __repr__(self) -> str:
        return f"Row({len(self.ids):,} pieces, {len(self.windows)} windows)"


class QuestionRows(WindowRows[Row]):
    """Questions with their answers as batches of windows, one with the answer among those of a step.

    Distributions are over the pieces of a window, so a teacher's outputs are not cached: it runs in every step.
    """

    def content(self) -> Iterator[list[int]]:
        """Everything that a teacher's outputs depend on, as integers, row by row."""
        for ids, table, around, *_ in self.rows:
            yield [len(ids), *table[:, :2].ravel().tolist(), *ids.tolist(), *around.before, *around.after]

    def batch(self, indices: Sequence[int] | np.ndarray, *, step: int | None = None) -> dict[str, torch.Tensor]:
        """The windows of some questions.

        input_ids, attention_mask, question_mask and, where the tokenizer has them, token_type_ids: (windows, longest).
        allowed: the same shape, True at the text and at the first token. labels: (windows, 2), where the answer starts
        and ends: 0, the first token, in a window without the whole answer; IGNORED in an unlabelled one. step: decides
        which windows are drawn; None: all of them.
        """
        parts: list[tuple[np.ndarray, Frame]] = []
        labels: list[tuple[int, int]] = []
        for index in indices:
            row = self.rows[int(index)]
            most = len(row.windows) if step is None else self.most_windows
            table = draw_windows(row.windows, row.answer, most, (self.seed, step or 0, int(index)))
            parts += [(row.ids[start:end], row.around) for start, end, *_ in table.tolist()]
            labels += _labels(row, table)
        batch = framed(parts)
        allowed = torch.zeros(batch["input_ids"].shape, dtype=torch.bool)
        allowed[:, 0] = True
        for number, (ids, around) in enumerate(parts):
            allowed[number, len(around.before) : len(around.before) + len(ids)] = True
        return batch | {"allowed": allowed, "labels": torch.tensor(labels, dtype=torch.long)}


def _labels(row: Row, table: np.ndarray) -> list[tuple[int, int]]:
    """The columns of the answer's first and last piece in each of these windows, (windows, 4)."""
    if not row.labelled:
        return [(IGNORED, IGNORED)] * len(table)
    if row.answer is None:
        return [(0, 0)] * len(table)
    first, last = row.answer
    shifts = len(row.around.before) - table[:, 0]
    whole = holding(table, row.answer)
    return [
        (first + shift, last + shift) if inside else (0, 0)
        for shift, inside in zip(shifts.tolist(), whole.tolist(), strict=True)
    ]


DATA = QuestionsData
