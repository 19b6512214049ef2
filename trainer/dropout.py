"""Dropout that draws its noise quickly on the CPU: a tenth of a small model's training step otherwise goes into it.

torch draws one random number an element there, with one thread. Sixteen bits an element are plenty: four elements share
one 64-bit number, and the probability is right to 1/65,536. What is kept is a 1 of sixteen bits, multiplied with the
bits of the numbers, which takes a fraction of the time that a comparison to booleans and a product with them take.
"""

from collections.abc import Iterator

import torch

LEVELS = 1 << 16
PIECE = 1 << 22  # probabilities computed together: 16 MB, which the next piece gets again without the system
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of an element


def drop(input: torch.Tensor, p: float) -> torch.Tensor:
    """Zero a share `p` of `input` (any shape, floating point) and scale the rest, with 16-bit noise on the CPU.

    The kept share is rounded to 1/65,536, and what is kept is scaled by its exact inverse, so the mean is unbiased.
    """
    dropped = _levels(p)
    if input.device.type != "cpu" or not dropped:
        return torch.nn.functional.dropout(input, p)
    return _Drop.apply(input, dropped)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None, p: float, scale: float
) -> torch.Tensor:
    """drop(softmax(scale x query key' + bias), p) value on a CPU; each (rows, heads, tokens, width), of one dtype.

    bias broadcasts to the scores and has no gradient. Of many probabilities a piece at a time is computed, and once
    more in the backward pass: only what was kept stays in memory, two bytes each.
    """
    query = query * scale
    rows, heads, tokens, seen = (*query.shape[:3], key.shape[2])
    if bias is not None:
        bias = bias.to(value.dtype).expand(rows, heads, tokens, seen)
    if rows * heads * tokens * seen <= PIECE or not _levels(p):
        return drop(probabilities(query, key, bias), p) @ value
    return _Attention.apply(query, key, value, bias, _levels(p))


def probabilities(query: torch.Tensor, key: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """softmax(query key' + bias): (rows, heads, tokens, tokens)."""
    scores = query @ key.transpose(-1, -2)
    return torch.softmax(scores if bias is None else scores.add_(bias), dim=-1)


class QuickDropout(torch.nn.Dropout):
    """nn.Dropout with the noise of `drop`; in eval mode the same as it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input: any shape, floating point; the output has the same shape."""
        return drop(input, self.p) if self.training else input


def quicken(model: torch.nn.Module) -> None:
    """Put QuickDropout in place of every nn.Dropout of `model`; parameters and state dict stay as they are."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Dropout:
                setattr(parent, name, QuickDropout(child.p).train(child.training))


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, dropped):
        kept = _kept(input.shape, dropped)
        ctx.save_for_backward(kept)
        ctx.scale = LEVELS / (LEVELS - dropped)
        return _only(kept, input * ctx.scale)

    @staticmethod
    def backward(ctx, grad):
        return _only(*ctx.saved_tensors, grad * ctx.scale), None


class _Attention(torch.autograd.Function):
    """attend, piece by piece."""

    @staticmethod
    def forward(ctx, query, key, value, bias, dropped):
        ctx.scale, kept = LEVELS / (LEVELS - dropped), []
        out = value.new_empty(query.shape[0], query.shape[2], query.shape[1], value.shape[3]).transpose(1, 2)
        with torch.autocast("cpu", enabled=False):
            for piece in _pieces(query, key):
                found = probabilities(query[piece], key[piece], None if bias is None else bias[piece])
                kept.append(_kept(found.shape, dropped))
                out[piece] = (_only(kept[-1], found) @ value[piece]).mul_(ctx.scale)
        ctx.save_for_backward(query, key, value, bias, *kept)
        return out

    @staticmethod
    def backward(ctx, grad):
        query, key, value, bias, *kept = ctx.saved_tensors
        grad = grad * ctx.scale
        to_query, to_key, to_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        with torch.autocast("cpu", enabled=False):
            for piece, noise in zip(_pieces(query, key), kept, strict=True):
                found = probabilities(query[piece], key[piece], None if bias is None else bias[piece])
                to_found = _only(noise, grad[piece] @ value[piece].transpose(-1, -2))
                to_scores = torch.ops.aten._softmax_backward_data(to_found, found, -1, found.dtype)
                to_query[piece] = to_scores @ key[piece]
                to_key[piece] = to_scores.transpose(-1, -2) @ query[piece]
                to_value[piece] = _only(noise, found).transpose(-1, -2) @ grad[piece]
        return to_query, to_key, to_value, None, None


def _levels(p: float) -> int:
    """How many of the LEVELS are dropped; 0 where sixteen bits cannot say it: all, or next to nothing."""
    return round(p * LEVELS) % LEVELS


def _kept(shape: torch.Size, dropped: int) -> torch.Tensor:
    """1 where something is kept, else 0, int16."""
    words = torch.empty((shape.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.int16)[: shape.numel()].view(shape).ge_(dropped - LEVELS // 2)


def _only(kept: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """`given` itself, with 0 in place of what is not kept."""
    bits = given.view(INTEGERS[given.element_size()])
    bits *= kept.to(bits.dtype)
    return given


def _pieces(query: torch.Tensor, key: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and heads whose probabilities are a piece, or those of one head where they are more."""
    (rows, heads, tokens, _), seen = query.shape, key.shape[2]
    size = tokens * seen
    most, together = max(1, PIECE // (heads * size)), max(1, min(heads, PIECE // size))
    for row in range(0, rows, most):
        for head in range(0, heads, together):
            yield slice(row, row + most), slice(head, head + together)
