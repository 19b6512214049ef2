"""Quick dropout: the right probability, unbiased, seeded, and absent where it is not wanted."""

import pytest
import torch

from trainer.architectures import dropout
from trainer.architectures.dropout import QuickDropout, attend, drop, quicken


@pytest.mark.parametrize("p", [0.1, 0.25, 0.9])
def test_it_drops_the_right_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    ones = torch.ones(2000, 501)  # not a multiple of four
    out = QuickDropout(p)(ones)
    spread = (p * (1 - p) / ones.numel()) ** 0.5
    assert float((out == 0).float().mean()) == pytest.approx(p, abs=5 * spread + 1 / 65536)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)
    assert len(out.unique()) == 2


def test_neighbours_are_independent():
    torch.manual_seed(1)
    mask = (QuickDropout(0.5)(torch.ones(400_000)) > 0).double()
    for lag in (1, 2, 3, 4, 8):
        assert abs(float(torch.corrcoef(torch.stack([mask[:-lag], mask[lag:]]))[0, 1])) < 0.01


def test_the_seed_fixes_the_noise():
    ones, layer = torch.ones(33, 7), QuickDropout(0.3)
    draws = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        draws.append(layer(ones))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_the_gradient_flows_through_what_was_kept():
    torch.manual_seed(0)
    ones = torch.ones(50, requires_grad=True)
    out = QuickDropout(0.4)(ones)
    out.sum().backward()
    assert torch.equal(ones.grad, out.detach())


@pytest.mark.parametrize(("p", "training"), [(0.1, False), (0.0, True)])
def test_nothing_is_dropped_in_eval_or_at_zero(p, training):
    noise = torch.randn(20)
    assert torch.equal(QuickDropout(p).train(training)(noise), noise)


@pytest.mark.parametrize("p", [1e-7, 1.0])
def test_shares_that_sixteen_bits_cannot_express_are_left_to_torch(p):
    torch.manual_seed(0)
    dropped = drop(torch.ones(100), p)
    torch.manual_seed(0)
    assert torch.equal(dropped, torch.nn.functional.dropout(torch.ones(100), p))


def test_precision_and_shape_stay():
    for dtype in (torch.float64, torch.bfloat16):
        ones = torch.ones(3, 5, 7, dtype=dtype)
        assert (drop(ones, 0.5).dtype, drop(ones, 0.5).shape) == (dtype, ones.shape)


def test_quicken_replaces_every_dropout_and_no_parameter():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Sequential(torch.nn.Dropout(0.2)))
    before = dict(model.state_dict())
    quicken(model.eval())
    assert isinstance(model[1][0], QuickDropout) and model[1][0].p == 0.2 and not model[1][0].training
    assert list(model.state_dict()) == list(before)


def projections(rows=3, heads=4, tokens=8, seen=8, dtype=torch.float64):
    torch.manual_seed(0)
    shapes = [(rows, heads, count, 5) for count in (tokens, seen, seen)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def padding(rows=3, seen=8):
    bias = torch.zeros(rows, 1, 1, seen, dtype=torch.float64)
    bias[1, :, :, -3:] = torch.finfo(torch.float64).min
    return bias


def attended(tensors, bias, piece=dropout.PIECE):
    torch.manual_seed(7)
    out = attend(*tensors, bias, 0.3, 0.4, piece=piece)
    return [out, *torch.autograd.grad(out.square().sum(), tensors)]


@pytest.mark.parametrize("piece", [4 * 64 * 2, 4 * 64, 64 * 2, 1], ids=["rows", "row", "heads", "head"])
@pytest.mark.parametrize("bias", [None, padding()], ids=["whole", "padded"])
def test_attention_in_pieces_is_attention_written_out(piece, bias):
    """With the same noise: a piece has a multiple of four probabilities, so the generator gives it the same words."""
    tensors = projections()
    whole = attended(tensors, bias)
    for mine, theirs in zip(attended(tensors, bias, piece), whole, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-12)
    query, key, value = tensors
    scores = query @ key.transpose(-1, -2) * 0.4 + (0 if bias is None else bias)
    torch.manual_seed(7)
    assert torch.allclose(whole[0], drop(scores.softmax(-1), 0.3) @ value, rtol=1e-12, atol=1e-12)


def test_the_gradients_of_attention_in_pieces_are_right():
    tensors = projections(rows=2, heads=1, tokens=3, seen=5)

    def seeded(*projected):
        torch.manual_seed(3)  # the same noise for every slight change that is tried
        return attend(*projected, padding(rows=2, seen=5), 0.3, 0.4, piece=15)

    assert torch.autograd.gradcheck(seeded, tensors)


def test_attention_in_pieces_keeps_the_noise_and_no_probabilities():
    tensors, sizes = projections(tokens=64, seen=64, dtype=torch.float32), {}

    def note(tensor):
        sizes[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attend(*tensors, None, 0.1, 1.0, piece=64 * 64)
    projected = sum(tensor.nbytes for tensor in tensors) + tensors[0].nbytes  # the scaled query is one more
    assert sum(sizes.values()) <= projected + 2 * 3 * 4 * 64 * 64


@pytest.mark.parametrize("piece", [1 << 22, 64])
def test_attention_follows_the_precision_of_a_run(piece):
    tensors = [tensor.detach().bfloat16().requires_grad_() for tensor in projections()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(7)
        out = attend(*tensors, padding(), 0.3, 0.4, piece=piece)
    out.float().square().sum().backward()
    exact = attended([tensor.detach().double().requires_grad_() for tensor in tensors], padding(), piece)
    assert out.dtype == torch.bfloat16
    exact = [tensor.detach() for tensor in exact]
    for mine, theirs in zip([out, *(tensor.grad for tensor in tensors)], exact, strict=True):
        assert float((mine.detach().double() - theirs).abs().max()) < 0.03 * float(theirs.abs().max())
