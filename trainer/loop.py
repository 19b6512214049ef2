"""The one training loop: a generator, so that evaluating, saving and logging live outside it. Plain torch."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from trainer.dropout import quicken
from trainer.errors import StillroomError
from trainer.spec import Schedule


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


def train(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    batch_at: Callable[[int], dict[str, torch.Tensor]],
    loss_of: Callable[[dict, torch.nn.Module], dict[str, torch.Tensor]],
    schedule: Schedule,
    total: int,
    start: int = 0,
    seed: int = 0,
) -> Iterator[Step]:
    """Take steps `start` to `total` and yield after each one. The state after a step depends on (seed, step) alone.

    batch_at: 0-based step -> batch on the CPU (input_ids, attention_mask, ...: (rows, tokens)).
    loss_of: (batch, model) -> loss terms, each a scalar; "loss" is minimised, all are reported.
    Raises NonFiniteLoss before a bad step can change a weight.
    """
    quicken(model)
    device = next(model.parameters()).device
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for step in range(start, total):
        began = time.perf_counter()
        model.train()
        torch.manual_seed(_noise_seed(seed, step))  # dropout needs no state of its own
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch_at(step).items()}
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            terms = loss_of(batch, model)
        terms["loss"].backward()
        norm = _clip(parameters, schedule.clip)
        measured = {name: float(value.detach()) for name, value in terms.items()}
        if not math.isfinite(measured["loss"]) or not math.isfinite(norm):
            raise NonFiniteLoss(f"At step {step + 1} the loss was {measured['loss']:g}, its gradient {norm:g}.")
        rate = learning_rate(step, total=total, schedule=schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield Step(step + 1, measured | {"lr": rate} | _speed(batch, time.perf_counter() - began))


def _clip(parameters: list[torch.nn.Parameter], largest: float) -> float:
    """Scale the gradients down to the norm `largest` where theirs is greater; their norm before that."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if norm > largest:  # torch's own clip_grad_norm_ multiplies by 1 otherwise, a pass over all gradients
        torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return float(norm)


def _speed(batch: dict[str, torch.Tensor], seconds: float) -> dict[str, float]:
    tokens = int(batch["attention_mask"].sum())
    return {"examples_per_second": len(batch["input_ids"]) / seconds, "tokens_per_second": tokens / seconds}


def _noise_seed(seed: int, step: int) -> int:
    # torch's CPU generator takes in only 32 bits of its seed, so seed and step are hashed into 32.
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
