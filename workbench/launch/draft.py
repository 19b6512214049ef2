"""The draft of a job on the Train page: what its form holds in this session, filled from ready specs, jobs and links.

Each kind of job has a form of its own, so that changing one's mind about the kind loses nothing.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, get_args, get_origin

import streamlit as st
from pydantic_core import PydanticUndefined

from trainer import chain, datasets, zoo
from trainer import spec as specs
from trainer.chain import Chain
from trainer.errors import BadSpec
from trainer.prediction import Plain
from trainer.queue import published
from trainer.recipes import RECIPES
from trainer.spec import TRAINED, Change, JobSpec
from trainer.tasks import TASKS, trained_by
from workbench.launch import form

KINDS = {
    "finetune": "Fine-tune",
    "distill": "Distil",
    "pretrain": "Continue pre-training",
    "average": "Average",
    "evaluate": "Evaluate",
}
SPECS = Path(__file__).parents[2] / "specs"
FIRST = "smoke-ner"  # what the page opens on
AS_IS, MADE, MADE_FROM = "As it is", "Made smaller", "Made from another"
WAYS = {"model": (AS_IS, MADE), "student": (MADE, MADE_FROM, AS_IS)}

_COMMON = ("dataset", "task", "limit", "schedule", "seed", "compute")
_FIELDS = {
    "finetune": ("model", "recipe", *_COMMON),
    "distill": ("teacher", "student", "recipe", *_COMMON),
    "pretrain": ("model", "recipe", *_COMMON),
    "average": ("model", *_COMMON),
    "evaluate": ("model", "split", *_COMMON),
}
_IDLE = {"average": "schedule.", "evaluate": "schedule."}  # of these only the length of the windows counts

log = logging.getLogger(__name__)


class Ready(NamedTuple):
    """A spec or a chain that ships: what its file says about it, and what it holds."""

    about: str
    holds: JobSpec | Chain


@dataclass(frozen=True)
class Draft:
    """The form of one kind of job."""

    kind: str

    @property
    def key(self) -> str:
        """What the names of this form's widgets begin with."""
        return f"train.{self.kind}."

    def get(self, name: str):
        """What a widget holds; None for one that is empty."""
        return st.session_state.get(self.key + name)

    def put(self, name: str, value: object) -> None:
        """Fill a widget."""
        st.session_state[self.key + name] = value

    @property
    def learner(self) -> str:
        """The field of what is trained or scored."""
        return "student" if self.kind == "distill" else "model"

    @property
    def changed(self) -> bool:
        """Whether that is made from a base."""
        return self.kind in TRAINED and self.get(f"{self.learner}.way") in (MADE, MADE_FROM)

    @property
    def recipe(self) -> type[Plain] | None:
        """The recipe that is chosen; None where the kind has none."""
        recipes = self.tables["recipe"]
        return recipes.get(self.get("recipe.name")) or next(iter(recipes.values()), None)

    @property
    def task(self) -> str:
        """The task that is chosen, or the recipe's own."""
        tasks = trained_by(self.recipe)
        return self.get("task.name") if self.get("task.name") in tasks else tasks[0]

    @cached_property
    def tables(self) -> dict[str, dict[str, type]]:
        """The recipes of this kind, and the tasks."""
        recipes = {name: recipe for name, recipe in RECIPES.items() if recipe.kind == self.kind}
        return {"recipe": recipes, "task": TASKS}

    @property
    def fields(self) -> list[form.Leaf]:
        """The fields of this form; those that were never filled get the schema's default."""
        tasks = {name: TASKS[name] for name in trained_by(self.recipe)}
        tables = self.tables | {"task": tasks}
        leaves = [leaf for leaf in form.leaves(JobSpec, tables, self._chosen) if self._has(leaf.name)]
        if self.changed:
            made = [leaf for leaf in form.leaves(Change, {}, {}, prefix=f"{self.learner}.") if self._offers(leaf.name)]
            place = [leaf.name for leaf in leaves].index(self.learner)
            leaves[place : place + 1] = made
        for leaf in leaves:
            usual = leaf.held(None if leaf.info.default is PydanticUndefined else leaf.info.default)
            value = st.session_state.setdefault(self.key + leaf.name, usual)
            if leaf.name.startswith("task.") and get_origin(leaf.type) is Literal and value not in get_args(leaf.type):
                st.session_state[self.key + leaf.name] = usual  # of another task, whose option has the same name
        return leaves

    def values(self) -> dict:
        """What the form holds, nested as a spec is."""
        return {"kind": self.kind} | form.values(self.fields, self._chosen, key=self.key)

    def fill(self, given: Mapping) -> None:
        """Take over a spec, as JobSpec.model_dump gives it."""
        for name in ("recipe", "task"):
            if given.get(name):
                self.put(f"{name}.name", given[name]["name"])
        learner = given.get(self.learner)
        self.put(f"{self.learner}.way", AS_IS if not isinstance(learner, Mapping) else self._way(learner))
        form.fill(self.fields, given, key=self.key)

    def take_recipe(self) -> None:
        """After another recipe was chosen: its own weights, and a teacher and data that it can use."""
        recipe = self.recipe
        own = [leaf for leaf in self.fields if leaf.name.startswith("recipe.") and leaf.name != "recipe.name"]
        form.fill(own, {"recipe": recipe().model_dump()}, key=self.key)
        self.take_task()

    def take_task(self) -> None:
        """After another task was chosen, or came with a recipe: data, and models, that it can use."""
        cards = datasets.cards()
        if (card := cards.get(self.get("dataset"))) and card.task != self.task:
            self.put("dataset", next((name for name, other in cards.items() if other.task == self.task), None))
        if self.kind == "average":
            fitting = self.models("model")
            self.put("model", [name for name in self.get("model") or () if name in fitting])
            return
        for field in ("teacher",) if self.kind == "distill" else ("model",):
            known = {entry.id for entry in published.ready()}
            fitting = self.models(field)
            if self.get(field) in known - set(fitting) or not self.get(field):
                self.put(field, next(iter(fitting), None))

    def fit_data(self) -> None:
        """Where the model that is read as it is cannot say the labels of the data set, the first one that fits."""
        if (held := self.get("dataset")) in datasets.cards() and held not in self.cards:
            self.put("dataset", next(iter(self.cards), held))

    @property
    def cards(self) -> dict[str, datasets.DatasetCard]:
        """The data sets that ship for the task; for a teacher, or a model that is scored, those that it can say."""
        ours = {name: card for name, card in datasets.cards().items() if card.task == self.task}
        if self.kind in ("finetune", "pretrain"):
            return ours
        field = "teacher" if self.kind == "distill" else "model"
        chosen, known = self.get(field), self.models(field)
        said = [
            set(known[name].labels) for name in ([chosen] if isinstance(chosen, str) else chosen or ()) if name in known
        ]
        fitting = {
            name: card for name, card in ours.items() if all(set(getattr(card, "labels", ())) <= able for able in said)
        }
        return fitting or ours  # where none fits, what is wrong is said of the one that is chosen

    def models(self, field: str) -> dict[str, zoo.ModelEntry]:
        """The models whose weights are here and that can stand in a field."""
        ready, task = published.ready(), self.task
        if not TASKS[task].answers:
            return {entry.id: entry for entry in ready if entry.task is None}
        own = field == "teacher" or self.kind not in TRAINED  # where the model must have the head already
        fitting = (task,) if own else (task, None)  # one made for another task is no usual start for this one
        return {entry.id: entry for entry in ready if entry.task in fitting}

    @property
    def _chosen(self) -> dict[str, str]:
        recipe = {"recipe": self.recipe.model_fields["name"].default} if self.recipe else {}
        return recipe | {"task": self.task}

    def _has(self, name: str) -> bool:
        idle = _IDLE.get(self.kind)
        return name.partition(".")[0] in _FIELDS[self.kind] and (
            not idle or not name.startswith(idle) or name == "schedule.max_tokens"
        )

    def _offers(self, name: str) -> bool:
        return name != "student.base" or self.get("student.way") == MADE_FROM

    def _way(self, change: Mapping) -> str:
        return MADE_FROM if self.kind == "distill" and change.get("base") else MADE


def parse(given: Mapping) -> tuple[JobSpec | None, Sequence[tuple[str, str]]]:
    """A spec, or what is wrong with it."""
    try:
        return specs.parse(given), ()
    except BadSpec as error:
        return None, error.fields


@st.cache_data(ttl=60, max_entries=1, show_spinner=False)
def _files() -> dict[str, tuple[str, JobSpec | Chain]]:
    found = {}
    for path in sorted(SPECS.rglob("*.yaml"), key=_order):
        name = path.relative_to(SPECS).with_suffix("").as_posix()
        try:
            found[name] = (_about(path.read_text(encoding="utf-8")), chain.read(path))
        except BadSpec as error:
            log.warning("%s is left out: %s", path.name, error)
    return found


def ready(kind: str | None) -> dict[str, Ready]:
    """What ships in specs/, by path without ending: the specs of a kind, or with None the chains."""
    found = {name: Ready(*each) for name, each in _files().items()}
    return {
        name: each
        for name, each in found.items()
        if (isinstance(each.holds, Chain) if kind is None else getattr(each.holds, "kind", None) == kind)
    }


def _order(path: Path) -> tuple[int, bool, bool, str]:
    """What is ready to run first, above all the quick ones; then what lies in folders, such as the papers' runs."""
    return len(path.parts), not path.stem.startswith("smoke"), path.stem != FIRST, path.as_posix()


def usual(kind: str) -> dict:
    """Where a form begins if no ready spec is there: what is on every machine, as far as a kind has it."""
    texts = [name for name, card in datasets.cards().items() if not TASKS[card.task].labelled]
    given = {
        "finetune": {"model": "minilm", "dataset": "bc5cdr"},
        "distill": {"teacher": "minilm-bc5cdr", "student": {"layers": 3}, "recipe": "task_kd", "dataset": "bc5cdr"},
        "pretrain": {"model": "minilm", "dataset": next(iter(texts), "a-folder-with-train.txt")},
        "average": {"model": ["a-run", "another-run"], "dataset": "bc5cdr"},
        "evaluate": {"model": "minilm-bc5cdr", "dataset": "bc5cdr"},
    }[kind]
    said = JobSpec.model_validate({"kind": kind} | given).model_dump(mode="json")
    return said | {"model": []} if kind == "average" else said  # no two models that ship are of one shape and data set


def _about(text: str) -> str:
    """The first sentence of the comment that a file begins with."""
    comment = re.match(r"(?:#.*\n?)*", text).group().replace("\n#", " ").lstrip("# ")
    words = " ".join(comment.split())
    return re.split(r"(?<=\.)\s", words, maxsplit=1)[0]
