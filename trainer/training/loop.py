"""The one training loop, in plain torch: a generator, so that evaluating, saving and logging are left to its caller."""

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
    """The loss or the gradient became NaN or infinite; that step changed no weight."""

    next_step = "Lower the learning rate or raise the warm-up, then submit again; the last checkpoint is kept."


@dataclass(frozen=True)
class Step:
    """A finished optimiser step: its 1-based number, and its loss terms, speeds and learning rate."""

    number: int
    metrics: dict[str, float]


def optimizer_for(model: torch.nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """Fused AdamW; biases and norm weights (vectors) are exempt from weight decay, as in the training of BERT."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=schedule.lr, fused=True)


def learning_rate(step: int, *, total: int, schedule: Schedule) -> float:
    """The learning rate of 0-based `step`: linear warm-up to `lr`, then linear decay towards 0 after `total` steps."""
    warmup = math.ceil(total * schedule.warmup)
    if step < warmup:
        return schedule.lr * (step + 1) / warmup
    return schedule.lr * (total - step) / max(1, total - warmup)


def number_format(device: torch.device, precision: str) -> str:
    """bf16 or fp32: what `precision` (trainer.spec.Compute) means on a device."""
    return "bf16" if precision == "bf16" or (precision == "auto" and device.type == "cuda") else "fp32"


def arithmetic(device: torch.device, precision: str) -> torch.autocast:
    """A context in which forward passes compute in the number format of `precision` (trainer.spec.Compute)."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=number_format(device, precision) == "bf16")


def check_precision(device: torch.device, precision: str) -> None:
    """Raise BadSpec for bf16 on a processor without bf16 products: emulated, they are 100 times slower.

    GPUs are not checked, nor a torch that cannot tell (before 2.13).
    """
    if precision != "bf16" or device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return
    capabilities = torch.cpu.get_capabilities()
    if not any(capabilities.get(name) for name in FAST_BF16):
        processor = capabilities.get("cpu_name", capabilities["architecture"])
        problem = (
            f"found bf16, which this processor ({processor}) would only emulate, 100 times slower than fp32: "
            "it has no AMX, AVX512-BF16 or bf16 of Arm"
        )
        raise BadSpec(
            [("compute.precision", problem)],
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
    """Take steps `start` to `total` and yield after each. The state after a step depends only on (seed, step).

    objective: batch -> loss terms, each a scalar; "loss" is minimised, all are reported (trainer.training.objective).
    batch_at: 0-based number of a batch -> batch on the CPU (input_ids, attention_mask, ...: (rows, tokens)); a step
    takes `schedule.accumulate` batches and averages their gradients. precision: as in trainer.spec.Compute, for forward
    passes; weights, gradients, optimiser and losses are always in fp32.
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
    """Scale the gradients down to the norm `largest` where theirs is greater. Returns their norm before that."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if norm > largest:  # torch's own clip_grad_norm_ multiplies by 1 otherwise, a pass over all gradients
        torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return float(norm)


def _size(batch: dict[str, torch.Tensor]) -> dict[str, int]:
    examples = batch.get("documents", batch["input_ids"])  # of documents each row is a window
    return {"examples": len(examples), "tokens": int(batch["attention_mask"].sum())}


def _figures(measured: Mapping[str, float], seconds: float) -> dict[str, float]:
    """The measured terms, with speeds in place of the sizes."""
    sizes = ("examples", "tokens")
    speeds = {f"{name}_per_second": measured[name] / seconds for name in sizes}
    return {name: value for name, value in measured.items() if name not in sizes} | speeds


def _noise_seed(seed: int, step: int) -> int:
    # torch's CPU generator uses only 32 bits of its seed, so seed and step are hashed into 32.
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
