"""Pairs of texts: whether a premise entails a hypothesis, or how a question about a text is answered."""

from typing import ClassVar, Literal

from trainer.tasks.whole_text import WholeText


class Pairs(WholeText):
    """One label per pair of a premise and a hypothesis, as in natural language inference.

    Both are read in one sequence, the premise first. Only the premise is read in windows: each of them holds the whole
    hypothesis.
    """

    title: ClassVar = "Pairs of a text and a hypothesis"
    reads: ClassVar = "pair"
    data: ClassVar = "pairs"
    unlabelled: ClassVar = ("pairs",)
    score: ClassVar = "accuracy"
    level: ClassVar = "pairs"
    unit: ClassVar = "pairs"
    name: Literal["pairs"] = "pairs"
