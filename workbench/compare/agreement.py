"""How far the arms agree: on spans or on labels of the whole note, per pair of arms and per label."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from trainer.prediction import Prediction, Span
from trainer.tasks import TASKS, answers, marks_spans
from workbench.compare.filters import Filter, apply_filter


def span_f1(one: Prediction, other: Prediction) -> float | None:
    """F1 of one arm's spans against the other's, 0 to 1: 2 |both| / (|one| + |other|), symmetric.

    Two spans are the same when start, end and label are equal and no attribute, such as the assertion, differs. Only
    labels in both label sets count. None where there are no such labels, and where neither arm found one. It equals
    the F-measure of Hripcsak and Rothschild (2005, JAMIA 12:296), which they show to be the limit of kappa for spans,
    where true negatives cannot be counted.
    """
    common = set(one.label_set) & set(other.label_set)
    if not common:
        return None
    first, second = ({span_key(span): span for span in arm.spans if span.label in common} for arm in (one, other))
    both = sum(not differing_attributes([first[key], second[key]]) for key in first.keys() & second.keys())
    return 2 * both / (len(first) + len(second)) if first or second else None


def label_agreement(one: Prediction, other: Prediction) -> float | None:
    """How far two arms give a note the same labels, 0 to 1, symmetric.

    Where both give exactly one label: 1 if it is the same, else 0; the mean over pairs is then the share that agrees.
    Otherwise the Jaccard index of the labels given, |both| / |either|, over labels in both label sets. None where the
    label sets have nothing in common, neither arm gives a label, or an arm had nothing to read.
    """
    common = set(one.label_set) & set(other.label_set)
    if not common or not one.labels or not other.labels:
        return None
    first, second = set(one.chosen), set(other.chosen)
    if one.threshold is None and other.threshold is None:
        return float(first == second)
    first, second = first & common, second & common
    return len(first & second) / len(first | second) if first or second else None


def answer_agreement(one: Prediction, other: Prediction) -> float | None:
    """How far two arms give the same answer to a question, 0 to 1, symmetric: F1 over its characters, 1 where neither
    gives one. None where an arm had nothing to read.
    """
    if not one.coverage.tokens_read or not other.coverage.tokens_read:
        return None
    if one.answer is None or other.answer is None:
        return float(one.answer == other.answer)
    shared = min(one.answer.end, other.answer.end) - max(one.answer.start, other.answer.start)
    lengths = sum(each.end - each.start for each in (one.answer, other.answer))
    return 2 * max(0, shared) / lengths


def value_agreement(one: Prediction, other: Prediction) -> float | None:
    """How near two values are, 0 to 1, symmetric: 1 less their difference as a share of the scale, at least 0.

    None where the scales differ, or an arm had nothing to read.
    """
    if one.value is None or other.value is None:
        return None
    lowest, highest = one.value.lowest, one.value.highest
    if (lowest, highest) != (other.value.lowest, other.value.highest) or lowest == highest:
        return None
    return max(0.0, 1 - abs(one.value.value - other.value.value) / (highest - lowest))


# By what the models answer.
AGREEMENTS: dict[str | None, Callable[[Prediction, Prediction], float | None]] = {
    "spans": span_f1,
    "labels": label_agreement,
    "answer": answer_agreement,
    "value": value_agreement,
}


class AgreementRow(NamedTuple):
    """Agreement on one label, or on all of them where `label` is None.

    `pairs` has a figure per pair of arms, None where a pair has nothing to agree on; `mean` is over the other pairs.
    """

    label: str | None
    pairs: tuple[float | None, ...]
    mean: float | None


def arm_pairs(predictions: Sequence[Prediction]) -> list[tuple[int, int]]:
    """The pairs of arms, as indices of `predictions`, in the order of an AgreementRow's figures."""
    return list(combinations(range(len(predictions)), 2))


def agreement_rows(predictions: Sequence[Prediction]) -> list[AgreementRow]:
    """Agreement on all labels, then on each label that some arm gave to a span, in alphabetical order."""
    labels = sorted({span.label for arm in predictions for span in arm.spans})
    one_label = ([apply_filter(arm, Filter(labels=(label,))) for arm in predictions] for label in labels)
    return [_row(None, predictions), *map(_row, labels, one_label)]


def _row(label: str | None, predictions: Sequence[Prediction]) -> AgreementRow:
    figures = tuple(
        pair_agreement(one, other) if label is None or marks_spans(one.task) else None
        for one, other in combinations(predictions, 2)
    )
    return AgreementRow(label, figures, _mean(figures))


def mean_agreement(predictions: Sequence[Prediction]) -> float | None:
    """The mean over pairs of arms; None where no pair has anything to agree on."""
    return _mean(pair_agreement(*pair) for pair in combinations(predictions, 2))


def pair_agreement(one: Prediction, other: Prediction) -> float | None:
    """Agreement of two arms, 0 to 1; None where they have nothing to agree on."""
    return AGREEMENTS[answers(one.task)](one, other) if comparable(one, other) else None


def comparable(one: Prediction, other: Prediction) -> bool:
    """Whether both arms mark words, give sentences roles, label the whole note, answer a question or give a value."""
    return TASKS[one.task].predicts == TASKS[other.task].predicts


def span_key(span: Span) -> tuple[int, int, str]:
    """What must be equal for two spans to be the same."""
    return span.start, span.end, span.label


def differing_attributes(spans: Sequence[Span]) -> list[str]:
    """The attributes for which some of these spans have different values; one that a span lacks is not different."""
    names = sorted({name for span in spans for name in span.attributes})
    values = {name: {span.attributes[name].value for span in spans if name in span.attributes} for name in names}
    return [name for name in names if len(values[name]) > 1]


def _mean(figures: Iterable[float | None]) -> float | None:
    present = [figure for figure in figures if figure is not None]
    return sum(present) / len(present) if present else None
