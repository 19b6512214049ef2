"""Scores of a masked LM on held-out text: accuracy, loss and perplexity, with bootstrap intervals, and its cost.

The masks are fixed: with the same tokenizer and max_tokens, every model predicts the same masked pieces.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from trainer.datasets.rows.corpus import Rows
from trainer.datasets.rows.masking import IGNORED, Masking
from trainer.datasets.rows.tokens import Tokens
from trainer.evaluation import cost as costs
from trainer.evaluation.hardware import measured_on
from trainer.inference import BATCH_TOKENS, evaluating
from trainer.inference.window_batches import check_finite
from trainer.models.heads import forward, vocabulary_logits
from trainer.tasks import MLM

SCORED = 100_000  # pieces read, from a split's first documents: 15,000 are masked, so accuracy is good to within 0.01
SEED = 0


def scores(model: PreTrainedModel, tokenizer: Any, corpus: Tokens, *, max_tokens: int) -> dict[str, float]:
    """accuracy: share of masked pieces predicted right; loss: nats per masked piece; perplexity: exp(loss).

    Documents are read in windows of at most max_tokens; 15 % of the pieces are masked.
    """
    return _ratios(_count(model, _held_out(tokenizer, corpus, max_tokens)).sum(axis=0))


def evaluate(
    model: PreTrainedModel,
    tokenizer: Any,
    corpus: Tokens,
    *,
    max_tokens: int,
    folder: Path | None = None,
    samples: int = 1000,
    seed: int = 0,
    most_pieces: int = SCORED,
) -> dict[str, Any]:
    """{"metrics", "n", "intervals", "cost", "measured_on"}: `scores`, and the number of documents that they rest on.

    intervals: the 95 % percentile bootstrap over documents. cost: of evaluation.cost, an item being a window;
    special tokens do not count.
    """
    rows = _held_out(tokenizer, corpus, max_tokens, most_pieces)
    counts, cost = costs.measure(
        model,
        lambda: _count(model, rows),
        pieces=lambda _: int((rows.cuts.stops - rows.cuts.starts).sum()),
        read_one=lambda index: _read_window(model, rows, index),
        count=len(rows.lengths),
        folder=folder,
        seed=seed,
    )
    intervals = _bootstrap(counts, samples, seed)
    report = {"metrics": _ratios(counts.sum(axis=0)), "n": len(counts), "intervals": intervals, "cost": cost}
    return report | {"measured_on": measured_on(model)}


def _held_out(tokenizer: Any, corpus: Tokens, max_tokens: int, most_pieces: int = SCORED) -> Rows:
    """The windows that are scored: all of a small split, those of the first documents of a large one."""
    documents = max(1, int(np.searchsorted(corpus.ends, most_pieces, side="right")))
    part = Tokens(corpus.ids, corpus.ends[:documents])
    return Rows(part, tokenizer, Masking(tokenizer), kind="documents", max_tokens=max_tokens, seed=SEED)


def _batches(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of rows of similar length: at most BATCH_TOKENS padded pieces per batch, or one row."""
    order, start = np.argsort(-lengths, kind="stable"), 0
    while start < len(order):
        count = max(1, BATCH_TOKENS // int(lengths[order[start]]))
        yield order[start : start + count]
        start += count


def _count(model: PreTrainedModel, rows: Rows) -> np.ndarray:
    """Masked pieces, those predicted right, and the sum of their nats, per document: (documents, 3)."""
    owners = np.searchsorted(rows.corpus.ends, rows.cuts.starts, side="right")  # (rows,): the document of each
    counts = np.zeros((len(rows.corpus.ends), 3))
    with evaluating(model):
        for step, chosen in enumerate(_batches(rows.lengths)):
            outcomes, row_of_each = _fill(model, rows.batch(chosen, step=step))
            np.add.at(counts, owners[chosen][row_of_each], outcomes)
    return counts


@torch.inference_mode()
def _fill(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """For each masked piece 1, whether it is predicted right, and its nats: (masked, 3); and its row, (masked,)."""
    device = next(model.parameters()).device
    masked = batch["labels"] != IGNORED
    batch = {name: batch[name].to(device) for name in ("input_ids", "attention_mask", "labels")}
    head_outputs = forward(model, batch, head=MLM.head).logits
    assert head_outputs is not None, "a masked LM has logits"
    logits = vocabulary_logits(head_outputs).float()  # (masked, vocabulary)
    gold = batch["labels"][masked.to(device)]
    nats = cross_entropy(logits, gold, reduction="none")
    check_finite(nats, model)
    outcomes = torch.stack([torch.ones_like(nats), (logits.argmax(-1) == gold).float(), nats], dim=1)
    return outcomes.cpu().numpy().astype(np.float64), masked.nonzero()[:, 0].numpy()


def _ratios(counts: np.ndarray) -> dict[str, Any]:
    """accuracy, loss and perplexity from counts (..., 3); each value has the leading shape."""
    masked, right, nats = np.moveaxis(counts, -1, 0)
    loss = nats / np.maximum(masked, 1)
    ratios = {"accuracy": right / np.maximum(masked, 1), "loss": loss, "perplexity": np.exp(loss)}
    return {name: float(value) if value.ndim == 0 else value for name, value in ratios.items()}


def _bootstrap(counts: np.ndarray, samples: int, seed: int) -> dict[str, list[float]]:
    documents = len(counts)
    draws = np.random.default_rng(seed).multinomial(documents, np.full(documents, 1 / documents), size=samples)
    limits = {name: np.percentile(values, [2.5, 97.5]) for name, values in _ratios(draws @ counts).items()}
    return {name: [float(low), float(high)] for name, (low, high) in limits.items()}


def _read_window(model: PreTrainedModel, rows: Rows, index: int) -> None:
    with evaluating(model):
        _fill(model, rows.batch([index], step=0))
