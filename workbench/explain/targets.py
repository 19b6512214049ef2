"""What is explained: a span of the text, a value of its attribute, the role of a sentence, an answer to a question, a
relation of two spans, or a label of the whole text.

A target says which logits its score is made of, and which compete with them.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar, TypedDict

import numpy as np

from trainer.datasets import attributes, tags
from trainer.datasets.readers.questions import ANSWER
from trainer.datasets.rows.candidates import Candidate, Marked, Mention, PairReading, mark, pair_mentions
from trainer.datasets.rows.pieces import Pieces
from trainer.datasets.rows.sentences import first_pieces, sentence_places
from trainer.datasets.rows.words import Alignment
from trainer.errors import BadSpec, UnknownName
from trainer.prediction import Plain, Prediction, Span
from trainer.tasks import TASKS, answers
from trainer.zoo.outputs import VALUE_NAME

_RELATION = re.compile(r"(\d{1,9}):(\d{1,9}):([^>]{1,200})>(\d{1,9}):(\d{1,9}):([^:]{1,200}):(.{1,200})", re.S)
_SPAN = re.compile(r"(\d{1,9}):(\d{1,9}):(.{1,200})", re.S)
LIST_THEM = "`stillroom explain` without --target lists what the model found, written as targets."


class SpanTarget(Plain):
    """text[start:end] is an entity of type `label`, whether the model found it or not; written START:END:LABEL.

    Its score is the mean over the span's words, read at the piece that carries the word's tag, of the log-odds that the
    word has the label: log p - log(1 - p). B- and I- tags of the label count together, since a reader does not ask
    about boundaries.
    """

    answers: ClassVar[str] = "spans"
    written: ClassVar[str] = "marks spans: write START:END:LABEL"
    pooled: ClassVar[bool] = False
    start: int
    end: int
    label: str

    def __str__(self) -> str:
        return f"{self.start}:{self.end}:{self.label}"

    def columns(self, names: Sequence[str]) -> list[int]:
        """The model's outputs for the label. UnknownName if it has none."""
        scheme = tags.read(names)
        if self.label not in scheme.kinds:
            raise UnknownName("label of this model", self.label, scheme.kinds, next_step=LIST_THEM)
        return scheme.columns(self.label)

    def competing(self, names: Sequence[str]) -> list[int]:
        """The outputs that share the probability with these columns: the tags, without the values of attributes."""
        return list(range(len(tags.read(names).names)))

    def check(self, text: str) -> None:
        """BadSpec if the span is not within the text."""
        if not 0 <= self.start < self.end <= len(text):
            problem = f"found {self.start}:{self.end}; the text has {len(text):,} characters, and START is before END"
            raise BadSpec([("target", problem)], next_step=LIST_THEM)

    def places(self, words: Alignment) -> list[int]:
        """The pieces that carry the tags of the words that the span touches."""
        touched = (words.words.starts < self.end) & (words.words.ends > self.start)
        pieces = np.unique(words.speaker[touched & (words.speaker >= 0)])
        if not len(pieces):
            problem = f"found {self.start}:{self.end}, where the model reads no word"
            raise BadSpec([("target", problem)], next_step=LIST_THEM)
        return [int(piece) for piece in pieces]


class AttributeTarget(SpanTarget):
    """text[start:end] has a value of an attribute, such as absent of assertion; written START:END:@ATTRIBUTE=VALUE.

    Its score is the log-odds of the value among the values of that attribute, of the mean of the logits of the span's
    words, which is how inference decides. `label` is the name of the output, "@assertion=absent".
    """

    pooled: ClassVar[bool] = True

    @property
    def value(self) -> str:
        """The value alone."""
        return attributes.split(self.label)[1]

    def columns(self, names: Sequence[str]) -> list[int]:
        """The model's output for the value. UnknownName if it has none."""
        if self.label not in names:
            known = [name for name in names if name.startswith("@")]
            raise UnknownName("value of an attribute of this model", self.label, known, next_step=LIST_THEM)
        return [list(names).index(self.label)]

    def competing(self, names: Sequence[str]) -> list[int]:
        """The outputs of all values of the attribute."""
        attribute = attributes.split(self.label)[0]
        return [place for place, name in enumerate(names) if attributes.split(name)[0] == attribute]


class SentenceTarget(SpanTarget):
    """The sentence that holds text[start] has the role `label`, whether the model gives it or not; START:END:LABEL.

    Its score is the log-odds of the role among all roles at the first word piece of the sentence (inference.roles).
    """

    written: ClassVar[str] = "gives sentences roles: write START:END:LABEL"

    def columns(self, names: Sequence[str]) -> list[int]:
        """The model's output for the role. UnknownName if it has none."""
        return LabelTarget(label=self.label).columns(names)

    def competing(self, names: Sequence[str]) -> list[int]:
        """All roles."""
        return list(range(len(names)))

    def pieces(self, text: str, read: Pieces) -> list[int]:
        """The first piece of the sentence. BadSpec where the model reads none of its pieces."""
        places = sentence_places(text)
        [number] = np.searchsorted(places[:, 1], [self.start], side="right")
        if number < len(places):
            [piece] = first_pieces(places, read.starts, read.ends)[[number]]
            if piece >= 0:
                return [int(piece)]
        problem = f"found {self.start}:{self.end}, where the model reads no sentence"
        raise BadSpec([("target", problem)], next_step=LIST_THEM)


class AnswerTarget(SpanTarget):
    """text[start:end] answers the question, whether the model gives it or not; written START:END:answer.

    Its score is the mean of the log-odds that the answer starts at its first piece and ends at its last, each among the
    places of the window; its probability is the product of both, the score of an answer (inference.answers).
    """

    answers: ClassVar[str] = "answer"
    written: ClassVar[str] = f"answers questions: write START:END:{ANSWER}"

    def columns(self, names: Sequence[str]) -> list[int]:
        """Both outputs: start and end."""
        return list(range(len(names)))

    def competing(self, names: Sequence[str]) -> list[int]:
        """None: places compete, not outputs."""
        return []

    def places(self, words: Alignment) -> list[int]:
        """Where it starts and ends is found in the pieces, not in words (datasets.rows.questions.find_pieces)."""
        return []


class LabelTarget(Plain):
    """The whole text has the label; written LABEL. Its score is the log-odds of the label.

    The first token of a window gives it for the whole window, so every piece may count.
    """

    answers: ClassVar[str] = "labels"
    written: ClassVar[str] = "labels whole texts: write LABEL"
    pooled: ClassVar[bool] = False
    label: str

    def __str__(self) -> str:
        return self.label

    def columns(self, names: Sequence[str]) -> list[int]:
        """The model's output for the label. UnknownName if it has none."""
        if self.label not in names:
            raise UnknownName("label of this model", self.label, names, next_step=LIST_THEM)
        return [list(names).index(self.label)]

    def competing(self, names: Sequence[str]) -> list[int]:
        """All outputs."""
        return list(range(len(names)))

    def check(self, text: str) -> None:
        """Any text can have a label."""

    def places(self, words: Alignment) -> list[int]:
        """No pieces of its own: a label belongs to the whole text."""
        return []


class ValueTarget(LabelTarget):
    """The value of the whole text; written value. Its score is the value itself, as a share of the model's scale."""

    answers: ClassVar[str] = "value"
    written: ClassVar[str] = f"gives the text a value: write {VALUE_NAME}"


class RelationTarget(LabelTarget):
    """Two mentions are related in this way; written START:END:TYPE>START:END:TYPE:LABEL, the head first.

    Its score is the log-odds of the label in the passage that both are in. The marks around the mentions stay.
    """

    answers: ClassVar[str] = "relations"
    written: ClassVar[str] = "labels relations: write START:END:TYPE>START:END:TYPE:LABEL"
    head: Mention
    tail: Mention

    def __str__(self) -> str:
        head, tail = (f"{each.start}:{each.end}:{each.label}" for each in (self.head, self.tail))
        return f"{head}>{tail}:{self.label}"

    @classmethod
    def of(cls, ends: Sequence[Span], label: str) -> "RelationTarget":
        """The target for a relation between two spans, the head first."""
        head, tail = (Mention(each.start, each.end, each.label) for each in ends)
        return cls(head=head, tail=tail, label=label)

    def check(self, text: str) -> None:
        """BadSpec if one of the mentions is not within the text."""
        for each in (self.head, self.tail):
            SpanTarget(start=each.start, end=each.end, label=each.label).check(text)

    def passage(self, text: str, reading: PairReading) -> tuple[Candidate, Marked]:
        """The pair in its text, and its passage with both mentions marked. BadSpec if the model reads no such pair."""
        pairs = pair_mentions(text, [self.head, self.tail], reading)
        nearest = next((pair for pair in pairs if pair.pair == (0, 1)), None)
        if nearest is None:
            known = ", ".join(f"{each.head}>{each.tail}" for each in reading.types[:12])
            apart = f"within {reading.max_sentences:,} sentence{'s' * (reading.max_sentences > 1)}"
            problem = f"found {self.head.label}>{self.tail.label}; this model relates {known}, {apart}"
            raise BadSpec([("target", problem)], next_step=LIST_THEM)
        return nearest, mark(nearest, reading.mentions)


class FoundTarget(TypedDict):
    """A target in writing, and the model's score for it."""

    target: str
    score: float


# AttributeTarget, SentenceTarget and AnswerTarget are SpanTargets, a RelationTarget is a LabelTarget.
Target = SpanTarget | LabelTarget
TARGETS: dict[str | None, type[SpanTarget] | type[LabelTarget]] = {
    kind.answers: kind for kind in (SpanTarget, LabelTarget, RelationTarget, AnswerTarget, ValueTarget)
}


def parse(text: str) -> Target:
    """The target that a person wrote: START:END:LABEL or START:END:@ATTRIBUTE=VALUE in code points, LABEL, or
    START:END:TYPE>START:END:TYPE:LABEL.

    BadSpec if it is empty.
    """
    if match := _RELATION.fullmatch(text.strip()):
        ends = [Mention(int(match[at]), int(match[at + 1]), match[at + 2]) for at in (1, 4)]
        return RelationTarget(head=ends[0], tail=ends[1], label=match[7])
    if match := _SPAN.fullmatch(text.strip()):
        kind = AttributeTarget if attributes.split(match[3])[0] else SpanTarget
        return kind(start=int(match[1]), end=int(match[2]), label=match[3])
    if not text.strip():
        raise BadSpec([("target", "found nothing; write START:END:LABEL or LABEL")], next_step=LIST_THEM)
    return LabelTarget(label=text.strip())


def order(target: Target) -> tuple[int, int, bool]:
    """A key to sort by: in the order of the note, labels of the whole note first, an attribute after its span."""
    if not isinstance(target, SpanTarget):
        return -1, 0, False
    return target.start, target.end, isinstance(target, AttributeTarget)


def list_targets(prediction: Prediction) -> list[FoundTarget]:
    """What a prediction found, as targets, highest score first; the values of attributes after the spans."""
    spans, values = [], []
    for span in prediction.spans:
        place = f"{span.start}:{span.end}"
        spans.append(FoundTarget(target=f"{place}:{span.label}", score=span.score))
        for name, each in span.attributes.items():
            output = attributes.output_name(name, each.value)
            values.append(FoundTarget(target=f"{place}:{output}", score=each.score))
    labels = [FoundTarget(target=label.label, score=label.score) for label in prediction.labels]
    if prediction.value:
        labels.append(FoundTarget(target=VALUE_NAME, score=prediction.value.value))
    by_score = [sorted(each, key=lambda target: -target["score"]) for each in (spans + labels, values)]
    return by_score[0] + by_score[1]


def as_asked(target: Target, model: Any) -> Target:
    """The target as a model that answers questions, or gives roles or values, reads it; any other stays."""
    from trainer import inference

    if type(target) is SpanTarget:
        task = TASKS[inference.task(model)]
        if task.predicts == "roles":
            return SentenceTarget(**target.model_dump())
        if task.answers == "answer" and target.label == ANSWER:
            return AnswerTarget(**target.model_dump())
    if type(target) is LabelTarget and answers(inference.task(model)) == "value":
        return ValueTarget(**target.model_dump())
    return target


def require_task(target: Target, model: Any) -> list[str]:
    """The model's label names. BadSpec if the target is not of the kind that the model answers."""
    from trainer import inference

    if target.answers != (answered := answers(inference.task(model))):
        how = TARGETS[answered].written
        raise BadSpec([("target", f"found {str(target)!r:.80}; this model {how}")], next_step=LIST_THEM)
    return inference.output_names(model)
