"""What a model says about one text. Plain types without torch: pages, command line and evaluation share them.

Offsets are Unicode code points into the text exactly as it was given (no newline translation, no normalisation).
None of these types holds note text, so their repr and JSON are safe to log.
"""

import math
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, model_serializer

CONTEXTS = (128, 256, 512, 1024, 2048, 4096)  # tokens: the windows of the field's models


class Plain(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AttributeValue(Plain):
    """The most likely value of an attribute and its probability, 0 to 1."""

    value: str
    score: float


class Span(Plain):
    """text[start:end] carries `label`; `score` is the mean probability of the label over its words, 0 to 1.

    attributes: of the model's attributes those that spans of this label carry, such as the assertion of a problem.
    """

    start: int
    end: int
    label: str
    score: float
    attributes: dict[str, AttributeValue] = {}

    def __hash__(self) -> int:  # a dictionary has none
        return hash((self.start, self.end, self.label, self.score, tuple(sorted(self.attributes))))

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        # A span without attributes has the shape that spans had before there were any.
        fields = dump(self)
        if not fields.get("attributes"):
            fields.pop("attributes", None)
        return fields


class Relation(Plain):
    """A relation between two spans of a prediction: their indices, the label and its probability, 0 to 1."""

    head: int
    tail: int
    label: str
    score: float


class Answer(Plain):
    """text[start:end] answers a question; `score` is the probability of its start times that of its end, 0 to 1."""

    start: int
    end: int
    score: float


class Value(Plain):
    """A number for a whole text, and the lowest and highest one of what its model was trained on."""

    value: float
    lowest: float
    highest: float

    @classmethod
    def at(cls, share: float, scale: tuple[float, float]) -> "Value":
        """The value at a share of the way from the lowest to the highest of a scale."""
        lowest, highest = scale
        return cls(value=lowest + (highest - lowest) * share, lowest=lowest, highest=highest)

    def __str__(self) -> str:
        """In words: "3.4 on a scale of 0 to 10", with as many decimals as the scale is worth."""
        width = self.highest - self.lowest
        decimals = max(0, 2 - math.floor(math.log10(width))) if width > 0 else 2
        return f"{self.value:.{min(decimals, 12)}f} on a scale of {self.lowest:g} to {self.highest:g}"


class LabelScore(Plain):
    """A label of the whole document with its probability.

    threshold: the probability from which the document has it, where a model has one for each of several labels.
    """

    label: str
    score: float
    threshold: float | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value is not None}


class Coverage(Plain):
    """How much of the text the model read, in word pieces without special tokens.

    `unread` lists [start, end) code-point ranges that no window contained. `seams` are the pieces from which on the
    next window is used. `reach` pairs each of CONTEXTS that is shorter than the text with the code point at which that
    many pieces end.
    """

    tokens: int
    tokens_read: int
    windows: int
    unread: tuple[tuple[int, int], ...] = ()
    seams: tuple[int, ...] = ()
    reach: tuple[tuple[int, int], ...] = ()


class Cost(Plain):
    """Wall time of one prediction in milliseconds, and word pieces read per second."""

    latency_ms: float
    tokens_per_second: float


class Prediction(Plain):
    """The answer of one arm. `label_set` is everything the model could have said (entity types or classes).

    relations: between the spans; None where no model was asked for them. labels: all labels for the whole document,
    most probable first. threshold: where a document may have several labels, the minimum probability of those that it
    has, whatever their own thresholds; None where it has exactly one, the first. answer: to the question, which is then
    the one span too; None where the model finds none in what it read. runner_up: the likeliest one elsewhere.
    no_answer: how likely it is that no window holds an answer; None for a model that is asked no question. value: of a
    model that gives the text a number; None of others, and where there was nothing to read.
    """

    model: str
    task: str
    spans: tuple[Span, ...] = ()
    relations: tuple[Relation, ...] | None = None
    labels: tuple[LabelScore, ...] = ()
    threshold: float | None = None
    answer: Answer | None = None
    runner_up: Answer | None = None
    no_answer: float | None = None
    value: Value | None = None
    coverage: Coverage
    cost: Cost
    label_set: tuple[str, ...] = ()

    @property
    def chosen(self) -> tuple[str, ...]:
        """The labels that the document has, most probable first."""
        if self.threshold is None:
            return tuple(label.label for label in self.labels[:1])
        return tuple(each.label for each in self.labels if each.score >= max(self.threshold, each.threshold or 0))

    def with_spans(self, keeps: Callable[[Span], bool], *, min_score: float = 0.0) -> "Prediction":
        """The prediction with some of its spans, and those relations between them that score at least `min_score`."""
        numbers = {old: new for new, old in enumerate(n for n, span in enumerate(self.spans) if keeps(span))}
        relations = self.relations and tuple(
            each.model_copy(update={"head": numbers[each.head], "tail": numbers[each.tail]})
            for each in self.relations
            if each.head in numbers and each.tail in numbers and each.score >= min_score
        )
        return self.model_copy(update={"spans": tuple(self.spans[old] for old in numbers), "relations": relations})

    def to_json(self, text: str | None = None) -> dict[str, Any]:
        """The public shape of `stillroom predict --json`: `relations` only where a model was asked for them,
        `threshold` only where a document may have several labels, and the fields of an answer only of a question.

        text: that was read; the words of answers are then among their fields.
        """
        hidden: dict[str, Any] = {"label_set": True, "coverage": {"seams", "reach"}}
        if self.threshold is None:
            hidden["threshold"] = True
        if self.relations is None:
            hidden["relations"] = True
        if self.no_answer is None:
            hidden |= dict.fromkeys(("answer", "runner_up", "no_answer"), True)
        if self.value is None:
            hidden["value"] = True
        fields = self.model_dump(mode="json", exclude=hidden)
        for name in ("answer", "runner_up"):
            if text is not None and fields.get(name):
                fields[name]["text"] = text[fields[name]["start"] : fields[name]["end"]]
        return fields
