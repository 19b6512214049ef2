"""One job of the Jobs page: state, figures, curves, log, spec as it was stored, and what can be done with it."""

from collections.abc import Callable, Mapping

import streamlit as st
import yaml

from trainer import queue
from trainer.errors import StillroomError
from trainer.queue import Job, published, store
from trainer.run import Run, attempts, checkpoint_step, runs_dir
from trainer.tasks import for_notes
from workbench.launch import wording
from workbench.pages.parts import run_overlay, run_results
from workbench.pages.parts.links import go, link
from workbench.widgets.messages import plain, show_error
from workbench.widgets.polling import follow

POLL_S = 2
LOG_BYTES = 32_000
BADGES = {
    "queued": (":material/schedule:", "gray"),
    "running": (":material/progress_activity:", "blue"),
    "stopping": (":material/pending:", "orange"),
    "interrupted": (":material/pause_circle:", "orange"),
    "succeeded": (":material/check_circle:", "green"),
    "failed": (":material/error:", "red"),
    "cancelled": (":material/cancel:", "gray"),
}


def render(job_id: str) -> None:
    """Draw the job; or that there is none of this id."""
    link("jobs", label="All jobs", icon=":material/arrow_back:")
    try:
        job = queue.job(job_id)
    except StillroomError as error:
        st.title("Jobs", anchor=False)
        show_error(error)
        return
    moving = not wording.over(job)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
        st.title(f"Job {plain(job.id)}", width="content", anchor=False)
        _actions(job)
    st.text(wording.what(job))
    follow(lambda: _state(job), every_s=POLL_S, moving=moving, over=lambda: _changed(job))
    with st.container():  # there also when empty, so that the curves stay the same elements
        _problem(job)
    follow(lambda: run_results.curves(job.id), every_s=POLL_S, moving=moving)
    with st.container():
        if not moving:
            run_results.after(job)
    with st.container():
        run_overlay.draw(job)
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.header("Log", anchor=False)
        follow(lambda: _log(job.id), every_s=POLL_S, moving=moving)
    with right:
        _record(job)


def badge(job: Job) -> None:
    """The state by icon, word and colour."""
    state = wording.state(job)
    icon, color = BADGES[state]
    st.badge(state.capitalize(), icon=icon, color=color)


def progress(job: Job) -> None:
    """The bar of a running job."""
    st.progress(job.progress, text=wording.progress(job) + ("" if job.held else " · waiting for a worker"))


def say_if_no_worker() -> None:
    """How to start a worker, where none is alive."""
    if not queue.workers(store.open_store()):
        st.caption("No worker is running, so jobs wait. Start one in a terminal:")
        st.code("stillroom worker", language="bash")


def _changed(drawn: Job) -> bool:
    """Whether the job is no longer in the state that the page was drawn for."""
    job = queue.job(drawn.id)
    return (wording.state(job), job.attempts) != (wording.state(drawn), drawn.attempts)


def _state(drawn: Job) -> None:
    job = queue.job(drawn.id)
    with st.container(horizontal=True, vertical_alignment="center"):
        badge(job)
        st.caption(wording.times(job), width="content")
    if job.state == "queued":
        st.caption(f"{wording.line(job)}.")
    if job.state == "running":
        progress(job)
    if job.message:
        st.text(job.message)
    if not wording.over(job):
        say_if_no_worker()


def _problem(job: Job) -> None:
    if job.error:
        with st.container(border=True):
            st.markdown(":red[:material/error:] **What went wrong**")
            st.text(job.error["message"])
            if job.error.get("next_step"):
                st.markdown("**What to do next**")
                st.text(job.error["next_step"])


def _log(job_id: str) -> None:
    runs = attempts(runs_dir(), job_id)
    text = _tail(runs[0]) if runs else ""
    if not text:
        st.caption("Nothing has been printed.")
        return
    with st.container(height=320, border=False, autoscroll=True):
        st.code(text, language=None, wrap_lines=True)


def _tail(run: Run) -> str:
    """The last whole lines of the log."""
    try:
        with run.log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_BYTES))
            data = file.read()
    except FileNotFoundError:
        return ""
    whole = data if size <= LOG_BYTES else data[data.find(b"\n") + 1 :]
    return whole.decode(errors="replace").rstrip()


def _record(job: Job) -> None:
    """What stays: the spec as it was stored, never as a form has it; the attempts; where the model is."""
    st.header("Spec, as it was stored", anchor=False)
    text = yaml.safe_dump(_given(job.spec), sort_keys=False, allow_unicode=True)
    with st.container(height=320, border=False):  # st.code that scrolls itself cannot be reached by key
        st.code(text, language="yaml", wrap_lines=True)
    link("train", label="New job from this spec", icon=":material/content_copy:", **{"from": job.id})
    st.caption(f"Attempts: {job.attempts}")
    if job.artifact:
        st.caption("The model is in this folder:")
        st.code(job.artifact, language=None, wrap_lines=True)


def _given(spec: Mapping) -> dict:
    """A stored spec without the fields that are not set."""
    return {
        name: _given(value) if isinstance(value, Mapping) else value
        for name, value in spec.items()
        if value is not None
    }


def _actions(job: Job) -> None:
    with st.container(horizontal=True, width="content"):
        if wording.state(job) in ("queued", "running", "interrupted"):
            with st.popover("Cancel", icon=":material/cancel:"):
                st.markdown("Stop this job? Its last checkpoint is kept, so that it can go on later.")
                st.button("Cancel this job", on_click=_act, args=(queue.cancel, job.id))
        if job.state in ("failed", "cancelled"):
            step = _last_checkpoint(job.id)
            label = f"Go on from step {step:,}" if step else "Try again"
            st.button(label, type="primary", on_click=_act, args=(queue.retry, job.id))
            if step or (job.error and job.error["type"] == "CorruptFile"):  # its data or models have changed
                st.button("Start afresh", on_click=_act, args=(queue.retry, job.id), kwargs={"fresh": True})
        if job.artifact and st.button("Compare this model", type="primary", icon=":material/compare:"):
            go("compare", model=_beside(job.id))


def _act(action: Callable[..., Job], job_id: str, **options: bool) -> None:
    """Do what a button says and show the job that came of it: starting afresh makes a new one."""
    try:
        st.query_params["job"] = action(job_id, **options).id
    except StillroomError as error:
        show_error(error)


def _last_checkpoint(job_id: str) -> int | None:
    found = [run.checkpoints() for run in attempts(runs_dir(), job_id)[:1]]
    return checkpoint_step(found[0][0]) if found and found[0] else None


def _beside(run_id: str) -> list[str]:
    """The arms of a first comparison: the new model and another with labels in common, or itself cut off."""
    ready = {entry.id: entry for entry in published.ready(task=for_notes())}
    own = ready.get(run_id)
    others = [
        name
        for name, entry in ready.items()
        if own and name != run_id and entry.task == own.task and set(entry.labels) & set(own.labels)
    ]
    return [run_id, others[0] if others else f"{run_id}@truncate"]
