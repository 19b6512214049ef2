"""What every task declares. Known without data or torch; other code reads these traits instead of comparing names."""

from typing import ClassVar, Literal

from trainer.prediction import Plain


class Task(Plain):
    """A task: its traits as class variables, its options as fields, `name` among them.

    title: name shown in forms. reads: what the model is given: a text, a text and a hypothesis about it, a question and
    a text, or a text with its mentions. answers: what the model predicts, None if it only learns the language; decides
    how predictions are shown, compared and explained. head: the output layer, a key of zoo.outputs.HEADS. predicts:
    what each of its outputs stands for: a tag of a word, a label of the text, a role of a sentence, an end of an
    answer, a number or a word piece. data: the kind of data set, a key of datasets.formats.FORMATS. unlabelled: the
    kinds that a teacher can label. labelled: whether its data sets have labels. label: the word for one label. score:
    the dev score that chooses the best checkpoint. level: the words for what is scored, such as "word level". unit: the
    word for what is counted, such as "sentences".
    """

    title: ClassVar[str]
    reads: ClassVar[Literal["text", "pair", "question", "mentions"]] = "text"
    answers: ClassVar[Literal["spans", "labels", "answer", "relations", "value"] | None]
    head: ClassVar[str]
    predicts: ClassVar[Literal["tags", "labels", "roles", "ends", "value", "pieces"]]
    data: ClassVar[Literal["tagged", "labelled", "pairs", "questions", "roles", "related", "values", "text"]]
    unlabelled: ClassVar[tuple[str, ...]] = ("text",)
    labelled: ClassVar[bool]
    label: ClassVar[str] = "label"
    score: ClassVar[str]
    level: ClassVar[str]
    unit: ClassVar[str]
    name: str
