"""What every task promises; tests/flow/test_contributing.py runs these tests with a new task."""

import pytest

from trainer import models
from trainer.datasets.cards import card
from trainer.datasets.formats import FORMATS
from trainer.datasets.places import digest, tasks_of
from trainer.datasets.report import check
from trainer.examples import EXAMPLES, open_data
from trainer.prediction import Answer, Cost, Coverage, LabelScore, Prediction, Span, Value
from trainer.recipes import RECIPES
from trainer.resolved import ResolvedDataset
from trainer.spec import parse
from trainer.tasks import TASKS, answers, for_notes, trained_by, with_data
from trainer.zoo import outputs
from workbench.compare import compare
from workbench.compare.agreement import AGREEMENTS
from workbench.compare.filters import Filter, apply_filter, count_answers
from workbench.explain.targets import TARGETS, list_targets
from workbench.highlight.disagreements import MEANINGS

every_task = pytest.mark.parametrize("name", TASKS)
FILES = {  # a data set of each kind: the file of a split, and two examples that differ by a number
    "tagged": ("conll", "Bad\tB-x\nday{0}\tO\n\nGood\tO\nday{0}\tB-x\n"),
    "text": ("txt", "A long text with words {0}.\nAnother text with words {0}.\n"),
    "pairs": ("tsv", "premise\thypothesis\tlabel\nA bad day {0}\tIt was bad\ta\nGood {0}\tIt was bad\tb\n"),
    "questions": (
        "json",
        '{{"data": [{{"paragraphs": [{{"context": "A bad day {0}", "qas": ['
        '{{"id": "1", "question": "How was it?", "answers": [{{"text": "bad", "answer_start": 2}}]}}, '
        '{{"id": "2", "question": "Who came?", "answers": [], "is_impossible": true}}]}}]}}]}}',
    ),
    "related": ("tsv", "A bad @A$ on day {0} of @B$\tx\nA good @A$ on day {0} of @B$\ty\n"),
    "roles": (
        "jsonl",
        '{{"sentences": [{{"text": "Bad day {0}", "label": "a"}}, {{"text": "It rained", "label": "b"}}]}}\n'
        '{{"sentences": [{{"text": "Good {0}", "label": "a"}}]}}\n',
    ),
    "values": ("jsonl", '{{"text": "A bad day {0}", "value": 1}}\n{{"text": "Good {0}", "value": 2.5}}\n'),
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
    assert (name in for_notes()) == (kind is not None and TASKS[name].reads != "mentions")
    if name in for_notes():
        assert kind in AGREEMENTS and kind in TARGETS and kind in MEANINGS


@pytest.mark.parametrize("name", for_notes())
def test_two_predictions_of_it_are_compared_and_filtered(name):
    spans = {"spans": (Span(start=0, end=3, label="x", score=0.9),)}
    labels = {"labels": (LabelScore(label="x", score=0.9), LabelScore(label="y", score=0.1))}
    value = Value(value=0.9, lowest=0, highest=1)
    answer = spans | {"answer": Answer(start=0, end=3, score=0.9), "no_answer": 0.1}
    fields = {"spans": spans, "labels": labels, "answer": answer, "value": {"value": value}}[answers(name)] | {
        "task": name
    }
    fields |= {"label_set": ("x", "y")}
    fields |= {
        "coverage": Coverage(tokens=2, tokens_read=2, windows=1),
        "cost": Cost(latency_ms=1, tokens_per_second=1),
    }
    arms = [Prediction(model=model, **fields) for model in "AB"]
    assert compare(arms).agreement == 1.0 and not compare(arms).disagreements
    filtered = apply_filter(arms[0], Filter(min_score=0.95))
    assert count_answers(arms[0]) == 1 and count_answers(filtered) == (answers(name) == "value")  # it has no score
    assert list_targets(arms[0])[0]["score"] == 0.9


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
    labels = {"tagged": {"x"}, "related": {"x", "y"}, "labelled": {"a", "b"}, "pairs": {"a", "b"}, "text": set()}
    return (labels | {"questions": {"answer"}, "roles": {"a", "b"}, "values": set()})[TASKS[name].data]


@every_task
def test_a_card_may_name_it(name, data):
    place = data(name)
    ending = FILES[TASKS[name].data][0]
    counts = {"tagged": "sentences: 2, tokens: 4, entities: 2", "text": "documents: 2, characters: 40"}
    counts |= {"labelled": counts["text"], "pairs": "pairs: 2, characters: 40"}
    counts |= {"related": f"{counts['text']}, relations: 2"}
    counts |= {"questions": "questions: 2, unanswerable: 1, characters: 40"}
    counts |= {"values": f"{counts['text']}, lowest: 1, highest: 2.5"}
    counts |= {"roles": f"{counts['text']}, sentences: 3"}
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
    assert outputs.task_of_head(head, outputs.task_fields(name)) == name
    assert outputs.task_of_head(head, {outputs.TASK_FIELD: "no-such-task"}) == outputs.task_of_head(head, {})
    assert models.CLASSES[head]
