"""The cost estimate of a run from two timed steps on the Train page, and its comparison with the actual cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import humanize
import pandas as pd
import streamlit as st

from trainer.errors import BadSpec, StillroomError
from trainer.queue import Job
from trainer.spec import TRAINED, JobSpec, parse
from trainer.training import estimate
from trainer.training.estimate import Estimate
from workbench.launch import wording
from workbench.launch.trial import Trial
from workbench.pages.parts.plan_view import count
from workbench.widgets import charts
from workbench.widgets.messages import show_error
from workbench.widgets.polling import follow

KEY = "train.trial"
POLL_S = 1.0
_HELP = (
    "Runs two training steps with these settings on this machine, and estimates the time and memory of the whole run."
)


def draw(spec: JobSpec | None, *, fits: bool) -> None:
    """The button that starts a trial, the trial while it runs, and the estimate for this spec."""
    trial: Trial | None = st.session_state.get(KEY)
    if trial and (spec is None or trial.digest != spec.digest):
        trial.stop()
        trial = st.session_state[KEY] = None
    if spec is None or spec.kind not in TRAINED:
        return
    running = trial is not None and not trial.done
    if st.button(
        "Estimate cost",
        icon=":material/timer:",
        disabled=running or not fits,
        help=_HELP if fits else "Correct the marked fields first.",
    ):
        _start(spec)
    if running:
        follow(_follow, every_s=POLL_S, moving=True, done=_has_ended)
    elif trial and trial.error:
        _show_failure(trial.error)
    elif cost := estimate.stored(spec.digest):
        _show(cost)


def _start(spec: JobSpec) -> None:
    """Start a trial and redraw the page, or show why it cannot start."""
    try:
        st.session_state[KEY] = Trial(spec)
    except StillroomError as error:
        show_error(error)
    else:
        st.rerun()


def _has_ended() -> bool:
    trial: Trial | None = st.session_state[KEY]
    return trial is None or trial.done


def _follow() -> None:
    trial: Trial = st.session_state[KEY]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f":material/progress_activity: Running two steps: {trial.age_s:.0f} s", width="content")
        if st.button("Stop", key=f"{KEY}.stop"):
            trial.stop()
            st.session_state[KEY] = None
            st.rerun()
    if trial.busy:
        st.caption("This machine is busy, so the trial takes longer and its times are upper bounds.")


def _show_failure(error: Mapping[str, Any]) -> None:
    with st.container(border=True, gap="xxsmall"):
        st.markdown(":red[:material/error:] **The cost could not be estimated**")
        st.text(error["message"])
        if error.get("next_step"):
            st.text(error["next_step"])


def _show(cost: Estimate) -> None:
    with st.container(border=True):
        with st.grid(4, min_column_width=110):
            st.metric("Whole run, at most" if cost.busy else "Whole run, about", duration(cost.total_s))
            st.metric("Time per step", seconds(cost.seconds_per_step))
            st.metric("Steps", f"{cost.steps:,}")
            st.metric("Peak memory", size(cost.peak_memory_bytes))
        for sentence in _facts(cost):
            st.caption(sentence)


def _facts(cost: Estimate) -> list[str]:
    """Details of an estimate, in sentences."""
    parts = [("training", cost.training_s), ("scoring", (cost.evaluations + 1) * cost.evaluation_s)]
    parts += [("the teacher", cost.teacher_s), ("preparing", cost.preparing_s)]
    times = ", ".join(f"{name} {duration(value)}" for name, value in parts if value)
    facts = [
        f"{times[0].upper()}{times[1:]}; {cost.evaluations} dev evaluations. {cost.device}, {cost.threads} threads."
    ]
    share = "All" if cost.trained >= cost.params else f"{count(cost.trained)} of"
    facts.append(
        f"{share} {count(cost.params)} parameters are trained, on {cost.tokens_per_step:,.0f} word pieces per step."
    )
    if cost.outputs_bytes:
        facts.append(f"The teacher's outputs take {size(cost.outputs_bytes)} of disk space, once per data set.")
    if cost.cut:
        facts.append(f"**{cost.cut:.1%} of the word pieces are cut off** by the maximum length and never read.")
    elif cost.split:
        facts.append(
            f"Nothing is cut off; {cost.split:.1%} of the word pieces are in texts that are read in several windows."
        )
    else:
        facts.append("No text is longer than a window: nothing is cut off or split.")
    if cost.busy:
        facts.append("This machine was busy, so the times are upper bounds.")
    if cost.partial:
        facts.append("Only part of the data was counted, so there may be more steps.")
    return facts


def show_actual(job: Job, history: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> None:
    """The estimate made for the spec of a job beside the actual cost; nothing if none was made."""
    try:
        cost = estimate.stored(parse(job.spec).digest)
    except BadSpec:
        return  # a spec of another version
    if not cost:
        return
    st.header("Estimated and actual cost", anchor=False)
    actual = actual_cost(job, history, report, cost)
    rows = [
        ("Time per step", seconds(cost.seconds_per_step), actual["step"]),
        ("Steps", f"{cost.steps:,}", actual["steps"]),
        ("Whole run", duration(cost.total_s), actual["total"]),
        ("Peak memory", size(cost.peak_memory_bytes), actual["memory"]),
    ]
    table = pd.DataFrame(rows, columns=["", "Estimated", "Actual"])
    st.dataframe(table, hide_index=True, alt="Estimated and actual cost of this run")
    if cost.busy:
        st.caption("The estimate was made while this machine was busy, so its times are upper bounds.")


def actual_cost(
    job: Job, history: Sequence[Mapping[str, Any]], report: Mapping[str, Any], cost: Estimate
) -> dict[str, str]:
    """The cost of a run so far or in the end, in words; a dash where it is not known."""
    speeds = [speed for speed in charts.series(history, "tokens_per_second")[1] if speed > 0]
    step_s = cost.tokens_per_step * sum(1 / speed for speed in speeds) / len(speeds) if speeds else None
    total = "—"
    if job.state == "succeeded" and job.attempts == 1 and job.started_at and job.ended_at:
        total = duration(job.ended_at - job.started_at)
    peak, scoring = job.metrics.get("peak_memory_bytes"), report.get("cost", {}).get("peak_memory_bytes")
    return {
        "step": seconds(step_s) if step_s else "—",
        "steps": f"{job.step:,}" + ("" if wording.has_ended(job) else " so far"),
        "total": total,
        "memory": size(peak) if peak else f"{size(scoring)} while scoring" if scoring else "—",
    }


def duration(value: float) -> str:
    """A time for a narrow column: "42 s", "72 min", "2.5 h"."""
    if value < 59.5:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 6000 else f"{value / 3600:.1f} h"


def seconds(value: float) -> str:
    """A time in seconds: "0.12 s", "3.4 s"."""
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"


def size(value: float) -> str:
    """A size: "850 MB", "1.2 GB"."""
    return humanize.naturalsize(value, format="%.3g")
