"""What every entry of RECIPES keeps to, so that a new recipe is tested before its author writes a test.

Each is tried with its defaults, with every weight that is 0 by default turned on, with each other choice of an option
that has names to choose from, and in its exact mode if it has one.
"""

import copy
import json
from typing import Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from tiny_pair import TAGS, batch, bert
from torch.distributions import Categorical
from transformers import AutoTokenizer

from trainer import datasets, models
from trainer.errors import BadSpec
from trainer.files import file_sha256
from trainer.models import heads
from trainer.recipes import RECIPES
from trainer.recipes.compact import Compact
from trainer.recipes.distil import Distil
from trainer.recipes.minilm import MiniLM
from trainer.recipes.task_kd import TaskKD
from trainer.recipes.tiny import Tiny
from trainer.resolved import ResolvedModel
from trainer.run import Run, RunSpec
from trainer.spec import parse
from trainer.tasks import TASKS, trained_by
from trainer.training import checkpoint
from trainer.training.loop import NonFiniteLoss, optimizer_for, train
from trainer.training.objective import Objective
from trainer.training.setup import prepare
from trainer.zoo import compatibility, vocabulary

TEACHER, STUDENT = 4, 2  # layers


def weights(kind):
    """The options of a recipe that weigh a term: numbers that may be 0."""
    fields = kind.model_fields.items()
    return [name for name, info in fields if isinstance(info.default, float) and not _must_be_positive(info)]


def _must_be_positive(info):
    return any(getattr(limit, "gt", None) == 0 for limit in info.metadata)


def choices(kind):
    """(option, name) of every name that an option offers besides its default."""
    for option, info in kind.model_fields.items():
        if get_origin(info.annotation) is Literal:
            yield from ((option, choice) for choice in get_args(info.annotation) if choice != info.default)


def variants():
    """Every recipe with every kind of head that it trains: a task with several labels a document counts as another."""
    for name, kind in RECIPES.items():
        for head in dict.fromkeys(head for task in trained_by(kind) for head in HEADS_OF[task]):
            case_id = name if head == HEADS_OF[trained_by(kind)[0]][0] else f"{name}-{head.replace(' ', '-')}"
            yield pytest.param(kind(), head, id=case_id)
            if off := [field for field in weights(kind) if kind.model_fields[field].default == 0]:
                yield pytest.param(kind(**dict.fromkeys(off, 1.0)), head, id=f"{case_id}-all-terms")
            for option, choice in choices(kind):
                yield pytest.param(kind(**{option: choice}), head, id=f"{case_id}-{option}-{choice}")
            if "exact" in kind.model_fields:
                yield pytest.param(kind(exact=True), head, id=f"{case_id}-exact")


HEADS_OF = {
    name: [task.head, *(["several labels"] if "multi_label" in task.model_fields else [])]
    for name, task in TASKS.items()
}
VARIANTS = list(variants())
every_variant = pytest.mark.parametrize(("recipe", "head"), VARIANTS)
# For tests that train: a recipe with its defaults is in every run, one with options or for several labels is slow.
CHOICES = {f"-{option}-{choice}" for kind in RECIPES.values() for option, choice in choices(kind)}
SLOW = ("-all-terms", "-exact", "-several-labels", *CHOICES)
TRAINED = [
    pytest.param(*case.values, id=case.id, marks=pytest.mark.slow if case.id.endswith(SLOW) else ())
    for case in VARIANTS
]
every_trained = pytest.mark.parametrize(("recipe", "head"), TRAINED)


def head_of(recipe):
    return TASKS[trained_by(recipe)[0]].head


def task_of(head):
    return next(task for task, heads in HEADS_OF.items() if head in heads)


def is_exact(recipe):
    return getattr(recipe, "exact", False) and getattr(recipe, "teacher_drops_out", True)


def objective_of(recipe, head=None, *, layers=(STUDENT, TEACHER), dropout=0.0, hidden=24):
    """An objective with random weights; `hidden` is the student's width, the teacher's is 24."""
    head, (low, high) = head or head_of(recipe), layers
    teacher = bert(head, layers=high, seed=1, dropout=dropout) if recipe.kind == "distill" else None
    student = bert(head, layers=low, hidden=hidden, seed=2, dropout=dropout)
    plan, kind = recipe.plan(low, high), "classification" if head == "several labels" else head
    return Objective(student, plan, head=kind, teacher=teacher, exact=is_exact(recipe))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_it_is(name):
    kind = RECIPES[name]
    assert kind.model_fields["name"].default == name == kind().name
    assert kind.kind in ("finetune", "pretrain", "distill") and trained_by(kind)
    assert all(info.description for field, info in kind.model_fields.items() if field != "name")
    terms = kind().plan(STUDENT, TEACHER)
    assert any(term.weight for term in terms)
    assert len({term.name for term in terms}) == len(terms), "terms of one name would hide each other"


@pytest.mark.parametrize(
    ("recipe", "weighed"),
    [
        (Distil(), {"mlm": (2, 1), "soft_targets": (5, 2), "hidden_cosine": (1, 1)}),
        (Tiny(), {"attention_mse": (1, 1), "hidden_mse": (1, 1), "soft_cross_entropy": (1, 1)}),
        (
            Compact(),
            {
                "mlm": (1, 1),
                "attention_kl": (3, 1),
                "hidden_cosine": (3, 1),
                "embedding_cosine": (0, 1),
                "soft_targets": (5, 1),
            },
        ),
        (TaskKD(), {"soft_targets": (1, 2), "task": (0, 1), "hidden_cosine": (1, 1)}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_weights_and_temperatures_of_the_papers(recipe, weighed):
    assert {term.name: (term.weight, term.temperature) for term in recipe.plan(6, 12)} == weighed


def test_levels_of_the_papers():
    tiny = {term.name: term.pairs for term in Tiny().plan(4, 12)}
    assert tiny["attention_mse"] == ((1, 3), (2, 6), (3, 9), (4, 12))
    assert tiny["hidden_mse"] == ((0, 0), (1, 3), (2, 6), (3, 9), (4, 12))
    compact = {term.name: term.pairs for term in Compact().plan(6, 12)}
    assert compact["attention_kl"] == compact["hidden_cosine"] == tuple((k, 2 * k) for k in range(1, 7))
    assert {term.name: term.pairs for term in Distil().plan(6, 12)}["hidden_cosine"] == ((6, 12),)


@every_variant
def test_the_gradient_is_that_of_small_differences(recipe, head):
    """In double precision, along a random direction through every trained weight."""
    objective, tensors = objective_of(recipe, head).to(torch.float64), batch(head)
    parameters = dict(objective.named_parameters())
    objective.train()(tensors)["loss"].backward()
    noise = torch.Generator().manual_seed(0)
    ways = {name: torch.randn(p.shape, generator=noise, dtype=torch.float64) for name, p in parameters.items()}
    # PyTorch never trains the row of the padding token, though some terms count the states at padding.
    ways["student.bert.embeddings.word_embeddings.weight"][0] = 0
    derivative = sum((p.grad * ways[name]).sum() for name, p in parameters.items() if p.grad is not None)

    @torch.no_grad()
    def at(step):
        for name, p in parameters.items():
            p.add_(step * ways[name])
        loss = objective(tensors)["loss"]
        for name, p in parameters.items():
            p.sub_(step * ways[name])
        return loss

    slope = (at(1e-6) - at(-1e-6)) / 2e-6
    assert abs(derivative) > 1e-3
    assert derivative.item() == pytest.approx(slope.item(), rel=1e-5)


SCHEDULE = parse(
    {"kind": "finetune", "model": "m", "dataset": "d", "schedule": {"steps": 60, "batch_size": 4, "lr": 0.03}}
).schedule


@pytest.mark.parametrize(("recipe", "head"), [case for case in TRAINED if not case.id.endswith("-exact")])
def test_one_batch_can_be_learned_by_heart(recipe, head):
    """With a teacher that is right, so that its soft targets and the labels do not contradict each other."""
    torch.set_num_threads(1)
    total = SCHEDULE.steps
    objective, tensors = (
        objective_of(recipe, head, layers=(1, 2)),
        batch(head, rows=2 + (task_of(head) == "classification"), tokens=6),
    )
    if objective.teacher:
        if "owners" in tensors:  # and sure of it: a coin a label is further from its label than a class is
            objective.teacher.classifier.weight.mul_(4)
        tensors["labels"] = said_labels(objective, tensors)
    steps = list(
        train(
            objective, optimizer_for(objective, SCHEDULE), batch_at=lambda step: tensors, schedule=SCHEDULE, total=total
        )
    )
    first, last = steps[0].metrics, steps[-1].metrics
    # A soft cross-entropy ends at the entropy of the teacher, which its divergence leaves out.
    soft = any(term.name == "soft_cross_entropy" for term in objective.plan)
    floor = Categorical(logits=teacher_logits(objective, tensors)).entropy().mean().item() if soft else 0.0
    assert last["loss"] - floor < 0.3 * (first["loss"] - floor), (first, last, floor)
    assert all(last[name] < value for name, value in first.items() if name.startswith("loss.")), (first, last)


@torch.no_grad()
def teacher_logits(objective, tensors):
    """What the teacher says where something counts: (positions, classes), or of the windows of documents."""
    inputs = {name: tensors[name] for name in ("input_ids", "attention_mask")}
    output = objective.teacher(**inputs)
    if "allowed" in tensors:
        return heads.end_logits(heads.logits_of(output), tensors["allowed"])
    logits = output.logits
    return logits if "owners" in tensors else logits[tensors["labels"] != -100]


def said_labels(objective, tensors):
    """The labels that the teacher gives, in the places of those of the batch."""
    logits, labels = teacher_logits(objective, tensors), tensors["labels"].clone()
    if "allowed" in tensors:
        return logits.argmax(-1).view(-1, 2)
    if "owners" not in tensors:
        labels[labels != -100] = logits.argmax(-1)
        return labels
    whole = torch.stack([logits[tensors["owners"] == number].mean(0) for number in tensors["documents"]])
    return (whole > 0).float() if labels.is_floating_point() else whole.argmax(-1)


@pytest.mark.parametrize("name", [name for name, kind in RECIPES.items() if "exact" in kind.model_fields])
def test_the_exact_mode_is_the_clean_one_but_for_dropout(name):
    kind, losses = RECIPES[name], {}
    for dropout in (0.0, 0.2):
        for exact in (False, True):
            recipe = kind(exact=exact)
            objective = objective_of(recipe, dropout=dropout)
            torch.manual_seed(0)
            losses[dropout, exact] = objective.train()(batch(head_of(recipe)))
    names = {term.name for term in kind(exact=True).plan(STUDENT, TEACHER)}
    common = [f"loss.{name}" for name in names if f"loss.{name}" in losses[0.0, False]]
    assert common
    assert all(torch.equal(losses[0.0, False][term], losses[0.0, True][term]) for term in common)
    noisy = any(not torch.equal(losses[0.2, False][term], losses[0.2, True][term]) for term in common)
    assert noisy == getattr(kind, "teacher_drops_out", True)


@pytest.mark.parametrize("name", [name for name, kind in RECIPES.items() if weights(kind)])
def test_a_recipe_without_any_weight_is_refused(name):
    recipe = {"name": name, **dict.fromkeys(weights(RECIPES[name]), 0.0)}
    spec = parse({"kind": "distill", "teacher": "t", "student": {"layers": 2}, "dataset": "d", "recipe": recipe})
    with pytest.raises(BadSpec, match="every term has weight 0"):
        compatibility.check(spec, TEACHER_SHAPE, TEACHER_SHAPE)


TEACHER_SHAPE = compatibility.sizes(
    {
        "model_type": "bert",
        "num_hidden_layers": TEACHER,
        "hidden_size": 24,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": 50,
        "id2label": dict(enumerate(TAGS)),
    }
)


# With files: a teacher, what a student starts from, and data, put together as a run does it.


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_model):
    """(head, role) -> ResolvedModel; head -> ResolvedDataset."""
    torch.set_num_threads(1)
    top, large = tmp_path_factory.mktemp("recipes"), AutoTokenizer.from_pretrained(tiny_model)
    tokenizer = vocabulary.trim(large, vocabulary.select_pieces(np.zeros(len(large), dtype=np.int64), large, size=1000))
    paths = {}
    for head in dict.fromkeys(head for each in HEADS_OF.values() for head in each):
        for role, layers in (("teacher", TEACHER), ("start", STUDENT)):
            folder = top / f"{head}-{role}".replace(" ", "-")
            models.save(bert(head, layers=layers, seed=layers, vocabulary=len(tokenizer)), tokenizer, folder)
            digest = file_sha256(folder / "model.safetensors")
            paths[head, role] = ResolvedModel(reference=folder.name, path=str(folder), sha256=digest)
        data = top / f"{head}-data"
        data.mkdir()
        for split in ("train", "dev", "test"):
            rows = LINES[head] * 5 if head != "questions" else SQUAD
            (data / f"{split}{ENDINGS.get(head, '.jsonl')}").write_text(rows)
        paths[head] = datasets.resolve(str(data))
    return paths


SENTENCE = "no severe heart failure was seen after 5 mg of naloxone ."
ENDINGS = {"mlm": ".txt", "ner": ".conll", "questions": ".json"}
LONG = " ".join([SENTENCE] * 9)  # in several windows
LINES = {
    "classification": "".join(f'{{"text": "{SENTENCE}", "label": "{tag}"}}\n' for tag in TAGS)
    + f'{{"text": "{LONG}", "label": "O"}}\n',
    "several labels": f'{{"text": "{SENTENCE}", "labels": []}}\n{{"text": "{LONG}", "labels": {json.dumps(TAGS)}}}\n',
    "mlm": f"{SENTENCE}\n",
    "ner": "\n".join(f"{word}\tO" for word in SENTENCE.split()).replace("heart\tO", "heart\tB-Disease") + "\n\n",
}
ASKED = [
    {"id": str(number), "question": "what dose", "answers": [{"text": "5 mg", "answer_start": SENTENCE.index("5 mg")}]}
    for number in range(10)
]
SQUAD = json.dumps({"data": [{"paragraphs": [{"context": LONG, "qas": ASKED}]}]})
STEPS = 6


def ready_of(recipe, folders, head=None):
    head, taught = head or head_of(recipe), recipe.kind == "distill"
    model, teacher = folders[head, "start"], folders[head, "teacher"] if taught else None
    names = {"teacher": teacher.reference, "student": model.reference} if taught else {"model": model.reference}
    schedule = {"steps": STEPS, "batch_size": 2, "max_tokens": 32, "lr": 0.01}
    fields = {"kind": recipe.kind, "recipe": recipe, "task": task_of(head), "dataset": "data", "schedule": schedule}
    spec = parse(fields | names)
    options = {"id": "00000000-1", "attempt": 1, "threads": 1, "device": "cpu"}
    options["unlabelled"] = folders["mlm"] if spec.unlabelled else None
    return RunSpec(spec=spec, model=model, teacher=teacher, dataset=folders[head], **options)


def begin(recipe, folders, cache, head=None):
    setup = prepare(ready_of(recipe, folders, head), cache=cache)
    return setup, optimizer_for(setup.objective, setup.ready.spec.schedule)


def steps_of(setup, optimizer, *, start=0, total=STEPS):
    schedule, seed = setup.ready.spec.schedule, setup.ready.spec.seed
    options = {"schedule": schedule, "total": total, "start": start, "seed": seed}
    return train(setup.objective, optimizer, batch_at=setup.batch_at, **options)


def run_in(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return Run(folder)


@pytest.mark.parametrize(
    ("recipe", "drops_out"),
    [
        (Distil(), False),
        (Distil(exact=True), True),
        (Tiny(exact=True), True),
        (Compact(exact=True), True),
        (MiniLM(exact=True), False),  # its paper leaves the teacher as it is
    ],
)
def test_a_run_puts_its_teacher_into_the_mode_of_the_recipe(recipe, drops_out, folders, tmp_path):
    objective = begin(recipe, folders, tmp_path)[0].objective
    assert objective.teacher.training == drops_out
    assert objective.exact == drops_out, "and takes maps from before or after dropout to match"


@every_trained
def test_a_resumed_run_ends_with_the_same_bits(recipe, head, folders, tmp_path):
    whole, optimizer = begin(recipe, folders, tmp_path, head)
    untouched = [step.metrics["loss"] for step in steps_of(whole, optimizer)]

    first, optimizer = begin(recipe, folders, tmp_path, head)
    steps = steps_of(first, optimizer)
    losses = [next(steps).metrics["loss"] for _ in range(STEPS // 2)]
    run = run_in(tmp_path / "00000000-1" / "attempt-1")
    checkpoint.save(run, first.objective, optimizer, checkpoint.Progress(step=STEPS // 2))
    torch.rand(17)  # noise drawn elsewhere must not matter

    second, optimizer = begin(recipe, folders, tmp_path, head)
    progress = checkpoint.restore(checkpoint.latest(run), second.objective, optimizer)
    losses += [step.metrics["loss"] for step in steps_of(second, optimizer, start=progress.step)]
    assert losses == untouched
    ended, expected = second.objective.state_dict(), whole.objective.state_dict()
    assert set(ended) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in ended.items())
    assert any(name.startswith("projection.") for name in ended) == (whole.objective.projection is not None)


@every_trained
def test_the_loss_of_a_bad_step_changes_nothing_and_the_last_checkpoint_is_kept(recipe, head, folders, tmp_path):
    setup, optimizer = begin(recipe, folders, tmp_path, head)
    run, weights_kept = run_in(tmp_path / "00000000-1" / "attempt-1"), {}
    with pytest.raises(NonFiniteLoss, match="At step 3 the loss was nan") as error:
        for step in steps_of(setup, optimizer):
            checkpoint.save(run, setup.objective, optimizer, checkpoint.Progress(step=step.number))
            weights_kept = copy.deepcopy(setup.objective.state_dict())
            if step.number == 2:
                embeddings = setup.objective.student.base_model.embeddings
                embeddings.register_forward_hook(lambda module, arguments, output: output * float("nan"))
    assert "learning rate" in error.value.next_step and "checkpoint is kept" in error.value.next_step
    assert checkpoint.latest(run).name == "step-2"
    checkpoint.restore_weights(checkpoint.latest(run), setup.objective)
    for name, value in setup.objective.state_dict().items():
        assert value.isfinite().all() and torch.equal(value, weights_kept[name]), name


@every_trained
def test_steps_go_on_when_the_data_is_used_up(recipe, head, folders, tmp_path):
    setup, optimizer = begin(recipe, folders, tmp_path, head)
    epoch = setup.batches.steps(1)
    total = 2 * epoch + 1
    steps = list(steps_of(setup, optimizer, total=total))
    assert len(steps) == total and setup.epoch_of(total - 1) == 2
    assert all(np.isfinite(step.metrics["loss"]) for step in steps)
    for first in (0, epoch):
        used = np.concatenate([setup.batches.at(step) for step in range(first, first + epoch)])
        assert sorted(used) == list(range(len(setup.rows.lengths)))


@pytest.mark.parametrize("attention", [0.0, 1.0], ids=["kept", "live"])
def test_sentences_without_labels_are_labelled_by_the_teacher(attention, folders, tmp_path):
    """Whether the teacher's outputs are kept or the teacher runs beside the student."""
    recipe = TaskKD(labels=1.0, attention_kl=attention, unlabelled="text", unlabelled_limit=3)
    setup, _ = begin(recipe, folders, tmp_path)
    assert (setup.teacher_outputs is None) == bool(attention)
    rows = len(setup.rows.lengths)
    last = rows // (5 + 3)  # rows a sentence: five have labels, three follow without
    tensors = setup.rows.batch(range(rows - last, rows))
    words = tensors["words"][tensors["words"] >= 0]
    assert len(words) == len(SENTENCE.split()) and (tensors["labels"] == -100).all()
    terms = setup.objective(tensors | setup.teacher_outputs.at(words) if setup.teacher_outputs else tensors)
    assert terms["loss.task"] == 0
    assert terms["loss.soft_targets"] > 0 and terms["loss.hidden_cosine"] > 0


@pytest.mark.parametrize("hidden", [12])
def test_the_projection_is_restored_too(hidden, tmp_path):
    objective = objective_of(Tiny(), hidden=hidden)
    optimizer = optimizer_for(objective, SCHEDULE)
    objective.train()(batch())["loss"].backward()
    optimizer.step()
    run = run_in(tmp_path / "00000000-1" / "attempt-1")
    checkpoint.save(run, objective, optimizer, checkpoint.Progress(step=1))
    other = objective_of(Tiny(), hidden=hidden)
    assert not torch.equal(other.projection.weight, objective.projection.weight)
    checkpoint.restore(checkpoint.latest(run), other, optimizer_for(other, SCHEDULE))
    assert torch.equal(other.projection.weight, objective.projection.weight)
    assert torch.equal(other.projection.bias, objective.projection.bias)
