"""Several runs on the same charts, and the fields in which their specs differ."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from trainer import queue
from trainer.queue import Job, metrics
from workbench.launch import runs, wording
from workbench.widgets import charts

MAX_RUNS = 8  # on one chart
KEY = "with"  # the query parameter that names the other runs
PLOT = {"displayModeBar": False}


def draw(job: Job) -> None:
    """A chooser for other runs, and their curves and specs beside those of this one."""
    offered = {other.id: other for other in runs.comparable(job, queue.jobs())}
    if not offered:
        return
    st.header("Compare with other runs", anchor=False)
    chosen = _choose(job, offered)
    if chosen:
        compared = [job, *(offered[job_id] for job_id in chosen)]
        _curves(compared)
        _differences(compared)


def _choose(job: Job, offered: dict[str, Job]) -> list[str]:
    """The chosen runs; the address holds them, so that a link shows the same charts."""
    key = f"jobs.with.{job.id}"
    if key not in st.session_state:
        st.session_state[key] = [name for name in st.query_params.get_all(KEY) if name in offered][: MAX_RUNS - 1]
    chosen = st.multiselect(
        "Other runs",
        list(offered),
        key=key,
        format_func=lambda job_id: f"{job_id} · {wording.summary(offered[job_id])}",
        max_selections=MAX_RUNS - 1,
        placeholder="Choose runs to show on the same charts",
        label_visibility="collapsed",
        persist_state="session",
    )
    if chosen != st.query_params.get_all(KEY):
        st.query_params.from_dict({"job": job.id, KEY: chosen})
    return chosen


def _curves(jobs: Sequence[Job]) -> None:
    name = runs.score(jobs[0].spec)
    histories = {job.id: metrics.history(job.id) for job in jobs}
    drawn = (
        (f"Dev {charts.score_title(name)}", f"dev_{name}", True),
        ("Training loss", "loss", False),
    )
    for column, (title, metric, scored) in zip(st.columns(2), drawn, strict=True):
        points = {job_id: charts.series(history, metric) for job_id, history in histories.items()}
        figure = charts.overlay_figure(points, title=title, marks=scored, unit=scored)
        with column:
            if figure:
                st.plotly_chart(figure, key=f"jobs.over.{metric}", config=PLOT, alt=f"{title} of several runs")
            else:
                st.caption(f"{title}: no values yet.")
    kinds = {job.spec["recipe"]["name"] for job in jobs if job.spec.get("recipe")}
    if len(kinds) > 1:
        st.caption("These runs use different losses: compare the shapes of the curves, not their values.")


def _differences(jobs: Sequence[Job]) -> None:
    rows = runs.differences({job.id: job.spec for job in jobs})
    if not rows:
        st.caption("The specs of these runs are identical.")
        return
    scored = {job.id: "".join(f"{value:.3f}" for value in list(wording.scores(job).values())[:1]) for job in jobs}
    if any(scored.values()):
        rows = {"test score": scored} | rows
    st.markdown("**Differences between the specs**")
    table = pd.DataFrame(rows).T[[job.id for job in jobs]].rename_axis("field").reset_index()
    st.dataframe(table, hide_index=True, alt="The fields in which the specs of these runs differ")
