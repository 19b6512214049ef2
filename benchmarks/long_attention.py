"""Long text through encoders of 6 layers x 384: Stillroom's attention against transformers', in one run.

    python -m benchmarks.long_attention [--json] [--case longformer-4096-forward ...] [--rounds N] [--threads N]
        [--precision bf16]

Both sides have the same weights (in bf16 if asked for) and inputs: one row, a tenth of it padding, with the first token
global (Longformer). A case is a model, a length and a pass: `forward`, or `step`, which is forward and backward without
dropout, so that the numbers can be compared. `equal` is the largest difference of the last hidden states at real
tokens, and for a step also of the gradients. The sides take turns, each in a process of its own, because within one
process each would pay for memory that the other has freed.

Peer of `windows-4096-*`: the same tokens in nine windows of 512 through a BERT of the same size. A `growth-*` case has
no peer: its exponents say how time and peak memory grow from 1,024 to 16,384 tokens (1 means in proportion); memory is
that of one pass beyond the model itself, in a new process. In other cases peak memory is that of a side's process. A
`training-*` case is a step with dropout, ours with our dropout; its numbers are random, so they are not compared.
limit_share counts the products of the tokens that each token may attend to.
"""

import argparse
import copy
import itertools
import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple, TypeVar

import psutil
import torch
from transformers import (
    BertConfig,
    BertModel,
    BigBirdConfig,
    BigBirdModel,
    LongformerConfig,
    LongformerModel,
    PreTrainedModel,
)

from benchmarks import measure
from trainer.architectures import dropout, quicken
from trainer.architectures.layer_outputs import quicken_attention
from trainer.evaluation import cost

SHAPE = {
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
LENGTHS, PASSES = (512, 1024, 4096), ("forward", "step")  # at 16,384 transformers takes tens of GB
KINDS = ("longformer", "bigbird")
WINDOW, WINDOWS = 512, 9  # 4,096 tokens are nine windows that share a quarter
GROWTH = (1024, 4096, 16384)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
SIDE: list[Callable[[], None]] = []  # in a side's process: its pass
ATTENDED = {"longformer": 513, "bigbird": 320, "bert": 512}  # keys per query, global tokens included
R = TypeVar("R")


class Side(NamedTuple):
    """A model to time; padded: whether a tenth of the tokens is padding; quick: with Stillroom's attention."""

    kind: str
    tokens: int
    padded: bool
    quick: bool


class Measures(NamedTuple):
    """Median seconds and peak bytes of each side."""

    seconds: dict[str, float]
    peaks: dict[str, int]


def build(kind: str, tokens: int, dtype: torch.dtype) -> PreTrainedModel:
    """An encoder of a kind with random weights and room for `tokens`, as transformers computes it."""
    torch.manual_seed(0)
    model: PreTrainedModel
    if kind == "bert":
        model = BertModel(BertConfig.from_dict(SHAPE), add_pooling_layer=False)
    elif kind == "longformer":
        positions = {"max_position_embeddings": tokens + 2, "pad_token_id": 1}
        model = LongformerModel(LongformerConfig.from_dict(SHAPE | positions), add_pooling_layer=False)
    else:
        config = BigBirdConfig.from_dict(SHAPE | {"max_position_embeddings": tokens})
        model = BigBirdModel(config, add_pooling_layer=False)
    return model.eval().to(dtype)


def inputs(kind: str, tokens: int) -> dict[str, torch.Tensor]:
    """One row of random pieces (nine for a BERT); the last tenth is padding."""
    rows = WINDOWS if kind == "bert" else 1
    ids = torch.randint(1000, 30522, (rows, tokens), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(tokens) < tokens - tokens // 10).long().expand_as(ids)
    first = torch.zeros_like(ids)
    first[:, 0] = 1
    batch = {"input_ids": ids, "attention_mask": mask}
    return batch | ({"global_attention_mask": first} if kind == "longformer" else {})


def runner(model: torch.nn.Module, batch: dict[str, torch.Tensor], way: str) -> Callable[[], None]:
    """A function that does one pass."""

    def forward() -> None:
        with torch.inference_mode():
            model(**batch)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(**batch).last_hidden_state.sum().backward()

    return {"forward": forward, "step": step, "training": step}[way]


def against_transformers(
    kind: str, tokens: int, way: str, *, rounds: int, threads: int, dtype: torch.dtype
) -> dict[str, Any]:
    """One pass of one model with Stillroom's attention and with transformers'."""
    peer = build(kind, tokens, dtype)
    equal = difference(quicken(copy.deepcopy(peer)), peer, inputs(kind, tokens), way)
    sides = {"ours": Side(kind, tokens, True, True), "peer": Side(kind, tokens, True, False)}
    measures = measure_sides(sides, way, rounds=rounds, threads=threads, dtype=dtype)
    return case(f"{kind}-{tokens}-{way}", measures, equal, flops(kind, tokens, way), threads, dtype)


def measure_sides(sides: dict[str, Side], way: str, *, rounds: int, threads: int, dtype: torch.dtype) -> Measures:
    """Time the sides in turn, each in a process of its own."""
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(
                ProcessPoolExecutor(1, get_context("spawn"), _prepare, (*side, way, threads, dtype))
            )
            for name, side in sides.items()
        }
        runs = {name: partial(_in, process, _run) for name, process in processes.items()}
        seconds = measure.interleaved(runs, rounds=rounds)
        return Measures(seconds, {name: _in(process, _peak) for name, process in processes.items()})


def _in(process: ProcessPoolExecutor, work: Callable[[], R]) -> R:
    return process.submit(work).result()


def _peak() -> int:
    return cost.peak_bytes(torch.device("cpu"))


def _prepare(kind: str, tokens: int, padded: bool, quick: bool, way: str, threads: int, dtype: torch.dtype) -> None:
    torch.set_num_threads(threads)
    model, batch = build(kind, tokens, dtype), inputs(kind, tokens)
    if not padded:
        batch["attention_mask"] = torch.ones_like(batch["attention_mask"])
    if way == "training":
        model.train()
        if quick:
            dropout.quicken(model)
            quicken_attention(model)
    SIDE.append(runner(quicken(model) if quick else model, batch, way))


def _run() -> None:
    SIDE[0]()


def difference(ours: torch.nn.Module, peer: torch.nn.Module, batch: dict[str, torch.Tensor], way: str) -> float:
    """The largest difference of states at real tokens, and of gradients if there is a backward pass."""
    real, outcomes = batch["attention_mask"].bool(), []
    for model in (ours, peer):
        with torch.inference_mode(way == "forward"):
            states = model(**batch).last_hidden_state[real]
        if way == "step":
            states.square().mean().backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        outcomes.append([states.detach(), *gradients])
    return max(float((mine - theirs).abs().max()) for mine, theirs in zip(*outcomes, strict=True))


def training(kind: str, tokens: int, *, rounds: int, threads: int, dtype: torch.dtype) -> dict[str, Any]:
    """A step with dropout against transformers'; a BERT reads nine rows."""
    sides = {"ours": Side(kind, tokens, True, True), "peer": Side(kind, tokens, True, False)}
    measures = measure_sides(sides, "training", rounds=rounds, threads=threads, dtype=dtype)
    work = flops(kind, tokens, "step") * (WINDOWS if kind == "bert" else 1)
    return case(f"training-{kind}-{tokens}", measures, None, work, threads, dtype)


def windows(way: str, *, rounds: int, threads: int, dtype: torch.dtype) -> dict[str, Any]:
    """Longformer at 4,096 tokens against a BERT that reads them in nine windows."""
    sides = {"ours": Side("longformer", 4096, False, True), "peer": Side("bert", WINDOW, False, False)}
    measures = measure_sides(sides, way, rounds=rounds, threads=threads, dtype=dtype)
    return case(f"windows-4096-{way}", measures, None, flops("longformer", 4096, way), threads, dtype)


def growth(kind: str, way: str, *, rounds: int, threads: int, dtype: torch.dtype) -> dict[str, Any]:
    """Seconds and peak megabytes at each length, each measured once, and the exponents with which they grow."""
    measures = [_measure_fresh(kind, tokens, way, threads, dtype) for tokens in GROWTH]
    seconds, peaks = [each[0] for each in measures], [each[1] for each in measures]
    name = f"growth-{kind}-{way}"
    figures: dict[str, Any] = {"name": name, "ours": seconds[-1], "peer": None, "ratio": None, "equal": None}
    figures["limit_share"] = (
        flops(kind, GROWTH[-1], way) / seconds[-1] / measure.matrix_peak(threads=threads, dtype=dtype)
    )
    for what, values in (("seconds", seconds), ("peak_megabytes", [peak / 1e6 for peak in peaks])):
        figures |= {f"{what}_{tokens}": value for tokens, value in zip(GROWTH, values, strict=True)}
        figures[f"{what}_exponent"] = math.log(values[-1] / values[0]) / math.log(GROWTH[-1] / GROWTH[0])
    return figures


def _measure_fresh(kind: str, tokens: int, way: str, threads: int, dtype: torch.dtype) -> tuple[float, int]:
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(_time_passes, kind, tokens, way, threads, dtype).result()


def _time_passes(kind: str, tokens: int, way: str, threads: int, dtype: torch.dtype) -> tuple[float, int]:
    """Seconds of the faster of two passes, and their peak bytes beyond those of the model."""
    torch.set_num_threads(threads)
    run = runner(quicken(build(kind, GROWTH[-1], dtype)), inputs(kind, tokens), way)
    before, times = psutil.Process().memory_info().rss, []
    for _ in range(2):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times), cost.peak_bytes(torch.device("cpu")) - before


def flops(kind: str, tokens: int, way: str) -> float:
    """Operations of a pass over the real tokens, each of which attends to ATTENDED others."""
    hidden, real = SHAPE["hidden_size"], tokens - tokens // 10
    projections = 8 * hidden**2 + 4 * hidden * SHAPE["intermediate_size"]
    attention = 4 * hidden * min(real, ATTENDED[kind])
    return SHAPE["num_hidden_layers"] * real * (projections + attention) * (3 if way == "step" else 1)


def case(
    name: str, measures: Measures, equal: float | None, work: float, threads: int, dtype: torch.dtype
) -> dict[str, Any]:
    """A case in the shape that every benchmark prints, with both peaks."""
    seconds, peaks = measures
    return {
        "name": name,
        "ours": seconds["ours"],
        "peer": seconds["peer"],
        "ratio": seconds["peer"] / seconds["ours"],
        "equal": equal,
        "limit_share": work / seconds["ours"] / measure.matrix_peak(threads=threads, dtype=dtype),
    } | {f"peak_megabytes_{side}": peak / 1e6 for side, peak in peaks.items()}


def cases() -> dict[str, Callable[..., dict[str, Any]]]:
    """Every case by name: a function of rounds, threads and dtype."""
    table: dict[str, Callable[..., dict[str, Any]]] = {}
    for kind, tokens, way in itertools.product(KINDS, LENGTHS, PASSES):
        table[f"{kind}-{tokens}-{way}"] = partial(against_transformers, kind, tokens, way)
    for way in PASSES:
        table[f"windows-4096-{way}"] = partial(windows, way)
    for kind, tokens in (*((kind, LENGTHS[-1]) for kind in KINDS), ("bert", WINDOW)):
        table[f"training-{kind}-{tokens}"] = partial(training, kind, tokens)
    for kind, way in itertools.product(KINDS, PASSES):
        table[f"growth-{kind}-{way}"] = partial(growth, kind, way)
    return table


def main() -> None:
    table = cases()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", action="append", choices=list(table))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=list(PRECISIONS), default="fp32")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    results = [
        run(rounds=chosen.rounds, threads=chosen.threads, dtype=PRECISIONS[chosen.precision])
        for name, run in table.items()
        if not chosen.case or name in chosen.case
    ]
    measure.show(results, as_json=chosen.json)


if __name__ == "__main__":
    main()
