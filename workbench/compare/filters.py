"""Predictions without what a person does not want to see now. The models are not asked again."""

from pydantic import Field

from trainer.prediction import Plain, Prediction, Span
from trainer.tasks import answers


class Filter(Plain):
    """Keeps spans with one of `labels` (any label where it is empty), and answers that score at least `min_score`.

    `labels` are labels of spans; a model that labels the whole note is filtered by score alone. `values` are values of
    attributes, such as "absent": a span whose attributes have none of them is removed; one without attributes stays.
    """

    labels: tuple[str, ...] = ()
    min_score: float = Field(0.0, ge=0, le=1)
    values: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        """Whether it can remove anything."""
        return bool(self.labels or self.values) or self.min_score > 0

    def keeps(self, span: Span) -> bool:
        """Whether a span stays."""
        values = {each.value for each in span.attributes.values()}
        return (
            span.score >= self.min_score
            and (span.label in self.labels or not self.labels)
            and (not self.values or not values or bool(values & set(self.values)))
        )


def apply_filter(prediction: Prediction, shown: Filter) -> Prediction:
    """The prediction through a filter. With labels, its label set is reduced to them as well.

    Of several labels for the whole note, those below `min_score` are not given; a single label is given only if it has
    that score. A filter never adds an answer.
    """
    if not shown.active:
        return prediction
    if answers(prediction.task) == "value":  # which has no score
        return prediction
    if answers(prediction.task) == "labels":
        return _filter_labels(prediction, shown.min_score)
    if answers(prediction.task) == "answer" and prediction.answer and not shown.keeps(prediction.spans[0]):
        prediction = prediction.model_copy(update={"answer": None})
    label_set = tuple(label for label in prediction.label_set if label in shown.labels or not shown.labels)
    shown_spans = prediction.with_spans(shown.keeps, min_score=shown.min_score)
    return shown_spans.model_copy(update={"label_set": label_set})


def _filter_labels(prediction: Prediction, min_score: float) -> Prediction:
    if prediction.threshold is not None:
        return prediction.model_copy(update={"threshold": max(prediction.threshold, min_score)})
    if not prediction.labels or prediction.labels[0].score >= min_score:
        return prediction
    # The best label is below the threshold, so none is given. Above it, a threshold could let through more than one.
    return prediction.model_copy(update={"threshold": min_score})


def count_answers(prediction: Prediction) -> int:
    """How many spans, labels of the whole note, or values a prediction gives."""
    if answers(prediction.task) == "value":
        return int(prediction.value is not None)
    return len(prediction.chosen) if answers(prediction.task) == "labels" else len(prediction.spans)
