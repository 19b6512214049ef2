"""Relations between mentions: a model that labels pairs reads each pair in a passage of its own."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
from pydantic import ValidationError

from trainer.datasets.rows.candidates import Candidate, Mention, PairReading, fit, mark, pair_mentions
from trainer.datasets.rows.pieces import cut
from trainer.errors import BadSpec, CorruptFile
from trainer.inference.model_outputs import FINE_TUNE, describe, output_names, task
from trainer.inference.window_batches import BATCH_TOKENS, BatchOptions, window_logits, window_size
from trainer.prediction import Relation, Span
from trainer.tasks import TASKS

READING = "relation_reading"  # the field of a config.json that holds a PairReading


class PairOutputs(NamedTuple):
    """What a model says of some candidates.

    probabilities: (candidates, labels) in the order of the model's labels. pieces: word pieces of each passage; read:
    those that were read; both (candidates,).
    """

    probabilities: np.ndarray
    pieces: np.ndarray
    read: np.ndarray


def pair_reading(model: torch.nn.Module) -> PairReading:
    """How a model was trained to read pairs. Raises BadSpec for a model that does not label relations, CorruptFile."""
    if TASKS[task(model)].reads != "mentions":
        what = f"the model does not label relations between mentions ({describe(model)})"
        raise BadSpec([("relations", what)], next_step=FINE_TUNE)
    try:
        return PairReading.model_validate(getattr(model.config, READING, None) or {})
    except ValidationError:
        what = f"config.json of the model: {READING} does not say how pairs are read."
        raise CorruptFile(what, next_step="Fetch or copy the model again.") from None


def read_passages(
    candidates: Sequence[Candidate], reading: PairReading, tokenizer: Any, size: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """The pieces that are read of each candidate's passage, at most `size`, and how many each has: (candidates,)."""
    ids, counts = [], []
    for candidate in candidates:
        marked = mark(candidate, reading.mentions)
        pieces = cut(marked.text, tokenizer)
        ids.append(pieces.ids[fit(pieces, marked, size)])
        counts.append(len(pieces))
    return ids, np.array(counts, dtype=np.int64)


def classify_pairs(
    candidates: Sequence[Candidate],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    max_tokens: int | None = None,
    **options: Unpack[BatchOptions],
) -> PairOutputs:
    """The label probabilities of each candidate. max_tokens: as for inference.predict_many. Raises what
    `pair_reading` and `window_size` raise.
    """
    reading = pair_reading(model)
    window = window_size(model, tokenizer, max_tokens)
    ids, counts = read_passages(candidates, reading, tokenizer, window)
    outputs = window_logits(ids, window, model, tokenizer, **({"batch_tokens": BATCH_TOKENS} | options))
    logits = np.concatenate([np.empty((0, len(output_names(model)))), *outputs])
    probabilities = torch.from_numpy(logits).double().softmax(-1).numpy()
    return PairOutputs(probabilities, counts, np.array([*map(len, ids)], dtype=np.int64))


def predict_relations(
    text: str,
    spans: Sequence[Span],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    max_tokens: int | None = None,
    **options: Unpack[BatchOptions],
) -> tuple[Relation, ...]:
    """The relations between the spans of a text, by head and tail: the likeliest label of each candidate, unless that
    is the label of no relation. Raises what `classify_pairs` raises.
    """
    reading, names = pair_reading(model), output_names(model)
    mentions = [Mention(span.start, span.end, span.label) for span in spans]
    candidates = pair_mentions(text, mentions, reading)
    outputs = classify_pairs(candidates, model, tokenizer, max_tokens=max_tokens, **options)
    likeliest = zip(candidates, outputs.probabilities.argmax(axis=1), outputs.probabilities.max(axis=1), strict=True)
    return tuple(
        Relation(head=candidate.pair[0], tail=candidate.pair[1], label=names[label], score=float(score))
        for candidate, label, score in likeliest
        if names[label] != reading.negative
    )
