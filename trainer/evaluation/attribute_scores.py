"""Scores of spans that need more than tags: overlap, and the attributes that spans carry, with their intervals.

Spans are (entity type, first word, last word), as seqeval counts them. Everything is counted per sentence or document
first, so that the bootstrap draws these.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from trainer.datasets.attributes import Attribute
from trainer.datasets.tags import entities_of
from trainer.inference import WordOutputs, attributes_of

Interval = list[float]


def scores(
    model: torch.nn.Module,
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    outputs: Sequence[WordOutputs],
    stated: Sequence[Mapping[str, Sequence[str]]],
) -> dict[str, float]:
    """overlap_f1; and for each attribute that the model gives and the sentences state: NAME.accuracy, NAME.macro_f1 and
    NAME.f1.VALUE on gold spans, and NAME.end_to_end_f1 of spans that are right in type, ends and value. From 0 to 1.

    gold, predicted: IOB2 tags; stated: by attribute the value of each word.
    """
    counts = _counts(model, gold, predicted, outputs, stated)
    summed = {key: each.sum(0) for key, each in counts.items()}
    return {name: float(value) for name, value in _ratios(summed).items()}


def intervals(
    model: torch.nn.Module,
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    outputs: Sequence[WordOutputs],
    stated: Sequence[Mapping[str, Sequence[str]]],
    *,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """[low, high] of each of `scores`: the percentile bootstrap over sentences, 95 %."""
    counts = _counts(model, gold, predicted, outputs, stated)
    drawn = {key: resampled(each, samples, seed) for key, each in counts.items()}
    return {name: interval(values) for name, values in _ratios(drawn).items()}


def _counts(
    model: torch.nn.Module,
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    outputs: Sequence[WordOutputs],
    stated: Sequence[Mapping[str, Sequence[str]]],
) -> dict[tuple[str, Attribute | None], np.ndarray]:
    """Counts per sentence, by what they are of."""
    counts: dict[tuple[str, Attribute | None], np.ndarray] = {("overlap", None): overlap_counts(gold, predicted)}
    for attribute in attributes_of(model):
        if any(attribute.name in each for each in stated):
            counts["values", attribute] = confusions(gold, stated, outputs, attribute)
            counts["end_to_end", attribute] = end_to_end_counts(gold, stated, predicted, outputs, attribute)
    return counts


def _ratios(counts: Mapping[tuple[str, Attribute | None], np.ndarray]) -> dict[str, np.ndarray]:
    ratios: dict[str, np.ndarray] = {}
    for (what, attribute), each in counts.items():
        if attribute is None:
            ratios["overlap_f1"] = overlap_f1(each)
        elif what == "values":
            ratios |= value_scores(each, attribute)
        else:
            ratios[f"{attribute.name}.end_to_end_f1"] = f1(each)
    return ratios


def overlap_counts(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> np.ndarray:
    """(sentences, 4): predicted spans that overlap a gold one of their type, predicted spans, gold spans that overlap a
    predicted one, gold spans. The "inexact" match of the i2b2 challenges.
    """
    rows = []
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        gold_spans, spans = list(entities_of(gold_tags)), list(entities_of(predicted_tags))
        rows.append([_touching(spans, gold_spans), len(spans), _touching(gold_spans, spans), len(gold_spans)])
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def overlap_f1(counts: np.ndarray) -> np.ndarray:
    """F1 of `overlap_counts` summed over the sentences, (..., 4) to (...)."""
    right, predicted, met, gold = np.moveaxis(counts, -1, 0)
    precision, recall = right / np.maximum(predicted, 1), met / np.maximum(gold, 1)
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def confusions(
    gold: Sequence[Sequence[str]],
    stated: Sequence[Mapping[str, Sequence[str]]],
    outputs: Sequence[WordOutputs],
    attribute: Attribute,
) -> np.ndarray:
    """(sentences, values, values): of the gold spans that carry the attribute, how many of each value (rows) are read
    as each value (columns).

    gold: IOB2 tags; stated: by attribute the value of each word; both per word as `outputs` are. A span without a
    stated value does not count.
    """
    counts = np.zeros((len(gold), len(attribute.values), len(attribute.values)), dtype=np.int64)
    numbers = {value: number for number, value in enumerate(attribute.values)}
    for table, tags, values, words in zip(counts, gold, stated, outputs, strict=True):
        for kind, first, last in entities_of(tags):
            value = values.get(attribute.name, [""] * len(tags))[first]
            if value and kind in attribute.carriers:
                answer = words.attributes(first, last, kind, [attribute])[attribute.name].value
                table[numbers[value], numbers[answer]] += 1
    return counts


def end_to_end_counts(
    gold: Sequence[Sequence[str]],
    stated: Sequence[Mapping[str, Sequence[str]]],
    predicted: Sequence[Sequence[str]],
    outputs: Sequence[WordOutputs],
    attribute: Attribute,
) -> np.ndarray:
    """(sentences, 3): correct spans, predicted spans and gold spans, of all types. A span is correct if its type, both
    ends and the attribute's value are right; for types without the attribute, its type and ends.
    """
    rows = []
    for tags, values, predicted_tags, words in zip(gold, stated, predicted, outputs, strict=True):
        by_word = values.get(attribute.name, [""] * len(tags))
        gold_spans = {(*span, by_word[span[1]] if span[0] in attribute.carriers else "") for span in entities_of(tags)}
        spans = set()
        for kind, first, last in entities_of(predicted_tags):
            answer = words.attributes(first, last, kind, [attribute]).get(attribute.name)
            spans.add((kind, first, last, answer.value if answer else ""))
        rows.append([len(gold_spans & spans), len(spans), len(gold_spans)])
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 of (..., 3) counts of right, predicted and gold spans."""
    right, predicted, gold = np.moveaxis(counts, -1, 0)
    return 2 * right / np.maximum(predicted + gold, 1)


def value_scores(table: np.ndarray, attribute: Attribute) -> dict[str, np.ndarray]:
    """From (..., values, values) counts: accuracy, macro F1 over the values that gold spans have, and F1 of each."""
    right = np.diagonal(table, axis1=-2, axis2=-1)
    gold, predicted = table.sum(-1), table.sum(-2)
    each = 2 * right / np.maximum(gold + predicted, 1)  # (..., values)
    present = gold > 0
    scores = {
        "accuracy": right.sum(-1) / np.maximum(table.sum((-2, -1)), 1),
        "macro_f1": (each * present).sum(-1) / np.maximum(present.sum(-1), 1),
    }
    by_value = {f"f1.{value}": each[..., number] for number, value in enumerate(attribute.values)}
    return {f"{attribute.name}.{name}": value for name, value in (scores | by_value).items()}


def resampled(counts: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Counts summed over as many sentences as there are, drawn with replacement: (sentences, ...) to (samples, ...)."""
    flat = counts.reshape(len(counts), -1)
    draws = np.random.default_rng(seed).multinomial(len(flat), np.full(len(flat), 1 / len(flat)), size=samples)
    return (draws @ flat).reshape(samples, *counts.shape[1:])


def interval(values: np.ndarray) -> Interval:
    """[low, high]: the percentile bootstrap, 95 %."""
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def _touching(spans: Sequence[tuple[str, int, int]], others: Sequence[tuple[str, int, int]]) -> int:
    """How many of `spans` share a word with a span of the same type in `others`."""
    words = {(kind, word) for kind, first, last in others for word in range(first, last + 1)}
    return sum(any((kind, word) in words for word in range(first, last + 1)) for kind, first, last in spans)
