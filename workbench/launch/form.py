"""A job spec as a form: one widget per field, built from the schema. A new field of the spec appears by itself.

Field names give the labels, descriptions the help texts. Values are kept in the session under the field's dotted name
as BadSpec writes it, so that a problem can be shown at its widget.
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
_OPTION_LABELS = {None: "unchanged", True: "yes", False: "no"}
FIELD_LABELS = {"lr": "Learning rate", "clip": "Gradient clipping", "warmup": "Warm-up", "mlm": "Masked LM"}


@dataclass(frozen=True)
class Leaf:
    """A field that a person can set: its dotted name and its schema."""

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
        """Whether a list of numbers may be typed instead of one of the names."""
        return any(get_origin(part) is tuple for part in get_args(self.info.annotation))

    @property
    def label(self) -> str:
        last = self.name.rsplit(".", 1)[-1]
        return self.info.title or FIELD_LABELS.get(last) or last.replace("_", " ").capitalize()

    @property
    def bounds(self) -> dict[str, float]:
        """The constraints: any of gt, ge, lt, le."""
        limits = ("gt", "ge", "lt", "le")
        return {name: getattr(item, name) for item in self.info.metadata for name in limits if hasattr(item, name)}

    def widget_value(self, value: object) -> object:
        """A value of a spec as the widget of this field holds it: numbers and lists as text."""
        if self.listed and isinstance(value, list | tuple):
            return ", ".join(map(str, value))
        if self.type not in (int, float) or value is None:
            return value
        return f"{value:.12g}" if isinstance(value, float) else str(value)

    @property
    def fixed(self) -> bool:
        """Whether only one value is allowed, so that there is nothing to choose."""
        if get_origin(self.type) is Literal:
            return len(get_args(self.type)) == 1 and not self.optional
        return "ge" in self.bounds and self.bounds["ge"] == self.bounds.get("le")


def leaves(
    model: type[BaseModel],
    tables: Mapping[str, Mapping[str, type[BaseModel]]],
    chosen: Mapping[str, str],
    *,
    prefix: str = "",
) -> Iterator[Leaf]:
    """The fields of a spec in the order of its schema.

    tables: the tasks and recipes to choose from, by field and name; a field without a table is left out.
    chosen: the name of the chosen task and recipe, whose options follow it.
    """
    for name, info in model.model_fields.items():
        kind, dotted = _bare(info.annotation), prefix + name
        if name in CHOICES:
            if not (table := tables.get(name)):
                continue
            if len(table) > 1:
                names: Any = Literal[tuple(table)]  # known at run time alone
                yield Leaf(f"{dotted}.name", FieldInfo(annotation=names, title=name.capitalize()))
            yield from (leaf for leaf in leaves(table[chosen[name]], {}, {}, prefix=f"{dotted}.") if not leaf.fixed)
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, {}, {}, prefix=f"{dotted}.")
        elif not (leaf := Leaf(dotted, info)).fixed:
            yield leaf


def fill(fields: Sequence[Leaf], spec: Mapping[str, Any], *, key: str) -> None:
    """Put the values of a spec, as JobSpec.model_dump returns them, into the widgets."""
    for leaf in fields:
        value: Any = spec
        for part in leaf.name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        st.session_state[key + leaf.name] = leaf.widget_value(value)


def values(fields: Sequence[Leaf], chosen: Mapping[str, str], *, key: str) -> dict[str, Any]:
    """The values of the widgets, nested as in a spec; empty fields are left out."""
    spec: dict[str, Any] = {field: {"name": name} for field, name in chosen.items()}
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
    """Problems by the field to show them at; those of a whole group go to the fields they mention, or else to ""."""
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
            if (line := problem if target else f"{name}: {problem}") not in place:
                place.append(line)
    return shown


def draw(leaf: Leaf, *, key: str, problems: Sequence[str] = ()) -> None:
    """The widget of one field, with the problems of its value below it.

    Numbers are typed into text fields: a browser's number field does not report an invalid value, so that a job would
    run with the previous one. Whatever is typed here reaches the spec and is checked there.
    """
    label, key, help = leaf.label, key + leaf.name, leaf.info.description
    with st.container(gap="xsmall"):
        if leaf.listed:
            choose(label, get_args(leaf.type), key=key, help=help)
        elif leaf.type is bool and not leaf.optional:
            st.toggle(label, key=key, help=help, persist_state="session")
        elif leaf.type is bool or get_origin(leaf.type) is Literal:
            options = (True, False) if leaf.type is bool else get_args(leaf.type)
            st.selectbox(
                label,
                # None is an option of its own: in a select box that may be empty, Esc would clear the choice.
                (None, *options) if leaf.optional else options,
                format_func=lambda value: _OPTION_LABELS.get(value, value),
                placeholder=_OPTION_LABELS[None],
                key=key,
                help=help,
                persist_state="session",
            )
        else:
            placeholder = "not set" if leaf.type in (int, float) else None
            st.text_input(label, None, placeholder=placeholder, key=key, help=help, persist_state="session")
        show_problems(problems)


def choose(
    label: str, options: Sequence[str], *, key: str, help: str | None, format_func: Callable[[str], str] = str
) -> None:
    """A select box; a typed value that is not an option moves into a text field, where it can be edited.

    Typing in a select box replaces its value, so a path could not be continued there.
    """
    value = st.session_state.setdefault(key, None)
    typed = bool(value) and value not in options
    if typed != st.session_state.get(f"{key}.typed", typed):
        st.session_state[key] = value  # the other widget starts with the same value
    st.session_state[f"{key}.typed"] = typed
    if not typed:
        st.selectbox(
            label,
            options,
            format_func=format_func,
            accept_new_options=True,
            placeholder="Choose from the list or type another",
            key=key,
            help=help,
            persist_state="session",
        )
        return
    st.text_input(label, key=key, help=help, persist_state="session")
    if options:
        back = partial(st.session_state.update, {key: options[0]})
        st.button("Choose from the list", key=f"{key}.list", type="tertiary", icon=":material/list:", on_click=back)


def show_problems(problems: Sequence[str]) -> None:
    """Problems as plain text, since they may quote what a person typed."""
    for problem in problems:
        with st.container(horizontal=True, wrap=False, gap="xsmall"):
            st.markdown(":red[:material/error:]", width="content")
            st.text(problem, width="stretch")


def _bare(annotation: Any) -> Any:
    """The type under Optional and Annotated."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return _bare(next(part for part in get_args(annotation) if part is not NoneType))
    return annotation
