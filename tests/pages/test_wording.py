"""A job in words and figures: pure functions, at their edges."""

import math

import pytest

from trainer.queue import Job
from workbench.launch import wording
from workbench.widgets import charts

JOB = Job(
    id="0a1b2c3d-1",
    kind="finetune",
    state="running",
    progress=0.25,
    eta_seconds=None,
    attempts=1,
    spec={"model": "minilm", "dataset": "bc5cdr"},
    metrics={},
    artifact=None,
    error=None,
    step=10,
    steps=40,
    created_at=0.0,
    started_at=30.0,
    ended_at=None,
    cancel_requested=False,
    place=None,
    message=None,
)


def rows(name: str, values: dict[int, float | None]) -> list[dict]:
    return [{"step": step, "name": name, "value": value} for step, value in values.items()]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 seconds"), (59.4, "59 seconds"), (59.6, "1 minute"), (90, "2 minutes"), (3570, "1 hour"), (3600, "1 hour")]
    + [(11_100, "3 hours and 5 minutes"), (-3, "0 seconds")],
)
def test_durations(seconds, words):
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "now"), (-9, "now"), (5, "5 seconds ago"), (60, "a minute ago"), (7199, "2 hours ago"), (86_400, "a day ago")]
    + [(200_000, "2 days ago")],
)
def test_ages(seconds, words):
    assert wording.ago(1000.0, now=1000.0 + seconds) == words


def test_progress_says_only_what_is_known():
    assert wording.progress(JOB) == "25% · step 10 of 40"
    timed = JOB.model_copy(update={"eta_seconds": 95.0})
    assert wording.progress(timed) == "25% · step 10 of 40 · about 2 minutes left"
    assert wording.progress(JOB.model_copy(update={"steps": None, "progress": 0.0})) == "0% · preparing"


def test_times_of_a_job_that_runs_and_of_one_that_ran():
    assert wording.times(JOB, now=120.0) == "Queued 2 minutes ago · running for 2 minutes"
    ended = JOB.model_copy(update={"state": "failed", "ended_at": 75.0})
    assert wording.times(ended, now=7200.0) == "Queued 2 hours ago · ran for 45 seconds"
    assert wording.times(JOB.model_copy(update={"started_at": None}), now=120.0) == "Queued 2 minutes ago"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"model": "minilm"}, "minilm"),
        ({"model": {"base": "minilm", "layers": 3, "hidden": None, "layer_map": "last"}}, "minilm with layers 3"),
        ({"model": None, "teacher": "t", "student": "s"}, "s"),
        ({"model": None, "teacher": "t", "student": {"base": None, "layers": 3, "start": "random"}}, None),
        ({"model": {"base": "minilm"}}, "minilm"),
    ],
)
def test_a_model_is_named_by_its_start_and_what_was_changed(spec, words):
    assert wording.model(spec) == (words or "t with layers 3, start random")


def test_what_a_job_does():
    assert wording.summary(JOB) == "minilm fine-tuned on bc5cdr"
    spec = {"teacher": "minilm-bc5cdr", "student": {"base": None, "layers": 3}, "dataset": "bc5cdr"}
    taught = JOB.model_copy(update={"kind": "distill", "spec": spec})
    assert wording.summary(taught) == "minilm-bc5cdr with layers 3 taught by minilm-bc5cdr on bc5cdr"
    assert wording.summary(JOB.model_copy(update={"kind": "alchemy"})) == "minilm alchemy on bc5cdr"
    seeds = [JOB.model_copy(update={"spec": JOB.spec | {"seed": seed}}) for seed in (42, 0)]
    assert list(map(wording.summary, seeds)) == ["minilm fine-tuned on bc5cdr", "minilm fine-tuned on bc5cdr, seed 0"]


def test_where_a_queued_job_stands():
    assert wording.queue_position(JOB.model_copy(update={"place": 3})) == "Position 3 in the queue"
    assert wording.queue_position(JOB.model_copy(update={"waits_for": ("a-1", "b-1")})) == "Waiting for a-1 and b-1"
    assert wording.enumeration("abc") == "a, b and c" and wording.enumeration(["a"]) == "a"


def test_a_score_that_was_not_finite_is_not_shown():
    assert wording.scores(JOB.model_copy(update={"metrics": {"test_f1": None}})) == {}


def test_evidence_needs_an_interval_and_a_count():
    report = {"n": 4797, "intervals": {"f1": [0.8061, 0.8322]}}
    assert wording.evidence(report, unit="sentences") == "95 % interval of F1: 0.806 to 0.832, over 4,797 sentences."
    assert wording.evidence({}, unit="pairs") == wording.evidence({"n": 3}, unit="pairs") == ""


def test_a_series_is_ordered_and_leaves_out_what_is_not_finite():
    history = rows("loss", {3: 1.0, 1: 3.0, 2: None, 4: math.nan}) + rows("lr", {1: 9.0})
    assert charts.series(history, "loss") == ([1, 3], [3.0, 1.0])


def test_smoothing_starts_at_the_first_value_and_keeps_a_constant():
    assert charts.smooth([2.0, 0.0])[0] == pytest.approx(2.0)
    assert charts.smooth([5.0] * 50) == pytest.approx([5.0] * 50)


@pytest.mark.parametrize("count", [1, 2, 800, 801, 5000])
def test_thinning_keeps_both_ends_and_its_bound(count):
    points = list(range(1, count + 1)), [float(i) for i in range(count)]
    steps, values = charts.thin(points, max_points=800)
    assert (steps[0], steps[-1]) == (1, count)
    assert len(steps) == len(values) <= 801
    assert values == [step - 1.0 for step in steps]


def test_nothing_measured_is_no_figure():
    assert charts.loss_figure([]) is None and charts.score_figure([]) is None
    assert charts.loss_figure(rows("loss", {1: None})) is None


def test_a_few_steps_have_whole_ticks_and_points():
    figure = charts.loss_figure(rows("loss", {1: 1.0, 2: 0.5}), steps=3)
    assert figure.layout.xaxis.dtick == 1
    assert [trace.mode for trace in figure.data] == ["lines+markers"]


def test_a_long_run_shows_raw_and_smoothed_loss_up_to_its_last_planned_step():
    figure = charts.loss_figure(rows("loss", {step: 1 / step for step in range(1, 301)}), steps=1000)
    assert [trace.name for trace in figure.data] == ["each step", "smoothed"]
    assert figure.layout.xaxis.range[1] >= 1000
    assert figure.layout.xaxis.title.text == "Optimiser step"
    assert figure.layout.yaxis.title.text == "Training loss (nats)"


def test_dev_scores_are_told_apart_by_dash_and_marker_and_not_by_colour_alone():
    history = [row for name in ("f1", "precision", "recall") for row in rows(f"dev_{name}", {10: 0.5, 20: 0.6})]
    figure = charts.score_figure(history)
    assert len({trace.line.dash for trace in figure.data}) == len({trace.marker.symbol for trace in figure.data}) == 3
    assert tuple(figure.layout.yaxis.range) == (0, 1.02)
