"""What every task declares, known without data and without torch; whoever needs it asks here, never by name."""

from typing import ClassVar, Literal

from trainer.prediction import Plain


class Task(Plain):
    """A task: its traits as class variables, its options as fields, `name` among them.

    title: shown where a person chooses a task. reads: what the model is given.
    answers: what the model predicts for it; None where it only learns the language. Predictions are drawn, compared and
    explained by this. head: the output layer, a key of zoo.outputs.HEADS. data: the kind of data set, a key of
    datasets.formats.FORMATS. labelled: whether its data sets have labels. label: what one label is called.
    score: the dev score that chooses the best checkpoint. level, unit: in words, what is scored and what is counted.
    """

    title: ClassVar[str]
    reads: ClassVar[Literal["text"]] = "text"
    answers: ClassVar[Literal["spans", "labels"] | None]
    head: ClassVar[str]
    data: ClassVar[Literal["tagged", "labelled", "text"]]
    labelled: ClassVar[bool]
    label: ClassVar[str] = "label"
    score: ClassVar[str]
    level: ClassVar[str]
    unit: ClassVar[str]
    name: str
