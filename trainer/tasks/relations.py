"""Relations between the mentions of a text: one label per pair, one of which stands for no relation."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.tasks.task import Task


class Relations(Task):
    """Classification of pairs of mentions, in the passage that both are in.

    A passage is the sentences from the first mention to the second. Candidates are the pairs whose types are related in
    train. Where a pair has several labels each is learned, and scoring counts each. Scores leave out the label of pairs
    without a relation, as those of the field do.
    mentions: "marked" puts signs and the type around both mentions; "anonymised" puts their types in their place, such
    as @GENE$, as the papers do. Data that is anonymised already stays so.
    """

    title: ClassVar = "Relations between mentions"
    reads: ClassVar = "mentions"
    answers: ClassVar = "relations"
    head: ClassVar = "classification"
    predicts: ClassVar = "labels"
    data: ClassVar = "related"
    unlabelled: ClassVar = ("related",)
    labelled: ClassVar = True
    label: ClassVar = "relation"
    score: ClassVar = "micro_f1"
    level: ClassVar = "pairs of mentions, without those that have no relation"
    unit: ClassVar = "pairs"
    name: Literal["relations"] = "relations"
    mentions: Literal["marked", "anonymised"] = Field(
        "marked", description="Mark both mentions in their text, or put their types in their place (@GENE$)"
    )
    max_sentences: int = Field(
        1, ge=1, le=1000, description="Pairs lie within this many consecutive sentences; 1: within a sentence"
    )
    negative: str | None = Field(
        None, max_length=100, description="Label of pairs without a relation; empty: as in the data set"
    )
