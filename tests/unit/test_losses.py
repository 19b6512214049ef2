"""Every loss term against loops written from its formula, reductions included, and its gradient against differences."""

import inspect
import math

import numpy as np
import pytest
import torch

from trainer.recipes.terms import TERMS
from trainer.training import losses

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(rows=3, heads=2, tokens=4, seed=0):
    """Attention maps: (rows, heads, tokens, tokens), each row a distribution."""
    return normal(rows, heads, tokens, tokens, seed=seed).softmax(-1)


def distribution(scores):
    """The softmax of a list of numbers, one by one."""
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def divergence(teacher, student):
    """KL(teacher || student) of two lists of probabilities."""
    return sum(p * (math.log(p) - math.log(q)) for p, q in zip(teacher, student, strict=True))


def at_temperature(logits, temperature):
    return [distribution((row / temperature).tolist()) for row in logits]


def test_hard_labels_are_the_mean_over_labelled_positions():
    logits, labels = normal(5, 7), torch.tensor([3, -100, 0, 6, -100])
    by_hand = [-math.log(distribution(logits[i].tolist())[labels[i]]) for i in (0, 2, 3)]
    assert losses.hard_labels(logits, labels).item() == pytest.approx(sum(by_hand) / 3, abs=1e-12)
    other = torch.where(labels == -100, 9, labels)
    assert losses.hard_labels(normal(5, 10), other, ignored=9) == losses.hard_labels(normal(5, 10), labels)


def test_without_labels_there_is_no_loss():
    logits = normal(3, 5).requires_grad_()
    loss = losses.hard_labels(logits, torch.full((3,), -100))
    loss.backward()
    assert loss == 0 and torch.equal(logits.grad, torch.zeros(3, 5, dtype=torch.float64))


def coin(logit):
    """The two probabilities of a label by itself."""
    return [1 / (1 + math.exp(-logit)), 1 / (1 + math.exp(logit))]


def test_label_sets_are_the_mean_over_labelled_elements():
    logits = normal(3, 4)
    labels = torch.tensor([[1.0, 0.0, 0.0, 1.0], [-100.0] * 4, [0.0, 1.0, 1.0, 0.0]])
    rows = [(row, n) for row in (0, 2) for n in range(4)]
    by_hand = [-math.log(coin(logits[row, n].item())[0 if labels[row, n] else 1]) for row, n in rows]
    assert losses.label_sets(logits, labels).item() == pytest.approx(sum(by_hand) / 8, abs=1e-12)
    labelled = logits[[0, 2]], labels[[0, 2]].double()
    torch.testing.assert_close(losses.label_sets(logits, labels), torch.nn.BCEWithLogitsLoss()(*labelled))
    assert losses.label_sets(logits, torch.full((3, 4), -100.0)) == 0


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_soft_label_sets_are_coins_averaged_over_every_element(temperature):
    student, teacher = normal(6, 9), normal(6, 9, seed=1)
    pairs = zip((teacher / temperature).flatten().tolist(), (student / temperature).flatten().tolist(), strict=True)
    by_hand = temperature**2 * sum(divergence(coin(p), coin(q)) for p, q in pairs) / 54
    loss = losses.soft_label_sets(student.requires_grad_(), teacher, temperature=temperature)
    assert loss.item() == pytest.approx(by_hand, abs=1e-12)
    loss.backward()
    difference = (student / temperature).sigmoid() - (teacher / temperature).sigmoid()
    torch.testing.assert_close(student.grad, temperature * difference / 54)
    assert losses.soft_label_sets(teacher, teacher).item() == pytest.approx(0, abs=1e-12)
    assert losses.soft_label_sets(40 * student.float(), -40 * teacher.float()).isfinite()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_soft_targets_are_summed_over_classes_and_averaged_over_positions(temperature):
    student, teacher = normal(6, 9), normal(6, 9, seed=1)
    rows = zip(at_temperature(teacher, temperature), at_temperature(student, temperature), strict=True)
    by_hand = temperature**2 * sum(divergence(p, q) for p, q in rows) / 6
    assert losses.soft_targets(student, teacher, temperature=temperature).item() == pytest.approx(by_hand, abs=1e-12)


def test_the_factor_keeps_the_size_of_gradients():
    """Hinton's reason for T^2: at a high temperature the gradient no longer depends on it."""
    teacher, sizes = 0.1 * normal(6, 9, seed=1), []
    for temperature in (10.0, 20.0):
        student = (0.1 * normal(6, 9)).requires_grad_()
        losses.soft_targets(student, teacher, temperature=temperature).backward()
        sizes.append(float(student.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_soft_cross_entropy_keeps_the_teachers_entropy_and_has_no_factor(temperature):
    student, teacher = normal(6, 9), normal(6, 9, seed=1)
    target, predicted = at_temperature(teacher, temperature), at_temperature(student, temperature)
    by_hand = (
        -sum(p * math.log(q) for t, s in zip(target, predicted, strict=True) for p, q in zip(t, s, strict=True)) / 6
    )
    loss = losses.soft_cross_entropy(student, teacher, temperature=temperature).item()
    assert loss == pytest.approx(by_hand, abs=1e-12)
    entropy = -sum(p * math.log(p) for row in target for p in row) / 6
    kl = losses.soft_targets(student, teacher, temperature=temperature).item() / temperature**2
    assert loss == pytest.approx(kl + entropy, abs=1e-12)


@pytest.mark.parametrize("rows", [1, 2, 4, 6, 100])
def test_soft_labels_do_not_depend_on_how_many_rows_are_taken_at_once(rows):
    terms = (losses.soft_targets, losses.soft_cross_entropy)
    logits, teacher = normal(6, 9), normal(6, 9, seed=1)
    expected = [plainly(term, logits, teacher) for term in terms]
    for term, (value, gradient) in zip(terms, expected, strict=True):
        leaf = logits.clone().requires_grad_()
        loss = term(leaf, teacher, temperature=2.0, rows=rows)
        (3 * loss).backward()
        assert loss.item() == pytest.approx(value.item(), abs=1e-12)
        assert torch.allclose(leaf.grad, 3 * gradient, atol=1e-12)


def plainly(term, student, teacher):
    """The term at T = 2 by autograd alone, and its gradient."""
    student = student.clone().requires_grad_()
    predicted, target = (student / 2).log_softmax(-1), (teacher / 2).softmax(-1)
    loss = -(target * predicted).sum(-1).mean()
    if term is losses.soft_targets:
        loss = 4 * (loss + (target * target.log()).sum(-1).mean())
    loss.backward()
    return loss.detach(), student.grad


def test_a_whole_vocabulary_in_single_precision():
    student, teacher = 3 * normal(50, 30522), 3 * normal(50, 30522, seed=1)
    for term in (losses.soft_targets, losses.soft_cross_entropy):
        exact = term(student, teacher, temperature=2.0).item()
        assert term(student.float(), teacher.float(), temperature=2.0).item() == pytest.approx(exact, rel=1e-5)


def test_nothing_to_compare_costs_nothing():
    for term in (losses.soft_targets, losses.soft_cross_entropy, losses.hidden_cosine):
        empty = torch.zeros(0, 5, requires_grad=True)
        term(empty, torch.zeros(0, 5)).backward()
        assert term(empty, torch.zeros(0, 5)) == 0


def test_the_cosine_is_averaged_over_tokens():
    student, teacher = normal(6, 5), normal(6, 5, seed=1)
    by_hand = 0.0
    for mine, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        dot = sum(a * b for a, b in zip(mine, theirs, strict=True))
        by_hand += 1 - dot / (math.hypot(*mine) * math.hypot(*theirs))
    assert losses.hidden_cosine(student, teacher).item() == pytest.approx(by_hand / 6, abs=1e-12)
    assert losses.hidden_cosine(3 * teacher, teacher).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("term", [losses.hidden_mse, losses.attention_mse])
def test_squared_errors_are_averaged_over_every_element(term):
    student, teacher = normal(3, 2, 4, 4), normal(3, 2, 4, 4, seed=1)
    by_hand = np.mean([(a - b) ** 2 for a, b in zip(student.numpy().flat, teacher.numpy().flat, strict=True)])
    assert term(student, teacher).item() == pytest.approx(by_hand, abs=1e-12)


def attention_kl_by_hand(student, teacher, mask):
    """Rows of real queries; the mean over their elements, not over the rows; keys are not masked."""
    divergences = []
    rows, heads, tokens, _ = student.shape
    for row in range(rows):
        for head in range(heads):
            for query in range(tokens):
                if not mask[row, query]:
                    continue
                for key in range(tokens):
                    p, q = teacher[row, head, query, key].item() + 1e-12, student[row, head, query, key].item() + 1e-12
                    divergences.append(p * (math.log(p) - math.log(q)))
    return sum(divergences) / len(divergences)


@pytest.mark.parametrize("mask", [MASK, torch.ones(3, 4)], ids=["padded", "full"])
def test_the_attention_divergence_is_an_element_mean_over_real_queries(mask):
    student, teacher = maps(), maps(seed=1)
    divergence = losses.attention_kl(student, teacher, mask).item()
    assert divergence == pytest.approx(attention_kl_by_hand(student, teacher, mask), abs=1e-12)


def test_the_element_mean_is_the_mean_over_rows_divided_by_the_length():
    """Trap T6: batchmean instead of mean multiplies this term by the length."""
    student, teacher = maps(), maps(seed=1)
    per_row = torch.nn.functional.kl_div(student.log().view(-1, 4), teacher.view(-1, 4), reduction="batchmean")
    divergence = losses.attention_kl(student, teacher, torch.ones(3, 4))
    assert divergence.item() * 4 == pytest.approx(per_row.item(), abs=1e-9)


def test_dropped_attention_stays_finite():
    """Trap T3: maps after dropout hold exact zeros, on either side."""
    student, teacher = maps(), maps(seed=1)
    student[:, :, :, 0], teacher[:, :, :, 1] = 0, 0
    student.requires_grad_()
    loss = losses.attention_kl(student, teacher, MASK)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()
    assert loss.item() == pytest.approx(attention_kl_by_hand(student.detach(), teacher, MASK), abs=1e-12)
    assert losses.attention_kl(student.detach().float(), teacher.float(), MASK).item() == pytest.approx(
        loss.item(), rel=1e-4
    )


def relations_by_hand(student, teacher, mask, heads):
    total, queries = 0.0, 0
    for row in range(len(mask)):
        real = [token for token in range(mask.shape[1]) if mask[row, token]]
        for head in range(heads):
            for query in real:
                rows = []
                for vectors in (teacher, student):
                    width = vectors.shape[-1] // heads
                    part = vectors[row, :, head * width : (head + 1) * width].numpy()
                    rows.append(distribution([part[query] @ part[key] / math.sqrt(width) for key in real]))
                total += divergence(*rows)
                queries += 1
    return total / queries


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_relations_are_averaged_over_relation_heads_and_real_queries(heads):
    student, teacher = normal(3, 4, 6), normal(3, 4, 12, seed=1)
    divergence = losses.relations(student, teacher, MASK, heads=heads).item()
    assert divergence == pytest.approx(relations_by_hand(student, teacher, MASK, heads), abs=1e-9)


def test_padding_changes_no_relation():
    student, teacher = normal(3, 4, 6), normal(3, 4, 12, seed=1)
    before = losses.relations(student, teacher, MASK, heads=2)
    padding = (MASK == 0)[:, :, None]
    student, teacher = (vectors.masked_fill(padding, 7.0) for vectors in (student, teacher))
    assert torch.equal(losses.relations(student, teacher, MASK, heads=2), before)


LABELS = torch.tensor([2, -100, 0])
SETS = torch.tensor([[1.0, 0, 0, 1], [-100] * 4, [0, 1, 1, 0]], dtype=torch.float64)
NUMBERS = torch.tensor([0.5, float("nan"), 2.0], dtype=torch.float64)
FUNCTIONS = {
    function: traits
    for name, traits in TERMS.items()
    for function in (traits.function or name, traits.of_sets, traits.of_values)
    if function
}


def example_of(function):
    """The loss as a function of the student's tensor alone, and that tensor's shape, by what the term compares."""
    traits, loss = FUNCTIONS[function], getattr(losses, function)
    temperature = {"temperature": 2.0} if "temperature" in inspect.signature(loss).parameters else {}
    mask = [] if traits.padding else [MASK]
    states = (3, 4, 2) if traits.padding else (3, 4)
    shape, others, options = {
        "labels": ((3, 4), [{traits.of_sets: SETS, traits.of_values: NUMBERS}.get(function, LABELS)], {}),
        "logits": ((3, 4), [normal(3, 4, seed=1)], temperature),
        "states": (states, [normal(*states, seed=1)], {}),
        "maps": ((3, 2, 4, 4), [maps(seed=1), *mask], {}),
        "vectors": ((3, 4, 4), [normal(3, 4, 8, seed=1), *mask], {"heads": 2}),
    }[traits.compares]

    def of_student(tensor):
        return loss(tensor.softmax(-1) if traits.compares == "maps" else tensor, *others, **options)

    return of_student, shape


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_are_those_of_small_differences(function):
    loss, shape = example_of(function)
    assert torch.autograd.gradcheck(loss, normal(*shape).requires_grad_())


@pytest.mark.parametrize("function", ["soft_targets", "soft_cross_entropy", "hidden_cosine", "hidden_mse", "relations"])
def test_half_precision_is_summed_in_single(function):
    loss, shape = example_of(function)
    vectors = normal(*shape).bfloat16()
    assert loss(vectors).item() == pytest.approx(loss(vectors.double()).item(), rel=1e-5)
