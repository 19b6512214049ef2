"""What every task promises, and what a new one costs: two files and one line of a table, on a copy of the project."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainer import models
from trainer.datasets.cards import card
from trainer.datasets.formats import FORMATS
from trainer.datasets.places import digest, tasks_of
from trainer.datasets.report import check
from trainer.examples import EXAMPLES, open_data
from trainer.prediction import Cost, Coverage, LabelScore, Prediction, Span
from trainer.recipes import RECIPES
from trainer.resolved import ResolvedDataset
from trainer.spec import parse
from trainer.tasks import TASKS, answers, for_notes, trained_by, with_data
from trainer.zoo import outputs
from workbench.compare import AGREEMENTS, compare
from workbench.compare.filters import Filter, filtered, given
from workbench.explain.targets import TARGETS
from workbench.explain.targets import found as targets
from workbench.highlight.disagreements import MEANINGS

ROOT = Path(__file__).parents[2]
every_task = pytest.mark.parametrize("name", TASKS)
FILES = {  # a data set of each kind: the file of a split, and two examples that differ by a number
    "tagged": ("conll", "Bad\tB-x\nday{0}\tO\n\nGood\tO\nday{0}\tB-x\n"),
    "text": ("txt", "A long text with words {0}.\nAnother text with words {0}.\n"),
    "labelled": ("jsonl", '{{"text": "A bad day {0}", "label": "a"}}\n{{"text": "Good {0}", "label": "b"}}\n'),
}


@pytest.fixture
def data(tmp_path):
    """Makes a small data set for a task."""

    def make(name):
        ending, content = FILES[TASKS[name].data]
        for number, split in enumerate(("train", "dev", "test")):
            (tmp_path / f"{split}.{ending}").write_text(content.format(number))
        return tmp_path

    return make


@every_task
def test_its_traits_are_whole(name):
    task = TASKS[name]
    assert task.model_fields["name"].default == name == task().name
    assert task.head in outputs.HEADS and task.data in FORMATS and task.data in FILES
    assert task.labelled == outputs.HEADS[task.head].labelled
    assert task.title and task.level and task.unit and task.label and task.score
    assert all(info.description for field, info in task.model_fields.items() if field != "name")


@every_task
def test_its_answers_are_compared_explained_and_named(name):
    kind = answers(name)
    assert (name in for_notes()) == (kind is not None)
    if kind:
        assert kind in AGREEMENTS and kind in TARGETS and kind in MEANINGS


@pytest.mark.parametrize("name", for_notes())
def test_two_predictions_of_it_are_compared_and_filtered(name):
    spans = {"spans": (Span(start=0, end=3, label="x", score=0.9),)}
    labels = {"labels": (LabelScore(label="x", score=0.9), LabelScore(label="y", score=0.1))}
    fields = {"spans": spans, "labels": labels}[answers(name)] | {"task": name, "label_set": ("x", "y")}
    fields |= {
        "coverage": Coverage(tokens=2, tokens_read=2, windows=1),
        "cost": Cost(latency_ms=1, tokens_per_second=1),
    }
    arms = [Prediction(model=model, **fields) for model in "AB"]
    assert compare(arms).agreement == 1.0 and not compare(arms).disagreements
    assert given(arms[0]) == 1 and given(filtered(arms[0], Filter(least=0.95))) == 0
    assert targets(arms[0])[0]["score"] == 0.9


@every_task
def test_its_data_are_found_checked_and_read(name, data):
    place = data(name)
    assert name in tasks_of(place) and name in with_data(TASKS[name].data)
    report = check(place, task=name)
    assert not report.problems and report.task == name and set(report.labels) == _labels(name)
    held = ResolvedDataset(reference=str(place), path=str(place), sha256=digest(place))
    opened = open_data(TASKS[name](), held)
    assert type(opened) is EXAMPLES[name] and len(list(opened.texts("train"))) == 2


def _labels(name):
    return {"tagged": {"x"}, "labelled": {"a", "b"}, "text": set()}[TASKS[name].data]


@every_task
def test_a_card_may_name_it(name, data):
    place = data(name)
    ending = FILES[TASKS[name].data][0]
    counts = {"tagged": "sentences: 2, tokens: 4, entities: 2", "text": "documents: 2, characters: 40"}
    counts["labelled"] = counts["text"]
    split = f"{{file: train.{ending}, sha256: {'a' * 64}, {counts[TASKS[name].data]}}}"
    fields = {"id": "d", "name": "D", "licence": "CC0", "source": "here", "citation": "none", "task": name}
    text = "".join(f"{key}: {value}\n" for key, value in fields.items())
    (place / "card.yaml").write_text(
        f"{text}labels: [{', '.join(sorted(_labels(name)))}]\nsplits: {{train: {split}}}\n"
    )
    stated = card(place)
    assert stated.task == name and stated.data == TASKS[name].data
    assert set(stated.labels_for(None)) == _labels(name)


@every_task
def test_a_recipe_trains_it_and_a_spec_holds_it(name):
    able = [recipe for recipe in RECIPES.values() if name in trained_by(recipe)]
    assert {recipe.kind for recipe in able} >= {"distill"}
    kind = next(recipe.kind for recipe in able if recipe.kind != "distill")
    spec = parse({"kind": kind, "model": "minilm", "dataset": "d", "task": name})
    assert type(spec.task) is TASKS[name]
    assert parse(spec.canonical).digest == spec.digest


@every_task
def test_a_model_says_which_task_it_is_for(name):
    head = TASKS[name].head
    assert outputs.task_of(head, outputs.mark(name)) == name
    assert outputs.task_of(head, {outputs.MARK: "no-such-task"}) == outputs.task_of(head, {})
    assert models.CLASSES[head]


# A task of its own: which of two kinds of day a note tells of. It reads labelled documents, one label each.
TASK = '''
"""Days: one label of two, by the whole text."""

from typing import ClassVar, Literal

from trainer.tasks.task import Task


class Days(Task):
    """Which kind of day a text tells of."""

    title: ClassVar = "Kinds of days"
    answers: ClassVar = "labels"
    head: ClassVar = "classification"
    data: ClassVar = "labelled"
    labelled: ClassVar = True
    label: ClassVar = "kind of day"
    score: ClassVar = "macro_f1"
    level: ClassVar = "whole texts"
    unit: ClassVar = "documents"
    name: Literal["days"] = "days"
    multi_label: ClassVar = False
    reading: ClassVar = "truncate"
    pooling: ClassVar = "mean"
    most_windows: ClassVar = 1
'''
EXAMPLE = '''
"""Days: documents with one label, read from their start."""

from trainer.examples.classification import ClassificationData
from trainer.tasks.days import Days


class DaysData(ClassificationData):
    """The splits of one data set of days."""

    @classmethod
    def read_task(cls, model):
        """The task: it has no options."""
        return Days()


DATA = DaysData
'''
TRAINED = """
import sys
from pathlib import Path
from trainer import fit, inference, models
from trainer.datasets import resolve
from trainer.run import RunSpec
from trainer.spec import parse
from trainer.training.setup import prepare
from trainer.zoo import resolve as resolve_model, task_of

tiny, data, out = sys.argv[1:]
spec = parse({"kind": "finetune", "model": tiny, "dataset": data, "task": "days",
              "schedule": {"steps": 1, "batch_size": 2, "lr": 0.001, "max_tokens": 16}})
found = {"model": resolve_model(tiny), "dataset": resolve(data)}
ready = RunSpec(id="0-1", attempt=1, spec=spec, **found, device="cpu", threads=1)
fit.check(ready)
setup = prepare(ready, cache=Path(out) / "cache")
setup.objective(setup.batch_at(0))["loss"].backward()
assert 0 <= setup.dev_scores()["macro_f1"] <= 1
models.save(setup.objective.student.eval(), setup.tokenizer, Path(out) / "model")
saved = resolve_model(str(Path(out) / "model"))
assert task_of(saved) == "days"
found = inference.predict("A bad day", *models.load(saved), name="m")
assert found.task == "days" and {each.label for each in found.labels} == {"a", "b"}
assert fit.model(saved).task == "days"
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the project with one task more."""
    copy = tmp_path_factory.mktemp("house")
    for folder in ("trainer", "workbench"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("data", "specs", "model_zoo.yaml", "pyproject.toml"):
        (copy / name).symlink_to(ROOT / name)
    (copy / "trainer/tasks/days.py").write_text(TASK)
    (copy / "trainer/examples/days.py").write_text(EXAMPLE)
    table = copy / "trainer/tasks/__init__.py"
    line = table.read_text().replace('"mlm": MLM}', '"mlm": MLM, "days": Days}')
    table.write_text(line.replace("\n\nTASKS", "\nfrom trainer.tasks.days import Days\n\nTASKS"))
    return copy


def run(house, *arguments):
    """A Python program on the copy; its output explains a failure."""
    env = os.environ | {"PYTHONPATH": str(house)}
    done = subprocess.run([sys.executable, *arguments], cwd=house, env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def test_a_new_task_of_two_files_and_a_line_keeps_every_promise(house):
    shutil.copy(__file__, house / "test_contract.py")
    chosen = ["-k", "days", "-p", "no:cacheprovider", "-p", "no:randomly"]
    output = run(house, "-m", "pytest", *chosen, "test_contract.py")
    assert f"{len(PROMISES)} passed" in output


def test_a_new_task_is_trained_scored_and_read(house, data, tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    run(house, "-c", TRAINED, str(tiny_model), str(data("classification")), str(out))


PROMISES = [test for name, test in list(globals().items()) if name.startswith("test_") and hasattr(test, "pytestmark")]
