"""What a run has shown so far and at its end: figures, curves, and what a student lost against its teacher."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from trainer import queue
from trainer.queue import Job, metrics
from trainer.run import attempts, runs_dir
from trainer.spec import TRAINED
from workbench.launch import runs, wording
from workbench.pages.parts import cost_estimate
from workbench.widgets import charts
from workbench.widgets.messages import plain

PLOT = {"displayModeBar": False}


def curves(job_id: str) -> None:
    """The figures of a run and its curves, as far as it is."""
    job, history = queue.job(job_id), metrics.history(job_id)
    _figures(job, history)
    score = runs.score(job.spec)
    several = len(charts.terms(history)) > 1
    loss = charts.terms_figure(history, steps=job.steps) if several else charts.loss_figure(history, steps=job.steps)
    scores = charts.score_figure(history, score=score, steps=job.steps)
    if not (loss or scores):
        if not wording.over(job):
            st.caption("The curves start with the first step.")
        return
    titles = ("Terms of the loss" if several else "Training loss", "Dev scores")
    for column, name, figure in zip(st.columns(2), titles, (loss, scores), strict=True):
        with column:
            st.header(name, anchor=False)
            if figure:
                st.plotly_chart(figure, key=f"jobs.{name}", config=PLOT, alt=f"{name} over optimiser steps")
            else:
                st.caption("The run ended before the first one." if wording.over(job) else "None yet.")


def after(job: Job) -> None:
    """What a run was at its end, label by label, beside its teacher or its members if it has any; and what it cost."""
    if members := _report(job).get("members"):
        _beside_members(job, members)
    for note in _report(job).get("notes", ()):
        st.caption(f":material/info: {plain(note)}")
    if rows := runs.by_label(job.metrics):
        _lost(rows)
    elif labels := runs.of_labels(job.metrics):
        _by_label(labels, runs.of_long(job.metrics))
    if job.kind in TRAINED:
        cost_estimate.beside_truth(job, metrics.history(job.id), _report(job))


def _beside_members(job: Job, members: Sequence[dict]) -> None:
    name = runs.score(job.spec)
    rows = [*members, {"model": "their average"} | job.metrics]
    st.header("The average beside its models", anchor=False)
    said = {f"dev_{name}": f"Dev {charts.said(name)}", f"test_{name}": f"Test {charts.said(name)}"}
    table = [{"Model": row["model"]} | {title: row.get(key) for key, title in said.items()} for row in rows]
    columns = {title: st.column_config.NumberColumn(format="%.3f") for title in said.values()}
    st.dataframe(
        pd.DataFrame(table), hide_index=True, column_config=columns, alt="Scores of the models and their average"
    )
    if any(row[key] is None for row in members for key in said):
        st.caption("Of a model that was scored on other data, or not at all, nothing is said.")


def _by_label(rows: Sequence[dict], long: Sequence[tuple[int, int, float]]) -> None:
    st.header("Test scores by label", anchor=False)
    columns = {name: st.column_config.NumberColumn(format="%.3f") for name in rows[0] if name != "Label"}
    columns["Documents"] = st.column_config.NumberColumn(format="%d")
    alt = "Test scores of each label, the most frequent first"
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=columns, alt=alt)
    for pieces, documents, score in long:
        st.caption(f"Documents of more than {pieces:,} word pieces: {documents:,}, macro F1 {score:.3f}.")


def _lost(rows: Sequence[tuple[str, float, float]]) -> None:
    st.header("What the student lost, by label", anchor=False)
    left, right = st.columns([3, 2], gap="large", vertical_alignment="center")
    with left:
        alt = "Test F1 by label, of teacher and student"
        st.plotly_chart(charts.labels_figure(rows), key="jobs.labels", config=PLOT, alt=alt)
    with right:
        table = [{"Label": label, "Teacher": a, "Student": b, "Difference": b - a} for label, a, b in rows]
        columns = {name: st.column_config.NumberColumn(format="%.3f") for name in ("Teacher", "Student")}
        columns["Difference"] = st.column_config.NumberColumn(format="%+.3f", help="Student less teacher")
        st.dataframe(pd.DataFrame(table), hide_index=True, column_config=columns, alt=alt)
        st.caption("Test F1; what was lost most stands first.")


def _figures(job: Job, history: Sequence[dict]) -> None:
    """The numbers of this run: test score, retention, best and latest dev score, loss and speed, with their steps."""
    name, report = runs.score(job.spec), _report(job)
    shown = [(label, f"{value:.3f}", None) for label, value in wording.scores(job).items()]
    if (teacher := job.metrics.get(f"teacher_test_{name}")) is not None:
        shown.append((f"Teacher's test {charts.said(name)}", f"{teacher:.3f}", None))
    kept = runs.retention(job, report)
    if kept:
        shown.append(("Retention", f"{kept[0] * 100:.1f} %", None))
    steps, dev = charts.series(history, f"dev_{name}")
    if dev:
        best = max(range(len(dev)), key=dev.__getitem__)
        title = f"Dev {charts.said(name)}"
        shown.append((f"{title}, best", f"{dev[best]:.3f}", steps[best]))
        if not wording.over(job):
            shown.append((f"{title}, latest", f"{dev[-1]:.3f}", steps[-1]))
    for metric, label, form in (("loss", "Loss, latest", ".3f"), ("examples_per_second", "Examples per second", ".1f")):
        steps, values = charts.series(history, metric)
        if values:
            shown.append((label, format(values[-1], form), steps[-1]))
    with st.grid(max(4, len(shown)), min_column_width=150):
        for label, value, step in shown:
            st.metric(label, value, delta=step and f"step {step:,}", delta_color="off", delta_arrow="off")
    for said in (wording.evidence(report), _kept(kept)):
        if said:
            st.caption(said)


def _kept(kept: tuple[float, tuple[float, float] | None] | None) -> str:
    if not kept:
        return ""
    said = "Retention is the student's test score over its teacher's"
    if not kept[1]:
        return f"{said}."
    low, high = kept[1]
    return f"{said}; 95 % interval {low * 100:.1f} to {high * 100:.1f} %, which is that of the student's score alone."


def _report(job: Job) -> dict:
    """The report of the newest attempt; empty while there is none."""
    found = [run.result for run in attempts(runs_dir(), job.id)[:1]]
    return found[0].report if found and found[0] else {}
