"""A job spec as a form: one widget a field, built from the schema. A new field of the spec appears by itself.

Labels are the field names, help the descriptions, bounds the constraints. The values live in the session under the
field's dotted name, as BadSpec writes it, so that a problem finds its widget.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import streamlit as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

CHOICES = ("task", "recipe")  # fields that name an entry of a table, whose options follow
_WORDS = {None: "as it is", True: "yes", False: "no"}  # of a choice
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

    def held(self, value: Any) -> Any:
        """A value of a spec as the widget of this field holds it: numbers and lists as text."""
        if self.listed and isinstance(value, list | tuple):
            return ", ".join(map(str, value))
        if self.type not in (int, float) or value is None:
            return value
        return f"{value:.12g}" if isinstance(value, float) else str(value)

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
        st.session_state[key + leaf.name] = leaf.held(value)


def values(fields: Sequence[Leaf], chosen: Mapping[str, str], *, key: str) -> dict:
    """What the widgets hold, nested as a spec is; fields left empty are left out."""
    spec: dict = {field: {"name": name} for field, name in chosen.items()}
    for leaf in fields:
        value = st.session_state.get(key + leaf.name)
        if value is None or not str(value).strip():
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
    """The widget of one field, and under it what is wrong with its value.

    A number is a text field. A number field of the browser keeps to itself what is out of its range or no number, and
    a job would run with the value that was there before; what is typed here always reaches the spec, which judges it.
    """
    common = {"label": leaf.label, "key": key + leaf.name, "help": leaf.info.description, "persist_state": "session"}
    with st.container(gap="xsmall"):
        if leaf.listed:
            choose(common["label"], get_args(leaf.type), key=common["key"], help=common["help"])
        elif leaf.type is bool and not leaf.optional:
            st.toggle(**common)
        elif leaf.type is bool or get_origin(leaf.type) is Literal:
            options = (True, False) if leaf.type is bool else get_args(leaf.type)
            # Nothing is an option of its own: in a select box that may be empty, Esc would take away what is chosen.
            options = (None, *options) if leaf.optional else options
            words = {"format_func": lambda value: _WORDS.get(value, value), "placeholder": _WORDS[None]}
            st.selectbox(options=options, **words, **common)
        else:
            st.text_input(value=None, placeholder="not set" if leaf.type in (int, float) else None, **common)
        show_problems(problems)


def choose(label: str, options: Sequence[str], *, key: str, help: str, format_func: Callable = str) -> None:
    """A select box; what is typed there and is no option moves into a text field, where it can be changed.

    In a select box that holds something, typing replaces it: a path that is typed on would lose its beginning.
    """
    held = st.session_state.setdefault(key, None)
    typed = bool(held) and held not in options
    if typed != st.session_state.get(f"{key}.typed", typed):
        st.session_state[key] = held  # the other widget begins with what this one held
    st.session_state[f"{key}.typed"] = typed
    common = {"label": label, "key": key, "help": help, "persist_state": "session"}
    if not typed:
        more = {"placeholder": "Choose, or type another"}
        st.selectbox(options=options, format_func=format_func, accept_new_options=True, **more, **common)
        return
    st.text_input(**common)
    if options:
        back = partial(st.session_state.update, {key: options[0]})
        st.button("Choose from the list", key=f"{key}.list", type="tertiary", icon=":material/list:", on_click=back)


def show_problems(problems: Sequence[str]) -> None:
    """What is wrong, as plain text (it may quote what a person typed)."""
    for problem in problems:
        with st.container(horizontal=True, wrap=False, gap="xsmall"):
            st.markdown(":red[:material/error:]", width="content")
            st.text(problem, width="stretch")


def _bare(annotation: Any) -> Any:
    """The type under Optional and Annotated."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return _bare(next(part for part in get_args(annotation) if part is not NoneType))
    return annotation
