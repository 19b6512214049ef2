"""Extractive question answering: the part of a text that answers a question, as in SQuAD."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.bounds import COUNT
from trainer.tasks.task import Task


class Questions(Task):
    """The start and the end of an answer in a text (Rajpurkar et al. 2016; with no-answer, 2018).

    Question and text are read in one sequence, the question first. A text of any length is read in windows, each with
    the whole question; in a window without the whole answer the right answer is the first token (Devlin et al. 2019).
    In a step most_windows windows of a question are read: one with its answer, the others drawn at random.
    no_answer: whether a text may lack the answer; empty: as in the data set. A threshold that is chosen on dev then
    decides when there is none.
    """

    title: ClassVar = "Questions about a text"
    reads: ClassVar = "question"
    answers: ClassVar = "answer"
    head: ClassVar = "questions"
    predicts: ClassVar = "ends"
    data: ClassVar = "questions"
    unlabelled: ClassVar = ("questions",)
    labelled: ClassVar = True
    label: ClassVar = "answer"
    score: ClassVar = "f1"
    level: ClassVar = "whole answers and their words"
    unit: ClassVar = "questions"
    name: Literal["questions"] = "questions"
    doc_stride: int = Field(
        128, ge=0, le=COUNT, description="Word pieces that neighbouring windows share at least; half a window at most"
    )
    max_answer_tokens: int = Field(30, ge=1, le=1000, description="Longest answer that is given, in word pieces")
    max_question_tokens: int = Field(64, ge=1, le=1000, description="Longest question that is read, in word pieces")
    no_answer: bool | None = Field(None, description="Whether a text may lack the answer; empty: as in the data set")
    most_windows: int = Field(4, ge=1, le=65536, description="Windows of a question in a training step, at most")
