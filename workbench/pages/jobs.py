"""Jobs: every job with its state and progress; ?job=ID in the address opens one.

The page only shows the store: reloading or closing it has no effect on a job. Active jobs are drawn in fragments that
poll; when a job changes its state the whole page is drawn again, and polling stops once no job is active.
"""

import math
from collections.abc import Sequence

import streamlit as st

from trainer import queue
from trainer.queue import Job
from trainer.spec import TRAINED
from workbench.launch import runs, wording
from workbench.pages.parts import job as job_view
from workbench.pages.parts import run_overlay
from workbench.pages.parts.links import link
from workbench.widgets.polling import follow

ROWS = 10  # jobs per page of the list


def render() -> None:
    """Draw the list, or the job that the address names."""
    wanted = st.query_params.get("job")
    # A link to the current page changes what the script sees but not the address, and a reload must show the same.
    others = st.query_params.get_all(run_overlay.KEY)
    st.query_params.from_dict({"job": wanted, run_overlay.KEY: others} if wanted else {})
    if wanted:
        job_view.render(wanted)
    else:
        _list()


def _list() -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
        st.title("Jobs", width="content", anchor=False)
        link("train", label="New job", icon=":material/add:")
    jobs = queue.jobs()
    if not jobs:
        st.caption("No jobs yet. A job trains or scores a model in the background, and its progress appears here.")
        link("train", label="Set up the first job", icon=":material/model_training:")
        return
    with st.container():  # present even when empty, so that the rows stay the same elements
        _choose_runs(jobs)
    page = st.pagination(math.ceil(len(jobs) / ROWS), key="jobs.page") if len(jobs) > ROWS else 1
    active = _active(jobs)
    follow(
        lambda: _rows(page, active),
        every_s=job_view.POLL_S,
        moving=bool(active),
        done=lambda: _active(queue.jobs()) != active,
    )


def _active(jobs: Sequence[Job]) -> set[str]:
    return {job.id for job in jobs if not wording.has_ended(job)}


def _choose_runs(jobs: Sequence[Job]) -> None:
    """A menu that opens several runs on the same charts."""
    trained = {job.id: job for job in jobs if job.kind in TRAINED and job.step}
    if len(trained) < 2:
        return
    with st.popover("Compare runs", icon=":material/stacked_line_chart:"):
        chosen = st.multiselect(
            "Runs to show on the same charts",
            list(trained),
            key="jobs.chosen",
            format_func=lambda job_id: f"{job_id} · {wording.summary(trained[job_id])}",
            max_selections=run_overlay.MAX_RUNS,
        )
        if chosen:
            comparable = {job.id for job in runs.comparable(trained[chosen[0]], list(trained.values()))}
            others = [job_id for job_id in chosen[1:] if job_id in comparable]
            if len(others) < len(chosen) - 1:
                st.caption("Runs with a different main score are left out.")
            link("jobs", label="Show", icon=":material/arrow_forward:", job=chosen[0], **{run_overlay.KEY: others})


def _rows(page: int, active: set[str]) -> None:
    jobs = queue.jobs()
    states = [wording.state(job) for job in jobs]
    interrupted = f" · {states.count('interrupted')} interrupted" if "interrupted" in states else ""
    running, ended = states.count("running") + states.count("stopping"), sum(map(wording.has_ended, jobs))
    st.caption(f"{running} running{interrupted} · {states.count('queued')} queued · {ended} ended")
    if active:
        job_view.warn_if_no_worker()
    for job in jobs[(page - 1) * ROWS : page * ROWS]:
        _row(job)


def _row(job: Job) -> None:
    with st.container(border=True):
        about, outcome = st.columns([3, 2], vertical_alignment="center")
        with about, st.container(gap="xxsmall"):
            with st.container(horizontal=True, vertical_alignment="center"):
                job_view.badge(job)
                link("jobs", label=job.id, job=job.id)
                st.caption(wording.ago(job.created_at), width="content")
            st.text(wording.summary(job))
        with outcome:
            _progress_or_outcome(job)


def _progress_or_outcome(job: Job) -> None:
    """Progress while the job is active; afterwards its score or error."""
    if job.state == "queued":
        st.caption(wording.queue_position(job))
    elif job.state == "running":
        job_view.progress(job)
    elif job.error:
        st.text(job.error["message"], wrap=False)
    elif scores := wording.scores(job):
        st.caption(" · ".join(f"{label} {value:.3f}" for label, value in scores.items()))
