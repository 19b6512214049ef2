"""Named-entity recognition: one IOB2 tag per word, and attributes of the entities."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator, model_serializer

from trainer.tasks.task import Task

AttributeName = Annotated[str, StringConstraints(pattern=r"^[^\s=@]{1,60}$")]


class NER(Task):
    """Token classification with word-level tags.

    labelling: which word pieces carry the tag of their word. "first" scores words, as is usual today. "all" is the
    scheme of the compact-biomedical and lightweight-clinical papers: every piece carries the word's tag unchanged
    (B- repeated), and scores count pieces, which inflates F1; scores of the two schemes cannot be compared.
    rows: what a training row holds. "given": one example of the data set, a sentence or a document; "sentences": one
    sentence; "packed": as many consecutive sentences as fit, so that the model also learns to read long windows.
    packings: how often the sentences are packed, each time in rows of other lengths, so that a sentence is learned
    beside different ones; an epoch is all of these rows. It counts for packed rows only.
    attributes: names of the entities' attributes to learn besides the tags, such as assertion.
    """

    title: ClassVar = "Named entities in a text"
    answers: ClassVar = "spans"
    head: ClassVar = "ner"
    predicts: ClassVar = "tags"
    data: ClassVar = "tagged"
    unlabelled: ClassVar = ("text", "tagged")
    labelled: ClassVar = True
    label: ClassVar = "entity type"
    score: ClassVar = "f1"
    level: ClassVar = "word level"
    unit: ClassVar = "sentences"
    name: Literal["ner"] = "ner"
    labelling: Literal["first", "all"] = Field("first", description="Which word pieces carry the tag of their word")
    rows: Literal["given", "sentences", "packed"] = Field(
        "given",
        description="A training row holds an example of the data set, one sentence, or as many sentences as fit",
    )
    packings: int = Field(1, ge=1, le=64, description="How often the sentences are packed, each time differently")
    attributes: tuple[AttributeName, ...] = Field(
        (), max_length=16, description="Attributes of the entities to learn with the tags, such as assertion"
    )

    @field_validator("attributes")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{twice[0]} is named twice; name each attribute once")
        return tuple(sorted(names))

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        # Fields that older specs did not have are left out where they say nothing, so that digests stay the same.
        fields = dump(self)
        if not fields.get("attributes"):
            fields.pop("attributes", None)
        if fields.get("packings") == 1:
            del fields["packings"]
        return fields
