"""The draft of a job on the Train page: the values of its form, filled from ready-made specs, jobs and links.

Each kind of job has its own form, so that switching between kinds loses nothing.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args, get_origin

import streamlit as st
from pydantic_core import PydanticUndefined

from trainer import chain, datasets, zoo
from trainer import spec as specs
from trainer.chain import Chain
from trainer.errors import BadSpec
from trainer.queue import published
from trainer.recipes import RECIPES
from trainer.recipes.recipe import Recipe
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
FIRST = "smoke-ner"  # the spec that the page opens with
AS_IS, MADE, MADE_FROM = "As it is", "Made smaller", "Made from another"  # where the learner comes from
WAYS = {"model": (AS_IS, MADE), "student": (MADE, MADE_FROM, AS_IS)}

_COMMON = ("dataset", "task", "limit", "schedule", "seed", "compute")
_FIELDS = {
    "finetune": ("model", "recipe", *_COMMON),
    "distill": ("teacher", "student", "recipe", *_COMMON),
    "pretrain": ("model", "recipe", *_COMMON),
    "average": ("model", *_COMMON),
    "evaluate": ("model", "split", *_COMMON),
}
_UNUSED = {"average": "schedule.", "evaluate": "schedule."}  # prefix of unused fields, except max_tokens

log = logging.getLogger(__name__)
Content = TypeVar("Content", JobSpec, Chain)


class ReadyMade(NamedTuple, Generic[Content]):
    """A spec or a chain that ships in specs/, and what its file says about it."""

    about: str
    content: Content


@dataclass(frozen=True)
class Draft:
    """The form of one kind of job."""

    kind: str

    @property
    def key(self) -> str:
        """The prefix of the keys of this form's widgets."""
        return f"train.{self.kind}."

    def get(self, name: str) -> Any:
        """The value of a widget; None for an empty one."""
        return st.session_state.get(self.key + name)

    def put(self, name: str, value: object) -> None:
        """Set the value of a widget."""
        st.session_state[self.key + name] = value

    @property
    def learner(self) -> str:
        """The name of the field with the model that is trained or scored."""
        return "student" if self.kind == "distill" else "model"

    @property
    def changes_base(self) -> bool:
        """Whether that model is made by changing a base, such as dropping layers."""
        return self.kind in TRAINED and self.get(f"{self.learner}.way") in (MADE, MADE_FROM)

    @property
    def recipe(self) -> type[Recipe] | None:
        """The chosen recipe; None for a kind without recipes."""
        return self.recipes.get(self.get("recipe.name")) or next(iter(self.recipes.values()), None)

    @property
    def task(self) -> str:
        """The chosen task, or the first one that the recipe trains."""
        tasks, chosen = trained_by(self.recipe), self.get("task.name")
        return next((name for name in tasks if name == chosen), tasks[0])

    @cached_property
    def recipes(self) -> dict[str, type[Recipe]]:
        """The recipes of this kind by name."""
        return {name: recipe for name, recipe in RECIPES.items() if recipe.kind == self.kind}

    @property
    def fields(self) -> list[form.Leaf]:
        """The fields of this form; widgets without a value get the schema's default."""
        tasks = {name: TASKS[name] for name in trained_by(self.recipe)}
        every = form.leaves(JobSpec, {"recipe": self.recipes, "task": tasks}, self._chosen)
        leaves = [leaf for leaf in every if self._has(leaf.name)]
        if self.changes_base:
            change = [
                leaf for leaf in form.leaves(Change, {}, {}, prefix=f"{self.learner}.") if self._offers(leaf.name)
            ]
            place = [leaf.name for leaf in leaves].index(self.learner)
            leaves[place : place + 1] = change
        for leaf in leaves:
            default = leaf.widget_value(None if leaf.info.default is PydanticUndefined else leaf.info.default)
            value = st.session_state.setdefault(self.key + leaf.name, default)
            if leaf.name.startswith("task.") and get_origin(leaf.type) is Literal and value not in get_args(leaf.type):
                st.session_state[self.key + leaf.name] = default  # the value was for the option of another task
        return leaves

    def values(self) -> dict[str, Any]:
        """The values of the form, nested as in a spec."""
        return {"kind": self.kind} | form.values(self.fields, self._chosen, key=self.key)

    def fill(self, spec: Mapping[str, Any]) -> None:
        """Fill the form from a spec, as JobSpec.model_dump returns it."""
        for name in ("recipe", "task"):
            if spec.get(name):
                self.put(f"{name}.name", spec[name]["name"])
        learner = spec.get(self.learner)
        self.put(f"{self.learner}.way", AS_IS if not isinstance(learner, Mapping) else self._way(learner))
        form.fill(self.fields, spec, key=self.key)

    def apply_recipe(self) -> None:
        """After a change of recipe: reset its options, and replace data and models that it cannot use."""
        options = [leaf for leaf in self.fields if leaf.name.startswith("recipe.") and leaf.name != "recipe.name"]
        if self.recipe:
            form.fill(options, {"recipe": self.recipe.model_validate({}).model_dump()}, key=self.key)
        self.apply_task()

    def apply_task(self) -> None:
        """After a change of task: replace data and models that it cannot use."""
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

    def match_data_to_model(self) -> None:
        """Replace a data set whose labels the model does not predict with the first one that fits."""
        if (reference := self.get("dataset")) in datasets.cards() and reference not in self.cards:
            self.put("dataset", next(iter(self.cards), reference))

    @property
    def cards(self) -> dict[str, datasets.DatasetCard]:
        """The bundled data sets for the task; for a teacher or a scored model, those whose labels it predicts."""
        for_task = {name: card for name, card in datasets.cards().items() if card.task == self.task}
        if self.kind in ("finetune", "pretrain"):
            return for_task
        field = "teacher" if self.kind == "distill" else "model"
        chosen, known = self.get(field), self.models(field)
        label_sets = [
            set(known[name].labels) for name in ([chosen] if isinstance(chosen, str) else chosen or ()) if name in known
        ]
        fitting = {
            name: card
            for name, card in for_task.items()
            if all(set(getattr(card, "labels", ())) <= predicted for predicted in label_sets)
        }
        return fitting or for_task  # where none fits, the problem is shown at the chosen one

    def models(self, field: str) -> dict[str, zoo.ModelEntry]:
        """The models that can be chosen in a field and whose weights are on this machine."""
        ready, task = published.ready(), self.task
        if not TASKS[task].answers:
            return {entry.id: entry for entry in ready if entry.task is None}
        needs_head = field == "teacher" or self.kind not in TRAINED  # the model must already have a head for the task
        fitting = (task,) if needs_head else (task, None)
        return {entry.id: entry for entry in ready if entry.task in fitting}

    @property
    def _chosen(self) -> dict[str, str]:
        recipe = {"recipe": self.recipe.model_fields["name"].default} if self.recipe else {}
        return recipe | {"task": self.task}

    def _has(self, name: str) -> bool:
        unused = _UNUSED.get(self.kind)
        return name.partition(".")[0] in _FIELDS[self.kind] and (
            not unused or not name.startswith(unused) or name == "schedule.max_tokens"
        )

    def _offers(self, name: str) -> bool:
        return name != "student.base" or self.get("student.way") == MADE_FROM

    def _way(self, change: Mapping[str, Any]) -> str:
        return MADE_FROM if self.kind == "distill" and change.get("base") else MADE


def parse_values(values: Mapping[str, Any]) -> tuple[JobSpec | None, Sequence[tuple[str, str]]]:
    """The spec and no problems, or None and the problems as (field, problem)."""
    try:
        return specs.parse(values), ()
    except BadSpec as error:
        return None, error.fields


@st.cache_data(ttl=60, max_entries=1, show_spinner=False)
def _files() -> dict[str, tuple[str, JobSpec | Chain]]:
    files = {}
    for path in sorted(SPECS.rglob("*.yaml"), key=_order):
        name = path.relative_to(SPECS).with_suffix("").as_posix()
        try:
            files[name] = (_about(path.read_text(encoding="utf-8")), chain.read(path))
        except BadSpec as error:
            log.warning("Skipping the spec %s: %s", path.name, error)
    return files


def ready_specs(kind: str) -> dict[str, ReadyMade[JobSpec]]:
    """The specs of a kind in specs/, by path without extension."""
    return {
        name: ReadyMade(about, content)
        for name, (about, content) in _files().items()
        if isinstance(content, JobSpec) and content.kind == kind
    }


def ready_chains() -> dict[str, ReadyMade[Chain]]:
    """The chains in specs/, by path without extension."""
    return {
        name: ReadyMade(about, content) for name, (about, content) in _files().items() if isinstance(content, Chain)
    }


def _order(path: Path) -> tuple[int, bool, bool, str]:
    """Sort key: quick specs first, then others at the top level, then those in folders, such as the papers' runs."""
    return len(path.parts), not path.stem.startswith("smoke"), path.stem != FIRST, path.as_posix()


def default_values(kind: str) -> dict[str, Any]:
    """The initial values of a form where no ready-made spec ships: models and data that are on every machine."""
    texts = [name for name, card in datasets.cards().items() if not TASKS[card.task].labelled]
    required: dict[str, dict[str, Any]] = {
        "finetune": {"model": "minilm", "dataset": "bc5cdr"},
        "distill": {"teacher": "minilm-bc5cdr", "student": {"layers": 3}, "recipe": "task_kd", "dataset": "bc5cdr"},
        "pretrain": {"model": "minilm", "dataset": next(iter(texts), "a-folder-with-train.txt")},
        "average": {"model": ["a-run", "another-run"], "dataset": "bc5cdr"},
        "evaluate": {"model": "minilm-bc5cdr", "dataset": "bc5cdr"},
    }
    values = JobSpec.model_validate({"kind": kind} | required[kind]).model_dump(mode="json")
    return values | {"model": []} if kind == "average" else values  # no two bundled models can be averaged


def _about(text: str) -> str:
    """The first sentence of the comment at the top of a file."""
    comment = takewhile(lambda line: line.startswith("#"), text.splitlines())
    words = " ".join(" ".join(line.lstrip("#") for line in comment).split())
    return re.split(r"(?<=\.)\s", words, maxsplit=1)[0]
