"""The one training loop: a generator, so that evaluating, saving and logging live outside it. Plain torch."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from trainer.architectures.dropout import quicken
from trainer.errors import BadSpec, StillroomError
from trainer.spec import Schedule

FAST_BF16 = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # of torch.cpu.get_capabilities; the last two are Arm's


class NonFiniteLoss(StillroomError):
    """The loss or the gradient became NaN or infinite; no weight was changed by that step."""

    next_step = "Lower the learning rate or raise the warm-up, then submit again; the last checkpoint is kept."


@dataclass(frozen=True)
class Step:
    """One finished optimiser step: its 1-based number and what was measured in it."""

    number: int
    metrics: dict[str, float]


def optimizer_for(model: torch.nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """Fused AdamW; biases and norm weights (vectors) are exempt from weight decay, as in BERT's own training."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=schedule.lr, fused=True)


def learning_rate(step: int, *, total: int, schedule: Schedule) -> float:
    """Rate of 0-based `step`: linear warm-up to `lr`, then linear decay towards zero after `total` steps."""
    warmup = math.ceil(total * schedule.warmup)
    if step < warmup:
        return schedule.lr * (step + 1) / warmup
    return schedule.lr * (total - step) / max(1, total - warmup)


def number_format(device: torch.device, precision: str) -> str:
    """bf16 or fp32: what a `precision` (trainer.spec.Compute) comes to on a device."""
    return "bf16" if precision == "bf16" or (precision == "auto" and device.type == "cuda") else "fp32"


def arithmetic(device: torch.device, precision: str) -> torch.autocast:
    """The forward passes' number format in a block: bf16 where `precision` (trainer.spec.Compute) says so, or fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=number_format(device, precision) == "bf16")


def check_precision(device: torch.device, precision: str) -> None:
    """Raise BadSpec where bf16 is asked of a processor without such products: imitated, they are 100 times slower.

    A GPU is not asked, nor a torch that cannot tell (before 2.13).
    """
    if precision != "bf16" or device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return
    found = torch.cpu.get_capabilities()
    if not any(found.get(name) for name in FAST_BF16):
        said = f"found bf16, which this processor ({found.get('cpu_name', found['architecture'])}) would only imitate"
        raise BadSpec(
            [("compute.precision", f"{said}, 100 times slower than fp32: it has no AMX, AVX512-BF16 or bf16 of Arm")],
            next_step="Leave precision out, or write auto: bf16 on a GPU, fp32 on a processor.",
        )


def train(
    objective: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    batch_at: Callable[[int], dict[str, torch.Tensor]],
    schedule: Schedule,
    total: int,
    start: int = 0,
    seed: int = 0,
    precision: str = "auto",
) -> Iterator[Step]:
    """Take steps `start` to `total` and yield after each one. The state after a step depends on (seed, step) alone.

    objective: batch -> loss terms, each a scalar; "loss" is minimised, all are reported (trainer.training.objective).
    batch_at: 0-based number of a batch -> batch on the CPU (input_ids, attention_mask, ...: (rows, tokens)); a step
    takes `schedule.accumulate` of them and averages their gradients. precision: as in trainer.spec.Compute; weights,
    gradients, optimiser and losses stay in fp32 whatever it says.
    Raises NonFiniteLoss before a bad step can change a weight.
    """
    quicken(objective)
    device = next(objective.parameters()).device
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for step in range(start, total):
        began = time.perf_counter()
        objective.train()
        parts = schedule.accumulate
        measured: Counter[str] = Counter()
        for part in range(step * parts, (step + 1) * parts):
            torch.manual_seed(_noise_seed(seed, part))  # dropout needs no state of its own
            batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch_at(part).items()}
            with arithmetic(device, precision):
                terms = objective(batch)
            (terms["loss"] / parts).backward()
            measured.update({name: float(value.detach()) / parts for name, value in terms.items()})
            measured.update(_size(batch))
        norm = _clip(parameters, schedule.clip)
        if not math.isfinite(measured["loss"]) or not math.isfinite(norm):
            raise NonFiniteLoss(f"At step {step + 1} the loss was {measured['loss']:g}, its gradient {norm:g}.")
        rate = learning_rate(step, total=total, schedule=schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield Step(step + 1, _figures(measured, time.perf_counter() - began) | {"lr": rate})


def _clip(parameters: list[torch.nn.Parameter], largest: float) -> float:
    """Scale the gradients down to the norm `largest` where theirs is greater; their norm before that."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if norm > largest:  # torch's own clip_grad_norm_ multiplies by 1 otherwise, a pass over all gradients
        torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return float(norm)


def _size(batch: dict[str, torch.Tensor]) -> dict[str, int]:
    examples = batch.get("documents", batch["input_ids"])  # of documents a row is one window
    return {"examples": len(examples), "tokens": int(batch["attention_mask"].sum())}


def _figures(measured: Mapping[str, float], seconds: float) -> dict[str, float]:
    """The terms, and instead of the sizes the speeds."""
    sizes = ("examples", "tokens")
    speeds = {f"{name}_per_second": measured[name] / seconds for name in sizes}
    return {name: value for name, value in measured.items() if name not in sizes} | speeds


def _noise_seed(seed: int, step: int) -> int:
    # torch's CPU generator takes in only 32 bits of its seed, so seed and step are hashed into 32.
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
