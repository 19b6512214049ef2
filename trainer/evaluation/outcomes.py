"""What an evaluation rests on, item by item: counts and mistakes, without any text. No torch.

It is stored in the run folder, so that two models can be compared on the same items and mistakes can be looked up in
the data set. An item is what is drawn for intervals: a sentence or document, a pair, or a pair of mentions.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from trainer.datasets.tags import entities_of
from trainer.files import write_file
from trainer.prediction import Plain

FILE = "outcomes.json"
MOST_BYTES = 256 << 20
Kind = Literal["missed", "spurious", "boundary", "label", "attribute"]
KINDS: tuple[Kind, ...] = ("missed", "spurious", "boundary", "label", "attribute")
WRONG_SPANS = ("missed", "boundary", "label")  # of a gold span
Place = tuple[int, int]  # [start, end) in code points of an item's text
Span = tuple[str, int, int]  # entity type, first and last word


class Mistake(Plain):
    """One mistake. item: its number, from 0. gold, predicted: labels, or values of the attribute; None for nothing.

    kind: "missed" and "spurious" have nothing on the other side; "boundary" is the right label at other ends; "label"
    another label at the same or overlapping ends, or for an item; "attribute" a right span with another value. places:
    of a span, the gold one first, or the predicted one where there is no other; of a relation its head and its tail.
    score: the model's probability of what it predicted.
    """

    item: int
    kind: Kind
    gold: str | None = None
    predicted: str | None = None
    attribute: str | None = None
    places: tuple[Place, ...] = ()
    score: float | None = None


class Outcomes(Plain):
    """The outcome of each item. measures: the main score, one of MEASURES. labels: those that it counts.

    counts: rows of item, label (its number), and how many of that label are correct, predicted and gold there; only
    those with any. documents: the document of each item, where an item is a part of one.
    """

    measures: str
    unit: str
    labels: tuple[str, ...]
    n: int
    counts: tuple[tuple[int, int, int, int, int], ...]
    mistakes: tuple[Mistake, ...]
    documents: tuple[int, ...] | None = None

    def table(self) -> np.ndarray:
        """The counts as (items, labels, 3): correct, predicted and gold."""
        table = np.zeros((self.n, len(self.labels), 3), dtype=np.int64)
        for item, label, *counts in self.counts:
            table[item, label] = counts
        return table

    def right(self) -> np.ndarray:
        """Whether each item has no mistake, apart from attributes: (items,) of 0 and 1."""
        right = np.ones(self.n, dtype=np.int64)
        right[[each.item for each in self.mistakes if each.kind != "attribute"]] = 0
        return right

    def write(self, folder: Path) -> None:
        """Write FILE in a run folder, completely or not at all."""
        write_file(Path(folder) / FILE, self.model_dump_json(exclude_none=True).encode())

    @classmethod
    def read(cls, folder: Path) -> "Outcomes | None":
        """The outcomes in a run folder; None where there are none, as of older runs. Raises ValueError if invalid."""
        try:
            with (Path(folder) / FILE).open("rb") as file:
                data = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(data) > MOST_BYTES:
            raise ValueError(f"outcomes have at most {MOST_BYTES:,} bytes")
        return cls.model_validate_json(data)


def of_spans(
    places: Sequence[np.ndarray],
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    attributes: Sequence[Mapping[Span, Mapping[str, tuple[str, str]]]] = (),
    *,
    measures: str,
    unit: str,
) -> Outcomes:
    """The outcomes of spans. gold, predicted: IOB2 tags per item; places: [start, end) of each word, (words, 2) each.

    attributes: per item, of spans that are right the (gold, predicted) values of their attributes by name.
    """
    counts, mistakes = [], []
    labels = sorted({kind for tags in (*gold, *predicted) for kind, *_ in entities_of(tags)})
    for item, each in enumerate(zip(places, gold, predicted, strict=True)):
        at, *tags = each
        gold_spans, spans = (set(entities_of(one)) for one in tags)
        for number, label in enumerate(labels):
            row = [sum(kind == label for kind, *_ in some) for some in (gold_spans & spans, spans, gold_spans)]
            if any(row):
                counts.append((item, number, *row))
        for kind, expected, answer in compare_spans(gold_spans, spans):
            found_at = [_place(at, span) for span in (expected, answer) if span]
            mistake = {"gold": expected and expected[0], "predicted": answer and answer[0]}
            mistakes.append(Mistake(item=item, kind=kind, places=tuple(dict.fromkeys(found_at)), **mistake))
        for span, values in (attributes[item] if attributes else {}).items():
            for name, (stated, read) in values.items():
                if stated != read:
                    about = {"attribute": name, "gold": stated, "predicted": read}
                    mistakes.append(Mistake(item=item, kind="attribute", places=(_place(at, span),), **about))
    return Outcomes(
        measures=measures,
        unit=unit,
        labels=tuple(labels),
        n=len(gold),
        counts=tuple(counts),
        mistakes=tuple(mistakes),
    )


def compare_spans(gold: set[Span], predicted: set[Span]) -> Iterator[tuple[Kind, Span | None, Span | None]]:
    """The kind of each mistake with its gold and its predicted span; each span that is not right is in one of them.

    A wrong span belongs to a gold one at the same place, else to one of its label that overlaps it, else to any that
    does; whoever is left is spurious or missed.
    """
    expected, answers = sorted(gold - predicted, key=_by_place), sorted(predicted - gold, key=_by_place)
    rules: tuple[tuple[Kind, Callable[[Span, Span], bool]], ...] = (
        ("label", lambda a, b: a[1:] == b[1:]),
        ("boundary", lambda a, b: a[0] == b[0] and a[1] <= b[2] and b[1] <= a[2]),
        ("label", lambda a, b: a[1] <= b[2] and b[1] <= a[2]),
    )
    for kind, belongs in rules:
        for span in list(expected):
            if (answer := next((each for each in answers if belongs(span, each)), None)) is not None:
                expected.remove(span)
                answers.remove(answer)
                yield kind, span, answer
    yield from (("missed", span, None) for span in expected)
    yield from (("spurious", None, span) for span in answers)


def of_labels(
    labels: Sequence[str],
    gold: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    *,
    measures: str,
    unit: str,
    negative: str | None = None,
    places: Sequence[tuple[Place, ...]] = (),
    documents: Sequence[int] | None = None,
) -> Outcomes:
    """The outcomes of items with labels. gold, predicted: bool, probabilities: all (items, labels).

    negative: the label that stands for none, and is neither counted nor an answer. places: of the first items.
    """
    counted = [number for number, label in enumerate(labels) if label != negative]
    counts = [
        (item, column, int(gold[item, number] and predicted[item, number]), int(predicted[item, number]), stated)
        for item, row in enumerate(gold.astype(int).tolist())
        for column, number in enumerate(counted)
        if (stated := row[number]) or predicted[item, number]
    ]
    mistakes = []
    for item in np.flatnonzero((gold != predicted).any(axis=1)).tolist():
        missing, extra = (
            [number for number in counted if one[item, number] and not other[item, number]]
            for one, other in ((gold, predicted), (predicted, gold))
        )
        for pair in range(max(len(missing), len(extra), 1)):
            stated, answer = (side[pair] if pair < len(side) else None for side in (missing, extra))
            kind: Kind = "missed" if answer is None else "spurious" if stated is None else "label"
            mistakes.append(
                Mistake(
                    item=item,
                    kind=kind,
                    gold=None if stated is None else labels[stated],
                    predicted=None if answer is None else labels[answer],
                    places=places[item] if item < len(places) else (),
                    score=None if answer is None else round(float(probabilities[item, answer]), 4),
                )
            )
    return Outcomes(
        measures=measures,
        unit=unit,
        labels=tuple(labels[number] for number in counted),
        n=len(gold),
        counts=tuple(counts),
        mistakes=tuple(mistakes),
        documents=None if documents is None else tuple(documents),
    )


def _micro(counts: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    correct, predicted, gold = np.moveaxis(counts.sum(axis=-2), -1, 0)
    return np.asarray(2 * correct / np.maximum(predicted + gold, 1))


def _macro(counts: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    correct, predicted, gold = np.moveaxis(counts, -1, 0)
    occurs = predicted + gold > 0
    f1 = 2 * correct / np.maximum(predicted + gold, 1)
    return np.asarray((f1 * occurs).sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1))


# The main scores by name: from counts (..., labels, 3) and the share of right items (...), to (...).
MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "f1": _micro,
    "micro_f1": _micro,
    "macro_f1": _macro,
    "accuracy": lambda counts, accuracy: accuracy,
}


def score(measures: str, table: np.ndarray, right: np.ndarray) -> float:
    """The main score from counts (items, labels, 3) and (items,) right ones: 0 where there is nothing to count."""
    return float(MEASURES[measures](table.sum(axis=0), right.mean() if len(right) else np.zeros(())))


def draws(
    measures: str, tables: Sequence[np.ndarray], rights: Sequence[np.ndarray], *, samples: int = 1000, seed: int = 0
) -> np.ndarray:
    """The main scores of several models in each bootstrap sample, which draws the same items for all of them.

    tables: (items, labels, 3) and rights: (items,), of each model. Returns (models, samples).
    """
    count = len(rights[0])
    flat = np.concatenate([each.reshape(count, -1) for each in (*tables, *rights)], axis=1)
    # Items with equal outcomes are interchangeable, so drawing how often each distinct one occurs is equivalent.
    distinct, times = np.unique(flat, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(count, times / count, size=samples) @ distinct
    scores, start = [], 0
    for number, table in enumerate(tables):
        width = table.shape[1] * table.shape[2]
        right = drawn[:, flat.shape[1] - len(rights) + number] / count
        scores.append(MEASURES[measures](drawn[:, start : start + width].reshape(samples, *table.shape[1:]), right))
        start += width
    return np.stack(scores)


def by_label(outcomes: Outcomes) -> list[dict[str, float | int | str]]:
    """Precision, recall and F1 of each label with its counts, the most frequent label first."""
    total = outcomes.table().sum(axis=0)
    rows: list[dict[str, float | int | str]] = []
    for label, (correct, predicted, gold) in zip(outcomes.labels, total.tolist(), strict=True):
        ratios = {"precision": correct / max(predicted, 1), "recall": correct / max(gold, 1)}
        rows.append({"label": label, "gold": gold, **ratios, "f1": 2 * correct / max(predicted + gold, 1)})
    return sorted(rows, key=lambda row: -int(row["gold"]))


def worst(outcomes: Outcomes) -> list[tuple[int, int, Counter[str]]]:
    """(document, mistakes, their number by kind) of each document with any, the most mistakes first."""
    kinds: dict[int, Counter[str]] = defaultdict(Counter)
    for each in outcomes.mistakes:
        document = outcomes.documents[each.item] if outcomes.documents else each.item
        kinds[document][each.attribute or each.kind] += 1
    rows = [(document, sum(counts.values()), counts) for document, counts in kinds.items()]
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def confusions(outcomes: Outcomes) -> Counter[tuple[str, str]]:
    """How often each gold label was answered by each label, right answers included; "" stands for nothing."""
    counts: Counter[tuple[str, str]] = Counter()
    for label, correct in zip(outcomes.labels, outcomes.table().sum(axis=0)[:, 0].tolist(), strict=True):
        counts[label, label] += correct
    for each in outcomes.mistakes:
        if each.kind not in ("attribute", "boundary"):
            counts[each.gold or "", each.predicted or ""] += 1
    return counts


def _place(places: np.ndarray, span: Span) -> Place:
    return int(places[span[1], 0]), int(places[span[2], 1])


def _by_place(span: Span) -> tuple[int, int, str]:
    return span[1], span[2], span[0]
