"""Reads the windows of many texts in shared batches.

Windows of similar length share a batch under a budget of padded pieces. On a CPU, batches run side by side.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, Protocol, TypedDict, TypeVar, Unpack

import numpy as np
import torch

from trainer.datasets.rows.batches import framed
from trainer.datasets.rows.pieces import Frame, frame, windows
from trainer.errors import BadSpec, NonFiniteOutputs, StillroomError
from trainer.models.heads import document_reading, evaluating, inputs, is_classifier, logits_of, model_limit

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

BATCH_TOKENS = 2048  # larger batches do not fit a CPU's caches: 4,096 took 15 % longer on two cores


class Cancelled(StillroomError):
    """The caller cancelled before the last window was read."""

    next_step = "Nothing was kept; ask again for an answer."


class BatchOptions(TypedDict, total=False):
    """How windows are batched and followed, as `read` takes it.

    batch_tokens: budget of padded pieces per batch. frames: what stands around the windows of each sequence. shared:
    pieces that neighbouring windows share at least, as for `datasets.rows.pieces.windows`. progress receives (windows
    done, all windows) after each batch; cancelled is asked before each batch, or each group that runs side by side,
    while nothing is computed.
    """

    batch_tokens: int
    frames: Sequence[Frame] | None
    shared: int | None
    progress: Callable[[int, int], None] | None
    cancelled: Callable[[], bool] | None


class Store(Protocol):
    """Takes what a model says of one batch of windows.

    logits: (batch, width, outputs), or (batch, outputs) of a head that classifies the whole window; rows: the windows,
    (batch, 4), as `datasets.rows.pieces.windows` gives them; place: the index of the piece under each column of the
    batch, (batch, width).
    """

    def __call__(self, logits: torch.Tensor, rows: np.ndarray, place: np.ndarray) -> None:
        """Take them."""


class Submit(Protocol):
    """Starts a call and returns a function that waits for its result."""

    def __call__(self, call: Callable[P, R], /, *args: P.args, **options: P.kwargs) -> Callable[[], R]:
        """Start it."""


def read(
    sequences: Sequence[np.ndarray],
    rooms: int | Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    store: Store,
    batch_tokens: int,
    frames: Sequence[Frame] | None = None,
    shared: int | None = None,
    plans: Sequence[np.ndarray] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Read every window of every sequence of piece ids once and hand the logits of each batch to `store`.

    rooms: how many pieces fit into a window, of all sequences or of each. frames: by default the tokenizer's special
    tokens. plans: the windows of each sequence, by default those of rows.pieces.windows. All sequences are numbered
    through as one. Returns where each begins and the last one ends, (sequences + 1,), and the table of all windows,
    (windows, 4). Raises Cancelled, and NonFiniteOutputs as `check_finite` does.
    """
    begins = np.cumsum([0, *map(len, sequences)])
    flat = np.concatenate([np.empty(0, dtype=np.int32), *sequences])  # (pieces,) of all sequences
    frames = frames or [frame(tokenizer)] * len(sequences)
    if plans is None:
        placed = zip(sequences, np.broadcast_to(rooms, len(sequences)).tolist(), strict=True)
        plans = [windows(len(sequence), room, shared) for sequence, room in placed]
    plans = [plan + begin for plan, begin in zip(plans, begins[:-1], strict=True)]
    table = np.concatenate([np.empty((0, 4), dtype=np.int64), *plans])
    owners = np.repeat(np.arange(len(plans)), [len(plan) for plan in plans])  # (windows,) the sequence of each
    special = np.array([around.size for around in frames], dtype=np.int64)[owners]
    batches = _batches(table[:, 1] - table[:, 0] + special, batch_tokens, share_of=thread_count(model))
    done, threads = 0, thread_count(model)
    for group in in_groups(batches, threads) if cancelled else [batches]:
        if cancelled and cancelled():
            raise Cancelled("The prediction was cancelled.")
        with evaluating(model), side_by_side(threads, len(group)) as submit:
            waiting = [
                submit(_read_batch, flat, table[chosen], [frames[owner] for owner in owners[chosen]], model, store)
                for chosen in group
            ]
            for chosen, result in zip(group, waiting, strict=True):
                result()
                done += len(chosen)
                if progress:
                    progress(done, len(table))
    return begins, table


def window_logits(
    sequences: Sequence[np.ndarray],
    rooms: int | Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[np.ndarray]:
    """The logits of the windows of each sequence, (windows, labels); an empty sequence has one window.

    rooms: as for `read`.
    """
    by_start: dict[int, np.ndarray] = {}  # logits by the place where the window starts

    def store(logits: torch.Tensor, rows: np.ndarray, place: np.ndarray) -> None:
        by_start.update(zip(rows[:, 0].tolist(), logits.cpu().numpy(), strict=True))

    unknown = tokenizer.unk_token_id or 0  # an empty text is read as one unknown piece
    filled = [ids if len(ids) else np.array([unknown], dtype=np.int32) for ids in sequences]
    begins, table = read(filled, rooms, model, tokenizer, store=store, **options)
    ends = np.searchsorted(table[:, 0], begins)
    return [np.stack([by_start[start] for start in table[a:b, 0].tolist()]) for a, b in itertools.pairwise(ends)]


def window_size(
    model: torch.nn.Module, tokenizer: Any, max_tokens: int | None = None, *, reading: str | None = None
) -> int:
    """How many pieces of one text fit into the window of `longest_window`, beside the special tokens."""
    return longest_window(model, tokenizer, max_tokens, reading=reading) - tokenizer.num_special_tokens_to_add()


def longest_window(
    model: torch.nn.Module, tokenizer: Any, max_tokens: int | None = None, *, reading: str | None = None
) -> int:
    """The length of a window in which texts are read, special tokens included.

    Without max_tokens this is the length that the model was trained with: for a classifier always, for a tagger with
    the reading "windows". Otherwise, and where its config does not state that length, it is the model's limit. Raises
    BadSpec where max_tokens is out of range.
    """
    limit, special = model_limit(model, tokenizer), tokenizer.num_special_tokens_to_add()
    trained = document_reading(model)["max_tokens"] if reading == "windows" or is_classifier(model) else None
    wanted = min(trained or limit, limit, tokenizer.model_max_length) if max_tokens is None else max_tokens
    if not special < wanted <= limit:
        raise BadSpec(
            [("max_tokens", f"found {wanted:,}; this model reads {special + 1:,} to {limit:,} word pieces at once")],
            next_step="Give a number in that range, or leave it out to use the model's own limit.",
        )
    return wanted


def _batches(lengths: np.ndarray, batch_tokens: int, *, share_of: int) -> list[np.ndarray]:
    """The windows of these lengths as indices, longest first, in batches that `share_of` threads can compute at the
    same time.

    The batches of all threads together have at most batch_tokens padded pieces, and a few windows are shared out evenly
    between the threads. A batch has at least one row.
    """
    order = np.argsort(-lengths, kind="stable")
    budget = min(batch_tokens, int(lengths.sum())) // share_of
    batches, start = [], 0
    while start < len(order):
        rows = max(1, budget // int(lengths[order[start]]))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def thread_count(model: torch.nn.Module) -> int:
    """How many batches can run side by side: one on an accelerator, one per thread on a CPU."""
    return torch.get_num_threads() if next(model.parameters()).device.type == "cpu" else 1


def in_groups(batches: Sequence[T], threads: int) -> Iterator[Sequence[T]]:
    """The batches, as many at a time as there are threads: after each group a caller may cancel, or use the model."""
    return (batches[start : start + threads] for start in range(0, len(batches), threads))


@contextmanager
def side_by_side(threads: int, batches: int) -> Iterator[Submit]:
    """Yields `submit`, which starts a call and returns a function that waits for its result.

    On a CPU, batches run side by side with one thread each: threads that share every operator wait for each other
    hundreds of times per batch, which took 30 % longer on two cores. Where there are so few batches that a fifth of the
    threads' time would be idle, they are computed one after the other.
    """
    if threads == 1 or batches < 0.8 * threads * math.ceil(batches / threads):
        yield functools.partial
        return
    # The number of threads is a setting of each thread, and a new thread starts with the number that was set last, so
    # it is set again at the end.
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def submit(call: Callable[P, R], /, *args: P.args, **options: P.kwargs) -> Callable[[], R]:
        return pool.submit(call, *args, **options).result

    try:
        yield submit
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


@torch.inference_mode()
def _read_batch(
    flat: np.ndarray, rows: np.ndarray, frames: Sequence[Frame], model: torch.nn.Module, store: Store
) -> None:
    """Read the windows `rows` of the pieces `flat` in one forward pass and hand the logits to `store`."""
    parts = [(flat[start:end], around) for (start, end, *_), around in zip(rows.tolist(), frames, strict=True)]
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in framed(parts).items()}
    before = np.array([len(around.before) for around in frames])
    # (batch, width): the piece under each column
    place = (rows[:, 0] - before)[:, None] + np.arange(batch["input_ids"].shape[1])
    logits = logits_of(model(**inputs(model, batch))).float()
    real = batch["attention_mask"].bool()
    check_finite(logits[real] if logits.ndim == 3 else logits, model)  # outputs at padding are never used
    store(logits, rows, place)


def check_finite(outputs: torch.Tensor, model: torch.nn.Module) -> None:
    """Raise NonFiniteOutputs if outputs of a model, of any shape, are NaN or infinite."""
    if not torch.isfinite(outputs).all():
        wrong = int((~torch.isfinite(outputs)).sum())
        raise NonFiniteOutputs(
            f"{wrong:,} of {outputs.numel():,} outputs of this {type(model).__name__} are NaN or infinite."
        )
