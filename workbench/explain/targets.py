"""What is explained. A target says which logits count and makes one score of them.

What a model answers decides which: a span of the text, or a label of the whole.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from trainer.datasets import tags
from trainer.datasets.rows.words import Alignment
from trainer.errors import BadSpec, UnknownName
from trainer.prediction import Plain, Prediction
from trainer.tasks import answers

_SPAN = re.compile(r"(\d{1,9}):(\d{1,9}):(.{1,200})", re.S)
LIST_THEM = "`stillroom explain` without --target lists what the model found, written as targets."


class SpanTarget(Plain):
    """text[start:end] is an entity of type `label`, whether the model found it or not; written START:END:LABEL.

    Its score is the mean over the span's words, at the pieces that speak for them (words), of the log-odds that
    the word belongs to the label, whatever its border: log p - log(1 - p). Which border tag a word has is not what a
    reader asks about.
    """

    answers: ClassVar = "spans"
    written: ClassVar = "marks spans: write START:END:LABEL"
    start: int
    end: int
    label: str

    def __str__(self) -> str:
        return f"{self.start}:{self.end}:{self.label}"

    def columns(self, names: Sequence[str]) -> list[int]:
        """The outputs that say the label. UnknownName if the model has none."""
        meant = tags.read(names)
        if self.label not in meant.kinds:
            raise UnknownName("label of this model", self.label, meant.kinds, next_step=LIST_THEM)
        return meant.columns(self.label)

    def check(self, text: str) -> None:
        """BadSpec if the span is not within the text."""
        if not 0 <= self.start < self.end <= len(text):
            found = f"found {self.start}:{self.end}; the text has {len(text):,} characters, and START is before END"
            raise BadSpec([("target", found)], next_step=LIST_THEM)

    def places(self, words: Alignment) -> list[int]:
        """The pieces that speak for the words which the span touches."""
        touched = (words.words.starts < self.end) & (words.words.ends > self.start)
        pieces = np.unique(words.speaker[touched & (words.speaker >= 0)])
        if not len(pieces):
            found = f"found {self.start}:{self.end}, where the model reads no word"
            raise BadSpec([("target", found)], next_step=LIST_THEM)
        return pieces.tolist()


class LabelTarget(Plain):
    """The whole text has the label; written LABEL. Its score is the log-odds of the label.

    Of a window that is the first token's say: all of it, so every piece may count.
    """

    answers: ClassVar = "labels"
    written: ClassVar = "labels whole texts: write LABEL"
    label: str

    def __str__(self) -> str:
        return self.label

    def columns(self, names: Sequence[str]) -> list[int]:
        """The output that says the label. UnknownName if the model has none."""
        if self.label not in names:
            raise UnknownName("label of this model", self.label, names, next_step=LIST_THEM)
        return [list(names).index(self.label)]

    def check(self, text: str) -> None:
        """Nothing can be wrong with a text that has a label."""

    def places(self, words: Alignment) -> list[int]:
        """No pieces of its own: a label belongs to the whole text."""
        return []


Target = SpanTarget | LabelTarget
TARGETS = {kind.answers: kind for kind in (SpanTarget, LabelTarget)}


def parse(text: str) -> Target:
    """The target that a person wrote: START:END:LABEL in code points, or LABEL."""
    if found := _SPAN.fullmatch(text.strip()):
        return SpanTarget(start=int(found[1]), end=int(found[2]), label=found[3])
    if not text.strip():
        raise BadSpec([("target", "found nothing; write START:END:LABEL or LABEL")], next_step=LIST_THEM)
    return LabelTarget(label=text.strip())


def found(prediction: Prediction) -> list[dict]:
    """What a prediction says as targets, likeliest first: {"target", "score"} each."""
    spans = [(f"{span.start}:{span.end}:{span.label}", span.score) for span in prediction.spans]
    said = spans + [(each.label, each.score) for each in prediction.labels]
    return [{"target": target, "score": score} for target, score in sorted(said, key=lambda each: -each[1])]


def require_task(target: Target, model: Any) -> list[str]:
    """The model's label names. BadSpec if the target is not of the kind that this model's head speaks of."""
    from trainer import inference

    if target.answers != (wanted := answers(inference.task(model))):
        how = TARGETS[wanted].written
        raise BadSpec([("target", f"found {str(target)!r:.80}; this model {how}")], next_step=LIST_THEM)
    return inference.output_names(model)
