"""A job is a spec. JobSpec is frozen; its canonical JSON has a digest, and the digest names the job."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from trainer.errors import BadSpec, UnknownName
from trainer.prediction import Plain
from trainer.recipes import RECIPES
from trainer.tasks import TASKS


def _no_bool(value: Any) -> Any:
    # YAML's yes/no/true would otherwise pass as 1 and 0.
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")
    return value


Int = Annotated[int, BeforeValidator(_no_bool)]
Float = Annotated[float, BeforeValidator(_no_bool)]


def _choice(what: str, table: Mapping[str, type[Plain]]) -> BeforeValidator:
    """`name` or `{name: ..., options}` becomes the table's own frozen type, so its options are validated too."""

    def choose(value: Any) -> Any:
        if isinstance(value, Plain):
            return value
        given = {"name": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping) or "name" not in given:
            raise ValueError(f"write a name or {{name: ..., options}}; allowed names: {', '.join(sorted(table))}")
        if given["name"] not in table:
            raise ValueError(str(UnknownName(what, given["name"], table)))
        return table[given["name"]].model_validate(dict(given))

    return BeforeValidator(choose)


RecipeChoice = Annotated[SerializeAsAny[Plain], _choice("recipe", RECIPES)]
TaskChoice = Annotated[SerializeAsAny[Plain], _choice("task", TASKS)]


class Schedule(Plain):
    """How long and how fast: length, batches, learning rate, evaluation and checkpoints."""

    epochs: Float | None = Field(None, gt=0, le=1000, description="Passes over the training data (or give steps)")
    steps: Int | None = Field(None, gt=0, description="Optimiser steps (or give epochs)")
    batch_tokens: Int | None = Field(None, ge=16, description="Padded word pieces in a batch (or give batch_size)")
    batch_size: Int | None = Field(None, gt=0, description="Examples in a batch (or give batch_tokens)")
    max_tokens: Int = Field(512, ge=8, description="Longest window in word pieces, special tokens included")
    lr: Float = Field(1e-4, gt=0, lt=1, description="Peak learning rate")
    warmup: Float = Field(0.1, ge=0, lt=1, description="Share of the steps with a rising learning rate")
    weight_decay: Float = Field(0.01, ge=0, lt=1, description="AdamW weight decay; biases and norms are exempt")
    clip: Float = Field(1.0, gt=0, description="Largest norm of the gradient")
    evaluate_every: Int | None = Field(None, gt=0, description="Steps between dev evaluations; empty: each epoch")
    patience: Int | None = Field(None, gt=0, description="Stop after so many evaluations without a better dev score")
    checkpoint_every: Int = Field(200, gt=0, description="Steps between checkpoints; every evaluation makes one too")

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

    engine: Literal["local"] = "local"
    devices: Int = Field(1, ge=1, le=1, description="Devices of one run")
    threads: Int | None = Field(None, ge=1, le=256, description="CPU threads; empty: the worker's share of the cores")


class JobSpec(Plain):
    """One request. Everything a person does not say has a default, and the stored spec shows all of it."""

    kind: Literal["finetune", "evaluate"]
    model: str = Field(min_length=1, max_length=300, description="Zoo id, run id, ./folder or org/name")
    dataset: str = Field(min_length=1, max_length=300, description="Data-set id or a folder")
    task: TaskChoice = Field("ner", validate_default=True, description="What the model is asked to do")
    recipe: RecipeChoice | None = Field(None, description="The loss; finetune has one")
    split: Literal["train", "dev", "test"] = Field("test", description="The split that evaluate scores")
    limit: Int | None = Field(None, gt=0, description="Use only the first so many examples of each split")
    schedule: Schedule = Field(default_factory=lambda: Schedule.model_validate({}))
    seed: Int = Field(42, ge=0, lt=2**31, description="Fixes the fresh head, the batches and the dropout")
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _recipe_fits_kind(self) -> "JobSpec":
        if self.kind == "finetune" and self.recipe is None:
            object.__setattr__(self, "recipe", RECIPES["finetune"]())
        if self.kind == "evaluate" and self.recipe is not None:
            raise ValueError("evaluate takes no recipe")
        return self

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
        usual = JobSpec(kind=self.kind, model=self.model, dataset=self.dataset).model_dump(mode="json")
        for name in list(said):
            if name in ("kind", "model", "dataset"):
                continue
            if said[name] == usual[name]:
                del said[name]
            elif isinstance(said[name], dict) and name in ("schedule", "compute"):
                said[name] = {k: v for k, v in said[name].items() if v != usual[name].get(k)}
                said = {k: v for k, v in said.items() if v != {}}
        # One block line a field, as a person writes it; only schedule and the like stand in braces.
        lines = [
            yaml.safe_dump({k: v}, sort_keys=False, allow_unicode=True, default_flow_style=None)
            for k, v in said.items()
        ]
        return "".join(line[1:-2] + "\n" if line.startswith("{") else line for line in lines)


def parse(given: Mapping | str) -> JobSpec:
    """A JobSpec from a mapping or from JSON text; BadSpec names every field that is wrong, and what was found there."""
    try:
        return JobSpec.model_validate_json(given) if isinstance(given, str) else JobSpec.model_validate(given)
    except ValidationError as error:
        raise BadSpec([_problem(item) for item in error.errors()]) from None


def _problem(item: Mapping) -> tuple[str, str]:
    name = ".".join(str(part) for part in item["loc"]) or "spec"
    if item["type"] == "extra_forbidden":
        parts = {"schedule": Schedule, "compute": Compute}
        owner = JobSpec if len(item["loc"]) == 1 else parts.get(item["loc"][0])
        allowed = owner.model_fields if owner else _options(item["loc"][0])
        return name, str(UnknownName("field", item["loc"][-1], allowed))
    found = "" if item["type"] in ("missing", "value_error") else f" (found {item['input']!r:.80})"
    return name, item["msg"].removeprefix("Value error, ") + found


def _options(field: str) -> set[str]:
    table = {"task": TASKS, "recipe": RECIPES}[field]
    return {option for choice in table.values() for option in choice.model_fields}


def read(path: str | Path) -> JobSpec:
    """A JobSpec from a YAML file."""
    path = Path(path)
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadSpec([("spec", f"there is no file {path}")], next_step="Give the path of a YAML spec.") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or "it is not UTF-8 text"
        raise BadSpec([("spec", f"{path}{place} is not YAML: {what}")]) from None
    if not isinstance(given, Mapping):
        raise BadSpec([("spec", f"{path} must hold fields such as `kind: finetune`, found {type(given).__name__}")])
    return parse(given)
