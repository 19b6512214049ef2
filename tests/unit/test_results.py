"""The table of results: rows of jobs and starters, what dominates what, and the files for a paper and a spreadsheet."""

import csv
import io
import json
import os

import pytest

from trainer import queue
from trainer.home import runs_dir
from trainer.queue import Progress, store
from trainer.queue.engines import Process
from trainer.run import Result, Run
from trainer.spec import parse
from workbench import results
from workbench.results import Row, formats, front

DATASET = "ncbi-disease-slice"
PLACE = {"hardware": "A processor", "threads": 2, "precision": "float32"}


def row(**fields) -> Row:
    usual = {"id": "a", "model": "a", "made": "finetune", "dataset": "d", "measures": "f1", "counts": "word level"}
    return Row(**usual | fields)


@pytest.fixture
def ended(home):
    """Ends a job with metrics and a report, as its child process and its worker do; its id."""
    worker = queue.enlist(store.open_store(), device="cpu", process=Process.of(os.getpid()))

    def end(metrics: dict, report: dict, data: str = "d" * 64, **spec) -> str:
        job = queue.submit(parse({"dataset": DATASET} | spec))
        lease = queue.claim(store.open_store(), worker)
        run = Run(runs_dir() / job.id / "attempt-1")
        run.folder.mkdir(parents=True)
        (run.folder / "spec.json").write_text(json.dumps({"dataset": {"sha256": data}, "threads": 2}))
        run.finish(Result(state="succeeded", metrics=metrics, report=report))
        queue.finish(store.open_store(), lease, state="succeeded", progress=Progress(metrics=metrics))
        return job.id

    return end


def test_an_evaluation_is_a_row_with_its_interval_and_what_its_cost_was_measured_on(ended):
    cost = {"params": 12, "disk_bytes": 48, "latency_ms_p50": 3.5, "latency_ms_p95": 9.0, "peak_memory_bytes": 10**9}
    report = {"n": 40, "unit": "sentences", "intervals": {"f1": [0.7, 0.9]}, "cost": cost, "measured_on": PLACE}
    report |= {"baseline": {"name": "mentions of train", "metrics": {"f1": 0.4}}}
    job = ended({"f1": 0.8}, report, kind="evaluate", model="minilm-ncbi", split="dev")
    (mine,) = [each for each in results.rows(dataset=DATASET) if each.id == job]
    assert (mine.model, mine.made, mine.split, mine.score) == ("minilm-ncbi", "evaluate", "dev", 0.8)
    assert (mine.low, mine.high, mine.n, mine.unit, mine.baseline) == (0.7, 0.9, 40, "sentences", 0.4)
    assert (mine.latency_ms_p50, mine.peak_memory_bytes, mine.disk_bytes) == (3.5, 10**9, 48)
    assert formats.measured_on(mine) == "A processor, 2 threads, float32"


def test_an_older_report_leaves_empty_what_it_does_not_hold(ended):
    job = ended({"f1": 0.8}, {}, kind="evaluate", model="minilm-ncbi")
    (mine,) = [each for each in results.rows(dataset=DATASET) if each.id == job]
    assert mine.score == 0.8 and mine.low is mine.n is mine.latency_ms_p50 is mine.baseline is mine.params is None


def test_a_students_retention_comes_from_its_teachers_row_on_the_same_data_only(ended):
    report = {"intervals": {"f1": [0.6, 0.8]}}
    ended({"f1": 0.9}, {}, data="e" * 64, kind="evaluate", model="minilm-bc5cdr")  # other data
    student = ended({"f1": 0.7}, report, kind="evaluate", model="minilm-bc5cdr-l3")
    assert {each.id: each.retention for each in results.rows(dataset=DATASET)}[student] is None
    ended({"f1": 0.8}, {}, kind="evaluate", model="minilm-bc5cdr", seed=7)
    mine = {each.id: each for each in results.rows(dataset=DATASET)}[student]
    assert mine.teacher == "minilm-bc5cdr" and mine.retention == pytest.approx(0.7 / 0.8)
    assert (mine.retention_low, mine.retention_high) == pytest.approx((0.75, 1.0))


def test_scores_of_word_pieces_are_in_no_group_with_scores_of_words(ended):
    task = {"name": "ner", "labelling": "all"}
    pieces = ended({"test_f1": 0.9}, {}, kind="finetune", model="minilm", task=task)
    words = ended({"test_f1": 0.8}, {}, kind="finetune", model="minilm")
    groups = {each.id: each.group for each in results.rows(dataset=DATASET)}
    assert groups[pieces] != groups[words]


def test_a_model_of_the_zoo_has_beside_its_score_what_its_authors_published(ended):
    job = ended({"test_f1": 0.85}, {}, kind="finetune", model="distil-biobert", dataset="ncbi-disease")
    mine = {each.id: each for each in results.rows(dataset="ncbi-disease")}[job]
    assert mine.score == 0.85 and mine.published.value == pytest.approx(0.8793)
    assert mine.published.note == "counts word pieces"


def test_the_front_is_what_no_other_beats():
    points = [(1, 0.5), (2, 0.7), (2, 0.6), (3, 0.7), (4, 0.9), (1, 0.5)]
    assert front(points) == [True, True, False, False, True, True]  # equal points beat neither


def test_csv_leaves_empty_what_was_not_measured_and_no_name_is_a_formula():
    text = formats.as_csv([row(model="=1+1", score=0.5, low=0.4, high=0.6), row(params=0)])
    first, second = csv.DictReader(io.StringIO(text))
    assert first["model"] == "'=1+1" and (first["score"], first["low"], first["params"]) == ("0.5", "0.4", "")
    assert second["params"] == "0" and second["score"] == ""


def test_latex_escapes_names_and_shows_percent():
    text = formats.as_latex([row(model=r"a_b & 50 % \x {~}", dataset="d#1", score=0.8249, low=0.8, high=0.85)])
    assert r"a\_b \& 50 \% \textbackslash{}x \{\textasciitilde{}\} & d\#1 & 82.5 & 80.0--85.0 & -- & --" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    columns = text.split(r"\begin{tabular}{")[1].split("}")[0]
    assert {line.replace(r"\&", "").count("&") + 1 for line in body} == {len(columns)}


def test_json_has_null_for_what_was_not_measured():
    (document,) = json.loads(formats.as_json([row(score=0.5)]))
    assert document["score"] == 0.5 and document["latency_ms_p50"] is None and document["published"] is None
