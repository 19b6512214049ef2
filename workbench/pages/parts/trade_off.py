"""The chart of quality against cost on the Results page: what no other model beats in both, and what is beaten."""

from collections.abc import Sequence
from typing import NamedTuple

import streamlit as st

from workbench.results import PUBLISHED, Row, formats, front
from workbench.widgets import charts


class Cost(NamedTuple):
    """A cost: its title, its unit, and the factor from a row's value to that unit."""

    title: str
    unit: str
    factor: float


COSTS = {
    "params": Cost("Parameters", "millions", 1e-6),
    "disk_bytes": Cost("Disk", "MB", 1e-6),
    "latency_ms_p50": Cost("Median time per item", "ms", 1.0),
    "latency_ms_p95": Cost("95th percentile of the time per item", "ms", 1.0),
    "peak_memory_bytes": Cost("Peak memory", "MB", 1e-6),
}


def draw(rows: Sequence[Row], *, key: str) -> None:
    """The chart of the rows that can be compared with each other: the largest such group of those shown."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.made != PUBLISHED and row.score is not None:
            groups.setdefault(row.group, []).append(row)
    if not groups:
        return
    st.header("Quality against cost", anchor=False)
    if len({row.dataset.casefold() for group in groups.values() for row in group}) > 1:
        st.caption("Choose one data set to see its models.")
        return
    name = st.selectbox(
        "Cost",
        list(COSTS),
        format_func=lambda name: COSTS[name].title,
        key=key,
        persist_state="session",
        width=320,
    )
    cost, group = COSTS[name], max(groups.values(), key=len)
    measured = [row for row in group if getattr(row, name) is not None]
    if not measured:
        st.caption(f"{cost.title}: not measured for any of these models. Scoring one as a job measures it.")
        return
    points = [(getattr(row, name) * cost.factor, row.score or 0.0) for row in measured]
    best = front(points)
    title = f"{charts.capitalised(formats.measure_title(measured[0]))} ({measured[0].split})"
    figure = charts.trade_off_figure(
        [(row.model, *point) for row, point in zip(measured, points, strict=True)],
        best,
        limits=[(row.low, row.high) for row in measured],
        x_title=f"{cost.title} ({cost.unit})",
        y_title=title,
    )
    alt = f"{title} against {cost.title.lower()} of {len(measured)} models; dominated ones are grey"
    st.plotly_chart(figure, key=f"{key}.chart", config={"displayModeBar": False}, alt=alt)
    lines = ["Dominated, in grey: another model is at least as good and costs no more. Bars: 95 % intervals."]
    if len(measured) < len(group):
        lines.append(f"Not measured for {len(group) - len(measured)} of {len(group)} models.")
    if len(groups) > 1:
        lines.append("Rows of another split, measure or part of the data are left out.")
    if name.startswith(("latency", "peak")) and (places := sorted({formats.measured_on(row) for row in measured})):
        lines.append(f"Measured on: {'; '.join(place or 'unknown' for place in places)}.")
    st.caption(" ".join(lines))
