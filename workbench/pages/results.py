"""Results: the score of every model with its interval and what it costs, and what others published.

The address holds the data set, the kinds of rows, the cost of the chart and the selected rows, by their ids.
"""

import hashlib
from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st
from streamlit.elements.arrow import DataframeStateInput

from workbench import results
from workbench.pages.parts import difference, links, trade_off
from workbench.pages.parts.links import link
from workbench.results import PUBLISHED, STARTER, Row, formats
from workbench.widgets.demo_mode import is_demo

KEY = "results."
EVERY = "All data sets"
KINDS = {
    "finetune": "Fine-tuned",
    "distill": "Distilled",
    "pretrain": "Pre-trained",
    "average": "Averaged",
    "evaluate": "Scored",
    STARTER: "Starter",
    PUBLISHED: "Published",
}
MAX_ROWS = 14  # of the table before it scrolls
PICKED = 2


def render() -> None:
    """Draw the page."""
    st.title("Results", anchor=False)
    st.caption("Scores of your models with what they cost, and what others published. A dash: not measured.")
    every = results.rows()
    names = results.datasets(every)
    _read_address(names)
    shown = _filter(every, names)
    if not shown:
        st.caption("No result matches these filters.")
        _write_address([])
        return
    picked = _table(shown)
    _write_address(picked)
    _explain_columns(shown)
    _downloads(shown)
    trade_off.draw(shown, key=f"{KEY}cost")
    _selected(picked)
    if len(picked) == PICKED:
        difference.draw(every, *picked)


def _read_address(names: Sequence[str]) -> None:
    """Take the choice from a new address: on the first visit, by a link or by the browser's back button."""
    state, query = st.session_state, st.query_params
    address = (query.get("dataset"), tuple(query.get_all("kind")), query.get("cost"), tuple(query.get_all("row")))
    state.setdefault(f"{KEY}wanted", ())
    if not links.has_arrived("results", address, _chosen()):
        return
    dataset, kinds, cost, rows = address
    spelled = {name.casefold(): name for name in (EVERY, *names)}
    state[f"{KEY}dataset"] = spelled.get((dataset or "").casefold(), names[0] if names else EVERY)
    state[f"{KEY}kind"] = [kind for kind in kinds if kind in KINDS]
    state[f"{KEY}cost"] = cost if cost in trade_off.COSTS else next(iter(trade_off.COSTS))
    state[f"{KEY}wanted"] = rows


def _write_address(picked: Sequence[Row]) -> None:
    dataset, kinds, cost = _chosen()
    rows = tuple(row.id for row in picked)
    query = {"dataset": dataset, "kind": list(kinds), "cost": cost, "row": list(rows)}
    links.write("results", (dataset, kinds, cost, rows), _chosen(), query)


def _chosen() -> tuple[str, tuple[str, ...], str]:
    state = st.session_state
    return state.get(f"{KEY}dataset", EVERY), tuple(state.get(f"{KEY}kind", ())), state.get(f"{KEY}cost", "")


def _filter(every: Sequence[Row], names: Sequence[str]) -> list[Row]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        dataset = st.selectbox("Data set", [EVERY, *names], key=f"{KEY}dataset", persist_state="session", width=260)
        kinds = st.multiselect(
            "Kind",
            list(KINDS),
            format_func=lambda kind: KINDS[kind],
            key=f"{KEY}kind",
            persist_state="session",
            placeholder="All",
            width=360,
        )
    return [
        row
        for row in every
        if (dataset == EVERY or row.dataset.casefold() == dataset.casefold()) and (not kinds or row.made in kinds)
    ]


def _table(rows: Sequence[Row]) -> list[Row]:
    """The table; the rows that are selected in it, at most two of those that were scored here."""
    wanted = st.session_state[f"{KEY}wanted"]
    ids = [row.id for row in rows]
    selection: DataframeStateInput = {
        "selection": {"rows": [ids.index(name) for name in dict.fromkeys(wanted) if name in ids][:PICKED]}
    }
    # A filter changes the row numbers of a selection, so each set of rows gets its own table.
    digest = hashlib.sha256("\n".join([*ids, "", *wanted]).encode()).hexdigest()[:12]
    one = len({row.dataset.casefold() for row in rows}) == 1
    event = st.dataframe(
        pd.DataFrame([_cells(row, named=not one) for row in rows]),
        key=f"{KEY}table.{digest}",
        hide_index=True,
        height=35 * (min(len(rows), MAX_ROWS) + 1) + 3,
        on_select="rerun",
        selection_mode="multi-row",
        selection_default=selection,
        column_config=_COLUMNS,
        placeholder="–",
        alt="Models with their score, its 95 % interval, retention, size, latency and memory, and published figures",
    )
    return [rows[number] for number in event.selection.rows]


_COLUMNS = {
    "Model": st.column_config.TextColumn(pinned=True, width="medium"),
    "Score": st.column_config.NumberColumn(format="%.3f"),
    "Published": st.column_config.NumberColumn(format="%.3f", help="What others report, by their rules"),
    "Baseline": st.column_config.NumberColumn(format="%.3f", help="Score of a trivial answer, to be beaten"),
    "Retention": st.column_config.NumberColumn(format="%.1f %%", help="Share of the teacher's score"),
    "Parameters": st.column_config.NumberColumn(format="%.1f M"),
    "Disk": st.column_config.NumberColumn(format="%.0f MB"),
    "p50": st.column_config.NumberColumn(format="%.1f ms", help="Median time per item, one at a time"),
    "p95": st.column_config.NumberColumn(format="%.1f ms", help="95 of 100 items take no longer"),
    "Memory": st.column_config.NumberColumn(format="%.0f MB", help="Peak of the process while it scored"),
    "n": st.column_config.NumberColumn(format="localized"),
}


def _cells(row: Row, *, named: bool) -> dict[str, object]:
    def scaled(value: float | None, factor: float = 1.0) -> float:
        return float("nan") if value is None else value * factor

    known = row.low is not None and row.high is not None
    return {
        "Model": row.model,
        **({"Data set": row.dataset} if named else {}),
        "Score": scaled(row.score),
        "95 % interval": f"{row.low:.3f} to {row.high:.3f}" if known else None,
        "Baseline": scaled(row.baseline),
        "Retention": scaled(row.retention, 100),
        "Parameters": scaled(row.params, 1e-6),
        "Disk": scaled(row.disk_bytes, 1e-6),
        "p50": scaled(row.latency_ms_p50),
        "p95": scaled(row.latency_ms_p95),
        "Memory": scaled(row.peak_memory_bytes, 1e-6),
        "Measured on": formats.measured_on(row) or None,
        "Published": scaled(row.published.value if row.published else None),
        "Kind": KINDS.get(row.made, row.made),
        "Measure": formats.measure_title(row),
        "Split": "" if row.made == PUBLISHED else row.split + (f", first {row.limit:,}" if row.limit else ""),
        "n": scaled(row.n),
        "Source": f"{row.published.source}: {row.published.note or ''}" if row.published else "",
        "Id": row.id,
    }


def _explain_columns(rows: Sequence[Row]) -> None:
    lines = []
    if baselines := sorted({row.baseline_name for row in rows if row.baseline_name}):
        lines.append(f"Baseline: {', '.join(baselines)}.")
    if any(row.retention is not None for row in rows):
        lines.append("Retention is the score divided by that of the row's teacher on the same items.")
    if any(row.published for row in rows):
        lines.append(
            "Published figures are those of their authors, on their data and by their rules: those that count word "
            "pieces are several points higher than scores of words."
        )
    if lines:
        st.caption(" ".join(lines))


def _downloads(rows: Sequence[Row]) -> None:
    with st.container(horizontal=True):
        for label, ending, mime, write in _FORMATS:
            st.download_button(
                label,
                partial(write, rows),
                f"stillroom-results.{ending}",
                mime,
                icon=":material/download:",
                key=f"{KEY}export_{ending}",
                on_click="ignore",
            )


_FORMATS = (
    ("CSV", "csv", "text/csv", formats.as_csv),
    ("LaTeX", "tex", "text/x-tex", formats.as_latex),
    ("JSON", "json", "application/json", formats.as_json),
)


def _selected(picked: Sequence[Row]) -> None:
    """Links to where the selected rows come from."""
    if not picked:
        st.caption("Select a row to open its run or model; select two to compare them item by item.")
        return
    with st.container(horizontal=True):
        for row in picked:
            if row.made in (STARTER, PUBLISHED):
                link("zoo", label=f"{row.model} in the zoo", icon=":material/inventory_2:", model=row.id)
            elif not is_demo():
                link("jobs", label=f"Run {row.id}", icon=":material/list_alt:", job=row.id)
