"""Exact block-sparse attention: blocks of queries attend to the keys that each may see. Used by Longformer and BigBird.

Keys are selected in up to three ways (Window, Shared, Drawn), and all keys of a query share one softmax. Groups of
blocks go through torch's fused attention, once per way, and the results are combined by the logarithms of their softmax
sums. Windows are views and are not copied. Time and memory grow linearly with the number of blocks.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel

from trainer.architectures.dropout import Part, attended, draw_noise, gradients, levels
from trainer.architectures.dropout import attend as dropout_attention
from trainer.errors import Unavailable

LOW = -3e4  # hides a key: its exponential is 0 in every number format, yet a row of only hidden keys is not NaN
PIECE = 1024  # tokens that the feed-forward part reads at a time on a CPU
FUSED, WRITTEN_OUT = 1 << 22, 1 << 20  # elements of keys, and of scores, in a group on a CPU
ON_ACCELERATOR = 1 << 28
KERNEL = "_scaled_dot_product_flash_attention_for_cpu"  # private to torch


@cache
def kernels() -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """The forward and backward kernels of scaled_dot_product_attention on a CPU; None if torch lacks them.

    They also return the logarithms of the softmax sums, so nothing is computed twice. Without them all keys are
    concatenated for scaled_dot_product_attention, which is slower and gives the same result.
    """
    try:
        return getattr(torch.ops.aten, KERNEL), getattr(torch.ops.aten, f"{KERNEL}_backward")
    except AttributeError:
        return None


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None, *, dropout: float = 0.0
) -> torch.Tensor:
    """softmax(query key' / sqrt(width) + bias) value; each (rows, heads, tokens, width), bias broadcasts to the scores.

    With dropout on a CPU the probabilities are computed explicitly, as in torch's attention, with faster noise.
    """
    if not dropout or query.device.type != "cpu":
        return scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    return dropout_attention(query, key, value, bias, dropout, query.shape[-1] ** -0.5)


def in_pieces(feed_forward: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor) -> torch.Tensor:
    """feed_forward of states (rows, tokens, hidden), piece by piece on a CPU without gradients.

    The wide inner states of a long text take tens of megabytes; a piece fits into the cache.
    """
    if torch.is_grad_enabled() or states.device.type != "cpu" or states.shape[1] < 2 * PIECE:
        return feed_forward(states)
    out = torch.empty_like(states)
    for piece, result in zip(states.split(PIECE, dim=1), out.split(PIECE, dim=1), strict=True):
        result.copy_(feed_forward(piece))
    return out


def refuse_maps(model: PreTrainedModel, requested: bool | None) -> None:
    """Raise Unavailable if attention maps are requested: fused attention does not compute them."""
    if model.config.output_attentions if requested is None else requested:
        raise Unavailable(
            f"{type(model).__name__} computes no attention maps in its fast attention.",
            next_step="Set STILLROOM_ATTENTION=transformers, which computes them, and load the model again.",
        )


def keeps_levels(model: PreTrainedModel, requested: bool | None) -> bool:
    """Whether a forward pass returns the hidden states of every level."""
    return bool(model.config.output_hidden_states if requested is None else requested)


def used_length(mask: torch.Tensor) -> int:
    """The number of tokens of mask (rows, tokens) before the padding that all rows share; at least one."""
    real = (mask > 0).any(0)
    real[0] = True
    return mask.shape[1] - int(real.flip(0).int().argmax())


class Group(NamedTuple):
    """Blocks of queries that are computed together: `first` up to, not including, `last` of these rows."""

    rows: slice
    first: int
    last: int

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows, and of blocks per row."""
        return self.rows.stop - self.rows.start, self.last - self.first


@dataclass(frozen=True)
class Window:
    """Keys by position: block b of the queries sees block b + start of the keys, and `span` blocks on either side.

    bias: (rows, keys), 0 or LOW, added to the scores of a key. inside: (size, (2 x span + 1) x size) or None, added to
    the scores of a query and the keys of its complete window. Sources (keys or values) are (rows, keys, hidden).
    """

    size: int
    span: int
    bias: torch.Tensor
    inside: torch.Tensor | None = None
    start: int = 0

    @property
    def keys(self) -> int:
        """The number of keys that a block of queries sees."""
        return (2 * self.span + 1) * self.size

    def take(self, source: torch.Tensor, group: Group, heads: int) -> torch.Tensor:
        """What the queries of a group see: (rows, blocks, heads, keys, width), a view."""
        begin, end, keys, step = self._place(group)
        return source[group.rows, begin:end].unfold(1, keys, step).unflatten(2, (heads, -1)).transpose(3, 4)

    def added(self, group: Group) -> torch.Tensor | None:
        """The bias of their scores: (rows, blocks, 1, 1 or size, keys), or None."""
        begin, end, keys, step = self._place(group)
        if self.plain[group.first + self.start]:
            return None if self.inside is None else self.inside.expand(*group.shape, 1, -1, -1)
        bias = self.bias[group.rows, begin:end].unfold(1, keys, step)[:, :, None, None]
        if self.inside is None:
            return bias
        missing = begin - (group.first + self.start - self.span) * self.size  # before the first token
        return bias + self.inside[:, missing : missing + keys]

    def add(self, total: torch.Tensor, grad: torch.Tensor, group: Group) -> None:
        """Add the gradient of what `take` returned, (rows, blocks, heads, keys, width), to that of its source."""
        begin, end, keys, step = self._place(group)
        blocks = grad.shape[1]
        for offset in range(0, keys, step):  # windows overlap, but their parts at one offset do not
            place = total[group.rows, begin + offset : begin + offset + blocks * step]
            place = place.unflatten(1, (blocks, step)).unflatten(3, (grad.shape[2], -1))
            place += grad[:, :, :, offset : offset + step].transpose(2, 3)

    def alike(self, block: int, other: int) -> bool:
        """Whether these blocks of queries may be in one group: complete windows, and both or neither plain."""
        block, other = block + self.start, other + self.start
        return self.whole[block] and self.whole[other] and self.plain[block] == self.plain[other]

    @cached_property
    def whole(self) -> list[bool]:
        """For each block of keys, whether the window around it is complete."""
        count = self.bias.shape[1] // self.size
        return [self.span <= number < count - self.span for number in range(count)]

    @cached_property
    def plain(self) -> list[bool]:
        """For each block of keys, whether the window around it is complete and no row hides a key in it."""
        hidden = (self.bias != 0).unflatten(1, (-1, self.size)).any(2).any(0).tolist()
        return [
            whole and not any(hidden[number - self.span : number + self.span + 1])
            for number, whole in enumerate(self.whole)
        ]

    def _place(self, group: Group) -> tuple[int, int, int, int]:
        """Begin and end of a group's windows, their length and their distance. A clipped window is its own group."""
        begin = max(0, group.first + self.start - self.span) * self.size
        end = min(self.bias.shape[1], (group.last + self.start + self.span) * self.size)
        if group.last - group.first == 1:
            return begin, end, end - begin, end - begin
        return begin, end, self.keys, self.size


@dataclass(frozen=True)
class Shared:
    """The same keys for every query of a row; bias (rows, keys). Sources are (rows, keys, hidden)."""

    bias: torch.Tensor

    @property
    def keys(self) -> int:
        """The number of keys that a block of queries sees."""
        return self.bias.shape[1]

    def take(self, source: torch.Tensor, group: Group, heads: int) -> torch.Tensor:
        """(rows, blocks, heads, keys, width), a view."""
        keys = source[group.rows, None].unflatten(3, (heads, -1)).transpose(2, 3)
        return keys.expand(-1, group.last - group.first, -1, -1, -1)

    def added(self, group: Group) -> torch.Tensor:
        """(rows, blocks, 1, 1, keys)."""
        return self.bias[group.rows, None, None, None].expand(-1, group.last - group.first, -1, -1, -1)

    def add(self, total: torch.Tensor, grad: torch.Tensor, group: Group) -> None:
        """As Window.add."""
        total[group.rows] += grad.sum(1).transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class Drawn:
    """Blocks of keys by number: numbers (rows, blocks of queries, heads, chosen blocks), bias with their keys instead.
    Sources are (blocks, keys, width): each head of each row has its own blocks.
    """

    numbers: torch.Tensor
    bias: torch.Tensor

    @property
    def keys(self) -> int:
        """The number of keys that a block of queries sees."""
        return self.bias.shape[3]

    def take(self, source: torch.Tensor, group: Group, heads: int) -> torch.Tensor:
        """(rows, blocks, heads, keys, width), a copy."""
        numbers = self.numbers[group.rows, group.first : group.last]
        return source.index_select(0, numbers.flatten()).view(*numbers.shape[:3], -1, source.shape[2])

    def added(self, group: Group) -> torch.Tensor:
        """(rows, blocks, heads, 1, keys)."""
        return self.bias[group.rows, group.first : group.last, :, None]

    def add(self, total: torch.Tensor, grad: torch.Tensor, group: Group) -> None:
        """As Window.add."""
        numbers = self.numbers[group.rows, group.first : group.last]
        total.index_add_(0, numbers.flatten(), grad.reshape(-1, *total.shape[1:]))


Ways = tuple[Window, *tuple[Shared | Drawn, ...]]  # in which the keys of a query are selected


def attend_blocks(
    query: torch.Tensor,
    heads: int,
    window: Window,
    sources: tuple[torch.Tensor, torch.Tensor],
    *others: tuple[Shared | Drawn, torch.Tensor, torch.Tensor],
    dropout: float = 0.0,
) -> torch.Tensor:
    """Attention of each query, in one softmax, to the keys of its window and of `others`; has the shape of query.

    query: (rows, queries, hidden), in complete blocks of the window's size. sources, and the tensors after a Shared or
    Drawn: keys and values, shaped as the class states. LOW hides a key; each query needs one with a finite `inside`.
    """
    ways, keys, values = zip((window, *sources), *others, strict=True)
    return _Blocks.apply(query, heads, ways, dropout, *keys, *values)


class _Blocks(torch.autograd.Function):
    """attend_blocks, group by group. Sources are the keys of every way, then the values."""

    @staticmethod
    def forward(ctx, query, heads, ways, dropout, *sources):
        out, ctx.sums = torch.empty_like(query, memory_format=torch.contiguous_format), []
        ctx.heads, ctx.ways, ctx.dropout = heads, ways, dropout
        ctx.seed = int(torch.randint(2**62, ())) if dropout else None
        ctx.fused = not dropout and query.device.type == "cpu" and kernels() is not None
        ctx.dropped = levels(dropout) if query.device.type == "cpu" else 0
        with torch.autocast(query.device.type, enabled=False):
            for number, group in enumerate(groups(query, heads, ways, dropout)):
                asked, parts = _inputs(query, sources, group, heads, ways)
                if ctx.fused:
                    kernel, _ = kernels()
                    context, sums = _joined([kernel(asked, key, value, attn_mask=bias) for key, value, bias in parts])
                    ctx.sums.append(sums)  # the logarithms of the softmax sums, which the backward kernel needs
                elif ctx.dropped:
                    context = attended(_scaled(asked), parts, _group_noise(asked, parts, ctx, number), ctx.dropped)
                else:
                    with _noise(ctx.seed, number, query.device):
                        context = _at_once(asked, parts, dropout)
                place = _queries(out, group, heads, ways[0].size)
                place.copy_(context.unflatten(0, place.shape[:2]))
        ctx.save_for_backward(query, out, *sources)
        return out

    @staticmethod
    def backward(ctx, grad):
        query, out, *sources = ctx.saved_tensors
        heads, ways = ctx.heads, ctx.ways
        dtypes = [tensor.dtype for tensor in (query, *sources)]
        # At least fp32 for the fused kernel: that of bf16 takes two and a half times as long.
        wide = torch.promote_types(grad.dtype, torch.float32) if ctx.fused else grad.dtype
        query, out, grad, *sources = (tensor.to(wide) for tensor in (query, out, grad, *sources))
        to_query = torch.empty_like(query, memory_format=torch.contiguous_format)
        totals = [torch.zeros_like(source, memory_format=torch.contiguous_format) for source in sources]
        with torch.autocast(query.device.type, enabled=False):
            for number, group in enumerate(groups(query, heads, ways, ctx.dropout)):
                asked, parts = _inputs(query, sources, group, heads, ways)
                grad_and_out = [_queries(tensor, group, heads, ways[0].size).flatten(0, 1) for tensor in (grad, out)]
                if ctx.fused:
                    to_inputs = _backward(*grad_and_out, asked, parts, ctx.sums[number])
                elif ctx.dropped:
                    noise = _group_noise(asked, parts, ctx, number)
                    to_asked, to_keys, to_values = gradients(grad_and_out[0], _scaled(asked), parts, noise, ctx.dropped)
                    to_inputs = [_scaled(to_asked), *to_keys, *to_values]
                else:
                    to_inputs = _again(grad_and_out[0], asked, parts, ctx, number)
                place = _queries(to_query, group, heads, ways[0].size)
                place.copy_(to_inputs[0].unflatten(0, place.shape[:2]))
                for way, total, part in zip(ways * 2, totals, to_inputs[1:], strict=True):
                    way.add(total, part.unflatten(0, place.shape[:2]), group)
        to_query, *totals = (each.to(dtype) for each, dtype in zip((to_query, *totals), dtypes, strict=True))
        return to_query, None, None, None, *totals


def _joined(results: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Combine several softmaxes into one: contexts (lines, heads, queries, width) and the logarithms of their sums."""
    (out, sums), *others = results
    for context, its_sums in others:
        total = torch.logaddexp(sums, its_sums)
        out = (out * (sums - total).exp()[..., None]).addcmul_(context, (its_sums - total).exp()[..., None])
        sums = total
    return out, sums


def _backward(
    grad: torch.Tensor, out: torch.Tensor, asked: torch.Tensor, parts: list[Part], sums: torch.Tensor
) -> list[torch.Tensor]:
    """The gradients of the queries, and of the keys and values of each part; `out` and `sums` are those of all parts,
    so the kernel uses the shares of the one softmax (Dao 2023, FlashAttention-2, algorithm 2).
    """
    _, kernel = kernels() or (None, None)
    assert kernel is not None, "the forward pass has used it"
    by_part = [kernel(grad, asked, key, value, out, sums, 0.0, False, attn_mask=bias) for key, value, bias in parts]
    to_asked, to_keys, to_values = zip(*by_part, strict=True)
    return [sum(to_asked[1:], to_asked[0]), *to_keys, *to_values]


def _scaled(states: torch.Tensor) -> torch.Tensor:
    return states * states.shape[-1] ** -0.5


def _group_noise(asked: torch.Tensor, parts: list[Part], ctx: Any, number: int) -> torch.Tensor:
    """The noise of a group, the same in both passes, from a separate generator."""
    shape = torch.Size((*asked.shape[:3], sum(key.shape[2] for key, _, _ in parts)))
    return draw_noise(shape, ctx.dropped, torch.Generator().manual_seed(ctx.seed + number))


def _at_once(asked: torch.Tensor, parts: list[Part], dropout: float) -> torch.Tensor:
    """Attention to the concatenated keys of all parts, for kernels that do not return their softmax sums."""
    keys, values, biases = zip(*parts, strict=True)
    seen = (len(asked), max(1 if bias is None else bias.shape[1] for bias in biases), asked.shape[2])
    filled = [asked.new_zeros(1) if bias is None else bias for bias in biases]
    bias = torch.cat([each.expand(*seen, key.shape[2]) for each, key in zip(filled, keys, strict=True)], dim=3)
    return attend(asked, torch.cat(keys, dim=2), torch.cat(values, dim=2), bias, dropout=dropout)


def _again(grad: torch.Tensor, asked: torch.Tensor, parts: list[Part], ctx: Any, number: int) -> Sequence[torch.Tensor]:
    """The gradients of a group, from a second forward pass."""
    keys, values, biases = zip(*parts, strict=True)
    asked, *inputs = (tensor.detach().requires_grad_() for tensor in (asked, *keys, *values))
    with torch.enable_grad(), _noise(ctx.seed, number, grad.device):
        again = list(zip(inputs[: len(keys)], inputs[len(keys) :], biases, strict=True))
        out = _at_once(asked, again, ctx.dropout)
    return torch.autograd.grad(out, (asked, *inputs), grad)


def groups(query: torch.Tensor, heads: int, ways: Ways, dropout: float) -> Iterator[Group]:
    """Groups that cover all blocks of queries of all rows. Blocks at an edge are grouped across rows only."""
    (rows, tokens, hidden), window, keys = query.shape, ways[0], sum(way.keys for way in ways)
    room = ON_ACCELERATOR if query.device.type != "cpu" else WRITTEN_OUT if dropout else FUSED
    most = max(1, room // (heads * keys * (window.size if dropout else hidden // heads)))
    count, first = tokens // window.size, 0
    for last in range(1, count + 1):
        if last < count and last - first < most and window.alike(first, last):
            continue
        together = max(1, most // (last - first))
        for row in range(0, rows, together):
            yield Group(slice(row, min(rows, row + together)), first, last)
        first = last


def _queries(states: torch.Tensor, group: Group, heads: int, size: int) -> torch.Tensor:
    """The queries of a group, or a tensor of their shape: (rows, blocks, heads, size, width), a view."""
    blocks = states[group.rows, group.first * size : group.last * size].unflatten(1, (-1, size))
    return blocks.unflatten(3, (heads, -1)).transpose(2, 3)


def _inputs(
    query: torch.Tensor, sources: Sequence[torch.Tensor], group: Group, heads: int, ways: Ways
) -> tuple[torch.Tensor, list[Part]]:
    """The queries of a group, and the keys, values and bias of each way, as `attend` takes them."""
    parts: list[Part] = []
    for way, *pair in zip(ways, sources[: len(ways)], sources[len(ways) :], strict=True):
        key, value = (way.take(source, group, heads).flatten(0, 1) for source in pair)
        bias = way.added(group)
        if bias is not None:
            bias = bias.flatten(0, 1).to(query.dtype).expand(-1, -1, ways[0].size, -1)
        parts.append((key, value, bias))
    return _queries(query, group, heads, ways[0].size).flatten(0, 1), parts


@contextmanager
def _noise(seed: int | None, number: int, device: torch.device) -> Iterator[None]:
    """The same random numbers for a group in both passes; torch's own generators are not changed."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed + number)
        yield
