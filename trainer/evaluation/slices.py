"""Scores of parts of the items: by length, by source, of mentions that train knows and of rare labels. No torch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from trainer.evaluation.outcomes import WRONG_SPANS, Outcomes, Place, draws, score

RARE = 50  # a label with fewer examples in train is rare
MOST_SOURCES = 12
FEWEST = 5  # items of a part that gets a score


def of_items(outcomes: Outcomes, name: str, parts: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """{"slice", "part", "n", "score", "interval"} of each part with at least FEWEST items: a mask or indices."""
    table, right = outcomes.table(), outcomes.right()
    rows = ((part, table[chosen], right[chosen]) for part, chosen in parts.items())
    return [_row(outcomes, name, part, *each) for part, *each in rows if len(each[1]) >= FEWEST]


def of_labels(outcomes: Outcomes, support: Mapping[str, int]) -> list[dict[str, Any]]:
    """The same of labels that are rare in train and of the others; empty where none is rare, or all are.

    support: the number of examples of each label in train. Only for scores that count labels.
    """
    rare = np.array([support.get(label, 0) < RARE for label in outcomes.labels], dtype=bool)
    if outcomes.measures == "accuracy" or rare.all() or not rare.any():
        return []
    table, right = outcomes.table(), outcomes.right()
    parts = {f"fewer than {RARE} in train": rare, f"{RARE} or more in train": ~rare}
    return [_row(outcomes, "label", part, table[:, chosen], right) for part, chosen in parts.items()]


def of_mentions(outcomes: Outcomes, known: np.ndarray, unknown: np.ndarray) -> list[dict[str, Any]]:
    """The same of mentions that are mentions in train, and of others, n of them; both (items, 3) as in Outcomes."""
    parts = {"in train": known, "not in train": unknown}
    counts = {part: each[:, None, :] for part, each in parts.items() if each.any()}
    rows = (_row(outcomes, "mention", part, table, outcomes.right()) for part, table in counts.items())
    return [row | {"n": int(table[..., 2].sum())} for row, table in zip(rows, counts.values(), strict=True)]


def mention_counts(
    outcomes: Outcomes,
    texts: Sequence[str],
    gold: Sequence[Iterable[tuple[str, Place]]],
    knows: Callable[[Sequence[str]], bool],
) -> tuple[np.ndarray, np.ndarray]:
    """Correct, predicted and gold mentions of each item, (items, 3), of those that `knows` and of the others.

    gold: label and place of each gold mention by item, in the items' texts.
    """
    counts = np.zeros((2, outcomes.n, 3), dtype=np.int64)
    wrong = {(each.item, each.places[0], each.gold) for each in outcomes.mistakes if each.kind in WRONG_SPANS}

    def add(item: int, place: Place, columns: list[int]) -> None:
        start, end = place
        counts[0 if knows(texts[item][start:end].split()) else 1, item, columns] += 1

    for item, mentions in enumerate(gold):
        for label, place in mentions:
            add(item, place, [2] if (item, place, label) in wrong else [0, 1, 2])
    for each in outcomes.mistakes:
        if each.predicted is not None and each.kind != "attribute":
            add(each.item, each.places[-1], [1])
    return counts[0], counts[1]


def by_length(lengths: Sequence[int], unit: str = "words") -> dict[str, np.ndarray]:
    """Three parts of about as many items each, by their length in words."""
    sizes = np.asarray(lengths)
    low, high = (int(each) for each in np.quantile(sizes, [1 / 3, 2 / 3], method="lower"))
    parts = {
        f"up to {low:,} {unit}": sizes <= low,
        f"{low + 1:,} to {high:,} {unit}": (sizes > low) & (sizes <= high),
        f"more than {high:,} {unit}": sizes > high,
    }
    return {part: chosen for part, chosen in parts.items() if chosen.any()}


def by_source(sources: Sequence[str]) -> dict[str, np.ndarray]:
    """A part per source; empty where there is but one, or more than MOST_SOURCES."""
    names = sorted(set(sources))
    if not 1 < len(names) <= MOST_SOURCES:
        return {}
    return {name: np.array([source == name for source in sources]) for name in names}


def _row(outcomes: Outcomes, name: str, part: str, table: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    low, high = np.percentile(draws(outcomes.measures, [table], [right])[0], [2.5, 97.5])
    value = score(outcomes.measures, table, right)
    return {"slice": name, "part": part, "n": len(table), "score": value, "interval": [float(low), float(high)]}
