"""What all benchmarks share: the peak rate of matrix products, paired timing, operation counts and the report.

A floating-point operation is a multiplication or an addition, so a product of (m, k) and (k, n) takes 2 m k n.
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import linear

# Tokens, inputs and outputs of the largest products in an encoder: MiniLM's feed-forward and BERT-base's.
SHAPES = ((1024, 384, 1536), (1024, 1536, 384), (1024, 768, 3072), (1024, 3072, 768))


def matrix_peak(
    *,
    threads: int,
    shapes: Iterable[tuple[int, int, int]] = SHAPES,
    seconds: float = 0.3,
    dtype: torch.dtype = torch.float32,
) -> float:
    """The most operations per second that `threads` CPU threads reach in a linear layer of any of `shapes`.

    Each (tokens, inputs, outputs) is repeated for `seconds`. The fastest repetition counts: the peak is a limit, not an
    average.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return max(_product_rate(*shape, seconds=seconds, dtype=dtype) for shape in shapes)
    finally:
        torch.set_num_threads(before)


def forward_flops(config: Any, lengths: Iterable[int]) -> float:
    """Operations of one forward pass of a BERT-like encoder over sequences of `lengths` tokens, special ones included.

    A layer with hidden size h and feed-forward size f takes for n tokens 8 n h^2 (query, key, value and output),
    4 n^2 h (scores, and the weighted sum of values) and 4 n h f (both feed-forward products); the head takes 2 n h l
    for l labels.
    Neither padding nor soft-max, norms and activations are counted: whatever is not a matrix product is overhead.
    """
    h, f = config.hidden_size, config.intermediate_size
    n = np.array(list(lengths), dtype=float)
    layer = n * (8 * h * h + 4 * h * f) + n**2 * 4 * h
    return float((config.num_hidden_layers * layer + 2 * n * h * config.num_labels).sum())


def training_flops(config: Any, lengths: Iterable[int]) -> float:
    """Operations of one training step over the same sequences: a backward pass does every product twice."""
    return 3 * forward_flops(config, lengths)


def interleaved(sides: Mapping[str, Callable[[], object]], *, rounds: int = 5) -> dict[str, float]:
    """Median seconds of each side. They run in turn, `rounds` times after one warm-up, in alternating order.

    So whatever else the machine does affects all sides equally.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-1, rounds):
        for name in sorted(sides, reverse=number % 2 == 0):
            began = time.perf_counter()
            sides[name]()
            if number >= 0:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def show(cases: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print one JSON object per line, or a table with a column per case; the first field of a case is its name."""
    if as_json:
        for case in cases:
            sys.stdout.write(json.dumps(case) + "\n")
        return
    table = Table("", *(str(case["name"]) for case in cases))
    for field in list(cases[0])[1:]:
        values = (case.get(field) for case in cases)
        table.add_row(field, *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values))
    Console().print(table)


def _product_rate(tokens: int, inputs: int, outputs: int, *, seconds: float, dtype: torch.dtype) -> float:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(rows, inputs, generator=generator).to(dtype) for rows in (tokens, outputs))
    fastest, until = math.inf, time.perf_counter() + seconds
    with torch.inference_mode():
        linear(x, weight)
        while (began := time.perf_counter()) < until:
            linear(x, weight)
            fastest = min(fastest, time.perf_counter() - began)
    return 2 * tokens * inputs * outputs / fastest
