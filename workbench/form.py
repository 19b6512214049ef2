"""A job spec as a form: one widget a field, built from the schema. A new field of the spec appears by itself.

Labels are the field names, help the descriptions, bounds the constraints. The values live in the session under the
field's dotted name, as BadSpec writes it, so that a problem finds its widget.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import streamlit as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

CHOICES = ("task", "recipe")  # fields that name an entry of a table, whose options follow
WORDS = {"lr": "Learning rate", "clip": "Gradient clipping", "warmup": "Warm-up", "mlm": "Masked LM"}


@dataclass(frozen=True)
class Leaf:
    """One field that a person can set: its dotted name and what the schema says about it."""

    name: str
    info: FieldInfo

    @property
    def type(self) -> Any:
        return _bare(self.info.annotation)

    @property
    def optional(self) -> bool:
        return NoneType in get_args(self.info.annotation)

    @property
    def listed(self) -> bool:
        """True where a list of numbers may be typed instead of one of the names."""
        return any(get_origin(part) is tuple for part in get_args(self.info.annotation))

    @property
    def label(self) -> str:
        last = self.name.rsplit(".", 1)[-1]
        return self.info.title or WORDS.get(last) or last.replace("_", " ").capitalize()

    @property
    def bounds(self) -> dict[str, float]:
        """The constraints: any of gt, ge, lt, le."""
        limits = ("gt", "ge", "lt", "le")
        return {name: getattr(item, name) for item in self.info.metadata for name in limits if hasattr(item, name)}

    @property
    def settled(self) -> bool:
        """True where only one value is allowed, so that there is nothing to choose."""
        if get_origin(self.type) is Literal:
            return len(get_args(self.type)) == 1 and not self.optional
        return "ge" in self.bounds and self.bounds["ge"] == self.bounds.get("le")


def leaves(
    model: type[BaseModel], tables: Mapping[str, Mapping[str, type]], chosen: Mapping[str, str], *, prefix: str = ""
) -> Iterator[Leaf]:
    """The fields of a spec in the order of its schema.

    tables: what may be chosen as task and as recipe, by name; one that is left out, or that is empty, has no field.
    `chosen` says which of them is, whose options follow.
    """
    for name, info in model.model_fields.items():
        kind, dotted = _bare(info.annotation), prefix + name
        if name in CHOICES:
            if not (table := tables.get(name)):
                continue
            if len(table) > 1:
                yield Leaf(f"{dotted}.name", FieldInfo(annotation=Literal[tuple(table)], title=name.capitalize()))
            yield from (leaf for leaf in leaves(table[chosen[name]], {}, {}, prefix=f"{dotted}.") if not leaf.settled)
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, {}, {}, prefix=f"{dotted}.")
        elif not (leaf := Leaf(dotted, info)).settled:
            yield leaf


def fill(fields: Sequence[Leaf], spec: Mapping, *, key: str) -> None:
    """Put the values of a spec (as JobSpec.model_dump gives them) into the widgets."""
    for leaf in fields:
        value: Any = spec
        for part in leaf.name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if leaf.type in (int, float) and not _fits(leaf, value):
            value = None  # stored by a version that allowed it; a widget would refuse to be drawn
        elif leaf.type is float and value is not None:
            value = float(value)
        elif leaf.listed and isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        st.session_state[key + leaf.name] = value


def values(fields: Sequence[Leaf], chosen: Mapping[str, str], *, key: str) -> dict:
    """What the widgets hold, nested as a spec is; fields left empty are left out."""
    spec: dict = {field: {"name": name} for field, name in chosen.items()}
    for leaf in fields:
        value = st.session_state.get(key + leaf.name)
        if value is None or value == "":
            continue
        if leaf.listed and re.match(r"\s*\d", value):
            value = re.findall(r"[^\s,]+", value)
        *groups, last = leaf.name.split(".")
        owner = spec
        for group in groups:
            owner = owner.setdefault(group, {})
        owner[last] = value
    return spec


def assign(problems: Sequence[tuple[str, str]], names: Sequence[str]) -> dict[str, list[str]]:
    """Problems by the field they are shown at; those of a whole group go to the fields they name, else to ''."""
    shown: dict[str, list[str]] = {}
    for name, problem in problems:
        words = set(re.findall(r"\w+", problem))
        # `student.layer_map.tuple.0` is a part of the field `student.layer_map`.
        named = [field for field in names if name == field or name.startswith(f"{field}.")]
        within = [field for field in names if field.startswith(f"{name}.") or name == "spec"]
        for target in (
            sorted(named, key=len)[-1:] or [field for field in within if field.rsplit(".", 1)[-1] in words] or [""]
        ):
            place = shown.setdefault(target, [])
            if (said := problem if target else f"{name}: {problem}") not in place:
                place.append(said)
    return shown


def draw(leaf: Leaf, *, key: str, problems: Sequence[str] = ()) -> None:
    """The widget of one field, and under it what is wrong with its value."""
    common = {"label": leaf.label, "key": key + leaf.name, "help": leaf.info.description, "persist_state": "session"}
    with st.container(gap="xsmall"):
        if get_origin(leaf.type) is Literal:
            own = [st.session_state.get(common["key"])] if leaf.listed else []
            options = [*get_args(leaf.type), *(value for value in own if value and value not in get_args(leaf.type))]
            optional = None if leaf.optional else 0
            st.selectbox(options=options, index=optional, accept_new_options=leaf.listed, **common)
        elif leaf.type is bool and leaf.optional:
            st.selectbox(
                options=(True, False),
                index=None,
                format_func={True: "yes", False: "no"}.get,
                placeholder="as it is",
                **common,
            )
        elif leaf.type is bool:
            st.toggle(**common)
        elif leaf.type in (int, float):
            st.number_input(value=None, placeholder="not set", **_range(leaf), **common)
        else:
            st.text_input(value=None, **common)
        show_problems(problems)


def show_problems(problems: Sequence[str]) -> None:
    """What is wrong, as plain text (it may quote what a person typed)."""
    for problem in problems:
        with st.container(horizontal=True, wrap=False, gap="xsmall"):
            st.markdown(":red[:material/error:]", width="content")
            st.text(problem, width="stretch")


def _fits(leaf: Leaf, value: Any) -> bool:
    limits = _range(leaf)
    low, high = limits["min_value"], limits["max_value"]
    return value is None or ((low is None or value >= low) and (high is None or value <= high))


def _range(leaf: Leaf) -> dict:
    bounds, whole = leaf.bounds, leaf.type is int
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if whole:
        low = low + 1 if "gt" in bounds else low
        high = high - 1 if "lt" in bounds else high
        return {"min_value": low, "max_value": high, "step": 1}
    # A widget cannot exclude its bound; the spec does, and the problem is shown at the field.
    low, high = (None if bound is None else float(bound) for bound in (low, high))
    return {"min_value": low, "max_value": high, "step": _step(leaf.info.default), "format": "%g"}


def _step(default: Any) -> float:
    # One unit of the default's leading digit: 0.0001 moves by 0.0001, 0.1 by 0.1, 3 by 1.
    return 10.0 ** math.floor(math.log10(default)) if isinstance(default, int | float) and default > 0 else 1.0


def _bare(annotation: Any) -> Any:
    """The type under Optional and Annotated."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return _bare(next(part for part in get_args(annotation) if part is not NoneType))
    return annotation
