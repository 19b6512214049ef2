"""Jobs: every job with its state and progress; ?job=ID in the address opens one.

A page is a view of the store: reloading or closing it changes nothing for a job. What moves is drawn in fragments
that poll; when a job changes its state the whole page is drawn again, and polling stops where nothing moves any more.
"""

import math
from collections.abc import Sequence

import streamlit as st

from trainer import queue
from trainer.queue import Job
from trainer.spec import TRAINED
from workbench.launch import runs, wording
from workbench.pages.parts import job as one
from workbench.pages.parts import run_overlay
from workbench.pages.parts.links import link
from workbench.widgets.polling import follow

ROWS = 10  # jobs on one page of the list


def render() -> None:
    """Draw the list, or the job that the address names."""
    wanted = st.query_params.get("job")
    # A link to the page one is on changes what the script sees, not the address; a reload must show the same.
    others = st.query_params.get_all(run_overlay.KEY)
    st.query_params.from_dict({"job": wanted, run_overlay.KEY: others} if wanted else {})
    if wanted:
        one.render(wanted)
    else:
        _list()


def _list() -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
        st.title("Jobs", width="content", anchor=False)
        link("train", label="New job", icon=":material/add:")
    jobs = queue.jobs()
    if not jobs:
        st.caption("No jobs yet. A job trains or scores a model in the background, and its progress appears here.")
        link("train", label="Describe the first one", icon=":material/model_training:")
        return
    with st.container():  # there also when empty, so that the rows stay the same elements
        _lay_over(jobs)
    page = st.pagination(math.ceil(len(jobs) / ROWS), key="jobs.page") if len(jobs) > ROWS else 1
    moving = _moving(jobs)
    follow(
        lambda: _rows(page, moving),
        every_s=one.POLL_S,
        moving=bool(moving),
        over=lambda: _moving(queue.jobs()) != moving,
    )


def _moving(jobs: Sequence[Job]) -> set[str]:
    return {job.id for job in jobs if not wording.over(job)}


def _lay_over(jobs: Sequence[Job]) -> None:
    """A way from the list to several runs on one chart: the first that is chosen, beside the others."""
    trained = {job.id: job for job in jobs if job.kind in TRAINED and job.step}
    if len(trained) < 2:
        return
    with st.popover("Compare runs", icon=":material/stacked_line_chart:"):
        chosen = st.multiselect(
            "Runs to lay over each other",
            list(trained),
            key="jobs.chosen",
            format_func=lambda job_id: f"{job_id} · {wording.what(trained[job_id])}",
            max_selections=run_overlay.MOST,
        )
        if chosen:
            alike = {job.id for job in runs.comparable(trained[chosen[0]], list(trained.values()))}
            beside = [job_id for job_id in chosen[1:] if job_id in alike]
            if len(beside) < len(chosen) - 1:
                st.caption("Runs that are judged by another score are left out.")
            link("jobs", label="Show them", icon=":material/arrow_forward:", job=chosen[0], **{run_overlay.KEY: beside})


def _rows(page: int, moving: set[str]) -> None:
    jobs = queue.jobs()
    states = [wording.state(job) for job in jobs]
    interrupted = f" · {states.count('interrupted')} interrupted" if "interrupted" in states else ""
    running, ended = states.count("running") + states.count("stopping"), sum(map(wording.over, jobs))
    st.caption(f"{running} running{interrupted} · {states.count('queued')} queued · {ended} ended")
    if moving:
        one.say_if_no_worker()
    for job in jobs[(page - 1) * ROWS : page * ROWS]:
        _row(job)


def _row(job: Job) -> None:
    with st.container(border=True):
        about, how_far = st.columns([3, 2], vertical_alignment="center")
        with about, st.container(gap="xxsmall"):
            with st.container(horizontal=True, vertical_alignment="center"):
                one.badge(job)
                link("jobs", label=job.id, job=job.id)
                st.caption(wording.ago(job.created_at), width="content")
            st.text(wording.what(job), wrap=False)
        with how_far:
            _how_far(job)


def _how_far(job: Job) -> None:
    """Progress while it moves; afterwards the score, or what went wrong."""
    if job.state == "queued":
        st.caption(wording.line(job))
    elif job.state == "running":
        one.progress(job)
    elif job.error:
        st.text(job.error["message"], wrap=False)
    elif scores := wording.scores(job):
        st.caption(" · ".join(f"{label} {value:.3f}" for label, value in scores.items()))
