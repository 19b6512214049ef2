"""Scores of values of texts: correlations and errors, with bootstrap intervals over texts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from trainer import inference
from trainer.datasets import LabelledDocument
from trainer.errors import BadData
from trainer.evaluation import cost as costs
from trainer.evaluation.document_scores import SAMPLES
from trainer.evaluation.hardware import measured_on
from trainer.inference import Values


def pearson(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Pearson's correlation of two series, (documents,) each; 0 where one of them does not vary."""
    one, other = gold - gold.mean(), predicted - predicted.mean()
    spread = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / spread) if spread > 0 else 0.0


# By name; of gold and predicted values, (documents,) each. Errors are in the unit of the values.
SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "pearson": pearson,
    "spearman": lambda gold, predicted: pearson(rankdata(gold), rankdata(predicted)),
    "mae": lambda gold, predicted: float(np.abs(gold - predicted).mean()),
    "rmse": lambda gold, predicted: float(np.sqrt(np.square(gold - predicted).mean())),
}


def metrics(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """pearson, spearman, mae and rmse of predicted values, (documents,) each."""
    return {name: score(gold, predicted) for name, score in SCORES.items()}


def bootstrap(
    gold: np.ndarray, predicted: np.ndarray, *, samples: int = SAMPLES, seed: int = 0
) -> dict[str, list[float]]:
    """[low, high] of each of `metrics`: the 95 % percentile bootstrap over texts."""
    random, count = np.random.default_rng(seed), len(gold)
    drawn = [metrics(gold[chosen], predicted[chosen]) for chosen in random.integers(count, size=(samples, count))]
    limits = {name: np.percentile([each[name] for each in drawn], [2.5, 97.5]) for name in SCORES}
    return {name: [float(low), float(high)] for name, (low, high) in limits.items()}


def scores(
    model: torch.nn.Module, tokenizer: Any, documents: Sequence[LabelledDocument], **options: Any
) -> dict[str, float]:
    """The `metrics` of a model on texts with values; the options are those of inference.read_values."""
    return metrics(_gold(documents), _read(documents, model, tokenizer, **options).values)


def evaluate(
    model: torch.nn.Module,
    tokenizer: Any,
    documents: Sequence[LabelledDocument],
    *,
    split: str = "",
    folder: Path | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """{"metrics", "n", "intervals", "cost", "measured_on"} of a model on texts with values.

    cost: of evaluation.cost, one text at a time. The other options are those of inference.read_values. Raises BadData
    if there is nothing to score; `split` only names the texts in the message.
    """
    if not len(documents):
        raise BadData(f"there is nothing to score{f' in the {split} split' if split else ''}.")
    read, cost = costs.measure(
        model,
        lambda: _read(documents, model, tokenizer, **options),
        pieces=lambda read: int(read.read.sum()),
        read_one=lambda index: _read([documents[index]], model, tokenizer, **options),
        count=len(documents),
        folder=folder,
        seed=seed,
    )
    texts = (document.text for document in documents)
    cost |= costs.by_length(lambda text: inference.read_values([text], model, tokenizer, **options), texts, tokenizer)
    gold = _gold(documents)
    report = {"metrics": metrics(gold, read.values), "n": len(documents)}
    report |= {"intervals": bootstrap(gold, read.values, samples=samples, seed=seed), "cost": cost}
    return report | {"measured_on": measured_on(model)}


def _read(documents: Sequence[LabelledDocument], model: torch.nn.Module, tokenizer: Any, **options: Any) -> Values:
    return inference.read_values([document.text for document in documents], model, tokenizer, **options)


def _gold(documents: Sequence[LabelledDocument]) -> np.ndarray:
    return np.array([document.value for document in documents], dtype=np.float64)
