"""Two explanations of one target side by side: how far they agree, and where they differ most. No note text."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trainer.errors import BadSpec
from trainer.prediction import Plain, Value
from workbench.explain.explanation import Attribution, Explanation
from workbench.predict import percent


class Difference(Plain):
    """A part with its rank in both explanations; 1 is the strongest support for the target."""

    start: int
    end: int
    first: int
    second: int


class Agreement(Plain):
    """Rank correlations over the parts that both models read, -1 to 1; None where all scores of one are equal.

    overlap: the share of the `k` highest parts that are the same, 0 to 1. differences: parts among the k highest of
    either, largest rank difference first.
    """

    spearman: float | None
    kendall: float | None
    overlap: float
    k: int
    differences: tuple[Difference, ...]


class Ablation(Plain):
    """The probability of a target before and after the places `hidden` of the note were hidden from the model.

    Of a value both are its share of the scale, and `values` are the values themselves.
    """

    target: str
    hidden: tuple[tuple[int, int], ...]
    before: float
    after: float
    values: tuple[Value, Value] | None = None


def compare_explanations(one: Explanation, other: Explanation, *, k: int = 10, most: int = 5) -> Agreement:
    """Compare two explanations of the same note, target and grain, on the parts of `one`.

    Where a part of `other` covers several of them, its score is divided among them by characters. BadSpec if targets or
    grains differ, and where no part was read by both models.
    """
    for what, a, b in (("target", one.target, other.target), ("grain", one.grain, other.grain)):
        if a != b:
            raise BadSpec([(what, f"found {a!r:.80} and {b!r:.80}; two explanations are compared on the same {what}")])
    parts = [part for part in one.attributions if _was_read(one, part) and _was_read(other, part)]
    if not parts:
        raise BadSpec(
            [("note", "no part of it was read by both models")],
            next_step="Choose windows in which both read the same part of the note.",
        )
    first, second = np.array([part.score for part in parts]), _spread(other, [(part.start, part.end) for part in parts])
    ranks = [np.argsort(np.argsort(-scores, kind="stable"), kind="stable") + 1 for scores in (first, second)]
    k = min(k, len(parts))
    distance = np.where((ranks[0] <= k) | (ranks[1] <= k), abs(ranks[0] - ranks[1]), 0)
    return Agreement(
        spearman=spearman(first, second),
        kendall=kendall(first, second),
        overlap=float(((ranks[0] <= k) & (ranks[1] <= k)).sum() / k),
        k=k,
        differences=tuple(
            Difference(start=parts[i].start, end=parts[i].end, first=ranks[0][i], second=ranks[1][i])
            for i in np.argsort(-distance, kind="stable")[:most].tolist()
            if distance[i]
        ),
    )


def spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's rank correlation, ties given their mean rank; None where all values of one side are equal."""
    from scipy.stats import spearmanr  # here, since it takes a second to import

    return _correlation(spearmanr, one, other)


def kendall(one: np.ndarray, other: np.ndarray) -> float | None:
    """Kendall's tau-b (1945), which corrects for ties; None where all values of one side are equal."""
    from scipy.stats import kendalltau

    return _correlation(kendalltau, one, other)


def _correlation(measure: Callable[[np.ndarray, np.ndarray], Any], one: np.ndarray, other: np.ndarray) -> float | None:
    return float(measure(one, other).statistic) if np.ptp(one) and np.ptp(other) else None


def strongest(explanation: Explanation, *, apart_from: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """The place of the part that supports the target most, if any; parts that touch `apart_from` are skipped."""
    parts = [
        part
        for part in explanation.attributions
        if part.score > 0 and not (apart_from and part.start < apart_from[1] and part.end > apart_from[0])
    ]
    best = max(parts, key=lambda part: part.score, default=None)
    return None if best is None else (best.start, best.end)


def ablation_sentence(
    model: str, ablation: Ablation, *, part: str = "part", name: str = "", quote: str = "", target: str = ""
) -> str:
    """The ablation in words, such as "minilm-bc5cdr: without the sentence at 120-180 (PLAN), its score for
    12:20:Disease falls from 93% to 41%."

    `name` is the section's; `quote` and `target` hold words of the note where a page may show them, the quote instead
    of the offsets. Each may be empty.
    """
    where = ", ".join(f"{start}-{end}" for start, end in ablation.hidden)
    shown = f" \u201c{quote}\u201d" if quote else f" at {where}"
    section = f" ({name})" if name else ""
    shares = (ablation.before, ablation.after)
    before, after = map(str, ablation.values) if ablation.values else map(percent, shares)
    change = "stays at" if before == after else "falls from" if ablation.after < ablation.before else "rises from"
    figures = before if before == after else f"{before} to {after}"
    named = target or ablation.target
    without = f"{model}: without" if model else "Without"
    return f"{without} the {part}{shown}{section}, its score for {named} {change} {figures}."


def _was_read(explanation: Explanation, part: Attribution) -> bool:
    return not any(start <= part.start and part.end <= end for start, end in explanation.coverage.unread)


def _spread(explanation: Explanation, places: Sequence[tuple[int, int]]) -> np.ndarray:
    """The explanation's scores at other places, (places,): each divided by the number of characters in common."""
    starts, ends = np.array(places).T
    scores = np.zeros(len(places))
    for part in explanation.attributions:
        if not part.score:
            continue
        low, high = np.searchsorted(ends, part.start, side="right"), np.searchsorted(starts, part.end)
        common = np.minimum(ends[low:high], part.end) - np.maximum(starts[low:high], part.start)
        scores[low:high] += part.score * common / (part.end - part.start)
    return scores
