"""Document classification: one label per document, or any number of them."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.tasks.whole_text import WholeText


class Classification(WholeText):
    """Labels for whole documents."""

    title: ClassVar = "Labels of whole documents"
    data: ClassVar = "labelled"
    score: ClassVar = "macro_f1"
    level: ClassVar = "whole documents"
    unit: ClassVar = "documents"
    name: Literal["classification"] = "classification"
    multi_label: bool | None = Field(
        None, description="Whether a document may have several labels; empty: as in the data set"
    )
