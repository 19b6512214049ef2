"""Document classification: one label per document, or any number of them."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.tasks.task import Task


class Classification(Task):
    """Labels for whole documents of any length.

    A document longer than max_tokens is read in overlapping windows (datasets.rows.pieces.windows). The head gives
    logits per window; the logits of the document are their mean or, per label, their maximum. Training does the same:
    the windows of a document are in one step (at most `most_windows` of them), and the loss is computed on the pooled
    logits. So no window is trained on a label for which it holds no evidence, and training matches scoring.
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
        None, description="Whether a document may have several labels; empty: as in the data set"
    )
    reading: Literal["windows", "truncate"] = Field(
        "windows", description="Read long documents in windows, or only their first window"
    )
    pooling: Literal["mean", "max"] = Field(
        "mean", description="How the logits of a document's windows are combined, label by label"
    )
    most_windows: int = Field(
        4,
        ge=1,
        le=65536,
        description="Maximum windows per document in a training step; if it has more, they are drawn at random",
    )
