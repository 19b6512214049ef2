"""The objective against a straightforward implementation: whole forward passes, every logit, then the formula."""

import pytest
import torch
from tiny_pair import batch, bert
from torch.nn import functional

from trainer.errors import BadSpec
from trainer.models.heads import positions
from trainer.recipes.compact import Compact
from trainer.recipes.distil import Distil
from trainer.recipes.finetune import Finetune
from trainer.recipes.minilm import MiniLM
from trainer.recipes.mlm import MaskedLM
from trainer.recipes.task_kd import TaskKD
from trainer.recipes.terms import Term
from trainer.recipes.tiny import Tiny
from trainer.spec import Schedule
from trainer.training.loop import optimizer_for
from trainer.training.objective import Objective

TEACHER, STUDENT = 4, 2  # layers


def whole(model, tensors):
    """Everything transformers can return: all logits, hidden states and eager attention maps."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    wanted = {name: tensors[name] for name in ("input_ids", "attention_mask")}
    output = model(**wanted, output_hidden_states=True, output_attentions=True)
    model.set_attn_implementation(before)
    return output


def masked(output, tensors):
    """Logits at the positions that have labels: (positions, classes)."""
    return output.logits[tensors["labels"] != -100]


def cross_entropy(student, tensors):
    return functional.cross_entropy(student.logits.flatten(0, 1), tensors["labels"].flatten())


def kl(student, teacher, tensors, *, temperature):
    predicted = functional.log_softmax(masked(student, tensors) / temperature, dim=-1)
    target = functional.softmax(masked(teacher, tensors) / temperature, dim=-1)
    return functional.kl_div(predicted, target, reduction="batchmean") * temperature**2


def cosine(mine, theirs, where):
    mine, theirs = mine[where], theirs[where]
    return functional.cosine_embedding_loss(mine, theirs, torch.ones(len(mine)))


def map_divergence(mine, theirs, tensors):
    queries = tensors["attention_mask"].bool()[:, None, :].expand(mine.shape[:3])
    divergence = functional.kl_div((mine[queries] + 1e-12).log(), theirs[queries] + 1e-12, reduction="sum")
    return divergence / mine[queries].numel()


def straightforward_mlm(recipe, student, teacher, tensors, projection):
    return cross_entropy(student, tensors)


def straightforward_distil(recipe, student, teacher, tensors, projection):
    """2 MLM + 5 KL at T = 2 + 1 cosine of the last states at every real token."""
    real = tensors["attention_mask"].bool()
    return (
        2 * cross_entropy(student, tensors)
        + 5 * kl(student, teacher, tensors, temperature=2.0)
        + cosine(student.hidden_states[-1], teacher.hidden_states[-1], real)
    )


def straightforward_tiny(recipe, student, teacher, tensors, projection):
    """Maps and projected states layer by layer, padding included; soft cross-entropy at T = 1, no hard loss."""
    maps = sum(functional.mse_loss(student.attentions[k], teacher.attentions[2 * k + 1]) for k in range(2))
    levels = zip((0, 1, 2), (0, 2, 4), strict=True)
    states = sum(functional.mse_loss(projection(student.hidden_states[s]), teacher.hidden_states[t]) for s, t in levels)
    predicted, target = masked(student, tensors).log_softmax(-1), masked(teacher, tensors).softmax(-1)
    return maps + states - (target * predicted).sum(-1).mean()


def straightforward_compact(recipe, student, teacher, tensors, projection):
    """1 MLM + 3 (maps + states of every layer) + 5 KL at T = 1."""
    real = tensors["attention_mask"].bool()
    layers = 0.0
    for k in (1, 2):
        layers += map_divergence(student.attentions[k - 1], teacher.attentions[2 * k - 1], tensors)
        layers += cosine(student.hidden_states[k], teacher.hidden_states[2 * k], real)
    layers += recipe.embedding_cosine / 3 * cosine(student.hidden_states[0], teacher.hidden_states[0], real)
    return cross_entropy(student, tensors) + 3 * layers + 5 * kl(student, teacher, tensors, temperature=1.0)


def relation(states, linear, heads, real):
    """Scaled products of one kind of vectors of one row among its real tokens: (heads, tokens, tokens)."""
    vectors = linear(states)[real]
    cut = torch.stack(vectors.chunk(heads, dim=-1))  # (heads, tokens, width)
    return (cut @ cut.transpose(1, 2) / cut.shape[-1] ** 0.5).log_softmax(-1)


def straightforward_minilm(recipe, student, teacher, tensors, projection, models=None):
    total, (mine, theirs) = 0.0, (model.bert.encoder.layer[-1].attention.self for model in models)
    real = tensors["attention_mask"].bool()
    for name in ("query", "key", "value"):
        rows = []
        for row in range(len(real)):
            predicted = relation(student.hidden_states[-2][row], getattr(mine, name), 6, real[row])
            target = relation(teacher.hidden_states[-2][row], getattr(theirs, name), 6, real[row])
            rows.append(functional.kl_div(predicted, target, log_target=True, reduction="none").sum(-1).flatten())
        total = total + torch.cat(rows).mean()
    return total + (0 if recipe.exact else cross_entropy(student, tensors))


def straightforward_task_kd(recipe, student, teacher, tensors, projection):
    labelled = tensors["labels"] != -100
    total = recipe.soft_targets * kl(student, teacher, tensors, temperature=recipe.temperature)
    total = total + recipe.labels * cross_entropy(student, tensors)
    pairs = ((1, 2), (2, 4)) if recipe.levels == "all" else ((2, 4),)
    for low, high in pairs:
        states = student.hidden_states[low]
        term = cosine(projection(states) if projection else states, teacher.hidden_states[high], labelled)
        total = total + recipe.hidden_cosine * term / len(pairs)
    if recipe.attention_kl:
        layers = (map_divergence(student.attentions[k], teacher.attentions[2 * k + 1], tensors) for k in range(2))
        total = total + recipe.attention_kl * sum(layers)
    return total


CASES = {
    "finetune": (Finetune(), "ner", 24, straightforward_mlm),
    "mlm": (MaskedLM(), "mlm", 24, straightforward_mlm),
    "distil": (Distil(), "mlm", 24, straightforward_distil),
    "distil, exact": (Distil(exact=True), "mlm", 24, straightforward_distil),
    "tiny": (Tiny(), "mlm", 12, straightforward_tiny),
    "tiny of the same width": (Tiny(exact=True), "mlm", 24, straightforward_tiny),
    "compact": (Compact(), "mlm", 24, straightforward_compact),
    "compact, exact": (Compact(exact=True), "mlm", 24, straightforward_compact),
    "compact with embeddings": (Compact(embedding_cosine=3.0), "mlm", 24, straightforward_compact),
    "minilm": (MiniLM(relation_heads=6), "mlm", 12, straightforward_minilm),
    "minilm, exact": (MiniLM(relation_heads=6, exact=True), "mlm", 12, straightforward_minilm),
    "task_kd": (TaskKD(), "ner", 24, straightforward_task_kd),
    "task_kd of another width": (TaskKD(labels=0.5), "ner", 12, straightforward_task_kd),
    "task_kd of all levels": (TaskKD(levels="all", hidden_cosine=2.0), "ner", 24, straightforward_task_kd),
    "task_kd of all levels, another width": (TaskKD(levels="all"), "ner", 12, straightforward_task_kd),
    "task_kd of all levels, with attention": (
        TaskKD(levels="all", attention_kl=3.0),
        "ner",
        24,
        straightforward_task_kd,
    ),
    "task_kd with attention": (TaskKD(labels=0.5, attention_kl=3.0), "ner", 24, straightforward_task_kd),
}


def objective_of(recipe, *, head="mlm", hidden=24, dropout=0.0, seed=0, **options):
    """An objective of a tiny pair, and the teacher."""
    teacher = bert(head, layers=TEACHER, seed=1, dropout=dropout) if recipe.kind == "distill" else None
    student = bert(head, layers=STUDENT, hidden=hidden, seed=2, dropout=dropout)
    plan = recipe.plan(STUDENT, TEACHER)
    exact = getattr(recipe, "exact", False)
    return Objective(student, plan, head=head, teacher=teacher, exact=exact, seed=seed, **options), teacher


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_the_loss_and_its_gradients_are_those_of_a_straightforward_implementation(case, padded):
    recipe, head, hidden, straightforward = CASES[case]
    objective, teacher = objective_of(recipe, head=head, hidden=hidden)
    student, tensors = objective.student, batch(head, padded=padded)
    options = {"models": (student, teacher)} if straightforward is straightforward_minilm else {}
    with torch.no_grad():
        theirs = whole(teacher, tensors) if teacher else None
    expected = straightforward(recipe, whole(student, tensors), theirs, tensors, objective.projection, **options)
    expected.backward()
    wanted = {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
    objective.zero_grad()
    loss = objective.train()(tensors)["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
    got = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    assert set(got) == set(wanted) and got
    for name, gradient in got.items():
        assert torch.allclose(gradient, wanted[name], atol=1e-4, rtol=1e-3), name


def test_the_terms_are_reported_one_by_one_as_they_are_weighed():
    objective, _ = objective_of(Distil())
    terms = objective(batch())
    parts = {name: value.item() for name, value in terms.items() if name != "loss"}
    assert set(parts) == {"loss.mlm", "loss.soft_targets", "loss.hidden_cosine"}
    assert sum(parts.values()) == pytest.approx(terms["loss"].item(), rel=1e-6)
    heavier, _ = objective_of(Distil(mlm=6.0))
    assert heavier(batch())["loss.mlm"].item() == pytest.approx(3 * parts["loss.mlm"], rel=1e-6)


def test_a_term_without_weight_is_not_computed():
    objective, _ = objective_of(Compact(attention_kl=0, hidden_cosine=0))
    assert set(objective(batch())) == {"loss", "loss.mlm", "loss.soft_targets"}
    assert objective.teacher.config._attn_implementation == "sdpa"  # no map is asked for


@pytest.mark.parametrize(("recipe", "head"), [(Distil(), "mlm"), (MaskedLM(), "mlm"), (TaskKD(), "ner")])
def test_heads_are_computed_only_where_something_counts(recipe, head):
    objective, teacher = objective_of(recipe, head=head)
    tensors, seen = batch(head), []
    for model in filter(None, (objective.student, teacher)):
        part = model.cls.predictions.transform if head == "mlm" else model.classifier
        part.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    objective(tensors)
    count, width = int((tensors["labels"] != -100).sum()), objective.student.config.hidden_size if head == "mlm" else 3
    assert 0 < count < tensors["labels"].numel() / 2
    assert seen == [(count, width)] * (2 if teacher else 1)


def test_a_teachers_head_is_computed_only_where_its_outputs_are_compared():
    objective, teacher = objective_of(MiniLM(relation_heads=6))
    teacher.cls.predictions.transform.register_forward_hook(lambda *_: pytest.fail("the teacher's head was computed"))
    objective(batch())


@pytest.mark.parametrize("exact", [False, True])
def test_the_teacher_is_taught_nothing(exact):
    objective, teacher = objective_of(Compact(exact=exact), dropout=0.1)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    optimizer = optimizer_for(objective, Schedule.model_validate({"steps": 1, "batch_size": 4, "lr": 0.01}))
    objective.train()(batch())["loss"].backward()
    optimizer.step()
    assert teacher.training == exact, "in eval mode, but in training mode as the papers' code ran"
    assert objective.eval().training is False and teacher.training == exact
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in objective.student.parameters()}
    assert not trained & {id(p) for p in teacher.parameters()}
    assert {name.partition(".")[0] for name in objective.state_dict()} == {"student"}


def test_the_teacher_follows_to_another_device_or_type():
    objective, teacher = objective_of(Distil())
    assert objective.to(torch.float64) is objective
    assert {p.dtype for p in (*teacher.parameters(), *objective.parameters())} == {torch.float64}


@pytest.mark.parametrize("recipe", [Distil, Tiny, Compact])
def test_exact_and_clean_mode_differ_by_dropout_and_nothing_else(recipe):
    hidden = 12 if recipe is Tiny else 24
    losses = {}
    for dropout in (0.0, 0.2):
        for exact in (False, True):
            objective, _ = objective_of(recipe(exact=exact), hidden=hidden, dropout=dropout)
            torch.manual_seed(0)
            losses[dropout, exact] = objective.train()(batch())["loss"].item()
    assert losses[0.0, False] == losses[0.0, True]
    assert losses[0.2, False] != losses[0.2, True]


def test_the_clean_mode_compares_maps_before_dropout_and_the_exact_mode_after_it():
    """Trap T3, seen in the loss: a model and its twin have the same maps until each of them drops out its own."""
    plan, losses = (Term(name="attention_mse", weight=1.0, pairs=((1, 1),)),), {}
    for exact in (False, True):
        twin, student = (bert(layers=2, seed=1, dropout=0.3) for _ in range(2))
        for model in (twin, student):
            model.bert.embeddings.dropout.p = 0.0  # so that both see the same in their first layer
        objective = Objective(student, plan, head="mlm", teacher=twin, exact=exact)
        losses[exact] = objective.train()(batch())["loss"].item()
    assert losses[False] == 0 and losses[True] > 0.01


def test_one_projection_serves_every_level():
    objective, _ = objective_of(Tiny(), hidden=12)
    (weight, bias) = objective.projection.parameters()
    assert (weight.shape, bias.shape) == ((24, 12), (24,))
    calls = []
    objective.projection.register_forward_hook(lambda module, arguments, output: calls.append(tuple(output.shape)))
    objective(batch())
    assert calls == [(4, 9, 24)] * 3
    assert {name for name, _ in objective.named_parameters() if not name.startswith("student.")} == {
        "projection.weight",
        "projection.bias",
    }


def test_the_projection_is_fixed_by_the_seed_and_draws_nothing_from_others():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one, same, other = (objective_of(Tiny(), hidden=12, seed=seed)[0].projection.weight for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one, same) and not torch.equal(one, other)
    limit = 12**-0.5  # PyTorch's own start of a linear layer
    assert one.abs().max() <= limit and one.std().item() == pytest.approx(limit / 3**0.5, rel=0.15)


@pytest.mark.parametrize(
    ("recipe", "head", "hidden", "projected"),
    [
        (Tiny(), "mlm", 24, True),  # the tiny objective has its projection at any width
        (TaskKD(), "ner", 24, False),
        (TaskKD(), "ner", 12, True),
        (TaskKD(hidden_cosine=0), "ner", 12, False),
        (Distil(), "mlm", 24, False),
    ],
)
def test_a_projection_is_there_only_where_it_is_needed(recipe, head, hidden, projected):
    objective, _ = objective_of(recipe, head=head, hidden=hidden)
    assert (objective.projection is not None) == projected


def test_states_of_two_widths_are_refused():
    with pytest.raises(BadSpec, match="12 wide and its teacher 24; hidden_cosine compares them") as error:
        objective_of(Distil(), hidden=12)
    assert error.value.fields[0][0] == "student.hidden" and "minilm" in error.value.next_step


@pytest.mark.parametrize(
    ("recipe", "levels"),
    [
        (TaskKD(labels=0.5), [4]),
        (TaskKD(labels=0.5, levels="all"), [2, 4]),
        (TaskKD(soft_targets=0, levels="all"), [2, 4]),
    ],
)
def test_kept_outputs_do_the_same_as_the_teacher_itself(recipe, levels):
    tensors = batch("ner")
    live, teacher = objective_of(recipe, head="ner", hidden=12)
    expected = live(tensors)
    with torch.no_grad():
        output = whole(teacher, tensors)
    where = tensors["labels"] != -100
    states = torch.stack([output.hidden_states[level][where] for level in levels], dim=1)
    outputs = {"teacher_logits": output.logits[where], "teacher_states": states}
    words = torch.where(where, torch.arange(where.numel()).view(where.shape), -1)
    student = bert("ner", layers=STUDENT, hidden=12, seed=2, dropout=0.0)
    cached = Objective(student, live.plan, head="ner", teacher_width=24)
    terms = cached(tensors | outputs | {"words": words})
    assert cached.teacher_levels == tuple(levels)
    assert cached.teacher is None and set(terms) == set(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-5), name


def test_words_count_also_where_they_have_no_label():
    """Text that only the teacher labels: its words take part in every comparison, and in no loss against labels."""
    tensors = batch("ner")
    words = torch.where(tensors["labels"] != -100, 0, -1)
    unlabelled = tensors | {"words": words, "labels": torch.full_like(tensors["labels"], -100)}
    objective, _ = objective_of(TaskKD(labels=1.0, attention_kl=1.0), head="ner")
    with_labels, without = objective(tensors), objective(unlabelled)
    assert without["loss.task"] == 0 and with_labels["loss.task"] > 0
    for name in ("loss.soft_targets", "loss.hidden_cosine", "loss.attention_kl"):
        assert without[name].item() == pytest.approx(with_labels[name].item(), rel=1e-6)


@pytest.mark.parametrize(("recipe", "head"), [(Distil(), "mlm"), (Compact(), "mlm"), (TaskKD(labels=1.0), "ner")])
def test_a_batch_in_which_nothing_counts_changes_nothing_by_its_labels(recipe, head):
    tensors = batch(head)
    tensors["labels"] = torch.full_like(tensors["labels"], -100)
    objective, _ = objective_of(recipe, head=head)
    terms = objective.train()(tensors)
    terms["loss"].backward()
    assert all(value.isfinite() for value in terms.values())
    for name in {"loss.mlm", "loss.task", "loss.soft_targets"} & set(terms):
        assert terms[name] == 0
    assert all(p.grad.isfinite().all() for p in objective.parameters() if p.grad is not None)


def test_positions_are_those_of_labels_or_of_words():
    labels = torch.tensor([[-100, 3, -100], [0, -100, 5]])
    assert positions({"labels": labels}).tolist() == [1, 3, 5]
    assert positions({"labels": labels, "words": torch.tensor([[-1, 0, 1], [-1, -1, 2]])}).tolist() == [1, 2, 5]
