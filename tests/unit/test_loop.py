"""The loop: schedule, weight decay groups, refusal of bad steps, a state that depends on (seed, step) alone."""

import copy
import math

import pytest
import torch

from trainer.architectures.dropout import quicken
from trainer.errors import BadSpec
from trainer.spec import Schedule
from trainer.training.loop import NonFiniteLoss, _noise_seed, check_precision, learning_rate, optimizer_for, train

SCHEDULE = Schedule.model_validate({"steps": 6, "batch_size": 4, "lr": 0.01, "warmup": 0.5})


class Net(torch.nn.Module):
    """An objective: batch -> loss terms."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))

    def forward(self, batch):
        logits = self.layers(batch["input_ids"])
        return {"loss": logits.square().mean(), "loss.square": logits.square().mean()}


def batch_at(step):
    return {"input_ids": torch.full((4, 5), float(step + 1)), "attention_mask": torch.ones(4, 5)}


def begin(objective, optimizer=None, *, start=0, schedule=SCHEDULE, batch_at=batch_at, seed=3):
    optimizer = optimizer or optimizer_for(objective, schedule)
    options = {"schedule": schedule, "start": start, "total": 6, "seed": seed}
    return train(objective, optimizer, batch_at=batch_at, **options)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


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
    expected = Net()  # the loop switches to training mode
    quicken(expected)  # the same noise
    torch.manual_seed(_noise_seed(3, 0))
    loss = expected(batch_at(0))["loss"]
    loss.backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in expected.parameters()))
    by_hand = {}
    for name, p in expected.named_parameters():
        gradient = p.grad * min(1.0, 1.0 / (norm + 1e-6))
        rate = learning_rate(0, total=6, schedule=SCHEDULE)
        decay = 0.01 if p.ndim > 1 else 0.0
        # First AdamW step: both moments are the gradient after bias correction.
        by_hand[name] = p.detach() * (1 - rate * decay) - rate * gradient / (gradient.abs() + 1e-8)
    objective = Net().eval()
    step = next(begin(objective))
    assert step.number == 1
    assert step.metrics["loss"] == step.metrics["loss.square"] == pytest.approx(loss.item())
    assert step.metrics["lr"] == learning_rate(0, total=6, schedule=SCHEDULE)
    for name, p in objective.named_parameters():
        assert torch.allclose(p, by_hand[name], atol=1e-6), name


def test_speeds_count_examples_and_real_tokens():
    def padded(step):
        return batch_at(step) | {"attention_mask": torch.tensor([[1.0, 1, 1, 0, 0]] * 4)}

    metrics = next(begin(Net(), batch_at=padded)).metrics
    assert set(metrics) == {"loss", "loss.square", "lr", "examples_per_second", "tokens_per_second"}
    assert metrics["tokens_per_second"] / metrics["examples_per_second"] == pytest.approx(3)


def test_the_state_depends_on_seed_and_step_alone():
    whole, parts = Net(), Net()
    assert [step.number for step in begin(whole)] == [1, 2, 3, 4, 5, 6]
    optimizer = optimizer_for(parts, SCHEDULE)
    for start in range(6):
        torch.rand(17)  # noise drawn elsewhere must not matter
        next(begin(parts, optimizer, start=start))
    assert same(whole, parts)
    other = Net()
    list(begin(other, seed=4))
    assert not same(whole, other)


def test_accumulated_batches_are_one_step_of_their_mean():
    """Without dropout, two batches of a step do what one batch with the examples of both does."""

    def joined(step):
        return {name: torch.cat([batch_at(2 * step)[name], batch_at(2 * step + 1)[name]]) for name in batch_at(0)}

    results = []
    for schedule, batches in ((SCHEDULE.model_copy(update={"accumulate": 2}), batch_at), (SCHEDULE, joined)):
        objective = Net()
        objective.layers[1].p = 0.0
        results.append(
            (objective, [step.metrics["loss"] for step in begin(objective, schedule=schedule, batch_at=batches)])
        )
    (halves, some), (whole, others) = results
    assert len(some) == 6 and some == pytest.approx(others, rel=1e-4)
    for a, b in zip(halves.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_resumed_step_takes_the_same_accumulated_batches():
    schedule = SCHEDULE.model_copy(update={"accumulate": 3})
    whole, parts, asked = Net(), Net(), []
    list(begin(whole, schedule=schedule))
    optimizer = optimizer_for(parts, schedule)

    def watched(step):
        asked.append(step)
        return batch_at(step)

    for start in range(6):
        next(begin(parts, optimizer, start=start, schedule=schedule, batch_at=watched))
    assert same(whole, parts) and asked == list(range(18))


@pytest.mark.parametrize("precision, dtype", [("auto", "float32"), ("fp32", "float32"), ("bf16", "bfloat16")])
def test_precision_is_that_of_the_products_and_never_of_the_weights(precision, dtype):
    objective, seen = Net(), []
    objective.layers[0].register_forward_hook(lambda module, arguments, output: seen.append(output.dtype))
    options = {"schedule": SCHEDULE, "total": 1, "precision": precision}
    [step] = train(objective, optimizer_for(objective, SCHEDULE), batch_at=batch_at, **options)
    assert seen == [getattr(torch, dtype)]
    assert {parameter.dtype for parameter in objective.parameters()} == {torch.float32} and step.metrics["loss"] > 0


@pytest.mark.parametrize("has", [{}, {"avx2": True, "avx512_f": True}, {"avx512_bf16": False, "cpu_name": "AMD EPYC"}])
def test_bf16_is_refused_where_it_would_be_imitated(has, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64"} | has)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    with pytest.raises(BadSpec, match=f"compute.precision: found bf16.*{has.get('cpu_name', 'x86_64')}") as error:
        check_precision(cpu, "bf16")
    assert "auto" in error.value.next_step
    for device, precision in ((cpu, "auto"), (cpu, "fp32"), (gpu, "bf16"), (gpu, "auto")):
        check_precision(device, precision)


@pytest.mark.parametrize("has", ["amx_bf16", "avx512_bf16", "bf16", "sve_bf16"])
def test_bf16_is_taken_where_the_processor_has_it(has, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "any", has: True})
    check_precision(torch.device("cpu"), "bf16")


def test_a_nan_stops_before_it_reaches_a_weight():
    snapshots = []

    class Poisoned(Net):
        def forward(self, batch):
            terms = super().forward(batch)
            if batch["input_ids"][0, 0] == 3:
                snapshots.append(copy.deepcopy(self.state_dict()))
                terms["loss"] = terms["loss"] * float("nan")
            return terms

    objective = Poisoned()
    with pytest.raises(NonFiniteLoss, match="step 3") as error:
        list(begin(objective))
    assert "learning rate" in error.value.next_step
    assert all(torch.equal(value, snapshots[0][name]) for name, value in objective.state_dict().items())
