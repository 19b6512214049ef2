"""A chain: several specs in one file, where a later step takes the model that an earlier one makes.

    dataset: ncbi-disease-slice         # beside `steps`: the defaults of every step
    steps:
      - {name: teacher, kind: finetune, model: minilm}
      - {name: student, kind: distill, teacher: "@teacher", student: {layers: 3}, recipe: task_kd}
      - {name: score, kind: evaluate, model: "@student"}

"@name" may stand wherever a model reference may, and means an earlier step, so no step can wait for itself. When a
chain is submitted, each step becomes a job, and "@name" the id of that job (trainer.queue.submit_chain).
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from trainer import spec as specs
from trainer.errors import BadSpec, UnknownName
from trainer.plain_yaml import parse_yaml
from trainer.spec import MODEL_FIELDS, JobSpec

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,59}")
WITHOUT_MODEL = ("evaluate",)  # kinds of job that make no model

_MERGED = ("schedule", "compute")  # a step overrides single fields of these, and any other default as a whole
_EXCLUDES = {"epochs": "steps", "steps": "epochs", "batch_tokens": "batch_size", "batch_size": "batch_tokens"}


@dataclass(frozen=True)
class Step:
    """A spec with a name; its references may still be "@name" of earlier steps."""

    name: str
    spec: JobSpec

    def bound(self, ids: Mapping[str, str]) -> JobSpec:
        """The spec with run ids instead of "@name"; `ids` maps names of steps to them."""
        steps = [each for each in self.spec.references("model") if each.name.startswith("@")]
        return replaced(self.spec, {each.field: ids[each.name[1:]] for each in steps})


@dataclass(frozen=True)
class Chain:
    """Steps in the order in which they are submitted; each refers to earlier ones only."""

    steps: tuple[Step, ...]

    def each(self, change: Callable[[JobSpec], JobSpec]) -> "Chain":
        """The chain with `change` applied to every spec.

        Raises BadSpec with the problems of all steps, as steps.<name>.<field>.
        """
        changed: list[Step] = []
        problems: list[tuple[str, str]] = []
        for step in self.steps:
            try:
                changed.append(replace(step, spec=change(step.spec)))
            except BadSpec as error:
                problems += [(f"steps.{step.name}.{field}", problem) for field, problem in error.fields]
        if problems:
            raise BadSpec(problems)
        return Chain(tuple(changed))

    def without(self, names: Collection[str]) -> "Chain":
        """The chain without these steps and all that need them."""
        left_out, remaining = set(names), list[Step]()
        for step in self.steps:
            needed = {each.name[1:] for each in step.spec.references("model") if each.name.startswith("@")}
            if step.name in left_out or needed & left_out:
                left_out.add(step.name)
            else:
                remaining.append(step)
        return Chain(tuple(remaining))


def replaced(spec: JobSpec, values: Mapping[str, str]) -> JobSpec:
    """The spec with other values for the dotted fields that `values` names."""
    fields = spec.model_dump(mode="json")
    for field, value in values.items():
        *outer, last = field.split(".")
        parent: Any = fields
        for part in outer:
            parent = parent[part]
        parent[int(last) if isinstance(parent, list) else last] = value
    return specs.parse(fields) if values else spec


def read(path: str | Path) -> JobSpec | Chain:
    """The chain in a YAML file that has `steps`, or its one spec. Raises BadSpec."""
    try:
        document = parse_yaml(specs.file_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        if "'@'" not in str(error) or mark is None:
            return specs.read(path)
        place = f"{path}, line {mark.line + 1}"
        raise BadSpec([("spec", f'{place}: YAML needs quotes around a reference to a step: "@name"')]) from None
    except (ValueError, RecursionError):
        return specs.read(path)  # which says what is wrong with the file
    if isinstance(document, Mapping) and "steps" in document:
        return parse(document)
    spec = specs.read(path)
    if problems := list(_reference_problems(spec.model_dump(mode="json"), {}, None)):
        raise BadSpec(problems)
    return spec


def parse(document: Mapping[str, Any]) -> Chain:
    """A Chain from a mapping with `steps`. Raises BadSpec naming every wrong field, as steps.<name>.<field>."""
    fields_by_name = _by_name(document.get("steps"))
    common = {field: value for field, value in document.items() if field in JobSpec.model_fields}
    unknown = [field for field in document if field not in common and field != "steps"]
    known = [*JobSpec.model_fields, "steps"]
    problems = [(str(field), UnknownName("field", field, known).message) for field in unknown]
    merged = {name: _with_defaults(fields, common) for name, fields in fields_by_name.items()}
    kinds = {name: fields.get("kind") for name, fields in merged.items()}
    steps = []
    for name, fields in merged.items():
        step_problems = list(_reference_problems(fields, kinds, name))
        try:
            steps.append(Step(name, specs.parse(fields)))
        except BadSpec as error:
            step_problems += error.fields
        problems += [(_place(field, name, fields_by_name[name], common), problem) for field, problem in step_problems]
    if problems:
        raise BadSpec(list(dict.fromkeys(problems)))  # a wrong default is named once, not for each step
    return Chain(tuple(steps))


def _by_name(steps: Any) -> dict[str, dict[str, Any]]:
    """The fields of the steps by name. Raises BadSpec where a name is missing, wrong or repeated; counts from 1."""
    if not isinstance(steps, Sequence) or isinstance(steps, str) or not steps:
        raise BadSpec([("steps", f"a list of steps is needed, each with a name (found {steps!r:.80})")])
    fields_by_name: dict[str, dict[str, Any]] = {}
    problems: list[tuple[str, str]] = []
    for number, step in enumerate(steps, 1):
        name = step.get("name") if isinstance(step, Mapping) else None
        if not isinstance(step, Mapping):
            problems.append((f"steps.{number}", f"a step holds fields such as `kind: finetune` (found {step!r:.80})"))
        elif not isinstance(name, str) or not NAME.fullmatch(name):
            rule = "a name of letters, digits, - and _ that begins with a letter is needed"
            problems.append((f"steps.{number}.name", f"{rule} (found {name!r:.80})"))
        elif name in fields_by_name:
            problems.append((f"steps.{number}.name", f"an earlier step is named {name} too"))
        else:
            fields_by_name[name] = {field: value for field, value in step.items() if field != "name"}
    if problems:
        raise BadSpec(problems)
    return fields_by_name


def _with_defaults(step: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a step with the defaults of its chain; a field of the step drops the default that it excludes."""
    fields = {**common, **step}
    for field in _MERGED:
        default, chosen = common.get(field), step.get(field)
        if isinstance(default, Mapping) and isinstance(chosen, Mapping):
            compatible = {name: value for name, value in default.items() if _EXCLUDES.get(name) not in chosen}
            fields[field] = {**compatible, **chosen}
    return fields


def _reference_problems(
    fields: Mapping[str, Any], kinds: Mapping[str, Any], name: str | None
) -> Iterator[tuple[str, str]]:
    """(field, problem) of each "@name" in the step `name` that does not refer to an earlier step that makes a model.

    kinds: the kind of each step by its name, in file order.
    """
    order = list(kinds)
    earlier = order[: order.index(name)] if name else []
    for field, step in _step_references({field: fields.get(field) for field in MODEL_FIELDS}):
        if step in earlier and kinds[step] not in WITHOUT_MODEL:
            continue
        if step in earlier:
            yield field, f"step {step!r} makes no model: its kind is {kinds[step]}"
        elif step in order:
            yield field, f"step {step!r} does not come before {name!r}; a step can only use models of earlier steps"
        else:
            yield field, UnknownName("earlier step", step, earlier).message


def _step_references(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """(dotted field, step) of each "@name" in a value as a person wrote it, which need not be valid."""
    if isinstance(value, str) and value.startswith("@"):
        yield field, value[1:]
    if not isinstance(value, Mapping | list | tuple):
        return
    for part, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield from _step_references(inner, f"{field}.{part}" if field else str(part))


def _place(field: str, name: str, step: Mapping[str, Any], common: Mapping[str, Any]) -> str:
    """The field as a person has to look for it: among the defaults of the chain, or in the step."""
    top = field.partition(".")[0]
    if top in common and top not in step:
        return field
    return f"steps.{name}" if field == "spec" else f"steps.{name}.{field}"
