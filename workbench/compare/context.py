"""The same models on the beginning of a note: which findings come into view as the context grows."""

from collections.abc import Sequence

from trainer.prediction import CONTEXTS, Coverage, Prediction


def share_read(coverage: Coverage) -> str:
    """How much of a note was read, by its tokens."""
    percentage = 100 * coverage.tokens_read / max(coverage.tokens, 1)
    return "less than 1%" if 0 < percentage < 1 else f"{percentage:.0f}%"


def context_lengths(predictions: Sequence[Prediction]) -> list[int]:
    """The lengths in tokens that cut the note short for at least one model, ascending."""
    shorter = {tokens for prediction in predictions for tokens, _ in prediction.coverage.reach}
    return [tokens for tokens in CONTEXTS if tokens in shorter]


def context_end(whole: Prediction, tokens: int | None) -> int | None:
    """The code point at which the model's first `tokens` tokens end; None where that is the whole note."""
    return None if tokens is None else dict(whole.coverage.reach).get(tokens)


def count_in_view(whole: Prediction, tokens: int | None) -> int:
    """How many findings in the whole note lie within its first `tokens` tokens; all of them where that is None."""
    end = context_end(whole, tokens)
    return sum(end is None or span.end <= end for span in whole.spans)


def extend_to_note(prefix: Prediction, whole: Prediction, end: int, length: int) -> Prediction:
    """A prediction on text[:end] as one on the whole text of `length` code points, the rest of which is unread."""
    read = prefix.coverage
    unread = (*(part for part in read.unread if part[1] < end), (read.unread[-1][0] if read.unread else end, length))
    coverage = read.model_copy(update={"tokens": whole.coverage.tokens, "unread": unread})
    return prefix.model_copy(update={"coverage": coverage})
