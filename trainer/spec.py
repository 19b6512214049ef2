"""A job is a spec. JobSpec is frozen; its canonical JSON has a digest, and the digest names the job."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator
from pydantic_core import ErrorDetails

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
    """A validator that turns `name` or `{name: ..., options}` into the table's type, which validates the options."""

    def choose(value: Any) -> Any:
        if isinstance(value, Plain):
            return value
        fields = {"name": value} if isinstance(value, str) else value
        if not isinstance(fields, Mapping) or "name" not in fields:
            raise ValueError(f"write a name or {{name: ..., options}}; allowed names: {', '.join(sorted(table))}")
        if not isinstance(fields["name"], str) or fields["name"] not in table:
            raise ValueError(str(UnknownName(what, fields["name"], table)))
        return table[fields["name"]].model_validate(dict(fields))

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
        None, gt=0, le=COUNT, description="Stop after this many evaluations without a better dev score"
    )
    checkpoint_every: Int = Field(
        200, gt=0, le=COUNT, description="Steps between checkpoints; every evaluation makes one too"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, value: Any) -> Any:
        # These depend on each other: `steps: 10` must not also mean `epochs: 3`.
        if not isinstance(value, Mapping):
            return value
        fields = dict(value)
        if fields.get("epochs") is None and fields.get("steps") is None:
            fields["epochs"] = 3
        if fields.get("batch_tokens") is None and fields.get("batch_size") is None:
            fields["batch_tokens"] = 1024
        return fields

    @model_validator(mode="after")
    def _check_lengths(self) -> "Schedule":
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
    """What differs between a new model and its base; checked against the base when the job starts."""

    base: str | None = Field(None, max_length=300, description="The model that is changed; empty: the teacher")
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
    vocabulary: Int | None = Field(None, ge=100, le=1 << 24, description="Number of most used word pieces to keep")
    start: Literal["copy", "embeddings", "random"] = Field(
        "copy", description="What is taken from the base: layers and embeddings, embeddings only, or nothing"
    )
    head: Literal["copy", "random"] = Field("copy", description="Whether the head of the base is copied, if it fits")


def _model(value: Any) -> Any:
    """A reference stays a string; a mapping becomes a Change, so that its problems are named field by field."""
    if isinstance(value, str | Change) or value is None:
        return value
    if not isinstance(value, Mapping):
        raise ValueError("write a reference (zoo id, run id, ./folder, org/name) or {base: ..., layers: ...}")
    return Change.model_validate(dict(value))


def _models(value: Any) -> Any:
    """As _model; a list of references becomes a tuple."""
    if not isinstance(value, list | tuple):
        return _model(value)
    if len(value) < 2 or not all(isinstance(reference, str) for reference in value):
        raise ValueError("write two or more references in a list: [a-run, another-run]")
    if repeated := [reference for index, reference in enumerate(value) if reference in value[:index]]:
        raise ValueError(f"{repeated[0]} is in the list twice")
    return tuple(value)


ReferenceName = Annotated[str, Field(min_length=1, max_length=300)]
Model = Annotated[ReferenceName | Change, BeforeValidator(_model)]
Models = Annotated[ReferenceName | Change | tuple[ReferenceName, ...], BeforeValidator(_models)]
TRAINED = ("pretrain", "distill", "finetune")  # kinds of job that train; the others use models as they are
MODEL_FIELDS = ("model", "teacher", "student")


class JobSpec(Plain):
    """A job as it was requested. What a person leaves out has a default; the stored spec shows every field."""

    kind: Literal["pretrain", "distill", "finetune", "average", "evaluate"]
    model: Models | None = Field(
        None, description="Zoo id, run id, ./folder, org/name, or what to change in a base; average: a list of them"
    )
    teacher: ReferenceName | None = Field(None, description="The model to learn from: a reference")
    student: Model | None = Field(None, description="The model that learns: a reference, or what to change in a base")
    dataset: str = Field(min_length=1, max_length=300, description="Data-set id, a folder or hf:owner/name")
    task: TaskChoice = Field(description="What the model is asked to do; empty: as the data set says")
    recipe: RecipeChoice | None = Field(None, description="The loss; finetune and pretrain have one each")
    split: Literal["train", "dev", "test"] = Field("test", description="The split that evaluate scores")
    limit: Int | None = Field(None, gt=0, le=COUNT, description="Number of first examples of each split to use")
    schedule: Schedule = Field(default_factory=lambda: Schedule.model_validate({}))
    seed: Int = Field(42, ge=0, lt=2**31, description="Seeds new weights, batches, masks and dropout")
    compute: Compute = Compute()

    @model_validator(mode="before")
    @classmethod
    def _fill_recipe_and_task(cls, value: Any) -> Any:
        # Before validation, so that the stored spec shows them and the digest covers them.
        if not isinstance(value, Mapping):
            return value
        fields = dict(value)
        recipes = [name for name, recipe in RECIPES.items() if recipe.kind == fields.get("kind")]
        if fields.get("recipe") is None and len(recipes) == 1:
            fields["recipe"] = recipes[0]
        if fields.get("task") is None:
            recipe = fields.get("recipe")
            name = recipe.get("name") if isinstance(recipe, Mapping) else getattr(recipe, "name", recipe)
            known = RECIPES.get(name) if isinstance(name, str) else None
            fields["task"] = _default_task(trained_by(known), fields.get("dataset"))
        return fields

    @model_validator(mode="after")
    def _check_kind(self) -> "JobSpec":
        distils = self.kind == "distill"
        for field in ("teacher", "student", "model"):
            needed = (field != "model") == distils
            if needed and getattr(self, field) is None:
                raise ValueError(f"{self.kind} needs {field}")
            if not needed and getattr(self, field) is not None:
                raise ValueError(f"{self.kind} takes {'teacher and student' if distils else 'model'}, not {field}")
        if isinstance(self.model, tuple) != (self.kind == "average"):
            models = "a list of the models" if self.kind == "average" else "one model, not a list"
            raise ValueError(f"{self.kind} needs {models}")
        if self.kind not in TRAINED:
            if self.recipe is not None:
                raise ValueError(f"{self.kind} takes no recipe")
            if isinstance(self.model, Change):
                raise ValueError(f"{self.kind} takes a reference as model, not a change of one")
            return self
        _check_recipe(self)
        if isinstance(self.model, Change) and self.model.base is None:
            raise ValueError("model needs a base: {base: minilm, layers: 3}")
        return self

    @property
    def start(self) -> str:
        """The reference of the model that is trained or scored, or the first of those that are averaged."""
        model = self.student if self.kind == "distill" else self.model
        if isinstance(model, tuple):
            return model[0]
        reference = model.base or self.teacher if isinstance(model, Change) else model
        assert reference is not None  # _check_kind
        return reference

    @property
    def others(self) -> tuple[str, ...]:
        """The references of the models that are averaged with `start`."""
        return self.model[1:] if isinstance(self.model, tuple) else ()

    @property
    def change(self) -> Change | None:
        """What is changed in `start` before training; None where it is trained as it is."""
        model = self.student if self.kind == "distill" else self.model
        return model if isinstance(model, Change) else None

    @property
    def unlabelled(self) -> str | None:
        """The text data set that the recipe uses besides `dataset`, if any."""
        return getattr(self.recipe, "unlabelled", None)

    def references(self, kind: Kind | None = None) -> tuple[Reference, ...]:
        """All references of the spec, or those of one kind; the model that is trained or scored comes first."""
        models = [(self._start_field, "model", self.start)]
        models += [(f"model.{index}", f"others.{index - 1}", name) for index, name in enumerate(self.others, 1)]
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
        """What the model is made from: `minilm`, `minilm with layers 3, hidden 128`, or `the average of a, b`."""
        if self.others:
            return f"the average of {', '.join((self.start, *self.others))}"
        fields = self.change.model_dump(exclude_defaults=True, exclude={"base"}) if self.change else {}
        changes = ", ".join(f"{name} {value}" for name, value in fields.items())
        return f"{self.start} with {changes}" if changes else self.start

    @property
    def canonical(self) -> str:
        """The canonical JSON of this spec: every field, keys sorted, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    def to_yaml(self) -> str:
        """The spec as a person would write it: only what differs from the defaults."""
        fields = self.model_dump(mode="json", exclude_none=True)
        required = {"kind": self.kind, "dataset": self.dataset}
        required |= {name: fields[name] for name in MODEL_FIELDS if name in fields}
        recipe = {"recipe": self.recipe.name} if self.recipe and self.kind == "distill" else {}
        defaults = JobSpec.model_validate(required | recipe).model_dump(mode="json", exclude_none=True)
        for name in list(fields):
            if name in ("model", "student") and isinstance(fields[name], dict):
                fields[name] = _without_defaults(fields[name], Change().model_dump(mode="json"))
            if name in required:
                continue
            if name == "recipe" and self.kind == "distill":
                fields[name] = _without_defaults(fields[name], defaults[name])
            elif fields[name] == defaults.get(name):
                del fields[name]
            elif name == "task":
                task_defaults = type(self.task).model_validate({}).model_dump(mode="json")
                fields[name] = _without_defaults(fields[name], task_defaults)
            elif isinstance(fields[name], dict) and name in ("schedule", "compute"):
                fields[name] = {k: v for k, v in fields[name].items() if v != defaults[name].get(k)}
        fields = {name: value for name, value in fields.items() if value != {} or name in required}
        # One line per field, as a person writes it; only schedule and the like are in braces.
        lines = [
            yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True, default_flow_style=None)
            for name, value in fields.items()
        ]
        return "".join(line[1:-2] + "\n" if line.startswith("{") else line for line in lines)


def _default_task(tasks: Sequence[str], dataset: Any) -> str:
    """The task on the card of a data set that ships or was imported, if it is one of `tasks`; else their first."""
    from trainer.datasets.cards import card, folder_of  # here, as data sets are resolved to what a run's spec holds

    stated = card(folder) if isinstance(dataset, str) and (folder := folder_of(dataset)) else None
    return stated.task if stated and stated.task in tasks else tasks[0]


def _check_recipe(spec: JobSpec) -> None:
    allowed = [name for name, recipe in RECIPES.items() if recipe.kind == spec.kind]
    if spec.recipe is None or spec.recipe.name not in allowed:
        recipe = f"found {spec.recipe.name}" if spec.recipe else "none is given"
        raise ValueError(f"{spec.kind} needs a recipe of: {', '.join(allowed)} ({recipe})")
    if spec.task.name not in (tasks := trained_by(spec.recipe)):
        raise ValueError(f"recipe {spec.recipe.name} trains: {', '.join(tasks)}; found {spec.task.name}")


def _without_defaults(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a person writes them: the name, and what differs from the defaults."""
    return {name: value for name, value in fields.items() if name == "name" or value != defaults.get(name)}


def parse(document: Mapping[str, Any] | str) -> JobSpec:
    """A JobSpec from a mapping or from JSON text. Raises BadSpec naming every wrong field and what was found there."""
    try:
        return JobSpec.model_validate_json(document) if isinstance(document, str) else JobSpec.model_validate(document)
    except ValidationError as error:
        raise BadSpec([_problem(details) for details in error.errors()]) from None


def _problem(details: ErrorDetails) -> tuple[str, str]:
    place = details["loc"]
    name = ".".join(str(part) for part in place) or "spec"
    if details["type"] == "extra_forbidden":
        fields = JobSpec.model_fields if len(place) == 1 else _fields_of(str(place[0]))
        return name, UnknownName("field", place[-1], fields).message
    quoted = "" if details["type"] in ("missing", "value_error") else f" (found {shown(details['input'])})"
    return name, details["msg"].removeprefix("Value error, ") + quoted


def _fields_of(part: str) -> set[str]:
    types: dict[str, type[Plain]] = {"schedule": Schedule, "compute": Compute, "model": Change, "student": Change}
    tables: dict[str, Mapping[str, type[Plain]]] = {"task": TASKS, "recipe": RECIPES}
    return {name for each in tables.get(part, {"": types.get(part, Plain)}).values() for name in each.model_fields}


FILE_CAP = 10**6  # bytes
_NEXT_STEP = "Give the path of a YAML spec; specs/ has some."
_UNREADABLE = {UnicodeDecodeError: "it is not UTF-8 text", RecursionError: "it is nested too deeply"}


def file_text(path: str | Path) -> str:
    """The text of a spec file. Raises BadSpec where it cannot be read or is too large, ValueError where not UTF-8."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(FILE_CAP + 1)
    except FileNotFoundError:
        raise BadSpec([("spec", f"there is no file {path}")], next_step=_NEXT_STEP) from None
    except OSError as error:
        raise BadSpec([("spec", f"{path}: {error.strerror}")], next_step=_NEXT_STEP) from None
    if len(data) > FILE_CAP:
        raise BadSpec([("spec", f"{path} is larger than {FILE_CAP // 10**6} MB: no spec")], next_step=_NEXT_STEP)
    return data.decode("utf-8")


def read(path: str | Path) -> JobSpec:
    """A JobSpec from a YAML file. Raises BadSpec."""
    try:
        document = parse_yaml(file_text(path))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or _UNREADABLE.get(type(error), "a value in it cannot be read")
        raise BadSpec([("spec", f"{path}{place} is not YAML: {what}")]) from None
    if not isinstance(document, Mapping):
        kind = "nothing" if document is None else "a list" if isinstance(document, list) else "a single value"
        raise BadSpec([("spec", f"{path} must hold fields such as `kind: finetune`, found {kind}")])
    return parse(document)
