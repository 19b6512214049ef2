"""A chain: several specs in one file, where a later step takes the model that an earlier one makes.

    dataset: ncbi-disease-slice         # beside `steps`: what every step has that does not say otherwise
    steps:
      - {name: teacher, kind: finetune, model: minilm}
      - {name: student, kind: distill, teacher: "@teacher", student: {layers: 3}, recipe: task_kd}
      - {name: score, kind: evaluate, model: "@student"}

"@name" stands wherever a model reference may stand, and means an earlier step, so nothing can wait for itself. When a
chain is submitted each step becomes a job of its own, and "@name" the id of that job (trainer.queue.submit_chain).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from trainer import spec as specs
from trainer.errors import BadSpec, UnknownName
from trainer.plain_yaml import parse_yaml
from trainer.spec import MODEL_FIELDS, JobSpec

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,59}")
WITHOUT_MODEL = ("evaluate",)  # kinds whose job leaves no model behind

_MERGED = ("schedule", "compute")  # a step changes single fields of these; everything else it replaces
_INSTEAD = {"epochs": "steps", "steps": "epochs", "batch_tokens": "batch_size", "batch_size": "batch_tokens"}


@dataclass(frozen=True)
class Step:
    """A spec with a name; its references may still be "@name" of earlier steps."""

    name: str
    spec: JobSpec

    def bound(self, ids: Mapping[str, str]) -> JobSpec:
        """The spec with run ids in the place of "@name"; `ids` maps step names to them."""
        steps = [each for each in self.spec.references("model") if each.name.startswith("@")]
        return replaced(self.spec, {each.field: ids[each.name[1:]] for each in steps})


@dataclass(frozen=True)
class Chain:
    """Steps in the order in which they are submitted; each refers to earlier ones only."""

    steps: tuple[Step, ...]

    def each(self, change: Callable[[JobSpec], JobSpec]) -> "Chain":
        """The chain with every spec changed. BadSpec gathers the problems of all steps, as steps.<name>.<field>."""
        changed, wrong = [], []
        for step in self.steps:
            try:
                changed.append(replace(step, spec=change(step.spec)))
            except BadSpec as error:
                wrong += [(f"steps.{step.name}.{field}", problem) for field, problem in error.fields]
        if wrong:
            raise BadSpec(wrong)
        return Chain(tuple(changed))


def replaced(spec: JobSpec, values: Mapping[str, str]) -> JobSpec:
    """The spec with other values in the dotted fields that `values` names."""
    said = spec.model_dump(mode="json")
    for field, value in values.items():
        *outer, last = field.split(".")
        place = said
        for part in outer:
            place = place[part]
        place[int(last) if isinstance(place, list) else last] = value
    return specs.parse(said) if values else spec


def read(path: str | Path) -> JobSpec | Chain:
    """What a YAML file holds: a chain where it has `steps`, otherwise one spec."""
    try:
        given = parse_yaml(specs.file_text(path))
    except yaml.YAMLError as error:
        if "'@'" not in str(error):
            return specs.read(path)
        place = f"{path}, line {error.problem_mark.line + 1}"
        raise BadSpec([("spec", f'{place}: YAML wants quotes around a step that is referred to: "@name"')]) from None
    except (ValueError, RecursionError):
        return specs.read(path)  # which says what is wrong with the file
    if isinstance(given, Mapping) and "steps" in given:
        return parse(given)
    spec = specs.read(path)
    if wrong := list(_wrong_references(spec.model_dump(mode="json"), {}, None)):
        raise BadSpec(wrong)
    return spec


def parse(given: Mapping[str, Any]) -> Chain:
    """A Chain from a mapping with `steps`; BadSpec names every field that is wrong, as steps.<name>.<field>."""
    named = _named(given.get("steps"))
    common = {field: value for field, value in given.items() if field in JobSpec.model_fields}
    unknown = [field for field in given if field not in common and field != "steps"]
    wrong = [(str(field), UnknownName("field", field, [*JobSpec.model_fields, "steps"]).message) for field in unknown]
    steps, kinds = [], {name: _defaulted(common, own).get("kind") for name, own in named.items()}
    for name, own in named.items():
        said = _defaulted(common, own)
        problems = list(_wrong_references(said, kinds, name))
        try:
            steps.append(Step(name, specs.parse(said)))
        except BadSpec as error:
            problems += error.fields
        wrong += [(_place(field, name, own, common), problem) for field, problem in problems]
    if wrong:
        raise BadSpec(list(dict.fromkeys(wrong)))  # a wrong default is named once, not once a step
    return Chain(tuple(steps))


def _named(steps: Any) -> dict[str, Mapping]:
    """The steps by name; BadSpec where one cannot be told by its name. Steps without a name are counted from 1."""
    if not isinstance(steps, Sequence) or isinstance(steps, str) or not steps:
        raise BadSpec([("steps", f"a list of steps is needed, each with a name (found {steps!r:.80})")])
    named, wrong = {}, []
    for number, step in enumerate(steps, 1):
        name = step.get("name") if isinstance(step, Mapping) else None
        if not isinstance(step, Mapping):
            wrong.append((f"steps.{number}", f"a step holds fields such as `kind: finetune` (found {step!r:.80})"))
        elif not isinstance(name, str) or not NAME.fullmatch(name):
            rule = "a name of letters, digits, - and _ that begins with a letter is needed"
            wrong.append((f"steps.{number}.name", f"{rule} (found {name!r:.80})"))
        elif name in named:
            wrong.append((f"steps.{number}.name", f"an earlier step is named {name} too"))
        else:
            named[name] = {field: value for field, value in step.items() if field != "name"}
    if wrong:
        raise BadSpec(wrong)
    return named


def _defaulted(common: Mapping, own: Mapping) -> dict:
    """A step with the defaults of its chain. Of two fields that exclude each other, the step's own one counts."""
    said = {**common, **own}
    for field in _MERGED:
        usual, chosen = common.get(field), own.get(field)
        if isinstance(usual, Mapping) and isinstance(chosen, Mapping):
            kept = {name: value for name, value in usual.items() if _INSTEAD.get(name) not in chosen}
            said[field] = {**kept, **chosen}
    return said


def _wrong_references(said: Mapping[str, Any], kinds: Mapping[str, Any], name: str | None) -> Iterator[tuple[str, str]]:
    """(field, problem) of each "@name" in a step that no earlier step fulfils; `kinds` are all steps, in order."""
    order = list(kinds)
    earlier = order[: order.index(name)] if name else []
    for field, step in _named_steps({field: said.get(field) for field in MODEL_FIELDS}):
        if step in earlier and kinds[step] not in WITHOUT_MODEL:
            continue
        if step in earlier:
            yield field, f"step {step!r} makes no model: its kind is {kinds[step]}"
        elif step in order:
            yield field, f"step {step!r} does not come before {name!r}; a step can only use what is made before it"
        else:
            yield field, UnknownName("earlier step", step, earlier).message


def _named_steps(written: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """(dotted field, step) of each "@name" in what a person wrote, which need not be a valid spec."""
    if isinstance(written, str) and written.startswith("@"):
        yield field, written[1:]
    if not isinstance(written, Mapping | list | tuple):
        return
    for part, value in written.items() if isinstance(written, Mapping) else enumerate(written):
        yield from _named_steps(value, f"{field}.{part}" if field else str(part))


def _place(field: str, name: str, own: Mapping, common: Mapping) -> str:
    """Where a person finds what is wrong: among the defaults of the chain, or in the step."""
    top = field.partition(".")[0]
    if top in common and top not in own:
        return field
    return f"steps.{name}" if field == "spec" else f"steps.{name}.{field}"
