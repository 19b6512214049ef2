"""Scores, their intervals and what they cost. Entities count as seqeval counts them; everything else is counting."""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from seqeval.metrics.sequence_labeling import get_entities

from trainer import inference
from trainer.errors import BadData, BadSpec

TIMED = 100  # sentences that the latency figures rest on


def scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Micro precision, recall and f1 over entities, and f1.TYPE, precision.TYPE, recall.TYPE, each from 0 to 1.

    Both arguments hold IOB2 tags, a list a sentence. An entity counts if its type and both its ends are right:
    seqeval's default mode. A score without anything to count is 0.
    """
    kinds, counts = count(gold, predicted)
    return {name: float(value) for name, value in _ratios(kinds, counts.sum(axis=0)).items()}


def bootstrap(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], *, samples: int = 1000, seed: int = 0
) -> dict[str, list[float]]:
    """[low, high] of each of `scores`: the percentile bootstrap over sentences, 95 %."""
    kinds, counts = count(gold, predicted)
    if not len(counts):
        return {name: [0.0, 0.0] for name in _ratios(kinds, counts.sum(axis=0))}
    # Sentences with equal counts are interchangeable, so drawing how often each kind comes up is the same bootstrap.
    distinct, times = np.unique(counts.reshape(len(counts), -1), axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(counts), times / len(counts), size=samples)
    resampled = (draws @ distinct).reshape(samples, len(kinds), 3)
    limits = {name: np.percentile(values, [2.5, 97.5]) for name, values in _ratios(kinds, resampled).items()}
    return {name: [float(low), float(high)] for name, (low, high) in limits.items()}


def count(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> tuple[list[str], np.ndarray]:
    """The entity types, sorted, and (sentences, types, 3) counts of correct, predicted and gold entities."""
    _check_lengths(gold, predicted)
    found = [(_entities(a), _entities(b)) for a, b in zip(gold, predicted, strict=True)]
    kinds = sorted({kind for pair in found for entities in pair for kind, *_ in entities})
    counts = np.zeros((len(found), len(kinds), 3), dtype=np.int64)
    for row, (actual, said) in zip(counts, found, strict=True):
        for column, entities in enumerate((actual & said, said, actual)):
            for kind, *_ in entities:
                row[kinds.index(kind), column] += 1
    return kinds, counts


def word_scores(
    model: torch.nn.Module,
    tokenizer: Any,
    sentences: Sequence,
    *,
    labelling: str = "first",
    max_tokens: int | None = None,
    batch_tokens: int = 4096,
) -> dict[str, float]:
    """`scores` of a model on sentences (words, tags); with labelling "all" pieces are counted instead of words."""
    gold, predicted = _tagged(model, tokenizer, sentences, labelling, max_tokens, batch_tokens)
    return scores(gold, predicted)


def evaluate(
    model: torch.nn.Module,
    tokenizer: Any,
    sentences: Sequence,
    *,
    labelling: str = "first",
    split: str = "",
    folder: Path | None = None,
    max_tokens: int | None = None,
    batch_tokens: int = 4096,
    samples: int = 1000,
    seed: int = 0,
) -> dict:
    """{"metrics", "n", "intervals", "cost"} of a model on sentences (words, tags).

    metrics and intervals: `scores` and `bootstrap`; labelling "all" counts pieces (the papers' scheme, trap T1).
    cost: params; disk_bytes of the weights in `folder`, or as they are in memory; latency_ms_p50 and _p95 of one sentence
    at a time, tokenizing included; tokens_per_second of the batched pass, in word pieces; peak_memory_bytes of this
    process during that pass (of the accelerator, on one). Raises BadSpec if the sentences hold entity types that the
    model cannot say, and BadData if there is nothing to score. `split` only names the sentences in these messages.
    """
    _check_types(model, sentences, split)
    device = next(model.parameters()).device
    _reset_peak(device)
    began = time.perf_counter()
    gold, predicted = _tagged(model, tokenizer, sentences, labelling, max_tokens, batch_tokens)
    seconds = time.perf_counter() - began
    peak = _peak_bytes(device)
    pieces = sum(len(inference.cut_words(words, tokenizer)[0]) for words, _ in sentences)
    cost = {
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "disk_bytes": _weight_bytes(model, folder),
        **_latency(model, tokenizer, sentences, max_tokens, seed),
        "tokens_per_second": pieces / seconds,
        "peak_memory_bytes": peak,
    }
    intervals = bootstrap(gold, predicted, samples=samples, seed=seed)
    return {"metrics": scores(gold, predicted), "n": len(sentences), "intervals": intervals, "cost": cost}


def _ratios(kinds: Sequence[str], counts: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and f1 from counts (..., types, 3), micro and per type; each value has the leading shape."""
    named = {"": counts.sum(axis=-2)} | {f".{kind}": counts[..., index, :] for index, kind in enumerate(kinds)}
    ratios = {}
    for suffix, correct_said_actual in named.items():
        correct, said, actual = np.moveaxis(correct_said_actual, -1, 0)
        ratios[f"precision{suffix}"] = correct / np.maximum(said, 1)
        ratios[f"recall{suffix}"] = correct / np.maximum(actual, 1)
        ratios[f"f1{suffix}"] = 2 * correct / np.maximum(said + actual, 1)
    return ratios


def _entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns of each tag that is not IOB2, once a sentence
        return set(get_entities(list(tags)))
