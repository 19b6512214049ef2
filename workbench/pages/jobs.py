"""Jobs: every job with its state and progress; ?job=ID opens one with its curves, log and actions.

A page is a view of the store: reloading or closing it changes nothing for a job. What moves is drawn in fragments
that poll; when a job changes its state the whole page is drawn again, and polling stops where nothing moves any more.
"""

import math
import time
from collections.abc import Callable, Sequence

import streamlit as st
import yaml

from trainer import metrics, queue, store
from trainer.errors import StillroomError
from trainer.queue import Job
from trainer.run import Run, attempts, checkpoint_step
from workbench import charts
from workbench.links import go, link
from workbench.pages import plain, show_error

POLL_S = 2
ROWS = 10  # jobs on one page of the list
LOG_BYTES = 32_000
ACTIVE = ("queued", "running")
STATES = {
    "queued": (":material/schedule:", "gray"),
    "running": (":material/progress_activity:", "blue"),
    "stopping": (":material/pending:", "orange"),
    "succeeded": (":material/check_circle:", "green"),
    "failed": (":material/error:", "red"),
    "cancelled": (":material/cancel:", "gray"),
}


def render() -> None:
    """Draw the list, or the job that the address names."""
    wanted = st.query_params.get("job")
    if not wanted:
        return _list()
    link("jobs", label="All jobs", icon=":material/arrow_back:")
    try:
        job = queue.job(wanted)
    except StillroomError as error:
        st.title("Jobs")
        return show_error(error)
    _detail(job)


def _list() -> None:
    st.title("Jobs")
    jobs = queue.jobs()
    if not jobs:
        st.caption("No jobs yet. A job trains or scores a model in the background; its progress appears here.")
        link("train", label="Describe the first job", icon=":material/model_training:")
        return
    page = st.pagination(math.ceil(len(jobs) / ROWS), key="jobs.page") if len(jobs) > ROWS else 1
    active = {job.id for job in jobs if job.state in ACTIVE}
    _live(_rows, bool(active))(page, active)


def _rows(page: int, active: set[str]) -> None:
    jobs = queue.jobs()
    if {job.id for job in jobs if job.state in ACTIVE} != active:
        st.rerun()
    _workers(waiting=any(job.state == "queued" for job in jobs))
    for job in jobs[(page - 1) * ROWS : page * ROWS]:
        _row(job)


def _row(job: Job) -> None:
    with st.container(border=True):
        about, how_far = st.columns([3, 2], vertical_alignment="center")
        with about, st.container(gap="xxsmall"):
            with st.container(horizontal=True, vertical_alignment="center"):
                _badge(job)
                link("jobs", label=job.id, job=job.id)
                st.caption(_ago(job.ended_at or job.started_at or job.created_at), width="content")
            st.text(_what(job), wrap=False)
        with how_far:
            _how_far(job)


def _how_far(job: Job) -> None:
    """Progress while it moves; afterwards the score, or what went wrong."""
    if job.state == "running":
        st.progress(job.progress, text=_progress_text(job))
    elif job.state == "queued":
        st.caption(f"Number {job.place} in line")
    elif job.state == "failed" and job.error:
        st.text(job.error["message"], wrap=False)
    else:
        st.caption(" · ".join(f"{name} {value:.3f}" for name, value in _scores(job).items()))


def _detail(job: Job) -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
        st.title(f"Job {plain(job.id)}", width="content")
        _actions(job)
    st.text(_what(job))
    moving = job.state in ACTIVE
    _live(_head, moving)(job.id, job)
    _problem(job)
    _live(_curves, moving)(job.id)
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.subheader("Log")
        _live(_log, moving)(job.id)
    with right:
        _record(job)


def _live(draw: Callable[..., None], moving: bool) -> Callable[..., None]:
    """A fragment that is drawn again every few seconds while something moves."""
    return st.fragment(draw, run_every=POLL_S if moving else None)


def _head(job_id: str, drawn: Job) -> None:
    """State, progress and the figures that move; asks for a whole new page when the state is not the drawn one."""
    job = queue.job(job_id)
    if (job.state, job.attempts, job.cancel_requested) != (drawn.state, drawn.attempts, drawn.cancel_requested):
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        _badge(job)
        st.caption(_times(job))
    if job.state == "queued":
        st.caption(f"Number {job.place} in line.")
        _workers(waiting=True)
    if job.state == "running":
        st.progress(job.progress, text=_progress_text(job))
    if job.message:
        st.text(job.message)


def _curves(job_id: str) -> None:
    job, history = queue.job(job_id), metrics.history(job_id)
    _figures(job, history)
    loss = charts.loss_figure(history, steps=job.steps)
    scores = charts.score_figure(history, steps=job.steps)
    if not (loss or scores):
        if job.state in ACTIVE:
            st.caption("The curves start with the first step.")
        return
    for column, figure, name in zip(st.columns(2), (loss, scores), ("Training loss", "Dev scores"), strict=True):
        with column:
            st.subheader(name)
            if figure:
                alt = f"{name} over optimiser steps"
                st.plotly_chart(figure, key=f"jobs.{name}", config={"displayModeBar": False}, alt=alt)
            else:
                st.caption(
                    "No evaluation yet." if job.state in ACTIVE else "The run ended before its first evaluation."
                )


def _figures(job: Job, history: Sequence[dict]) -> None:
    """The numbers of this run, best and last."""
    steps, dev = charts.series(history, "dev_f1")
    shown: list[tuple[str, str, str]] = [(name, f"{value:.3f}", "") for name, value in _scores(job).items()]
    if dev:
        best = max(range(len(dev)), key=dev.__getitem__)
        shown += [("Dev F1, best", f"{dev[best]:.3f}", f"step {steps[best]:,}")]
        shown += [("Dev F1, latest", f"{dev[-1]:.3f}", f"step {steps[-1]:,}")]
    for name, label, pattern in (
        ("loss", "Loss, latest", "{:.3f}"),
        ("examples_per_second", "Examples per second", "{:.1f}"),
    ):
        at, values = charts.series(history, name)
        if values:
            shown.append((label, pattern.format(values[-1]), f"step {at[-1]:,}"))
    if shown:
        with st.grid(max(4, len(shown)), min_column_width=150):
            for label, value, note in shown:
                st.metric(label, value, delta=note or None, delta_color="off", delta_arrow="off")


def _log(job_id: str) -> None:
    runs = attempts(store.runs_dir(), job_id)
    text = _tail(runs[0]) if runs else ""
    if not text:
        st.caption("Nothing has been printed yet.")
        return
    with st.container(height=320, border=False, autoscroll=True):
        st.code(text, language=None, wrap_lines=True)


def _tail(run: Run) -> str:
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
    """What stays: the spec as it was stored, the attempts, the artifact."""
    st.subheader("Spec, as it was stored")
    st.code(yaml.safe_dump(job.spec, sort_keys=False, allow_unicode=True), language="yaml", wrap_lines=True, height=320)
    link("train", label="New job from this spec", icon=":material/content_copy:", **{"from": job.id})
    st.caption(f"Attempts: {job.attempts}")
    if job.artifact:
        st.caption("The model is here:")
        st.code(job.artifact, language=None, wrap_lines=True)


def _problem(job: Job) -> None:
    if job.error:
        with st.container(border=True):
            st.markdown(":red[:material/error:] **What went wrong**")
            st.text(job.error["message"])
            if job.error.get("next_step"):
                st.markdown("**What to do next**")
                st.text(job.error["next_step"])


def _actions(job: Job) -> None:
    with st.container(horizontal=True, width="content"):
        if job.state in ACTIVE and not job.cancel_requested:
            with st.popover("Cancel", icon=":material/cancel:"):
                st.markdown("Stop this job? Its last checkpoint is kept, so that it can go on later.")
                st.button("Cancel this job", on_click=_act, args=(queue.cancel, job.id))
        if job.state in ("failed", "cancelled"):
            step = _last_checkpoint(job.id)
            label = f"Go on from step {step:,}" if step else "Try again"
            st.button(label, type="primary", on_click=_act, args=(queue.retry, job.id))
            if step:
                st.button("Start afresh", on_click=_act, args=(queue.retry, job.id), kwargs={"fresh": True})
        if job.artifact and st.button("Compare this model", type="primary", icon=":material/compare:"):
            go("compare", models=job.id)


def _last_checkpoint(job_id: str) -> int | None:
    found = [run.checkpoints() for run in attempts(store.runs_dir(), job_id)[:1]]
    return checkpoint_step(found[0][0]) if found and found[0] else None


def _act(action: Callable[..., Job], job_id: str, **options: bool) -> None:
    """Do what a button says and show the job that came of it: starting afresh makes a new one."""
    try:
        st.query_params["job"] = action(job_id, **options).id
    except StillroomError as error:
        show_error(error)


def _badge(job: Job) -> None:
    state = "stopping" if job.state == "running" and job.cancel_requested else job.state
    icon, color = STATES[state]
    st.badge(state.capitalize(), icon=icon, color=color)


def _workers(*, waiting: bool) -> None:
    if waiting and not queue.workers(store.open_store()):
        st.caption("No worker is running, so queued jobs wait. Start one in a terminal:")
        st.code("stillroom worker", language="bash")


def _what(job: Job) -> str:
    kinds = {"finetune": "fine-tuned on", "evaluate": "scored on"}
    return f"{job.spec['model']} {kinds.get(job.kind, job.kind)} {job.spec['dataset']}"


def _scores(job: Job) -> dict[str, float]:
    names = {"test_f1": "Test F1", "f1": "F1"}
    return {label: job.metrics[name] for name, label in names.items() if name in job.metrics}


def _progress_text(job: Job) -> str:
    steps = f"step {job.step:,} of {job.steps:,}" if job.steps else "preparing"
    left = f" · about {_duration(job.eta_seconds)} left" if job.eta_seconds is not None else ""
    return f"{job.progress:.0%} · {steps}{left}"


def _times(job: Job) -> str:
    said = [f"Queued {_ago(job.created_at)}"]
    if job.started_at:
        how = "running for" if job.state == "running" else "ran for"
        said.append(f"{how} {_duration((job.ended_at or time.time()) - job.started_at)}")
    return " · ".join(said)


def _ago(moment: float) -> str:
    """In whole units of the largest that fits: just now, 42 s ago, 7 min ago, 3 h ago, 2 days ago."""
    seconds = time.time() - moment
    for size, unit in ((86400, "day"), (3600, "h"), (60, "min"), (5, "s")):
        if seconds >= size:
            count = int(seconds // (size if unit != "s" else 1))
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''} ago"
    return "just now"


def _duration(seconds: float) -> str:
    """42 s, 7 min, 3 h 5 min."""
    minutes, hours = round(seconds / 60), int(seconds // 3600)
    if seconds < 60:
        return f"{max(0, seconds):.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{hours} h {int(seconds % 3600 // 60)} min"
