"""Chains under real workers that are killed: every step once, in order; a failed one stops only what depends on it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import scripted_run

from trainer import chain, queue
from trainer.home import runs_dir
from trainer.queue.store import open_store
from trainer.run import attempts

TIMING = {"look_s": 0.05, "beat_s": 0.1, "idle_s": 0.1}
STEPS = 20


@pytest.fixture
def made(home, tmp_path, monkeypatch):
    """made("a", "b:a", "c:b") is a chain of fine-tuning steps; after the colon stands what a step starts from."""
    model, data = scripted_run.inputs(tmp_path)

    def make(*names):
        steps = [name.partition(":") for name in names]
        steps = [
            {"name": name, "model": f"@{base}" if base else model, "seed": seed}
            for seed, (name, _, base) in enumerate(steps)
        ]
        return chain.parse({"kind": "finetune", "dataset": data, "steps": steps})

    with scripted_run.database_in_memory(home) as url:
        monkeypatch.setenv("STILLROOM_DB", url)
        yield make


@pytest.fixture
def start(made):
    """Start a real worker process with children that follow the script."""
    started = []

    def begin(mode="worker", **script):
        command = [sys.executable, scripted_run.__file__, mode, json.dumps(TIMING)]
        script = {"steps": STEPS, "step_s": 0.02, "checkpoint_every": 5} | script
        started.append(subprocess.Popen(command, env=os.environ | {"SCRIPT": json.dumps(script)}))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def submit(steps):
    return {name: job.id for name, job in queue.submit_chain(steps).items()}


def states(ids):
    return {name: queue.job(job_id).state for name, job_id in ids.items()}


def until(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def assert_each_was_made_once_and_in_order(ids):
    """Every attempt began after the steps that its job needs had ended, and read the model that they made."""
    for job in map(queue.job, ids.values()):
        assert (job.state, job.error) == ("succeeded", None)
        assert (Path(job.artifact) / "weights.txt").read_text() == scripted_run.weights_after(STEPS)
        runs = attempts(runs_dir(), job.id)
        assert sum(run.result is not None for run in runs) == 1
        for needed in map(queue.job, job.needs):
            assert {run.spec.model.path for run in runs} == {needed.artifact}
            assert needed.ended_at <= job.started_at
        assert scripted_run.processes_of(job.id) == []


@pytest.mark.slow
def test_workers_that_die_in_every_step_carry_a_chain_through(made, start):
    ids = submit(made("a", "b:a", "c:b"))
    for name in ids:
        worker = start(step_s=0.05)
        until(lambda name=name: queue.job(ids[name]).step >= 6)
        worker.kill()
        worker.wait()
    assert start("drain").wait(timeout=60) == 0
    assert_each_was_made_once_and_in_order(ids)
    assert all(len(attempts(runs_dir(), job_id)) == 2 for job_id in ids.values())


@pytest.mark.slow
def test_workers_that_are_killed_at_any_moment_never_begin_a_step_too_early(made, start):
    """A tree of steps between two workers, one of which is always being replaced."""
    ids = submit(made("a", "b:a", "c:a", "d:b", "e:b"))
    workers = [start(), start()]
    for wait_s, number in ((0.9, signal.SIGKILL), (0.5, signal.SIGTERM), (0.7, signal.SIGKILL)):
        time.sleep(wait_s)
        workers.append(start())
        first = workers.pop(0)
        first.send_signal(number)
        first.wait(timeout=60)
    until(lambda: all(state not in ("queued", "running") for state in states(ids).values()))
    assert_each_was_made_once_and_in_order(ids)


@pytest.mark.slow
def test_a_draining_worker_stays_for_what_another_has_to_finish_first(made, start):
    ids = submit(made("a", "b:a"))
    first = start("drain", step_s=1.0)
    until(lambda: queue.job(ids["a"]).state == "running")
    second = start("drain")
    until(lambda: len(queue.workers()) == 2)
    time.sleep(0.5)
    assert second.poll() is None, "b is not runnable yet, but will be"
    first.kill()
    assert second.wait(timeout=60) == 0
    assert_each_was_made_once_and_in_order(ids)


@pytest.mark.slow  # tests/unit/test_chain.py has the same without processes
def test_a_failed_step_stops_its_branch_and_the_worker_does_not_wait_for_it(made, start):
    ids = submit(submitted := made("a", "b:a", "c:b", "d:a"))
    assert start("drain", at=3, does="fail", seed=1, attempts=9).wait(timeout=60) == 0
    assert states(ids) == {"a": "succeeded", "b": "failed", "c": "cancelled", "d": "succeeded"}
    assert queue.job(ids["c"]).error["needed"] == ids["b"] and attempts(runs_dir(), ids["c"]) == []
    queue.retry(ids["b"])
    assert start("drain").wait(timeout=60) == 0
    assert states(ids)["c"] == "succeeded"
    assert submit(submitted) == ids and queue.waiting(open_store()) == (0, 0)
    assert [queue.job(ids[name]).attempts for name in "abcd"] == [1, 2, 1, 1], "no finished step is repeated"


@pytest.mark.slow
def test_a_step_that_kills_its_workers_stops_what_depends_on_it(made, start):
    ids = submit(made("a", "b:a"))
    for _ in range(2):
        script = {"at": 1, "does": "kill_parent", "attempts": 9, "ignore_term": True, "checkpoint_every": 9999}
        start(steps=9999, **script).wait(timeout=60)
    assert start("drain").wait(timeout=60) == 0
    assert queue.job(ids["a"]).error["type"] == "LostWorker"
    assert queue.job(ids["b"]).error["needed"] == ids["a"]


@pytest.mark.slow
def test_a_cancelled_step_stops_what_depends_on_it_when_its_worker_has_seen_it(made, start):
    ids = submit(made("a", "b:a"))
    first = start("drain", step_s=0.2)
    until(lambda: queue.job(ids["a"]).step >= 1)
    queue.cancel(ids["a"])
    until(lambda: states(ids) == {"a": "cancelled", "b": "cancelled"})
    assert first.wait(timeout=60) == 0, "or it would take a step from the one that is waited for below"
    queue.retry(ids["a"])
    assert start("drain").wait(timeout=60) == 0
    assert_each_was_made_once_and_in_order(ids)


def test_a_chain_goes_on_after_a_run_folder_has_vanished(made, start):
    submitted = made("a", "b:a", "c:b")
    ids = submit(submitted)
    start("drain", at=1, does="kill", seed=1).wait(timeout=60)
    shutil.rmtree(runs_dir() / ids["a"])
    queue.retry(ids["b"])
    assert start("drain").wait(timeout=60) == 0
    assert queue.job(ids["b"]).error["type"] == "Unavailable", "with a sentence, and nothing waits for it"
    assert states(ids) == {"a": "succeeded", "b": "failed", "c": "cancelled"}
    again = submit(submitted)
    assert not set(again.values()) & set(ids.values())
    assert start("drain").wait(timeout=60) == 0
    assert_each_was_made_once_and_in_order(again)
