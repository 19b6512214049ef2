"""Terms over a vocabulary by groups of positions: the same values and gradients as all at once, in less memory."""

import math
from functools import partial

import pytest
import torch
from tiny_pair import batch
from torch.nn import functional

from benchmarks.distillation import build
from trainer.models.heads import VocabularyProjection
from trainer.recipes.distil import Distil
from trainer.training import losses, vocabulary_loss
from trainer.training.objective import Objective

WORDS, WIDTH = 50, 8
ONE = WORDS * 4  # bytes of the logits of a position


def head(positions: int, *, seed: int, grad: bool = False) -> VocabularyProjection:
    make = torch.Generator().manual_seed(seed)
    shapes = ((positions, WIDTH), (WORDS, WIDTH), (WORDS,))
    return VocabularyProjection(*(torch.randn(shape, generator=make).requires_grad_(grad) for shape in shapes))


def compare(mine, theirs, labels):
    taught = losses.soft_targets(mine, theirs, temperature=2.0)
    return torch.stack([2 * losses.hard_labels(mine, labels), 5 * taught])


def formula(student: VocabularyProjection, teacher: VocabularyProjection, labels: torch.Tensor) -> torch.Tensor:
    mine, theirs = (each.hidden @ each.weight.T + each.bias for each in (student, teacher))
    kl = functional.kl_div((mine / 2).log_softmax(-1), (theirs / 2).softmax(-1), reduction="batchmean")
    return 2 * functional.cross_entropy(mine, labels) + 5 * 4 * kl


@pytest.mark.parametrize("group", [1, 3 * ONE, 10 * ONE, 11 * ONE, 1000 * ONE], ids=lambda size: f"{size}B")
@pytest.mark.parametrize("positions", [1, 2, 10, 11])
def test_groups_of_any_size_give_the_formula_and_its_gradients(group, positions):
    labels = torch.arange(positions) * 4 % WORDS
    mine, theirs = head(positions, seed=1, grad=True), head(positions, seed=2)
    expected = torch.autograd.grad(3 * formula(mine, theirs, labels), mine)
    total, terms = vocabulary_loss.vocabulary_loss(mine, theirs, labels, compare, group_bytes=group)
    torch.testing.assert_close(total, formula(mine, theirs, labels))
    torch.testing.assert_close(terms.sum(), total)
    assert terms.shape == (2,) and not terms.requires_grad
    for gradient, wanted in zip(torch.autograd.grad(3 * total, mine), expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-5)


def test_without_positions_the_loss_is_zero():
    mine = head(0, seed=1, grad=True)
    total, terms = vocabulary_loss.vocabulary_loss(mine, head(0, seed=2), torch.zeros(0, dtype=torch.long), compare)
    assert total == 0 and terms.tolist() == [0, 0]
    assert all(not gradient.any() for gradient in torch.autograd.grad(total, mine))


def test_a_head_without_a_bias_and_a_frozen_matrix_get_no_gradient():
    mine = head(5, seed=1, grad=True)
    frozen = VocabularyProjection(mine.hidden, mine.weight.detach(), None)
    total, _ = vocabulary_loss.vocabulary_loss(frozen, head(5, seed=2), torch.arange(5), compare)
    total.backward()
    assert mine.hidden.grad.any() and mine.weight.grad is None


def test_half_precision_is_that_of_autocast():
    mine, theirs, labels = head(10, seed=1, grad=True), head(10, seed=2), torch.arange(10)

    def whole():
        logits, taught = (functional.linear(*each) for each in (mine, theirs))
        return compare(logits, taught, labels).sum()

    def in_groups():
        return vocabulary_loss.vocabulary_loss(mine, theirs, labels, compare, group_bytes=4 * ONE)[0]

    gradients = []
    for compute in (whole, in_groups):
        with torch.autocast("cpu", torch.bfloat16):
            total = compute()
        gradients.append((total, *torch.autograd.grad(total, mine)))
    for whole_one, grouped in zip(*gradients, strict=True):
        assert grouped.dtype == torch.float32
        torch.testing.assert_close(grouped, whole_one, rtol=0.02, atol=0.02)
    # The loss itself: the same products.
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=1e-5, atol=0)


def test_an_objective_is_the_same_in_groups_and_at_once(monkeypatch):
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    results = []
    for group in (1, 1 << 40):
        in_groups = partial(vocabulary_loss.vocabulary_loss, group_bytes=group)
        monkeypatch.setattr("trainer.training.objective.vocabulary_loss", in_groups)
        student, teacher = (
            build(shape | {"num_hidden_layers": layers}, seed=layers, attention="sdpa").eval() for layers in (1, 2)
        )
        objective = Objective(student, Distil().plan(1, 2), head="mlm", teacher=teacher).eval()
        terms = objective(batch("mlm"))
        terms["loss"].backward()
        results.append([terms["loss"].item(), *(each.grad for each in student.parameters() if each.grad is not None)])
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)
    assert math.isfinite(results[0][0]) and len(results[0]) > 10


def test_the_logits_of_a_large_batch_are_never_whole(monkeypatch):
    """2,000 positions by 30,522 words are 244 MB; a group's buffers are a tenth of it."""
    largest, product = [], vocabulary_loss.linear

    def watched(*arguments):
        made = product(*arguments)
        largest.append(made.numel() * 4)
        return made

    monkeypatch.setattr(vocabulary_loss, "linear", watched)
    make = torch.Generator().manual_seed(0)
    mine = VocabularyProjection(torch.randn(2000, 4, generator=make), torch.randn(30522, 4, generator=make), None)
    total, _ = vocabulary_loss.vocabulary_loss(
        mine,
        None,
        torch.arange(2000),
        lambda logits, _, labels: losses.hard_labels(logits, labels)[None],
        group_bytes=20 << 20,
    )
    assert max(largest) <= 20 << 20 and len(largest) == 12
    assert total.item() == pytest.approx(
        functional.cross_entropy(mine.hidden @ mine.weight.T, torch.arange(2000)).item()
    )
