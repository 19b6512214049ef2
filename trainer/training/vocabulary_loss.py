"""Loss terms over a vocabulary, computed for a group of positions at a time together with their gradient.

The logits of 300 positions over 30,522 word pieces take 37 MB, and a loss reads them and their gradients half a dozen
times. A small group stays in the processor's cache, and the next group reuses its memory. Computing the gradient in the
forward pass, group by group, follows Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM Training". The
terms themselves are in trainer.training.losses.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import linear

from trainer.models.heads import VocabularyProjection

GROUP_BYTES = 20 << 20  # of fp32 logits; from 32 MB on glibc returns memory to the system, which zeroes it anew

Compare = Callable[[torch.Tensor, torch.Tensor | None, torch.Tensor], torch.Tensor]


def vocabulary_loss(
    student: VocabularyProjection,
    teacher: VocabularyProjection | None,
    labels: torch.Tensor,
    compare: Compare,
    *,
    group_bytes: int = GROUP_BYTES,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of the terms, with a gradient for the student, and the single terms, (terms,), without one.

    compare(student logits, teacher logits, labels) returns the terms of a group of positions, (terms,), as weighted
    means over the group. labels: (positions,). group_bytes: size of a group's fp32 logits on a CPU.
    """
    return _ByGroups.apply(compare, teacher, labels, group_bytes, *student)


class _ByGroups(torch.autograd.Function):
    @staticmethod
    def forward(ctx, compare, teacher, labels, group_bytes, hidden, weight, bias):
        kind = _arithmetic(hidden)
        mine, theirs = _cast(VocabularyProjection(hidden, weight, bias), kind), teacher and _cast(teacher, kind)
        to_hidden, to_weight, to_bias, parts = torch.empty_like(mine.hidden), None, None, []
        for group in _groups(len(hidden), len(weight), hidden.device, group_bytes):
            with torch.enable_grad():
                logits = linear(mine.hidden[group], mine.weight, mine.bias).requires_grad_()
                targets = theirs and linear(theirs.hidden[group], theirs.weight, theirs.bias)
                terms = compare(logits, targets, labels[group]) * (len(logits) / max(1, len(hidden)))
                (slope,) = torch.autograd.grad(terms.sum(), logits)
            parts.append(terms.detach())
            torch.mm(slope, mine.weight, out=to_hidden[group])
            if ctx.needs_input_grad[5]:
                to_weight = _plus_product(to_weight, slope.t(), mine.hidden[group], weight.dtype)
            if ctx.needs_input_grad[6]:
                summed = slope.sum(0, dtype=bias.dtype)
                to_bias = summed if to_bias is None else to_bias.add_(summed)
        ctx.save_for_backward(to_hidden.to(hidden.dtype), to_weight, to_bias)
        terms = torch.stack(parts).sum(0)
        ctx.mark_non_differentiable(terms)
        return terms.sum(), terms

    @staticmethod
    def backward(ctx, scale, _):
        one = scale.device.type == "cpu" and scale == 1  # reading the scale on a GPU would wait for it
        slopes = (each if each is None or one else each * scale for each in ctx.saved_tensors)
        return None, None, None, None, *slopes


def _arithmetic(tensor: torch.Tensor) -> torch.dtype:
    """The type in which autocast would compute a matrix product with this tensor."""
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype


def _cast(head: VocabularyProjection, kind: torch.dtype) -> VocabularyProjection:
    bias = None if head.bias is None else head.bias.to(kind)
    return VocabularyProjection(head.hidden.to(kind), head.weight.to(kind), bias)


def _plus_product(total: torch.Tensor | None, left: torch.Tensor, right: torch.Tensor, kind: torch.dtype):
    """total + left @ right, of dtype `kind` and in place; a total of None counts as zero."""
    if total is None:
        return (left @ right).to(kind)
    return total.addmm_(left, right) if left.dtype == kind else total.add_(left @ right)


def _groups(positions: int, vocabulary: int, device: torch.device, group_bytes: int) -> Iterator[slice]:
    """Slices of equal size over the positions, at least one; a GPU takes all positions at once."""
    count = math.ceil(positions * vocabulary * 4 / group_bytes) if device.type == "cpu" else 1
    rows = max(1, math.ceil(positions / max(1, count)))
    return (slice(start, start + rows) for start in range(0, max(1, positions), rows))
