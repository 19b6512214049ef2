"""Several runs on one chart, and the fields in which their specs differ."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from trainer import queue
from trainer.queue import Job, metrics
from workbench.launch import runs, wording
from workbench.widgets import charts

MOST = 8  # runs on one chart
KEY = "with"  # the query parameter that names the other runs
PLOT = {"displayModeBar": False}


def draw(job: Job) -> None:
    """The chooser of other runs, and what they look like beside this one."""
    offered = {other.id: other for other in runs.comparable(job, queue.jobs())}
    if not offered:
        return
    st.header("Beside other runs", anchor=False)
    chosen = _choose(job, offered)
    if chosen:
        together = [job, *(offered[job_id] for job_id in chosen)]
        _curves(together)
        _differences(together)


def _choose(job: Job, offered: dict[str, Job]) -> list[str]:
    """The other runs; which they are stands in the address, so that a link shows the same."""
    key = f"jobs.with.{job.id}"
    if key not in st.session_state:
        st.session_state[key] = [name for name in st.query_params.get_all(KEY) if name in offered][: MOST - 1]
    chosen = st.multiselect(
        "Other runs",
        list(offered),
        key=key,
        format_func=lambda job_id: f"{job_id} · {wording.what(offered[job_id])}",
        max_selections=MOST - 1,
        placeholder="Choose runs to lay over this one",
        label_visibility="collapsed",
        persist_state="session",
    )
    if chosen != st.query_params.get_all(KEY):
        st.query_params.from_dict({"job": job.id, KEY: chosen})
    return chosen


def _curves(together: Sequence[Job]) -> None:
    name = runs.score(together[0].spec)
    histories = {job.id: metrics.history(job.id) for job in together}
    drawn = (
        (f"Dev {charts.said(name)}", f"dev_{name}", True),
        ("Training loss", "loss", False),
    )
    for column, (title, metric, scored) in zip(st.columns(2), drawn, strict=True):
        points = {job_id: charts.series(history, metric) for job_id, history in histories.items()}
        figure = charts.overlay_figure(points, title=title, marks=scored, unit=scored)
        with column:
            if figure:
                st.plotly_chart(figure, key=f"jobs.over.{metric}", config=PLOT, alt=f"{title} of several runs")
            else:
                st.caption(f"{title}: no run has one yet.")
    kinds = {job.spec["recipe"]["name"] for job in together if job.spec.get("recipe")}
    if len(kinds) > 1:
        st.caption("The losses are of different recipes: compare their course, not their height.")


def _differences(together: Sequence[Job]) -> None:
    rows = runs.differences({job.id: job.spec for job in together})
    if not rows:
        st.caption("Their specs are the same.")
        return
    scored = {job.id: "".join(f"{value:.3f}" for value in list(wording.scores(job).values())[:1]) for job in together}
    if any(scored.values()):
        rows = {"test score": scored} | rows
    st.markdown("**What differs in their specs**")
    table = pd.DataFrame(rows).T[[job.id for job in together]].rename_axis("field").reset_index()
    st.dataframe(table, hide_index=True, alt="The fields in which the specs of these runs differ")
