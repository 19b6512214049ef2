"""The estimate of a run: tried and shown on the Train page, and held against the truth when the run is over."""

from collections.abc import Mapping, Sequence

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
_ABOUT = "Runs two real steps of these settings on this machine, and says what the whole run would cost."


def draw(spec: JobSpec | None, *, fits: bool) -> None:
    """The button that tries two steps, the trial while it runs, and what it found for this very spec."""
    trial: Trial | None = st.session_state.get(KEY)
    if trial and (spec is None or trial.digest != spec.digest):
        trial.stop()
        trial = st.session_state[KEY] = None
    if spec is None or spec.kind not in TRAINED:
        return
    running = trial is not None and not trial.done
    if st.button(
        "Try two steps",
        icon=":material/timer:",
        disabled=running or not fits,
        help=_ABOUT if fits else "Correct the marked fields first.",
    ):
        _start(spec)
    if running:
        follow(_follow, every_s=POLL_S, moving=True, over=_over)
    elif trial and trial.error:
        _show_failure(trial.error)
    elif found := estimate.kept(spec.digest):
        _show(found)


def _start(spec: JobSpec) -> None:
    """Begin, and draw the page anew; or say why not."""
    try:
        st.session_state[KEY] = Trial(spec)
    except StillroomError as error:
        show_error(error)
    else:
        st.rerun()


def _over() -> bool:
    trial: Trial | None = st.session_state[KEY]
    return trial is None or trial.done


def _follow() -> None:
    trial: Trial = st.session_state[KEY]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f":material/progress_activity: Two steps are tried: {trial.age_s:.0f} s", width="content")
        if st.button("Stop", key=f"{KEY}.stop"):
            trial.stop()
            st.session_state[KEY] = None
            st.rerun()
    if trial.busy:
        st.caption("This machine is busy with something else, so it takes longer and times are upper bounds.")


def _show_failure(error: Mapping) -> None:
    with st.container(border=True, gap="xxsmall"):
        st.markdown(":red[:material/error:] **Two steps could not be done**")
        st.text(error["message"])
        if error.get("next_step"):
            st.text(error["next_step"])


def _show(found: Estimate) -> None:
    with st.container(border=True):
        with st.grid(4, min_column_width=110):
            st.metric("Whole run, at most" if found.busy else "Whole run, about", long(found.total_s))
            st.metric("Time per step", seconds(found.seconds_per_step))
            st.metric("Steps", f"{found.steps:,}")
            st.metric("Peak memory", size(found.peak_memory_bytes))
        for said in _facts(found):
            st.caption(said)


def _facts(found: Estimate) -> list[str]:
    """The rest of an estimate in sentences."""
    parts = [("training", found.training_s), ("scoring", (found.evaluations + 1) * found.evaluation_s)]
    parts += [("the teacher", found.teacher_s), ("preparing", found.preparing_s)]
    said = ", ".join(f"{name} {long(value)}" for name, value in parts if value)
    facts = [
        f"{said[0].upper()}{said[1:]}; {found.evaluations} dev evaluations. {found.device}, {found.threads} threads."
    ]
    learns = "All" if found.trained >= found.params else count(found.trained) + " of"
    facts.append(
        f"{learns} {count(found.params)} parameters are trained, {found.tokens_per_step:,.0f} word pieces a step."
    )
    if found.outputs_bytes:
        facts.append(f"The teacher's outputs take {size(found.outputs_bytes)} of disk, once for these data.")
    if found.cut:
        facts.append(f"**{found.cut:.1%} of the word pieces are cut off** by the length of the windows and never read.")
    elif found.split:
        facts.append(
            f"Nothing is cut off; {found.split:.1%} of the word pieces stand in texts read in several windows."
        )
    else:
        facts.append("No text is longer than a window: nothing is cut off or split.")
    if found.busy:
        facts.append("This machine was busy with something else, so the times are upper bounds.")
    if found.partial:
        facts.append("The data were not counted to their end: there may be more steps.")
    return facts


def beside_truth(job: Job, history: Sequence[Mapping], report: Mapping) -> None:
    """The estimate that was made for the spec of a job, and what came true; nothing where none was made."""
    try:
        found = estimate.kept(parse(job.spec).digest)
    except BadSpec:
        return  # a spec of another version
    if not found:
        return
    st.header("Estimate and truth", anchor=False)
    true = truth(job, history, report, found)
    rows = [
        ("Time per step", seconds(found.seconds_per_step), true["step"]),
        ("Steps", f"{found.steps:,}", true["steps"]),
        ("Whole run", long(found.total_s), true["total"]),
        ("Peak memory", size(found.peak_memory_bytes), true["memory"]),
    ]
    table = pd.DataFrame(rows, columns=["", "Estimate", "Truth"])
    st.dataframe(table, hide_index=True, alt="Estimated and true cost of this run")
    if found.busy:
        st.caption("The estimate was made while this machine was busy, so its times are upper bounds.")


def truth(job: Job, history: Sequence[Mapping], report: Mapping, found: Estimate) -> dict[str, str]:
    """What a run has cost so far or in the end, in words; a dash where that is not known."""
    speeds = [speed for speed in charts.series(history, "tokens_per_second")[1] if speed > 0]
    step_s = found.tokens_per_step * sum(1 / speed for speed in speeds) / len(speeds) if speeds else None
    ended = job.state == "succeeded" and job.attempts == 1 and job.started_at and job.ended_at
    peak, scoring = job.metrics.get("peak_memory_bytes"), report.get("cost", {}).get("peak_memory_bytes")
    return {
        "step": seconds(step_s) if step_s else "—",
        "steps": f"{job.step:,}" + ("" if wording.over(job) else " so far"),
        "total": long(job.ended_at - job.started_at) if ended else "—",
        "memory": size(peak) if peak else f"{size(scoring)} while scoring" if scoring else "—",
    }


def long(value: float) -> str:
    """42 s, 72 min, 2.5 h: short enough for a narrow column."""
    if value < 59.5:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 6000 else f"{value / 3600:.1f} h"


def seconds(value: float) -> str:
    """0.12 s, 3.4 s."""
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"


def size(value: float) -> str:
    """850 MB, 1.2 GB."""
    return humanize.naturalsize(value, format="%.3g")
