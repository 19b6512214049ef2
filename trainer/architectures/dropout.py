"""Dropout that draws its noise quickly on the CPU: a tenth of a small model's training step otherwise goes into it.

torch draws one random number an element there, with one thread. Sixteen bits an element are plenty: four elements share
one 64-bit number, and the probability is right to 1/65,536. What is kept is a 1 of sixteen bits, multiplied with the
bits of the numbers, which takes a fraction of the time that a comparison to booleans and a product with them take.
"""

from collections.abc import Iterator, Sequence

import torch
from torch.autograd.function import once_differentiable

LEVELS = 1 << 16
PIECE = 1 << 22  # probabilities computed together: 16 MB, which the next piece gets again without the system
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of an element


def drop(input: torch.Tensor, p: float) -> torch.Tensor:
    """Zero a share `p` of `input` (any shape, floating point) and scale the rest, with 16-bit noise on the CPU.

    The kept share is rounded to 1/65,536, and what is kept is scaled by its exact inverse, so the mean is unbiased.
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

    bias broadcasts to the scores and has no gradient. Where there are more than `piece` probabilities, that many are
    computed at a time, and once more in the backward pass: only what was kept stays in memory, two bytes each.
    """
    query, dropped = query * scale, levels(p)
    rows, heads, tokens, seen = (*query.shape[:3], key.shape[2])
    if bias is not None:
        bias = bias.to(value.dtype).expand(rows, heads, tokens, seen)
    if rows * heads * tokens * seen <= piece or not dropped:
        return drop(probabilities(query, [(key, value, bias)]), p) @ value
    return _Attention.apply(query, key, value, bias, dropped, piece)


# Keys, values, each (rows, heads, keys, width), and what is added to their scores, if anything: some of the keys that
# share a soft-max.
Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


def probabilities(query: torch.Tensor, parts: Sequence[Part]) -> torch.Tensor:
    """softmax(query key' + bias) over the keys of all parts together: (rows, heads, tokens, keys)."""
    found = [query @ key.transpose(-1, -2) for key, _, _ in parts]
    found = [scores if bias is None else scores.add_(bias) for scores, (_, _, bias) in zip(found, parts, strict=True)]
    return torch.softmax(torch.cat(found, dim=-1) if found[1:] else found[0], dim=-1)


def attended(query: torch.Tensor, parts: Sequence[Part], noise: torch.Tensor, dropped: int) -> torch.Tensor:
    """drop(probabilities) values with the `noise` of `kept`: (rows, heads, tokens, width); `query` is scaled already.

    autograd sees nothing of it: `gradients` has the backward pass.
    """
    shares = _by_part(_only(noise, probabilities(query, parts)), parts)
    found = [share @ value for share, (_, value, _) in zip(shares, parts, strict=True)]
    return sum(found[1:], found[0]).mul_(LEVELS / (LEVELS - dropped))


def gradients(
    grad: torch.Tensor, query: torch.Tensor, parts: Sequence[Part], noise: torch.Tensor, dropped: int
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """From that of what `attended` gave those of the scaled queries, of the keys of each part, and of their values."""
    grad = grad * (LEVELS / (LEVELS - dropped))
    shares = probabilities(query, parts)
    found = [grad @ value.transpose(-1, -2) for _, value, _ in parts]
    found = _only(noise, torch.cat(found, dim=-1) if found[1:] else found[0])
    scores = _by_part(softmax_gradient(found, shares), parts)
    to_query = [part @ key for part, (key, _, _) in zip(scores, parts, strict=True)]
    to_keys = [part.transpose(-1, -2) @ query for part in scores]
    to_values = [share.transpose(-1, -2) @ grad for share in _by_part(_only(noise, shares), parts)]
    return sum(to_query[1:], to_query[0]), to_keys, to_values


def softmax_gradient(grad: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """The gradient of the scores whose soft-max over the last axis is `shares`, from that of the shares.

    torch's own operator of it is not public; where there is none the formula is written out, in more passes.
    """
    fused = getattr(torch.ops.aten, "_softmax_backward_data", None)
    if fused is not None:
        return fused(grad, shares, -1, shares.dtype)
    return shares * (grad - (grad * shares).sum(-1, keepdim=True))


def levels(p: float) -> int:
    """How many of the LEVELS are dropped; 0 where sixteen bits cannot say it: all, or next to nothing."""
    return round(p * LEVELS) % LEVELS


def kept(shape: torch.Size, dropped: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Noise of this shape, int16: 1 where something is kept, 0 with probability dropped / LEVELS."""
    words = torch.empty((shape.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[: shape.numel()].view(shape).ge_(dropped - LEVELS // 2)


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
        noise = kept(input.shape, dropped)
        ctx.save_for_backward(noise)
        ctx.scale = LEVELS / (LEVELS - dropped)
        return _only(noise, input * ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return _only(*ctx.saved_tensors, grad * ctx.scale), None


class _Attention(torch.autograd.Function):
    """attend, piece by piece."""

    @staticmethod
    def forward(ctx, query, key, value, bias, dropped, size):
        ctx.dropped, ctx.size, noises = dropped, size, []
        out = value.new_empty(query.shape[0], query.shape[2], query.shape[1], value.shape[3]).transpose(1, 2)
        with torch.autocast("cpu", enabled=False):
            for piece in _pieces(query, key, size):
                part = (key[piece], value[piece], None if bias is None else bias[piece])
                noises.append(kept(torch.Size((*query[piece].shape[:3], key.shape[2])), dropped))
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


def _only(noise: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """`given` itself, with 0 in place of what is not kept."""
    bits = given.view(INTEGERS[given.element_size()])
    bits *= noise.to(bits.dtype)
    return given


def _pieces(query: torch.Tensor, key: torch.Tensor, size: int) -> Iterator[tuple[slice, slice]]:
    """Rows and heads that have `size` probabilities together, or one head where it has more."""
    (rows, heads, tokens, _), seen = query.shape, key.shape[2]
    of_a_head = tokens * seen
    most, together = max(1, size // (heads * of_a_head)), max(1, min(heads, size // of_a_head))
    for row in range(0, rows, most):
        for head in range(0, heads, together):
            yield slice(row, row + most), slice(head, head + together)
