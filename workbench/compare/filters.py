"""Predictions without what a person does not want to see now. The models are not asked again."""

from pydantic import Field

from trainer.prediction import Plain, Prediction
from trainer.tasks import answers


class Filter(Plain):
    """What stays: spans with one of `labels` (all where there are none), and whatever has at least the score `least`.

    Labels are those of spans; a model that labels the whole note is filtered by score alone.
    """

    labels: tuple[str, ...] = ()
    least: float = Field(0.0, ge=0, le=1)

    @property
    def active(self) -> bool:
        """Whether it can take anything away."""
        return bool(self.labels) or self.least > 0


def filtered(found: Prediction, by: Filter) -> Prediction:
    """The prediction through a filter. With labels, an arm counts as one that knows no others.

    Of several labels for the whole note, those below `least` are not given; where there is exactly one, it is given
    only if it has that score. A filter never gives what the model did not.
    """
    if not by.active:
        return found
    if answers(found.task) == "labels":
        return _document(found, by.least)
    spans = tuple(span for span in found.spans if span.score >= by.least and (span.label in by.labels or not by.labels))
    known = tuple(label for label in found.label_set if label in by.labels or not by.labels)
    return found.model_copy(update={"spans": spans, "label_set": known})


def _document(found: Prediction, least: float) -> Prediction:
    if found.threshold is not None:
        return found.model_copy(update={"threshold": max(found.threshold, least)})
    sure = not found.labels or found.labels[0].score >= least
    # With the best below the threshold all are; above it, a threshold could give more than the one.
    return found if sure else found.model_copy(update={"threshold": least})


def given(found: Prediction) -> int:
    """How many spans, or labels of the whole note, a prediction gives."""
    return len(found.chosen) if answers(found.task) == "labels" else len(found.spans)
