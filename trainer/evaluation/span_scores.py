"""Scores, their intervals and what they cost. Entities count as seqeval counts them; everything else is counting."""

import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from seqeval.metrics.sequence_labeling import get_entities

from trainer import inference
from trainer.datasets.rows.pieces import cut_words
from trainer.datasets.tags import entity_types
from trainer.errors import BadData, BadSpec

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
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
    if not counts.size:
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
    batch_tokens: int = inference.BATCH_TOKENS,
    annotated: Collection[str] | None = None,
) -> dict[str, float]:
    """`scores` of a model on sentences (words, tags); with labelling "all" pieces are counted instead of words.

    annotated: as `evaluate` takes it.
    """
    gold, predicted = _tagged(model, tokenizer, sentences, labelling, max_tokens, batch_tokens)
    return scores(gold, judged(predicted, annotated)[0])


def evaluate(
    model: torch.nn.Module,
    tokenizer: Any,
    sentences: Sequence,
    *,
    labelling: str = "first",
    split: str = "",
    folder: Path | None = None,
    max_tokens: int | None = None,
    batch_tokens: int = inference.BATCH_TOKENS,
    annotated: Collection[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> dict:
    """{"metrics", "n", "intervals", "cost"} of a model on sentences (words, tags).

    metrics and intervals: `scores` and `bootstrap`; labelling "all" counts pieces (the papers' scheme, trap T1).
    cost: params; disk_bytes of the weights in `folder`, or as they are in memory; latency_ms_p50 and latency_ms_p95 of
    one sentence alone, tokenizing included; tokens_per_second of the batched pass, in word pieces; peak_memory_bytes of
    this process during that pass (of the accelerator, on one). Raises BadSpec if the sentences hold entity types that
    the model cannot say, and BadData if there is nothing to score. `split` only names the sentences in these messages.
    annotated: the entity types that the data set marks at all; None: all that the model knows. A prediction of another
    type is neither right nor wrong, so it does not count; where there are any, "not_annotated" says how many, by type.
    """
    _check_types(model, sentences, split)
    device = next(model.parameters()).device
    reset_peak(device)
    began = time.perf_counter()
    gold, predicted = _tagged(model, tokenizer, sentences, labelling, max_tokens, batch_tokens)
    seconds = time.perf_counter() - began
    peak = peak_bytes(device)
    pieces = sum(len(cut_words(words, tokenizer)[0]) for words, _ in sentences)
    cost = {
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "disk_bytes": weight_bytes(model, folder),
        **_latency(model, tokenizer, sentences, max_tokens, seed),
        "tokens_per_second": pieces / seconds,
        "peak_memory_bytes": peak,
    }
    predicted, outside = judged(predicted, annotated)
    intervals = bootstrap(gold, predicted, samples=samples, seed=seed)
    found = {"metrics": scores(gold, predicted), "n": len(sentences), "intervals": intervals, "cost": cost}
    return found | ({"not_annotated": outside} if outside else {})


def judged(
    predicted: Sequence[Sequence[str]], annotated: Collection[str] | None
) -> tuple[Sequence[Sequence[str]], dict[str, int]]:
    """Predicted tags without the entities of types that a data set does not mark, and how many these are by type."""
    if annotated is None:
        return predicted, {}
    outside = Counter(kind for tags in predicted for kind, *_ in _entities(tags) if kind not in annotated)
    if not outside:
        return predicted, {}
    kept = [[tag if tag == "O" or tag[2:] in annotated else "O" for tag in tags] for tags in predicted]
    return kept, dict(sorted(outside.items()))


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
    return set(get_entities(list(tags)))


def _tagged(model, tokenizer, sentences, labelling, max_tokens, batch_tokens) -> tuple[list, list]:
    """Gold and predicted tags: a tag per word of the joined text, or with labelling "all" a tag per piece."""
    words, gold = [sentence[0] for sentence in sentences], [sentence[1] for sentence in sentences]
    predicted = inference.tag_words(
        words, model, tokenizer, labelling=labelling, max_tokens=max_tokens, batch_tokens=batch_tokens
    )
    return inference.expand(words, gold, tokenizer, labelling=labelling), predicted


def _latency(model, tokenizer, sentences, max_tokens, seed) -> dict[str, float]:
    """Percentiles of the time for one sentence alone, in milliseconds, over a seeded choice of them."""
    chosen = np.random.default_rng(seed).permutation(len(sentences))[:TIMED]
    times = []
    for index in [chosen[0], *chosen]:  # the first is a rehearsal
        began = time.perf_counter()
        inference.tag_words([sentences[index][0]], model, tokenizer, max_tokens=max_tokens)
        times.append((time.perf_counter() - began) * 1000)
    middle, slow = np.percentile(times[1:], [50, 95])
    return {"latency_ms_p50": float(middle), "latency_ms_p95": float(slow)}


def _check_lengths(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> None:
    if len(gold) != len(predicted):
        raise BadData(f"there are {len(gold):,} sentences of gold tags and {len(predicted):,} of predicted tags.")
    for index, (actual, said) in enumerate(zip(gold, predicted, strict=True)):
        if len(actual) != len(said):
            raise BadData(f"sentence {index + 1:,} has {len(actual)} gold tags and {len(said)} predicted ones.")


def _check_types(model, sentences, split) -> None:
    if not len(sentences):
        raise BadData(f"there is no sentence to score{f' in the {split} split' if split else ''}.")
    known = inference.tags_of(model).kinds
    held = entity_types(tag for _, tags in sentences for tag in tags)
    if missing := sorted(set(held) - set(known)):
        where = f"the {split} split" if split else "the data set"
        raise BadSpec(
            [
                (
                    "dataset",
                    f"{where} holds {', '.join(held)}; the model can say {', '.join(known)}, not {', '.join(missing)}",
                )
            ],
            next_step="Choose a model that was trained on these entity types, or fine-tune this one on this data set.",
        )


def weight_bytes(model: torch.nn.Module, folder: Path | None) -> int:
    """Bytes of the weights in a folder, or without one as they are in memory."""
    if folder is not None:
        return sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def reset_peak(device: torch.device) -> None:
    """Let `peak_bytes` count from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # where it cannot be reset, the peak is that of the whole process so far
        CLEAR_REFS.write_text("5")  # Linux: peak goes back to what is resident now


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process (on an accelerator: its tensors) has taken since `reset_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.exists():
        mark = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(mark.split()[1]) * 1024
    return psutil.Process().memory_info().rss
