"""One worker, in this process, with children that keep the run-folder contract or break it."""

import json
import os
import threading
import time
from pathlib import Path

import pytest
import scripted_run
from sqlalchemy import text, update

from trainer import queue
from trainer.home import runs_dir
from trainer.queue import engines, metrics, worker
from trainer.queue.store import job as jobs_table
from trainer.queue.store import open_store, write
from trainer.run import Result, Run, attempts
from trainer.spec import parse

FAST = worker.Timing(look_s=0.02, beat_s=0.05, idle_s=0.02, cancel_grace_s=0.5, stall_s=20)


@pytest.fixture
def spec(home, tmp_path, monkeypatch):
    with scripted_run.database_in_memory(home) as url:
        monkeypatch.setenv("STILLROOM_DB", f"{url}?timeout=0.05")
        yield _spec(tmp_path)


def _spec(tmp_path):
    model, data = scripted_run.inputs(tmp_path)
    return parse({"kind": "finetune", "model": model, "dataset": data})


@pytest.fixture
def run_job(spec, monkeypatch):
    """Submit the spec, work until the queue is empty, answer the job."""
    monkeypatch.setitem(engines.ENGINES, "local", scripted_run.engine())

    def run(spec=spec, timing=FAST, **script):
        monkeypatch.setenv("SCRIPT", json.dumps(script))
        job = queue.submit(spec)
        worker.work(drain=True, threads=1, timing=timing)
        return queue.job(job.id)

    return run


def end_of_wait(job_id):
    """Let a postponed job start now."""
    ready = update(jobs_table).where(jobs_table.c.id == job_id).values(not_before=0.0)
    write(open_store(), lambda connection: connection.execute(ready))


@pytest.fixture
def run_until_postponed(run_job, spec, monkeypatch):
    """Submit the spec and work until the job waits for another try, answer the job."""

    def run(timing=FAST, **script):
        monkeypatch.setenv("SCRIPT", json.dumps(script))
        job, store = queue.submit(spec), open_store()
        me = queue.enlist(store, device="cpu", process=engines.Process.of(os.getpid()))
        shift = worker.Shift(store, me, threads=1, timing=timing)
        thread = in_thread(lambda: shift.serve(drain=False))
        until(lambda: queue.job(job.id).attempts and queue.waiting(store) == (0, 1))
        shift.request_exit()
        thread.join()
        return queue.job(job.id)

    return run


def in_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def until(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_run_from_claim_to_artifact(run_job):
    job = run_job(steps=6)
    assert (job.state, job.progress, job.attempts, job.error) == ("succeeded", 1.0, 1, None)
    assert job.metrics == {"test_f1": 0.5}
    assert (Path(job.artifact) / "weights.txt").read_text() == scripted_run.weights_after(6)
    assert metrics.history(job.id) == [{"step": n, "name": "loss", "value": 1 / n} for n in range(1, 7)]
    assert job.to_json().keys() == set(
        "id kind state progress eta_seconds attempts spec metrics artifact error".split()  # noqa: SIM905
    )
    assert queue.workers() == []


def test_the_child_gets_its_threads_and_no_network(run_job, monkeypatch):
    spec = attempts(runs_dir(), run_job().id)[0].spec
    assert (spec.threads, spec.device, spec.attempt) == (1, "cpu", 1)
    seen = engines.environment(threads=3)
    assert seen["OMP_NUM_THREADS"] == seen["MKL_NUM_THREADS"] == "3"
    assert seen["HF_HUB_OFFLINE"] == seen["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_a_resumed_run_keeps_the_threads_of_its_first_attempt(run_job, monkeypatch):
    job = run_job(at=3, does="crash")
    queue.retry(job.id)
    worker.work(drain=True, threads=2, timing=FAST)
    again, first = attempts(runs_dir(), job.id)
    assert (first.spec.threads, again.spec.threads) == (1, 1)


@pytest.mark.parametrize(
    ("does", "error", "says"),
    [
        ("kill", "Killed", "SIGKILL"),
        ("crash", "Crashed", "a shape that does not fit"),
        ("segfault", "Crashed", "SIGSEGV"),
        ("fail", "BadData", "three columns"),
    ],
)
def test_a_child_that_dies_fails_the_job_once_and_says_why(run_job, does, error, says):
    job = run_job(at=3, does=does)
    assert (job.state, job.attempts, job.error["type"]) == ("failed", 1, error)
    assert says in job.error["message"] and job.error["next_step"]
    if error != "BadData":
        assert "attempt 1 starts at step 0" in job.error["message"], "the last lines of the log are missing"


def test_retry_goes_on_from_the_last_checkpoint_and_fresh_from_step_0(run_job):
    job = run_job(steps=6, at=5, does="kill")
    assert queue.retry(job.id).state == "queued"
    worker.work(drain=True, threads=1, timing=FAST)
    again = queue.job(job.id)
    assert (again.state, again.attempts, again.error) == ("succeeded", 2, None)
    assert attempts(runs_dir(), job.id)[0].events()[0][0] == {"event": "plan", "steps": 6, "start": 4}
    assert (Path(again.artifact) / "weights.txt").read_text() == scripted_run.weights_after(6)
    assert len(metrics.history(job.id)) == 6
    fresh = queue.retry(job.id, fresh=True)
    assert fresh.id != job.id and fresh.id.endswith("-2")
    worker.work(drain=True, threads=1, timing=FAST)
    assert attempts(runs_dir(), fresh.id)[0].events()[0][0]["start"] == 0


def test_a_full_disk_is_a_pause(run_until_postponed):
    job = run_until_postponed(at=3, does="disk_full")
    assert (job.state, job.error) == ("queued", None)
    assert "disk is full" in job.message and "continues from its last checkpoint" in job.message
    end_of_wait(job.id)
    worker.work(drain=True, threads=1, timing=FAST)
    assert queue.job(job.id).state == "succeeded"


def test_a_disk_that_stays_full_ends_the_job(run_until_postponed):
    job = run_until_postponed(at=1, does="disk_full", attempts=9)
    strikes = update(jobs_table).where(jobs_table.c.id == job.id).values(strikes=3, not_before=0.0)
    write(open_store(), lambda connection: connection.execute(strikes))
    worker.work(drain=True, threads=1, timing=FAST)
    assert queue.job(job.id).error["type"] == "DiskFull"


def test_a_child_that_hangs_is_stopped_and_tried_once_more(run_until_postponed):
    timing = worker.Timing(look_s=0.02, beat_s=0.05, idle_s=0.02, cancel_grace_s=0.3, stall_s=0.5)
    job = run_until_postponed(timing=timing, at=3, does="hang")
    assert "no progress" in job.message
    end_of_wait(job.id)
    worker.work(drain=True, threads=1, timing=FAST)
    assert queue.job(job.id).state == "succeeded"


@pytest.mark.parametrize("ignore_term", [False, True])
def test_cancel_stops_a_running_child(run_job, ignore_term):
    store = open_store()
    done = []
    thread = in_thread(lambda: done.append(run_job(steps=1000, step_s=0.05, ignore_term=ignore_term)))
    until(lambda: any(job.step > 1 for job in queue.jobs()))
    job_id = queue.jobs()[0].id
    asked = time.monotonic()
    assert queue.cancel(job_id).cancel_requested
    thread.join()
    assert time.monotonic() - asked < 10
    assert done[0].state == "cancelled" and queue.waiting(store) == (0, 0)
    assert scripted_run.processes_of(job_id) == []


def test_a_model_that_is_not_here_fails_the_job_with_its_own_error(run_job, spec):
    job = run_job(spec.model_copy(update={"model": "no-such-model"}))
    assert (job.state, job.error["type"]) == ("failed", "UnknownName")
    assert "no-such-model" in job.error["message"] and not attempts(runs_dir(), job.id)


def test_a_result_that_was_written_but_not_recorded_is_taken_over(run_job, spec):
    """The worker died between result.json and the row: nothing is trained again."""
    job = queue.submit(spec)
    run = Run(runs_dir() / job.id / "attempt-0")
    run.folder.mkdir(parents=True)
    run.emit("step", step=9, metrics={"loss": 0.25})
    run.finish(Result(state="succeeded", metrics={"test_f1": 0.75}, artifact="artifacts/model"))
    job = run_job()
    assert (job.state, job.metrics) == ("succeeded", {"test_f1": 0.75})
    assert job.artifact == str(run.folder / "artifacts/model")
    assert metrics.history(job.id) == [{"step": 9, "name": "loss", "value": 0.25}]
    assert len(attempts(runs_dir(), job.id)) == 1


def test_a_worker_that_cannot_renew_stops_its_child_and_the_job_goes_on_later(run_job):
    timing = worker.Timing(look_s=0.02, beat_s=0.05, idle_s=0.02, lease_s=1.5)
    done = []
    thread = in_thread(lambda: done.append(run_job(timing=timing, steps=100, step_s=0.05)))
    until(lambda: any(job.step > 1 for job in queue.jobs()))
    job_id = queue.jobs()[0].id
    with open_store().connect() as connection:
        connection.execute(text("SELECT 1"))  # takes the write lock, as every transaction that may write does
        until(lambda: not scripted_run.processes_of(job_id))
    thread.join()
    assert done[0].state == "succeeded"
    starts = [run.events()[0][0]["start"] for run in reversed(attempts(runs_dir(), job_id))]
    assert len(starts) > 1 and starts[-1] > 0
    assert (Path(done[0].artifact) / "weights.txt").read_text() == scripted_run.weights_after(100)


def test_an_old_spec_that_no_longer_validates_is_a_failed_job(run_job, spec):
    job = queue.submit(spec)
    broken = update(jobs_table).where(jobs_table.c.id == job.id).values(spec=job.spec | {"kind": "alchemy"})
    write(open_store(), lambda connection: connection.execute(broken))
    worker.work(drain=True, threads=1, timing=FAST)
    assert queue.job(job.id).error["type"] == "BadSpec"
