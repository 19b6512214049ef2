"""A job is a spec. JobSpec is frozen; its canonical JSON has a digest, and the digest names the job."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from trainer.bounds import COUNT, FACTOR, shown
from trainer.errors import BadSpec, UnknownName
from trainer.plain_yaml import parse_yaml
from trainer.prediction import Plain
from trainer.recipes import RECIPES
from trainer.recipes.recipe import Recipe
from trainer.references import Kind, Reference
from trainer.tasks import TASKS, trained_by
from trainer.tasks.task import Task


def _no_bool(value: Any) -> Any:
    # YAML's yes/no/true would otherwise pass as 1 and 0.
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")
    return value


Int = Annotated[int, BeforeValidator(_no_bool)]
Float = Annotated[float, BeforeValidator(_no_bool)]
Layer = Annotated[Int, Field(ge=0, le=1000)]
EngineName = Literal["local"]  # the names of trainer.queue.engines.ENGINES, which needs this module


def _choice(what: str, table: Mapping[str, type[Plain]]) -> BeforeValidator:
    """`name` or `{name: ..., options}` becomes the table's own frozen type, so its options are validated too."""

    def choose(value: Any) -> Any:
        if isinstance(value, Plain):
            return value
        given = {"name": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping) or "name" not in given:
            raise ValueError(f"write a name or {{name: ..., options}}; allowed names: {', '.join(sorted(table))}")
        if not isinstance(given["name"], str) or given["name"] not in table:
            raise ValueError(str(UnknownName(what, given["name"], table)))
        return table[given["name"]].model_validate(dict(given))

    return BeforeValidator(choose)


RecipeChoice = Annotated[SerializeAsAny[Recipe], _choice("recipe", RECIPES)]
TaskChoice = Annotated[SerializeAsAny[Task], _choice("task", TASKS)]


class Schedule(Plain):
    """How long and how fast: length, batches, learning rate, evaluation and checkpoints."""

    epochs: Float | None = Field(None, gt=0, le=1000, description="Passes over the training data (or give steps)")
    steps: Int | None = Field(None, gt=0, le=COUNT, description="Optimiser steps (or give epochs)")
    batch_tokens: Int | None = Field(
        None, ge=16, le=COUNT, description="Padded word pieces in a batch (or give batch_size)"
    )
    batch_size: Int | None = Field(None, gt=0, le=COUNT, description="Examples in a batch (or give batch_tokens)")
    accumulate: Int = Field(1, ge=1, le=4096, description="Batches whose gradients are averaged before each step")
    max_tokens: Int = Field(512, ge=8, le=1 << 20, description="Longest window in word pieces, special tokens included")
    lr: Float = Field(1e-4, gt=0, lt=1, description="Peak learning rate")
    warmup: Float = Field(0.1, ge=0, lt=1, description="Share of the steps with a rising learning rate")
    weight_decay: Float = Field(0.01, ge=0, lt=1, description="AdamW weight decay; biases and norms are exempt")
    clip: Float = Field(1.0, gt=0, le=FACTOR, description="Largest norm of the gradient")
    evaluate_every: Int | None = Field(
        None, gt=0, le=COUNT, description="Steps between dev evaluations; empty: each epoch"
    )
    patience: Int | None = Field(
        None, gt=0, le=COUNT, description="Stop after so many evaluations without a better dev score"
    )
    checkpoint_every: Int = Field(
        200, gt=0, le=COUNT, description="Steps between checkpoints; every evaluation makes one too"
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, given: Any) -> Any:
        # The defaults are filled in here, so that `steps: 10` does not also mean `epochs: 3`.
        if isinstance(given, Mapping):
            given = dict(given)
            if given.get("epochs") is None and given.get("steps") is None:
                given["epochs"] = 3
            if given.get("batch_tokens") is None and given.get("batch_size") is None:
                given["batch_tokens"] = 1024
        return given

    @model_validator(mode="after")
    def _one_of_each(self) -> "Schedule":
        for first, second in (("epochs", "steps"), ("batch_tokens", "batch_size")):
            if getattr(self, first) is not None and getattr(self, second) is not None:
                raise ValueError(f"give {first} or {second}, not both")
        if self.batch_tokens is not None and self.batch_tokens < self.max_tokens:
            # A batch always holds at least one window, so a smaller budget would be silently exceeded.
            raise ValueError(f"batch_tokens ({self.batch_tokens}) must be at least max_tokens ({self.max_tokens})")
        return self


class Compute(Plain):
    """Where a run executes and what it may use."""

    engine: EngineName = "local"
    devices: Int = Field(1, ge=1, le=1, description="Devices of one run")
    threads: Int | None = Field(None, ge=1, le=256, description="CPU threads; empty: the worker's share of the cores")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Of the matrix products in training; auto: bf16 on a GPU, fp32 on a CPU"
    )


class Change(Plain):
    """A model made from another: what differs from its base. Checked against the base when the job starts."""

    base: str | None = Field(None, max_length=300, description="Where it starts; empty: the teacher")
    layers: Int | None = Field(None, ge=1, le=200, description="Encoder layers (recursions of a MiniALBERT)")
    layer_map: Literal["first", "last", "spread"] | tuple[Layer, ...] = Field(
        "last", description="Which layers of the base are copied: the first or last of each group, spread, or a list"
    )
    hidden: Int | None = Field(None, ge=8, le=16384, description="Hidden size")
    heads: Int | None = Field(None, ge=1, le=256, description="Attention heads")
    intermediate: Int | None = Field(
        None, ge=8, le=65536, description="Width of the feed-forward layers; copied layers keep the strongest neurons"
    )
    embedding: Int | None = Field(None, ge=8, le=16384, description="Width of factorised embeddings (MiniALBERT)")
    architecture: Literal["minialbert"] | None = Field(None, description="Another architecture than the base's")
    attention: Literal["sliding_window"] | None = Field(
        None, description="Read long text: each token sees a window around it (a Longformer with the base's weights)"
    )
    max_tokens: Int | None = Field(None, ge=16, le=1 << 20, description="Longest input with a sliding window")
    window: Int | None = Field(
        None, ge=2, le=8192, multiple_of=2, description="Pieces a token sees with a sliding window; empty: 512"
    )
    vocabulary: Int | None = Field(
        None, ge=100, le=1 << 24, description="Keep so many word pieces, those most used in the data"
    )
    start: Literal["copy", "embeddings", "random"] = Field(
        "copy", description="What is taken from the base: layers and embeddings, embeddings only, or nothing"
    )
    head: Literal["copy", "random"] = Field("copy", description="Whether the head of the base is taken too, if it fits")


def _model(value: Any) -> Any:
    """A reference stays a string; a mapping becomes a Change, so that its problems are named field by field."""
    if isinstance(value, str | Change) or value is None:
        return value
    if not isinstance(value, Mapping):
        raise ValueError("write a reference (zoo id, run id, ./folder, org/name) or {base: ..., layers: ...}")
    return Change.model_validate(dict(value))


def _models(value: Any) -> Any:
    """As _model, or a list of references, which becomes a tuple."""
    if not isinstance(value, list | tuple):
        return _model(value)
    if len(value) < 2 or not all(isinstance(one, str) for one in value):
        raise ValueError("write two or more references in a list: [a-run, another-run]")
    if twice := [one for place, one in enumerate(value) if one in value[:place]]:
        raise ValueError(f"{twice[0]} stands in the list twice")
    return tuple(value)


ReferenceName = Annotated[str, Field(min_length=1, max_length=300)]
Model = Annotated[ReferenceName | Change, BeforeValidator(_model)]
Models = Annotated[ReferenceName | Change | tuple[ReferenceName, ...], BeforeValidator(_models)]
TRAINED = ("pretrain", "distill", "finetune")  # kinds whose jobs train; the others read models as they are
MODEL_FIELDS = ("model", "teacher", "student")


class JobSpec(Plain):
    """One request. Everything a person does not say has a default, and the stored spec shows all of it."""

    kind: Literal["pretrain", "distill", "finetune", "average", "evaluate"]
    model: Models | None = Field(
        None, description="Zoo id, run id, ./folder, org/name, or what to change in a base; average: a list of them"
    )
    teacher: ReferenceName | None = Field(None, description="The model that is taught from: a reference")
    student: Model | None = Field(None, description="The model that learns: a reference, or what to change in a base")
    dataset: str = Field(min_length=1, max_length=300, description="Data-set id, a folder or hf:owner/name")
    task: TaskChoice = Field(description="What the model is asked to do; empty: as the data set")
    recipe: RecipeChoice | None = Field(None, description="The loss; finetune and pretrain have one each")
    split: Literal["train", "dev", "test"] = Field("test", description="The split that evaluate scores")
    limit: Int | None = Field(None, gt=0, le=COUNT, description="Use only the first so many examples of each split")
    schedule: Schedule = Field(default_factory=lambda: Schedule.model_validate({}))
    seed: Int = Field(42, ge=0, lt=2**31, description="Fixes fresh weights, the batches, the masks and the dropout")
    compute: Compute = Compute()

    @model_validator(mode="before")
    @classmethod
    def _usual_recipe_and_task(cls, given: Any) -> Any:
        # Filled in before validation, so that the stored spec shows them and the digest covers them.
        if not isinstance(given, Mapping):
            return given
        given = dict(given)
        fitting = [name for name, recipe in RECIPES.items() if recipe.kind == given.get("kind")]
        if given.get("recipe") is None and len(fitting) == 1:
            given["recipe"] = fitting[0]
        if given.get("task") is None:
            recipe = given.get("recipe")
            name = recipe.get("name") if isinstance(recipe, Mapping) else getattr(recipe, "name", recipe)
            known = RECIPES.get(name) if isinstance(name, str) else None
            given["task"] = _usual_task(trained_by(known), given.get("dataset"))
        return given

    @model_validator(mode="after")
    def _fits_kind(self) -> "JobSpec":
        taught = self.kind == "distill"
        for field in ("teacher", "student", "model"):
            needed = (field != "model") == taught
            if needed and getattr(self, field) is None:
                raise ValueError(f"{self.kind} needs {field}")
            if not needed and getattr(self, field) is not None:
                raise ValueError(f"{self.kind} takes {'teacher and student' if taught else 'model'}, not {field}")
        if isinstance(self.model, tuple) != (self.kind == "average"):
            needed = "a list of the models" if self.kind == "average" else "one model, not a list"
            raise ValueError(f"{self.kind} needs {needed}")
        if self.kind not in TRAINED:
            if self.recipe is not None:
                raise ValueError(f"{self.kind} takes no recipe")
            if isinstance(self.model, Change):
                raise ValueError(f"{self.kind} takes a reference as model, not a change of one")
            return self
        _check_recipe(self)
        changed = self.student if taught else self.model
        if isinstance(changed, Change) and changed.base is None and not taught:
            raise ValueError("model needs a base: {base: minilm, layers: 3}")
        return self

    @property
    def start(self) -> str:
        """The reference of the model that is trained or scored, the first of those that are averaged."""
        chosen = self.student if self.kind == "distill" else self.model
        if isinstance(chosen, tuple):
            return chosen[0]
        return chosen if isinstance(chosen, str) else chosen.base or self.teacher

    @property
    def others(self) -> tuple[str, ...]:
        """The references of what is averaged with `start`."""
        return self.model[1:] if isinstance(self.model, tuple) else ()

    @property
    def change(self) -> Change | None:
        """What is changed in `start` before training; None where it is trained as it is."""
        chosen = self.student if self.kind == "distill" else self.model
        return chosen if isinstance(chosen, Change) else None

    @property
    def unlabelled(self) -> str | None:
        """The text data set that the recipe uses besides `dataset`, if any."""
        return getattr(self.recipe, "unlabelled", None)

    def references(self, kind: Kind | None = None) -> tuple[Reference, ...]:
        """Everything that it refers to, or all of one kind; what is trained or scored comes first."""
        models = [(self._start_field, "model", self.start)]
        models += [(f"model.{place}", f"others.{place - 1}", name) for place, name in enumerate(self.others, 1)]
        models += [("teacher", "teacher", self.teacher)] if self.teacher else []
        data = [("dataset", "dataset", self.dataset)]
        data += [("recipe.unlabelled", "unlabelled", self.unlabelled)] if self.unlabelled else []
        every = (*(Reference(*each, "model") for each in models), *(Reference(*each, "data set") for each in data))
        return tuple(each for each in every if kind in (None, each.kind))

    @property
    def _start_field(self) -> str:
        field = "student" if self.kind == "distill" else "model"
        if self.change is None:
            return field if not self.others else f"{field}.0"
        return f"{field}.base" if self.change.base else "teacher"

    @property
    def made_from(self) -> str:
        """The start in words: `minilm`, `minilm with layers 3, hidden 128`, or `the average of a, b`."""
        if self.others:
            return f"the average of {', '.join(self.model)}"
        said = self.change.model_dump(exclude_defaults=True, exclude={"base"}) if self.change else {}
        changes = ", ".join(f"{name} {value}" for name, value in said.items())
        return f"{self.start} with {changes}" if changes else self.start

    @property
    def canonical(self) -> str:
        """The one JSON text of this spec: all defaults shown, keys sorted, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    def to_yaml(self) -> str:
        """The spec as a person would write it: only what differs from the defaults."""
        said = self.model_dump(mode="json", exclude_none=True)
        bare = {"kind": self.kind, "dataset": self.dataset}
        bare |= {name: said[name] for name in MODEL_FIELDS if name in said}
        usual = JobSpec.model_validate(bare | ({"recipe": self.recipe.name} if self.kind == "distill" else {}))
        usual = usual.model_dump(mode="json", exclude_none=True)
        for name in list(said):
            if name in ("model", "student") and isinstance(said[name], dict):
                said[name] = _shortest(said[name], Change().model_dump(mode="json"))
            if name in bare:
                continue
            if name == "recipe" and self.kind == "distill":
                said[name] = _shortest(said[name], usual[name])
            elif said[name] == usual.get(name):
                del said[name]
            elif name == "task":
                said[name] = _shortest(said[name], TASKS[self.task.name]().model_dump(mode="json"))
            elif isinstance(said[name], dict) and name in ("schedule", "compute"):
                said[name] = {k: v for k, v in said[name].items() if v != usual[name].get(k)}
        said = {name: value for name, value in said.items() if value != {} or name in bare}
        # One block line a field, as a person writes it; only schedule and the like stand in braces.
        lines = [
            yaml.safe_dump({k: v}, sort_keys=False, allow_unicode=True, default_flow_style=None)
            for k, v in said.items()
        ]
        return "".join(line[1:-2] + "\n" if line.startswith("{") else line for line in lines)


def _usual_task(tasks: Sequence[str], dataset: Any) -> str:
    """The task that the card of a data set which ships is for, if it is one of `tasks`; otherwise their first."""
    from trainer.datasets.cards import cards  # here, because data sets are resolved to what a run's spec holds

    card = cards().get(dataset) if isinstance(dataset, str) else None
    return card.task if card and card.task in tasks else tasks[0]


def _check_recipe(spec: JobSpec) -> None:
    allowed = [name for name, recipe in RECIPES.items() if recipe.kind == spec.kind]
    if spec.recipe is None or spec.recipe.name not in allowed:
        found = f"found {spec.recipe.name}" if spec.recipe else "none is given"
        raise ValueError(f"{spec.kind} needs a recipe of: {', '.join(allowed)} ({found})")
    if spec.task.name not in (able := trained_by(spec.recipe)):
        raise ValueError(f"recipe {spec.recipe.name} trains: {', '.join(able)}; found {spec.task.name}")


def _shortest(said: Mapping, usual: Mapping) -> dict:
    """An option table as a person writes it: the name, and what differs from the defaults."""
    return {name: value for name, value in said.items() if name == "name" or value != usual.get(name)}


def parse(given: Mapping | str) -> JobSpec:
    """A JobSpec from a mapping or from JSON text; BadSpec names every field that is wrong, and what was found there."""
    try:
        return JobSpec.model_validate_json(given) if isinstance(given, str) else JobSpec.model_validate(given)
    except ValidationError as error:
        raise BadSpec([_problem(item) for item in error.errors()]) from None


def _problem(item: Mapping) -> tuple[str, str]:
    name = ".".join(str(part) for part in item["loc"]) or "spec"
    if item["type"] == "extra_forbidden":
        parts = {"schedule": Schedule, "compute": Compute, "model": Change, "student": Change}
        owner = JobSpec if len(item["loc"]) == 1 else parts.get(item["loc"][0])
        allowed = owner.model_fields if owner else _options(item["loc"][0])
        return name, UnknownName("field", item["loc"][-1], allowed).message
    found = "" if item["type"] in ("missing", "value_error") else f" (found {shown(item['input'])})"
    return name, item["msg"].removeprefix("Value error, ") + found


def _options(field: str) -> set[str]:
    table = {"task": TASKS, "recipe": RECIPES}[field]
    return {option for choice in table.values() for option in choice.model_fields}


FILE_CAP = 10**6  # bytes
_GIVE = "Give the path of a YAML spec; specs/ has some."
_UNREADABLE = {UnicodeDecodeError: "it is not UTF-8 text", RecursionError: "it is nested too deeply"}


def file_text(path: str | Path) -> str:
    """What stands in the file of a spec or a chain. BadSpec where there is no such file; ValueError for no UTF-8."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(FILE_CAP + 1)
    except FileNotFoundError:
        raise BadSpec([("spec", f"there is no file {path}")], next_step=_GIVE) from None
    except OSError as error:
        raise BadSpec([("spec", f"{path}: {error.strerror}")], next_step=_GIVE) from None
    if len(data) > FILE_CAP:
        raise BadSpec([("spec", f"{path} is larger than {FILE_CAP // 10**6} MB; a spec is a page")], next_step=_GIVE)
    return data.decode("utf-8")


def read(path: str | Path) -> JobSpec:
    """A JobSpec from a YAML file."""
    try:
        given = parse_yaml(file_text(path))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or _UNREADABLE.get(type(error), "a value in it cannot be read")
        raise BadSpec([("spec", f"{path}{place} is not YAML: {what}")]) from None
    if not isinstance(given, Mapping):
        raise BadSpec([("spec", f"{path} must hold fields such as `kind: finetune`, found {_found(given)}")])
    return parse(given)


def _found(given: Any) -> str:
    return "nothing" if given is None else "a list" if isinstance(given, list) else "a single value"
