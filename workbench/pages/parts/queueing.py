"""Queueing on the Train page: the job of the form and the chains that ship; a refusal goes back to its fields."""

from collections.abc import Mapping, Sequence

import streamlit as st

from trainer import queue
from trainer.chain import Chain
from trainer.errors import BadSpec, StillroomError
from trainer.spec import JobSpec
from workbench.launch import draft, form, submission
from workbench.pages.parts.job import say_if_no_worker
from workbench.pages.parts.links import link
from workbench.widgets.messages import plain, show_error

MOST_STEPS = 5  # of a chain that are named one by one


def draw(spec: JobSpec | None, shown: Mapping[str, Sequence[str]], labels: Mapping[str, str]) -> None:
    """The button, and what came of it; `shown` are the problems by field, which stand in its way.

    `labels` are what the fields are called on the page.
    """
    form.show_problems(shown.get("", ()))
    if st.button("Queue this job", type="primary", icon=":material/playlist_add:"):
        st.session_state["train.asked"] = None if shown or spec is None else _queue(spec)
    asked = st.session_state.get("train.asked", "nothing")
    if asked is None and shown:
        st.error(f"Nothing was queued: {len(shown)} field{'s' * (len(shown) != 1)} to correct.")
        for field, problems in shown.items():
            st.text(f"{labels.get(field, field)}: {problems[0]}")
    elif spec and asked and asked[0] == spec.digest:
        _queued(*asked[1:])
    say_if_no_worker()


def _queue(spec: JobSpec) -> tuple[str, str, bool]:
    """Digest of the spec, id of its job, and whether that was there before; draws the page anew with a refusal."""
    before = {job.id for job in queue.jobs()}
    try:
        job = submission.submit(spec)[""]
    except StillroomError as error:
        fields = error.fields if isinstance(error, BadSpec) else [("spec", str(error))]
        st.session_state["train.refused"], st.session_state["train.asked"] = fields, None
        st.rerun()
    return spec.digest, job.id, job.id in before


def _queued(job_id: str, known: bool) -> None:
    job = queue.job(job_id)
    place = f", number {job.place} in line" if job.place else ""
    said = f"This very job is already {job.state}{place}." if known else f"The job is {job.state}{place}."
    with st.container(border=True):
        st.markdown(f":green[:material/check_circle:] {said} Its id is `{job.id}`.")
        link("jobs", label="Follow it", icon=":material/monitoring:", job=job.id)


def draw_chains() -> None:
    """The chains that ship: several jobs in one file, each waiting for what it needs."""
    chains = draft.ready(None)
    if not chains:
        return
    st.header("Chains", anchor=False)
    st.caption("Several jobs in one file, where a later one takes the model that an earlier one makes.")
    for name, ready in chains.items():
        with st.container(border=True), st.container(horizontal=True, vertical_alignment="center"):
            with st.container(gap="xxsmall", width="stretch"):
                st.markdown(f"**{plain(name)}**")
                st.caption(plain(f"{ready.about} {_steps(ready.holds)}".strip()))
            if st.button("Queue", key=f"train.chain.{name}", icon=":material/playlist_add:"):
                _queue_chain(ready)


def _steps(chain: Chain) -> str:
    names = [step.name for step in chain.steps]
    if len(names) > MOST_STEPS:
        return f"{len(names)} jobs, from {names[0]} to {names[-1]}."
    return f"Steps: {' → '.join(names)}."


def _queue_chain(ready: draft.Ready) -> None:
    try:
        jobs = submission.submit(ready.holds)
    except StillroomError as error:
        show_error(error)
        return
    with st.container(gap="xxsmall"):
        for step, job in jobs.items():
            link("jobs", label=f"{plain(step)}: {job.state}", icon=":material/monitoring:", job=job.id)
