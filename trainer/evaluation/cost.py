"""What a model costs: parameters, weights on disk, time per item and per text of a given length, speed and memory.

Every report measures with this code, so that costs can be compared across tasks. Figures mean nothing without the
hardware, threads and precision that stand beside them (`evaluation.hardware`).
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import torch

from trainer.datasets.rows.pieces import cut

LENGTHS = (128, 512, 1024, 4096)  # word pieces of the texts that are timed
TIMED = 100  # items that are timed
ROUNDS, FEWEST_ROUNDS, SECONDS = 20, 3, 0.2  # of one length: no further round once this time is over

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
Outputs = TypeVar("Outputs")


def measure(
    model: torch.nn.Module,
    read: Callable[[], Outputs],
    *,
    pieces: Callable[[Outputs], int],
    read_one: Callable[[int], object],
    count: int,
    folder: Path | None = None,
    seed: int = 0,
) -> tuple[Outputs, dict[str, float]]:
    """What `read` returns, and the cost of a model that reads all of `count` items in it.

    params; disk_bytes of the weights in `folder`, or in memory without one; latency_ms_p50 and latency_ms_p95 of
    `read_one`, which reads item i by itself, tokenisation included, over a seeded sample; tokens_per_second of `read`,
    in word pieces that it read (`pieces`); peak_memory_bytes of this process (on an accelerator: of its tensors) in it.
    """
    device = next(model.parameters()).device
    reset_peak(device)
    began = time.perf_counter()
    outputs = read()
    seconds, peak = time.perf_counter() - began, peak_bytes(device)
    chosen = np.random.default_rng(seed).permutation(count)[:TIMED].tolist()
    read_one(chosen[0])  # a warm-up
    return outputs, {
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "disk_bytes": weight_bytes(model, folder),
        **_percentiles([_milliseconds(read_one, index) for index in chosen]),
        "tokens_per_second": pieces(outputs) / seconds,
        "peak_memory_bytes": peak,
    }


def by_length(
    read_text: Callable[[str], object], texts: Iterable[str], tokenizer: Any, *, lengths: Iterable[int] = LENGTHS
) -> dict[str, float]:
    """latency_ms_p50_at_128 and the like: the time that one text of this many word pieces takes, in its windows.

    The texts are put together, again and again where they are too short. Empty where they have no word piece.
    """
    lengths = sorted(lengths)
    whole, ends = _long_text(texts, tokenizer, lengths[-1])
    latencies: dict[str, float] = {}
    for length in lengths if len(ends) else ():
        part = whole[: int(ends[length - 1])]
        began, times = time.perf_counter(), list[float]()
        while len(times) < FEWEST_ROUNDS or (len(times) < ROUNDS and time.perf_counter() - began < SECONDS):
            times.append(_milliseconds(read_text, part))
        latencies |= {f"{name}_at_{length}": value for name, value in _percentiles(times).items()}
    return latencies


def _long_text(texts: Iterable[str], tokenizer: Any, pieces: int) -> tuple[str, np.ndarray]:
    """A text of at least this many word pieces, and where each of them ends; none where the texts have no piece."""
    parts, number, most = list[str](), 0, 40 * pieces  # code points, more than any text of so many pieces needs
    for text in texts:
        parts.append(text[:most])
        number += len(cut(parts[-1], tokenizer).ids)
        if number >= pieces:
            break
    if not number:
        return "", np.zeros(0, dtype=np.int32)
    whole = "\n".join(parts * -(-pieces // number))
    ends = cut(whole, tokenizer).ends
    return (whole, ends) if len(ends) >= pieces else _long_text([whole, whole], tokenizer, pieces)


def _milliseconds(read: Callable[[Any], object], what: object) -> float:
    began = time.perf_counter()
    read(what)
    return (time.perf_counter() - began) * 1000


def _percentiles(times: list[float]) -> dict[str, float]:
    middle, slow = np.percentile(times, [50, 95])
    return {"latency_ms_p50": float(middle), "latency_ms_p95": float(slow)}


def weight_bytes(model: torch.nn.Module, folder: Path | None) -> int:
    """The size in bytes of the weights in a folder, or in memory without one."""
    if folder is not None:
        return sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def reset_peak(device: torch.device) -> None:
    """Start a new measurement of `peak_bytes`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # where it cannot be reset, the peak covers the whole life of the process
        _CLEAR_REFS.write_text("5")  # Linux: resets the peak to the current resident size


def peak_bytes(device: torch.device) -> int:
    """The peak memory of this process (on an accelerator: of its tensors) since `reset_peak`, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.exists():
        mark = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(mark.split()[1]) * 1024
    return psutil.Process().memory_info().rss
