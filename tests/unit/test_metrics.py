"""Metric rows: a replay overwrites, numbers that are not finite are null."""

import math

import pytest
from sqlalchemy.exc import IntegrityError

from trainer import queue
from trainer.queue import metrics
from trainer.queue.store import open_store, write
from trainer.spec import parse


@pytest.fixture
def job_id(home):
    return queue.submit(parse({"kind": "evaluate", "model": "m", "dataset": "d"})).id


def record(job_id, rows):
    write(open_store(), lambda connection: metrics.record(connection, job_id, rows))


def test_a_replay_overwrites_its_rows_and_no_others(job_id):
    record(job_id, {(1, "loss"): 3.0, (2, "loss"): 2.0, (2, "lr"): 0.1})
    record(job_id, {(2, "loss"): 2.5, (3, "loss"): 1.0})
    record(job_id, {})
    assert metrics.history(job_id) == [
        {"step": 1, "name": "loss", "value": 3.0},
        {"step": 2, "name": "loss", "value": 2.5},
        {"step": 2, "name": "lr", "value": 0.1},
        {"step": 3, "name": "loss", "value": 1.0},
    ]


def test_what_is_not_finite_is_null(job_id):
    record(job_id, {(1, "loss"): math.nan, (2, "loss"): math.inf, (3, "loss"): 1})
    assert [row["value"] for row in metrics.history(job_id)] == [None, None, 1.0]


def test_rows_of_a_job_that_is_not_there_are_refused(job_id):
    with pytest.raises(IntegrityError):
        record("no-such-job", {(1, "loss"): 1.0})
    assert metrics.history("no-such-job") == []
