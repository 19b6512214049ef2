"""Document classification: one label per document, or any number of them."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.tasks.task import Task


class Classification(Task):
    """Labels of whole documents, of any length.

    A document longer than max_tokens is read in overlapping windows, those of pieces.windows; the head gives
    each window its logits, and the document has their mean, or the largest of each label. Training does the same: the
    windows of a document stand in one step and the loss is that of its pooled logits, so no window is told a label that
    it may not show (as where every window carries the label of its document), and what is trained is what is scored.
    """

    title: ClassVar = "Labels of whole documents"
    answers: ClassVar = "labels"
    head: ClassVar = "classification"
    data: ClassVar = "labelled"
    labelled: ClassVar = True
    score: ClassVar = "macro_f1"
    level: ClassVar = "whole documents"
    unit: ClassVar = "documents"
    name: Literal["classification"] = "classification"
    multi_label: bool | None = Field(
        None, description="Whether a document may have several labels; empty: as the data set says"
    )
    reading: Literal["windows", "truncate"] = Field(
        "windows", description="Read long documents in windows, or only their first one"
    )
    pooling: Literal["mean", "max"] = Field(
        "mean", description="What the windows of a document come to, label by label"
    )
    most_windows: int = Field(
        4, ge=1, le=65536, description="Windows of a document in a training step; of more, others are drawn each time"
    )
