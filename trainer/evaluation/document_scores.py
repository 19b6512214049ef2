"""How well a classifier labels documents: F1, ranking, their intervals and what they cost. Plain NumPy."""

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from trainer import inference
from trainer.errors import BadData, BadSpec
from trainer.evaluation import span_scores as costs

LONG = (512, 1024)  # word pieces; documents of more are scored by themselves too
SAMPLES = 1000


class Graded(NamedTuple):
    """What counting needs. gold, said: (documents, labels) bool; probabilities: (documents, labels)."""

    labels: tuple[str, ...]
    gold: np.ndarray
    said: np.ndarray
    probabilities: np.ndarray
    multi_label: bool

    def of(self, chosen: np.ndarray) -> "Graded":
        """Some of the documents."""
        return self._replace(**{name: getattr(self, name)[chosen] for name in ("gold", "said", "probabilities")})


def scores(
    model: torch.nn.Module,
    tokenizer: Any,
    documents: Sequence,
    *,
    annotated: Collection[str] | None = None,
    **options: Any,
) -> dict[str, float]:
    """`metrics` of a model on documents (text, labels); the options are those of inference.classify.

    annotated: as `evaluate` takes it.
    """
    found = inference.classify(_texts(documents), model, tokenizer, **options)
    return metrics(judged(_grade(model, documents, found), annotated)[0])


def evaluate(
    model: torch.nn.Module,
    tokenizer: Any,
    documents: Sequence,
    *,
    split: str = "",
    folder: Path | None = None,
    annotated: Collection[str] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    **options: Any,
) -> dict:
    """{"metrics", "n", "intervals", "cost"} of a model on documents (text, labels).

    metrics: `metrics`, and over_512.* and over_1024.* of the documents with more word pieces than that, with their
    number n, where there are such. intervals: `bootstrap` of the same. cost: as evaluation.span_scores says; latency is
    that of one document alone, tokens_per_second counts the pieces that were read. Raises BadSpec if the documents hold
    labels that the model cannot say, and BadData if there is nothing to score. `split` only names the documents in
    these messages.
    annotated: the labels that the data set knows at all; None: all that the model knows. Another label has no score and
    no part in a mean: where documents have several it does not count, where they have one it is no answer, so that the
    document is wrong. where there are any, "not_annotated" says how often.
    """
    _check_labels(model, documents, split)
    device = next(model.parameters()).device
    costs.reset_peak(device)
    began = time.perf_counter()
    found = inference.classify(_texts(documents), model, tokenizer, **options)
    seconds = time.perf_counter() - began
    peak = costs.peak_bytes(device)
    graded, outside = judged(_grade(model, documents, found), annotated)
    cost = {
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "disk_bytes": costs.weight_bytes(model, folder),
        **_latency(model, tokenizer, documents, seed, options),
        "tokens_per_second": int(found.read.sum()) / seconds,
        "peak_memory_bytes": peak,
    }
    every, intervals = metrics(graded), bootstrap(graded, samples=samples, seed=seed)
    for length in LONG:
        if (longer := found.pieces > length).any():
            part = graded.of(longer)
            every |= _whole(f"over_{length}", metrics(part) | {"n": float(longer.sum())})
            intervals |= _whole(f"over_{length}", bootstrap(part, samples=samples, seed=seed))
    found = {"metrics": every, "n": len(documents), "intervals": intervals, "cost": cost}
    return found | ({"not_annotated": outside} if outside else {})


def judged(graded: Graded, annotated: Collection[str] | None) -> tuple[Graded, dict[str, int]]:
    """Without the labels that a data set does not know, and how often the model gives each of them."""
    if annotated is None or set(graded.labels) <= set(annotated):
        return graded, {}
    known = np.array([label in annotated for label in graded.labels])
    times = zip(graded.labels, known, graded.said.sum(axis=0).tolist(), strict=True)
    outside = {label: number for label, kept, number in times if number and not kept}
    columns = {name: getattr(graded, name)[:, known] for name in ("gold", "said", "probabilities")}
    labels = tuple(label for label in graded.labels if label in annotated)
    return graded._replace(labels=labels, **columns), dict(sorted(outside.items()))


def _whole(prefix: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The scores that are not of a single label, under a prefix."""
    return {f"{prefix}.{name}": value for name, value in found.items() if "." not in name}


def metrics(graded: Graded) -> dict[str, float]:
    """accuracy, macro_f1, micro_f1, and f1.LABEL, precision.LABEL, recall.LABEL and support.LABEL, each from 0 to 1.

    accuracy: the share of documents with exactly the right labels (with one label each, micro_f1 is the same number:
    trap T14). macro_f1: the mean over the labels that occur, given or predicted, as in scikit-learn; a score without
    anything to count is 0. With several labels a document also macro_roc_auc and macro_average_precision, and both by
    label, of those that some documents have and others do not. support counts documents.
    """
    found = _counted(graded.labels, _counts(graded).sum(axis=0), _right(graded).mean())
    support = {f"support.{label}": count for label, count in zip(graded.labels, graded.gold.sum(0), strict=True)}
    return {name: float(value) for name, value in (found | _ranked(graded) | support).items()}


def bootstrap(graded: Graded, *, samples: int = SAMPLES, seed: int = 0) -> dict[str, list[float]]:
    """[low, high] of each of `metrics` but support: the percentile bootstrap over documents, 95 %."""
    count = len(graded.gold)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)  # (samples, docs)
    counts = np.tensordot(draws, _counts(graded), axes=1)  # (samples, labels, 3)
    found = _counted(graded.labels, counts, draws @ _right(graded) / count) | _ranked(graded, draws)
    known = {name: values[np.isfinite(values)] for name, values in found.items()}  # no ranking where all are alike
    limits = {name: np.percentile(values, [2.5, 97.5]) for name, values in known.items() if len(values)}
    return {name: [float(low), float(high)] for name, (low, high) in limits.items()}


def roc_auc(gold: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The chance that a document with the label is scored above one without; ties count half (Hanley, McNeil 1982).

    gold, scores: (documents,); weights: (samples, documents), how often each counts. NaN where one kind is missing.
    """
    with_label, without = _grouped(gold, scores, weights)  # by rising score
    below = without.cumsum(axis=1) - without
    total = with_label.sum(axis=1) * without.sum(axis=1)
    return _share((with_label * (below + without / 2)).sum(axis=1), total)


def average_precision(gold: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean of the precision at each document with the label, from the highest score down; shapes as for roc_auc."""
    with_label, without = (part[:, ::-1] for part in _grouped(gold, scores, weights))
    right = with_label.cumsum(axis=1)
    precision = right / np.maximum(right + without.cumsum(axis=1), 1)
    return _share((precision * with_label).sum(axis=1), with_label.sum(axis=1))


def _grouped(gold: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(samples, distinct scores) twice: the weight with the label and without it, at each score, rising."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    return tuple(np.add.reduceat((weights * kind)[:, order], starts, axis=1) for kind in (gold, ~gold))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _grade(model: torch.nn.Module, documents: Sequence, found: inference.Classified) -> Graded:
    labels, multi_label = tuple(inference.output_names(model)), inference.is_multi_label(model)
    gold = np.array([[label in document.labels for label in labels] for document in documents])
    if multi_label:
        said = found.probabilities >= inference.THRESHOLD
    else:
        said = np.arange(len(labels)) == found.probabilities.argmax(axis=1)[:, None]
    return Graded(labels, gold, said, found.probabilities, multi_label)


def _counts(graded: Graded) -> np.ndarray:
    """(documents, labels, 3): rightly predicted, predicted, given."""
    return np.stack([graded.gold & graded.said, graded.said, graded.gold], axis=-1).astype(np.int64)


def _right(graded: Graded) -> np.ndarray:
    return (graded.gold == graded.said).all(axis=1).astype(np.float64)


def _counted(labels: Sequence[str], counts: np.ndarray, accuracy: Any) -> dict[str, Any]:
    """Everything that counts (..., labels, 3) give; each value has the leading shape."""
    correct, said, actual = np.moveaxis(counts, -1, 0)  # each (..., labels)
    f1 = 2 * correct / np.maximum(said + actual, 1)
    occurs = (said + actual) > 0
    ratios = {"f1": f1, "precision": correct / np.maximum(said, 1), "recall": correct / np.maximum(actual, 1)}
    named = {
        "accuracy": accuracy,
        "macro_f1": (f1 * occurs).sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1),
        "micro_f1": 2 * correct.sum(axis=-1) / np.maximum((said + actual).sum(axis=-1), 1),
    }
    by_label = {f"{name}.{label}": values[..., n] for name, values in ratios.items() for n, label in enumerate(labels)}
    return named | by_label


def _ranked(graded: Graded, draws: np.ndarray | None = None) -> dict[str, Any]:
    """Scores of the order of documents, label by label and their mean; none where a document has one label."""
    held = [n for n in range(len(graded.labels)) if 0 < graded.gold[:, n].sum() < len(graded.gold)]
    if not graded.multi_label or not held:
        return {}
    weights = np.ones((1, len(graded.gold))) if draws is None else draws
    found: dict[str, Any] = {}
    for name, measure in (("roc_auc", roc_auc), ("average_precision", average_precision)):
        values = np.stack([measure(graded.gold[:, n], graded.probabilities[:, n], weights) for n in held])
        there = np.isfinite(values).sum(axis=0)
        found[f"macro_{name}"] = np.where(there, np.nansum(values, axis=0) / np.maximum(there, 1), np.nan)
        found |= {f"{name}.{graded.labels[n]}": each for n, each in zip(held, values, strict=True)}
    return {name: values[0] if draws is None else values for name, values in found.items()}


def _texts(documents: Sequence) -> list[str]:
    return [document.text for document in documents]


def _latency(model, tokenizer, documents: Sequence, seed: int, options: Mapping) -> dict[str, float]:
    """Percentiles of the time for one document alone, in milliseconds, over a seeded choice of them."""
    chosen = np.random.default_rng(seed).permutation(len(documents))[: costs.TIMED]
    times = []
    for index in [chosen[0], *chosen]:  # the first is a rehearsal
        began = time.perf_counter()
        inference.classify([documents[index].text], model, tokenizer, **options)
        times.append((time.perf_counter() - began) * 1000)
    middle, slow = np.percentile(times[1:], [50, 95])
    return {"latency_ms_p50": float(middle), "latency_ms_p95": float(slow)}


def _check_labels(model: torch.nn.Module, documents: Sequence, split: str) -> None:
    if not len(documents):
        raise BadData(f"there is no document to score{f' in the {split} split' if split else ''}.")
    known = inference.output_names(model)
    if missing := sorted({label for document in documents for label in document.labels} - set(known)):
        where = f"the {split} split" if split else "the data set"
        said = f"{where} has {', '.join(missing)}; the model can say {', '.join(sorted(known))}"
        raise BadSpec(
            [("dataset", said)],
            next_step="Choose a model that was trained on these labels, or fine-tune this one on this data set.",
        )
