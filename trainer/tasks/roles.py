"""Roles of sentences: what each sentence of a text does, such as stating the methods or the results of a study."""

from typing import ClassVar, Literal

from trainer.tasks.task import Task


class Roles(Task):
    """Sequential sentence classification: one label per sentence, each read beside its neighbours (Cohan et al. 2019).

    A text is read in windows that begin and end where sentences do. The role of a sentence is read at its first word
    piece, so the head is that of a tagger, with one output per role. Notes are cut into sentences as everywhere else
    (datasets.rows.sentences).
    """

    title: ClassVar = "Roles of the sentences of a text"
    answers: ClassVar = "spans"
    head: ClassVar = "ner"
    predicts: ClassVar = "roles"
    data: ClassVar = "roles"
    unlabelled: ClassVar = ("text", "roles")
    labelled: ClassVar = True
    label: ClassVar = "role"
    score: ClassVar = "macro_f1"
    level: ClassVar = "sentences"
    unit: ClassVar = "documents"
    name: Literal["roles"] = "roles"
