"""Values: a number for a whole text, such as the severity of a disease on a scale."""

from typing import ClassVar, Literal

from trainer.tasks.whole_text import WholeText


class Values(WholeText):
    """Regression of an ordinal or real value of a text, by mean squared error.

    The head has one output: the share of the way from the lowest value of train to its highest, which stand in the
    model's config. So errors have the same size on any scale, and a prediction is shown on its scale.
    """

    title: ClassVar = "Values of whole texts"
    answers: ClassVar = "value"
    predicts: ClassVar = "value"
    data: ClassVar = "values"
    score: ClassVar = "pearson"
    level: ClassVar = "whole documents"
    unit: ClassVar = "documents"
    name: Literal["values"] = "values"
