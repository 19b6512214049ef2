"""Zoo: every model of the zoo file and every published run; a selected one shows its origin and scores."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import streamlit as st
from streamlit.elements.arrow import DataframeStateInput

from trainer import zoo
from trainer.errors import UnknownName
from trainer.queue import published
from trainer.tasks import TASKS, for_notes
from trainer.zoo import ModelEntry
from trainer.zoo.attention_pattern import reach
from trainer.zoo.outputs import ENCODER
from workbench.pages.parts.links import link
from workbench.widgets.demo_mode import is_demo
from workbench.widgets.messages import plain, show_error

KEY = "zoo."
MAX_ROWS = 12  # of the table before it scrolls


class Row(NamedTuple):
    """A model and whether its weights are on this machine."""

    entry: ModelEntry
    here: bool


def render() -> None:
    """Draw the page."""
    st.title("Zoo", anchor=False)
    entries = [*zoo.entries().values(), *published.runs()]
    rows = [Row(entry, zoo.weights_here(entry) is not None) for entry in entries]
    here = sum(row.here for row in rows)
    st.caption(f"{len(rows)} models; the weights of {here} are on this machine.")
    matching = _filter(rows)
    if not matching:
        st.caption("No model matches these filters.")
        return
    wanted = st.query_params.get("model")
    if wanted and wanted not in {row.entry.id for row in rows}:
        show_error(UnknownName("model", wanted, [row.entry.id for row in rows]))
    chosen = _table(matching, wanted)
    if chosen:
        _detail(chosen)
    else:
        st.caption("Select a row to see a model's origin, its published scores and how to get it.")


def _filter(rows: Sequence[Row]) -> list[Row]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Search", key=f"{KEY}text", type="search", live=True, placeholder="Name, id, teacher, data set", width=260
        )
        families = st.multiselect("Family", _values(rows, "family"), key=f"{KEY}family", width=220, placeholder="All")
        roles = st.multiselect("Role", _values(rows, "role"), key=f"{KEY}role", width=220, placeholder="All")
        only_here = st.toggle("On this machine", key=f"{KEY}here")
    return [
        row
        for row in rows
        if (not families or row.entry.family in families)
        and (not roles or row.entry.role in roles)
        and (row.here or not only_here)
        and all(word in _search_text(row.entry) for word in text.lower().split())
    ]


def _values(rows: Sequence[Row], name: str) -> list[str]:
    return sorted({getattr(row.entry, name) for row in rows})


def _search_text(entry: ModelEntry) -> str:
    texts = (entry.id, entry.name, entry.hub_id, entry.family, entry.role, entry.teacher, entry.start, entry.notes)
    return " ".join(filter(None, (*texts, *(figure["dataset"] or "" for figure in entry.reported)))).lower()


def _table(rows: Sequence[Row], wanted: str | None) -> Row | None:
    """The table with the model from the address selected; a new selection is written to the address."""
    ids = [row.entry.id for row in rows]
    selection: DataframeStateInput = {"selection": {"rows": [ids.index(wanted)] if wanted in ids else []}}
    # A filter changes the row numbers of a selection, so each set of rows gets its own table.
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:12]
    event = st.dataframe(
        pd.DataFrame([_cells(row) for row in rows]),
        key=f"{KEY}table.{digest}",
        hide_index=True,
        height=35 * (min(len(rows), MAX_ROWS) + 1) + 3,
        on_select="rerun",
        selection_mode="single-row",
        selection_default=selection,
        column_config=_COLUMNS,
        alt="Models with their parameters, context, licence and whether their weights are on this machine",
    )
    if not event.selection.rows:
        st.query_params.pop("model", None)
        return None
    chosen = rows[event.selection.rows[0]]
    st.query_params["model"] = chosen.entry.id
    return chosen


_COLUMNS = {
    "Model": st.column_config.TextColumn(width=270),  # as wide as the longest name
    "Parameters": st.column_config.NumberColumn(format="%.1f M", help="Of the encoder, without the head"),
    "Context": st.column_config.NumberColumn(format="localized", help="Longest input in tokens"),
    "Family": st.column_config.TextColumn(width=165),
    "Ready": st.column_config.TextColumn(help="Whether the weights are on this machine", width=60),
}


def _cells(row: Row) -> dict[str, object]:
    entry = row.entry
    return {
        "Model": entry.name,
        "Ready": "yes" if row.here else "no",
        "Parameters": (entry.params.get("encoder") or float("nan")) / 1e6,
        "Context": entry.max_tokens,
        "Family": entry.family,
        "Role": entry.role,
        "Casing": _casing(entry),
        "Licence": entry.licence or "",
        "Id": entry.id,
    }


def _casing(entry: ModelEntry) -> str:
    """The vocabulary's casing, and whether the tokenizer lower-cases all the same."""
    cased, lower = entry.tokenizer["cased"], entry.tokenizer["lower_case"]
    casing = {True: "cased", False: "uncased", None: ""}[cased]
    return f"{casing}, lower-cased" if cased and lower else casing


def _detail(row: Row) -> None:
    entry = row.entry
    with st.container(border=True):
        st.header(plain(entry.name), anchor=False)
        with st.grid(3, min_column_width=220):
            for label, value in _facts(row).items():
                with st.container(gap="xxsmall"):
                    st.caption(label)
                    st.text(value)
        if entry.notes:
            st.text(entry.notes)
        _reported(entry)
        _next(row)


def _facts(row: Row) -> dict[str, str]:
    """The known facts of a model, in the order in which they are shown; unknown ones are left out."""
    entry = row.entry
    counts = [f"{count:,} {_PARTS[part]}" for part, count in entry.params.items() if count]
    stated = [f"{entry.stated_params:,} according to its authors"] if entry.stated_params else []
    tokenizer = (entry.tokenizer["kind"], entry.tokenizer["vocab"], _casing(entry))
    facts = {
        "Id": entry.id,
        "Hub id": entry.hub_id,
        "Revision": (entry.revision or "not pinned") if entry.hub_id else None,
        "Licence": entry.licence or "not known",
        "Architecture": ", ".join(f"{name} {_short(value)}" for name, value in entry.architecture.items()),
        "Parameters": "; ".join([*counts, *stated]),
        "Tokenizer": ", ".join(filter(None, tokenizer)),
        "Context": f"{entry.max_tokens:,} tokens",
        "Attention": _attention(entry),
        "Task and labels": f"{entry.task}: {', '.join(entry.labels)}" if entry.task else None,
        "Teacher": entry.teacher,
        "Trained from": entry.start,
    }
    return {label: value for label, value in facts.items() if value}


def _attention(entry: ModelEntry) -> str | None:
    """The attention pattern, where a token does not attend to the whole input."""
    attention = reach(entry.architecture, head=TASKS[entry.task].head if entry.task else ENCODER.name)
    return None if attention.side is None else attention.words


_PARTS = {"encoder": "encoder", "mlm": "with the masked-LM head"}


def _short(value: object) -> str:
    # One number for a list that repeats it, such as the attention window of each layer.
    if isinstance(value, list) and len(value) > 1 and len(set(map(str, value))) == 1:
        return f"{value[0]} × {len(value)}"
    return str(value)


def _reported(entry: ModelEntry) -> None:
    if not entry.reported:
        return
    st.markdown("**Scores of this run**" if entry.source == "run" else "**Published scores**")
    names = {"metric": "Metric", "dataset": "Data set", "value": "Value", "source": "Source", "note": "Note"}
    table = pd.DataFrame([dict(figure) for figure in entry.reported]).rename(columns=names).fillna("")
    value = st.column_config.NumberColumn(format="localized")
    alt = "Scores with their sources"
    st.dataframe(table, hide_index=True, column_config={"Value": value}, alt=alt)
    if entry.source != "run":
        st.caption("The source tags are explained at the top of model_zoo.yaml.")


def _next(row: Row) -> None:
    """Links to use the model, or how to get it."""
    name = row.entry.id
    if row.here:
        with st.container(horizontal=True):
            if row.entry.task in for_notes():
                link("compare", label="Compare on a note", icon=":material/compare:", model=[name, f"{name}@truncate"])
            if not is_demo():
                link("train", label="Fine-tune", icon=":material/model_training:", model=name)
            if row.entry.source == "run":
                link("jobs", label="Open its job", icon=":material/monitoring:", job=name)
        return
    if is_demo():
        st.text("Its weights are not part of this demo. Run Stillroom on your own machine to download or build it.")
        return
    commands = [f"stillroom zoo fetch {name}"] if row.entry.source == "hub" and row.entry.hub_id else []
    commands += [] if row.entry.cannot_build else [f"stillroom zoo build {name} --out models/{name}"]
    st.markdown("**Its weights are not on this machine**")
    if commands:
        st.caption("Download it from the Hub, or build it with random weights and without a network:")
        st.code("\n".join(commands), language="bash", wrap_lines=True)
    else:
        st.text(zoo.remedies(row.entry))
    if row.entry.cannot_build:
        st.text(f"It cannot be built: {row.entry.cannot_build}")
