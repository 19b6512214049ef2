"""Values of whole texts: the one output of a head, pooled over windows, on the scale of the training data."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch

from trainer.datasets.rows.pieces import Pieces, cut, frame
from trainer.errors import BadSpec, CorruptFile
from trainer.inference.model_outputs import FINE_TUNE, describe, task
from trainer.inference.window_batches import BATCH_TOKENS, BatchOptions, longest_window, window_logits
from trainer.models.heads import document_reading
from trainer.prediction import Value
from trainer.tasks import TASKS

RANGE = "stillroom_value_range"  # in a config.json: the values for which the output is 0 and 1


class Values(NamedTuple):
    """The values of some texts, (texts,), and how many word pieces of each were read, (texts,)."""

    values: np.ndarray
    read: np.ndarray


def value_range(model: torch.nn.Module) -> tuple[float, float]:
    """The lowest and the highest value of what a model was trained on.

    Raises BadSpec for a model that does not predict values, and CorruptFile where its config does not state the range.
    """
    if TASKS[task(model)].predicts != "value":
        raise BadSpec([("model", f"it gives texts no value ({describe(model)})")], next_step=FINE_TUNE)
    stated = getattr(model.config, RANGE, None)
    numbers = stated if isinstance(stated, list | tuple) else ()
    if len(numbers) != 2 or not all(type(each) in (int, float) and np.isfinite(each) for each in numbers):
        what = f"config.json of the model: {RANGE} does not hold the lowest and the highest value of its scale."
        raise CorruptFile(what, next_step="Fetch or copy the model again.")
    return float(numbers[0]), float(numbers[1])


def read_values(
    texts: Sequence[str],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    reading: str = "windows",
    pooling: str | None = None,
    max_tokens: int | None = None,
    **options: Unpack[BatchOptions],
) -> Values:
    """The value of each text; one without pieces is read as one unknown piece. The options are those of `classify`.

    Raises what `value_range` raises.
    """
    room = longest_window(model, tokenizer, max_tokens) - frame(tokenizer).size
    pieces = [cut(text, tokenizer) for text in texts]
    read = [each.first(min(len(each), room)) if reading == "truncate" else each for each in pieces]
    outputs = _outputs(
        read, [room] * len(read), model, tokenizer, pooling, **({"batch_tokens": BATCH_TOKENS} | options)
    )
    return Values(outputs, np.array([*map(len, read)]))


def predict_values(
    read: Sequence[Pieces],
    rooms: Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[Value | None]:
    """The value of each text, of which `read` are the pieces; None where there are none."""
    lowest, highest = value_range(model)
    outputs = _outputs(read, rooms, model, tokenizer, None, **options).tolist()
    return [
        Value(value=value, lowest=lowest, highest=highest) if len(pieces) else None
        for value, pieces in zip(outputs, read, strict=True)
    ]


def _outputs(
    read: Sequence[Pieces],
    rooms: Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    pooling: str | None,
    **options: Unpack[BatchOptions],
) -> np.ndarray:
    """The value of each text, (texts,)."""
    lowest, highest = value_range(model)
    logits = window_logits([pieces.ids for pieces in read], rooms, model, tokenizer, **options)
    highest_counts = (pooling or document_reading(model)["pooling"]) == "max"
    windows = [each[:, 0].astype(np.float64) for each in logits]
    shares = np.array([each.max() if highest_counts else each.mean() for each in windows])
    return lowest + (highest - lowest) * shares
