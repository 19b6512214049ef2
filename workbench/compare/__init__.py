"""Predictions on one note give a Comparison: how far the arms agree, and each place where they do not.

Arms that tag words are compared span by span, arms that label the whole note label by label; one kind is never held
against the other.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from trainer.errors import BadSpec
from trainer.prediction import Plain, Prediction, Span
from trainer.tasks import answers
from workbench.compare.filters import Filter, filtered


class Disagreement(Plain):
    """A region text[start:end] where arms that could agree do not; the whole note where both ends are None.

    `votes` has an arm's label there, None where it saw nothing, and no key where its label set has none of the labels
    in question. `unread` names the arms whose None means only that they did not read the whole region.
    """

    start: int | None
    end: int | None
    votes: dict[str, str | None]
    unread: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """boundary: one label, other borders; label: other labels; only: some arm has nothing; unread: as `unread`;
        document: of the whole note.
        """
        if self.start is None:
            return "document"
        silent = {arm for arm, label in self.votes.items() if label is None}
        if silent:
            return "unread" if silent <= set(self.unread) else "only"
        return "boundary" if len(set(self.votes.values())) == 1 else "label"

    def to_json(self) -> dict:
        """The public shape."""
        return self.model_dump(mode="json", exclude={"unread"})


class Group(NamedTuple):
    """Disagreements of one kind, by their place in the comparison. `arms` are those that alone found something, or
    those that did not read it; none for the other kinds.
    """

    kind: str
    arms: tuple[str, ...]
    items: tuple[int, ...]


KINDS = ("document", "only", "label", "boundary", "unread")  # in the order in which they are shown


class Comparison(Plain):
    """`agreement` is the mean over pairs of arms of span_f1 or label_agreement; None where no pair has anything to
    agree on, and `no_agreement` says why.
    """

    predictions: tuple[Prediction, ...]
    agreement: float | None
    disagreements: tuple[Disagreement, ...]

    @property
    def no_agreement(self) -> str | None:
        """Why there is no figure of agreement, as a sentence; None where there is one."""
        if self.agreement is not None:
            return None
        pairs = [(one, other) for one, other in combinations(self.predictions, 2) if _comparable(one, other)]
        if not pairs:
            return "One model marks words, the other labels the whole note: nothing to compare."
        if not any(set(one.label_set) & set(other.label_set) for one, other in pairs):
            return "These models have no label in common: nothing to compare."
        if not any(arm.coverage.tokens_read for arm in self.predictions):
            return "There was nothing to read: nothing to compare."
        return "No model found any of the labels that they share: nothing to compare."

    def to_json(self) -> dict:
        """The public shape of `stillroom compare --json`; `no_agreement` only where `agreement` is null."""
        return {
            "predictions": [prediction.to_json() for prediction in self.predictions],
            "agreement": self.agreement,
            "disagreements": [item.to_json() for item in self.disagreements],
        } | ({} if self.agreement is not None else {"no_agreement": self.no_agreement})


def compare(predictions: Sequence[Prediction]) -> Comparison:
    """Compare two or more predictions on the same note. BadSpec unless there are two, all named differently."""
    names = [prediction.model for prediction in predictions]
    if len(names) < 2:
        raise BadSpec([("model", f"found {len(names)}; a comparison needs two or more")])
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadSpec([("model", f"{', '.join(twice)} is given twice; each arm needs a name of its own")])
    return Comparison(
        predictions=tuple(predictions),
        agreement=_mean(_agreement(*pair) for pair in combinations(predictions, 2)),
        disagreements=(*_document_disagreements(predictions), *_disagreements(predictions)),
    )


def agreed(comparison: Comparison, arm: Prediction) -> list[bool | None]:
    """Of each span of an arm, whether every arm that could say its label has it too; None where no other arm could."""
    others = [other for other in comparison.predictions if answers(other.task) == "spans" and other.model != arm.model]
    known = [(other.label_set, set(map(_place, other.spans))) for other in others]

    def same(span: Span) -> bool | None:
        said = [_place(span) in places for labels, places in known if span.label in labels]
        return all(said) if said else None

    return list(map(same, arm.spans))


def grouped(comparison: Comparison) -> list[Group]:
    """The disagreements by kind, those that one arm alone found by that arm; in a group in the order of the note."""
    order = [prediction.model for prediction in comparison.predictions]
    found: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for number, region in enumerate(comparison.disagreements):
        found.setdefault((region.kind, _concerned(region)), []).append(number)
    places = {key: (KINDS.index(key[0]), len(key[1]), [order.index(arm) for arm in key[1]]) for key in found}
    return [Group(*key, items=tuple(found[key])) for key in sorted(found, key=places.__getitem__)]


def _concerned(region: Disagreement) -> tuple[str, ...]:
    if region.kind == "only":
        return tuple(arm for arm, label in region.votes.items() if label is not None)
    return region.unread if region.kind == "unread" else ()


def span_f1(one: Prediction, other: Prediction) -> float | None:
    """F1 of one arm's spans against the other's, 0 to 1: 2 |both| / (|one| + |other|), symmetric.

    A span counts as found by both when start, end and label are equal. Only labels that both arms can say count; None
    where there are none, and where neither found anything. It equals the F-measure that Hripcsak and Rothschild (2005,
    JAMIA 12:296) show to be what kappa tends to for spans, where true negatives cannot be counted.
    """
    common = set(one.label_set) & set(other.label_set)
    if not common:
        return None
    first, second = ({_place(span) for span in arm.spans if span.label in common} for arm in (one, other))
    return 2 * len(first & second) / (len(first) + len(second)) if first or second else None


def label_agreement(one: Prediction, other: Prediction) -> float | None:
    """How far two arms give a note the same labels, 0 to 1, symmetric.

    Where both give exactly one: 1 if it is the same, else 0; the mean over pairs is then the share that agrees.
    Otherwise Jaccard's index of what is given, |both| / |either|, of the labels that both can say. None where no label
    is common, neither arm gives any, or an arm had nothing to read.
    """
    common = set(one.label_set) & set(other.label_set)
    if not common or not one.labels or not other.labels:
        return None
    first, second = set(one.chosen), set(other.chosen)
    if one.threshold is None and other.threshold is None:
        return float(first == second)
    first, second = first & common, second & common
    return len(first & second) / len(first | second) if first or second else None


# By what the models answer.
AGREEMENTS: dict[str | None, Callable[[Prediction, Prediction], float | None]] = {
    "spans": span_f1,
    "labels": label_agreement,
}


class AgreementRow(NamedTuple):
    """Agreement on one label, or on all where `label` is None: of each pair of arms, and the mean of those that have
    one. None where a pair has nothing to agree on.
    """

    label: str | None
    pairs: tuple[float | None, ...]
    mean: float | None


def pairs_of(predictions: Sequence[Prediction]) -> list[tuple[int, int]]:
    """The pairs of arms, by their places, in the order of an AgreementRow's figures."""
    return list(combinations(range(len(predictions)), 2))


def agreement_rows(predictions: Sequence[Prediction]) -> list[AgreementRow]:
    """Agreement on all labels, then on each label that some arm gave to a span, in alphabetical order."""
    labels = sorted({span.label for arm in predictions for span in arm.spans})
    one_label = ([filtered(arm, Filter(labels=(label,))) for arm in predictions] for label in labels)
    return [_row(None, predictions), *map(_row, labels, one_label)]


def _row(label: str | None, predictions: Sequence[Prediction]) -> AgreementRow:
    figures = tuple(
        _agreement(one, other) if label is None or answers(one.task) == "spans" else None
        for one, other in combinations(predictions, 2)
    )
    return AgreementRow(label, figures, _mean(figures))


def _agreement(one: Prediction, other: Prediction) -> float | None:
    return AGREEMENTS[answers(one.task)](one, other) if _comparable(one, other) else None


def _comparable(one: Prediction, other: Prediction) -> bool:
    return answers(one.task) == answers(other.task)


def _mean(figures: Iterable[float | None]) -> float | None:
    shared = [figure for figure in figures if figure is not None]
    return sum(shared) / len(shared) if shared else None


def _document_disagreements(predictions: Sequence[Prediction]) -> Iterable[Disagreement]:
    """One for the labels of arms that each give one; or one for each label that some arm gives and another does not."""
    said = [arm for arm in predictions if answers(arm.task) == "labels" and arm.labels]
    arms = [arm for arm in said if any(set(arm.label_set) & set(other.label_set) for other in said if other is not arm)]
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


def _disagreements(predictions: Sequence[Prediction]) -> Iterable[Disagreement]:
    for region in _regions(predictions):
        labels = {span.label for spans in region for span in spans}
        voters = [
            (arm, spans)
            for arm, spans in zip(predictions, region, strict=True)
            if answers(arm.task) == "spans" and labels & ({span.label for span in spans} | set(arm.label_set))
        ]
        if len(voters) < 2 or len({frozenset(map(_place, spans)) for _, spans in voters}) < 2:
            continue
        start = min(span.start for spans in region for span in spans)
        end = max(span.end for spans in region for span in spans)
        yield Disagreement(
            start=start,
            end=end,
            votes={arm.model: _vote(spans) for arm, spans in voters},
            unread=tuple(arm.model for arm, spans in voters if not spans and _unread(arm, start, end)),
        )


def _regions(predictions: Sequence[Prediction]) -> Iterable[list[list[Span]]]:
    """Spans that overlap, across arms and in chains, belong to one region; each region lists them arm by arm."""
    found = sorted(
        ((span, arm) for arm, prediction in enumerate(predictions) for span in prediction.spans),
        key=lambda item: (item[0].start, item[0].end, item[1]),
    )
    region: list[list[Span]] = []
    end = 0
    for span, arm in found:
        if region and span.start >= end:
            yield region
            region = []
        region = region or [[] for _ in predictions]
        end = max(end, span.end) if any(region) else span.end
        region[arm].append(span)
    if region:
        yield region


def _vote(spans: Sequence[Span]) -> str | None:
    """The label that covers most of the region; the higher score, then the earlier span, decides between equals."""
    if not spans:
        return None
    weight: dict[str, tuple[int, float]] = {}
    for span in spans:
        length, score = weight.get(span.label, (0, 0.0))
        weight[span.label] = (length + span.end - span.start, max(score, span.score))
    return max(weight, key=weight.__getitem__)


def _unread(arm: Prediction, start: int, end: int) -> bool:
    return any(a < end and start < b for a, b in arm.coverage.unread)


def _place(span: Span) -> tuple[int, int, str]:
    return span.start, span.end, span.label
