"""The one table of loss terms: its entries are whole, and an entry with its function is all that a new term needs."""

import ast
import inspect
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from streamlit.testing.v1 import AppTest
from tiny_pair import TAGS, batch, bert

from trainer.errors import BadSpec
from trainer.recipes import RECIPES
from trainer.recipes.recipe import Recipe
from trainer.recipes.terms import TERMS, Term, TermTraits
from trainer.spec import Schedule, parse
from trainer.training import losses
from trainer.training.loop import optimizer_for
from trainer.training.objective import Objective
from trainer.zoo.compatibility import Shape, check
from workbench.launch.job_plan import levels_of

ROOT = Path(__file__).parents[2]
TEACHER, STUDENT, WIDTH = 4, 2, 24
PAIRS = ((1, 2), (2, 4))


def squared(student, teacher):
    """Any measure of what was given to it, whatever its shape."""
    return (student - teacher).square().mean()


# One dummy of each kind of comparison: its traits, its function, and what its Term says besides name and weight.
DUMMIES = {
    "labels": ({"compares": "labels"}, lambda logits, labels, ignored: logits.square().mean(), {}),
    "logits": ({"compares": "logits"}, squared, {}),
    "softened logits": (
        {"compares": "logits", "softened": True},
        lambda student, teacher, temperature: squared(student, teacher) / temperature,
        {"temperature": 3.0},
    ),
    "states": ({"compares": "states"}, squared, {"pairs": PAIRS}),
    "states of every place": ({"compares": "states", "padding": True}, squared, {"pairs": ((0, 0), *PAIRS)}),
    "maps": ({"compares": "maps"}, lambda student, teacher, mask: squared(student, teacher), {"pairs": PAIRS}),
    "maps of every place": ({"compares": "maps", "padding": True}, squared, {"pairs": PAIRS}),
    "vectors": (
        {"compares": "vectors"},
        lambda student, teacher, mask, heads: squared(student, teacher) / heads,
        {"pairs": PAIRS, "heads": 4},
    ),
}
# What does not fit each, by what the student has that its teacher has not, and the field where that is said.
MISFITS = {
    "logits": [("pieces", "student")],
    "softened logits": [("pieces", "student")],
    "states": [("hidden", "student.hidden"), ("pieces", "student")],
    "states of every place": [("hidden", "student.hidden"), ("pieces", "student")],
    "maps": [("heads", "student.heads"), ("pieces", "student"), ("model_type", "recipe")],
    "maps of every place": [("heads", "student.heads"), ("pieces", "student"), ("model_type", "recipe")],
    "vectors": [("hidden", "recipe.relation_heads"), ("pieces", "student"), ("model_type", "recipe")],
}
PIECE_BY_PIECE = ("states of every place", "maps", "maps of every place", "vectors")
OTHER = {"pieces": "others", "hidden": 30, "heads": 2, "model_type": "longformer"}


class DummyRecipe(Recipe):
    """A recipe of one term that is called dummy."""

    kind: ClassVar = "distill"
    labelled: ClassVar = None
    name: Literal["dummy"] = "dummy"

    def plan(self, student, teacher):
        return (Term(name="dummy", weight=2.0, **self.more),)

    more: ClassVar = {}


@pytest.fixture(params=DUMMIES)
def dummy(request, monkeypatch):
    """A new term: an entry of the table and a function. Its name in DUMMIES, and its Term."""
    traits, function, more = DUMMIES[request.param]
    entry = TermTraits(title="A dummy", meaning="Says what a dummy does.", **traits)
    monkeypatch.setitem(TERMS, "dummy", entry)
    monkeypatch.setattr(losses, "dummy", function, raising=False)
    monkeypatch.setitem(RECIPES, "dummy", DummyRecipe)
    monkeypatch.setattr(DummyRecipe, "more", more)
    return request.param, DummyRecipe().plan(STUDENT, TEACHER)[0]


@pytest.mark.parametrize("head", ["mlm", "ner", "classification", "several labels"])
def test_a_dummy_term_trains_a_step(dummy, head):
    _, term = dummy
    pair = [bert(head, layers=layers, hidden=WIDTH, seed=layers, dropout=0.0) for layers in (TEACHER, STUDENT)]
    kind = "classification" if head == "several labels" else head
    objective, tensors = Objective(pair[1], [term], head=kind, teacher=pair[0]), batch(head)
    optimizer = optimizer_for(objective, Schedule.model_validate({"steps": 1, "batch_size": 4, "lr": 0.001}))
    before = objective.train()(tensors)
    before["loss"].backward()
    optimizer.step()
    assert set(before) == {"loss", "loss.dummy"} and before["loss"] > 0
    assert objective(tensors)["loss"] < before["loss"]


def drawn(student, term):
    """The page's part on what a job will do, as a script of its own: it imports what it uses."""
    from trainer.spec import parse
    from workbench.launch.job_plan import Plan
    from workbench.pages.parts import plan_view

    spec = parse({"kind": "distill", "teacher": "t", "dataset": "d", "student": {"layers": 2}, "recipe": "dummy"})
    teacher = student.model_copy(update={"layers": 4})
    plan_view.draw(spec, Plan(teacher=teacher, base=teacher, student=student, terms=(term,)))


def test_a_dummy_term_is_drawn_on_the_plan(dummy):
    name, term = dummy
    page = AppTest.from_function(drawn, kwargs={"student": shape(layers=STUDENT), "term": term}).run()
    assert not page.exception
    assert "**A dummy**" in [text.value for text in page.markdown]
    captions = "\n".join(caption.value for caption in page.caption)
    assert "Says what a dummy does." in captions and levels_of(term) in captions
    assert ("temperature 3" in captions) == (name == "softened logits")
    assert ("4 relation heads" in captions) == (name == "vectors")
    [chart] = page.get("plotly_chart")
    assert ("A dummy" in chart.proto.spec) == (name != "labels"), "gold labels join no level of the teacher"


def shape(**fields):
    sizes = {"layers": TEACHER, "hidden": WIDTH, "embedding": WIDTH, "heads": 4, "intermediate": 48, "vocabulary": 50}
    known = {"model_type": "bert", "pieces": "cased", "smallest_vocabulary": 9, "positions": 40, "labels": TAGS}
    return Shape(**sizes, **known).model_copy(update=fields)


def verdict(task="mlm", **unlike):
    """The fields that are refused where a student is unlike its teacher."""
    names = {"teacher": "t", "student": "s", "dataset": "d", "task": task}
    try:
        check(parse({"kind": "distill", "recipe": "dummy", **names}), shape(), shape(layers=STUDENT, **unlike))
    except BadSpec as error:
        return {field: problem for field, problem in error.fields}
    return {}


def test_a_dummy_term_is_refused_where_it_does_not_fit(dummy):
    name, _ = dummy
    assert verdict() == {}
    refused = [(unlike, field) for unlike, value in OTHER.items() for field in verdict(**{unlike: value})]
    assert sorted(refused) == sorted(MISFITS.get(name, []))


def test_a_tagger_may_split_words_differently_unless_a_term_compares_pieces(dummy):
    name, _ = dummy
    assert verdict(task="ner") == {}
    refused = verdict(task="ner", pieces="others")
    assert list(refused) == (["student"] if name in PIECE_BY_PIECE else [])


def test_a_term_that_is_not_in_the_table_is_refused():
    with pytest.raises(ValueError, match="found fancy; the terms are task, mlm, "):
        Term(name="fancy", weight=1.0)


@pytest.mark.parametrize("name", TERMS)
def test_an_entry_is_whole(name):
    traits = TERMS[name]
    assert traits.title and traits.meaning.endswith(".")
    for function in filter(None, (traits.function or name, traits.of_sets, traits.of_values)):
        assert inspect.isfunction(getattr(losses, function)), function


def test_every_loss_belongs_to_a_term():
    functions = inspect.getmembers(losses, lambda value: getattr(value, "__module__", "") == losses.__name__)
    used = {
        name for term, traits in TERMS.items() for name in (traits.function or term, traits.of_sets, traits.of_values)
    }
    assert {name for name, _ in functions if not name.startswith("_")} == used - {None}


def test_nothing_but_the_table_and_the_recipes_names_a_term():
    """So a new term needs no other file. These three are words of several meanings."""
    names = set(TERMS) - {"task", "mlm", "relations"}
    for path in (path for folder in ("trainer", "workbench") for path in (ROOT / folder).rglob("*.py")):
        if path.parent.name != "recipes":
            tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            literals = {node.value for node in tree if isinstance(node, ast.Constant) and isinstance(node.value, str)}
            assert not literals & names, path
