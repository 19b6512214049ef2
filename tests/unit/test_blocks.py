"""Attention in blocks: all keys that a query sees share one softmax, in every grouping, forward and backward."""

from functools import partial

import numpy as np
import pytest
import torch

from trainer.architectures import blocks


def seen_in_blocks(*, dtype=torch.float32, rows=3, heads=2, width=4, size=4, count=9):
    """Tensors and ways of an attention whose queries are the blocks 1 to count - 1 of the keys, in all three ways."""
    drawn = torch.Generator().manual_seed(0)
    query, *sources = (torch.randn(rows, count * size, heads * width, generator=drawn, dtype=dtype) for _ in range(3))
    shared = [torch.randn(rows, 3, heads * width, generator=drawn, dtype=dtype) for _ in range(2)]
    more = [torch.randn(rows * count * heads, size, width, generator=drawn, dtype=dtype) for _ in range(2)]
    hidden = torch.zeros(rows, count * size)
    hidden[0, :size] = hidden[:, 2 * size] = hidden[1, -3:] = blocks.LOW  # some windows hide nothing, others do
    near = (torch.arange(3 * size) - size - torch.arange(size)[:, None]).abs() <= size
    inside = torch.zeros(near.shape, dtype=dtype).masked_fill(~near, float("-inf"))
    numbers = torch.randint(0, len(more[0]), (rows, count - 1, heads, 2), generator=drawn)
    window = blocks.Window(size=size, span=1, start=1, bias=hidden.to(dtype), inside=inside)
    others = (
        blocks.Shared(torch.randn(rows, 3, generator=drawn, dtype=dtype)),
        blocks.Drawn(numbers, torch.randn(rows, count - 1, heads, 2 * size, generator=drawn, dtype=dtype)),
    )
    return [query[:, size:].clone(), *sources, *shared, *more], window, others


def in_blocks(tensors, window, others, **options):
    query, key, value, *rest = tensors
    pairs = [(way, *rest[2 * number : 2 * number + 2]) for number, way in enumerate(others)]
    return blocks.attend_blocks(query, 2, window, (key, value), *pairs, **options)


def one_by_one(tensors, window, others, heads=2):
    """The same, each query by itself over a list of what it sees."""
    query, key, value, shared_key, shared_value, more_key, more_value = tensors
    size, width = window.size, query.shape[2] // heads
    out = torch.zeros_like(query)
    for row, place, head in np.ndindex(len(query), query.shape[1], heads):
        block, part = place // size, slice(head * width, (head + 1) * width)
        wide = torch.arange(block * size, (block + 3) * size)  # the block before its own until the one after
        there = wide < key.shape[1]
        chosen = others[1].numbers[row, block, head]
        keys = [key[row, wide[there], part], shared_key[row, :, part], more_key[chosen].flatten(0, 1)]
        values = [value[row, wide[there], part], shared_value[row, :, part], more_value[chosen].flatten(0, 1)]
        near = window.bias[row, wide[there]] + window.inside[place % size][there]
        bias = torch.cat([near, others[0].bias[row], others[1].bias[row, block, head]])
        scores = torch.cat(keys) @ query[row, place, part] * width**-0.5 + bias
        out[row, place, part] = torch.softmax(scores, 0) @ torch.cat(values)
    return out


@pytest.mark.parametrize("room", [1, 400, 1 << 30])
# One that sixteen bits cannot say is left to torch, as all is on an accelerator, where the parts are put together.
@pytest.mark.parametrize("dropout", [0.0, 1e-12, 0.25])
def test_all_that_a_query_sees_shares_one_softmax_however_blocks_are_grouped(monkeypatch, room, dropout):
    tensors, *ways = seen_in_blocks()
    monkeypatch.setattr(blocks, "WRITTEN_OUT" if dropout else "FUSED", room)
    everything = partial(torch.ones, dtype=torch.int16)
    monkeypatch.setattr(blocks, "draw_noise", lambda shape, *_: everything(shape))
    kept_share = 1.0 if dropout < 0.1 else 1 - dropout  # all is kept, and scaled as if it were not
    gradients = []
    for way in (partial(in_blocks, dropout=dropout), one_by_one):
        inputs = [tensor.clone().requires_grad_() for tensor in tensors]
        out = way(inputs, *ways) * (kept_share if way is not one_by_one else 1)
        out.square().sum().backward()
        gradients.append([out, *(tensor.grad for tensor in inputs)])
    for blocked, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(blocked, plain, rtol=0, atol=1e-5)
    window, others = ways
    groups = list(blocks.groups(tensors[0], 2, (window, *others), dropout))
    assert len(groups) == {1: 24, 400: 14, 1 << 30: 4}[room]


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_it_does_without_torchs_private_operators_too(monkeypatch, dropout, no_private_operators):
    test_all_that_a_query_sees_shares_one_softmax_however_blocks_are_grouped(monkeypatch, 400, dropout)


@pytest.mark.parametrize("dropout", [0.0, 1e-12, 0.2])
def test_the_backward_pass_sees_the_noise_of_the_forward(dropout):
    tensors, *ways = seen_in_blocks(dtype=torch.double, rows=2, count=4)

    def loss(*tensors):
        torch.manual_seed(3)  # the same noise at every probe
        return in_blocks(tensors, *ways, dropout=dropout)

    inputs = [tensor.requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-5, atol=1e-4, fast_mode=True)


def test_autocast_stops_where_blocks_begin():
    tensors, *ways = seen_in_blocks()
    dtypes = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            dtypes.append(in_blocks(tensors, *ways, dropout=0.1))
    assert torch.equal(*dtypes), "else the backward pass, which runs outside of it, would compute something else"
