"""One job on the Jobs page: state, figures, curves, log, stored spec and actions."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import streamlit as st
import yaml

from trainer import queue
from trainer.errors import StillroomError
from trainer.home import runs_dir
from trainer.queue import Job, published, store
from trainer.run import Run, attempts, checkpoint_step
from trainer.tasks import for_notes
from workbench.launch import wording
from workbench.pages.parts import run_overlay, run_results
from workbench.pages.parts.links import go, link
from workbench.widgets.messages import plain, show_error
from workbench.widgets.polling import follow

POLL_S = 2
LOG_BYTES = 32_000
BADGES: dict[str, tuple[str, Literal["gray", "blue", "orange", "green", "red"]]] = {
    "queued": (":material/schedule:", "gray"),
    "running": (":material/progress_activity:", "blue"),
    "stopping": (":material/pending:", "orange"),
    "interrupted": (":material/pause_circle:", "orange"),
    "succeeded": (":material/check_circle:", "green"),
    "failed": (":material/error:", "red"),
    "cancelled": (":material/cancel:", "gray"),
}


def render(job_id: str) -> None:
    """Draw the job, or an error if there is no job with this id."""
    link("jobs", label="All jobs", icon=":material/arrow_back:")
    try:
        job = queue.job(job_id)
    except StillroomError as error:
        st.title("Jobs", anchor=False)
        show_error(error)
        return
    active = not wording.has_ended(job)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
        st.title(f"Job {plain(job.id)}", width="content", anchor=False)
        _actions(job)
    st.text(wording.summary(job))
    follow(lambda: _state(job), every_s=POLL_S, moving=active, done=lambda: _changed(job))
    with st.container():  # present even when empty, so that the curves stay the same elements
        _problem(job)
    follow(lambda: run_results.curves(job.id), every_s=POLL_S, moving=active)
    with st.container():
        if not active:
            run_results.final(job)
    with st.container():
        run_overlay.draw(job)
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.header("Log", anchor=False)
        follow(lambda: _log(job.id), every_s=POLL_S, moving=active)
    with right:
        _record(job)


def badge(job: Job) -> None:
    """The state as icon, word and colour."""
    state = wording.state(job)
    icon, color = BADGES[state]
    st.badge(state.capitalize(), icon=icon, color=color)


def progress(job: Job) -> None:
    """The progress bar of a running job."""
    st.progress(job.progress, text=wording.progress(job) + ("" if job.held else " · waiting for a worker"))


def warn_if_no_worker() -> None:
    """Show how to start a worker if none is alive."""
    if not queue.workers(store.open_store()):
        st.caption("No worker is running, so jobs stay in the queue. Start one in a terminal:")
        st.code("stillroom worker", language="bash")


def _changed(drawn: Job) -> bool:
    """Whether the job's state has changed since the page was drawn."""
    job = queue.job(drawn.id)
    return (wording.state(job), job.attempts) != (wording.state(drawn), drawn.attempts)


def _state(drawn: Job) -> None:
    job = queue.job(drawn.id)
    with st.container(horizontal=True, vertical_alignment="center"):
        badge(job)
        st.caption(wording.times(job), width="content")
    if job.state == "queued":
        st.caption(f"{wording.queue_position(job)}.")
    if job.state == "running":
        progress(job)
    if job.message:
        st.text(job.message)
    if not wording.has_ended(job):
        warn_if_no_worker()


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
        st.caption("The log is empty.")
        return
    with st.container(height=320, border=False, autoscroll=True):
        st.code(text, language=None, wrap_lines=True)


def _tail(run: Run) -> str:
    """The last complete lines of the log."""
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
    """The stored spec, the number of attempts and the folder of the model."""
    st.header("Stored spec", anchor=False)
    text = yaml.safe_dump(_set_fields(job.spec), sort_keys=False, allow_unicode=True)
    with st.container(height=320, border=False):  # st.code with its own scrolling cannot be reached by keyboard
        st.code(text, language="yaml", wrap_lines=True)
    link("train", label="New job from this spec", icon=":material/content_copy:", **{"from": job.id})
    st.caption(f"Attempts: {job.attempts}")
    if job.artifact:
        st.caption("The model is in this folder:")
        st.code(job.artifact, language=None, wrap_lines=True)


def _set_fields(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A stored spec without unset fields."""
    return {
        name: _set_fields(value) if isinstance(value, Mapping) else value
        for name, value in spec.items()
        if value is not None
    }


def _actions(job: Job) -> None:
    with st.container(horizontal=True, width="content"):
        if wording.state(job) in ("queued", "running", "interrupted"):
            with st.popover("Cancel", icon=":material/cancel:"):
                st.markdown("Cancel this job? Its last checkpoint is kept, so that it can be resumed later.")
                st.button("Cancel this job", on_click=_act, args=(queue.cancel, job.id))
        if job.state in ("failed", "cancelled"):
            step = _last_checkpoint(job.id)
            label = f"Resume from step {step:,}" if step else "Retry"
            st.button(label, type="primary", on_click=_act, args=(queue.retry, job.id))
            if step or (job.error and job.error["type"] == "CorruptFile"):  # its data or models have changed
                st.button("Start over", on_click=_act, args=(queue.retry, job.id), kwargs={"fresh": True})
        if job.artifact and st.button("Compare this model", type="primary", icon=":material/compare:"):
            go("compare", model=_first_comparison(job.id))


def _act(action: Callable[..., Job], job_id: str, **options: bool) -> None:
    """Perform an action and show the resulting job, which is a new one after starting over."""
    try:
        st.query_params["job"] = action(job_id, **options).id
    except StillroomError as error:
        show_error(error)


def _last_checkpoint(job_id: str) -> int | None:
    checkpoints = next((run.checkpoints() for run in attempts(runs_dir(), job_id)), [])
    return checkpoint_step(checkpoints[0]) if checkpoints else None


def _first_comparison(run_id: str) -> list[str]:
    """The arms of a first comparison: the new model and one with labels in common, or itself with truncation."""
    ready = {entry.id: entry for entry in published.ready(task=for_notes())}
    model = ready.get(run_id)
    others = [
        name
        for name, entry in ready.items()
        if model and name != run_id and entry.task == model.task and set(entry.labels) & set(model.labels)
    ]
    return [run_id, others[0] if others else f"{run_id}@truncate"]
