"""Exact attention of blocks of queries to blocks of keys that a table chooses: what Longformer and BigBird share.

Work and memory grow with the number of blocks, not with its square. A group of blocks at a time is put together and
goes through torch's fused attention; its keys are not kept, the backward pass puts them together again. Groups are
small on a CPU: what fits its caches costs a fraction of what has to be fetched from fresh memory.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from trainer.dropout import drop
from trainer.errors import Unavailable

LOW = -3e4  # hides a key: e to it is 0 in every number format, yet a row of hidden keys alone is no NaN
PIECE = 1024  # tokens of a piece of the feed-forward part on a CPU
FUSED, WRITTEN_OUT = 1 << 18, 1 << 20  # elements of keys, and of scores, in a group on a CPU
ON_ACCELERATOR = 1 << 28
# What scaled_dot_product_attention calls on a CPU. With the sums it also gives, nothing is computed twice.
_FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_FUSED_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias=None, *, dropout: float = 0.0):
    """softmax(query key' / sqrt(width) + bias) value; each (rows, heads, tokens, width), bias broadcasts to the scores.

    With dropout on a CPU the probabilities are written out, as torch's own attention does there, with quicker noise.
    """
    if not dropout or query.device.type != "cpu":
        return scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias
    return drop(torch.softmax(scores, dim=-1), dropout) @ value


def in_pieces(feed_forward: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor) -> torch.Tensor:
    """feed_forward of states (rows, tokens, hidden), on a CPU without gradients piece by piece.

    The wide middle of a long text is tens of megabytes; a piece of it is quicker to fetch. For gradients all is kept.
    """
    if torch.is_grad_enabled() or states.device.type != "cpu" or states.shape[1] < 2 * PIECE:
        return feed_forward(states)
    out = torch.empty_like(states)
    for piece, result in zip(states.split(PIECE, dim=1), out.split(PIECE, dim=1), strict=True):
        result.copy_(feed_forward(piece))
    return out


def refuse_maps(model: torch.nn.Module, asked: bool | None) -> None:
    """Raise Unavailable where attention maps are asked for: fused attention keeps none."""
    if model.config.output_attentions if asked is None else asked:
        raise Unavailable(
            f"{type(model).__name__} keeps no attention maps in its fast attention.",
            next_step="Set STILLROOM_ATTENTION=transformers, which computes them, and load the model again.",
        )


def keeps_levels(model: torch.nn.Module, asked: bool | None) -> bool:
    """Whether a forward pass gives the hidden states of every level."""
    return bool(model.config.output_hidden_states if asked is None else asked)


def block(states: torch.Tensor, heads: int, size: int) -> torch.Tensor:
    """(rows, tokens, hidden) -> (rows, blocks, heads, size, width), zeros after the last token."""
    rows, tokens, hidden = states.shape
    if spare := -tokens % size:
        states = pad(states, (0, 0, 0, spare))
    return states.view(rows, -1, size, heads, hidden // heads).transpose(2, 3)


def unblock(blocks: torch.Tensor, tokens: int) -> torch.Tensor:
    """The way back: (rows, blocks, heads, size, width) -> (rows, tokens, hidden)."""
    return blocks.transpose(2, 3).flatten(3).flatten(1, 2)[:, :tokens]


def used(mask: torch.Tensor) -> int:
    """How many tokens of mask (rows, tokens) there are until all rows are padding; at least one."""
    real = (mask > 0).any(0)
    real[0] = True
    return mask.shape[1] - int(real.flip(0).int().argmax())


def attend_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    table: torch.Tensor,
    bias: torch.Tensor,
    pattern: torch.Tensor | None = None,
    *,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Each block of queries attends, in one softmax, to the blocks of keys that its line of `table` names.

    query: (lines, heads, queries, width); key, value: (blocks, heads, keys, width); table: (lines, heads or 1, chosen),
    block numbers. Added to the scores: bias (lines, heads or 1, chosen x keys), which masks keys with a large negative
    number, and pattern (queries, chosen x keys), the same for every block. Returns the shape of query. Every query
    needs one key that pattern does not set to minus infinity.
    """
    numbers = table * key.shape[1] + torch.arange(key.shape[1], device=table.device)[:, None]  # (lines, heads, chosen)
    return _Blocks.apply(query, key.flatten(0, 1), value.flatten(0, 1), numbers, bias, pattern, dropout)


class _Blocks(torch.autograd.Function):
    """attend_blocks over keys and values of (blocks x heads, keys, width), group by group."""

    @staticmethod
    def forward(ctx, query, key, value, numbers, bias, pattern, dropout):
        out, ctx.sums, ctx.dropout = torch.empty_like(query), [], dropout
        ctx.seed = int(torch.randint(2**62, ())) if dropout else None
        ctx.fused = not dropout and query.device.type == "cpu"
        with torch.autocast(query.device.type, enabled=False):
            for number, (part, *inputs) in enumerate(_groups(query, key, value, numbers, bias, pattern, dropout)):
                if ctx.fused:
                    out[part], sums = _FUSED(*inputs[:3], attn_mask=inputs[3])
                    ctx.sums.append(sums)  # the logarithms of the soft-max's sums, as the kernel's backward wants them
                else:
                    with _noise(ctx.seed, number, query.device):
                        out[part] = attend(*inputs, dropout=dropout)
        ctx.save_for_backward(query, key, value, numbers, bias, pattern, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        *given, numbers, bias, pattern, out = ctx.saved_tensors
        # At least fp32 for the fused kernel: that of bf16 takes two and a half times as long.
        wide = torch.promote_types(grad.dtype, torch.float32) if ctx.fused else grad.dtype
        query, key, value, out, grad = (tensor.to(wide) for tensor in (*given, out, grad))
        to_query, to_key, to_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        with torch.autocast(query.device.type, enabled=False):
            for number, (part, *inputs) in enumerate(_groups(query, key, value, numbers, bias, pattern, ctx.dropout)):
                if ctx.fused:
                    known = (out[part], ctx.sums[number], 0.0, False)
                    found = _FUSED_BACKWARD(grad[part].contiguous(), *inputs[:3], *known, attn_mask=inputs[3])
                else:
                    found = _again(grad[part], inputs, ctx, number)
                to_query[part], *rest = found
                for total, part_of_it in zip((to_key, to_value), rest, strict=True):
                    total.index_add_(0, numbers[part].flatten(), part_of_it.reshape(-1, *key.shape[1:]))
        found = zip((to_query, to_key, to_value), given, strict=True)
        return *(gradient.to(tensor.dtype) for gradient, tensor in found), None, None, None, None


def _again(grad: torch.Tensor, inputs: list[torch.Tensor], ctx, number: int) -> tuple[torch.Tensor, ...]:
    """The gradients of query, key and value of a group that is computed once more."""
    *inputs, bias = inputs
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    with torch.enable_grad(), _noise(ctx.seed, number, grad.device):
        out = attend(*inputs, bias, dropout=ctx.dropout)
    return torch.autograd.grad(out, inputs, grad)


def _groups(query, key, value, numbers, bias, pattern, dropout: float) -> Iterator[tuple]:
    """Lines that go through attention together: a slice, and their query, key, value and bias as attend takes them."""
    (lines, heads, chosen), (_, _, queries, width) = numbers.shape, query.shape
    keys = chosen * key.shape[1]
    room = ON_ACCELERATOR if query.device.type != "cpu" else WRITTEN_OUT if dropout else FUSED
    size = max(1, room // (heads * keys * (queries if dropout else width)))
    for start in range(0, lines, size):
        part = slice(start, start + size)
        chosen_ones = numbers[part].flatten()
        picked = (tensor.index_select(0, chosen_ones).view(-1, heads, keys, width) for tensor in (key, value))
        added = bias[part, :, None] if pattern is None else bias[part, :, None] + pattern
        yield part, query[part], *picked, added.to(query.dtype).expand(-1, -1, queries, -1)


@contextmanager
def _noise(seed: int | None, number: int, device: torch.device) -> Iterator[None]:
    """The same random numbers for a group in both passes, and torch's own untouched."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed + number)
        yield
