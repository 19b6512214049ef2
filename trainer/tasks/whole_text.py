"""What tasks share that give a text labels as a whole: their head, and how long texts are read."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.tasks.task import Task


class WholeText(Task):
    """Labels for whole texts of any length.

    A text longer than max_tokens is read in overlapping windows (datasets.rows.pieces.windows). The head gives logits
    per window; the logits of the text are their mean or, per label, their maximum. Training does the same: the windows
    of a text are in one step (at most `most_windows` of them), and the loss is computed on the pooled logits. So no
    window is trained on a label for which it holds no evidence, and training matches scoring.
    """

    answers: ClassVar[Literal["labels", "value"]] = "labels"
    head: ClassVar = "classification"
    predicts: ClassVar[Literal["labels", "value"]] = "labels"
    labelled: ClassVar = True
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
