"""Predictions on one note give a Comparison: how far the arms agree, and each place where they do not.

Arms that tag words are compared span by span, arms that label the whole note label by label; the two
kinds are never compared with each other.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from trainer.errors import BadSpec
from trainer.prediction import Plain, Prediction, Span
from trainer.tasks import TASKS, answers, marks_spans
from workbench.compare.agreement import comparable, differing_attributes, mean_agreement, span_key


class Disagreement(Plain):
    """A region text[start:end] where arms that could agree do not; start and end are None where it is the whole note.

    `votes` maps an arm to its label there, or to None where it found nothing; an arm whose label set has none of the
    labels in question has no vote. `unread` names the arms that found nothing because they did not read all of it.
    `attributes`: where the arms found the same and differ in an attribute, such as the assertion, the value that each
    arm gives, by arm and attribute.
    """

    start: int | None
    end: int | None
    votes: dict[str, str | None]
    unread: tuple[str, ...] = ()
    attributes: dict[str, dict[str, str]] = {}

    @property
    def kind(self) -> str:
        """One of KINDS.

        document: about the whole note. only: an arm that read the region found nothing in it. label: different labels.
        boundary: the same label with different boundaries. attribute: the same label and boundaries with different
        attributes. unread: every arm that found nothing has not read it all.
        """
        if self.start is None:
            return "document"
        if self.attributes:
            return "attribute"
        silent = {arm for arm, label in self.votes.items() if label is None}
        if silent:
            return "unread" if silent <= set(self.unread) else "only"
        return "boundary" if len(set(self.votes.values())) == 1 else "label"

    @property
    def place(self) -> tuple[int, int]:
        """Start and end of the region. Raises ValueError if the disagreement is about the whole note."""
        if self.start is None or self.end is None:
            raise ValueError("a disagreement about the whole note has no place in it")
        return self.start, self.end

    def to_json(self) -> dict[str, Any]:
        """The public shape; `attributes` only where these differ."""
        hidden = {"unread"} if self.attributes else {"unread", "attributes"}
        return self.model_dump(mode="json", exclude=hidden)


class Group(NamedTuple):
    """Disagreements of one kind, as indices into the comparison's.

    `arms` are those that found something where another did not ("only"), or those that did not read it ("unread");
    empty for the other kinds. `attributes` are those that differ, if the kind is "attribute".
    """

    kind: str
    arms: tuple[str, ...]
    indices: tuple[int, ...]
    attributes: tuple[str, ...] = ()


KINDS = ("document", "only", "label", "attribute", "boundary", "unread")  # in the order shown


class Comparison(Plain):
    """Predictions of several arms on one note, and how they differ; or the prediction of one, for its exports.

    `agreement` is the mean of span_f1 or label_agreement over pairs of arms; None where no pair has anything to agree
    on, and then `no_agreement` says why.
    """

    predictions: tuple[Prediction, ...]
    agreement: float | None
    disagreements: tuple[Disagreement, ...]

    @property
    def no_agreement(self) -> str | None:
        """Why there is no agreement figure, as a sentence; None where there is one, and for a single model."""
        if self.agreement is not None or len(self.predictions) < 2:
            return None
        pairs = [(one, other) for one, other in combinations(self.predictions, 2) if comparable(one, other)]
        if not pairs and any(answers(prediction.task) == "answer" for prediction in self.predictions):
            return "One model answers a question, the other does not: nothing to compare."
        if any(answers(one.task) == "value" for one, _ in pairs):
            return "These models give values on different scales, or had nothing to read: nothing to compare."
        if not pairs and any(answers(prediction.task) == "value" for prediction in self.predictions):
            return "One model gives the note a value, the other does not: nothing to compare."
        if not pairs and any(TASKS[prediction.task].predicts == "roles" for prediction in self.predictions):
            return "One model tells what each sentence does, the other does not: nothing to compare."
        if not pairs:
            return "One model marks words, the other labels the whole note: nothing to compare."
        if not any(set(one.label_set) & set(other.label_set) for one, other in pairs):
            return "These models have no label in common: nothing to compare."
        if not any(arm.coverage.tokens_read for arm in self.predictions):
            return "There was nothing in the note to read: nothing to compare."
        return "No model found any of the labels they share: nothing to compare."

    def to_json(self, text: str | None = None) -> dict[str, Any]:
        """The public shape of `stillroom compare --json`; `no_agreement` only where `agreement` is null.

        text: as for Prediction.to_json.
        """
        return {
            "predictions": [prediction.to_json(text) for prediction in self.predictions],
            "agreement": self.agreement,
            "disagreements": [disagreement.to_json() for disagreement in self.disagreements],
        } | ({} if self.agreement is not None else {"no_agreement": self.no_agreement})


def compare(predictions: Sequence[Prediction]) -> Comparison:
    """Compare predictions on the same note. BadSpec for fewer than two, and where two have the same name."""
    names = [prediction.model for prediction in predictions]
    if len(names) < 2:
        raise BadSpec([("model", f"found {len(names)}; a comparison needs two or more")])
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise BadSpec([("model", f"{', '.join(repeated)} is given twice; each arm needs its own name")])
    return Comparison(
        predictions=tuple(predictions),
        agreement=mean_agreement(predictions),
        disagreements=(*_document_disagreements(predictions), *_span_disagreements(predictions)),
    )


def spans_agreed(comparison: Comparison, arm: Prediction) -> list[bool | None]:
    """For each span of an arm: whether every other arm with its label found the same span, and gives each attribute
    that both have the same value; None where no arm has the label.
    """
    others = [other for other in comparison.predictions if marks_spans(other.task) and other.model != arm.model]
    by_key = [(other.label_set, {span_key(span): span for span in other.spans}) for other in others]

    def is_agreed(span: Span) -> bool | None:
        same = [spans.get(span_key(span)) for labels, spans in by_key if span.label in labels]
        if not same:
            return None
        return all(other is not None and not differing_attributes([span, other]) for other in same)

    return list(map(is_agreed, arm.spans))


def group_by_kind(comparison: Comparison) -> list[Group]:
    """The disagreements by kind and, where it matters, by arm; those in a group in the order of the note."""
    order = [prediction.model for prediction in comparison.predictions]
    groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[int]] = {}
    for index, disagreement in enumerate(comparison.disagreements):
        names = tuple(sorted({name for values in disagreement.attributes.values() for name in values}))
        groups.setdefault((disagreement.kind, _arms_concerned(disagreement), names), []).append(index)
    places = {key: (KINDS.index(key[0]), len(key[1]), [order.index(arm) for arm in key[1]], key[2]) for key in groups}
    return [
        Group(kind, arms, tuple(groups[kind, arms, names]), names)
        for kind, arms, names in sorted(groups, key=places.__getitem__)
    ]


def _arms_concerned(disagreement: Disagreement) -> tuple[str, ...]:
    if disagreement.kind == "only":
        return tuple(arm for arm, label in disagreement.votes.items() if label is not None)
    return disagreement.unread if disagreement.kind == "unread" else ()


def _document_disagreements(predictions: Sequence[Prediction]) -> Iterable[Disagreement]:
    """One where all arms give exactly one label; otherwise one per label that some arms give and others do not."""
    labelling = [arm for arm in predictions if answers(arm.task) == "labels" and arm.labels]
    arms = [
        arm
        for arm in labelling
        if any(set(arm.label_set) & set(other.label_set) for other in labelling if other is not arm)
    ]
    if all(arm.threshold is None for arm in arms):
        groups = [{label for arm in arms for label in arm.chosen}]
    else:
        groups = [{label} for label in sorted({label for arm in arms for label in arm.chosen})]
    for labels in groups:
        votes = {
            arm.model: next((label for label in arm.chosen if label in labels), None)
            for arm in arms
            if labels & set(arm.label_set)
        }
        if len(set(votes.values())) > 1:
            yield Disagreement(start=None, end=None, votes=votes)


def _span_disagreements(predictions: Sequence[Prediction]) -> Iterable[Disagreement]:
    """Those between arms that can be compared, in the order of the note."""
    groups: dict[str, list[Prediction]] = {}
    for arm in predictions:
        groups.setdefault(TASKS[arm.task].predicts, []).append(arm)
    by_group = [each for group in groups.values() for each in _group_disagreements(group)]
    return sorted(by_group, key=lambda each: (each.start or 0, each.end or 0))


def _group_disagreements(predictions: Sequence[Prediction]) -> Iterable[Disagreement]:
    for region in _regions(predictions):
        labels = {span.label for spans in region for span in spans}
        voters = [
            (arm, spans)
            for arm, spans in zip(predictions, region, strict=True)
            if marks_spans(arm.task) and labels & ({span.label for span in spans} | set(arm.label_set))
        ]
        if len(voters) < 2:
            continue
        if len({frozenset(map(span_key, spans)) for _, spans in voters}) < 2:
            yield from _attribute_disagreements(voters)
            continue
        start = min(span.start for spans in region for span in spans)
        end = max(span.end for spans in region for span in spans)
        yield Disagreement(
            start=start,
            end=end,
            votes={arm.model: _vote(spans) for arm, spans in voters},
            unread=tuple(arm.model for arm, spans in voters if not spans and _left_unread(arm, start, end)),
        )


def _attribute_disagreements(voters: Sequence[tuple[Prediction, Sequence[Span]]]) -> Iterable[Disagreement]:
    """Of arms that found the same spans, those spans whose attributes differ."""
    by_key = [{span_key(span): span for span in spans} for _, spans in voters]
    for key in sorted(by_key[0]):
        same = [spans[key] for spans in by_key]
        if names := differing_attributes(same):
            values = [{name: span.attributes[name].value for name in names if name in span.attributes} for span in same]
            arms = [arm.model for arm, _ in voters]
            yield Disagreement(
                start=key[0],
                end=key[1],
                votes=dict.fromkeys(arms, key[2]),
                attributes={arm: each for arm, each in zip(arms, values, strict=True) if each},
            )


def _regions(predictions: Sequence[Prediction]) -> Iterable[list[list[Span]]]:
    """The spans of all arms in groups that overlap, directly or through others; each region lists them arm by arm."""
    spans = sorted(
        ((span, arm) for arm, prediction in enumerate(predictions) for span in prediction.spans),
        key=lambda item: (item[0].start, item[0].end, item[1]),
    )
    region: list[list[Span]] = []
    end = 0
    for span, arm in spans:
        if region and span.start >= end:
            yield region
            region = []
        region = region or [[] for _ in predictions]
        end = max(end, span.end) if any(region) else span.end
        region[arm].append(span)
    if region:
        yield region


def _vote(spans: Sequence[Span]) -> str | None:
    """The label that covers most of the region; ties go to the higher score, then to the earlier span."""
    if not spans:
        return None
    weights: dict[str, tuple[int, float]] = {}  # label: (characters covered, highest score)
    for span in spans:
        length, score = weights.get(span.label, (0, 0.0))
        weights[span.label] = (length + span.end - span.start, max(score, span.score))
    return max(weights, key=weights.__getitem__)


def _left_unread(arm: Prediction, start: int, end: int) -> bool:
    """Whether the arm did not read all of text[start:end]."""
    return any(gap_start < end and start < gap_end for gap_start, gap_end in arm.coverage.unread)
