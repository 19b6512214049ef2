"""The loop: schedule, weight decay groups, refusal of bad steps, a state that depends on (seed, step) alone."""

import copy
import math

import pytest
import torch

from trainer.dropout import quicken
from trainer.loop import NonFiniteLoss, _noise_seed, learning_rate, optimizer_for, train
from trainer.spec import Schedule

SCHEDULE = Schedule.model_validate({"steps": 6, "batch_size": 4, "lr": 0.01, "warmup": 0.5})


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))

    def forward(self, x):
        return self.layers(x)


def batch_at(step):
    return {"input_ids": torch.full((4, 5), float(step + 1)), "attention_mask": torch.ones(4, 5)}


def loss_of(batch, model):
    return {"loss": model(batch["input_ids"]).square().mean()}


def run(model, optimizer, *, start=0, total=6, loss_of=loss_of, seed=3):
    options = {"batch_at": batch_at, "loss_of": loss_of, "schedule": SCHEDULE, "start": start, "total": total}
    return list(train(model, optimizer, seed=seed, **options))


def test_learning_rate_rises_then_falls_towards_zero():
    rates = [learning_rate(step, total=10, schedule=SCHEDULE) for step in range(10)]
    assert rates[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01])
    assert rates[5:] == pytest.approx([0.01, 0.008, 0.006, 0.004, 0.002])


def test_vectors_are_exempt_from_weight_decay():
    decayed, exempt = optimizer_for(Net(), SCHEDULE).param_groups
    assert {p.ndim for p in decayed["params"]} == {2} and decayed["weight_decay"] == 0.01
    assert {p.ndim for p in exempt["params"]} == {1} and exempt["weight_decay"] == 0.0
    assert decayed["fused"]


def test_a_step_equals_one_written_by_hand():
    model = Net().eval()  # the loop switches to training mode; so must the hand-written step
    expected = copy.deepcopy(model).train()
    quicken(expected)  # the same noise
    torch.manual_seed(_noise_seed(3, 0))
    loss = expected(batch_at(0)["input_ids"]).square().mean()
    loss.backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in expected.parameters()))
    by_hand = {}
    for name, p in expected.named_parameters():
        gradient = p.grad * min(1.0, 1.0 / (norm + 1e-6))
        rate = learning_rate(0, total=6, schedule=SCHEDULE)
        decay = 0.01 if p.ndim > 1 else 0.0
        # First AdamW step: both moments are the gradient after bias correction.
        by_hand[name] = p.detach() * (1 - rate * decay) - rate * gradient / (gradient.abs() + 1e-8)
    steps = run(model, optimizer_for(model, SCHEDULE), total=6)[:1]
    assert steps[0].metrics["loss"] == pytest.approx(loss.item())
    fresh = Net()
    generator = train(
        fresh, optimizer_for(fresh, SCHEDULE), batch_at=batch_at, loss_of=loss_of, schedule=SCHEDULE, total=6, seed=3
    )
    next(generator)
    for name, p in fresh.named_parameters():
        assert torch.allclose(p, by_hand[name], atol=1e-6), name


def test_the_state_depends_on_seed_and_step_alone():
    whole, parts = Net(), Net()
    run(whole, optimizer_for(whole, SCHEDULE))
    optimizer = optimizer_for(parts, SCHEDULE)
    for start in range(6):
        torch.rand(17)  # noise drawn elsewhere must not matter
        generator = train(
            parts, optimizer, batch_at=batch_at, loss_of=loss_of, schedule=SCHEDULE, total=6, start=start, seed=3
        )
        next(generator)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
    other = Net()
    run(other, optimizer_for(other, SCHEDULE), seed=4)
    assert not all(torch.equal(a, b) for a, b in zip(whole.parameters(), other.parameters(), strict=True))


def test_a_nan_stops_before_it_reaches_a_weight():
    model = Net()
    kept = []

    def poisoned(batch, student):
        if batch["input_ids"][0, 0] == 3:
            kept.append(copy.deepcopy(student.state_dict()))
            return {"loss": student(batch["input_ids"]).mean() * float("nan")}
        return loss_of(batch, student)

    with pytest.raises(NonFiniteLoss, match="step 3") as error:
        run(model, optimizer_for(model, SCHEDULE), loss_of=poisoned)
    assert "learning rate" in error.value.next_step
    assert all(torch.equal(value, kept[0][name]) for name, value in model.state_dict().items())
