"""The same models on the beginning of a note: which findings come into view as the context grows."""

from collections.abc import Sequence

from trainer.prediction import CONTEXTS, Prediction


def contexts(predictions: Sequence[Prediction]) -> list[int]:
    """The lengths in tokens that cut the note short for at least one model, ascending."""
    cut = {tokens for found in predictions for tokens, _ in found.coverage.reach}
    return [tokens for tokens in CONTEXTS if tokens in cut]


def end_of(whole: Prediction, tokens: int | None) -> int | None:
    """The code point at which the first so many tokens of this model end; None where that is the whole note."""
    return dict(whole.coverage.reach).get(tokens)


def in_view(whole: Prediction, tokens: int | None) -> int:
    """How many of the findings in the whole note lie within its first so many tokens."""
    end = end_of(whole, tokens)
    return sum(end is None or span.end <= end for span in whole.spans)


def placed(found: Prediction, whole: Prediction, end: int, length: int) -> Prediction:
    """What a model found in text[:end], as a prediction on the whole text of `length` code points."""
    read = found.coverage
    unread = (*(part for part in read.unread if part[1] < end), (read.unread[-1][0] if read.unread else end, length))
    coverage = read.model_copy(update={"tokens": whole.coverage.tokens, "unread": unread})
    return found.model_copy(update={"coverage": coverage})
