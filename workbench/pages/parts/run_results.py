"""The results of a run, so far and at its end: figures, curves, scores by label and comparison with its teacher."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from trainer import queue
from trainer.home import runs_dir
from trainer.queue import Job, metrics
from trainer.run import attempts
from trainer.spec import TRAINED
from workbench.launch import runs, wording
from workbench.pages.parts import cost_estimate, mistakes
from workbench.widgets import charts
from workbench.widgets.messages import plain

PLOT = {"displayModeBar": False}


def curves(job_id: str) -> None:
    """The figures and curves of a run so far."""
    job, history = queue.job(job_id), metrics.history(job_id)
    _figures(job, history)
    score = runs.score(job.spec)
    several = len(charts.terms(history)) > 1
    loss = charts.terms_figure(history, steps=job.steps) if several else charts.loss_figure(history, steps=job.steps)
    scores = charts.score_figure(history, score=score, steps=job.steps)
    if not (loss or scores):
        if not wording.has_ended(job):
            st.caption("Curves appear after the first step.")
        return
    titles = ("Terms of the loss" if several else "Training loss", "Dev scores")
    for column, name, figure in zip(st.columns(2), titles, (loss, scores), strict=True):
        with column:
            st.header(name, anchor=False)
            if figure:
                st.plotly_chart(figure, key=f"jobs.{name}", config=PLOT, alt=f"{name} over optimiser steps")
            else:
                st.caption("The run ended before the first value." if wording.has_ended(job) else "No values yet.")


def final(job: Job) -> None:
    """The results of a run that has ended: scores by label, comparison with teacher or members, and actual cost."""
    if members := _report(job).get("members"):
        _compare_with_members(job, members)
    for note in _report(job).get("notes", ()):
        st.caption(f":material/info: {plain(note)}")
    if rows := runs.teacher_and_student(job.metrics):
        _compare_with_teacher(rows)
    elif labels := runs.label_scores(job.metrics):
        _by_label(labels, runs.long_document_scores(job.metrics))
    mistakes.draw(job, _report(job))
    if job.kind in TRAINED:
        cost_estimate.show_actual(job, metrics.history(job.id), _report(job))


def _compare_with_members(job: Job, members: Sequence[dict[str, Any]]) -> None:
    name = runs.score(job.spec)
    rows = [*members, {"model": "average"} | job.metrics]
    st.header("The average and its models", anchor=False)
    titles = {f"dev_{name}": f"Dev {charts.score_title(name)}", f"test_{name}": f"Test {charts.score_title(name)}"}
    table = [{"Model": row["model"]} | {title: row.get(key) for key, title in titles.items()} for row in rows]
    columns = {title: st.column_config.NumberColumn(format="%.3f") for title in titles.values()}
    st.dataframe(
        pd.DataFrame(table), hide_index=True, column_config=columns, alt="Scores of the models and their average"
    )
    if any(row[key] is None for row in members for key in titles):
        st.caption("Scores are missing for models that were scored on other data or not at all.")


def _by_label(rows: Sequence[dict[str, Any]], long: Sequence[tuple[int, int, float]]) -> None:
    st.header("Test scores by label", anchor=False)
    columns = {name: st.column_config.NumberColumn(format="%.3f") for name in rows[0] if name != "Label"}
    columns["Examples"] = st.column_config.NumberColumn(format="%d")
    alt = "Test scores of each label, the most frequent first"
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=columns, alt=alt)
    for pieces, documents, score in long:
        st.caption(f"Documents longer than {pieces:,} word pieces: {documents:,}, macro F1 {score:.3f}.")


def _compare_with_teacher(rows: Sequence[tuple[str, float, float]]) -> None:
    st.header("Student and teacher by label", anchor=False)
    left, right = st.columns([3, 2], gap="large", vertical_alignment="center")
    with left:
        alt = "Test F1 by label, of teacher and student"
        st.plotly_chart(charts.labels_figure(rows), key="jobs.labels", config=PLOT, alt=alt)
    with right:
        table = [{"Label": label, "Teacher": a, "Student": b, "Difference": b - a} for label, a, b in rows]
        columns = {name: st.column_config.NumberColumn(format="%.3f") for name in ("Teacher", "Student")}
        columns["Difference"] = st.column_config.NumberColumn(format="%+.3f", help="Student minus teacher")
        st.dataframe(pd.DataFrame(table), hide_index=True, column_config=columns, alt=alt)
        st.caption("Test F1, largest loss first.")


def _figures(job: Job, history: Sequence[dict[str, Any]]) -> None:
    """The numbers of this run: test score, retention, best and latest dev score, loss and speed, with their steps."""
    name, report = runs.score(job.spec), _report(job)
    shown: list[tuple[str, str, int | None]] = [
        (label, f"{value:.3f}", None) for label, value in wording.scores(job).items()
    ]
    if (teacher := job.metrics.get(f"teacher_test_{name}")) is not None:
        shown.append((f"Teacher's test {charts.score_title(name)}", f"{teacher:.3f}", None))
    retention = runs.retention(job, report)
    if retention:
        shown.append(("Retention", f"{retention[0] * 100:.1f} %", None))
    steps, dev = charts.series(history, f"dev_{name}")
    if dev:
        best = max(range(len(dev)), key=dev.__getitem__)
        title = f"Dev {charts.score_title(name)}"
        shown.append((f"{title}, best", f"{dev[best]:.3f}", steps[best]))
        if not wording.has_ended(job):
            shown.append((f"{title}, latest", f"{dev[-1]:.3f}", steps[-1]))
    for metric, label, form in (("loss", "Loss, latest", ".3f"), ("examples_per_second", "Examples per second", ".1f")):
        steps, values = charts.series(history, metric)
        if values:
            shown.append((label, format(values[-1], form), steps[-1]))
    with st.grid(max(4, len(shown)), min_column_width=150):
        for label, value, step in shown:
            st.metric(label, value, delta=step and f"step {step:,}", delta_color="off", delta_arrow="off")
    unit = report.get("unit") or runs.unit(job.spec)
    for sentence in (wording.evidence(report, unit=unit), _retention_note(retention), _baseline_note(report, name)):
        if sentence:
            st.caption(sentence)


def _retention_note(retention: tuple[float, tuple[float, float] | None] | None) -> str:
    if not retention:
        return ""
    definition = "Retention is the student's test score divided by its teacher's"
    if not retention[1]:
        return f"{definition}."
    low, high = retention[1]
    return f"{definition}; 95 % interval {low * 100:.1f} to {high * 100:.1f} %, from the student's score alone."


def _baseline_note(report: Mapping[str, Any], name: str) -> str:
    """The score of the trivial answer beside which the model's has to be seen."""
    baseline = report.get("baseline", {})
    score = baseline.get("metrics", {}).get(name)
    title = charts.score_title(name)
    return "" if score is None else f"A trivial baseline, {baseline['name']}, has {title} {score:.3f}."


def _report(job: Job) -> dict[str, Any]:
    """The report of the newest attempt; empty while there is none."""
    result = next((run.result for run in attempts(runs_dir(), job.id)), None)
    return result.report if result else {}
