"""Queueing on the Train page: the job of the form, and the chains that ship; problems are shown at their fields."""

from collections.abc import Mapping, Sequence

import streamlit as st

from trainer import queue
from trainer.chain import Chain
from trainer.errors import BadSpec, StillroomError
from trainer.spec import JobSpec
from workbench.launch import form, submission
from workbench.launch.draft import ReadyMade, ready_chains
from workbench.pages.parts.job import warn_if_no_worker
from workbench.pages.parts.links import link
from workbench.widgets.messages import plain, show_error

MAX_STEPS = 5  # of a chain that are named one by one


def draw(spec: JobSpec | None, shown: Mapping[str, Sequence[str]], labels: Mapping[str, str]) -> None:
    """The button and its outcome.

    shown: problems by field, which prevent queueing. labels: the fields' labels on the page.
    """
    form.show_problems(shown.get("", ()))
    if st.button("Queue this job", type="primary", icon=":material/playlist_add:"):
        st.session_state["train.queued"] = None if shown or spec is None else _queue(spec)
    outcome = st.session_state.get("train.queued", "nothing")
    if outcome is None and shown:
        st.error(f"The job was not queued. Correct {len(shown)} field{'s' * (len(shown) != 1)}:")
        for field, problems in shown.items():
            st.text(f"{labels.get(field, field)}: {problems[0]}")
    elif spec and outcome and outcome[0] == spec.digest:
        _show_queued(*outcome[1:])
    warn_if_no_worker()


def _queue(spec: JobSpec) -> tuple[str, str, bool]:
    """Queue the spec; returns its digest, the job's id and whether the job existed. Redraws the page on a problem."""
    existing = {job.id for job in queue.jobs()}
    try:
        job = submission.submit(spec)[""]
    except StillroomError as error:
        fields = error.fields if isinstance(error, BadSpec) else [("spec", str(error))]
        st.session_state["train.refused"], st.session_state["train.queued"] = fields, None
        st.rerun()
    return spec.digest, job.id, job.id in existing


def _show_queued(job_id: str, existed: bool) -> None:
    job = queue.job(job_id)
    position = f", position {job.place} in the queue" if job.place else ""
    message = f"This job is already {job.state}{position}." if existed else f"The job is {job.state}{position}."
    with st.container(border=True):
        st.markdown(f":green[:material/check_circle:] {message} Its id is `{job.id}`.")
        link("jobs", label="View progress", icon=":material/monitoring:", job=job.id)


def draw_chains() -> None:
    """The chains that ship, each with a button that queues its jobs."""
    chains = ready_chains()
    if not chains:
        return
    st.header("Chains", anchor=False)
    st.caption("Several jobs in one file; later jobs use the models of earlier ones.")
    for name, chain in chains.items():
        with st.container(border=True), st.container(horizontal=True, vertical_alignment="center"):
            with st.container(gap="xxsmall", width="stretch"):
                st.markdown(f"**{plain(name)}**")
                st.caption(plain(f"{chain.about} {_steps(chain.content)}".strip()))
            if st.button("Queue", key=f"train.chain.{name}", icon=":material/playlist_add:"):
                _queue_chain(chain)


def _steps(chain: Chain) -> str:
    names = [step.name for step in chain.steps]
    if len(names) > MAX_STEPS:
        return f"{len(names)} jobs, from {names[0]} to {names[-1]}."
    return f"Steps: {' → '.join(names)}."


def _queue_chain(chain: ReadyMade[Chain]) -> None:
    try:
        jobs = submission.submit(chain.content)
    except StillroomError as error:
        show_error(error)
        return
    with st.container(gap="xxsmall"):
        for step, job in jobs.items():
            link("jobs", label=f"{plain(step)}: {job.state}", icon=":material/monitoring:", job=job.id)
