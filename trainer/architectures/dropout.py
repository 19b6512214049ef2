"""Dropout with fast noise on the CPU, where it otherwise takes a tenth of a small model's training step.

torch draws one random number per element there, in one thread. Sixteen bits per element are enough: four elements share
one 64-bit number, and the probability is exact to 1/65,536. The noise is an int16 of 0 or 1 that is multiplied with the
bits of the numbers, which is much faster than a comparison followed by a product with booleans.
"""

from collections.abc import Iterator, Sequence

import torch
from torch.autograd.function import once_differentiable

LEVELS = 1 << 16
PIECE = 1 << 22  # probabilities computed together: 16 MB, which the allocator reuses for the next piece
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes per element


def drop(input: torch.Tensor, p: float) -> torch.Tensor:
    """Zero a share `p` of `input` (any shape, floating point) and scale the rest, with 16-bit noise on the CPU.

    The share that remains is rounded to 1/65,536 and scaled by its exact inverse, so the mean is unbiased.
    """
    dropped = levels(p)
    if input.device.type != "cpu" or not dropped:
        return torch.nn.functional.dropout(input, p)
    return _Drop.apply(input, dropped)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    p: float,
    scale: float,
    *,
    piece: int = PIECE,
) -> torch.Tensor:
    """drop(softmax(scale x query key' + bias), p) value on a CPU; each (rows, heads, tokens, width), of one dtype.

    bias broadcasts to the scores and has no gradient. More than `piece` probabilities are computed piece by piece, and
    again in the backward pass: only the noise stays in memory, two bytes per probability.
    """
    query, dropped = query * scale, levels(p)
    rows, heads, tokens, seen = (*query.shape[:3], key.shape[2])
    if bias is not None:
        bias = bias.to(value.dtype).expand(rows, heads, tokens, seen)
    if rows * heads * tokens * seen <= piece or not dropped:
        return drop(probabilities(query, [(key, value, bias)]), p) @ value
    return _Attention.apply(query, key, value, bias, dropped, piece)


# Some of the keys that share a softmax: keys and values, each (rows, heads, keys, width), and the bias of their scores.
Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


def probabilities(query: torch.Tensor, parts: Sequence[Part]) -> torch.Tensor:
    """softmax(query key' + bias) over the keys of all parts together: (rows, heads, tokens, keys)."""
    scores = [query @ key.transpose(-1, -2) for key, _, _ in parts]
    scores = [each if bias is None else each.add_(bias) for each, (_, _, bias) in zip(scores, parts, strict=True)]
    return torch.softmax(torch.cat(scores, dim=-1) if scores[1:] else scores[0], dim=-1)


def attended(query: torch.Tensor, parts: Sequence[Part], noise: torch.Tensor, dropped: int) -> torch.Tensor:
    """drop(probabilities) values with the noise of `draw_noise`: (rows, heads, tokens, width); `query` is scaled.

    Not differentiable: `gradients` is its backward pass.
    """
    shares = _by_part(_only(noise, probabilities(query, parts)), parts)
    contexts = [share @ value for share, (_, value, _) in zip(shares, parts, strict=True)]
    return sum(contexts[1:], contexts[0]).mul_(LEVELS / (LEVELS - dropped))


def gradients(
    grad: torch.Tensor, query: torch.Tensor, parts: Sequence[Part], noise: torch.Tensor, dropped: int
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """The gradients of the scaled queries, and of the keys and the values of each part, from that of `attended`."""
    grad = grad * (LEVELS / (LEVELS - dropped))
    shares = probabilities(query, parts)
    by_part = [grad @ value.transpose(-1, -2) for _, value, _ in parts]
    to_shares = _only(noise, torch.cat(by_part, dim=-1) if by_part[1:] else by_part[0])
    scores = _by_part(softmax_gradient(to_shares, shares), parts)
    to_query = [part @ key for part, (key, _, _) in zip(scores, parts, strict=True)]
    to_keys = [part.transpose(-1, -2) @ query for part in scores]
    to_values = [share.transpose(-1, -2) @ grad for share in _by_part(_only(noise, shares), parts)]
    return sum(to_query[1:], to_query[0]), to_keys, to_values


def softmax_gradient(grad: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """The gradient of the scores whose softmax over the last axis is `shares`, from the gradient of the shares.

    torch's operator for this is private; without it the formula is computed in several passes.
    """
    fused = getattr(torch.ops.aten, "_softmax_backward_data", None)
    if fused is not None:
        gradient: torch.Tensor = fused(grad, shares, -1, shares.dtype)
        return gradient
    return shares * (grad - (grad * shares).sum(-1, keepdim=True))


def levels(p: float) -> int:
    """How many of the LEVELS are dropped; 0 if sixteen bits cannot express it: all, or next to nothing."""
    return round(p * LEVELS) % LEVELS


def draw_noise(shape: torch.Size, dropped: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Noise of this shape, int16: 0 with probability dropped / LEVELS, otherwise 1."""
    words = torch.empty((shape.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[: shape.numel()].view(shape).ge_(dropped - LEVELS // 2)


class QuickDropout(torch.nn.Dropout):
    """nn.Dropout with the noise of `drop`; the same as nn.Dropout in evaluation mode."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input: any shape, floating point; the output has the same shape."""
        return drop(input, self.p) if self.training else input


def quicken(model: torch.nn.Module) -> None:
    """Replace every nn.Dropout of `model` with QuickDropout; parameters and state dict do not change."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Dropout:
                setattr(parent, name, QuickDropout(child.p).train(child.training))


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, dropped):
        noise = draw_noise(input.shape, dropped)
        ctx.save_for_backward(noise)
        ctx.scale = LEVELS / (LEVELS - dropped)
        return _only(noise, input * ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (noise,) = ctx.saved_tensors
        return _only(noise, grad * ctx.scale), None


class _Attention(torch.autograd.Function):
    """attend, piece by piece."""

    @staticmethod
    def forward(ctx, query, key, value, bias, dropped, size):
        ctx.dropped, ctx.size, noises = dropped, size, []
        out = value.new_empty(query.shape[0], query.shape[2], query.shape[1], value.shape[3]).transpose(1, 2)
        with torch.autocast("cpu", enabled=False):
            for piece in _pieces(query, key, size):
                part = (key[piece], value[piece], None if bias is None else bias[piece])
                noises.append(draw_noise(torch.Size((*query[piece].shape[:3], key.shape[2])), dropped))
                out[piece] = attended(query[piece], [part], noises[-1], dropped)
        ctx.save_for_backward(query, key, value, bias, *noises)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        query, key, value, bias, *noises = ctx.saved_tensors
        to_query, to_key, to_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        with torch.autocast("cpu", enabled=False):
            for piece, noise in zip(_pieces(query, key, ctx.size), noises, strict=True):
                part = (key[piece], value[piece], None if bias is None else bias[piece])
                to_query[piece], (to_key[piece],), (to_value[piece],) = gradients(
                    grad[piece], query[piece], [part], noise, ctx.dropped
                )
        return to_query, to_key, to_value, None, None, None


def _by_part(shares: torch.Tensor, parts: Sequence[Part]) -> tuple[torch.Tensor, ...]:
    return shares.split([key.shape[2] for key, _, _ in parts], dim=-1)


def _only(noise: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Set `values` to 0 in place where the noise is 0, and return them."""
    bits = values.view(INTEGERS[values.element_size()])
    bits *= noise.to(bits.dtype)
    return values


def _pieces(query: torch.Tensor, key: torch.Tensor, size: int) -> Iterator[tuple[slice, slice]]:
    """Slices of rows and heads with up to `size` probabilities together; single heads if one head has more."""
    (rows, heads, tokens, _), seen = query.shape, key.shape[2]
    of_a_head = tokens * seen
    most, together = max(1, size // (heads * of_a_head)), max(1, min(heads, size // of_a_head))
    for row in range(0, rows, most):
        for head in range(0, heads, together):
            yield slice(row, row + most), slice(head, head + together)
