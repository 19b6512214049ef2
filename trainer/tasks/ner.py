"""Named-entity recognition: one IOB2 tag per word."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.tasks.task import Task


class NER(Task):
    """Token classification with word-level tags.

    `labelling` says which pieces of a word carry its tag. "first" scores words, as the field does today. "all" is
    the scheme of the compact-biomedical and lightweight-clinical papers: every piece carries the word's tag
    unchanged (B- repeated), and scores count pieces, which inflates F1; never compare the two. `rows` says what stands
    in a training row: an example as the data set gives it, a sentence or a document; the single sentences of it; or
    as many sentences that follow each other as fit, so that a model also learns to read in long windows.
    """

    title: ClassVar = "Named entities in a text"
    answers: ClassVar = "spans"
    head: ClassVar = "ner"
    data: ClassVar = "tagged"
    labelled: ClassVar = True
    label: ClassVar = "entity type"
    score: ClassVar = "f1"
    level: ClassVar = "word level"
    unit: ClassVar = "sentences"
    name: Literal["ner"] = "ner"
    labelling: Literal["first", "all"] = Field("first", description="Which word pieces carry the tag of their word")
    rows: Literal["given", "sentences", "packed"] = Field(
        "given", description="Examples as the data set gives them, single sentences, or as many in a row as fit"
    )
