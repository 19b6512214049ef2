"""Quick dropout: right probability, unbiased, seeded, and out of the way where it is not wanted."""

import pytest
import torch

from trainer.dropout import QuickDropout, drop, quicken


@pytest.mark.parametrize("p", [0.1, 0.25, 0.9])
def test_it_drops_the_right_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    given = torch.ones(2000, 501)  # not a multiple of four
    out = QuickDropout(p)(given)
    spread = (p * (1 - p) / given.numel()) ** 0.5
    assert float((out == 0).float().mean()) == pytest.approx(p, abs=5 * spread + 1 / 65536)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)
    assert len(out.unique()) == 2


def test_neighbours_are_independent():
    torch.manual_seed(1)
    kept = (QuickDropout(0.5)(torch.ones(400_000)) > 0).double()
    for lag in (1, 2, 3, 4, 8):
        assert abs(float(torch.corrcoef(torch.stack([kept[:-lag], kept[lag:]]))[0, 1])) < 0.01


def test_the_seed_fixes_the_noise():
    given, layer = torch.ones(33, 7), QuickDropout(0.3)
    draws = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        draws.append(layer(given))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_the_gradient_flows_through_what_was_kept():
    torch.manual_seed(0)
    given = torch.ones(50, requires_grad=True)
    out = QuickDropout(0.4)(given)
    out.sum().backward()
    assert torch.equal(given.grad, out.detach())


@pytest.mark.parametrize(("p", "training"), [(0.1, False), (0.0, True)])
def test_nothing_is_dropped_in_eval_or_at_zero(p, training):
    given = torch.randn(20)
    assert torch.equal(QuickDropout(p).train(training)(given), given)


@pytest.mark.parametrize("p", [1e-7, 1.0])
def test_shares_that_sixteen_bits_cannot_say_are_left_to_torch(p):
    torch.manual_seed(0)
    found = drop(torch.ones(100), p)
    torch.manual_seed(0)
    assert torch.equal(found, torch.nn.functional.dropout(torch.ones(100), p))


def test_precision_and_shape_stay():
    for dtype in (torch.float64, torch.bfloat16):
        given = torch.ones(3, 5, 7, dtype=dtype)
        assert (drop(given, 0.5).dtype, drop(given, 0.5).shape) == (dtype, given.shape)


def test_quicken_replaces_every_dropout_and_no_parameter():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Sequential(torch.nn.Dropout(0.2)))
    before = dict(model.state_dict())
    quicken(model.eval())
    assert isinstance(model[1][0], QuickDropout) and model[1][0].p == 0.2 and not model[1][0].training
    assert list(model.state_dict()) == list(before)
