"""What is known of a task without data and without torch: everything that others ask it, instead of its name."""

from typing import ClassVar, Literal

from trainer.prediction import Plain


class Task(Plain):
    """A task: its traits as class variables, its options as fields, `name` among them.

    title: for a person who chooses. reads: what its model is given. answers: what that says of it, None where it only
    learns the language; predictions are drawn, compared and explained by this. head: the output layer (zoo.outputs).
    data: the kind of its data (datasets.formats). labelled: whether these have labels. label: what one is called.
    score: what a model is chosen by, on dev. level, unit: what scores are of and what they count, in words.
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
