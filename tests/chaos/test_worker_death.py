"""Workers and children that are killed, stopped and told to leave: no job is lost, nothing runs twice, nobody stays."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import scripted_run

from trainer import queue
from trainer.home import runs_dir
from trainer.queue import metrics
from trainer.run import attempts
from trainer.spec import parse

TIMING = {"look_s": 0.05, "beat_s": 0.1, "idle_s": 0.1}
STEPS = 40


@pytest.fixture
def job(home, tmp_path, monkeypatch):
    model, data = scripted_run.inputs(tmp_path)
    with scripted_run.database_in_memory(home) as url:
        monkeypatch.setenv("STILLROOM_DB", url)
        yield queue.submit(parse({"kind": "finetune", "model": model, "dataset": data}))


@pytest.fixture
def start(job):
    """Start a real worker process with children that follow the script."""
    started = []

    def begin(mode="worker", timing=TIMING, **script):
        command = [sys.executable, scripted_run.__file__, mode, json.dumps(timing)]
        script = {"steps": STEPS, "step_s": 0.05, "checkpoint_every": 5} | script
        started.append(subprocess.Popen(command, env=os.environ | {"SCRIPT": json.dumps(script)}))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()


def until(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def state_of(job):
    return queue.job(job.id).state


def started(job, step=7):
    return lambda: queue.job(job.id).step >= step


def starts(job):
    """The step each attempt began at, first attempt first."""
    return [run.events()[0][0]["start"] for run in reversed(attempts(runs_dir(), job.id))]


def assert_as_never_interrupted(job, steps=STEPS):
    job = queue.job(job.id)
    assert (job.state, job.error) == ("succeeded", None)
    assert (Path(job.artifact) / "weights.txt").read_text() == scripted_run.weights_after(steps)
    assert metrics.history(job.id) == [{"step": n, "name": "loss", "value": 1 / n} for n in range(1, steps + 1)]
    assert scripted_run.processes_of(job.id) == []


def test_a_killed_worker_is_replaced_within_seconds(job, start):
    first, spare = start(), start()
    until(started(job))
    (held,) = [info for info in queue.workers() if info.job_id == job.id]
    holder = first if held.name.endswith(f"-{first.pid}") else spare
    holder.kill()
    killed = time.monotonic()
    until(lambda: queue.job(job.id).attempts == 2)
    assert time.monotonic() - killed < 15, "noticed by the dead process, not by 30 s of silence"
    until(lambda: state_of(job) == "succeeded")
    assert starts(job)[0] == 0 and starts(job)[1] >= 5
    assert_as_never_interrupted(job)


@pytest.mark.slow
def test_a_hung_child_of_a_killed_worker_is_ended_before_the_job_goes_on(job, start):
    first = start(at=8, does="hang", ignore_term=True)
    until(started(job, step=8))
    first.kill()
    first.wait()
    assert scripted_run.processes_of(job.id), "a child that ignores SIGTERM survives its worker"
    start("drain").wait(timeout=60)
    assert_as_never_interrupted(job)


def test_a_worker_told_to_leave_hands_its_job_back(job, start):
    first = start()
    until(started(job))
    first.terminate()
    assert first.wait(timeout=60) == 0
    handed_back = queue.job(job.id)
    assert (handed_back.state, handed_back.attempts, handed_back.place) == ("queued", 0, 1)
    assert scripted_run.processes_of(job.id) == [] and queue.workers() == []
    start("drain").wait(timeout=60)
    assert starts(job)[1] == handed_back.step, "the step that was under way is finished and kept"
    assert_as_never_interrupted(job)


@pytest.mark.slow
def test_told_twice_it_does_not_wait(job, start):
    first = start(at=8, does="hang", ignore_term=True)
    until(started(job, step=8))
    first.terminate()
    time.sleep(0.5)
    assert first.poll() is None, "the child is given time to commit"
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=60) == 0
    assert state_of(job) == "queued" and scripted_run.processes_of(job.id) == []


@pytest.mark.slow
def test_worker_and_child_told_together_is_not_a_failure(job, start):
    """What a service manager does: SIGTERM to every process of the unit."""
    first = start()
    until(started(job))
    for pid in scripted_run.processes_of(job.id):
        os.kill(pid, signal.SIGTERM)
    first.terminate()
    assert first.wait(timeout=60) == 0
    assert (state_of(job), queue.job(job.id).attempts) == ("queued", 0)


@pytest.mark.slow
def test_worker_and_child_killed_together_lose_only_what_was_not_committed(job, start):
    first = start()
    until(started(job))
    first.kill()
    for pid in scripted_run.processes_of(job.id):
        os.kill(pid, signal.SIGKILL)
    first.wait()
    start("drain").wait(timeout=60)
    assert starts(job)[1] >= 5
    assert_as_never_interrupted(job)


def test_a_child_killed_from_outside_fails_its_job_and_retry_goes_on(job, start):
    start()
    until(started(job))
    (child,) = scripted_run.processes_of(job.id)
    os.kill(child, signal.SIGKILL)
    until(lambda: state_of(job) == "failed")
    error = queue.job(job.id).error
    assert error["type"] == "Killed" and "attempt 1 starts at step 0" in error["message"]
    queue.retry(job.id)
    until(lambda: state_of(job) == "succeeded")
    assert starts(job)[1] >= 5
    assert_as_never_interrupted(job)


@pytest.mark.slow
def test_a_stopped_worker_that_wakes_up_late_changes_nothing(job, start):
    """SIGSTOP for longer than the lease: the other takes over, the first finds its lease lost and goes on living."""
    timing = TIMING | {"lease_s": 3.0}
    first, spare = start(timing=timing, steps=150), start(timing=timing, steps=150)
    until(started(job))
    (held,) = [info for info in queue.workers() if info.job_id == job.id]
    late = first if held.name.endswith(f"-{first.pid}") else spare
    late.send_signal(signal.SIGSTOP)
    until(lambda: len(attempts(runs_dir(), job.id)) == 2)
    new, old = attempts(runs_dir(), job.id)
    until(lambda: new.events()[0])
    late.send_signal(signal.SIGCONT)
    until(lambda: state_of(job) == "succeeded")
    assert queue.job(job.id).artifact.startswith(str(new.folder)) and old.result is None
    assert_as_never_interrupted(job, steps=150)
    assert late.poll() is None
    until(lambda: len(queue.workers()) == 2)


@pytest.mark.slow
def test_a_job_that_kills_its_workers_is_quarantined_and_the_next_one_runs(job, start, tmp_path):
    for _ in range(2):
        script = {"at": 3, "does": "kill_parent", "attempts": 9, "ignore_term": True, "checkpoint_every": 9999}
        start(steps=9999, **script).wait(timeout=60)
    other = queue.submit(parse(job.spec | {"seed": 1}))
    start("drain", step_s=0).wait(timeout=60)
    assert queue.job(job.id).error["type"] == "LostWorker" and state_of(other) == "succeeded"
    assert scripted_run.processes_of(job.id) == [], "its last child ignores SIGTERM, and nobody will take the job up"


@pytest.mark.slow
def test_each_signal_at_a_random_moment_ends_in_the_same_weights(job, start):
    """Workers die one after the other, gently and not, until one comes through."""
    for number, wait_s in ((signal.SIGKILL, 0.5), (signal.SIGTERM, 0.3), (signal.SIGKILL, 0.7), (signal.SIGINT, 0.4)):
        process = start(steps=200, step_s=0.03)
        before = queue.job(job.id).step
        until(lambda before=before: queue.job(job.id).step > before)
        time.sleep(wait_s)
        process.send_signal(number)
        process.wait(timeout=60)
    start("drain", steps=200, step_s=0.0).wait(timeout=60)
    assert_as_never_interrupted(job, steps=200)


def test_the_worker_never_imports_torch(job, start):
    assert start("drain", step_s=0).wait(timeout=60) == 0
    assert state_of(job) == "succeeded"
